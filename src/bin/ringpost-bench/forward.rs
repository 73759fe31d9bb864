//! `ringpost-bench forward`: measures a message from client A through the server to client B and back.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use ringpost::cli::args::{bytes, readable_bytes};
use ringpost::cli::child::die_with_parent;
use ringpost::cli::cpu::{self, Pins};
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::floor::Blocks;
use ringpost::cli::floor_futex::Sleep;
use ringpost::cli::out;
use ringpost::cli::stats::{Beside, Summary, Times};
use ringpost::cli::table::Table;
use ringpost::{Client, Key, Name, RecvError, WaitStrategy};
use serde::Serialize;

use crate::calls::Requests;
use crate::measurement::{About, Figures, Measurement, Session, Waiting, warn_too_few};
use crate::rows::{percentiles, ratio, spread};
use crate::setup::{Setup, ways};

const WARM: u32 = 50;
const FLOOR: u32 = 500;
/// The threads at work: A, B and their workers.
const THREADS: usize = 4;
const ECHO: &str = "ringpost-bench-echo";

#[derive(Debug, Args)]
pub struct Forward {
    /// The size of a message
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "48")]
    size: usize,

    /// Round trips in a block
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), default_value = "300")]
    count: u32,
}

/// The arguments of B's process.
#[derive(Debug, Args)]
pub struct EchoOptions {
    socket: PathBuf,
    wait: WaitStrategy,
}

#[derive(Serialize)]
pub struct Forwarded {
    size: usize,
    block_round_trips: u32,
    /// Compared with two bare shared-memory round trips.
    #[serde(flatten)]
    words: Beside,
    /// Compared with two round trips of a raw futex pair.
    futex: Beside,
    rtt_ns: Summary,
    distribution: Vec<(f64, u64)>,
}

impl Measurement for Forward {
    const NAME: &'static str = "forward";
    const BLOCKS: u32 = 60;
    const WAIT: WaitStrategy = WaitStrategy::Adaptive;
    type Waiting = Waiting;
    type Figures = Forwarded;

    /// Not pinned by default, because four threads are at work.
    fn place(&self, _pins: Option<Pins>, pin: Option<Pins>) -> Option<Pins> {
        pin
    }

    fn measure(&self, session: &mut Session) -> Result<Forwarded, Failure> {
        session.about.too_few_cpus |= session.wait == WaitStrategy::Spin
            && warn_too_few("A, B and their two workers, spinning,", THREADS, "they compete for CPUs");
        session.with(session.plan(self.size), |setup| self.there_and_back(setup, session))
    }
}

impl Forward {
    fn there_and_back(&self, setup: &mut Setup, session: &Session) -> Result<Forwarded, Failure> {
        let most = setup.client.limits().max_message;
        if self.size > most {
            return Err(Failure::usage(format!(
                "--size {}: a message can have at most {most} bytes",
                self.size
            )));
        }
        let wait = session.wait.to_string();
        // Start B before it could inherit this thread's CPU.
        let mut echo = {
            let _freedom = cpu::SavedAffinity::save();
            if let Some(pins) = session.about.pin {
                cpu::pin(pins.server).map_err(Failure::Failed)?;
            }
            let arguments = ["echo-client".as_ref(), setup.socket().as_os_str(), wait.as_ref()];
            setup.helper(&arguments, Duration::from_secs(10))?
        };
        let name = Name::try_from(ECHO).map_err(Failure::failed)?;
        let found = setup.client.look_up(name).map_err(Failure::failed)?;
        let echo_key = found.ok_or_else(|| Failure::failed("the echoing client is not registered"))?;

        let mut messages = Requests::new(self.size);
        let mut words = Blocks::new(ways(session.floor_pins));
        let (mut futex, mut ours, mut times) = (Vec::new(), Vec::new(), Times::new());
        for block in setup.blocks() {
            setup.begin(block, "there and back")?;
            echo.check()?;
            setup.floor(&mut words, WARM, FLOOR)?;
            futex.push(
                2.0 * setup
                    .beside(|floor, interrupt| floor.futex_block(Sleep::OneWord, 20, 100, interrupt))?,
            );
            for _ in 0..WARM {
                forward(&mut setup.client, echo_key, &mut messages)?;
            }
            let start = Instant::now();
            for _ in 0..self.count {
                forward(&mut setup.client, echo_key, &mut messages)?;
            }
            ours.push(start.elapsed().as_nanos() as f64 / f64::from(self.count));
            for _ in 0..self.count {
                let start = Instant::now();
                forward(&mut setup.client, echo_key, &mut messages)?;
                times.record(start.elapsed());
            }
        }
        let twice: Vec<f64> = words.faster().1.iter().map(|floor| 2.0 * floor).collect();
        Ok(Forwarded {
            size: self.size,
            block_round_trips: self.count,
            words: Beside::of(&ours, &twice),
            futex: Beside::of(&ours, &futex),
            rtt_ns: times.summary(),
            distribution: times.distribution(),
        })
    }
}

/// Sends a message and waits for its return.
fn forward(client: &mut Client, to: Key, messages: &mut Requests) -> Outcome {
    let message = messages.next();
    client.send(to, message).map_err(Failure::failed)?;
    let answer = client.recv().map_err(Failure::failed)?;
    if answer.payload() == message {
        Ok(())
    } else {
        Err(Failure::failed("an answer differs from its message, so the measurement is invalid"))
    }
}

/// B: returns every message, until it is killed or the server ends.
pub fn echo(options: &EchoOptions) -> Outcome {
    die_with_parent();
    let mut client = register(&options.socket, options.wait)?;
    out::line("ready")?;
    loop {
        let message = match client.recv() {
            Ok(message) => message,
            Err(RecvError::Disconnected(_)) => return Ok(()),
            Err(error) => return Err(Failure::failed(error)),
        };
        client.send(message.sender(), message.payload()).map_err(Failure::failed)?;
    }
}

fn register(socket: &Path, wait: WaitStrategy) -> Result<Client, Failure> {
    Client::builder(socket).wait(wait).register(ECHO).map_err(Failure::failed)
}

impl Figures for Forwarded {
    fn text(&self, about: &About) -> String {
        let mut table = Table::new("| p10 | p50 | p90 | ratio");
        for (name, times, to_floor) in [
            ("A, server, B and back", self.words.ns, None),
            ("two bare round trips", self.words.floor_ns, Some(self.words.ratio)),
            ("two round trips of a raw futex pair", self.futex.floor_ns, Some(self.futex.ratio)),
        ] {
            let to_floor = to_floor.map(|spread| ratio(spread.p50)).unwrap_or_default();
            table.row(spread(name, times).into_iter().chain([to_floor]));
        }
        let size = readable_bytes(self.size);
        format!(
            "{}\n{} blocks of {} round trips, compared with two floors\n{}\nEach round trip timed\n{}",
            about.heading(&format!("A message of {size} to another client and back")),
            about.blocks,
            self.block_round_trips,
            table.text(),
            percentiles("", [("message and answer", self.rtt_ns)]),
        )
    }
}
