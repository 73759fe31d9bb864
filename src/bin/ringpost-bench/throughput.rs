//! `ringpost-bench throughput`: measures a ring in one direction, and pipelined calls.

use clap::Args;
use ringpost::WaitStrategy;
use ringpost::cli::args::{bytes, readable_bytes};
use ringpost::cli::exit::Failure;
use ringpost::cli::floor::{Blocks, Floor, Look};
use ringpost::cli::out::Progress;
use ringpost::cli::place::this_program;
use ringpost::cli::signals::Interrupt;
use ringpost::cli::stats::{Beside, Spread, nanoseconds, ratios, tenths, thousandths};
use ringpost::cli::table::Table;
use serde::Serialize;

use crate::calls::{Requests, WARM, verified_call, window_block};
use crate::measurement::{About, Figures, Measurement, Session, Waiting};
use crate::one_way::{Between, OneWayRing};
use crate::rows::ratio;
use crate::setup::{DEFAULT_RING_SIZE, Setup, ring_size, ways};

/// The smallest piece of the raw copy. Smaller ones would mostly measure the word that announces each piece.
const PIECE: usize = 4096;

#[derive(Debug, Args)]
pub struct Throughput {
    /// The sizes of the one-way blocks
    #[arg(long, value_name = "BYTES,…", value_delimiter = ',', value_parser = bytes, default_value = "56,1K,4K,64K")]
    sizes: Vec<usize>,

    /// The numbers of one-way blocks that are committed together
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        value_parser = clap::value_parser!(u64).range(1..=4096),
        default_value = "1,16"
    )]
    batches: Vec<u64>,

    /// What the one-way ring connects
    #[arg(long, value_name = "WHOM,…", value_delimiter = ',', default_value = "threads,processes")]
    between: Vec<Between>,

    /// The numbers of outstanding calls
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=4096),
        default_value = "1,4,16,64,256"
    )]
    windows: Vec<u32>,

    /// The size of the calls
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "48")]
    size: usize,

    /// The number of ring blocks or calls in a measured block [default: 20000 calls; 500 to 200000 ring
    /// blocks, depending on size]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    count: Option<u32>,
}

#[derive(Serialize)]
pub struct Rates {
    size: usize,
    ring_size: usize,
    one_way: Vec<OneWay>,
    pipelined: Vec<Window>,
}

#[derive(Serialize)]
pub struct OneWay {
    between: Between,
    size: usize,
    batch: u64,
    block_messages: u64,
    /// Times per block, compared with the raw copy of as many cache lines.
    #[serde(flatten)]
    blocks: Beside,
    per_second: f64,
    bytes_per_s: f64,
    /// The bandwidth as a fraction of the raw copy's.
    bandwidth_share: f64,
}

#[derive(Serialize)]
pub struct Window {
    window: u32,
    block_calls: u32,
    /// Times per call, compared with a bare shared-memory round trip.
    #[serde(flatten)]
    blocks: Beside,
    per_second: f64,
    /// Calls per second, relative to those of window 1 in the same round.
    times_one_at_a_time: Spread,
}

impl Measurement for Throughput {
    const NAME: &'static str = "throughput";
    const BLOCKS: u32 = 20;
    const WAIT: WaitStrategy = WaitStrategy::Spin;
    type Waiting = Waiting;
    type Figures = Rates;

    fn measure(&self, session: &mut Session) -> Result<Rates, Failure> {
        let largest = self.sizes.iter().copied().max().unwrap_or(0).max(self.size);
        let ring_size = ring_size(largest)?.max(DEFAULT_RING_SIZE);
        session.with(session.plan(largest), |setup| {
            let one_way =
                setup.beside(|floor, interrupt| one_way(floor, interrupt, self, session, ring_size))?;
            setup.end_waits_on_signals(|| {});
            let pipelined = pipelined(setup, self)?;
            Ok(Rates { size: self.size, ring_size, one_way, pipelined })
        })
    }
}

/// The number of blocks of `size` bytes that take some milliseconds, or `wanted`.
fn messages(size: usize, wanted: Option<u32>) -> u64 {
    let fitting = ((64 << 20) / (size as u64 + 300)).clamp(500, 200_000);
    wanted.map_or(fitting, u64::from)
}

/// The number of cache lines that a block takes in a ring.
fn lines(size: usize) -> f64 {
    (size + 8).div_ceil(64) as f64
}

/// All one-way measurements of one size.
struct Course {
    size: usize,
    floor: Vec<f64>,
    /// The kind of ends, the batch size, and the measured blocks.
    kinds: Vec<(Between, u64, Vec<f64>)>,
}

fn one_way(
    floor: &mut Floor,
    interrupt: &Interrupt,
    options: &Throughput,
    Session { about, wait, .. }: &Session,
    ring_size: usize,
) -> Result<Vec<OneWay>, Failure> {
    let program = this_program()?;
    let look = Look::usual(about.pin);
    let mut rings = Vec::new();
    for &between in &options.between {
        rings.push((between, OneWayRing::start(between, ring_size, *wait, about.pin, &program)?));
    }
    let breakers: Vec<_> = rings.iter().map(|(_, ring)| ring.breaker()).collect();
    interrupt.then(move || breakers.into_iter().for_each(|end| end()));
    let kinds: Vec<_> = options
        .between
        .iter()
        .flat_map(|&between| options.batches.iter().map(move |&batch| (between, batch, Vec::new())))
        .collect();
    let course = |&size| Course { size, floor: Vec::new(), kinds: kinds.clone() };
    let mut courses: Vec<Course> = options.sizes.iter().map(course).collect();
    let mut progress = Progress::new();
    for block in 0..about.blocks {
        for Course { size, floor: raw, kinds } in &mut courses {
            progress.show(format_args!(
                "one way, {}: block {block} of {}",
                readable_bytes(*size),
                about.blocks
            ));
            interrupt.check()?;
            let count = messages(*size, options.count);
            let piece = (*size).max(PIECE);
            let pieces = (count as f64 * lines(*size) / lines(piece)).clamp(50.0, 1e6) as u32;
            let time = floor.one_way_block(look, piece, pieces / 4, pieces, interrupt)?;
            raw.push(time * lines(*size) / lines(piece));
            let payload = vec![0x5a; *size];
            for (between, batch, blocks) in kinds {
                let ring = rings.iter_mut().find(|ring| ring.0 == *between);
                if let Some((_, ring)) = ring {
                    ring.block(&payload, count / 4 + 1, *batch)?;
                    blocks.push(ring.block(&payload, count, *batch)?);
                }
            }
        }
    }
    let measured = courses.iter().flat_map(|course| {
        course.kinds.iter().map(|(between, batch, blocks)| {
            let beside = Beside::of(blocks, &course.floor);
            let per_second = 1e9 / beside.ns.p50;
            OneWay {
                between: *between,
                size: course.size,
                batch: *batch,
                block_messages: messages(course.size, options.count),
                blocks: beside,
                per_second: tenths(per_second),
                bytes_per_s: tenths(per_second * course.size as f64),
                bandwidth_share: thousandths(1.0 / beside.ratio.p50),
            }
        })
    });
    Ok(measured.collect())
}

fn pipelined(setup: &mut Setup, options: &Throughput) -> Result<Vec<Window>, Failure> {
    let mut windows = options.windows.clone();
    windows.push(1);
    windows.sort_unstable();
    windows.dedup();
    let calls = options.count.unwrap_or(20_000);
    let mut floor = Blocks::new(ways(setup.floor_pins()));
    let mut requests = Requests::new(options.size);
    let mut blocks = vec![Vec::new(); windows.len()];
    for block in setup.blocks() {
        setup.begin(block, "pipelined")?;
        setup.floor(&mut floor, WARM, 500)?;
        // Wakes the server, which may have been stopped.
        for _ in 0..WARM {
            verified_call(&mut setup.client, &mut requests)?;
        }
        for (&window, blocks) in windows.iter().zip(&mut blocks) {
            blocks.push(window_block(&mut setup.client, requests.next(), window, calls)?);
        }
    }
    let floor = floor.faster().1;
    let one = &blocks[0];
    let window = |(&window, blocks): (&u32, &Vec<f64>)| {
        let beside = Beside::of(blocks, floor);
        Window {
            window,
            block_calls: calls,
            blocks: beside,
            per_second: tenths(1e9 / beside.ns.p50),
            times_one_at_a_time: Spread::of_ratios(&ratios(one, blocks)),
        }
    };
    Ok(windows.iter().zip(&blocks).map(window).collect())
}

impl Figures for Rates {
    fn text(&self, about: &About) -> String {
        let mut one_way = Table::new(
            "one way | batch | floor p50 | block p50 | ratio | per second | bandwidth | of raw copy's",
        );
        for row in &self.one_way {
            let between = match row.between {
                Between::Threads => "threads",
                Between::Processes => "processes",
            };
            one_way.row([
                format!("{}, {between}", readable_bytes(row.size)),
                row.batch.to_string(),
                format!("{:.1} ns", row.blocks.floor_ns.p50),
                format!("{:.1} ns", row.blocks.ns.p50),
                ratio(row.blocks.ratio.p50),
                format!("{:.2} M", row.per_second / 1e6),
                format!("{:.2} GB/s", row.bytes_per_s / 1e9),
                ratio(row.bandwidth_share),
            ]);
        }
        let mut pipelined =
            Table::new("outstanding calls | floor p50 | per call | ratio | per second | times one at a time");
        for row in &self.pipelined {
            pipelined.row([
                row.window.to_string(),
                nanoseconds(row.blocks.floor_ns.p50),
                format!("{:.1} ns", row.blocks.ns.p50),
                ratio(row.blocks.ratio.p50),
                format!("{:.2} M", row.per_second / 1e6),
                ratio(row.times_one_at_a_time.p50),
            ]);
        }
        format!(
            "{}\nOne way through a ring of {}, {} blocks; floor: a raw copy of as many cache lines through shared memory\n{}\
             \nCalls of {} through the server; floor: a bare shared-memory round trip\n{}",
            about.heading("Throughput"),
            readable_bytes(self.ring_size),
            about.blocks,
            one_way.text(),
            readable_bytes(self.size),
            pipelined.text(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_blocks_are_measured_in_smaller_numbers() {
        assert_eq!(messages(56, None), 188_508);
        assert_eq!(messages(1 << 20, None), 500);
        assert_eq!(messages(56, Some(3)), 3);
        assert_eq!((lines(56), lines(57), lines(4096)), (1.0, 2.0, 65.0));
    }
}
