//! How a subscriber waits for samples of several publishers at once.
//!
//! It parks each of its readers, looks once more, and sleeps on all their words and on the notice.
//!
//! Where no wake may come, it sleeps in slices and looks in between: if there are more publishers than the
//! kernel takes words; while one has not attached the subscription; while one stays that the server has
//! ended; and while the client is not registered, because a publisher may have been told then that the client
//! has left. In an event loop a timer ends such a slice.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use super::error::SampleError;
use super::feed::Feed;
use crate::os::futex::{MOST, sleeps_on_all};
use crate::ring::{Deadline, Looked, SPARE_HINTS, Violation};
use crate::shm::backend::spin_hint;
use crate::shm::futex::{self, Wait, Woken};
use crate::testing::failpoints::failpoint;
use crate::topic::{Fault, Reader, State};

/// The sleeps that nobody may end, from the first to the longest.
pub(super) const SHORTEST_SLICE: Duration = Duration::from_millis(5);
pub(super) const LONGEST_SLICE: Duration = Duration::from_millis(50);

/// The words of a sleep on few publishers, which lie in no allocation.
const FEW: usize = 4;

impl Feed {
    /// Looks until something is there: as [`look`](Self::look), but waits for it.
    #[inline(always)]
    pub(super) fn wait_for<T>(
        &mut self,
        mut deadline: Deadline,
        mut take: impl FnMut(&mut Reader, &mut Vec<u8>) -> Result<Option<T>, Fault>,
    ) -> Result<(usize, T), SampleError> {
        let mut looks = self.waiting.brief_looks();
        loop {
            if let Some(found) = self.look(&mut take)? {
                return Ok(found);
            }
            if looks > 0 {
                looks -= 1;
                spin_hint();
            } else {
                self.wait(&mut deadline)?;
            }
        }
    }

    /// Waits until a look may find something.
    #[cold]
    #[inline(never)]
    pub(super) fn wait(&mut self, deadline: &mut Deadline) -> Result<(), SampleError> {
        if let Some(error) = self.given_up() {
            return Err(error);
        }
        let until = deadline.start();
        let (mut waiting, found) = (self.waiting, self.found);
        let looked = waiting.look(until, found, || self.is_pending());
        self.waiting = waiting;
        match looked {
            Looked::Found => Ok(()),
            Looked::TimedOut => Err(SampleError::TimedOut),
            Looked::Sleep(began) => {
                let slept = self.sleep(until);
                self.waiting.slept(began, self.found);
                slept
            }
        }
    }

    /// A publisher that does not serve the subscription any more.
    fn given_up(&mut self) -> Option<SampleError> {
        let at = self.parts.iter().position(|part| is_given_up(part.reader.state()))?;
        let state = self.parts[at].reader.state();
        Some(self.failed(at, Fault::GivenUp(state)))
    }

    /// Announces a wait in an event loop. Returns false if there is something to look at.
    pub(super) fn arm(&mut self) -> bool {
        if let Some(error) = self.given_up() {
            self.say_later(error);
            return false;
        }
        let mut parts = self.parts.iter_mut();
        let armed = parts.all(|part| part.own.as_mut().is_none_or(|own| part.reader.arm(own)));
        failpoint!("feed.armed", [topic], always);
        armed
    }

    /// Whether a look would find something, or something changed.
    #[inline(always)]
    fn is_pending(&self) -> bool {
        self.shared.notice.seen() != self.seen || self.parts.iter().any(|part| part.reader.is_pending())
    }

    /// Sleeps until somebody wakes this thread, at most until then.
    fn sleep(&mut self, until: Option<Instant>) -> Result<(), SampleError> {
        let sees_all = self.parts.len() < MOST && (self.parts.len() <= 1 || sleeps_on_all());
        let limit = match self.next_slice(self.is_unheard() || !sees_all) {
            Some(end) => Some(until.map_or(end, |until| until.min(end))),
            None => until,
        };
        for part in &mut self.parts {
            part.reader.park();
        }
        let woken = if self.is_pending() {
            Woken::Hint
        } else {
            failpoint!("feed.parked", [topic], always);
            self.sleep_on_words(limit)
        };
        if self.shared.notice.is_forked() {
            // Forked by a signal handler that ended the sleep. The words belong to the parent.
            return Ok(());
        }
        self.unpark()?;
        let passed = woken == Woken::TimedOut && until.is_some_and(|until| Instant::now() >= until);
        if passed && !self.is_pending() { Err(SampleError::TimedOut) } else { Ok(()) }
    }

    /// Wakes up, and counts the publishers that had no reason to wake this thread: nothing is there of them
    /// that no wake has announced yet, and nothing has been taken since the last wake. A sample may be
    /// taken before its publisher gets round to the wake, because another one has woken this thread.
    fn unpark(&mut self) -> Result<(), SampleError> {
        let changed = self.shared.notice.seen() != self.seen;
        let mut disturber = None;
        for (at, part) in self.parts.iter_mut().enumerate() {
            if !part.reader.unpark() {
                continue;
            }
            let pending = part.reader.is_pending();
            let behind = part.reader.next_sequence().saturating_add(pending.into());
            if changed || behind > part.announced {
                part.fruitless = part.fruitless.saturating_sub(1);
                part.announced = behind;
            } else {
                part.fruitless += 1;
                disturber = disturber.or((part.fruitless > SPARE_HINTS).then_some(at));
            }
        }
        match disturber {
            Some(at) => Err(self.failed(at, Fault::Broken(Violation::FruitlessWakes))),
            None => Ok(()),
        }
    }

    /// The end of the next slice, if the sleep is one. Each is twice as long as the one before.
    fn next_slice(&mut self, is_one: bool) -> Option<Instant> {
        let slice = is_one.then_some(self.slice);
        self.slice = slice.map_or(SHORTEST_SLICE, |slice| LONGEST_SLICE.min(2 * slice));
        slice.map(|slice| Instant::now() + slice)
    }

    /// When an event loop is to look again without a wake, if so.
    pub(super) fn next_look(&mut self) -> Option<Instant> {
        self.next_slice(self.is_unheard())
    }

    /// Whether something may come of which no publisher tells.
    fn is_unheard(&self) -> bool {
        self.shared.is_unregistered()
            || self.parts.iter().any(|part| !part.is_attached() || part.lingers_since.is_some())
    }

    fn sleep_on_words(&self, limit: Option<Instant>) -> Woken {
        let notice = self.shared.notice.as_wait(self.seen);
        if self.parts.len() < FEW {
            let mut words = [notice; FEW];
            for (word, part) in words.iter_mut().zip(&self.parts) {
                *word = part.reader.as_wait();
            }
            return futex::wait(&words[..=self.parts.len()], limit);
        }
        // The notice comes last, unless only the first words are slept on.
        let parts = self.parts.iter().take(MOST - 1).map(|part| part.reader.as_wait());
        let words: Vec<Wait<'_>> = parts.chain([notice]).collect();
        futex::wait(&words, limit)
    }
}

/// Whether the publisher does not serve the subscription any more.
fn is_given_up(state: State) -> bool {
    !matches!(state, State::Noted | State::Attached)
}
