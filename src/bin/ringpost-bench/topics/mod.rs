//! `ringpost-bench topics`: measures topics, each figure beside its floor or beside what it is to be compared
//! with.

mod frames;
mod malicious;
mod memory;
mod partner;
mod sleepers;
mod spinning;
mod text;
mod words;

pub use partner::{PartnerOptions, partner};

use clap::{Args, ValueEnum};
use ringpost::WaitStrategy;
use ringpost::cli::args::bytes;
use ringpost::cli::cpu::Pins;
use ringpost::cli::exit::{Failure, note};
use serde::Serialize;

use crate::measurement::{Measurement, NoWaiting, Session, apart, warn};

/// The most clients of any part.
const MOST: u32 = 256;

/// A part of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Publishing to one reader that spins
    Publish,
    /// There and back over two topics
    Trips,
    /// What many subscriptions cost the publisher
    Cost,
    /// One sample to many subscribers that sleep, beside as many futex wakes
    Wakes,
    /// The same beside as many acknowledged sends
    Sends,
    /// Large samples in place
    Frames,
    /// The memory of a subscription
    Memory,
    /// A malicious subscriber
    Malicious,
}

#[derive(Debug, Args)]
pub struct Topics {
    /// What is measured
    #[arg(
        long,
        value_name = "PART,…",
        value_delimiter = ',',
        value_enum,
        default_value = "publish,trips,cost,wakes,sends,frames,memory,malicious"
    )]
    parts: Vec<Part>,

    /// The number of samples in a block, where nobody sleeps
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000), default_value = "100000")]
    count: u32,

    /// The number of subscriptions whose cost is measured, and of parked subscribers
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200), default_value = "64")]
    subscriptions: u32,

    /// The number of subscribers beside as many acknowledged sends
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200), default_value = "50")]
    inboxes: u32,

    /// The number of samples in a block, where readers sleep, or samples are large
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000), default_value = "10")]
    few: u32,

    /// The size of a large sample
    #[arg(long, value_name = "BYTES", value_parser = frame, default_value = "4M")]
    frame: usize,

    /// The number of subscriptions whose memory is measured
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1_000), default_value = "500")]
    held: u32,
}

fn frame(text: &str) -> Result<usize, String> {
    let size = bytes(text)?;
    if frames::SIZES.contains(&size) { Ok(size) } else { Err("give 48 bytes to 128M".into()) }
}

/// The results, with those parts that were measured.
#[derive(Serialize)]
pub struct Measured {
    size: usize,
    publish: Option<spinning::Publishing>,
    trips: Option<spinning::Trips>,
    cost: Option<spinning::Cost>,
    wakes: Option<sleepers::Woken>,
    sends: Option<sleepers::Woken>,
    frames: Option<frames::Frames>,
    memory: Option<memory::Taken>,
    malicious: Option<malicious::Malicious>,
}

impl Measurement for Topics {
    const NAME: &'static str = "topics";
    const BLOCKS: u32 = 40;
    const WAIT: WaitStrategy = WaitStrategy::Adaptive;
    type Waiting = NoWaiting;
    type Figures = Measured;

    fn place(&self, pins: Option<Pins>, _pin: Option<Pins>) -> Option<Pins> {
        warn(pins);
        pins
    }

    fn measure(&self, session: &mut Session) -> Result<Measured, Failure> {
        let session = &*session;
        let spins = apart(session.about.pin);
        if !spins {
            note(
                "ringpost-bench: readers that spin need a CPU of their own: what is measured with them is left out",
            );
        }
        let wanted = |part: Part| self.parts.contains(&part);
        let spinning = |part: Part| spins && wanted(part);
        let count = u64::from(self.count);
        Ok(Measured {
            size: partner::SIZE,
            publish: spinning(Part::Publish).then(|| spinning::publishing(session, count)).transpose()?,
            trips: spinning(Part::Trips).then(|| spinning::trips(session)).transpose()?,
            cost: wanted(Part::Cost)
                .then(|| spinning::cost(session, self.subscriptions, count))
                .transpose()?,
            wakes: wanted(Part::Wakes)
                .then(|| sleepers::wakes(session, self.subscriptions, self.few))
                .transpose()?,
            sends: wanted(Part::Sends)
                .then(|| sleepers::sends(session, self.inboxes, self.few))
                .transpose()?,
            frames: spinning(Part::Frames)
                .then(|| frames::frames(session, self.frame, self.few))
                .transpose()?,
            memory: wanted(Part::Memory).then(|| memory::taken(session, self.held)).transpose()?,
            malicious: spinning(Part::Malicious).then(|| malicious::malicious(session)).transpose()?,
        })
    }
}
