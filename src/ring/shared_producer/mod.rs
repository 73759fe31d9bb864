//! One producer for several threads, some of whom wait for room.
//!
//! The producer lies under a lock that is held for a try-write and never over a wait.
//!
//! **Who waits** stands in a queue. The first of them, the *front*, deals with the ring: it parks on the
//! ring's word for space. The others sleep on a word of their own, their *turn*, which others set when it is
//! worth while to look again. Each sleep also ends when the ring's channel or the waiter's own is closed, and
//! at the waiter's deadline.
//!
//! **Who may write.** The front writes as soon as its block fits. Any other block, of a thread that waits or
//! of one that does not, may pass those before it under two conditions, and else finds the ring full:
//!
//! 1. None of their blocks fits now: it takes no room that they could use.
//! 2. Fewer bytes than the ring has (padding counted) have passed this front so far.
//!
//! *What fits is taken.* As long as the receiver reads nothing, what may pass a front is bounded by the free
//! room alone: that is less than the ring has. So a large block that waits does not keep small ones out of a
//! ring that has room for them. With the second condition used up, small ones are kept out for no longer than
//! the receiver needs for what lies in the ring before it.
//!
//! *The front is not starved.* At most one ring and one block pass it. Once the receiver has read those and
//! what was there before, the ring is empty, and an empty ring has room for every block. Each that waits
//! becomes the front at the latest when all that came before it have written or left. Blocks of one length
//! are written in the order in which their threads began to wait.
//!
//! **Why nobody sleeps on.** What ends a wait is room, the turn, a close, the receiver's giving up its ring,
//! or the deadline. *Room* comes only from the receiver, who wakes the front, as it wakes any producer (see
//! [`crate::ring`]; here the parked word is set under the lock and slept on without it). Whenever the front
//! has looked and does not fit, and whenever another has written, the first of those behind whose block may
//! be written now is given its turn. *The end of the front*, for whatever reason, takes place under the lock
//! and gives its successor the turn. A thread takes its turn back under the lock before it looks, and turns
//! are given under the lock and before the wake: one that is given between the look and the sleep
//! makes the kernel's compare fail. *A receiver that gives up its ring* wakes the front in the way of room
//! (`Consumer::give_up`). If it does not, the front finds the word within [`SPACE_SLICE`]; whoever is the
//! first to see it ends the ring for good, and the receiver has harmed itself alone.

use std::collections::VecDeque;
use std::time::Instant;

use super::producer::{Producer, SPACE_SLICE, SpaceWord};
use super::{Closer, NotSent};
use crate::shm::backend::{Arc, AtomicU32, Mutex, MutexGuard, Ordering, now};
use crate::shm::futex::{self, Scope, Wait, Woken};
use crate::testing::failpoints::failpoint;

/// A producer that threads share.
///
/// What is written is a function `put`: it is given the number of the block and publishes it. It may be
/// called again if it found the ring full.
pub(crate) struct Turns {
    state: Mutex<State>,
    space: SpaceWord,
    closer: Closer,
}

struct State {
    producer: Producer,
    /// How many blocks were written.
    written: u32,
    /// No block is accepted any more.
    ended: bool,
    queue: VecDeque<Waiter>,
    /// Bytes that others have written since the first of the queue became that.
    passed: u64,
}

/// Who waits, and for how long a block.
struct Waiter {
    turn: Arc<Turn>,
    len: usize,
}

/// Set to 1 when its owner's turn may have come.
pub(crate) struct Turn(AtomicU32);

impl Default for Turn {
    fn default() -> Turn {
        Turn(AtomicU32::new(0))
    }
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

impl Turn {
    pub(crate) fn give(&self) {
        self.0.store(1, Ordering::Release);
        futex::wake(&self.0, Scope::Private, 1);
    }

    /// Before its owner waits for another.
    pub(crate) fn take_back(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    pub(crate) fn is_given(&self) -> bool {
        self.0.load(Ordering::Acquire) == 1
    }

    /// Sleeps until it is given, at most until the deadline or the close of the sleeper's own channel.
    pub(crate) fn sleep(&self, own: &Closer, deadline: Instant) {
        futex::wait(&[self.as_wait(), own.as_wait()], Some(deadline));
    }

    fn as_wait(&self) -> Wait<'_> {
        Wait { word: &self.0, expected: 0, scope: Scope::Private }
    }
}

impl State {
    fn first_is(&self, turn: &Arc<Turn>) -> bool {
        self.queue.front().is_some_and(|first| Arc::ptr_eq(&first.turn, turn))
    }

    /// Leaves the queue; the new front is told.
    fn leave(&mut self, turn: &Arc<Turn>) {
        let was_first = self.first_is(turn);
        self.queue.retain(|other| !Arc::ptr_eq(&other.turn, turn));
        if was_first {
            self.passed = 0;
            if let Some(next) = self.queue.front() {
                next.turn.give();
            }
        } else {
            // It may have been given a turn that it did not use.
            self.offer();
        }
    }

    /// Accepts nothing any more: the receiver has left, or has given up its ring, for good then whatever its
    /// word says later. Who waits hears of it when the front leaves.
    #[cold]
    fn end(&mut self) -> NotWritten {
        self.ended = true;
        NotWritten::Ended
    }

    /// Whether nobody waits.
    fn is_free(&self) -> bool {
        self.queue.is_empty()
    }

    #[inline(always)]
    fn try_write<P>(&mut self, put: &P) -> Result<(), NotWritten>
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

    /// Whether a block of that length has room and may pass the first `before` of those who wait, as far as
    /// the room is known; see the head of this file.
    fn may_pass(&self, len: usize, before: usize) -> bool {
        let fits = |len| self.producer.fits(self.producer.position(), len);
        let bounded = before == 0 || self.passed < self.producer.capacity();
        bounded && fits(len) && !self.queue.iter().take(before).any(|waiter| fits(waiter.len))
    }

    /// For one with so many before it: writes if it may.
    fn pass<P>(&mut self, len: usize, before: usize, put: &P) -> Result<(), NotWritten>
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

    /// Gives the turn to the first who could write now: the front, or one behind it.
    fn offer(&self) {
        let fits = |waiter: &&Waiter| self.producer.fits(self.producer.position(), waiter.len);
        let passed = self.passed >= self.producer.capacity();
        let could = self.queue.iter().take(if passed { 1 } else { usize::MAX }).find(fits);
        if let Some(next) = could {
            next.turn.give();
        }
    }

    /// For the front of the queue: writes, or sets the ring's parked word so that the next sleep is ended by
    /// space. `slept`: the head before the last sleep, and how that ended.
    fn write_or_arm<P>(&mut self, len: usize, put: &P, slept: Option<(u64, Woken)>) -> Result<(), NotWritten>
    where
        P: Fn(&mut Producer, u32) -> Result<(), NotSent>,
    {
        let too_large = self.producer.check_len(len).is_err();
        let room = too_large || self.producer.arm_for_place(len).is_some();
        // Behind the fence of that: a receiver that gives up its ring stores the word, makes a fence, and
        // wakes who is parked.
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

impl Turns {
    pub(crate) fn new(producer: Producer) -> Turns {
        Turns {
            space: producer.space_word(),
            closer: producer.closer(),
            state: Mutex::new(State {
                producer,
                written: 0,
                ended: false,
                queue: VecDeque::new(),
                passed: 0,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock leaves the state half changed: the ring commits with one store.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Writes at once, if there is room and nobody waits. `None`: somebody does.
    #[inline(always)]
    pub(crate) fn try_write<P>(&self, put: &P) -> Option<Result<(), NotWritten>>
    where
        P: Fn(&mut Producer, u32) -> Result<(), NotSent>,
    {
        let mut state = self.lock();
        state.is_free().then(|| state.try_write(put))
    }

    /// Writes `len` bytes at once, also where others wait, if there is room that they do not need.
    #[cold]
    pub(crate) fn try_pass<P>(&self, len: usize, put: &P) -> Result<(), NotWritten>
    where
        P: Fn(&mut Producer, u32) -> Result<(), NotSent>,
    {
        let mut state = self.lock();
        let before = state.queue.len();
        let passed = state.pass(len, before, put);
        // Also if not: it has seen the head, perhaps before the front did.
        state.offer();
        passed
    }

    /// Takes a place at the end of the queue, for a block of `len` bytes.
    pub(crate) fn line_up(&self, len: usize) -> Place<'_> {
        let turn = Arc::new(Turn::default());
        self.lock().queue.push_back(Waiter { turn: Arc::clone(&turn), len });
        failpoint!("inbox.queued", [server], rarely);
        Place { turns: self, turn, len }
    }

    /// Accepts nothing any more. Who stands at the front learns it by the close of the channel, which is to
    /// follow, or within [`SPACE_SLICE`]; the others by its leaving.
    pub(crate) fn end(&self) {
        self.lock().end();
    }
}

/// A place in the queue, which is left when this is dropped.
pub(crate) struct Place<'a> {
    turns: &'a Turns,
    turn: Arc<Turn>,
    len: usize,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.turns.lock().leave(&self.turn);
        failpoint!("inbox.left", [server], rarely);
    }
}

impl Place<'_> {
    /// Waits until its block may be written, and writes it. `own` is the waiter's own channel, whose close
    /// ends the wait.
    pub(crate) fn write<P>(self, put: &P, own: &Closer, deadline: Instant) -> Result<(), NotWritten>
    where
        P: Fn(&mut Producer, u32) -> Result<(), NotSent>,
    {
        let Turns { space, closer, .. } = self.turns;
        let mut slept = None;
        loop {
            // Before anything else: a wake by either close is not a fruitless one, and whoever is gone sends
            // nothing more.
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
                // The consumer may never look again, and then wakes nobody: wait for space in slices.
                failpoint!("inbox.armed", [server], rarely);
                let slice = deadline.min(now + SPACE_SLICE);
                let turn = self.turn.as_wait();
                *how = futex::wait(&[space.as_wait(), turn, closer.as_wait(), own.as_wait()], Some(slice));
                failpoint!("inbox.slept", [server], rarely);
            } else {
                self.turn.sleep(own, deadline);
            }
        }
    }

    /// One attempt to write. `slept`: for the front, the head before its last sleep, and how that ended.
    fn look<P>(&self, put: &P, slept: Option<(u64, Woken)>) -> Result<Look, NotWritten>
    where
        P: Fn(&mut Producer, u32) -> Result<(), NotSent>,
    {
        let mut state = self.turns.lock();
        if state.ended {
            return Err(NotWritten::Ended);
        }
        self.turn.take_back();
        let before = state.queue.iter().take_while(|other| !Arc::ptr_eq(&other.turn, &self.turn)).count();
        let first = before == 0;
        let written = match before {
            0 => state.write_or_arm(self.len, put, slept),
            _ => state.pass(self.len, before, put),
        };
        let look = match written {
            Ok(()) => Look::Written,
            Err(NotWritten::Full) if first => Look::NoRoom { head: state.producer.head() },
            Err(NotWritten::Full) => Look::Behind,
            Err(error) => return Err(error),
        };
        // Of one that stands at the front no longer, the next front is told when it leaves.
        if !(first && look == Look::Written) {
            state.offer();
        }
        Ok(look)
    }
}

/// What came of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Written,
    /// It is the front and has set the ring's parked word.
    NoRoom {
        head: u64,
    },
    /// It may not pass.
    Behind,
}

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
