//! Waking the consumer.

use super::Producer;
use crate::ring::layout::CONSUMER_PARKED;
use crate::shm::backend::{Ordering, fence};
use crate::testing::failpoints::failpoint;

impl Producer {
    /// Wakes the consumer if it sleeps. Must be called after each publish, before this thread does anything
    /// that may take long.
    #[inline(always)]
    pub(crate) fn notify(&mut self) {
        if self.owes_wake() {
            fence(Ordering::SeqCst);
            self.wake_after_fence();
        }
        self.clear_ahead();
    }

    /// Prefetches the line of the next block for writing. The consumer polls that line and holds a copy of
    /// it, which must be invalidated before this thread can write.
    #[inline(always)]
    pub(crate) fn prepare(&self) {
        self.end.ring.prefetch_for_write(self.end.position);
    }

    /// Whether anything was published that a parked consumer may not know of.
    #[inline(always)]
    pub(crate) fn owes_wake(&self) -> bool {
        self.end.owes_wake()
    }

    /// Whether the consumer looks asleep. Without a fence this can miss one that is just falling asleep.
    #[inline(always)]
    pub(crate) fn consumer_looks_parked(&self) -> bool {
        self.end.looks_parked::<CONSUMER_PARKED>()
    }

    /// The producer's half of the data wake, after a SeqCst fence that the caller made.
    #[inline(always)]
    pub(crate) fn wake_after_fence(&mut self) {
        // A consumer that parks later makes its own fence, and then sees everything that was published.
        if self.owes_wake() {
            self.end.notified = self.end.position;
            if self.consumer_looks_parked() {
                self.wake_consumer();
            }
        }
    }

    #[cold]
    pub(super) fn wake_consumer(&mut self) {
        let swapped = || {
            failpoint!("wake.data.swapped", [server, client, link], always);
            if let Some(stamps) = &self.end.stamps {
                stamps.wakes();
            }
        };
        if self.end.wake::<CONSUMER_PARKED>(swapped) {
            failpoint!("wake.data.woken", [server, client, link], always);
        }
    }
}
