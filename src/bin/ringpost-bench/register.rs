//! `ringpost-bench register`: measures how often per second a client can register and unregister.

use std::time::{Duration, Instant};

use clap::Args;
use ringpost::cli::cpu::Pins;
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::floor_socket::hand_over;
use ringpost::cli::place::TempDir;
use ringpost::cli::signals::Interrupt;
use ringpost::cli::stats::{Beside, tenths};
use ringpost::cli::table::Table;
use ringpost::{Client, WaitStrategy};
use serde::Serialize;

use crate::measurement::{About, Figures, Measurement, NoWaiting, Session};
use crate::rows::{ratio, spread};
use crate::setup::{Plan, Setup, ring_size};

const WARM: u32 = 5;

#[derive(Debug, Args)]
pub struct Register {
    /// Registrations in a block
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), default_value = "100")]
    count: u32,
}

#[derive(Serialize)]
pub struct Registrations {
    block_registrations: u32,
    #[serde(flatten)]
    blocks: Beside,
    per_second: f64,
    floor_per_second: f64,
}

impl Measurement for Register {
    const NAME: &'static str = "register";
    const BLOCKS: u32 = 40;
    const WAIT: WaitStrategy = WaitStrategy::Adaptive;
    type Waiting = NoWaiting;
    type Figures = Registrations;

    /// Not pinned by default, because a registration involves several threads.
    fn place(&self, _pins: Option<Pins>, pin: Option<Pins>) -> Option<Pins> {
        pin
    }

    fn measure(&self, session: &mut Session) -> Result<Registrations, Failure> {
        let plan = Plan { floor_pins: session.pin, ..session.plan(0) };
        let blocks = session.with(plan, |setup| measure(setup, self.count))?;
        Ok(Registrations {
            block_registrations: self.count,
            blocks,
            per_second: tenths(1e9 / blocks.ns.p50),
            floor_per_second: tenths(1e9 / blocks.floor_ns.p50),
        })
    }
}

fn measure(setup: &mut Setup, count: u32) -> Result<Beside, Failure> {
    let directory = TempDir::new("hand-over")?;
    let path = directory.path().join("socket");
    // The size of a channel: three rings and two pages.
    let bytes = (3 * ring_size(0)? + 8192).to_string();
    let arguments = ["socket-partner".as_ref(), "hand-over".as_ref(), path.as_os_str(), bytes.as_ref()];
    let _partner = setup.helper(&arguments, Duration::from_secs(10))?;

    let socket = setup.socket().to_owned();
    let mut register = || {
        let client = Client::register(&socket, "ringpost-bench-register").map_err(Failure::failed)?;
        client.unregister().map_err(Failure::failed)
    };
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for block in setup.blocks() {
        setup.begin(block, "registrations")?;
        floor.push(timed(count, &setup.interrupt, || hand_over(&path))?);
        ours.push(timed(count, &setup.interrupt, &mut register)?);
    }
    Ok(Beside::of(&ours, &floor))
}

/// Times `count` operations after some untimed ones, and returns the nanoseconds of one.
pub fn timed(count: u32, interrupt: &Interrupt, mut act: impl FnMut() -> Outcome) -> Result<f64, Failure> {
    for _ in 0..WARM.min(count) {
        act()?;
    }
    let start = Instant::now();
    for _ in 0..count {
        interrupt.check()?;
        act()?;
    }
    Ok(start.elapsed().as_nanos() as f64 / f64::from(count))
}

impl Figures for Registrations {
    fn text(&self, about: &About) -> String {
        let mut table = Table::new("| p10 | p50 | p90 | per second");
        for (name, times, rate) in [
            ("floor", self.blocks.floor_ns, self.floor_per_second),
            ("register and unregister", self.blocks.ns, self.per_second),
        ] {
            table.row(spread(name, times).into_iter().chain([format!("{rate:.0}")]));
        }
        format!(
            "{}\n{} pairs of blocks of {}; floor: connect, a packet in each direction, receive and map a sealed memory file, \
             close\n{}ratio: {}\n",
            about.heading("Registering and unregistering, one client after the other"),
            about.blocks,
            self.block_registrations,
            table.text(),
            ratio(self.blocks.ratio.p50),
        )
    }
}
