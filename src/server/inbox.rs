//! Delivery into one client's inbox, from many senders' workers.
//!
//! The inbox ring has one producer, which lies here under a lock that is held for a try-write and never over a wait. A message is
//! acknowledged to its sender after it was committed in the ring, and only then.
//!
//! **Senders that wait** stand in a queue. Only the first of them deals with the ring: it parks on the ring's word for space. The others
//! sleep on a word of their own, their *turn*, until whoever leaves the front of the queue sets it. While anyone waits, a sender that does
//! not want to wait finds the inbox full: so those who wait are served in the order in which they came.
//! Each sleep also ends when the receiver's channel or the sender's own is closed, and at the sender's deadline.
//!
//! **Why nobody waits for ever.** Whoever leaves the queue, for whatever reason, does so under the lock and passes the turn to the new
//! front if it left the front. Closing sets `gone` under the lock and then gives everyone the turn.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::kill::{kill_point, planted_fault};
use crate::protocol::{BlockHeader, KEY, MESSAGE, Status};
use crate::registry::CounterCells;
use crate::ring::{CloseReason, Closer, Producer, SPACE_SLICE, SpaceWord, TrySendError};
use crate::server::member::Member;
use crate::shm::futex::{self, Scope, Wait, Woken};

pub(super) struct Inbox {
    state: Mutex<State>,
    space: SpaceWord,
    /// Of the receiver's channel.
    closer: Closer,
    /// Ends the receiver's worker if its client breaks a rule here.
    intake: Closer,
    counters: CounterCells,
}

struct State {
    producer: Producer,
    sequence: u32,
    /// No message is accepted any more.
    gone: bool,
    queue: VecDeque<Arc<Turn>>,
}

/// Set to 1 when its sender may be at the front of the queue.
struct Turn(AtomicU32);

impl Turn {
    fn give(&self) {
        self.0.store(1, Ordering::Release);
        futex::wake(&self.0, Scope::Private, 1);
    }

    fn as_wait(&self) -> Wait<'_> {
        Wait { word: &self.0, expected: 0, scope: Scope::Private }
    }
}

impl State {
    fn first_is(&self, turn: &Arc<Turn>) -> bool {
        self.queue.front().is_some_and(|first| Arc::ptr_eq(first, turn))
    }

    /// Leaves the queue; the new front is told.
    fn leave(&mut self, turn: &Arc<Turn>) {
        let was_first = self.first_is(turn);
        self.queue.retain(|other| !Arc::ptr_eq(other, turn));
        if was_first && let Some(next) = self.queue.front() {
            next.give();
        }
    }
}

/// A message on its way.
pub(super) struct Letter<'a> {
    pub(super) from: &'a Member,
    pub(super) payload: &'a [u8],
}

impl Inbox {
    pub(super) fn new(producer: Producer, intake: Closer, counters: CounterCells) -> Inbox {
        Inbox {
            intake,
            space: producer.space_word(),
            closer: producer.closer(),
            counters,
            state: Mutex::new(State { producer, sequence: 0, gone: false, queue: VecDeque::new() }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock leaves the state half changed: the ring commits with one store.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers at once, or waits until the deadline if there is one.
    pub(super) fn deliver(&self, letter: &Letter<'_>, deadline: Option<Instant>) -> Status {
        let mut state = self.lock();
        if state.queue.is_empty() {
            match self.try_write(&mut state, letter) {
                Status::InboxFull => {}
                done => return done,
            }
        } else if state.gone {
            return Status::Gone;
        }
        match deadline {
            None => Status::InboxFull,
            Some(deadline) => {
                let turn = Arc::new(Turn(AtomicU32::new(0)));
                state.queue.push_back(Arc::clone(&turn));
                drop(state);
                kill_point!("inbox.queued");
                let status = self.wait_in_queue(&turn, letter, deadline);
                self.lock().leave(&turn);
                kill_point!("inbox.left");
                status
            }
        }
    }

    fn wait_in_queue(&self, turn: &Arc<Turn>, letter: &Letter<'_>, deadline: Instant) -> Status {
        let mut slept = None;
        // Closed with the sender's channel, and already when a shutdown begins.
        let own = &letter.from.intake;
        loop {
            // Before anything else: a wake by either close is not a fruitless one, and whoever is gone sends nothing more.
            if own.is_closed() {
                return Status::ShuttingDown;
            }
            if self.closer.is_closed() {
                return Status::Gone;
            }
            let first;
            {
                let mut state = self.lock();
                first = state.first_is(turn);
                if state.gone {
                    return Status::Gone;
                }
                if first {
                    match self.write_or_arm(&mut state, letter, slept.take()) {
                        Status::InboxFull => slept = Some((state.producer.head(), Woken::TimedOut)),
                        done => return done,
                    }
                }
            }
            let now = Instant::now();
            if now >= deadline {
                return Status::TimedOut;
            }
            // The receiver may never look again, and then wakes nobody: wait for space in slices.
            if first {
                kill_point!("inbox.armed");
                let slice = deadline.min(now + SPACE_SLICE);
                let woken =
                    futex::wait(&[self.space.as_wait(), self.closer.as_wait(), own.as_wait()], Some(slice));
                kill_point!("inbox.slept");
                slept = slept.map(|(head, _)| (head, woken));
            } else {
                futex::wait(&[turn.as_wait(), own.as_wait()], Some(deadline));
            }
        }
    }

    /// For the front of the queue: writes, or sets the ring's parked word so that the next sleep is ended by space.
    /// `slept`: the head before the last sleep, and how that ended.
    fn write_or_arm(&self, state: &mut State, letter: &Letter<'_>, slept: Option<(u64, Woken)>) -> Status {
        let len = letter.len();
        let room = state.producer.arm_for_place(len);
        if let Some((head, woken)) = slept
            && state.producer.account(head, woken).is_err()
        {
            self.intake.close_as(CloseReason::ProtocolViolation);
            return Status::Gone;
        }
        if room { self.try_write(state, letter) } else { Status::InboxFull }
    }

    fn try_write(&self, state: &mut State, letter: &Letter<'_>) -> Status {
        if state.gone {
            return Status::Gone;
        }
        let (key, name) = (letter.from.key.to_bytes(), letter.from.name.as_str().as_bytes());
        let header = BlockHeader::new(MESSAGE, name.len() as u16, state.sequence);
        kill_point!("inbox.locked");
        if planted_fault!("lost") {
            return Status::Ok;
        }
        if planted_fault!("twice") {
            let _ = state.producer.try_publish([&header.to_bytes(), &key, name, letter.payload]);
        }
        match state.producer.try_publish([&header.to_bytes(), &key, name, letter.payload]) {
            Ok(()) => {
                kill_point!("inbox.committed");
                state.sequence = state.sequence.wrapping_add(1);
                self.counters.add_received(1);
                kill_point!("inbox.counted");
                state.producer.notify();
                kill_point!("inbox.notified");
                Status::Ok
            }
            Err(TrySendError::Full) => Status::InboxFull,
            Err(TrySendError::TooLarge { .. }) => Status::TooLarge,
            Err(TrySendError::Disconnected(_)) => Status::Gone,
            Err(TrySendError::Violation(_)) => {
                self.intake.close_as(CloseReason::ProtocolViolation);
                Status::Gone
            }
        }
    }

    /// Accepts nothing any more, and sends everyone who waits away.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.gone = true;
        for turn in &state.queue {
            turn.give();
        }
    }
}

impl Letter<'_> {
    fn len(&self) -> usize {
        crate::protocol::BLOCK_HEADER + KEY + self.from.name.as_str().len() + self.payload.len()
    }
}
