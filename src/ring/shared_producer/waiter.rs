//! A thread that waits in the queue until its block may be written.

use std::time::Instant;

use super::{Closer, NotSent, NotWritten, Producer, SPACE_SLICE, SharedProducer, Signal};
use crate::shm::backend::{Arc, now};
use crate::shm::futex::{self, Woken};
use crate::testing::failpoints::failpoint;

/// A thread in the queue. It leaves the queue when this is dropped.
pub(crate) struct Waiter<'a> {
    pub(super) shared: &'a SharedProducer,
    pub(super) signal: Arc<Signal>,
    pub(super) len: usize,
}

/// What came of one attempt to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Written,
    /// The waiter is the front and has set the ring's parked word.
    NoRoom {
        head: u64,
    },
    /// The waiter is not the front and may not pass.
    Behind,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.shared.lock().leave(&self.signal);
        failpoint!("inbox.left", [server], rarely);
    }
}

impl Waiter<'_> {
    /// Waits until its block may be written, and writes it. `own` is the waiter's own channel, whose close
    /// ends the wait.
    pub(crate) fn write<P>(self, put: &P, own: &Closer, deadline: Instant) -> Result<(), NotWritten>
    where
        P: Fn(&mut Producer, u32) -> Result<(), NotSent>,
    {
        let SharedProducer { consumer, closer, .. } = self.shared;
        let mut slept = None;
        loop {
            // Checked first: a wake by either close must not count as fruitless, and a sender that has left
            // sends nothing.
            if own.is_closed() {
                return Err(NotWritten::Leaving);
            }
            if closer.is_closed() {
                return Err(NotWritten::Ended);
            }
            match self.look(put, slept.take())? {
                Look::Written => return Ok(()),
                Look::NoRoom { head } => slept = Some((head, Woken::TimedOut)),
                Look::Behind => {}
            }
            let now = now();
            if now >= deadline {
                return Err(NotWritten::TimedOut);
            }
            if let Some((_, how)) = &mut slept {
                // A consumer that never looks again wakes nobody, so the wait for space is sliced.
                failpoint!("inbox.armed", [server], rarely);
                let slice = deadline.min(now + SPACE_SLICE);
                let signal = self.signal.as_wait();
                *how =
                    futex::wait(&[consumer.as_wait(), signal, closer.as_wait(), own.as_wait()], Some(slice));
                failpoint!("inbox.slept", [server], rarely);
            } else {
                self.signal.sleep(own, deadline);
            }
        }
    }

    /// Tries once to write. `slept`: for the front, the head before its last sleep, and how that sleep ended.
    pub(super) fn look<P>(&self, put: &P, slept: Option<(u64, Woken)>) -> Result<Look, NotWritten>
    where
        P: Fn(&mut Producer, u32) -> Result<(), NotSent>,
    {
        let mut state = self.shared.lock();
        if state.has_ended() {
            return Err(NotWritten::Ended);
        }
        self.signal.reset();
        let before = state.before(&self.signal);
        let first = before == 0;
        let written = match before {
            0 => state.write_or_arm(self.len, put, slept),
            _ => state.pass(self.len, before, put),
        };
        let look = match written {
            Ok(()) => Look::Written,
            Err(NotWritten::Full) if first => Look::NoRoom { head: state.head() },
            Err(NotWritten::Full) => Look::Behind,
            Err(error) => return Err(error),
        };
        // A front that has written signals the next front when it leaves the queue.
        if !(first && look == Look::Written) {
            state.signal_next();
        }
        Ok(look)
    }
}
