//! `ringpost-bench link`: measures calls from client to client over a link.

mod ends;
mod many;
pub mod serving;
mod text;
mod trips;

pub use many::{IdleLinksOptions, idle_links};

use std::time::Duration;

use clap::{Args, ValueEnum};
use ringpost::WaitStrategy;
use ringpost::cli::args::{bytes, seconds};
use ringpost::cli::cpu::Pins;
use ringpost::cli::exit::Failure;
use serde::Serialize;

use crate::measurement::{Measurement, Session, Waiting, warn};

/// A part of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Single calls: spinning, adaptive and parked, across CPUs and on one
    Calls,
    /// Calls by size
    Sizes,
    /// Calls with several outstanding
    Windows,
    /// One way
    Posts,
    /// Links that are opened and closed
    Open,
    /// Many clients that all call one
    Busy,
    /// Many links that nobody uses
    Idle,
}

#[derive(Debug, Args)]
pub struct Link {
    /// What is measured
    #[arg(
        long,
        value_name = "PART,…",
        value_delimiter = ',',
        value_enum,
        default_value = "calls,sizes,windows,posts,open,busy,idle"
    )]
    parts: Vec<Part>,

    /// The size of request and response, and of a post
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "48")]
    size: usize,

    /// The sizes of calls by size
    #[arg(long, value_name = "BYTES,…", value_delimiter = ',', value_parser = bytes, default_value = "64,256,1K,4K,16K,64K")]
    sizes: Vec<usize>,

    /// The numbers of outstanding calls
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=4096),
        default_value = "1,4,16,64"
    )]
    windows: Vec<u32>,

    /// The number of posts, or of calls with several outstanding, in a block
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000), default_value = "20000")]
    count: u32,

    /// The number of links, or of registrations, in a block
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), default_value = "100")]
    opens: u32,

    /// The number of busy clients
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000), default_value = "64")]
    busy: u32,

    /// How long the busy clients call in a block
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "0.5")]
    seconds: Duration,

    /// The number of idle links
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4_000), default_value = "1000")]
    idle: u32,

    /// The time over which the CPU time is measured with idle links
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "10")]
    idle_seconds: Duration,
}

/// The results, with those parts that were measured.
#[derive(Serialize)]
pub struct Links {
    size: usize,
    calls: Vec<trips::Calls>,
    sizes: Vec<trips::Size>,
    windows: Vec<trips::Window>,
    posts: Option<ends::Posts>,
    open: Option<ends::Opened>,
    busy: Option<many::Busy>,
    idle: Option<many::Idle>,
}

impl Measurement for Link {
    const NAME: &'static str = "link";
    const BLOCKS: u32 = 40;
    const WAIT: WaitStrategy = WaitStrategy::Spin;
    type Waiting = Waiting;
    type Figures = Links;

    fn place(&self, pins: Option<Pins>, _pin: Option<Pins>) -> Option<Pins> {
        warn(pins);
        pins
    }

    fn measure(&self, session: &mut Session) -> Result<Links, Failure> {
        let session = &*session;
        let wanted = |part| self.parts.contains(&part);
        let calls = match wanted(Part::Calls) {
            true => trips::modes(session)?
                .iter()
                .map(|mode| trips::calls(session, mode, self.size))
                .collect::<Result<_, _>>()?,
            false => Vec::new(),
        };
        let sizes = match wanted(Part::Sizes) {
            true => trips::sizes(session, &self.sizes)?,
            false => Vec::new(),
        };
        let windows = match wanted(Part::Windows) {
            true => trips::windows(session, &self.windows, self.size, self.count)?,
            false => Vec::new(),
        };
        let posts = wanted(Part::Posts).then(|| ends::posts(session, self.size, self.count)).transpose()?;
        let open = wanted(Part::Open).then(|| ends::opened(session, self.opens)).transpose()?;
        let busy = wanted(Part::Busy).then(|| many::busy(session, self.busy, self.size, self.seconds));
        let busy = busy.transpose()?;
        let idle =
            wanted(Part::Idle).then(|| many::idle(session, self.idle, self.idle_seconds)).transpose()?;
        Ok(Links { size: self.size, calls, sizes, windows, posts, open, busy, idle })
    }
}
