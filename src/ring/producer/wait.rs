//! Waiting for room.

use std::time::{Duration, Instant};

use super::Producer;
use crate::ring::layout::{LINE, PRODUCER_PARKED, Violation};
use crate::ring::wait::Looked;
use crate::ring::{SendTimeoutError, TrySendError};
use crate::shm::RingView;
use crate::shm::backend::{Ordering, effective_deadline, fence, now, spin_hint};
use crate::shm::futex::{self, Scope, Wait, Woken};
use crate::testing::failpoints::failpoint;

/// The longest sleep for space: a consumer may stop looking, and then sends no wake.
pub(crate) const SPACE_SLICE: Duration = Duration::from_millis(50);

impl Producer {
    /// Waits until a block of `len` bytes has a place. Padding and the zeroed line are part of the question.
    #[cold]
    pub(super) fn wait_for_place(
        &mut self,
        len: usize,
        deadline: Option<Instant>,
    ) -> Result<(), SendTimeoutError> {
        let deadline = effective_deadline(deadline);
        let mut waiting = self.waiting;
        let mut pauses = 0;
        let mut look = |producer: &mut Producer| {
            if pauses > 0 {
                pauses -= 1;
                return false;
            }
            pauses = producer.pauses();
            producer.is_decided(len)
        };
        for _ in 0..waiting.brief_looks() {
            if look(self) {
                return Ok(());
            }
            spin_hint();
        }
        let result = match waiting.look(deadline, self.position / LINE as u64, || look(self)) {
            Looked::Found => Ok(()),
            // The last look may have been one that was left out.
            Looked::TimedOut if self.is_decided(len) => Ok(()),
            Looked::TimedOut => Err(SendTimeoutError::TimedOut),
            Looked::Sleep(began) => {
                let slept = self.sleep_for_place(len, deadline);
                waiting.slept(began, self.position / LINE as u64);
                slept
            }
        };
        self.waiting = waiting;
        result
    }

    /// Whether an attempt to place a block would do anything but find the ring full.
    pub(super) fn is_decided(&mut self, len: usize) -> bool {
        self.was_full = false; // The waits leave time between their looks by themselves.
        !matches!(self.try_place(len), Err(TrySendError::Full))
    }

    pub(super) fn sleep_for_place(
        &mut self,
        len: usize,
        deadline: Option<Instant>,
    ) -> Result<(), SendTimeoutError> {
        loop {
            let before = self.head;
            if self.arm_for_place(len) {
                return Ok(());
            }
            let slice = now() + SPACE_SLICE;
            let until = deadline.map_or(slice, |deadline| deadline.min(slice));
            failpoint!("park.space.set");
            let woken = self.sleep(until);
            failpoint!("park.space.slept");
            futex::set(self.producer_parked(), 0);
            failpoint!("park.space.cleared");
            if self.is_decided(len) {
                return Ok(());
            }
            self.account(before, woken).map_err(SendTimeoutError::Violation)?;
            if deadline.is_some_and(|deadline| now() >= deadline) {
                return Err(SendTimeoutError::TimedOut);
            }
        }
    }

    /// Counts a return from a sleep for space that began with this head.
    pub(crate) fn account(&mut self, before: u64, woken: Woken) -> Result<(), Violation> {
        if self.head == before && woken == Woken::Hint {
            self.hints = self.hints.saturating_sub(1);
            if self.hints == 0 {
                return Err(self.poison(Violation::FruitlessWakes));
            }
        }
        Ok(())
    }

    /// Sets the parked word and looks again. False: there is no place, and a sleep may follow.
    pub(crate) fn arm_for_place(&mut self, len: usize) -> bool {
        futex::set(self.producer_parked(), 1);
        fence(Ordering::SeqCst);
        let decided = self.is_decided(len);
        if decided {
            futex::set(self.producer_parked(), 0);
        }
        decided
    }

    /// The word that a sleep for space waits on, for a thread that does not hold the producer meanwhile.
    pub(crate) fn space_word(&self) -> SpaceWord {
        SpaceWord { ring: self.ring.clone(), scope: self.scope }
    }

    pub(super) fn sleep(&self, until: Instant) -> Woken {
        let space = Wait { word: self.producer_parked(), expected: 1, scope: self.scope };
        if self.closer.sleeps_on_private() {
            futex::wait(&[space, self.closer.as_wait()], Some(until))
        } else {
            futex::wait(&[space], Some(until))
        }
    }
}

/// A ring's parked word for space; see [`Producer::space_word`].
pub(crate) struct SpaceWord {
    ring: RingView,
    scope: Scope,
}

impl SpaceWord {
    pub(crate) fn as_wait(&self) -> Wait<'_> {
        Wait { word: self.ring.word32::<PRODUCER_PARKED>(), expected: 1, scope: self.scope }
    }
}

/// For errors of an attempt that is known not to be `Full`.
pub(super) fn not_full(error: TrySendError) -> SendTimeoutError {
    match error {
        TrySendError::Full => SendTimeoutError::TimedOut,
        TrySendError::TooLarge { len, max } => SendTimeoutError::TooLarge { len, max },
        TrySendError::Disconnected(reason) => SendTimeoutError::Disconnected(reason),
        TrySendError::Violation(violation) => SendTimeoutError::Violation(violation),
    }
}
