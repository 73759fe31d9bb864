//! `ringpost-bench observe`: measures what it costs a call that somebody looks at the server's figures, or
//! taps it, and what a look costs the server.

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use clap::Args;
use ringpost::cli::args::{bytes, readable_bytes};
use ringpost::cli::cpu::Pins;
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::stats::{Beside, Spread, nanoseconds, thousandths};
use ringpost::cli::table::Table;
use ringpost::cli::usage;
use ringpost::{Client, Observer, Subscriber, WaitStrategy};
use serde::Serialize;

use crate::calls::{IN_BLOCK, Requests, WARM, call_block};
use crate::link::serving::Another;
use crate::measurement::{About, Figures, Measurement, NoWaiting, Session};
use crate::rows::{ratio, ratios};
use crate::setup::{Plan, Setup};
use crate::wakeup::places_of;

/// The calls in a block where both ends sleep, and the untimed ones before it.
const SLEEPING: (u32, u32) = (200, 20);
/// The bytes of each payload that the tap wants.
const SNAP: usize = 512;

#[derive(Debug, Args)]
pub struct Observe {
    /// The size of request and response
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "48")]
    size: usize,

    /// Measure in so many rounds, each with servers and clients that are started anew
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000), default_value = "6")]
    rounds: u32,

    /// The number of clients whose figures a look shows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4_000), default_value = "100")]
    clients: u32,

    /// How many looks are timed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), default_value = "100")]
    looks: u32,
}

#[derive(Serialize)]
pub struct Observed {
    size: usize,
    calls: Vec<Calls>,
    look: Look,
}

/// Calls to servers that somebody observes, beside the same calls to one that nobody does, whose times are in
/// place of the floor's.
#[derive(Serialize)]
struct Calls {
    wait: String,
    /// `same` (one CPU) or `across` (two CPUs).
    place: &'static str,
    pin: Pins,
    block_calls: u32,
    /// While figures are looked at, once a second.
    looked_at: Beside,
    /// While a tap takes copies of all calls.
    tapped: Beside,
    /// The part of the copies that the tap got; it takes them between the blocks.
    received: f64,
}

/// One look at the figures.
#[derive(Serialize)]
struct Look {
    clients: u32,
    ns: Spread,
    /// The server's CPU time for it.
    server_cpu_ms: f64,
}

impl Measurement for Observe {
    const NAME: &'static str = "observe";
    const BLOCKS: u32 = 120;
    const WAIT: WaitStrategy = WaitStrategy::Adaptive;
    type Waiting = NoWaiting;
    type Figures = Observed;

    /// Measures both placements itself, so there is nothing to warn of.
    fn place(&self, pins: Option<Pins>, _pin: Option<Pins>) -> Option<Pins> {
        pins
    }

    fn measure(&self, session: &mut Session) -> Result<Observed, Failure> {
        let mut calls = Vec::new();
        for (place, pin) in places_of(session)? {
            // Where each end has a CPU of its own, neither sleeps; on one CPU both do.
            let wait = if place == "same" { WaitStrategy::Park } else { WaitStrategy::Adaptive };
            let mut measured = Measured::default();
            let rounds = self.rounds.min(session.about.blocks);
            for round in 0..rounds {
                let part =
                    session.about.blocks * (round + 1) / rounds - session.about.blocks * round / rounds;
                let plan = Plan { wait, pins: Some(pin), blocks: part, ..session.plan(self.size) };
                session.with(plan, |setup| measured.round(setup, wait, self.size))?;
            }
            calls.push(Calls {
                wait: wait.to_string(),
                place,
                pin,
                block_calls: in_block(wait).0,
                looked_at: Beside::of(&measured.looked_at, &measured.alone),
                tapped: Beside::of(&measured.tapped, &measured.alone),
                received: thousandths(
                    measured.copies as f64 / (measured.copies + measured.missed).max(1) as f64,
                ),
            });
        }
        let plan = Plan { others: self.clients, pins: None, ..session.plan(self.size) };
        let look = session.with(plan, |setup| self.look(setup))?;
        Ok(Observed { size: self.size, calls, look })
    }
}

fn in_block(wait: WaitStrategy) -> (u32, u32) {
    if wait == WaitStrategy::Park { SLEEPING } else { (IN_BLOCK, WARM) }
}

/// Nanoseconds per call, one value for each block.
#[derive(Default)]
struct Measured {
    alone: Vec<f64>,
    looked_at: Vec<f64>,
    tapped: Vec<f64>,
    copies: u64,
    missed: u64,
}

impl Measured {
    /// Three servers on one CPU, which sleep in each other's turns.
    fn round(&mut self, setup: &mut Setup, wait: WaitStrategy, size: usize) -> Outcome {
        let servers = [(); 3].map(|()| Another::start(setup, wait, size));
        let [alone, looked_at, tapped] = servers;
        let (alone, looked_at, tapped) = (alone?, looked_at?, tapped?);
        let client = |server: &Another| {
            Client::builder(&server.socket).wait(wait).register("ringpost-bench").map_err(Failure::failed)
        };
        let (mut first, mut second, mut third) = (client(&alone)?, client(&looked_at)?, client(&tapped)?);
        let closers = [&first, &second, &third].map(|client| client.closer());
        let mut watcher = Watcher::new(&looked_at)?;
        let mut tapper = Client::register(&tapped.socket, "ringpost-bench-tap").map_err(Failure::failed)?;
        let mut tap = tapper.tap(SNAP).map_err(Failure::failed)?;
        setup.end_waits_on_signals(move || closers.iter().for_each(ringpost::Closer::close));
        let mut requests = Requests::new(size);
        let (calls, warm) = in_block(wait);
        for block in setup.blocks() {
            setup.begin(block, "observed calls")?;
            self.alone.push(call_block(&mut first, &mut requests, warm, calls)?);
            watcher.look_if_due()?;
            self.looked_at.push(call_block(&mut second, &mut requests, warm, calls)?);
            self.tapped.push(call_block(&mut third, &mut requests, warm, calls)?);
            self.drain(&mut tap)?;
        }
        Ok(())
    }

    /// Takes all copies that are there.
    fn drain(&mut self, tap: &mut Subscriber) -> Outcome {
        while let Some(sample) = tap.try_recv().map_err(Failure::failed)? {
            self.copies += 1;
            self.missed += sample.missed();
        }
        Ok(())
    }
}

/// Somebody who looks at the figures once a second.
struct Watcher {
    observer: Observer,
    last: Option<Instant>,
}

impl Watcher {
    fn new(server: &Another) -> Result<Watcher, Failure> {
        Ok(Watcher { observer: Observer::connect(&server.socket).map_err(Failure::failed)?, last: None })
    }

    fn look_if_due(&mut self) -> Outcome {
        if self.last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1)) {
            let figures = self.observer.figures().map_err(Failure::failed)?;
            if !figures.stamped {
                return Err(Failure::failed(
                    "the server takes no times for this user, so the measurement is invalid: only its own user and root get them",
                ));
            }
            self.last = Some(Instant::now());
        }
        Ok(())
    }
}

impl Observe {
    fn look(&self, setup: &mut Setup) -> Result<Look, Failure> {
        setup.progress.show(format_args!("registering {} clients", self.clients));
        let clients = self.clients.to_string();
        let arguments: [&OsStr; 4] =
            ["idle-clients".as_ref(), setup.socket().as_os_str(), clients.as_ref(), "adaptive".as_ref()];
        let _clients = setup.helper(&arguments, Duration::from_secs(120))?;
        let observer = Observer::connect(setup.socket()).map_err(Failure::failed)?;
        let unknown = || Failure::failed("the kernel does not report the server's CPU time");
        let before = usage::cpu_time(setup.server()).ok_or_else(unknown)?;
        let mut times = Vec::new();
        for look in 0..self.looks {
            setup.progress.show(format_args!("look {look} of {}", self.looks));
            setup.interrupt.check()?;
            let start = Instant::now();
            let figures = observer.figures().map_err(Failure::failed)?;
            times.push(start.elapsed().as_nanos() as f64);
            if figures.clients.len() < self.clients as usize {
                return Err(Failure::failed(
                    "a look did not show all clients, so the measurement is invalid",
                ));
            }
        }
        let after = usage::cpu_time(setup.server()).ok_or_else(unknown)?;
        let cpu = after.saturating_sub(before).as_secs_f64() * 1e3 / f64::from(self.looks);
        Ok(Look { clients: self.clients, ns: Spread::of(&times), server_cpu_ms: thousandths(cpu) })
    }
}

impl Figures for Observed {
    fn text(&self, about: &About) -> String {
        let mut table = Table::new("| floor: unobserved p50 | p50 | ratio p10 | p50 | p90");
        for calls in &self.calls {
            let name = match calls.place {
                "same" => "both ends sleep, one CPU",
                _ => "adaptive, two CPUs",
            };
            for (what, blocks) in [("figures looked at", &calls.looked_at), ("tapped", &calls.tapped)] {
                let times = [blocks.floor_ns, blocks.ns].map(|times| nanoseconds(times.p50));
                table.row([format!("{what}; {name}")].into_iter().chain(times).chain(ratios(blocks.ratio)));
            }
        }
        let received: Vec<String> =
            self.calls.iter().map(|calls| format!("{:.1} %", calls.received * 100.0)).collect();
        format!(
            "{}\n{} blocks of each in turn\n{}The tap got {} of the copies\n\
             \nA look at the figures of {} clients: {}; the server's CPU time: {:.3} ms; of a CPU, with one look a second: {} %\n",
            about.heading(&format!("Calls of {} to a server that is observed", readable_bytes(self.size))),
            about.blocks,
            table.text(),
            received.join(" and "),
            self.look.clients,
            nanoseconds(self.look.ns.p50),
            self.look.server_cpu_ms,
            ratio(self.look.server_cpu_ms / 10.0),
        )
    }
}
