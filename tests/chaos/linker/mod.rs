//! A client process with links: listens, connects, calls, posts, closes and leaves at random, and goes on
//! over the ends of servers, until it is killed.

pub mod content;
mod open;
mod service;
mod serving;
mod serving_loop;
mod session;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use ringpost::testing::Segment;
use ringpost::{Client, CloseReason, Reconnect, RegisterError, WaitStrategy};

use super::census::Holdings;
use super::client::within;
use super::history::{Gate, Kind, Op, Outcome, Writer};
use super::plan::{LINKERS, Waits};
use super::random::Random;
use super::server::no_core;
use ringpost::cli::child::die_with_parent;
use ringpost::cli::exit::{Failure, Outcome as Ended};
use session::Session;

/// How long a registration may take.
const REGISTERING: Duration = Duration::from_secs(2);

/// The process's arguments.
#[derive(Debug, Args)]
pub struct LinkerOptions {
    socket: PathBuf,
    seed: u64,
    /// Which of `slots` it is.
    slot: u64,
    slots: u64,
}

/// The name of the client with links in this slot.
fn name_of(slot: u64) -> String {
    format!("chaos-link-{slot}")
}

/// The words of an operation with this deadline.
fn deadline(time: Duration) -> [u64; 6] {
    [time.as_nanos() as u64, 0, 0, 0, 0, 0]
}

/// The process's options and its history; shared by its threads.
pub struct Linker {
    options: LinkerOptions,
    history: Writer,
    /// What the process held before its first registration.
    at_first: Holdings,
}

pub fn run(options: LinkerOptions) -> Ended {
    die_with_parent();
    no_core();
    super::content::quiet_panics();
    let segment = Segment::open(io::stdin())
        .map_err(|error| Failure::failed(format!("standard input is not a history: {error}")))?;
    let at_first = Holdings::of(std::process::id()).unwrap_or_default();
    let linker = Arc::new(Linker { options, history: Writer::new(segment), at_first });
    let mut registrations = 0;
    loop {
        let gate = linker.history.gate();
        let Gate::Open(round) = gate else {
            linker.check_holdings("without a registration", |held| {
                held.channels == 0 && held.links == 0 && within(held, &linker.at_first)
            });
            linker.stand_still(gate);
            continue;
        };
        let LinkerOptions { seed, slot, .. } = linker.options;
        registrations += 1;
        let mut random = Random::of(&[seed, round.into(), slot, linker.history.life(), registrations, 5]);
        let again = !random.once_in(4);
        if let Some(client) = linker.register(round, again, &mut random) {
            let waits = Waits::of(seed, round, LINKERS + slot);
            Session::new(&linker, client, again, waits, random).run();
        }
    }
}

impl Linker {
    /// Does nothing until the gate changes.
    fn stand_still(&self, gate: Gate) {
        let words = [gate.word().into(), 0, 0, 0, 0, 0];
        self.history.put(Kind::Idle, 0, Op::None, Outcome::Ok, words);
        self.history.wait_for_gate(gate);
    }

    /// Checks what the process holds. The watcher and threads that were joined have two seconds to
    /// release the last things.
    fn check_holdings(&self, when: &str, is_right: impl Fn(&Holdings) -> bool) {
        let until = Instant::now() + Duration::from_secs(2);
        loop {
            // Before the look: this process may be held up between the two.
            let late = Instant::now() >= until;
            let held = Holdings::of(std::process::id()).unwrap_or_default();
            if is_right(&held) {
                return;
            }
            if late {
                let what = format!("{when} it holds {held:?}; at first {:?}", self.at_first);
                self.history.violation(0, Op::None, &what);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// A link has ended, and why.
    fn link_over(&self, thread: u8, reason: CloseReason, pid: u32) {
        let known = [CloseReason::Local, CloseReason::Peer, CloseReason::Unregistered, CloseReason::Died];
        if !known.contains(&reason) {
            self.history.violation(thread, Op::CloseLink, &format!("a link ended as {reason:?}"));
        }
        let words = [0, pid.into(), reason as u64, 0, 0, 0];
        self.history.put(Kind::LinkOver, thread, Op::CloseLink, Outcome::Ok, words);
    }

    /// Tries to register until that succeeds or the gate changes.
    fn register(&self, round: u32, again: bool, random: &mut Random) -> Option<Client> {
        let strategy = match random.below(8) {
            0 => WaitStrategy::Spin,
            1 | 2 => WaitStrategy::Park,
            _ => WaitStrategy::Adaptive,
        };
        let mut builder = Client::builder(&self.options.socket).wait(strategy).timeout(REGISTERING);
        if again {
            let reconnect = Reconnect::default()
                .first_delay(Duration::from_millis(1))
                .longest_delay(Duration::from_millis(10));
            builder = builder.reconnect(reconnect);
        }
        while self.history.gate() == Gate::Open(round) {
            self.history.begin(0, Op::Register, deadline(REGISTERING));
            let registered = builder.register(name_of(self.options.slot));
            let outcome = registered.as_ref().map_or_else(|error| self.outcome(error), |_| Outcome::Ok);
            self.history.end(0, Op::Register, outcome, deadline(REGISTERING));
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
