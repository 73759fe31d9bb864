//! `ringpost-bench latency --rate`: measures calls that are due at fixed times, from when they were due.
//!
//! A closed loop sends the next request after the last response, so a stall of a millisecond is one slow
//! call. A program that gets requests from outside would have a thousand of them waiting after such a stall.
//! Here each call is due at a fixed time. If the previous call is still under way then, the wait is part of
//! the latency. The floor does the same at the same rate.

use std::time::{Duration, Instant};

use ringpost::WaitStrategy;
use ringpost::cli::args::readable_bytes;
use ringpost::cli::cpu::Pins;
use ringpost::cli::exit::{Failure, note};
use ringpost::cli::floor::Look;
use ringpost::cli::stats::{Summary, Times, nanoseconds, thousandths};
use serde::Serialize;

use crate::calls::{Requests, verified_call};
use crate::gap;
use crate::latency::Latency;
use crate::measurement::{About, Figures, Measurement, Session, Waiting};
use crate::rows::percentiles;
use crate::setup::Setup;

const SECONDS: f64 = 10.0;

/// Parses the rate on the command line.
pub fn per_second(text: &str) -> Result<f64, String> {
    let wanted = || "give a number of calls per second, from 0.1 to 10000000".to_string();
    let rate: f64 = text.parse().map_err(|_| wanted())?;
    if (0.1..=1e7).contains(&rate) { Ok(rate) } else { Err(wanted()) }
}

/// Performs operations at fixed times, and records their latencies.
#[derive(Default)]
struct Paced {
    interval: f64,
    /// Times from when each operation was due.
    due: Times,
    /// Times from when each operation began.
    begun: Times,
    /// The number of operations that were due before the previous one had ended.
    late: u64,
    count: u64,
    time: Duration,
}

impl Paced {
    fn new(rate: f64) -> Paced {
        Paced { interval: 1e9 / rate, ..Paced::default() }
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
pub struct PacedObject {
    achieved_per_s: f64,
    /// The fraction that was due before the previous one had ended.
    late: f64,
    /// Latencies from when a call was due.
    rtt_ns: Summary,
    /// Latencies from when it was made, as a closed loop would measure them.
    service_ns: Summary,
    distribution: Vec<(f64, u64)>,
}

/// The options of `latency`, and the rate.
pub struct Rate<'a>(pub &'a Latency, pub f64);

#[derive(Serialize)]
pub struct AtRate {
    size: usize,
    count: u64,
    rate_per_s: f64,
    #[serde(flatten)]
    ours: PacedObject,
    floor: PacedObject,
    ratio_p50: f64,
    ratio_p99: f64,
}

impl Measurement for Rate<'_> {
    const NAME: &'static str = "rate";
    const BLOCKS: u32 = 20;
    const WAIT: WaitStrategy = Latency::WAIT;
    type Waiting = Waiting;
    type Figures = AtRate;

    fn place(&self, pins: Option<Pins>, pin: Option<Pins>) -> Option<Pins> {
        self.0.place(pins, pin)
    }

    fn measure(&self, session: &mut Session) -> Result<AtRate, Failure> {
        let &Rate(&Latency { size, count, .. }, rate) = self;
        let count = count.unwrap_or((rate * SECONDS).max(1.0) as u64);
        let in_block = count.div_ceil(u64::from(session.about.blocks)).max(1);
        let (ours, floor) = session.with(session.plan(size), |setup| measure(setup, size, rate, in_block))?;
        let ratio = |ours: u64, floor: u64| thousandths(ours as f64 / floor.max(1) as f64);
        let count = ours.count;
        let (ours, floor) = (ours.object(), floor.object());
        if ours.achieved_per_s < 0.99 * rate {
            note(format_args!(
                "ringpost-bench: the rate of {rate} calls per second was not reached ({} were made), so the latencies \
                 depend on the length of the run",
                ours.achieved_per_s
            ));
        }
        Ok(AtRate {
            size,
            count,
            rate_per_s: rate,
            ratio_p50: ratio(ours.rtt_ns.p50, floor.rtt_ns.p50),
            ratio_p99: ratio(ours.rtt_ns.p99, floor.rtt_ns.p99),
            ours,
            floor,
        })
    }
}

fn measure(setup: &mut Setup, size: usize, rate: f64, in_block: u64) -> Result<(Paced, Paced), Failure> {
    gap::wake_on_time();
    let look = Look::usual(setup.floor_pins());
    let (mut ours, mut floor) = (Paced::new(rate), Paced::new(rate));
    let mut requests = Requests::new(size);
    for block in setup.blocks() {
        setup.begin(block, format_args!("{rate} per second"))?;
        setup.beside(|partner, interrupt| {
            partner.one_by_one(look, in_block, interrupt, |ask| floor.run(in_block, || ask().ok_or(())).ok())
        })?;
        // Wakes the server, which may have been stopped.
        verified_call(&mut setup.client, &mut requests)?;
        let (client, interrupt) = (&mut setup.client, &setup.interrupt);
        ours.run(in_block, || {
            interrupt.check()?;
            verified_call(client, &mut requests).map(drop)
        })?;
    }
    Ok((ours, floor))
}

impl Figures for AtRate {
    fn text(&self, about: &About) -> String {
        let rows = [
            ("floor", self.floor.rtt_ns),
            ("call", self.ours.rtt_ns),
            ("call, from when it was made", self.ours.service_ns),
        ];
        let what = format!(
            "{} calls of {} per second ({} were made)",
            self.rate_per_s,
            readable_bytes(self.size),
            self.ours.achieved_per_s
        );
        format!(
            "{}\n{} calls, one every {}, in {} pairs of blocks; floor: bare shared-memory round trips at the same rate\n{}\
             ratio: {:.2} (p50), {:.2} (p99); {:.1} % were due before the previous one had ended\n",
            about.heading(&what),
            self.count,
            nanoseconds(1e9 / self.rate_per_s),
            about.blocks,
            percentiles("from when a call was due", rows),
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
    fn rates_out_of_range_are_refused() {
        assert_eq!(per_second("1e3"), Ok(1e3));
        for wrong in ["0", "-1", "x", "inf", "NaN", "1e9"] {
            assert!(per_second(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_stall_delays_all_calls_that_were_due_in_it() {
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
        // All twenty were due within two milliseconds, and so before the stall ended.
        assert!(paced.late >= 19 && paced.due.summary().min >= 3_000_000);
        assert!(paced.begun.summary().p50 < paced.due.summary().p50);
    }
}
