//! One producer shared by several threads, some of which wait for room.
//!
//! The producer lies under a lock, which a thread holds while it tries to write and never while it waits.
//!
//! **Who waits.** Waiting threads stand in a queue. The first one, the *front*, deals with the ring: it
//! sleeps on the ring's word for space. Each of the others sleeps on its own [`Signal`], which other threads
//! set when that thread should look again. Each sleep also ends when the ring's channel or the waiter's own
//! is closed, and at the waiter's deadline.
//!
//! **Who may write.** The front writes as soon as its block fits. Any other block, whether its thread waits
//! or not, may pass those before it under two conditions, and otherwise finds the ring full:
//!
//! 1. None of their blocks fits now, so it takes no room that they could use.
//! 2. Fewer bytes than the capacity (padding counted) have passed this front so far.
//!
//! *Free room is used.* As long as the receiver reads nothing, what may pass a front is bounded by the free
//! room alone, which is less than the capacity. So a waiting large block does not keep small ones out of a
//! ring that has room for them. Once the second condition fails, small ones are kept out only until the
//! receiver has read what lies in the ring.
//!
//! *The front is not starved.* At most one capacity and one block pass it. Once the receiver has read those
//! and what was there before, the ring is empty, and an empty ring has room for every block. Each waiter
//! becomes the front, at the latest when all that came before it have written or left. Blocks of equal length
//! are written in the order in which their threads began to wait.
//!
//! **Why no wake is lost.** A wait ends by room, a signal, a close, the receiver giving up its ring, or the
//! deadline.
//!
//! - *Room* comes only from the receiver, which wakes the front as it wakes any producer (see
//!   [`crate::ring`]; here the parked word is set under the lock and slept on without it). Whenever the front
//!   has looked and does not fit, and whenever another thread has written, the first waiter whose block may
//!   now be written is signalled.
//! - *When the front leaves*, for whatever reason, it does so under the lock and signals its successor.
//! - *A signal* is reset by its owner under the lock before the owner looks, and set under the lock.
//! - *A receiver that gives up its ring* wakes the front as it does after making room (`Consumer::give_up`).
//!   If it does not, the front sees the word within [`SPACE_SLICE`]. Whichever thread sees it first ends the
//!   ring for good; such a receiver harms only itself.

mod queue;
mod waiter;

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;

use super::producer::{ConsumerWords, Producer, SPACE_SLICE};
use super::signal::Signal;
use super::{Closer, NotSent};
use crate::shm::backend::{Arc, Mutex, MutexGuard};
use crate::testing::failpoints::failpoint;

use queue::State;
use waiter::Waiter;

/// A producer that threads share.
///
/// A block is written by a function `put`: it gets the block's number and publishes the block. It may be
/// called again if it found the ring full.
pub(crate) struct SharedProducer {
    state: Mutex<State>,
    consumer: ConsumerWords,
    closer: Closer,
}

/// Why a block was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotWritten {
    /// There is no room, or others wait for it.
    Full,
    /// The deadline passed.
    TimedOut,
    /// No block is accepted any more.
    Ended,
    /// The waiter's own channel was closed.
    Leaving,
    TooLarge,
    /// The consumer broke a rule.
    Violation,
}

impl From<NotSent> for NotWritten {
    fn from(error: NotSent) -> NotWritten {
        match error {
            NotSent::Full => NotWritten::Full,
            NotSent::TooLarge { .. } => NotWritten::TooLarge,
            NotSent::Closed(_) => NotWritten::Ended,
            NotSent::Fault(_) => NotWritten::Violation,
        }
    }
}

impl SharedProducer {
    pub(crate) fn new(producer: Producer) -> SharedProducer {
        SharedProducer {
            consumer: producer.consumer_words(),
            closer: producer.closer(),
            state: Mutex::new(State::new(producer)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under this lock leaves the state consistent, because the ring commits with one store.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Writes at once if there is room and no thread waits. `None`: some thread waits.
    #[inline(always)]
    pub(crate) fn try_write<P>(&self, put: &P) -> Option<Result<(), NotWritten>>
    where
        P: Fn(&mut Producer, u32) -> Result<(), NotSent>,
    {
        let mut state = self.lock();
        state.nobody_waits().then(|| state.try_write(put))
    }

    /// Writes `len` bytes at once, even if others wait, provided that they do not need that room.
    #[cold]
    pub(crate) fn try_pass<P>(&self, len: usize, put: &P) -> Result<(), NotWritten>
    where
        P: Fn(&mut Producer, u32) -> Result<(), NotSent>,
    {
        let mut state = self.lock();
        let before = state.waiting();
        let passed = state.pass(len, before, put);
        // Also after a failure: this thread may have loaded the ring's head before the front did.
        state.signal_next();
        passed
    }

    /// Joins the end of the queue with a block of `len` bytes.
    pub(crate) fn enqueue(&self, len: usize) -> Waiter<'_> {
        let signal = Arc::new(Signal::default());
        self.lock().enqueue(&signal, len);
        failpoint!("inbox.queued", [server], rarely);
        Waiter { shared: self, signal, len }
    }

    /// How many blocks the consumer says that it has taken. It may say anything.
    pub(crate) fn taken(&self) -> u64 {
        self.consumer.taken()
    }

    /// Behind the last block that was written, and how many threads wait for room.
    pub(crate) fn tail_and_waiting(&self) -> (u64, usize) {
        let state = self.lock();
        (state.tail(), state.waiting())
    }

    /// Accepts no more blocks. The front learns it from the close of the channel, which must follow, or
    /// within [`SPACE_SLICE`]; the others learn it when the front leaves.
    pub(crate) fn end(&self) {
        self.lock().end();
    }
}
