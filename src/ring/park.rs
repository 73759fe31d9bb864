//! Parking an end of a ring on its parked word, and waking the other end from its own.
//!
//! Each end has a parked word in the ring: [`PRODUCER_PARKED`](super::layout::PRODUCER_PARKED) and
//! [`CONSUMER_PARKED`](super::layout::CONSUMER_PARKED), here the parameter `WORD`. The head of
//! [`crate::ring`] argues why no wake is lost. An end that waits in an event loop is not asleep on the word
//! but [armed](super::kick): a byte in its pipe wakes it.

use std::time::Instant;

use super::end::End;
use super::kick::{Kicks, OwnPipe};
use super::layout::Violation;
use crate::shm::RingView;
use crate::shm::backend::{AtomicU32, Ordering, fence};
use crate::shm::futex::{self, Scope, Wait, Woken};

/// The values of a parked word.
pub(crate) const AWAKE: u32 = 0;
pub(crate) const PARKED: u32 = 1;
pub(crate) const ARMED: u32 = 2;

impl End {
    #[inline(always)]
    fn parked<const WORD: usize>(&self) -> &AtomicU32 {
        self.ring.word32::<WORD>()
    }

    /// Announces that this end is about to sleep. It must look once more before it does.
    pub(super) fn park<const WORD: usize>(&self) {
        futex::set(self.parked::<WORD>(), PARKED);
        fence(Ordering::SeqCst);
    }

    /// Takes that back: this end is awake.
    pub(super) fn unpark<const WORD: usize>(&self) {
        futex::set(self.parked::<WORD>(), AWAKE);
    }

    /// Takes the kicks out of this end's pipe before it arms. Returns false if it cannot wait by that.
    pub(super) fn take_kicks(&mut self, pipe: &mut OwnPipe) -> bool {
        // In a forked child the word is the parent's.
        if self.closer.is_closed_here() {
            return false;
        }
        match pipe.drain() {
            Kicks::Permitted => true,
            Kicks::CutOff => false,
            Kicks::TooMany => {
                self.poison(Violation::FruitlessWakes);
                false
            }
        }
    }

    /// Announces that this end is about to wait for its pipe. It must look once more before it does.
    pub(super) fn arm<const WORD: usize>(&self, pipe: &mut OwnPipe) {
        // Release: for who kicks (`Kick::kick`).
        if self.parked::<WORD>().swap(ARMED, Ordering::Release) != ARMED {
            pipe.permit();
        }
        fence(Ordering::SeqCst);
    }

    /// Takes that back: this end is awake.
    pub(super) fn disarm<const WORD: usize>(&self, pipe: &mut OwnPipe) {
        if self.parked::<WORD>().swap(AWAKE, Ordering::Relaxed) == ARMED {
            pipe.withdraw();
        }
    }

    /// Sleeps until the other end wakes this one, the channel is closed, or the deadline passes. May return
    /// early. Call [`park`](Self::park) and look once more before it.
    pub(super) fn sleep<const WORD: usize>(&self, deadline: Option<Instant>) -> Woken {
        let parked = as_wait::<WORD>(&self.ring, self.scope);
        if self.closer.sleeps_on_private() {
            futex::wait(&[parked, self.closer.as_wait()], deadline)
        } else {
            futex::wait(&[parked], deadline)
        }
    }

    /// Whether the other end looks asleep or armed. Without a fence this can miss one that is just falling
    /// asleep, but costs nothing.
    #[inline(always)]
    pub(super) fn looks_parked<const WORD: usize>(&self) -> bool {
        self.parked::<WORD>().load(Ordering::Relaxed) != AWAKE
    }

    /// Wakes the other end if it sleeps or is armed, and tells whether it did. `swapped` is called between
    /// the change of the word and the wake. Another value than the three is the other end's own affair.
    #[inline(always)]
    pub(super) fn wake<const WORD: usize>(&self, swapped: impl FnOnce()) -> bool {
        let word = self.parked::<WORD>();
        // Relaxed: the fences make the order, not this word.
        let waits = word.swap(AWAKE, Ordering::Relaxed);
        if waits == AWAKE {
            return false;
        }
        swapped();
        match waits {
            PARKED => futex::wake(word, self.scope, 1),
            ARMED => self.kick.kick(),
            _ => {}
        }
        true
    }
}

/// A parked word as something to sleep on while it says that its end is parked.
pub(super) fn as_wait<const WORD: usize>(ring: &RingView, scope: Scope) -> Wait<'_> {
    Wait { word: ring.word32::<WORD>(), expected: PARKED, scope }
}
