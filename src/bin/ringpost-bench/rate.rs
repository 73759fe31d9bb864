//! `ringpost-bench latency --rate`: calls that are due at fixed times, timed from when they were due.
//!
//! A closed loop asks the next question when the last one is answered, so a stall of a millisecond is one slow call. Whoever
//! gets requests from outside has a thousand of them waiting then. Here each call has a time at which it is due; if the
//! one before is not done by then, the wait is part of its latency. The floor does the same at the same rate.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::calls::{Requests, verified_call};
use crate::ends::About;
use crate::gap;
use crate::latency::{LatencyOptions, summary_row};
use crate::rig::{Plan, Rig};
use ringpost::cli::args::readable_bytes;
use ringpost::cli::exit::{Failure, Outcome, note};
use ringpost::cli::floor::Look;
use ringpost::cli::out::{self, Progress};
use ringpost::cli::signals::Interrupt;
use ringpost::cli::stats::{Summary, Times, nanoseconds, thousandths};
use ringpost::cli::table::Table;

const BLOCKS: u32 = 20;
const SECONDS: f64 = 10.0;

/// A rate on the command line.
pub fn per_second(text: &str) -> Result<f64, String> {
    let wanted = || "calls per second are wanted, from 0.1 to 10000000".to_string();
    let rate: f64 = text.parse().map_err(|_| wanted())?;
    if (0.1..=1e7).contains(&rate) { Ok(rate) } else { Err(wanted()) }
}

/// Actions at fixed times.
struct Paced {
    interval: f64,
    /// From when each was due, and from when it began.
    due: Times,
    begun: Times,
    /// How many were due before the one before was done.
    late: u64,
    count: u64,
    time: Duration,
}

impl Paced {
    fn new(rate: f64) -> Paced {
        Paced {
            interval: 1e9 / rate,
            due: Times::new(),
            begun: Times::new(),
            late: 0,
            count: 0,
            time: Duration::ZERO,
        }
    }

    fn run<E>(&mut self, count: u64, mut act: impl FnMut() -> Result<(), E>) -> Result<(), E> {
        let start = Instant::now();
        for number in 1..=count {
            let due = start + Duration::from_nanos((self.interval * number as f64) as u64);
            self.late += u64::from(Instant::now() > due);
            let begun = gap::wait_until(due);
            act()?;
            let done = Instant::now();
            self.due.record(done - due);
            self.begun.record(done - begun);
        }
        self.time += start.elapsed();
        self.count += count;
        Ok(())
    }

    fn object(&self) -> PacedObject {
        PacedObject {
            achieved_per_s: (self.count as f64 / self.time.as_secs_f64() * 10.0).round() / 10.0,
            late: thousandths(self.late as f64 / self.count.max(1) as f64),
            rtt_ns: self.due.summary(),
            service_ns: self.begun.summary(),
            distribution: self.due.distribution(),
        }
    }
}

#[derive(Serialize)]
struct PacedObject {
    achieved_per_s: f64,
    /// The fraction that was due before the one before was done.
    late: f64,
    /// From when a call was due.
    rtt_ns: Summary,
    /// From when it was made: what a closed loop would tell.
    service_ns: Summary,
    distribution: Vec<(f64, u64)>,
}

#[derive(Serialize)]
struct Object {
    #[serde(flatten)]
    about: About,
    size: usize,
    count: u64,
    rate_per_s: f64,
    #[serde(flatten)]
    ours: PacedObject,
    floor: PacedObject,
    ratio_p50: f64,
    ratio_p99: f64,
}

pub fn run(plan: Plan, options: &LatencyOptions, rate: f64) -> Outcome {
    let blocks = options.common.blocks_or(BLOCKS);
    let count = options.count.unwrap_or((rate * SECONDS).max(1.0) as u64);
    let about = About::new("rate", plan.wait, plan.pins, blocks);
    let in_block = count.div_ceil(u64::from(blocks)).max(1);
    let (size, look) = (options.size, Look::usual(plan.floor_pins));
    let interrupt = Interrupt::install()?;
    let (ours, floor) =
        Rig::new(&interrupt, plan)?.run(|rig| measure(rig, size, look, rate, blocks, in_block))?;
    let ratio = |ours: u64, floor: u64| thousandths(ours as f64 / floor.max(1) as f64);
    let count = ours.count;
    let (ours, floor) = (ours.object(), floor.object());
    let object = Object {
        about,
        size,
        count,
        rate_per_s: rate,
        ratio_p50: ratio(ours.rtt_ns.p50, floor.rtt_ns.p50),
        ratio_p99: ratio(ours.rtt_ns.p99, floor.rtt_ns.p99),
        ours,
        floor,
    };
    if object.ours.achieved_per_s < 0.99 * rate {
        note(format_args!(
            "ringpost-bench: {rate} calls a second could not be kept up ({} were made): the latencies grow with the \
             length of the run",
            object.ours.achieved_per_s
        ));
    }
    if options.common.json { out::json(&object) } else { out::put(object.text().as_bytes()) }
}

fn measure(
    rig: &mut Rig,
    size: usize,
    look: Look,
    rate: f64,
    blocks: u32,
    in_block: u64,
) -> Result<(Paced, Paced), Failure> {
    gap::wake_on_time();
    let mut progress = Progress::new();
    let (mut ours, mut floor) = (Paced::new(rate), Paced::new(rate));
    let mut requests = Requests::new(size);
    for block in 0..blocks {
        progress.show(format_args!("block {block} of {blocks}"));
        rig.interrupt.check()?;
        rig.beside(|partner, interrupt| {
            partner.one_by_one(look, in_block, interrupt, |ask| floor.run(in_block, || ask().ok_or(())).ok())
        })?;
        // The server has just been let go on.
        verified_call(&mut rig.client, &mut requests)?;
        let (client, interrupt) = (&mut rig.client, &rig.interrupt);
        ours.run(in_block, || {
            interrupt.check()?;
            verified_call(client, &mut requests).map(drop)
        })?;
    }
    Ok((ours, floor))
}

impl Object {
    fn text(&self) -> String {
        let mut table = Table::new(&["from when a call was due", "min", "p50", "p90", "p99", "p99.9", "max"]);
        table.row(summary_row("floor", self.floor.rtt_ns));
        table.row(summary_row("call", self.ours.rtt_ns));
        table.row(summary_row("call, from when it was made", self.ours.service_ns));
        let what = format!(
            "{} calls of {} a second, of which {} were made",
            self.rate_per_s,
            readable_bytes(self.size),
            self.ours.achieved_per_s
        );
        format!(
            "{}\n{} calls, one every {}, in {} blocks beside as many of the floor (two bare words at the same rate)\n{}\
             ratio: {:.2} (p50), {:.2} (p99); {:.1} % were due before the one before was done\n",
            self.about.heading(&what),
            self.count,
            nanoseconds(1e9 / self.rate_per_s),
            self.about.blocks,
            table.text(),
            self.ratio_p50,
            self.ratio_p99,
            self.ours.late * 100.0,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_bounds() {
        assert_eq!(per_second("1e3"), Ok(1e3));
        for wrong in ["0", "-1", "x", "inf", "NaN", "1e9"] {
            assert!(per_second(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_stall_counts_for_all_that_were_due_in_it() {
        let mut paced = Paced::new(10_000.0);
        let mut number = 0;
        let stalled = Duration::from_millis(5);
        paced
            .run(20, || {
                number += 1;
                if number == 1 {
                    let end = Instant::now() + stalled;
                    while Instant::now() < end {}
                }
                Ok::<(), ()>(())
            })
            .unwrap();
        // All twenty were due within two milliseconds, so that each of them was due before the stall was over.
        assert!(paced.late >= 19 && paced.due.summary().min >= 3_000_000);
        assert!(paced.begun.summary().p50 < paced.due.summary().p50);
    }
}
