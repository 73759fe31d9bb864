//! What a client with links does at random, from its registration until it leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringpost::{Caller, Client, CloseReason, ConnectError, Key, Link, Name, RegisterError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::super::history::{Gate, Op, Outcome};
use super::super::plan::Waits;
use super::super::random::Random;
use super::open::Open;
use super::serving::Serving;
use super::{Linker, REGISTERING, deadline, name_of};

/// The most links that it opens at a time.
const LINKS: usize = 6;

/// How long a call to the server may take.
const ASKING: Duration = Duration::from_secs(2);

/// How long it may take until the last link to it has ended, after all others have closed theirs.
const QUIETENING: Duration = Duration::from_secs(8);

/// The numbers of this process's links.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// It is not registered any more, and will not be.
struct Ended;

pub struct Session<'a> {
    linker: &'a Arc<Linker>,
    caller: Caller,
    /// Whether it registers again.
    again: bool,
    /// How its links are waited for, at either end.
    waits: Waits,
    random: Random,
    serving: Serving,
    open: Vec<Open<'a>>,
    /// The key of one whom it has met.
    known: Option<(Name, Key)>,
}

impl<'a> Session<'a> {
    pub fn new(
        linker: &'a Arc<Linker>,
        client: Client,
        again: bool,
        waits: Waits,
        random: Random,
    ) -> Session<'a> {
        let (caller, inbox) = client.split();
        drop(inbox);
        let (serving, open, known) = (Serving::Nobody, Vec::new(), None);
        Session { linker, caller, again, waits, random, serving, open, known }
    }

    /// Works for a random number of steps, until it is told to leave, or until the registration ends.
    pub fn run(mut self) {
        let most = 16 << self.random.below(8);
        let mut left = 1 + self.random.below(most);
        if !self.random.once_in(4) {
            self.serve();
        }
        loop {
            match self.linker.history.gate() {
                gate @ Gate::Hold(_) => {
                    self.quieten(gate);
                    continue;
                }
                Gate::Leave(_) | Gate::Closed(_) => break,
                Gate::Open(_) if left == 0 => break,
                Gate::Open(_) => left -= 1,
            }
            if let Err(Ended) = self.step() {
                // The links outlive the server.
                for _ in 0..self.random.below(60) {
                    self.work();
                }
                break;
            }
        }
        self.leave();
    }

    fn step(&mut self) -> Result<(), Ended> {
        match self.random.below(32) {
            0..=4 => self.connect()?,
            5 if self.serving.is_begun() && self.random.once_in(3) => {
                self.serving.end(self.linker, false);
            }
            5 | 6 => self.serve(),
            7 => self.ask()?,
            8 => self.starve(),
            9 => std::thread::sleep(Duration::from_micros(self.random.below(3000))),
            _ => self.work(),
        }
        Ok(())
    }

    /// Works over one of its links, or closes one.
    fn work(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let at = self.random.below(self.open.len() as u64) as usize;
        if self.random.once_in(24) {
            self.open.swap_remove(at).close(&mut self.random);
        } else if self.open[at].step(&mut self.random).is_err() {
            self.open.swap_remove(at);
        }
    }

    fn serve(&mut self) {
        if !self.serving.is_begun() {
            let random = self.random.clone();
            self.serving = Serving::begin(self.linker, &mut self.caller, self.again, self.waits, random);
            self.random.next();
        }
    }

    /// Asks the server for something, by which it notices its end.
    fn ask(&mut self) -> Result<(), Ended> {
        self.linker.history.begin(0, Op::Ask, deadline(ASKING));
        let asked = self.caller.call_timeout(b"", ASKING).map(drop);
        let (outcome, ended) = match asked {
            Ok(()) | Err(ringpost::CallError::ServiceFailed(_)) => (Outcome::Ok, Ok(())),
            Err(ringpost::CallError::TimedOut) => (Outcome::TimedOut, Ok(())),
            Err(ringpost::CallError::ShuttingDown) => (Outcome::ShuttingDown, Ok(())),
            Err(ringpost::CallError::Disconnected(reason) | ringpost::CallError::NotSent(reason)) => {
                (Outcome::Disconnected, self.after(reason))
            }
            Err(error) => self.linker.history.violation(0, Op::Ask, &format!("{error:?}")),
        };
        self.linker.history.end(0, Op::Ask, outcome, deadline(ASKING));
        ended
    }

    /// Whether it goes on after the end of a registration.
    fn after(&self, reason: CloseReason) -> Result<(), Ended> {
        if self.again && matches!(reason, CloseReason::Died | CloseReason::Shutdown) {
            Ok(())
        } else {
            Err(Ended)
        }
    }

    fn connect(&mut self) -> Result<(), Ended> {
        if self.open.len() >= LINKS {
            return Ok(());
        }
        let slot = self.random.below(self.linker.options.slots);
        let own = slot == self.linker.options.slot;
        let Ok(name) = Name::try_from(&*name_of(slot)) else { return Ok(()) };
        let time = match self.random.below(4) {
            0 => Duration::from_micros(self.random.below(3000)),
            // A client that serves nobody else meanwhile would wait for itself.
            _ if own => Duration::from_millis(50),
            _ => Duration::from_millis(100 + self.random.below(300)),
        };
        let mut options = Link::options().timeout(time);
        if self.random.once_in(3) {
            options = options.ring_size(4096 << self.random.below(4));
        }
        if self.waits != Waits::Inside {
            options = options.arms();
        }
        let known = self.known.filter(|(met, _)| *met == name && self.random.once_in(2));
        self.linker.history.begin(0, Op::Connect, deadline(time));
        let connected = match known {
            Some((_, key)) => options.connect(&mut self.caller, key),
            None => options.connect(&mut self.caller, name),
        };
        let (outcome, ended) = match &connected {
            Ok(_) => (Outcome::Ok, Ok(())),
            Err(error) => self.not_connected(error),
        };
        self.linker.history.end(0, Op::Connect, outcome, deadline(time));
        if let Ok(link) = connected {
            let peer = link.peer();
            if peer.name != name {
                let what = format!("a link to {:?} in place of {name:?}", peer.name);
                self.linker.history.violation(0, Op::Connect, &what);
            }
            self.known = Some((peer.name, peer.key));
            let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
            let id = u64::from(std::process::id()) << 32 | number;
            self.open.push(Open::new(self.linker, link, id, self.waits));
        }
        ended
    }

    fn not_connected(&self, error: &ConnectError) -> (Outcome, Result<(), Ended>) {
        let outcome = match error {
            ConnectError::NotFound => Outcome::UnknownKey,
            ConnectError::NotServing => Outcome::NotServing,
            ConnectError::Refused(_) => Outcome::Refused,
            ConnectError::Busy(_) => Outcome::Busy,
            ConnectError::Quota(_) => Outcome::Quota,
            ConnectError::TimedOut => Outcome::TimedOut,
            ConnectError::Gone(_) => Outcome::Gone,
            ConnectError::ServerGone(reason) => return (Outcome::Disconnected, self.after(*reason)),
            ConnectError::Server(RegisterError::NameTaken { .. }) => Outcome::Refused,
            ConnectError::Server(error) => self.linker.outcome(error),
            ConnectError::Channel(_) | ConnectError::System { .. } => Outcome::System,
            error => self.linker.history.violation(0, Op::Connect, &format!("{error:?}")),
        };
        (outcome, Ok(()))
    }

    /// Goes on with hardly a descriptor left, so that introductions cannot be received.
    fn starve(&mut self) {
        let Ok(held) = std::fs::read_dir("/proc/self/fd") else { return };
        let limit = getrlimit(Resource::Nofile);
        let low = held.count() as u64 - 1 + self.random.below(6);
        self.linker.history.begin(0, Op::Starve, deadline(2 * REGISTERING));
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(low), maximum: limit.maximum });
        std::thread::sleep(Duration::from_micros(self.random.below(1000)));
        self.linker.history.end(0, Op::Starve, Outcome::System, deadline(2 * REGISTERING));
        let ended = (0..2).any(|_| self.connect().is_err());
        let _ = setrlimit(Resource::Nofile, limit);
        if ended {
            // The next step finds it, too.
            self.known = None;
        }
    }

    /// Closes all links, waits until all those to it have ended, and stands still.
    fn quieten(&mut self, gate: Gate) {
        for link in self.open.drain(..) {
            link.close(&mut self.random);
        }
        self.linker.history.begin(0, Op::Quieten, deadline(QUIETENING));
        let until = Instant::now() + QUIETENING;
        while !self.serving.is_idle() {
            if Instant::now() >= until {
                self.linker.history.violation(0, Op::Quieten, "all links were closed, and some go on");
            }
            if self.linker.history.gate() != gate {
                break;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        self.linker.history.end(0, Op::Quieten, Outcome::Ok, deadline(QUIETENING));
        if self.linker.history.gate() == gate {
            self.linker.check_holdings("without a link", |held| held.links == 0);
            self.linker.stand_still(gate);
        }
    }

    /// Leaves in one of the ways to do so. The links end by that.
    fn leave(mut self) {
        if self.random.once_in(2) {
            self.serving.end(self.linker, false);
        }
        let way = self.random.below(4);
        let closer = self.caller.closer();
        self.linker.history.begin(0, Op::Unregister, deadline(REGISTERING));
        match way {
            0 => drop(self.caller),
            1 => {
                closer.close();
                if self.random.once_in(2) {
                    let used = self.open.pop();
                    used.into_iter().for_each(|link| link.outlive(&mut self.random, true));
                    self.linker.history.begin(0, Op::Unregister, deadline(REGISTERING));
                }
                drop(self.caller);
            }
            _ => _ = self.caller.unregister(),
        }
        self.linker.history.end(0, Op::Unregister, Outcome::Ok, deadline(REGISTERING));
        for link in self.open.drain(..) {
            if self.random.once_in(2) {
                link.outlive(&mut self.random, false);
            } else {
                link.close(&mut self.random);
            }
        }
        self.serving.end(self.linker, true);
    }
}
