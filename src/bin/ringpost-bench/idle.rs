//! Measures what many idle clients, all in one process, cost the server and one active client.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use ringpost::{Client, WaitStrategy};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

use crate::calls::{Requests, WARM, verified_call};
use crate::setup::{Setup, ways};
use ringpost::cli::child::{Helper, die_with_parent};
use ringpost::cli::cpu::SavedAffinity;
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::floor::{Blocks, Look};
use ringpost::cli::out;
use ringpost::cli::signals::Interrupt;
use ringpost::cli::stats::{Spread, quantile, ratios, thousandths};
use ringpost::cli::usage::{self, Memory};

/// The timed calls in a block, and the floor's round trips.
const CALLS: u32 = 1_000;

/// How often the active client is timed without and with the idle ones. Several rounds are needed because the
/// machine's speed changes from second to second.
const ROUNDS: u32 = 9;

/// The arguments of the idle clients' process.
#[derive(Debug, Args)]
pub struct IdleClientsOptions {
    socket: PathBuf,
    count: usize,
    wait: WaitStrategy,
}

/// What the idle clients cost.
#[derive(Debug, Serialize)]
pub struct Idle {
    pub clients: u32,
    pub seconds: f64,
    /// The server's CPU time in that time, without and with them.
    pub server_cpu_alone_ms: f64,
    pub server_cpu_ms: f64,
    pub server_alone: Option<Memory>,
    pub server: Option<Memory>,
    /// Resident memory of the server per client.
    pub rss_kib_per_client: Option<f64>,
    /// The same without the used pages of rings and registry.
    pub beyond_rings_kib_per_client: Option<f64>,
    /// The active client's median latency, and the floor's, without and with them.
    pub active_p50_alone_ns: Spread,
    pub active_p50_ns: Spread,
    pub floor_alone_ns: Spread,
    pub floor_ns: Spread,
    /// The ratio of call to floor with them, relative to that without them: the median of the rounds.
    pub effect: f64,
}

/// Runs the measurement. The active client is that of the setup.
pub fn measure(setup: &mut Setup, clients: u32, idle: Duration, wait: WaitStrategy) -> Result<Idle, Failure> {
    setup.progress.show(format_args!("one client alone"));
    let server_alone = usage::memory(setup.server());
    let cpu_alone = server_time(setup, idle)?;
    setup.progress.show(format_args!("registering {clients} idle clients"));
    let idle_clients = begin(setup, clients, wait)?;
    let server = usage::memory(setup.server());
    setup.progress.show(format_args!("{clients} idle clients"));
    let cpu = server_time(setup, idle)?;
    end(idle_clients, setup)?;
    let requests = Requests::new(48);
    let mut active =
        Active { alone: Medians::default(), among: Medians::default(), effects: Vec::new(), requests };
    for round in 1..=ROUNDS {
        setup
            .progress
            .show(format_args!("{clients} idle clients and an active one, round {round} of {ROUNDS}"));
        let alone = active.blocks(setup)?;
        let idle_clients = begin(setup, clients, wait)?;
        let among = active.blocks(setup)?;
        end(idle_clients, setup)?;
        active.end_round(alone, among);
    }

    let each = |of: fn(&Memory) -> u64| {
        let grown = of(server.as_ref()?).saturating_sub(of(server_alone.as_ref()?));
        Some(thousandths(grown as f64 / f64::from(clients)))
    };
    let milliseconds = |time: Duration| thousandths(time.as_secs_f64() * 1e3);
    Ok(Idle {
        clients,
        seconds: idle.as_secs_f64(),
        server_cpu_alone_ms: milliseconds(cpu_alone),
        server_cpu_ms: milliseconds(cpu),
        server_alone,
        server,
        rss_kib_per_client: each(|memory| memory.rss_kib),
        beyond_rings_kib_per_client: each(|memory| memory.rss_kib - memory.shared_kib.min(memory.rss_kib)),
        active_p50_alone_ns: Spread::of(&active.alone.calls),
        active_p50_ns: Spread::of(&active.among.calls),
        floor_alone_ns: Spread::of(&active.alone.floors),
        floor_ns: Spread::of(&active.among.floors),
        effect: thousandths(quantile(&active.effects, 0.5)),
    })
}

/// Starts the idle clients, and returns when all are registered.
fn begin(setup: &Setup, clients: u32, wait: WaitStrategy) -> Result<Helper, Failure> {
    let (clients, wait) = (clients.to_string(), wait.to_string());
    let arguments = ["idle-clients".as_ref(), setup.socket().as_os_str(), clients.as_ref(), wait.as_ref()];
    setup.helper(&arguments, Duration::from_secs(600))
}

/// Ends the idle clients, and returns when the server has noticed.
fn end(mut idle_clients: Helper, setup: &mut Setup) -> Outcome {
    idle_clients.check()?;
    drop(idle_clients);
    wait_until_alone(setup)
}

/// The medians of the active client's blocks, and of the floor's blocks.
#[derive(Default)]
struct Medians {
    calls: Vec<f64>,
    floors: Vec<f64>,
}

impl Medians {
    fn ratio(&self) -> f64 {
        quantile(&ratios(&self.calls, &self.floors), 0.5)
    }

    fn add(&mut self, more: Medians) {
        self.calls.extend(more.calls);
        self.floors.extend(more.floors);
    }
}

/// The active client's results of all rounds, without and with the idle clients.
struct Active {
    alone: Medians,
    among: Medians,
    effects: Vec<f64>,
    requests: Requests,
}

impl Active {
    fn blocks(&mut self, setup: &mut Setup) -> Result<Medians, Failure> {
        let pins = setup.floor_pins();
        let mut medians = Medians::default();
        for _ in setup.blocks() {
            setup.interrupt.check()?;
            let mut floor = Blocks::new(&ways(pins)[..1]);
            setup.floor(&mut floor, WARM, CALLS)?;
            for _ in 0..WARM {
                verified_call(&mut setup.client, &mut self.requests)?;
            }
            let mut times = Vec::with_capacity(CALLS as usize);
            for _ in 0..CALLS {
                times.push(verified_call(&mut setup.client, &mut self.requests)?.as_nanos() as f64);
            }
            medians.calls.push(quantile(&times, 0.5));
            medians.floors.push(floor.median(Look::usual(pins)).unwrap_or(0.0));
        }
        Ok(medians)
    }

    fn end_round(&mut self, alone: Medians, among: Medians) {
        self.effects.push(among.ratio() / alone.ratio());
        self.alone.add(alone);
        self.among.add(among);
    }
}

/// The server's CPU time in a period without requests.
fn server_time(setup: &mut Setup, idle: Duration) -> Result<Duration, Failure> {
    let unknown = || Failure::failed("the kernel does not report the server's CPU time");
    // Let it finish earlier work first.
    rest(Duration::from_millis(200).min(idle), &setup.interrupt)?;
    let before = usage::cpu_time(setup.server()).ok_or_else(unknown)?;
    rest(idle, &setup.interrupt)?;
    let after = usage::cpu_time(setup.server()).ok_or_else(unknown)?;
    Ok(after.saturating_sub(before))
}

pub fn rest(time: Duration, interrupt: &Interrupt) -> Outcome {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        interrupt.check()?;
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
    Ok(())
}

/// Waits until the server has noticed that the other clients are gone.
fn wait_until_alone(setup: &mut Setup) -> Outcome {
    let deadline = Instant::now() + Duration::from_secs(60);
    while setup.client.list().map_err(Failure::failed)?.len() > 1 {
        setup.interrupt.check()?;
        if Instant::now() > deadline {
            return Err(Failure::failed("the server still lists clients whose process ended a minute ago"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// The idle clients' process. Each client registers, makes one call so that its rings are used, and sleeps.
pub fn idle_clients(options: &IdleClientsOptions) -> Outcome {
    die_with_parent();
    let _freedom = SavedAffinity::save();
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let builder = Client::builder(&options.socket).wait(options.wait).timeout(Duration::from_secs(30));
    let mut clients = Vec::with_capacity(options.count);
    for index in 0..options.count {
        let mut client = builder.register(format!("ringpost-bench-idle-{index}")).map_err(|error| {
            Failure::failed(format!("idle client {} of {}: {error}", index + 1, options.count))
        })?;
        client.call(b"once").map_err(Failure::failed)?;
        clients.push(client);
    }
    out::line("ready")?;
    loop {
        std::thread::park();
    }
}
