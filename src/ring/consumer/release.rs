//! Giving room back to the producer, and waking it.

use super::Consumer;
use super::look::Found;
use crate::ring::layout::{GIVEN_UP, HEAD, PRODUCER_PARKED, TAKEN};
use crate::shm::backend::{Ordering, fence};
use crate::testing::failpoints::failpoint;

impl Consumer {
    /// Moves past a block that was copied out. [`give_back`](Self::give_back) then releases its place.
    #[inline(always)]
    pub(super) fn pass(&mut self, found: Found) {
        failpoint!("consume.copied", [server, client, link], always);
        self.end.progress += 1;
        self.end.position += found.size();
    }

    /// Releases everything that was taken to the producer.
    #[inline(always)]
    pub(super) fn give_back(&self) {
        // Release: our reads of these bytes come before the producer's next writes to them.
        self.end.ring.word64::<HEAD>().store(self.end.position, Ordering::Release);
        failpoint!("consume.head", [server, client, link], always);
    }

    /// Says how many blocks were taken so far.
    #[inline(always)]
    pub(super) fn tell_taken(&self) {
        // Relaxed: nothing else is published by this word.
        self.end.ring.word64::<TAKEN>().store(self.end.progress, Ordering::Relaxed);
    }

    /// From now on each release makes the fence: the producer may wait in an event loop, where it does not
    /// look by itself after a while.
    pub(crate) fn release_aloud(&mut self) {
        (self.quarter, self.next_quarter) = (0, self.end.position);
    }

    /// Wakes the producer if a quarter of the ring was taken, or if it looks asleep.
    #[inline(always)]
    pub(crate) fn settle(&mut self) {
        if self.end.position >= self.next_quarter || self.end.looks_parked::<PRODUCER_PARKED>() {
            self.pay_wake();
        }
    }

    #[inline]
    pub(super) fn pay_wake_if_owed(&mut self) {
        if self.owes_wake() {
            self.pay_wake();
        }
    }

    /// The consumer's half of the space wake.
    #[cold]
    #[inline(never)]
    pub(super) fn pay_wake(&mut self) {
        // For blocks that a drain took; for others `head` already has this value.
        self.give_back();
        self.next_quarter = self.end.position + self.quarter;
        fence(Ordering::SeqCst);
        self.wake_after_fence();
    }

    /// Whether anything was taken that a parked producer may not know of.
    #[inline(always)]
    pub(crate) fn owes_wake(&self) -> bool {
        self.end.owes_wake()
    }

    /// The same after a SeqCst fence that the caller made.
    #[inline(always)]
    pub(crate) fn wake_after_fence(&mut self) {
        // A producer that parks later makes its own fence, and then sees everything that was given back.
        if !self.owes_wake() {
            return;
        }
        self.end.notified = self.end.position;
        self.wake_producer();
    }

    #[inline(always)]
    pub(super) fn wake_producer(&self) {
        let swapped = || failpoint!("wake.space.swapped", [client, link], rarely);
        if self.end.looks_parked::<PRODUCER_PARKED>() && self.end.wake::<PRODUCER_PARKED>(swapped) {
            failpoint!("wake.space.woken", [client, link], rarely);
        }
    }

    /// Tells the producer that this end takes nothing any more, and wakes it if it waits for room. For an
    /// inbox whose receiver is gone while its channel stays open. Does nothing on a closed channel, and in a
    /// forked child.
    pub(crate) fn give_up(&self) {
        if self.end.closer.is_closed() {
            return;
        }
        self.end.ring.word32::<GIVEN_UP>().store(1, Ordering::Relaxed);
        failpoint!("give_up.stored", [client], seldom);
        // As after releasing room: a producer that parks later makes its own fence and then sees the word.
        fence(Ordering::SeqCst);
        self.wake_producer();
        failpoint!("give_up.told", [client], seldom);
    }
}
