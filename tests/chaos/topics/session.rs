//! What a client with topics does at random, from its registration until it leaves.

use std::time::Duration;

use ringpost::{CallError, Caller, Client, CloseReason};

use super::super::history::{Gate, Op, Outcome};
use super::super::plan::Waits;
use super::super::random::Random;
use super::publishing::Mine;
use super::standing;
use super::subscribing::Sub;
use super::watching::Watching;
use super::{ASKING, Topical, deadline};

/// The most topics and the most subscriptions that it has at a time.
const MOST: usize = 3;

/// It is not registered any more, and will not be.
struct Ended;

pub struct Session<'a> {
    topical: &'a Topical,
    caller: Caller,
    /// Whether it registers again.
    again: bool,
    waits: Waits,
    random: Random,
    mine: Vec<Mine<'a>>,
    subs: Vec<Sub<'a>>,
    watching: Option<Watching<'a>>,
}

impl<'a> Session<'a> {
    pub fn new(
        topical: &'a Topical,
        client: Client,
        again: bool,
        waits: Waits,
        random: Random,
    ) -> Session<'a> {
        let (caller, inbox) = client.split();
        drop(inbox);
        let (mine, subs, watching) = (Vec::new(), Vec::new(), None);
        Session { topical, caller, again, waits, random, mine, subs, watching }
    }

    /// Works for a random number of steps, until it is told to leave, or until the registration ends.
    pub fn run(mut self) {
        let most = 32 << self.random.below(8);
        let mut left = 1 + self.random.below(most);
        loop {
            match self.topical.history.gate() {
                gate @ Gate::Hold(_) => {
                    self.hold(gate);
                    continue;
                }
                Gate::Leave(_) | Gate::Closed(_) => break,
                Gate::Open(_) if left == 0 => break,
                Gate::Open(_) => left -= 1,
            }
            if let Err(Ended) = self.step() {
                break;
            }
        }
        self.leave();
    }

    fn step(&mut self) -> Result<(), Ended> {
        let some = |count: usize, random: &mut Random| random.below(count as u64) as usize;
        match self.random.below(32) {
            0 | 1 if self.mine.len() < MOST => {
                let free = (0..MOST).find(|slot| self.mine.iter().all(|mine| mine.slot() != *slot));
                let (caller, slot) = (&mut self.caller, free.unwrap_or(0));
                match Mine::begin(self.topical, caller, slot, self.again, &mut self.random) {
                    Ok(mine) => self.mine.extend(mine),
                    Err(_) => return Err(Ended),
                }
            }
            2 | 3 if self.subs.len() < MOST => {
                match Sub::begin(self.topical, &mut self.caller, self.waits, self.again, &mut self.random) {
                    Ok(sub) => self.subs.extend(sub),
                    Err(_) => return Err(Ended),
                }
            }
            4 if self.random.once_in(4) && !self.mine.is_empty() => {
                let at = some(self.mine.len(), &mut self.random);
                self.mine.swap_remove(at).end();
            }
            5 if self.random.once_in(4) && !self.subs.is_empty() => {
                let at = some(self.subs.len(), &mut self.random);
                self.close(at);
            }
            6 if self.watching.is_none() => match Watching::begin(self.topical, &mut self.caller) {
                Ok(watching) => self.watching = watching,
                Err(_) => return Err(Ended),
            },
            7 => self.ask()?,
            8 => std::thread::sleep(Duration::from_micros(self.random.below(3000))),
            9..=19 if !self.mine.is_empty() => {
                let at = some(self.mine.len(), &mut self.random);
                if self.mine[at].step(&mut self.random).is_err() {
                    self.mine.swap_remove(at).end();
                }
            }
            _ if !self.subs.is_empty() => {
                let at = some(self.subs.len(), &mut self.random);
                if self.subs[at].step(&mut self.random).is_err() {
                    self.close(at);
                }
            }
            _ => {}
        }
        if self.watching.as_mut().is_some_and(|watching| watching.step().is_err()) {
            self.watching = None;
        }
        Ok(())
    }

    fn close(&mut self, at: usize) {
        self.topical.history.begin(0, Op::CloseTopic, deadline(ASKING));
        self.subs.swap_remove(at).end();
        self.topical.history.end(0, Op::CloseTopic, Outcome::Ok, deadline(ASKING));
    }

    /// Asks the server for something, by which it notices its end.
    fn ask(&mut self) -> Result<(), Ended> {
        self.topical.history.begin(0, Op::Ask, deadline(ASKING));
        let asked = self.caller.call_timeout(b"", ASKING).map(drop);
        let goes_on =
            |reason: &CloseReason| self.again && matches!(reason, CloseReason::Died | CloseReason::Shutdown);
        let (outcome, ended) = match asked {
            Ok(()) | Err(CallError::ServiceFailed(_)) => (Outcome::Ok, Ok(())),
            Err(CallError::TimedOut) => (Outcome::TimedOut, Ok(())),
            Err(CallError::ShuttingDown) => (Outcome::ShuttingDown, Ok(())),
            Err(CallError::Disconnected(reason) | CallError::NotSent(reason)) if goes_on(&reason) => {
                (Outcome::Disconnected, Ok(()))
            }
            Err(CallError::Disconnected(_) | CallError::NotSent(_)) => (Outcome::Disconnected, Err(Ended)),
            Err(error) => self.topical.history.violation(0, Op::Ask, &format!("{error:?}")),
        };
        self.topical.history.end(0, Op::Ask, outcome, deadline(ASKING));
        ended
    }

    /// Publishes nothing more, reads on until the gate changes, and makes sure of who is there.
    fn hold(&mut self, gate: Gate) {
        self.mine.iter().for_each(Mine::tell_last);
        let subs = std::mem::take(&mut self.subs);
        let random = self.random.clone();
        standing::read_on(subs, &random, || {
            let settled = match &mut self.watching {
                Some(watching) => watching.settle(&mut self.caller, gate),
                None => Ok(()),
            };
            if settled.is_err() {
                self.watching = None;
            }
            self.topical.stand_still(gate);
        });
    }

    /// Leaves in one of the ways to do so.
    fn leave(mut self) {
        let way = self.random.below(4);
        if way > 1 {
            self.mine.drain(..).for_each(Mine::end);
            (0..self.subs.len()).rev().for_each(|at| self.close(at));
        }
        self.topical.history.begin(0, Op::Unregister, deadline(ASKING));
        match way {
            0 => drop(self.caller),
            1 => {
                self.caller.closer().close();
                drop(self.caller);
            }
            _ => _ = self.caller.unregister(),
        }
        self.topical.history.end(0, Op::Unregister, Outcome::Ok, deadline(ASKING));
        self.mine.drain(..).for_each(Mine::end);
        self.subs.drain(..).for_each(Sub::end);
    }
}
