//! `ringpost-bench ready`: measures ends that wait in event loops.

mod asleep;
#[cfg(feature = "tokio")]
mod futures;
mod idle;
mod kickable;
pub mod serving;
mod text;
mod wait;

pub use idle::{ArmedClientsOptions, armed_clients};

#[cfg(feature = "tokio")]
pub use futures::{EchoOptions, echo};

use std::time::Duration;

use clap::{Args, ValueEnum};
use ringpost::WaitStrategy;
use ringpost::cli::args::{bytes, seconds};
use ringpost::cli::cpu::Pins;
use ringpost::cli::exit::{Failure, note};
use ringpost::cli::floor_epoll::LARGEST;
use ringpost::cli::stats::{Beside, Spread};
use serde::Serialize;

use crate::measurement::{Measurement, NoWaiting, Session};

/// A part of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Calls of a client that sleeps in epoll to a server that sleeps
    Calls,
    /// Calls over a link that is served in an event loop; both ends sleep in epoll
    Loops,
    /// Calls of a tokio client to a server that spins
    Soon,
    /// Calls of a tokio client to a server that sleeps
    Futures,
    /// Many tokio clients of one process that all call
    Many,
    /// Many armed clients that nobody uses
    Idle,
    /// What it costs that an end may be armed
    Kickable,
}

impl Part {
    /// Whether it needs tokio.
    fn is_of_tokio(self) -> bool {
        matches!(self, Part::Soon | Part::Futures | Part::Many)
    }
}

#[derive(Debug, Args)]
pub struct Ready {
    /// What is measured
    #[arg(
        long,
        value_name = "PART,…",
        value_delimiter = ',',
        value_enum,
        default_value = "calls,loops,soon,futures,many,idle,kickable"
    )]
    parts: Vec<Part>,

    /// The size of request and response: at most 4096
    #[arg(long, value_name = "BYTES", value_parser = size, default_value = "48")]
    size: usize,

    /// Round trips in a block, where ends sleep
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), default_value = "200")]
    count: u32,

    /// The number of tokio clients that all call
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000), default_value = "100")]
    many: u32,

    /// How long they call in a block
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "0.3")]
    seconds: Duration,

    /// The number of idle clients
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4_000), default_value = "1000")]
    idle: u32,

    /// The time over which the CPU time is measured with idle clients
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "10")]
    idle_seconds: Duration,
}

/// A size of which the pipes of the floor take a whole message at once.
fn size(text: &str) -> Result<usize, String> {
    let size = bytes(text)?;
    if (1..=LARGEST).contains(&size) { Ok(size) } else { Err(format!("give 1 to {LARGEST} bytes")) }
}

/// The results, with those parts that were measured.
#[derive(Serialize)]
pub struct Loops {
    size: usize,
    /// Whether this program was built with tokio.
    tokio: bool,
    calls: Vec<asleep::Calls>,
    loops: Vec<asleep::Calls>,
    soon: Option<Soon>,
    futures: Vec<Futures>,
    many: Option<Many>,
    idle: Option<idle::Idle>,
    kickable: Option<kickable::Kickable>,
}

/// Calls of a tokio client that finds its response by a brief look.
#[derive(Serialize)]
pub struct Soon {
    pub pin: Pins,
    pub block_calls: u32,
    /// Compared with calls that block and wait adaptively, whose times are in place of the floor's.
    #[serde(flatten)]
    pub blocks: Beside,
    pub wakes: wait::Wakes,
}

/// Calls of a tokio client to a server that sleeps.
#[derive(Serialize)]
pub struct Futures {
    pub place: &'static str,
    pub pin: Pins,
    pub block_calls: u32,
    /// Compared with an echo over a Unix stream socket between two processes with tokio.
    #[serde(flatten)]
    pub blocks: Beside,
    pub wakes: wait::Wakes,
}

/// Many tokio clients of one process, compared with as many Unix stream sockets of it.
#[derive(Serialize)]
pub struct Many {
    pub clients: u32,
    pub block_seconds: f64,
    /// Calls per second of all together.
    pub per_second: Spread,
    pub socket_per_second: Spread,
    pub ratio: Spread,
    /// The rate of the slowest client as a fraction of the mean.
    pub slowest_to_mean: Spread,
    pub socket_slowest_to_mean: Spread,
    pub wakes: wait::Wakes,
}

impl Measurement for Ready {
    const NAME: &'static str = "ready";
    const BLOCKS: u32 = 40;
    const WAIT: WaitStrategy = WaitStrategy::Park;
    type Waiting = NoWaiting;
    type Figures = Loops;

    /// Measures both placements itself, so there is nothing to warn of.
    fn place(&self, pins: Option<Pins>, _pin: Option<Pins>) -> Option<Pins> {
        pins
    }

    fn measure(&self, session: &mut Session) -> Result<Loops, Failure> {
        let session = &*session;
        let wanted = |part: Part| self.parts.contains(&part);
        if !cfg!(feature = "tokio") && self.parts.iter().any(|part| part.is_of_tokio()) {
            note(
                "ringpost-bench: built without tokio, so its parts (soon, futures, many) are left out: build with `cargo \
                 build --release --features cli,tokio --bins`",
            );
        }
        let calls = match wanted(Part::Calls) {
            true => asleep::calls(session, self.size, self.count)?,
            false => Vec::new(),
        };
        let loops = match wanted(Part::Loops) {
            true => asleep::loops(session, self.size, self.count)?,
            false => Vec::new(),
        };
        let (soon, futures, many) = self.with_tokio(session, wanted)?;
        let idle =
            wanted(Part::Idle).then(|| idle::idle(session, self.idle, self.idle_seconds)).transpose()?;
        let kickable = match wanted(Part::Kickable) {
            true => kickable::kickable(session, self.size)?,
            false => None,
        };
        let tokio = cfg!(feature = "tokio");
        Ok(Loops { size: self.size, tokio, calls, loops, soon, futures, many, idle, kickable })
    }
}

/// The parts with tokio.
type WithTokio = (Option<Soon>, Vec<Futures>, Option<Many>);

impl Ready {
    #[cfg(feature = "tokio")]
    fn with_tokio(&self, session: &Session, wanted: impl Fn(Part) -> bool) -> Result<WithTokio, Failure> {
        let soon = match wanted(Part::Soon) {
            true => futures::soon(session, self.size)?,
            false => None,
        };
        let futures = match wanted(Part::Futures) {
            true => futures::asleep(session, self.size, self.count)?,
            false => Vec::new(),
        };
        let many = wanted(Part::Many).then(|| futures::many(session, self.many, self.size, self.seconds));
        Ok((soon, futures, many.transpose()?))
    }

    #[cfg(not(feature = "tokio"))]
    fn with_tokio(&self, _session: &Session, _wanted: impl Fn(Part) -> bool) -> Result<WithTokio, Failure> {
        Ok((None, Vec::new(), None))
    }
}
