//! `ringpost-bench clients`: many clients at once, calling and idle.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use ringpost::WaitStrategy;
use serde::Serialize;

use crate::crowd::{self, Idle};
use crate::ends::{About, Common, Waiting, apart, warn_too_few};
use crate::rig::{Plan, Rig};
use crate::team::{Over, Team, Turn};
use ringpost::cli::args::{bytes, readable_bytes, seconds};
use ringpost::cli::child::Helper;
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::out::{self, Progress};
use ringpost::cli::place::{TempDir, this_program};
use ringpost::cli::signals::Interrupt;
use ringpost::cli::stats::{Spread, nanoseconds, ratios};
use ringpost::cli::table::Table;

const BLOCKS: u32 = 6;

#[derive(Debug, Args)]
pub struct ClientsOptions {
    /// How many clients call at once, each a process of its own
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=4096),
        default_value = "1,2,4,8,16,32,64"
    )]
    pub clients: Vec<u32>,

    /// How long they call in each block
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "0.3")]
    pub seconds: Duration,

    /// How many idle clients beside an active one; 0 for none
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=60_000), default_value = "1000")]
    pub idle: u32,

    /// How long the idle ones are watched
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "10")]
    pub idle_seconds: Duration,

    /// The size of request and response
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "48")]
    pub size: usize,

    #[command(flatten)]
    pub waiting: Waiting,

    #[command(flatten)]
    pub common: Common,
}

#[derive(Serialize)]
struct Object {
    #[serde(flatten)]
    about: About,
    size: usize,
    block_seconds: f64,
    clients: Vec<Loop>,
    idle: Option<Idle>,
}

/// So many clients in closed loops.
#[derive(Serialize)]
struct Loop {
    clients: u32,
    /// Calls of all of them in a second, over the bus and over sockets.
    per_second: Spread,
    socket_per_second: Spread,
    /// The bus to the sockets.
    ratio: Spread,
    /// To the total of two clients; null where two were not measured.
    to_two_clients: Option<Spread>,
    /// The calls of the slowest to the mean.
    slowest_to_mean: Spread,
    socket_slowest_to_mean: Spread,
}

pub fn run(socket: Option<PathBuf>, options: &ClientsOptions) -> Outcome {
    let floor_pins = options.common.pins()?;
    // The many run where the system puts them, unless a pin is asked for: that keeps all workers on one CPU.
    let pins = options.common.pin.and(floor_pins);
    let wait = options.waiting.or(WaitStrategy::Adaptive, floor_pins)?;
    let mut counts = options.clients.clone();
    counts.sort_unstable();
    counts.dedup();
    let most = counts.last().copied().unwrap_or(1);
    let mut about = About::new("clients", wait, pins, options.common.blocks_or(BLOCKS));
    let what = format!("{most} clients and their workers");
    about.too_few_cpus =
        warn_too_few(&what, 2 * most as usize, "they take turns, which is part of the question");
    if wait == WaitStrategy::Spin && about.too_few_cpus && !apart(pins) {
        return Err(Failure::usage(format!(
            "--wait spin: {what} need {} CPUs, and {} may be used: use --wait adaptive or park",
            2 * most,
            about.cpus
        )));
    }
    let interrupt = Interrupt::install()?;
    let plan = Plan { floor_pins, others: most, ..Plan::new(socket.clone(), options.size, wait, pins) };
    let clients = Rig::new(&interrupt, plan)?.run(|rig| loops(rig, options, &counts, &about, wait))?;
    let idle = if options.idle == 0 {
        None
    } else {
        // A server that nobody has used yet, so that its memory is known. The active client has a place of its own, for it is
        // compared with itself.
        let plan = Plan { others: options.idle, ..Plan::new(socket, options.size, wait, floor_pins) };
        let mut progress = Progress::new();
        Some(Rig::new(&interrupt, plan)?.run(|rig| {
            crowd::measure(rig, options.idle, options.idle_seconds, about.blocks, wait, &mut progress)
        })?)
    };
    let object =
        Object { about, size: options.size, block_seconds: options.seconds.as_secs_f64(), clients, idle };
    if options.common.json { out::json(&object) } else { out::put(object.text().as_bytes()) }
}

fn loops(
    rig: &mut Rig,
    options: &ClientsOptions,
    counts: &[u32],
    about: &About,
    wait: WaitStrategy,
) -> Result<Vec<Loop>, Failure> {
    let most = counts.last().copied().unwrap_or(1) as usize;
    let directory = TempDir::new("echo")?;
    let echo = directory.path().join("socket");
    let arguments = [
        "socket-partner".into(),
        "echo".into(),
        echo.clone().into_os_string(),
        options.size.to_string().into(),
    ];
    let mut partner = Helper::start(&this_program()?, arguments, Stdio::null())?;
    partner.line(Duration::from_secs(10), &rig.interrupt)?;
    let mut progress = Progress::new();
    progress.show(format_args!("starting {most} clients"));
    let socket = rig.socket().to_owned();
    let mut team = Team::start(most, &socket, &echo, options.size, wait, &rig.interrupt)?;
    let mut turns: Vec<(Vec<Turn>, Vec<Turn>)> = vec![Default::default(); counts.len()];
    for block in 0..about.blocks {
        for (&count, (bus, sockets)) in counts.iter().zip(&mut turns) {
            progress.show(format_args!("{count} clients: block {block} of {}", about.blocks));
            partner.check()?;
            let mut turn = |over| team.turn(over, count as usize, options.seconds, &rig.interrupt);
            sockets.push(turn(Over::Socket)?);
            bus.push(turn(Over::Bus)?);
        }
    }
    let rates = |turns: &[Turn]| turns.iter().map(|turn| turn.per_second).collect::<Vec<_>>();
    let slowest =
        |turns: &[Turn]| Spread::of_ratios(&turns.iter().map(|turn| turn.slowest).collect::<Vec<_>>());
    let two = counts.iter().position(|&count| count == 2).map(|index| rates(&turns[index].0));
    let of = |(&clients, (bus, sockets)): (&u32, &(Vec<Turn>, Vec<Turn>))| Loop {
        clients,
        per_second: Spread::of(&rates(bus)),
        socket_per_second: Spread::of(&rates(sockets)),
        ratio: Spread::of_ratios(&ratios(&rates(bus), &rates(sockets))),
        to_two_clients: two.as_ref().map(|two| Spread::of_ratios(&ratios(&rates(bus), two))),
        slowest_to_mean: slowest(bus),
        socket_slowest_to_mean: slowest(sockets),
    };
    Ok(counts.iter().zip(&turns).map(of).collect())
}

impl Object {
    fn text(&self) -> String {
        let mut table = Table::new(&[
            "clients",
            "calls a second",
            "to 2 clients",
            "slowest to mean",
            "floor: sockets",
            "ratio",
            "slowest to mean",
        ]);
        for row in &self.clients {
            table.row([
                row.clients.to_string(),
                format!("{:.0} k", row.per_second.p50 / 1e3),
                row.to_two_clients.map(|to| format!("{:.2}", to.p50)).unwrap_or_default(),
                format!("{:.2}", row.slowest_to_mean.p50),
                format!("{:.0} k", row.socket_per_second.p50 / 1e3),
                format!("{:.2}", row.ratio.p50),
                format!("{:.2}", row.socket_slowest_to_mean.p50),
            ]);
        }
        let size = readable_bytes(self.size);
        format!(
            "{}\n{} blocks of {} s; beside it the same clients over Unix stream sockets, a thread for each in the server\n{}{}",
            self.about.heading(&format!("Clients that all call at once, {size} there and back")),
            self.about.blocks,
            self.block_seconds,
            table.text(),
            self.idle.as_ref().map(idle_text).unwrap_or_default(),
        )
    }
}

fn idle_text(idle: &Idle) -> String {
    let mut table = Table::new(&["", "alone", "among them"]);
    let milliseconds = |time: f64| format!("{time:.2} ms");
    table.row([
        format!("server's CPU time in {} s, nothing to do", idle.seconds),
        milliseconds(idle.server_cpu_alone_ms),
        milliseconds(idle.server_cpu_ms),
    ]);
    let rss = |memory: &Option<ringpost::cli::usage::Memory>| {
        memory.map(|memory| format!("{} KiB", memory.rss_kib)).unwrap_or_else(|| "not known".into())
    };
    table.row(["server's resident memory".into(), rss(&idle.server_alone), rss(&idle.server)]);
    let each = |kib: Option<f64>| kib.map(|kib| format!("{kib:.1} KiB")).unwrap_or_default();
    table.row(["for each idle client".into(), String::new(), each(idle.rss_kib_per_client)]);
    table.row([
        "without pages of shared memory".into(),
        String::new(),
        each(idle.beyond_rings_kib_per_client),
    ]);
    table.row([
        "an active client's call, p50".into(),
        nanoseconds(idle.active_p50_alone_ns.p50),
        nanoseconds(idle.active_p50_ns.p50),
    ]);
    table.row([
        "floor: two bare words".into(),
        nanoseconds(idle.floor_alone_ns.p50),
        nanoseconds(idle.floor_ns.p50),
    ]);
    table.row([
        "its calls to the floor, to those alone".into(),
        String::new(),
        format!("{:.2}", idle.effect),
    ]);
    format!("\n{} idle clients and one that is active\n{}", idle.clients, table.text())
}
