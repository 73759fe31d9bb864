//! `ringpost-bench copy`: the round trip of a call by its size.

use std::path::PathBuf;

use clap::Args;
use ringpost::WaitStrategy;
use serde::Serialize;

use crate::calls::{Requests, WARM, call_block, calls_in_block};
use crate::ends::{About, Common, Waiting, warn};
use crate::rig::{Plan, Rig, ring_size};
use ringpost::cli::args::{bytes, readable_bytes};
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::floor::Look;
use ringpost::cli::out::{self, Progress};
use ringpost::cli::signals::Interrupt;
use ringpost::cli::stats::{Beside, nanoseconds, tenths};
use ringpost::cli::table::Table;

const BLOCKS: u32 = 40;
/// Much less than a small call's block: there are many sizes.
const SHARE: u32 = 2;

#[derive(Debug, Args)]
pub struct CopyOptions {
    /// The sizes of request and response
    #[arg(
        long,
        value_name = "BYTES,…",
        value_delimiter = ',',
        value_parser = bytes,
        default_value = "0,8,48,64,256,1K,4K,16K,64K,256K,1M,4M"
    )]
    pub sizes: Vec<usize>,

    /// Round trips in a block [default: 500, fewer for calls of more than 16 KiB]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub count: Option<u32>,

    #[command(flatten)]
    pub waiting: Waiting,

    #[command(flatten)]
    pub common: Common,
}

#[derive(Serialize)]
struct Object {
    #[serde(flatten)]
    about: About,
    sizes: Vec<Size>,
}

#[derive(Serialize)]
struct Size {
    size: usize,
    ring_size: usize,
    block_round_trips: u32,
    #[serde(flatten)]
    blocks: Beside,
    /// Payload of requests and responses together.
    bytes_per_s: f64,
}

pub fn run(socket: Option<PathBuf>, options: &CopyOptions) -> Outcome {
    let pins = options.common.pins()?;
    let wait = options.waiting.or(WaitStrategy::Spin, pins)?;
    warn(pins);
    let about = About::new("copy", wait, pins, options.common.blocks_or(BLOCKS));
    let interrupt = Interrupt::install()?;
    let mut sizes = options.sizes.clone();
    sizes.sort_unstable();
    sizes.dedup();
    // Checked before anything runs.
    let rings = sizes.iter().map(|&size| ring_size(size)).collect::<Result<Vec<_>, _>>()?;
    let mut measured = Vec::new();
    let mut rest = &sizes[..];
    // One server for all sizes that have the same rings: a small call would walk through large ones, too.
    while let Some(&first) = rest.first() {
        let ring = ring_size(first)?;
        let same = rings.iter().filter(|&&other| other == ring).count();
        let (these, others) = rest.split_at(same);
        rest = others;
        let largest = these.last().copied().unwrap_or(first);
        let plan = Plan::new(socket.clone(), largest, wait, pins);
        measured.extend(Rig::new(&interrupt, plan)?.run(|rig| measure(rig, options, &about, these, ring))?);
    }
    let object = Object { about, sizes: measured };
    if options.common.json { out::json(&object) } else { out::put(object.text().as_bytes()) }
}

fn measure(
    rig: &mut Rig,
    options: &CopyOptions,
    about: &About,
    sizes: &[usize],
    ring_size: usize,
) -> Result<Vec<Size>, Failure> {
    let mut progress = Progress::new();
    let look = Look::usual(about.pin);
    let mut blocks = vec![(Vec::new(), Vec::new()); sizes.len()];
    let mut requests: Vec<Requests> = sizes.iter().map(|&size| Requests::new(size)).collect();
    let count = |size| options.count.unwrap_or_else(|| calls_in_block(size) / SHARE);
    for block in 0..about.blocks {
        for (requests, (calls, floor)) in requests.iter_mut().zip(&mut blocks) {
            let size = requests.len();
            progress.show(format_args!("{}: block {block} of {}", readable_bytes(size), about.blocks));
            rig.interrupt.check()?;
            let count = count(size);
            let warm = count.min(WARM);
            floor.push(rig.beside(|floor, interrupt| floor.copy_block(look, size, warm, count, interrupt))?);
            calls.push(call_block(&mut rig.client, requests, warm, count)?);
        }
    }
    let size = |(&size, (calls, floor)): (&usize, &(Vec<f64>, Vec<f64>))| {
        let blocks = Beside::of(calls, floor);
        let bytes_per_s = tenths(2e9 * size as f64 / blocks.ns.p50);
        Size { size, ring_size, block_round_trips: count(size), blocks, bytes_per_s }
    };
    Ok(sizes.iter().zip(&blocks).map(size).collect())
}

impl Object {
    fn text(&self) -> String {
        let mut table =
            Table::new(&["size", "floor p50", "call p50", "ratio p10", "p50", "p90", "payload both ways"]);
        for Size { size, blocks, bytes_per_s, .. } in &self.sizes {
            let ratios = [blocks.ratio.p10, blocks.ratio.p50, blocks.ratio.p90];
            table.row(
                [readable_bytes(*size), nanoseconds(blocks.floor_ns.p50), nanoseconds(blocks.ns.p50)]
                    .into_iter()
                    .chain(ratios.map(|ratio| format!("{ratio:.2}")))
                    .chain([format!("{:.2} GB/s", bytes_per_s / 1e9)]),
            );
        }
        format!(
            "{}\n{} pairs of blocks; the floor: as many bytes copied in and out on both sides, walking buffers as \
             large as the rings\n{}",
            self.about.heading("Round trip of a call by the size of request and response"),
            self.about.blocks,
            table.text(),
        )
    }
}
