//! `ringpost-bench register`: how many times a second a name can be registered and given up.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use ringpost::{Client, WaitStrategy};
use serde::Serialize;

use crate::ends::{About, Common};
use crate::rig::{Plan, Rig, ring_size};
use ringpost::cli::child::Helper;
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::floor_socket::hand_over;
use ringpost::cli::out::{self, Progress};
use ringpost::cli::place::{TempDir, this_program};
use ringpost::cli::signals::Interrupt;
use ringpost::cli::stats::{Beside, nanoseconds, tenths};
use ringpost::cli::table::Table;

const BLOCKS: u32 = 40;
const WARM: u32 = 5;

#[derive(Debug, Args)]
pub struct RegisterOptions {
    /// Registrations in a block
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), default_value = "100")]
    pub count: u32,

    #[command(flatten)]
    pub common: Common,
}

#[derive(Serialize)]
struct Object {
    #[serde(flatten)]
    about: About,
    block_registrations: u32,
    #[serde(flatten)]
    blocks: Beside,
    per_second: f64,
    floor_per_second: f64,
}

pub fn run(socket: Option<PathBuf>, options: &RegisterOptions) -> Outcome {
    // Nothing is kept anywhere unless that is asked for: a registration goes through several threads.
    let pins = options.common.pin.and(options.common.pins()?);
    let wait = WaitStrategy::Adaptive;
    let blocks = options.common.blocks_or(BLOCKS);
    let about = About::new("register", wait, pins, blocks);
    let interrupt = Interrupt::install()?;
    let beside = Rig::new(&interrupt, Plan::new(socket, 0, wait, pins))?
        .run(|rig| measure(rig, options.count, blocks))?;
    let object = Object {
        about,
        block_registrations: options.count,
        blocks: beside,
        per_second: tenths(1e9 / beside.ns.p50),
        floor_per_second: tenths(1e9 / beside.floor_ns.p50),
    };
    if options.common.json { out::json(&object) } else { out::put(object.text().as_bytes()) }
}

fn measure(rig: &mut Rig, count: u32, blocks: u32) -> Result<Beside, Failure> {
    let directory = TempDir::new("hand-over")?;
    let path = directory.path().join("socket");
    // As large as a channel: three rings and a page.
    let bytes = (3 * ring_size(0)? + 4096).to_string();
    let arguments =
        ["socket-partner".into(), "hand-over".into(), path.clone().into_os_string(), bytes.into()];
    let mut partner = Helper::start(&this_program()?, arguments, std::process::Stdio::null())?;
    partner.line(Duration::from_secs(10), &rig.interrupt)?;

    let mut progress = Progress::new();
    let socket = rig.socket().to_owned();
    let mut register = || {
        let client = Client::register(&socket, "ringpost-bench-register").map_err(Failure::failed)?;
        client.unregister().map_err(Failure::failed)
    };
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for block in 0..blocks {
        progress.show(format_args!("block {block} of {blocks}"));
        floor.push(timed(count, &rig.interrupt, || hand_over(&path))?);
        ours.push(timed(count, &rig.interrupt, &mut register)?);
    }
    Ok(Beside::of(&ours, &floor))
}

/// Nanoseconds for each of `count`, after some that are not timed.
fn timed(count: u32, interrupt: &Interrupt, mut act: impl FnMut() -> Outcome) -> Result<f64, Failure> {
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

impl Object {
    fn text(&self) -> String {
        let mut table = Table::new(&["", "p10", "p50", "p90", "per second"]);
        let spread = |name: &str, spread: ringpost::cli::stats::Spread, rate: f64| {
            let times = [spread.p10, spread.p50, spread.p90].map(nanoseconds);
            std::iter::once(name.to_string()).chain(times).chain([format!("{rate:.0}")]).collect::<Vec<_>>()
        };
        table.row(spread("floor", self.blocks.floor_ns, self.floor_per_second));
        table.row(spread("register and unregister", self.blocks.ns, self.per_second));
        format!(
            "{}\n{} pairs of blocks of {}; the floor: connect, a packet each way, a sealed memory file received and mapped, \
             closed\n{}ratio: {:.2}\n",
            self.about.heading("Registering a name and unregistering it, one after another"),
            self.about.blocks,
            self.block_registrations,
            table.text(),
            self.blocks.ratio.p50,
        )
    }
}
