//! What lies under the lock: the producer, the queue of the threads that wait, and who of them may write.

use std::collections::VecDeque;

use super::{NotSent, NotWritten, Producer, Signal};
use crate::shm::backend::Arc;
use crate::shm::futex::Woken;
use crate::testing::failpoints::failpoint;

pub(super) struct State {
    producer: Producer,
    /// How many blocks were written.
    written: u32,
    /// No block is accepted any more.
    ended: bool,
    queue: VecDeque<Entry>,
    /// Bytes that others have written since the first in the queue became the front.
    passed: u64,
}

/// A thread in the queue and the length of its block.
struct Entry {
    signal: Arc<Signal>,
    len: usize,
}

impl State {
    pub(super) fn new(producer: Producer) -> State {
        State { producer, written: 0, ended: false, queue: VecDeque::new(), passed: 0 }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn nobody_waits(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many threads wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// How many wait before the owner of this signal.
    pub(super) fn before(&self, signal: &Arc<Signal>) -> usize {
        self.queue.iter().take_while(|other| !Arc::ptr_eq(&other.signal, signal)).count()
    }

    /// The ring's head as the producer last saw it.
    pub(super) fn head(&self) -> u64 {
        self.producer.head()
    }

    /// Behind the last block that was written.
    pub(super) fn tail(&self) -> u64 {
        self.producer.position()
    }

    pub(super) fn enqueue(&mut self, signal: &Arc<Signal>, len: usize) {
        self.queue.push_back(Entry { signal: Arc::clone(signal), len });
    }

    /// Leaves the queue. If the front leaves, the new front is signalled.
    pub(super) fn leave(&mut self, signal: &Arc<Signal>) {
        let was_front = self.queue.front().is_some_and(|front| Arc::ptr_eq(&front.signal, signal));
        self.queue.retain(|other| !Arc::ptr_eq(&other.signal, signal));
        if was_front {
            self.passed = 0;
            if let Some(next) = self.queue.front() {
                next.signal.set();
            }
        } else {
            // The leaving thread may have been signalled, and has not looked since.
            self.signal_next();
        }
    }

    /// Accepts no more blocks, because the receiver has left or has given up its ring. That is final,
    /// whatever the ring's word says later. Waiting threads learn it when the front leaves.
    #[cold]
    pub(super) fn end(&mut self) -> NotWritten {
        self.ended = true;
        NotWritten::Ended
    }

    #[inline(always)]
    pub(super) fn try_write<P>(&mut self, put: &P) -> Result<(), NotWritten>
    where
        P: Fn(&mut Producer, u32) -> Result<(), NotSent>,
    {
        if self.ended || self.producer.is_given_up() {
            return Err(self.end());
        }
        match put(&mut self.producer, self.written) {
            Ok(()) => {
                self.written = self.written.wrapping_add(1);
                self.producer.notify();
                failpoint!("inbox.notified", [server], always);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a block of that length fits and may pass the first `before` threads in the queue, as far as
    /// the room is known. The rule is at the head of `shared_producer/mod.rs`.
    fn may_pass(&self, len: usize, before: usize) -> bool {
        let fits = |len| self.producer.fits(self.producer.position(), len);
        let bounded = before == 0 || self.passed < self.producer.capacity();
        bounded && fits(len) && !self.queue.iter().take(before).any(|waiter| fits(waiter.len))
    }

    /// Writes a block if it may pass the first `before` threads in the queue.
    pub(super) fn pass<P>(&mut self, len: usize, before: usize, put: &P) -> Result<(), NotWritten>
    where
        P: Fn(&mut Producer, u32) -> Result<(), NotSent>,
    {
        if self.ended || self.producer.is_given_up() {
            return Err(self.end());
        }
        if !self.producer.has_room(len)? || !self.may_pass(len, before) {
            return Err(NotWritten::Full);
        }
        let position = self.producer.position();
        self.try_write(put)?;
        if before > 0 {
            self.passed += self.producer.position() - position;
        }
        Ok(())
    }

    /// Signals the first waiter that could write now: the front, or one behind it.
    pub(super) fn signal_next(&self) {
        let fits = |waiter: &&Entry| self.producer.fits(self.producer.position(), waiter.len);
        let passed = self.passed >= self.producer.capacity();
        let could = self.queue.iter().take(if passed { 1 } else { usize::MAX }).find(fits);
        if let Some(next) = could {
            next.signal.set();
        }
    }

    /// For the front: writes, or sets the ring's parked word so that space ends its next sleep. `slept`: the
    /// head before its last sleep, and how that sleep ended.
    pub(super) fn write_or_arm<P>(
        &mut self,
        len: usize,
        put: &P,
        slept: Option<(u64, Woken)>,
    ) -> Result<(), NotWritten>
    where
        P: Fn(&mut Producer, u32) -> Result<(), NotSent>,
    {
        let too_large = self.producer.check_len(len).is_err();
        let room = too_large || self.producer.arm_for_place(len).is_some();
        // After the fence in `arm_for_place`: a receiver that gives up its ring stores the word, makes a
        // fence, and wakes a parked producer.
        if self.producer.is_given_up() {
            return Err(self.end());
        }
        if let Some((head, woken)) = slept
            && self.producer.account(head, woken).is_err()
        {
            return Err(NotWritten::Violation);
        }
        if room { self.try_write(put) } else { Err(NotWritten::Full) }
    }
}
