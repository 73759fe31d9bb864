//! `ringpost-bench latency --control`: which of the slow calls are the machine's doing.
//!
//! The host takes a CPU away, an interrupt comes, another program runs: such a *stall* delays whatever is
//! under way on that CPU. A thread that only reads the clock sees it as a gap between two readings, but only
//! a thread on the same CPU does, and beside a measured end it would be a stall itself. So the control takes
//! turns with the calls on their two CPUs: a slice of calls, as many bare round trips timed in the same way,
//! and for as long as the calls took a thread on each CPU that only reads the clock. Stalls come by time and
//! not by call. So they are compared by how often a second they come, and taken away by that rate.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringpost::cli::cpu::{self, Pins};
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::floor::Look;
use ringpost::cli::stats::{Summary, Times, nanoseconds, thousandths};
use ringpost::cli::table::Table;
use serde::Serialize;

use crate::calls::{Requests, WARM, verified_call};
use crate::rows::{percentiles, ratio};
use crate::setup::Setup;

/// Calls in a slice: some milliseconds.
pub const SLICE: u64 = 20_000;

/// How much longer than usual something takes, in nanoseconds.
const LONGER: [u64; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];

/// What was measured: times one by one, and how long all slices took.
#[derive(Default)]
pub struct Control {
    calls: Duration,
    floor: Times,
    floors: Duration,
    client: Clock,
    /// Stays empty if both ends share a CPU.
    server: Clock,
}

/// The gaps between readings of the clock on one CPU.
#[derive(Default)]
struct Clock {
    gaps: Times,
    time: Duration,
}

impl Clock {
    fn read(&mut self, time: Duration) {
        let start = Instant::now();
        let mut last = start;
        while last - start < time {
            let now = Instant::now();
            self.gaps.record(now - last);
            // Recording is not part of the next gap.
            last = Instant::now();
        }
        self.time += last - start;
    }
}

impl Control {
    /// Makes `count` timed calls, and then the control's part.
    pub fn slice(
        &mut self,
        setup: &mut Setup,
        requests: &mut Requests,
        times: &mut Times,
        count: u64,
    ) -> Outcome {
        // The server has been stopped, and its memory is in no cache.
        for _ in 0..u64::from(WARM).min(count) {
            verified_call(&mut setup.client, requests)?;
        }
        let start = Instant::now();
        for number in 0..count {
            if number.is_multiple_of(1024) {
                setup.interrupt.check()?;
            }
            times.record(verified_call(&mut setup.client, requests)?);
        }
        let took = start.elapsed();
        self.calls += took;
        let (look, pins) = (Look::usual(setup.floor_pins()), setup.floor_pins());
        setup.beside(|floor, interrupt| {
            let warm = u64::from(WARM);
            floor.one_by_one(look, warm + count, interrupt, |ask| {
                (0..warm).try_for_each(|_| ask())?;
                let start = Instant::now();
                for _ in 0..count {
                    let start = Instant::now();
                    ask()?;
                    self.floor.record(start.elapsed());
                }
                self.floors += start.elapsed();
                Some(())
            })?;
            self.clocks(pins, took)
        })
    }

    fn clocks(&mut self, pins: Option<Pins>, time: Duration) -> Outcome {
        let Control { client, server, .. } = self;
        let Some(pins) = pins.filter(|pins| pins.client != pins.server) else {
            client.read(time);
            return Ok(());
        };
        // The other thread begins on this CPU, where it must not be before its move.
        let moved = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let pinned = cpu::pin(pins.server).map_err(Failure::Failed);
                moved.store(true, Ordering::Release);
                pinned?;
                server.read(time);
                Ok(())
            });
            while !moved.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            client.read(time);
            other.join().unwrap_or_else(|_| Err(Failure::failed("the clock's thread panicked")))
        })
    }

    /// The figures, beside those of the calls.
    pub fn figures(&self, calls: &Times) -> Controlled {
        let rate = |count: u64, time: Duration| {
            (!time.is_zero()).then(|| thousandths(count as f64 / time.as_secs_f64()))
        };
        let stalls = LONGER.map(|longer| Stalls {
            longer_ns: longer,
            calls_per_s: rate(calls.longer_by(longer), self.calls),
            floor_per_s: rate(self.floor.longer_by(longer), self.floors),
            client_clock_per_s: rate(self.client.gaps.longer_by(longer), self.client.time),
            server_clock_per_s: rate(self.server.gaps.longer_by(longer), self.server.time),
        });
        let share = self.calls.as_secs_f64() / self.floors.as_secs_f64().max(f64::MIN_POSITIVE);
        Controlled {
            slice_calls: SLICE,
            calls_s: thousandths(self.calls.as_secs_f64()),
            floor_s: thousandths(self.floors.as_secs_f64()),
            clock_s: thousandths(self.client.time.as_secs_f64()),
            less_stalls_ns: calls.without_stalls_of(&self.floor, share),
            floor_rtt_ns: self.floor.summary(),
            floor_distribution: self.floor.distribution(),
            stalls,
        }
    }
}

/// The results. All times are in nanoseconds, but for those of the slices, in seconds.
#[derive(Serialize)]
pub struct Controlled {
    slice_calls: u64,
    calls_s: f64,
    floor_s: f64,
    clock_s: f64,
    /// The calls, less the stalls that the floor had at the same rate.
    less_stalls_ns: Summary,
    floor_rtt_ns: Summary,
    floor_distribution: Vec<(f64, u64)>,
    stalls: [Stalls; LONGER.len()],
}

/// How often a second something takes longer than its median by more than this; null where nothing was
/// measured.
#[derive(Serialize)]
struct Stalls {
    longer_ns: u64,
    calls_per_s: Option<f64>,
    floor_per_s: Option<f64>,
    client_clock_per_s: Option<f64>,
    server_clock_per_s: Option<f64>,
}

impl Controlled {
    pub fn text(&self, calls: Summary) -> String {
        let rows = [
            ("call", calls),
            ("call, less the floor's stalls", self.less_stalls_ns),
            ("floor: bare round trip", self.floor_rtt_ns),
        ];
        let mut stalls = Table::new(
            "longer than its median by | call | floor | clock alone, client's CPU | clock alone, server's CPU",
        );
        for row in &self.stalls {
            let rates = [row.calls_per_s, row.floor_per_s, row.client_clock_per_s, row.server_clock_per_s];
            let rates = rates.map(|rate| rate.map(ratio).unwrap_or_default());
            stalls.row(std::iter::once(nanoseconds(row.longer_ns as f64)).chain(rates));
        }
        format!(
            "{}\nHow often a second, in {:.1} s of calls, {:.1} s of the floor and {:.1} s of the clock, in turn\n{}",
            percentiles("", rows),
            self.calls_s,
            self.floor_s,
            self.clock_s,
            stalls.text(),
        )
    }
}
