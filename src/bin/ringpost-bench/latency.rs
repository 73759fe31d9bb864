//! `ringpost-bench latency`: the round trip of one call at a time.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ringpost::{Client, WaitStrategy};
use serde::Serialize;

use crate::cli::LatencyOptions;
use crate::common::args::readable_bytes;
use crate::common::cpu::{self, Pins};
use crate::common::exit::{Failure, Outcome, note};
use crate::common::floor::{Blocks, Look};
use crate::common::out::{self, Progress};
use crate::common::stats::{Clock, Spread, Summary, Times, clock, nanoseconds, quantile, thousands};
use crate::rig::{Rig, ways};

/// Pairs of a floor block and a call block, and the round trips in each, after the untimed ones.
const BLOCKS: usize = 120;
const WARM: u32 = 200;
const IN_BLOCK: u32 = 1_000;

/// Calls larger than this come in smaller blocks, down to the fewest: each takes longer, and a block still takes
/// milliseconds.
const LARGE: usize = 16 * 1024;
const FEWEST: u32 = 50;

/// How many calls of `size` bytes make a block.
fn calls_in_block(size: usize) -> u32 {
    let calls = IN_BLOCK as usize * LARGE / size.max(LARGE);
    u32::try_from(calls).unwrap_or(IN_BLOCK).max(FEWEST)
}

pub fn run(socket: Option<PathBuf>, options: &LatencyOptions) -> Outcome {
    let pins = options.pins()?;
    let wait = options.wait(pins)?;
    // Before this thread is kept on one of them.
    let cpus = cpu::allowed().len();
    match pins {
        None => note(
            "ringpost-bench: only one CPU may be used: these are the times of two processes that share it",
        ),
        Some(pins) if pins.client == pins.server => {
            note(format_args!(
                "ringpost-bench: both ends share CPU {}: these are the times of that",
                pins.client
            ));
        }
        Some(pins) if pins.same_core() == Some(true) => note(format_args!(
            "ringpost-bench: CPUs {} and {} are two threads of one core, which flatters; --pin chooses others",
            pins.client, pins.server
        )),
        Some(_) => {}
    }
    let mut rig = Rig::new(socket, options.size, wait, pins)?;
    let measured = measure(&mut rig, options, pins).map_err(|failure| rig.explain(failure));
    let ended = rig.end();
    let measured = measured?;
    ended?;
    if options.json {
        out::json(&measured.object(options, wait, pins, cpus))
    } else {
        out::put(measured.text(options, wait, pins).as_bytes())
    }
}

/// What programs read. All times are nanoseconds.
#[derive(Serialize)]
struct Object {
    bench: &'static str,
    version: &'static str,
    size: usize,
    count: u64,
    wait: String,
    pin: Option<Pins>,
    /// Whether the two CPUs are threads of one core.
    same_core: Option<bool>,
    /// How many CPUs this process may use.
    cpus: usize,
    cpu: Option<String>,
    kernel: Option<String>,
    blocks: usize,
    block_round_trips: u32,
    /// Calls in a block: fewer than the floor's round trips where they are large.
    block_calls: u32,
    floor_ns: FloorObject,
    call_ns: Spread,
    ratio_p10: f64,
    ratio_p50: f64,
    ratio_p90: f64,
    rtt_ns: Summary,
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
    rtt: Summary,
    clock: Clock,
}

fn measure(rig: &mut Rig, options: &LatencyOptions, pins: Option<Pins>) -> Result<Measured, Failure> {
    let mut progress = Progress::new();
    let mut floor = Blocks::new(ways(pins));
    let mut calls = Vec::with_capacity(BLOCKS);
    let mut requests = Requests::new(options.size);
    for block in 0..BLOCKS {
        progress.show(format_args!("block {block} of {BLOCKS}"));
        rig.interrupt.check()?;
        rig.floor(&mut floor, WARM, IN_BLOCK)?;
        calls.push(call_block(&mut rig.client, &mut requests)?);
    }
    let mut times = Times::new();
    for number in 0..options.count {
        if number.is_multiple_of(1024) {
            progress.show(format_args!("call {} of {}", thousands(number), thousands(options.count)));
            rig.interrupt.check()?;
        }
        times.record(verified_call(&mut rig.client, &mut requests)?);
    }
    Ok(Measured { floor, calls, rtt: times.summary(), clock: clock() })
}

/// Nanoseconds for each of a block's calls, after some whose responses are checked byte by byte.
fn call_block(client: &mut Client, requests: &mut Requests) -> Result<f64, Failure> {
    let count = calls_in_block(requests.bytes.len());
    for _ in 0..WARM.min(count) {
        verified_call(client, requests)?;
    }
    let request = requests.next();
    let start = Instant::now();
    for _ in 0..count {
        let response = client.call(request).map_err(Failure::failed)?;
        if response.len() != request.len() {
            return Err(wrong(request, response));
        }
    }
    Ok(start.elapsed().as_nanos() as f64 / f64::from(count))
}

/// One call's time; its response is checked outside it.
fn verified_call(client: &mut Client, requests: &mut Requests) -> Result<Duration, Failure> {
    let request = requests.next();
    let start = Instant::now();
    let response = client.call(request).map_err(Failure::failed)?;
    let time = start.elapsed();
    if response == request { Ok(time) } else { Err(wrong(request, response)) }
}

fn wrong(request: &[u8], response: &[u8]) -> Failure {
    Failure::failed(format!(
        "a response is not what was sent ({} bytes for {}): the measurement is void",
        response.len(),
        request.len()
    ))
}

/// Requests of one size, each unlike the last one as far as there is room to be.
struct Requests {
    bytes: Vec<u8>,
    number: u64,
}

impl Requests {
    fn new(size: usize) -> Requests {
        Requests { bytes: (0..size).map(|index| (index % 251) as u8).collect(), number: 0 }
    }

    fn next(&mut self) -> &[u8] {
        self.number += 1;
        for (byte, new) in self.bytes.iter_mut().zip(self.number.to_le_bytes()) {
            *byte = new;
        }
        &self.bytes
    }
}

impl Measured {
    fn ratios(&self) -> Vec<f64> {
        self.calls.iter().zip(self.floor.faster().1).map(|(call, floor)| call / floor).collect()
    }

    fn object(
        &self,
        options: &LatencyOptions,
        wait: WaitStrategy,
        pins: Option<Pins>,
        cpus: usize,
    ) -> Object {
        let (look, floor) = self.floor.faster();
        let ratios = self.ratios();
        let ratio = |at| (quantile(&ratios, at) * 1e3).round() / 1e3;
        Object {
            bench: "latency",
            version: env!("CARGO_PKG_VERSION"),
            size: options.size,
            count: options.count,
            wait: wait.to_string(),
            pin: pins,
            same_core: pins.and_then(Pins::same_core),
            cpus,
            cpu: cpu::model(),
            kernel: cpu::kernel(),
            blocks: BLOCKS,
            block_round_trips: IN_BLOCK,
            block_calls: calls_in_block(options.size),
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
            rtt_ns: self.rtt,
            clock_ns: self.clock.resolution,
            clock_read_ns: self.clock.cost,
        }
    }

    fn text(&self, options: &LatencyOptions, wait: WaitStrategy, pins: Option<Pins>) -> String {
        let (look, floor) = self.floor.faster();
        let place = match pins {
            Some(pins) => format!("client on CPU {}, server on CPU {}", pins.client, pins.server),
            None => "both ends on one CPU".to_string(),
        };
        let between = match look {
            Look::Pause => "with `pause`",
            Look::Plain => "without `pause`",
            Look::Yield => "yielding",
        };
        let calls = match calls_in_block(options.size) {
            IN_BLOCK => String::new(),
            fewer => format!(" ({fewer} calls)"),
        };
        let times = |values: &[f64]| values.iter().copied().map(nanoseconds).collect();
        let spread = |values: &[f64]| {
            let Spread { p10, p50, p90 } = Spread::of(values);
            times(&[p10, p50, p90])
        };
        let ratio = format!("{:.2}", quantile(&self.ratios(), 0.5));
        let Summary { min, p50, p90, p99, p999, max } = self.rtt;
        let each = [min, p50, p90, p99, p999, max].map(|time| time as f64);
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        [
            format!(
                "Round trip of a call of {} and its response of the same size; {place}, wait {wait}",
                readable_bytes(options.size)
            ),
            format!(
                "{}, Linux {}",
                cpu::model().as_deref().unwrap_or("an unnamed processor"),
                cpu::kernel().as_deref().unwrap_or("of an unknown release"),
            ),
            String::new(),
            format!(
                "{BLOCKS} pairs of blocks of {} round trips{calls}, no clock inside",
                thousands(IN_BLOCK.into())
            ),
            row("", words(&["p10", "p50", "p90"]), ""),
            row("floor", spread(floor), &format!("two bare words, {between}")),
            row("call", spread(&self.calls), ""),
            row("ratio", words(&["", &ratio, ""]), "of each pair"),
            String::new(),
            format!(
                "{} calls, each timed (a clock reading takes {:.0} ns, its step is {} ns)",
                thousands(options.count),
                self.clock.cost,
                self.clock.resolution
            ),
            row("", words(&["min", "p50", "p90", "p99", "p99.9", "max"]), ""),
            row("call", times(&each), ""),
            String::new(),
        ]
        .join("\n")
    }
}

/// A line of a table.
fn row(name: &str, cells: Vec<String>, remark: &str) -> String {
    let cells: String = cells.iter().map(|cell| format!("{cell:>11}")).collect();
    format!("{name:<8}{cells}   {remark}").trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_calls_come_in_smaller_blocks() {
        assert_eq!(calls_in_block(0), IN_BLOCK);
        assert_eq!(calls_in_block(LARGE), IN_BLOCK);
        assert_eq!(calls_in_block(4 * LARGE), IN_BLOCK / 4);
        assert_eq!(calls_in_block(1 << 29), FEWEST);
    }

    #[test]
    fn requests_differ_as_far_as_there_is_room() {
        let mut none = Requests::new(0);
        assert_eq!(none.next(), b"");
        let mut one = Requests::new(1);
        assert_eq!((one.next().to_vec(), one.next().to_vec()), (vec![1], vec![2]));
        let mut some = Requests::new(48);
        let first = some.next().to_vec();
        assert_eq!(first.len(), 48);
        assert_ne!(some.next(), first);
    }
}
