//! Waking the consumer.

use super::Producer;
use crate::ring::layout::{CONSUMER_PARKED, PRODUCER_PARKED};
use crate::shm::backend::{Ordering, fence};
use crate::shm::futex;
use crate::testing::failpoints::failpoint;

impl Producer {
    /// Wakes the consumer if it sleeps. Owed after each publish before this thread does anything that may
    /// take long.
    #[inline(always)]
    pub(crate) fn notify(&mut self) {
        if self.owes_wake() {
            fence(Ordering::SeqCst);
            self.wake_after_fence();
        }
        self.clear_ahead();
    }

    /// Asks for the line of the next block: this thread is about to write it, and the consumer, which looks
    /// at it, holds a copy that has to be taken away first.
    #[inline(always)]
    pub(crate) fn prepare(&self) {
        self.ring.prefetch_for_write(self.position);
    }

    /// Whether anything was published that a parked consumer may not know of.
    #[inline(always)]
    pub(crate) fn owes_wake(&self) -> bool {
        self.notified != self.position
    }

    /// The consumer looks asleep. Without the fence this can miss one that is just lying down, but costs
    /// nothing.
    #[inline(always)]
    pub(crate) fn consumer_looks_parked(&self) -> bool {
        self.consumer_parked().load(Ordering::Relaxed) == 1
    }

    /// The producer's half of the data wake, behind a SeqCst fence that the caller made.
    #[inline(always)]
    pub(crate) fn wake_after_fence(&mut self) {
        // A consumer that parks later sees, behind its own fence, all that was published: nothing is owed to
        // it.
        if self.owes_wake() {
            self.notified = self.position;
            if self.consumer_looks_parked() {
                self.wake_consumer();
            }
        }
    }

    #[cold]
    pub(super) fn wake_consumer(&mut self) {
        let word = self.consumer_parked();
        // Relaxed: the word carries no order, the fences do.
        if word.swap(0, Ordering::Relaxed) == 1 {
            failpoint!("wake.data.swapped", [server, client], always);
            futex::wake(word, self.scope, 1);
            failpoint!("wake.data.woken", [server, client], always);
        }
    }

    #[inline(always)]
    pub(super) fn consumer_parked(&self) -> &crate::shm::backend::AtomicU32 {
        self.ring.word32::<CONSUMER_PARKED>()
    }

    pub(super) fn producer_parked(&self) -> &crate::shm::backend::AtomicU32 {
        self.ring.word32::<PRODUCER_PARKED>()
    }
}
