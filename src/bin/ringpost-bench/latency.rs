//! `ringpost-bench latency`: measures the latency of calls, one at a time.

use clap::Args;
use ringpost::WaitStrategy;
use ringpost::cli::args::{bytes, readable_bytes};
use ringpost::cli::cpu::Pins;
use ringpost::cli::exit::Failure;
use ringpost::cli::floor::{Blocks, Look};
use ringpost::cli::stats::{Spread, Summary, Times, clock, ratios, thousands};
use ringpost::cli::table::Table;
use serde::Serialize;

use crate::calls::{IN_BLOCK, Requests, WARM, call_block, calls_in_block, verified_call};
use crate::measurement::{About, Figures, Measurement, Session, Waiting, warn};
use crate::rate;
use crate::rows::{percentiles, ratio, spread};
use crate::setup::{Setup, ways};

const COUNT: u64 = 100_000;

#[derive(Debug, Args)]
pub struct Latency {
    /// The size of request and response, such as 48, 64K or 1M
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "48")]
    pub size: usize,

    /// The number of calls that are timed one by one [default: 100000; with --rate, those of 10 seconds]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Make calls at this rate (per second), and time each from when it was due
    ///
    /// A call is due at its time even if the one before is still under way. So a stall delays all calls that
    /// were due in it, and all of them count (no coordinated omission).
    #[arg(long, value_name = "R", value_parser = rate::per_second)]
    pub rate: Option<f64>,

    /// Do not pin the ends; the floor is still measured on two CPUs
    #[arg(long)]
    free: bool,
}

impl Measurement for Latency {
    const NAME: &'static str = "latency";
    const BLOCKS: u32 = 120;
    const WAIT: WaitStrategy = WaitStrategy::Spin;
    type Waiting = Waiting;
    type Figures = RoundTrips;

    fn place(&self, pins: Option<Pins>, _pin: Option<Pins>) -> Option<Pins> {
        warn(pins);
        pins.filter(|_| !self.free)
    }

    fn measure(&self, session: &mut Session) -> Result<RoundTrips, Failure> {
        let count = self.count.unwrap_or(COUNT);
        session.with(session.plan(self.size), |setup| measure(setup, self.size, count))
    }
}

/// The results. All times are in nanoseconds.
#[derive(Serialize)]
pub struct RoundTrips {
    size: usize,
    count: u64,
    block_round_trips: u32,
    /// Calls in a block: fewer than the floor's round trips if they are large.
    block_calls: u32,
    floor_ns: FloorObject,
    call_ns: Spread,
    ratio_p10: f64,
    ratio_p50: f64,
    ratio_p90: f64,
    rtt_ns: Summary,
    /// Pairs of a fraction and the time which that fraction does not exceed.
    distribution: Vec<(f64, u64)>,
    /// The smallest step of the clock.
    clock_ns: u64,
    /// The cost of reading the clock.
    clock_read_ns: f64,
}

/// The floor: the blocks of the faster way of waiting, and the medians of all ways.
#[derive(Serialize)]
pub struct FloorObject {
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

fn measure(setup: &mut Setup, size: usize, count: u64) -> Result<RoundTrips, Failure> {
    let mut floor = Blocks::new(ways(setup.floor_pins()));
    let mut calls = Vec::new();
    let mut requests = Requests::new(size);
    let in_block = calls_in_block(size);
    for block in setup.blocks() {
        setup.begin(block, "round trips")?;
        setup.floor(&mut floor, WARM, IN_BLOCK)?;
        calls.push(call_block(&mut setup.client, &mut requests, WARM.min(in_block), in_block)?);
    }
    let mut times = Times::new();
    for number in 0..count {
        if number.is_multiple_of(1024) {
            setup.progress.show(format_args!("call {} of {}", thousands(number), thousands(count)));
            setup.interrupt.check()?;
        }
        times.record(verified_call(&mut setup.client, &mut requests)?);
    }
    let (look, faster) = floor.faster();
    let ratio = Spread::of_ratios(&ratios(&calls, faster));
    let clock = clock();
    Ok(RoundTrips {
        size,
        count,
        block_round_trips: IN_BLOCK,
        block_calls: in_block,
        floor_ns: FloorObject {
            spread: Spread::of(faster),
            look,
            pause_p50: floor.median(Look::Pause),
            plain_p50: floor.median(Look::Plain),
            yield_p50: floor.median(Look::Yield),
        },
        call_ns: Spread::of(&calls),
        ratio_p10: ratio.p10,
        ratio_p50: ratio.p50,
        ratio_p90: ratio.p90,
        rtt_ns: times.summary(),
        distribution: times.distribution(),
        clock_ns: clock.resolution,
        clock_read_ns: clock.cost,
    })
}

impl Figures for RoundTrips {
    fn text(&self, about: &About) -> String {
        let between = match self.floor_ns.look {
            Look::Pause => "with `pause`",
            Look::Plain => "without `pause`",
            Look::Yield => "yielding",
        };
        let calls = match self.block_calls {
            IN_BLOCK => String::new(),
            fewer => format!(" ({fewer} calls)"),
        };
        let mut blocks = Table::new("| p10 | p50 | p90");
        blocks.row(spread("floor", self.floor_ns.spread));
        blocks.row(spread("call", self.call_ns));
        let ratios = [self.ratio_p10, self.ratio_p50, self.ratio_p90].map(ratio);
        blocks.row(std::iter::once("ratio".to_string()).chain(ratios));
        let size = readable_bytes(self.size);
        format!(
            "{}\n{} pairs of blocks of {} round trips{calls}; floor: a bare shared-memory round trip, {between}\n{}\
             \n{} calls, each timed (reading the clock takes {:.0} ns, its step is {} ns)\n{}",
            about.heading(&format!("Latency of a call of {size} with a response of the same size")),
            about.blocks,
            thousands(IN_BLOCK.into()),
            blocks.text(),
            thousands(self.count),
            self.clock_read_ns,
            self.clock_ns,
            percentiles("", [("call", self.rtt_ns)]),
        )
    }
}
