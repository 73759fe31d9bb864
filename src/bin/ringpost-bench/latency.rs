//! `ringpost-bench latency`: the round trip of one call at a time.

use std::path::PathBuf;

use clap::Args;
use ringpost::WaitStrategy;
use serde::Serialize;

use crate::calls::{IN_BLOCK, Requests, WARM, call_block, calls_in_block, verified_call};
use crate::ends::{About, Common, Waiting, warn};
use crate::rate;
use crate::rig::{Plan, Rig, ways};
use ringpost::cli::args::{bytes, readable_bytes};
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::floor::{Blocks, Look};
use ringpost::cli::out::{self, Progress};
use ringpost::cli::signals::Interrupt;
use ringpost::cli::stats::{
    Clock, Spread, Summary, Times, clock, nanoseconds, quantile, ratios, thousands, thousandths,
};
use ringpost::cli::table::Table;

const BLOCKS: u32 = 120;
const COUNT: u64 = 100_000;

#[derive(Debug, Args)]
pub struct LatencyOptions {
    /// The size of request and response (64K and 1M are understood)
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "48")]
    pub size: usize,

    /// How many calls are timed one by one [default: 100000; with --rate those of 10 seconds]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Calls per second: each is due at its own time, whether or not the one before is done, and is timed from then
    ///
    /// An open loop, so that a stall delays all calls that were due in it, and all of them count (no coordinated omission).
    #[arg(long, value_name = "R", value_parser = rate::per_second)]
    pub rate: Option<f64>,

    /// Keep the ends on no CPU, as a program that is just started; the floor is measured on two all the same
    #[arg(long)]
    pub free: bool,

    #[command(flatten)]
    pub waiting: Waiting,

    #[command(flatten)]
    pub common: Common,
}

pub fn run(socket: Option<PathBuf>, options: &LatencyOptions) -> Outcome {
    let floor_pins = options.common.pins()?;
    let wait = options.waiting.or(WaitStrategy::Spin, floor_pins)?;
    warn(floor_pins);
    let pins = floor_pins.filter(|_| !options.free);
    let plan = Plan { floor_pins, ..Plan::new(socket, options.size, wait, pins) };
    if let Some(rate) = options.rate {
        return rate::run(plan, options, rate);
    }
    let count = options.count.unwrap_or(COUNT);
    let about = About::new("latency", wait, pins, options.common.blocks_or(BLOCKS));
    let measured =
        Rig::new(&Interrupt::install()?, plan)?.run(|rig| measure(rig, options.size, &about, count))?;
    let object = measured.object(about, options.size, count);
    if options.common.json { out::json(&object) } else { out::put(object.text().as_bytes()) }
}

/// What programs read. All times are nanoseconds.
#[derive(Serialize)]
struct Object {
    #[serde(flatten)]
    about: About,
    size: usize,
    count: u64,
    block_round_trips: u32,
    /// Calls in a block: fewer than the floor's round trips where they are large.
    block_calls: u32,
    floor_ns: FloorObject,
    call_ns: Spread,
    ratio_p10: f64,
    ratio_p50: f64,
    ratio_p90: f64,
    rtt_ns: Summary,
    /// Pairs of a fraction and the time that it does not exceed.
    distribution: Vec<(f64, u64)>,
    /// The smallest step of the clock, and what a reading costs.
    clock_ns: u64,
    clock_read_ns: f64,
}

/// The faster way's blocks, and the medians of all that were measured.
#[derive(Serialize)]
struct FloorObject {
    #[serde(flatten)]
    spread: Spread,
    look: Look,
    #[serde(skip_serializing_if = "Option::is_none")]
    pause_p50: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plain_p50: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    yield_p50: Option<f64>,
}

struct Measured {
    floor: Blocks,
    /// Nanoseconds for a call, one value for each block.
    calls: Vec<f64>,
    times: Times,
    clock: Clock,
}

fn measure(rig: &mut Rig, size: usize, about: &About, count: u64) -> Result<Measured, Failure> {
    let mut progress = Progress::new();
    let mut floor = Blocks::new(ways(rig.floor_pins()));
    let mut calls = Vec::new();
    let mut requests = Requests::new(size);
    let in_block = calls_in_block(size);
    for block in 0..about.blocks {
        progress.show(format_args!("block {block} of {}", about.blocks));
        rig.interrupt.check()?;
        rig.floor(&mut floor, WARM, IN_BLOCK)?;
        calls.push(call_block(&mut rig.client, &mut requests, WARM.min(in_block), in_block)?);
    }
    let mut times = Times::new();
    for number in 0..count {
        if number.is_multiple_of(1024) {
            progress.show(format_args!("call {} of {}", thousands(number), thousands(count)));
            rig.interrupt.check()?;
        }
        times.record(verified_call(&mut rig.client, &mut requests)?);
    }
    Ok(Measured { floor, calls, times, clock: clock() })
}

impl Measured {
    fn object(&self, about: About, size: usize, count: u64) -> Object {
        let (look, floor) = self.floor.faster();
        let ratios = ratios(&self.calls, floor);
        let ratio = |at| thousandths(quantile(&ratios, at));
        Object {
            about,
            size,
            count,
            block_round_trips: IN_BLOCK,
            block_calls: calls_in_block(size),
            floor_ns: FloorObject {
                spread: Spread::of(floor),
                look,
                pause_p50: self.floor.median(Look::Pause),
                plain_p50: self.floor.median(Look::Plain),
                yield_p50: self.floor.median(Look::Yield),
            },
            call_ns: Spread::of(&self.calls),
            ratio_p10: ratio(0.1),
            ratio_p50: ratio(0.5),
            ratio_p90: ratio(0.9),
            rtt_ns: self.times.summary(),
            distribution: self.times.distribution(),
            clock_ns: self.clock.resolution,
            clock_read_ns: self.clock.cost,
        }
    }
}

impl Object {
    fn text(&self) -> String {
        let between = match self.floor_ns.look {
            Look::Pause => "with `pause`",
            Look::Plain => "without `pause`",
            Look::Yield => "yielding",
        };
        let calls = match self.block_calls {
            IN_BLOCK => String::new(),
            fewer => format!(" ({fewer} calls)"),
        };
        let spread = |name: &str, Spread { p10, p50, p90 }: Spread| {
            [name.to_string(), nanoseconds(p10), nanoseconds(p50), nanoseconds(p90)]
        };
        let mut blocks = Table::new(&["", "p10", "p50", "p90"]);
        blocks.row(spread("floor", self.floor_ns.spread));
        blocks.row(spread("call", self.call_ns));
        let ratios = [self.ratio_p10, self.ratio_p50, self.ratio_p90].map(|ratio| format!("{ratio:.2}"));
        blocks.row(std::iter::once("ratio".to_string()).chain(ratios));
        let mut each = Table::new(&["", "min", "p50", "p90", "p99", "p99.9", "max"]);
        each.row(summary_row("call", self.rtt_ns));
        let size = readable_bytes(self.size);
        format!(
            "{}\n{} pairs of blocks of {} round trips{calls}, no clock inside; the floor: two bare words, {between}\n{}\
             \n{} calls, each timed (a clock reading takes {:.0} ns, its step is {} ns)\n{}",
            self.about.heading(&format!("Round trip of a call of {size} and its response of the same size")),
            self.about.blocks,
            thousands(IN_BLOCK.into()),
            blocks.text(),
            thousands(self.count),
            self.clock_read_ns,
            self.clock_ns,
            each.text(),
        )
    }
}

/// The cells of a row of percentiles.
pub fn summary_row(name: &str, summary: Summary) -> Vec<String> {
    let Summary { min, p50, p90, p99, p999, max } = summary;
    let times = [min, p50, p90, p99, p999, max].map(|time| nanoseconds(time as f64));
    std::iter::once(name.to_string()).chain(times).collect()
}
