//! `ringpost-bench latency`: measures the latency of calls, one at a time.

use clap::Args;
use ringpost::WaitStrategy;
use ringpost::cli::args::{bytes, readable_bytes};
use ringpost::cli::cpu::Pins;
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::floor::{Blocks, Look};
use ringpost::cli::stats::{Spread, Summary, Times, clock, nanoseconds, quantile, ratios, tenths, thousands};
use ringpost::cli::table::Table;
use serde::Serialize;

use crate::calls::{IN_BLOCK, Requests, WARM, call_block, calls_in_block, verified_call};
use crate::control::{Control, Controlled, SLICE};
use crate::measurement::{About, Figures, Measurement, Session, Waiting, warn};
use crate::rate;
use crate::rows::{percentiles, ratio, spread};
use crate::setup::{Plan, Setup, ways};

const COUNT: u64 = 100_000;
const ROUNDS: u32 = 3;

#[derive(Debug, Args)]
pub struct Latency {
    /// The size of request and response, such as 48, 64K or 1M
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "48")]
    pub size: usize,

    /// The number of calls that are timed one by one [default: 100000; with --rate, those of 10 seconds]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Measure in so many rounds, each with a server and a client that are started anew [default: 3]
    ///
    /// Where their memory lies, and on which cores the host runs this computer's CPUs, differs from start to
    /// start, and the times with it. --blocks and --count are for all rounds together.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000), conflicts_with = "rate")]
    pub rounds: Option<u32>,

    /// Make calls at this rate (per second), and time each from when it was due
    ///
    /// A call is due at its time even if the one before is still under way. So a stall delays all calls that
    /// were due in it, and all of them count (no coordinated omission).
    #[arg(long, value_name = "R", value_parser = rate::per_second)]
    pub rate: Option<f64>,

    /// Do not pin the ends; the floor is still measured on two CPUs
    #[arg(long)]
    free: bool,

    /// Tell apart which slow calls are the machine's doing
    ///
    /// In turn with the calls that are timed one by one, as many bare round trips are timed in the same way,
    /// and a thread on each of the two CPUs only reads the clock. What the calls have less of the floor's
    /// stalls is shown, too. For the rare percentiles
    /// add --count 100000000: that takes about a minute.
    #[arg(long, conflicts_with_all = ["rate", "free"])]
    control: bool,
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
        let (count, blocks) = (self.count.unwrap_or(COUNT), session.about.blocks);
        // Each round has at least one pair of blocks and one call.
        let most = count.min(blocks.into()).min(self.rounds.unwrap_or(ROUNDS).into());
        let mut measured = Measured::new(ways(session.floor_pins), self.size);
        measured.control = self.control.then(Control::default);
        for round in 0..most {
            let part = |all: u64| all * (round + 1) / most - all * round / most;
            let plan = Plan { blocks: part(blocks.into()) as u32, ..session.plan(self.size) };
            session.with(plan, |setup| measured.round(setup, part(count)))?;
        }
        Ok(measured.figures(count))
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
    rounds: Vec<Round>,
    ratio_p10: f64,
    ratio_p50: f64,
    ratio_p90: f64,
    rtt_ns: Summary,
    /// Pairs of a fraction and the time which that fraction does not exceed.
    distribution: Vec<(f64, u64)>,
    /// What the machine does beside; null without --control.
    control: Option<Controlled>,
    /// The smallest step of the clock.
    clock_ns: u64,
    /// The cost of reading the clock.
    clock_read_ns: f64,
}

/// The medians of the blocks of one round.
#[derive(Debug, Serialize)]
struct Round {
    floor_ns: f64,
    call_ns: f64,
    /// Of the ratios of the pairs.
    ratio: f64,
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

/// What was measured so far.
struct Measured {
    requests: Requests,
    floor: Blocks,
    /// Nanoseconds per call, one value for each block of the floor.
    calls: Vec<f64>,
    /// How many blocks there were at the end of each round.
    ends: Vec<usize>,
    times: Times,
    control: Option<Control>,
}

impl Measured {
    fn new(ways: &[Look], size: usize) -> Measured {
        let (requests, floor, times) = (Requests::new(size), Blocks::new(ways), Times::new());
        Measured { requests, floor, calls: Vec::new(), ends: Vec::new(), times, control: None }
    }

    fn round(&mut self, setup: &mut Setup, count: u64) -> Outcome {
        let in_block = calls_in_block(self.requests.len());
        for block in setup.blocks() {
            setup.begin(block, "round trips")?;
            setup.floor(&mut self.floor, WARM, IN_BLOCK)?;
            let warm = WARM.min(in_block);
            self.calls.push(call_block(&mut setup.client, &mut self.requests, warm, in_block)?);
        }
        self.ends.push(self.calls.len());
        if let Some(control) = &mut self.control {
            let mut left = count;
            while left > 0 {
                let slice = left.min(SLICE);
                setup.progress.show(format_args!(
                    "{} calls are left of {}",
                    thousands(left),
                    thousands(count)
                ));
                control.slice(setup, &mut self.requests, &mut self.times, slice)?;
                left -= slice;
            }
            return Ok(());
        }
        for number in 0..count {
            if number.is_multiple_of(1024) {
                setup.progress.show(format_args!("call {} of {}", thousands(number), thousands(count)));
                setup.interrupt.check()?;
            }
            self.times.record(verified_call(&mut setup.client, &mut self.requests)?);
        }
        Ok(())
    }

    fn figures(&self, count: u64) -> RoundTrips {
        let (look, faster) = self.floor.faster();
        let pairs = ratios(&self.calls, faster);
        let starts = std::iter::once(&0).chain(&self.ends);
        let rounds = starts.zip(&self.ends).map(|(&start, &end)| Round {
            floor_ns: tenths(quantile(&faster[start..end], 0.5)),
            call_ns: tenths(quantile(&self.calls[start..end], 0.5)),
            ratio: Spread::of_ratios(&pairs[start..end]).p50,
        });
        let ratio = Spread::of_ratios(&pairs);
        let clock = clock();
        RoundTrips {
            size: self.requests.len(),
            count,
            block_round_trips: IN_BLOCK,
            block_calls: calls_in_block(self.requests.len()),
            floor_ns: FloorObject {
                spread: Spread::of(faster),
                look,
                pause_p50: self.floor.median(Look::Pause),
                plain_p50: self.floor.median(Look::Plain),
                yield_p50: self.floor.median(Look::Yield),
            },
            call_ns: Spread::of(&self.calls),
            rounds: rounds.collect(),
            ratio_p10: ratio.p10,
            ratio_p50: ratio.p50,
            ratio_p90: ratio.p90,
            rtt_ns: self.times.summary(),
            distribution: self.times.distribution(),
            control: self.control.as_ref().map(|control| control.figures(&self.times)),
            clock_ns: clock.resolution,
            clock_read_ns: clock.cost,
        }
    }
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
        let mut rounds = Table::new("round | floor | call | ratio");
        for (number, round) in (1..).zip(&self.rounds) {
            let cells = [nanoseconds(round.floor_ns), nanoseconds(round.call_ns), ratio(round.ratio)];
            rounds.row(std::iter::once(format!("{number}")).chain(cells));
        }
        format!(
            "{}\n{} pairs of blocks of {} round trips{calls}; floor: a bare shared-memory round trip, {between}\n{}\
             \nThe medians of each round, with a server and a client of its own\n{}\
             \n{} calls, each timed (reading the clock takes {:.0} ns, its step is {} ns)\n{}",
            about.heading(&format!("Latency of a call of {size} with a response of the same size")),
            about.blocks,
            thousands(IN_BLOCK.into()),
            blocks.text(),
            rounds.text(),
            thousands(self.count),
            self.clock_read_ns,
            self.clock_ns,
            match &self.control {
                Some(control) => control.text(self.rtt_ns),
                None => percentiles("", [("call", self.rtt_ns)]),
            },
        )
    }
}
