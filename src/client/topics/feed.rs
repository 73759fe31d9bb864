//! `Feed`: the parts of one subscription, in the hands of its subscriber.
//!
//! The parts are looked at in turn, so that no publisher starves another. A part ends when all that its
//! publisher published was read. If the publisher goes on in another segment, because it has registered
//! again, the part of that one follows.
//!
//! If the server has ended a publication, its publisher may not know that yet, and publish where it was. So
//! the part stays until the publisher says that it has ended or moved, or for a while. Not for ever: nobody
//! but the publisher would end it then.

#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::SampleError;
use super::notice::NEVER_SEEN;
use super::part::{Fate, Identity, Part};
use super::subscription::Subscription;
use super::waits::{LONGEST_SLICE, SHORTEST_SLICE};
use crate::ring::{WaitStrategy, Waiting};
use crate::shm::futex;
use crate::testing::failpoints::failpoint;
use crate::topic::{Ended, Fault, Reader, State};
use crate::wire::{CloseReason, Peer};

/// Publishers that were read to the end of a segment, and of which another one may come.
const MOST_LEFT_OFF: usize = 1024;

/// How long a part stays that the server has ended and its publisher has not: a client that has lost its
/// registration usually has another one by then.
const LINGERS: Duration = Duration::from_secs(2);

/// How many of them stay. A publisher could bring about any number of them, and each has descriptors.
const MOST_LINGERING: usize = 16;

pub(super) struct Feed {
    pub(super) shared: Arc<Subscription>,
    pub(super) parts: Vec<Part>,
    /// The part that is looked at first.
    turn: usize,
    /// The notice as it was when everything that it stands for was looked at.
    pub(super) seen: u32,
    /// The sample that was taken last.
    pub(super) buffer: Vec<u8>,
    pub(super) waiting: Waiting,
    /// How many samples were taken.
    pub(super) found: u64,
    /// How long a sleep may be that nobody ends.
    pub(super) slice: Duration,
    /// The publishers that were read to the end of a segment.
    left_off: HashMap<Identity, LeftOff>,
    /// How long a part stays that the server has ended and its publisher has not.
    pub(super) lingers: Duration,
    /// How often the parts have changed.
    pub(super) settled: u64,
    /// What is to be said, each once.
    untold: VecDeque<SampleError>,
}

/// How far a publisher was read.
struct LeftOff {
    /// The sequence of the next sample.
    next: u64,
    /// Whether it goes on elsewhere, or may. If not, it counts as ended; but it may have registered again
    /// before, and the server give the segment in which it was to go on, which begins with copies of what
    /// was read here.
    goes_on: bool,
}

impl Feed {
    pub(super) fn new(shared: Arc<Subscription>, strategy: WaitStrategy) -> Feed {
        Feed {
            shared,
            parts: Vec::new(),
            turn: 0,
            seen: NEVER_SEEN,
            buffer: Vec::new(),
            waiting: Waiting::new(strategy),
            found: 0,
            slice: SHORTEST_SLICE,
            left_off: HashMap::new(),
            lingers: LINGERS,
            settled: 0,
            untold: VecDeque::new(),
        }
    }

    /// Looks at the parts in turn, until one has something. Returns which one, and what. Does not block.
    #[inline(always)]
    pub(super) fn look<T>(
        &mut self,
        mut take: impl FnMut(&mut Reader, &mut Vec<u8>) -> Result<Option<T>, Fault>,
    ) -> Result<Option<(usize, T)>, SampleError> {
        if self.shared.notice.seen() != self.seen {
            self.attend()?;
        }
        for _ in 0..self.parts.len() {
            let at = self.turn;
            // The last one may have gone.
            let Some(part) = self.parts.get_mut(at) else { break };
            match take(&mut part.reader, &mut self.buffer) {
                Ok(Some(taken)) => {
                    self.turn = if at + 1 < self.parts.len() { at + 1 } else { 0 };
                    self.found += 1;
                    return Ok(Some((at, taken)));
                }
                Ok(None) if part.fate == Fate::Lives && part.reader.ended().is_none() => {
                    self.turn = if at + 1 < self.parts.len() { at + 1 } else { 0 };
                }
                Ok(None) => self.has_ended(at),
                Err(fault) => return Err(self.failed(at, fault)),
            }
        }
        Ok(None)
    }

    /// Looks at everything but the rings.
    #[cold]
    #[inline(never)]
    fn attend(&mut self) -> Result<(), SampleError> {
        let seen = self.shared.notice.seen();
        // What is told here is told again, because the notice does not count as seen.
        if let Some(reason) = self.shared.reason() {
            return Err(SampleError::Disconnected(reason));
        }
        for part in self.shared.take_arrived() {
            self.settle(part);
        }
        let dry = self.shared.why_dry();
        for part in &mut self.parts {
            part.ask_its_fate();
            // Nothing would wake this thread any more.
            if matches!(part.fate, Fate::Unknown | Fate::Over) && dry.is_some() {
                part.fate = Fate::Gone;
            }
        }
        if let Some(error) = self.untold.pop_front() {
            return Err(error);
        }
        if self.parts.is_empty()
            && let Some(reason) = dry
        {
            return Err(SampleError::Disconnected(reason));
        }
        self.seen = seen;
        Ok(())
    }

    /// A part came.
    fn settle(&mut self, mut part: Part) {
        self.settled += 1;
        if part.is_refused {
            part.reader.leave();
            self.shared.forget(&part.identity);
            self.untold.push_back(SampleError::NotReliable { publisher: part.publisher });
            return;
        }
        match self.parts.iter_mut().find(|known| known.identity == part.identity) {
            Some(known) => known.goes_on_with(part),
            None => {
                if let Some(left) = self.left_off.remove(&part.identity) {
                    part.reader.resume(left.next);
                }
                self.parts.push(part);
            }
        }
        failpoint!("part.settled", [topic], seldom);
    }

    /// Nothing is left of a part, and its publisher has ended, or this segment of it.
    #[cold]
    #[inline(never)]
    fn has_ended(&mut self, at: usize) {
        let lingering = self.parts.iter().filter(|part| part.lingers_since.is_some()).count();
        let part = &mut self.parts[at];
        let ended = part.reader.ended();
        let stays = match part.fate {
            // All that a process has written was seen before a look that came after its end.
            Fate::Gone => false,
            Fate::Over => part.lingers(self.lingers, lingering < MOST_LINGERING),
            Fate::Lives | Fate::Unknown => true,
        };
        if ended.is_none() && stays {
            self.turn = if at + 1 < self.parts.len() { at + 1 } else { 0 };
            return;
        }
        if let Some(next) = part.successor() {
            self.parts[at] = next;
            self.settled += 1;
            // Its publisher may have ended while nobody asked how that one is.
            self.seen = NEVER_SEEN;
        } else {
            let part = self.remove(at);
            let goes_on = ended == Some(Ended::Moved) || ended.is_none() && part.fate == Fate::Over;
            if goes_on {
                part.reader.leave();
            }
            self.leave_off(part, goes_on);
        }
        failpoint!("part.ended", [topic], seldom);
    }

    /// Notes how far a publisher was read. If there is no room, those that have ended are forgotten first, or
    /// all if few have ended: it would have to be done again soon.
    fn leave_off(&mut self, part: Part, goes_on: bool) {
        if self.left_off.len() >= MOST_LEFT_OFF {
            let shared = &self.shared;
            let have_ended = self.left_off.values().filter(|left| !left.goes_on).count();
            self.left_off.retain(|identity, left| {
                let stays = have_ended > MOST_LEFT_OFF / 16 && left.goes_on;
                if !stays {
                    shared.forget(identity);
                }
                stays
            });
        }
        let next = part.reader.next_sequence();
        self.left_off.insert(part.identity, LeftOff { next, goes_on });
    }

    /// A publisher broke a rule, or does not serve this subscription.
    #[cold]
    #[inline(never)]
    pub(super) fn failed(&mut self, at: usize, fault: Fault) -> SampleError {
        let part = self.remove(at);
        part.leave();
        self.shared.forget(&part.identity);
        let publisher = part.publisher;
        match fault {
            Fault::Broken(violation) => SampleError::Violation { publisher, violation: violation.into() },
            Fault::GivenUp(State::Refused) => SampleError::NotReliable { publisher },
            Fault::GivenUp(_) => SampleError::Evicted { publisher },
        }
    }

    fn remove(&mut self, at: usize) -> Part {
        self.settled += 1;
        let part = self.parts.remove(at);
        if self.turn > at {
            self.turn -= 1;
        }
        if self.turn >= self.parts.len() {
            self.turn = 0;
        }
        if self.parts.is_empty() {
            // Perhaps no more come.
            self.seen = NEVER_SEEN;
        }
        part
    }

    /// Fetches the parts that came. What there is to say of them, a look says.
    pub(super) fn fetch(&mut self) {
        if self.shared.notice.is_forked() {
            return;
        }
        for part in self.shared.take_arrived() {
            self.settle(part);
        }
        // Not all that the notice stands for was looked at.
        self.seen = NEVER_SEEN;
    }

    /// Whether nothing has changed besides the rings since the last look.
    pub(super) fn has_nothing_new(&self) -> bool {
        self.shared.notice.seen() == self.seen
    }

    /// What an error says is said by the next look.
    pub(super) fn say_later(&mut self, error: SampleError) {
        self.untold.push_back(error);
        self.seen = NEVER_SEEN;
    }

    /// Waits until every publisher has decided about this subscription, and returns one that has refused it.
    /// Fails when the deadline passes, or there is no use in it any more.
    pub(super) fn await_decisions(
        &mut self,
        deadline: Instant,
        is_over: impl Fn() -> bool,
    ) -> Result<Option<Peer>, ()> {
        let mut slice = SHORTEST_SLICE / 50;
        loop {
            self.fetch();
            let seen = self.shared.notice.seen();
            if let Some(SampleError::NotReliable { publisher }) = self.untold.front() {
                return Ok(Some(*publisher));
            }
            let refused = self.parts.iter().find(|part| part.reader.state() == State::Refused);
            if let Some(part) = refused {
                return Ok(Some(part.publisher));
            }
            if self.parts.iter().all(Part::is_decided) {
                self.parts.iter_mut().for_each(Part::begin_where_it_waits);
                return Ok(None);
            }
            let now = Instant::now();
            if now >= deadline || is_over() {
                return Err(());
            }
            // Attaching changes a word of the page, which nobody wakes unless it is parked.
            futex::wait(&[self.shared.notice.as_wait(seen)], Some(deadline.min(now + slice)));
            slice = LONGEST_SLICE.min(2 * slice);
        }
    }

    /// Tells every publisher that nobody reads any more. Not in a forked child.
    pub(super) fn leave(&mut self) {
        self.shared.close(CloseReason::Local);
        self.parts.append(&mut self.shared.take_arrived());
        for part in self.parts.drain(..) {
            part.reader.leave();
        }
    }
}
