//! `ringpost-bench clients`: measures many clients at once, calling or idle.

use std::time::Duration;

use clap::Args;
use ringpost::WaitStrategy;
use ringpost::cli::args::{bytes, readable_bytes, seconds};
use ringpost::cli::cpu::Pins;
use ringpost::cli::exit::Failure;
use ringpost::cli::place::TempDir;
use ringpost::cli::stats::{Spread, nanoseconds, ratios};
use ringpost::cli::table::Table;
use ringpost::cli::usage::Memory;
use serde::Serialize;

use crate::callers::{Beside, Callers, Over, Turn};
use crate::idle::{self, Idle};
use crate::measurement::{About, Figures, Measurement, Session, Waiting, apart, warn_too_few};
use crate::rows::ratio;
use crate::setup::{Plan, Setup};

#[derive(Debug, Args)]
pub struct Clients {
    /// The numbers of clients that call at once, each in its own process
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=4096),
        default_value = "1,2,4,8,16,32,64"
    )]
    clients: Vec<u32>,

    /// The time of each block of calls
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "0.3")]
    seconds: Duration,

    /// The number of idle clients; 0 leaves this part out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=60_000), default_value = "1000")]
    idle: u32,

    /// The time over which the server's CPU time is measured with idle clients
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "10")]
    idle_seconds: Duration,

    /// The size of request and response
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "48")]
    size: usize,
}

#[derive(Serialize)]
pub struct Loads {
    size: usize,
    block_seconds: f64,
    clients: Vec<Loop>,
    idle: Option<Idle>,
}

/// The results for one number of calling clients.
#[derive(Serialize)]
pub struct Loop {
    clients: u32,
    /// Calls per second of all clients together, over the bus.
    per_second: Spread,
    /// The same over sockets.
    socket_per_second: Spread,
    /// The ratio of the two.
    ratio: Spread,
    /// The ratio to the total of two clients; null if two were not measured.
    to_two_clients: Option<Spread>,
    /// The rate of the slowest client as a fraction of the mean.
    slowest_to_mean: Spread,
    socket_slowest_to_mean: Spread,
}

impl Measurement for Clients {
    const NAME: &'static str = "clients";
    const BLOCKS: u32 = 6;
    const WAIT: WaitStrategy = WaitStrategy::Adaptive;
    type Waiting = Waiting;
    type Figures = Loads;

    /// Not pinned by default; --pin would put all workers on one CPU.
    fn place(&self, _pins: Option<Pins>, pin: Option<Pins>) -> Option<Pins> {
        pin
    }

    fn measure(&self, session: &mut Session) -> Result<Loads, Failure> {
        let mut counts = self.clients.clone();
        counts.sort_unstable();
        counts.dedup();
        let most = counts.last().copied().unwrap_or(1);
        let what = format!("{most} clients and their workers");
        let about = &mut session.about;
        about.too_few_cpus =
            warn_too_few(&what, 2 * most as usize, "they share CPUs, which is part of the measurement");
        if session.wait == WaitStrategy::Spin && about.too_few_cpus && !apart(about.pin) {
            return Err(Failure::usage(format!(
                "--wait spin: {what} need {} CPUs, but only {} may be used; use --wait adaptive or park",
                2 * most,
                about.cpus
            )));
        }
        let plan = Plan { others: most, ..session.plan(self.size) };
        let clients = session.with(plan, |setup| loops(setup, self, &counts, session.wait))?;
        let idle = if self.idle == 0 {
            None
        } else {
            // A new server, so that its memory can be compared before and after. The active client is pinned,
            // because it is compared with itself.
            let plan = Plan { others: self.idle, pins: session.floor_pins, ..session.plan(self.size) };
            Some(
                session
                    .with(plan, |setup| idle::measure(setup, self.idle, self.idle_seconds, session.wait))?,
            )
        };
        Ok(Loads { size: self.size, block_seconds: self.seconds.as_secs_f64(), clients, idle })
    }
}

fn loops(
    setup: &mut Setup,
    options: &Clients,
    counts: &[u32],
    wait: WaitStrategy,
) -> Result<Vec<Loop>, Failure> {
    let most = counts.last().copied().unwrap_or(1) as usize;
    let directory = TempDir::new("echo")?;
    let echo = directory.path().join("socket");
    let size = options.size.to_string();
    let arguments = ["socket-partner".as_ref(), "echo".as_ref(), echo.as_os_str(), size.as_ref()];
    let mut partner = setup.helper(&arguments, Duration::from_secs(10))?;
    setup.progress.show(format_args!("starting {most} clients"));
    let socket = setup.socket().to_owned();
    let mut callers =
        Callers::start(most, &socket, Beside::Echo(&echo), options.size, wait, &setup.interrupt)?;
    let mut turns: Vec<(Vec<Turn>, Vec<Turn>)> = vec![Default::default(); counts.len()];
    for block in setup.blocks() {
        for (&count, (bus, sockets)) in counts.iter().zip(&mut turns) {
            setup.begin(block, format_args!("{count} clients"))?;
            partner.check()?;
            let mut turn = |over| callers.turn(over, count as usize, options.seconds, &setup.interrupt);
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

impl Figures for Loads {
    fn text(&self, about: &About) -> String {
        let mut table = Table::new(
            "clients | calls/s | to 2 clients | slowest/mean | sockets: calls/s | ratio | slowest/mean",
        );
        for row in &self.clients {
            table.row([
                row.clients.to_string(),
                format!("{:.0} k", row.per_second.p50 / 1e3),
                row.to_two_clients.map(|to| ratio(to.p50)).unwrap_or_default(),
                ratio(row.slowest_to_mean.p50),
                format!("{:.0} k", row.socket_per_second.p50 / 1e3),
                ratio(row.ratio.p50),
                ratio(row.socket_slowest_to_mean.p50),
            ]);
        }
        let size = readable_bytes(self.size);
        format!(
            "{}\n{} blocks of {} s; for comparison the same clients over Unix stream sockets, with a server thread for each\n{}{}",
            about.heading(&format!("Clients that all call at once, {size} to the server and back")),
            about.blocks,
            self.block_seconds,
            table.text(),
            self.idle.as_ref().map(idle_text).unwrap_or_default(),
        )
    }
}

fn idle_text(idle: &Idle) -> String {
    let mut table = Table::new("| alone | with them");
    let milliseconds = |time: f64| format!("{time:.2} ms");
    table.row([
        format!("server's CPU time in {} s without requests", idle.seconds),
        milliseconds(idle.server_cpu_alone_ms),
        milliseconds(idle.server_cpu_ms),
    ]);
    let rss = |memory: &Option<Memory>| {
        memory.map(|memory| format!("{} KiB", memory.rss_kib)).unwrap_or_else(|| "unknown".into())
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
        "floor: bare round trip".into(),
        nanoseconds(idle.floor_alone_ns.p50),
        nanoseconds(idle.floor_ns.p50),
    ]);
    table.row(["call/floor with them, relative to alone".into(), String::new(), ratio(idle.effect)]);
    format!("\n{} idle clients and one active client\n{}", idle.clients, table.text())
}
