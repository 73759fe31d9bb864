//! A client process: registers, does things at random, leaves, and begins anew, until it is killed.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use ringpost::testing::Segment;
use ringpost::{Caller, Client, CloseReason, Inbox, Key, Message, RecvError, RegisterError, WaitStrategy};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::census::Holdings;
use super::content;
use super::history::{Gate, Kind, Op, Outcome, Writer, about};
use super::looping::Looping;
use super::plan::Waits;
use super::random::Random;
use super::server::no_core;
use super::work::Work;
use ringpost::cli::child::die_with_parent;
use ringpost::cli::exit::{Failure, Outcome as Ended};

/// How long a registration may take.
pub const REGISTERING: Duration = Duration::from_secs(2);
/// How long it may take, after the end, to receive what was committed before it.
const DRAINING: Duration = Duration::from_secs(5);
const LEAVING: Duration = Duration::from_secs(2);

/// The process's arguments.
#[derive(Debug, Args)]
pub struct ClientOptions {
    socket: PathBuf,
    seed: u64,
    /// Which of `slots` clients it is.
    slot: u64,
    pub slots: u64,
}

/// The name of the client in this slot.
pub fn name_of(slot: u64) -> String {
    format!("chaos-{slot}")
}

/// A client's options and its history; shared by its threads.
pub struct ChaosClient {
    pub options: ClientOptions,
    pub history: Writer,
    /// What the process held before its first registration.
    at_first: Holdings,
}

/// The first registration starts the library's watcher; its thread stays, and its three descriptors: an epoll
/// instance, and the pair that tells it when the process closes them.
pub fn within(held: &Holdings, first: &Holdings) -> bool {
    held.threads <= first.threads + 1 && held.descriptors <= first.descriptors + 3
}

/// How a registration is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The server ended it.
    Ended,
    Unregister,
    Drop,
    Closer,
}

pub fn run(options: ClientOptions) -> Ended {
    die_with_parent();
    no_core();
    let segment = Segment::open(io::stdin())
        .map_err(|error| Failure::failed(format!("standard input is not a history: {error}")))?;
    let at_first = Holdings::of(std::process::id()).unwrap_or_default();
    let role = Arc::new(ChaosClient { options, history: Writer::new(segment), at_first });
    let (mut registrations, mut last) = (0, 0);
    loop {
        let gate = role.history.gate();
        let Gate::Open(round) = gate else {
            role.stand_before(gate);
            continue;
        };
        if round != last {
            (registrations, last) = (0, round);
        }
        let ClientOptions { seed, slot, .. } = role.options;
        let life = role.history.life();
        let mut random = Random::of(&[seed, round.into(), slot, life, registrations]);
        registrations += 1;
        if random.once_in(24) {
            role.starve(&mut random);
        }
        if let Some(client) = role.register(round, &mut random) {
            role.live(client, Waits::of(seed, round, slot), random);
        }
    }
}

impl ChaosClient {
    /// Checks that this process holds nothing of a registration, then waits at the gate.
    fn stand_before(&self, gate: Gate) {
        let held = self.holdings_at_rest();
        if held.channels > 0 || !within(&held, &self.at_first) {
            let what = format!("without a registration it holds {held:?}; at first {:?}", self.at_first);
            self.history.violation(0, Op::None, &what);
        }
        self.stand_still(gate);
    }

    /// Does nothing until the gate changes.
    pub fn stand_still(&self, gate: Gate) {
        let words = [gate.word().into(), 0, 0, 0, 0, 0];
        self.history.put(Kind::Idle, 0, Op::None, Outcome::Ok, words);
        self.history.wait_for_gate(gate);
    }

    /// What the process holds. Gives the watcher, and a thread that was joined, a second to release the last
    /// things.
    fn holdings_at_rest(&self) -> Holdings {
        let until = Instant::now() + Duration::from_secs(1);
        loop {
            // Before the look: this process may be held up between the two.
            let late = Instant::now() >= until;
            let held = Holdings::of(std::process::id()).unwrap_or_default();
            if held.channels == 0 && within(&held, &self.at_first) || late {
                return held;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Tries to register until that succeeds or the gate changes.
    fn register(&self, round: u32, random: &mut Random) -> Option<Client> {
        let strategy = match random.below(8) {
            0 => WaitStrategy::Spin,
            1 | 2 => WaitStrategy::Park,
            _ => WaitStrategy::Adaptive,
        };
        let builder = Client::builder(&self.options.socket).wait(strategy).timeout(REGISTERING);
        while self.history.gate() == Gate::Open(round) {
            let words = [REGISTERING.as_nanos() as u64, 0, 0, 0, 0, 0];
            self.history.begin(0, Op::Register, words);
            let registered = builder.register(name_of(self.options.slot));
            let outcome = match &registered {
                Ok(client) => {
                    self.history.put(
                        Kind::Registered,
                        0,
                        Op::Register,
                        Outcome::Ok,
                        about(round.into(), client.key(), 0),
                    );
                    Outcome::Ok
                }
                Err(error) => self.outcome_of_registering(error),
            };
            self.history.end(0, Op::Register, outcome, words);
            match registered {
                Ok(client) => return Some(client),
                Err(_) => std::thread::sleep(Duration::from_micros(500)),
            }
        }
        None
    }

    fn outcome_of_registering(&self, error: &RegisterError) -> Outcome {
        match error {
            RegisterError::NameTaken { .. } => Outcome::NameTaken,
            RegisterError::NoServer { .. } => Outcome::NoServer,
            RegisterError::TimedOut { .. } => Outcome::TimedOut,
            RegisterError::Refused(_) | RegisterError::Full(_) => Outcome::Refused,
            RegisterError::System { .. } => Outcome::System,
            _ => self.history.violation(0, Op::Register, &format!("registering: {error:?}")),
        }
    }

    /// One registration, from its beginning to its end.
    fn live(self: &Arc<Self>, client: Client, waits: Waits, mut random: Random) {
        let key = client.key();
        let (mut caller, inbox) = client.split();
        let handle = caller.closer();
        let looping = Looping::of(&self.history, 0, &mut caller, waits);
        if random.once_in(3) {
            // A thread of its own receives, without a deadline.
            let (role, receiving) = (Arc::clone(self), random.clone());
            let receiver = std::thread::Builder::new()
                .name("receiver".into())
                .spawn(move || role.receive_for_ever(inbox, waits, receiving));
            let Ok(receiver) = receiver else { return };
            let (way, whole, caller) = Work::new(self, (caller, looping), None, random).run();
            let whole = self.give_up(way, caller, &handle, 0) && whole;
            let reason = receiver.join().unwrap_or(CloseReason::Local);
            self.over(key, whole, reason);
        } else if random.once_in(6) {
            // Nobody receives: what was acknowledged before is missed.
            drop(inbox);
            let (way, _, caller) = Work::new(self, (caller, looping), None, random).run();
            self.give_up(way, caller, &handle, 0);
            self.over(key, false, handle.reason().unwrap_or(CloseReason::Local));
        } else {
            let mut inbox = inbox;
            let receives = Looping::of(&self.history, 0, &mut inbox, waits);
            let (way, whole, caller) =
                Work::new(self, (caller, looping), Some((&mut inbox, receives)), random).run();
            let whole = self.give_up(way, caller, &handle, 0) && whole;
            let reason = self.drain(&mut inbox);
            self.over(key, whole, reason);
        }
    }

    fn over(&self, key: Key, whole: bool, reason: CloseReason) {
        let outcome = if whole { Outcome::Ok } else { Outcome::Disconnected };
        self.history.put(Kind::Over, 0, Op::None, outcome, about(0, key, reason as u64));
    }

    /// Ends the registration. Returns whether no message to it can be acknowledged any more.
    fn give_up(&self, way: Way, caller: Caller, handle: &ringpost::Closer, thread: u8) -> bool {
        match way {
            Way::Ended => {
                // The server closed it; there is nothing to unregister from.
                drop(caller);
                true
            }
            Way::Unregister => {
                let words = [LEAVING.as_nanos() as u64, 0, 0, 0, 0, 0];
                self.history.begin(thread, Op::Unregister, words);
                let left = caller.unregister();
                let outcome = super::work::outcome_of_call(self, Op::Unregister, left.as_ref().err());
                self.history.end(thread, Op::Unregister, outcome, words);
                matches!(outcome, Outcome::Ok | Outcome::Disconnected | Outcome::NotSent)
            }
            Way::Drop => {
                // A drop waits for at most a second.
                let words = [1_000_000_000, 0, 0, 0, 0, 0];
                self.history.begin(thread, Op::Drop, words);
                drop(caller);
                self.history.end(thread, Op::Drop, Outcome::Ok, words);
                false
            }
            Way::Closer => {
                handle.close();
                drop(caller);
                false
            }
        }
    }

    /// Receives everything that was committed before the end, and returns the reason of the close.
    fn drain(&self, inbox: &mut Inbox) -> CloseReason {
        let words = [DRAINING.as_nanos() as u64, 0, 0, 0, 0, 0];
        let (mut until, mut again) = (Instant::now() + DRAINING, true);
        self.history.begin(0, Op::Receive, words);
        let reason = loop {
            match inbox.recv_timeout(until) {
                Ok(message) => self.received(0, &message),
                Err(RecvError::Disconnected(reason)) => break reason,
                // The whole machine may have stood still meanwhile.
                Err(RecvError::TimedOut) if again => {
                    (until, again) = (Instant::now() + DRAINING, false);
                }
                Err(error) => {
                    self.history.violation(0, Op::Receive, &format!("after the end: {error:?}"));
                }
            }
        };
        self.history.end(0, Op::Receive, Outcome::Disconnected, words);
        reason
    }

    fn receive_for_ever(&self, mut inbox: Inbox, waits: Waits, mut random: Random) -> CloseReason {
        let lazy = random.once_in(2);
        let looping = Looping::of(&self.history, 1, &mut inbox, waits);
        loop {
            self.history.begin(1, Op::ReceiveLong, [0; 6]);
            let received = match &looping {
                // Now and then as others do.
                Some(looping) if !random.once_in(8) => looping.receive(&mut inbox, None),
                _ => inbox.recv(),
            };
            match received {
                Ok(message) => {
                    self.received(1, &message);
                    self.history.end(1, Op::ReceiveLong, Outcome::Ok, [0; 6]);
                }
                Err(ringpost::RecvError::Disconnected(reason)) => {
                    self.history.end(1, Op::ReceiveLong, Outcome::Disconnected, [0; 6]);
                    return reason;
                }
                Err(error) => self.history.violation(1, Op::ReceiveLong, &format!("receiving: {error:?}")),
            }
            if lazy && random.once_in(40) {
                std::thread::sleep(Duration::from_micros(random.below(8000)));
            }
        }
    }

    /// Checks every byte of a message and records it as received.
    pub fn received(&self, thread: u8, message: &Message) {
        match content::number_of(message) {
            Ok(number) => self.history.put(
                Kind::Received,
                thread,
                Op::Receive,
                Outcome::Ok,
                about(0, message.sender(), number),
            ),
            Err(wrong) => self.history.violation(thread, Op::Receive, &wrong),
        }
    }

    /// Registers with hardly a descriptor left. That may fail with a typed error, and must leave nothing
    /// behind.
    fn starve(&self, random: &mut Random) {
        let Ok(held) = std::fs::read_dir("/proc/self/fd") else { return };
        let limit = getrlimit(Resource::Nofile);
        // The descriptors are numbered from 0, nearly without gaps; one of them was the directory's own.
        let low = held.count() as u64 - 1 + random.below(4);
        let words = [REGISTERING.as_nanos() as u64, 0, 0, 0, 0, 0];
        self.history.begin(0, Op::Starve, words);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(low), maximum: limit.maximum });
        let tried = Client::builder(&self.options.socket)
            .timeout(REGISTERING)
            .register(format!("{}-starved", name_of(self.options.slot)));
        let _ = setrlimit(Resource::Nofile, limit);
        let outcome = match tried {
            Ok(client) => {
                drop(client);
                Outcome::Ok
            }
            Err(RegisterError::Channel(_)) => Outcome::System,
            Err(error) => self.outcome_of_registering(&error),
        };
        // If it did register, dropping it takes at most a second.
        self.history.end(0, Op::Starve, outcome, words);
    }
}

/// The keys of the other clients, as far as they have been looked up.
#[derive(Debug, Default)]
pub struct Keys {
    known: HashMap<u64, Key>,
}

impl Keys {
    pub fn get(&self, slot: u64) -> Option<Key> {
        self.known.get(&slot).copied()
    }

    pub fn set(&mut self, slot: u64, key: Key) {
        self.known.insert(slot, key);
    }

    pub fn forget(&mut self, slot: u64) {
        self.known.remove(&slot);
    }
}
