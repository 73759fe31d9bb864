//! `ringpost-bench copy`: measures the latency of calls by their size.

use clap::Args;
use ringpost::WaitStrategy;
use ringpost::cli::args::{bytes, readable_bytes};
use ringpost::cli::exit::Failure;
use ringpost::cli::floor::Look;
use ringpost::cli::stats::{Beside, nanoseconds, tenths};
use ringpost::cli::table::Table;
use serde::Serialize;

use crate::calls::{Requests, WARM, call_block, calls_in_block};
use crate::measurement::{About, Figures, Measurement, Session, Waiting};
use crate::rows::ratios;
use crate::setup::{Setup, ring_size};

/// Divides the number of calls in a block, because there are many sizes.
const SHARE: u32 = 2;

#[derive(Debug, Args)]
pub struct Copy {
    /// The sizes of request and response
    #[arg(
        long,
        value_name = "BYTES,…",
        value_delimiter = ',',
        value_parser = bytes,
        default_value = "0,8,48,64,256,1K,4K,16K,64K,256K,1M,4M"
    )]
    sizes: Vec<usize>,

    /// Round trips in a block [default: 500, fewer for calls of more than 16 KiB]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: Option<u32>,
}

#[derive(Serialize)]
pub struct Sizes {
    sizes: Vec<Size>,
}

#[derive(Serialize)]
pub struct Size {
    size: usize,
    ring_size: usize,
    block_round_trips: u32,
    #[serde(flatten)]
    blocks: Beside,
    /// Payload bytes per second, of requests and responses together.
    bytes_per_s: f64,
}

impl Measurement for Copy {
    const NAME: &'static str = "copy";
    const BLOCKS: u32 = 40;
    const WAIT: WaitStrategy = WaitStrategy::Spin;
    type Waiting = Waiting;
    type Figures = Sizes;

    fn measure(&self, session: &mut Session) -> Result<Sizes, Failure> {
        let mut sizes = self.sizes.clone();
        sizes.sort_unstable();
        sizes.dedup();
        // Refuses invalid sizes before anything runs.
        let rings = sizes.iter().map(|&size| ring_size(size)).collect::<Result<Vec<_>, _>>()?;
        let mut measured = Vec::new();
        let mut rest = &sizes[..];
        // One server for all sizes with the same ring size: in a larger ring, small calls would need more
        // cache.
        while let Some(&first) = rest.first() {
            let ring = ring_size(first)?;
            let same = rings.iter().filter(|&&other| other == ring).count();
            let (these, others) = rest.split_at(same);
            rest = others;
            let plan = session.plan(these.last().copied().unwrap_or(first));
            measured.extend(session.with(plan, |setup| self.sizes(setup, these, ring))?);
        }
        Ok(Sizes { sizes: measured })
    }
}

impl Copy {
    fn sizes(&self, setup: &mut Setup, sizes: &[usize], ring_size: usize) -> Result<Vec<Size>, Failure> {
        let look = Look::usual(setup.floor_pins());
        let mut blocks = vec![(Vec::new(), Vec::new()); sizes.len()];
        let mut requests: Vec<Requests> = sizes.iter().map(|&size| Requests::new(size)).collect();
        let count = |size| self.count.unwrap_or_else(|| calls_in_block(size) / SHARE);
        for block in setup.blocks() {
            for (requests, (calls, floor)) in requests.iter_mut().zip(&mut blocks) {
                let size = requests.len();
                setup.begin(block, readable_bytes(size))?;
                let count = count(size);
                let warm = count.min(WARM);
                floor.push(
                    setup.beside(|floor, interrupt| floor.copy_block(look, size, warm, count, interrupt))?,
                );
                calls.push(call_block(&mut setup.client, requests, warm, count)?);
            }
        }
        let size = |(&size, (calls, floor)): (&usize, &(Vec<f64>, Vec<f64>))| {
            let blocks = Beside::of(calls, floor);
            let bytes_per_s = tenths(2e9 * size as f64 / blocks.ns.p50);
            Size { size, ring_size, block_round_trips: count(size), blocks, bytes_per_s }
        };
        Ok(sizes.iter().zip(&blocks).map(size).collect())
    }
}

impl Figures for Sizes {
    fn text(&self, about: &About) -> String {
        let mut table = Table::new("size | floor p50 | call p50 | ratio p10 | p50 | p90 | payload both ways");
        for Size { size, blocks, bytes_per_s, .. } in &self.sizes {
            table.row(
                [readable_bytes(*size), nanoseconds(blocks.floor_ns.p50), nanoseconds(blocks.ns.p50)]
                    .into_iter()
                    .chain(ratios(blocks.ratio))
                    .chain([format!("{:.2} GB/s", bytes_per_s / 1e9)]),
            );
        }
        format!(
            "{}\n{} pairs of blocks; floor: as many bytes copied in and out at both ends, through buffers as large as the \
             rings\n{}",
            about.heading("Latency of a call by the size of request and response"),
            about.blocks,
            table.text(),
        )
    }
}
