//! A client process with topics: publishes, subscribes and watches who is there at random, and goes on over
//! the ends of servers, until it is killed.

pub mod content;
pub mod order;
pub mod publishing;
mod session;
mod standing;
mod subscribing;
mod watching;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use ringpost::testing::Segment;
use ringpost::{Client, Reconnect, RegisterError, WaitStrategy};

use super::census::Holdings;
use super::client::within;
use super::history::{Gate, Kind, Op, Outcome, Writer};
use super::plan::{TOPICS, Waits};
use super::random::Random;
use super::server::no_core;
use ringpost::cli::child::die_with_parent;
use ringpost::cli::exit::{Failure, Outcome as Ended};
use session::Session;

/// How long a registration, or a question, may take.
const ASKING: Duration = Duration::from_secs(2);

/// The process's arguments.
#[derive(Debug, Args)]
pub struct TopicsOptions {
    socket: PathBuf,
    seed: u64,
    /// Which of `slots` it is.
    slot: u64,
    slots: u64,
}

/// The words of an operation with this deadline.
fn deadline(time: Duration) -> [u64; 6] {
    [time.as_nanos() as u64, 0, 0, 0, 0, 0]
}

/// The process's options and its history; shared by its threads.
pub struct Topical {
    options: TopicsOptions,
    history: Writer,
    /// What the process held before its first registration.
    at_first: Holdings,
}

pub fn run(options: TopicsOptions) -> Ended {
    die_with_parent();
    no_core();
    let segment = Segment::open(io::stdin())
        .map_err(|error| Failure::failed(format!("standard input is not a history: {error}")))?;
    let at_first = Holdings::of(std::process::id()).unwrap_or_default();
    let topical = Topical { options, history: Writer::new(segment), at_first };
    let mut registrations = 0;
    loop {
        let gate = topical.history.gate();
        let Gate::Open(round) = gate else {
            topical.check_holdings();
            topical.stand_still(gate);
            continue;
        };
        let TopicsOptions { seed, slot, .. } = topical.options;
        registrations += 1;
        let mut random = Random::of(&[seed, round.into(), slot, topical.history.life(), registrations, 7]);
        let again = !random.once_in(3);
        if let Some(client) = topical.register(round, again, &mut random) {
            let waits = Waits::of(seed, round, TOPICS + slot);
            Session::new(&topical, client, again, waits, random).run();
        }
    }
}

impl Topical {
    /// Does nothing until the gate changes.
    fn stand_still(&self, gate: Gate) {
        let words = [gate.word().into(), 0, 0, 0, 0, 0];
        self.history.put(Kind::Idle, 0, Op::None, Outcome::Ok, words);
        self.history.wait_for_gate(gate);
    }

    /// Checks that nothing is held without a registration. The watcher has two seconds to release the
    /// last things.
    fn check_holdings(&self) {
        let until = Instant::now() + ASKING;
        loop {
            // Before the look: this process may be held up between the two.
            let late = Instant::now() >= until;
            let held = Holdings::of(std::process::id()).unwrap_or_default();
            if held.channels == 0 && held.topics == 0 && within(&held, &self.at_first) {
                return;
            }
            if late {
                let what = format!("without a registration it holds {held:?}; at first {:?}", self.at_first);
                self.history.violation(0, Op::None, &what);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Tries to register until that succeeds or the gate changes.
    fn register(&self, round: u32, again: bool, random: &mut Random) -> Option<Client> {
        let strategy = match random.below(8) {
            0 => WaitStrategy::Spin,
            1..=3 => WaitStrategy::Park,
            _ => WaitStrategy::Adaptive,
        };
        let mut builder = Client::builder(&self.options.socket).wait(strategy).timeout(ASKING);
        if again {
            let reconnect = Reconnect::default()
                .first_delay(Duration::from_millis(1))
                .longest_delay(Duration::from_millis(10));
            builder = builder.reconnect(reconnect);
        }
        while self.history.gate() == Gate::Open(round) {
            self.history.begin(0, Op::Register, deadline(ASKING));
            let registered = builder.register(format!("chaos-topics-{}", self.options.slot));
            let outcome = registered.as_ref().map_or_else(|error| self.outcome(error), |_| Outcome::Ok);
            self.history.end(0, Op::Register, outcome, deadline(ASKING));
            match registered {
                Ok(client) => return Some(client),
                Err(_) => std::thread::sleep(Duration::from_micros(500)),
            }
        }
        None
    }

    /// What the server or the system answered to one who wanted to register, or asked for something else.
    fn outcome(&self, error: &RegisterError) -> Outcome {
        match error {
            RegisterError::NameTaken { .. } => Outcome::NameTaken,
            RegisterError::NoServer { .. } => Outcome::NoServer,
            RegisterError::TimedOut { .. } => Outcome::TimedOut,
            RegisterError::Refused(_) | RegisterError::Full(_) => Outcome::Refused,
            RegisterError::System { .. } | RegisterError::Channel(_) => Outcome::System,
            _ => self.history.violation(0, Op::Register, &format!("{error:?}")),
        }
    }
}
