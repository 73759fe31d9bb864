//! Waiting for room.

use std::time::{Duration, Instant};

use super::Producer;
use crate::ring::layout::{LINE, PRODUCER_PARKED, TAKEN};
use crate::ring::park::as_wait;
use crate::ring::wait::Looked;
use crate::ring::{Deadline, Ended, OwnPipe, Stop};
use crate::shm::RingView;
use crate::shm::backend::{Ordering, now, spin_hint};
use crate::shm::futex::{Scope, Wait, Woken};
use crate::testing::failpoints::failpoint;

/// The longest sleep for space: a consumer may never look again, and then sends no wake.
pub(crate) const SPACE_SLICE: Duration = Duration::from_millis(50);

impl Producer {
    /// Waits until a block of `len` bytes, which is not too large, has room with its padding and the zeroed
    /// line, and returns where.
    #[cold]
    pub(super) fn wait_for_place(&mut self, len: usize, mut deadline: Deadline) -> Result<u64, Stop> {
        let mut waiting = self.end.waiting;
        let mut pauses = 0;
        let mut look = |producer: &mut Producer| {
            if pauses > 0 {
                pauses -= 1;
                return None;
            }
            pauses = producer.pauses();
            producer.look_again(len)
        };
        for _ in 0..waiting.brief_looks() {
            if let Some(placed) = look(self) {
                return Ok(placed?);
            }
            spin_hint();
        }
        let deadline = deadline.start();
        let mut placed = None;
        let looked = waiting.look(deadline, self.end.position / LINE as u64, || {
            placed = look(self);
            placed.is_some()
        });
        let result = match (looked, placed) {
            (_, Some(placed)) => placed.map_err(Stop::from),
            (Looked::Sleep(began), None) => {
                let slept = self.sleep_for_place(len, deadline);
                waiting.slept(began, self.end.position / LINE as u64);
                slept
            }
            // The last look may have been skipped for a pause.
            (Looked::Found | Looked::TimedOut, None) => match self.look_again(len) {
                Some(placed) => placed.map_err(Stop::from),
                None => Err(Stop::Deadline),
            },
        };
        self.end.waiting = waiting;
        result
    }

    /// Waits until a block of `len` bytes has room. Does not wait for one that never has.
    #[cold]
    pub(crate) fn wait_for_room(&mut self, len: usize, deadline: Deadline) -> Result<(), Stop> {
        if self.check_len(len).is_err() {
            return Ok(());
        }
        self.wait_for_place(len, deadline).map(|_| ())
    }

    /// A look within a wait: what it found, if that ends the wait.
    fn look_again(&mut self, len: usize) -> Option<Result<u64, Ended>> {
        self.was_full = false; // A wait makes its own pauses between looks.
        self.look_for_place(len).transpose()
    }

    fn sleep_for_place(&mut self, len: usize, deadline: Option<Instant>) -> Result<u64, Stop> {
        loop {
            let before = self.head;
            if let Some(placed) = self.arm_for_place(len) {
                return Ok(placed?);
            }
            let slice = now() + SPACE_SLICE;
            let until = deadline.map_or(slice, |deadline| deadline.min(slice));
            failpoint!("park.space.set", [server, channel, link], rarely);
            let woken = self.end.sleep::<PRODUCER_PARKED>(Some(until));
            failpoint!("park.space.slept", [server, channel, link], rarely);
            self.end.unpark::<PRODUCER_PARKED>();
            failpoint!("park.space.cleared", [server, channel, link], rarely);
            if let Some(placed) = self.look_again(len) {
                return Ok(placed?);
            }
            self.account(before, woken)?;
            if deadline.is_some_and(|deadline| now() >= deadline) {
                return Err(Stop::Deadline);
            }
        }
    }

    /// Counts a return from a sleep for space that began with this head.
    pub(in crate::ring) fn account(&mut self, before: u64, woken: Woken) -> Result<(), Ended> {
        if self.head == before && woken == Woken::Hint {
            self.end.count_fruitless_wake().map_err(Ended::Fault)?;
        }
        Ok(())
    }

    /// Sets the parked word and looks again. `None`: there is no place, and a sleep may follow.
    pub(in crate::ring) fn arm_for_place(&mut self, len: usize) -> Option<Result<u64, Ended>> {
        self.end.park::<PRODUCER_PARKED>();
        let placed = self.look_again(len);
        if placed.is_some() {
            self.end.unpark::<PRODUCER_PARKED>();
        }
        placed
    }

    /// Announces that this end waits in an event loop, for its pipe, until there is room for a block of `len`
    /// bytes. Returns false if there is room already, or never will be: then try again.
    #[must_use]
    pub(crate) fn arm_for_room(&mut self, len: usize, pipe: &mut OwnPipe) -> bool {
        self.end.take_kicks(pipe) && self.arm_after_kicks(len, pipe) && pipe.waits()
    }

    /// The same after the kicks were [taken](crate::ring::Consumer::take_kicks) by the other end of this
    /// side. A [wait](OwnPipe::waits) may follow.
    pub(crate) fn arm_after_kicks(&mut self, len: usize, pipe: &mut OwnPipe) -> bool {
        if self.end.closer.is_closed_here() || self.check_len(len).is_err() {
            return false;
        }
        self.notify();
        self.end.arm::<PRODUCER_PARKED>(pipe);
        failpoint!("arm.space.set", [client, link], rarely);
        if self.look_again(len).is_some() {
            self.end.disarm::<PRODUCER_PARKED>(pipe);
            return false;
        }
        true
    }

    /// Takes that back.
    pub(crate) fn disarm(&mut self, pipe: &mut OwnPipe) {
        if !self.end.closer.is_closed_here() {
            self.end.disarm::<PRODUCER_PARKED>(pipe);
        }
    }

    /// The words that the consumer writes, for threads that do not hold the producer.
    pub(crate) fn consumer_words(&self) -> ConsumerWords {
        ConsumerWords { ring: self.end.ring.clone(), scope: self.end.scope }
    }
}

/// What a ring's consumer writes; see [`Producer::consumer_words`].
pub(crate) struct ConsumerWords {
    ring: RingView,
    scope: Scope,
}

impl ConsumerWords {
    /// How many blocks the consumer says that it has taken. It may say anything.
    pub(crate) fn taken(&self) -> u64 {
        self.ring.word64::<TAKEN>().load(Ordering::Relaxed)
    }

    /// A wait on the word for space.
    pub(crate) fn as_wait(&self) -> Wait<'_> {
        as_wait::<PRODUCER_PARKED>(&self.ring, self.scope)
    }
}
