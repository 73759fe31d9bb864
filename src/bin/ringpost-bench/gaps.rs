//! `ringpost-bench gaps`: measures the latency and CPU time of the first call after an idle gap.

use std::time::{Duration, Instant};

use clap::Args;
use ringpost::WaitStrategy;
use ringpost::cli::args::{bytes, readable_bytes, short_time};
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::signals::Interrupt;
use ringpost::cli::stats::{Beside, Summary, Times, nanoseconds, quantile};
use ringpost::cli::table::Table;
use ringpost::cli::usage::{self, own_cpu_time};
use serde::Serialize;

use crate::calls::{Requests, verified_call};
use crate::gap;
use crate::measurement::{About, Figures, Measurement, Session, Waiting};
use crate::rows::ratio;
use crate::setup::Setup;

/// The approximate time of a block, and the least and most requests in one.
const BLOCK: Duration = Duration::from_millis(200);
const FEWEST: u128 = 3;
const MOST: u128 = 200;

#[derive(Debug, Args)]
pub struct Gaps {
    /// The idle times before a request
    #[arg(
        long,
        value_name = "TIME,…",
        value_delimiter = ',',
        value_parser = short_time,
        default_value = "10us,100us,1ms,10ms,100ms"
    )]
    gaps: Vec<Duration>,

    /// The size of request and response
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "48")]
    size: usize,

    /// Requests in a block [default: as many as take 0.2 seconds, 3 to 200]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: Option<u32>,
}

#[derive(Serialize)]
pub struct AfterGaps {
    size: usize,
    gaps: Vec<Gap>,
}

#[derive(Serialize)]
pub struct Gap {
    gap_ns: u64,
    block_requests: u32,
    /// The medians of the blocks' round trips.
    #[serde(flatten)]
    medians: Beside,
    /// CPU time per request of both processes together: the medians of the blocks.
    cpu: Option<Beside>,
    rtt_ns: Summary,
    floor_rtt_ns: Summary,
}

impl Measurement for Gaps {
    const NAME: &'static str = "gaps";
    const BLOCKS: u32 = 20;
    const WAIT: WaitStrategy = WaitStrategy::Adaptive;
    type Waiting = Waiting;
    type Figures = AfterGaps;

    fn measure(&self, session: &mut Session) -> Result<AfterGaps, Failure> {
        let gaps = session.with(session.plan(self.size), |setup| measure(setup, self))?;
        Ok(AfterGaps { size: self.size, gaps })
    }
}

/// The number of requests in a block.
fn count(gap: Duration, wanted: Option<u32>) -> u32 {
    let fitting = BLOCK.as_nanos() / gap.as_nanos().max(1);
    wanted.unwrap_or_else(|| u32::try_from(fitting.clamp(FEWEST, MOST)).unwrap_or(1))
}

/// The blocks for one gap: of calls or of the floor.
#[derive(Default)]
struct Side {
    medians: Vec<f64>,
    cpu: Vec<f64>,
    times: Times,
}

impl Side {
    /// Measures one block: after each gap, `act` makes a request to the process `server`.
    fn block(
        &mut self,
        gap: Duration,
        count: u32,
        server: u32,
        clock: Duration,
        interrupt: &Interrupt,
        mut act: impl FnMut() -> Outcome,
    ) -> Outcome {
        let idle = || gap::rest_until(Instant::now() + gap, interrupt);
        // An untimed request, so that the first timed one follows a gap after a request like the others.
        act()?;
        idle()?;
        let server_before = usage::cpu_time(server);
        let (mut own, mut times) = (Duration::ZERO, Vec::with_capacity(count as usize));
        for _ in 0..count {
            // Exclude the CPU time of the wait itself.
            let cpu = own_cpu_time();
            let start = Instant::now();
            act()?;
            let time = start.elapsed();
            own += (own_cpu_time() - cpu).saturating_sub(clock);
            self.times.record(time);
            times.push(time.as_nanos() as f64);
            // Also after the last request: the server may still poll for the next one.
            idle()?;
        }
        self.medians.push(quantile(&times, 0.5));
        if let (Some(before), Some(after)) = (server_before, usage::cpu_time(server)) {
            let all = own + after.saturating_sub(before);
            self.cpu.push(all.as_nanos() as f64 / f64::from(count));
        }
        Ok(())
    }
}

/// The CPU time that the timing itself adds to a request.
fn cpu_clock() -> Duration {
    let reading = |_| {
        let before = own_cpu_time();
        let _ = Instant::now();
        let _ = Instant::now();
        (own_cpu_time() - before).as_nanos() as f64
    };
    let readings: Vec<f64> = (0..1_000).map(reading).collect();
    Duration::from_nanos(quantile(&readings, 0.5) as u64)
}

fn measure(setup: &mut Setup, options: &Gaps) -> Result<Vec<Gap>, Failure> {
    gap::wake_on_time();
    let clock = cpu_clock();
    let mut requests = Requests::new(options.size);
    let mut sides: Vec<_> = options.gaps.iter().map(|&gap| (gap, Side::default(), Side::default())).collect();
    for block in setup.blocks() {
        for (gap, ours, floor) in &mut sides {
            setup.begin(block, format_args!("gaps of {gap:?}"))?;
            let count = count(*gap, options.count);
            setup.beside(|partner, interrupt| {
                let id = partner.id();
                partner.futex_one_by_one(u64::from(count) + 1, interrupt, |ask| {
                    let lost = || Failure::failed("the floor's partner process does not answer");
                    floor.block(*gap, count, id, clock, interrupt, || ask().ok_or_else(lost)).ok()
                })
            })?;
            // Wakes the server, which may have been stopped.
            verified_call(&mut setup.client, &mut requests)?;
            let (server, client, interrupt) = (setup.server(), &mut setup.client, &setup.interrupt);
            ours.block(*gap, count, server, clock, interrupt, || {
                verified_call(client, &mut requests).map(drop)
            })?;
        }
    }
    Ok(sides.iter().map(|(gap, ours, floor)| Gap::of(*gap, options.count, ours, floor)).collect())
}

impl Gap {
    fn of(gap: Duration, wanted: Option<u32>, ours: &Side, floor: &Side) -> Gap {
        let counted = ours.cpu.len() == ours.medians.len() && floor.cpu.len() == ours.cpu.len();
        Gap {
            gap_ns: u64::try_from(gap.as_nanos()).unwrap_or(u64::MAX),
            block_requests: count(gap, wanted),
            medians: Beside::of(&ours.medians, &floor.medians),
            cpu: counted.then(|| Beside::of(&ours.cpu, &floor.cpu)),
            rtt_ns: ours.times.summary(),
            floor_rtt_ns: floor.times.summary(),
        }
    }
}

impl Figures for AfterGaps {
    fn text(&self, about: &About) -> String {
        let mut table =
            Table::new("gap | floor p50 | call p50 | ratio | call p99 | floor's CPU | call's CPU | ratio");
        for gap in &self.gaps {
            let cpu = match &gap.cpu {
                Some(cpu) => [nanoseconds(cpu.floor_ns.p50), nanoseconds(cpu.ns.p50), ratio(cpu.ratio.p50)],
                None => ["unknown".into(), String::new(), String::new()],
            };
            table.row(
                [
                    nanoseconds(gap.gap_ns as f64),
                    nanoseconds(gap.medians.floor_ns.p50),
                    nanoseconds(gap.medians.ns.p50),
                    ratio(gap.medians.ratio.p50),
                    nanoseconds(gap.rtt_ns.p99 as f64),
                ]
                .into_iter()
                .chain(cpu),
            );
        }
        let size = readable_bytes(self.size);
        format!(
            "{}\n{} pairs of blocks, medians of their medians; floor: a raw futex pair between two processes; CPU time of \
             both processes per request\n{}",
            about.heading(&format!("Latency of a call of {size} after an idle gap")),
            about.blocks,
            table.text(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_3_to_200_requests() {
        assert_eq!(count(Duration::from_micros(10), None), 200);
        assert_eq!(count(Duration::from_millis(10), None), 20);
        assert_eq!(count(Duration::from_secs(1), None), 3);
        assert_eq!(count(Duration::from_secs(1), Some(1)), 1);
    }
}
