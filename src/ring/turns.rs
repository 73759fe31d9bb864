//! One producer for several threads, who wait for room in turn.
//!
//! The producer lies under a lock that is held for a try-write and never over a wait.
//!
//! **Who waits** stands in a queue. Only the first of them deals with the ring: it parks on the ring's word for space. The others
//! sleep on a word of their own, their *turn*, until whoever leaves the front of the queue sets it. While anyone waits, a thread that does
//! not want to wait finds the ring full: so those who wait are served in the order in which they came.
//! Each sleep also ends when the ring's channel or the waiter's own is closed, and at the waiter's deadline.
//!
//! **Why nobody waits for ever.** Whoever leaves the queue, for whatever reason, does so under the lock and passes the turn to the new
//! front if it left the front. So it is enough that the front is woken by whatever ends its wait: by space, by the close of the ring's
//! channel or by that of its own. A turn is set before its wake, and the queue is looked at, under the lock, before each sleep: a turn that
//! is given between the look and the sleep makes the kernel's compare fail. The space wake is that of any producer (see
//! [`crate::ring`]), except that the parked word is set under the lock and slept on without it.

use std::collections::VecDeque;
use std::time::Instant;

use super::producer::{Producer, SPACE_SLICE, SpaceWord};
use super::{Closer, TrySendError};
use crate::kill::kill_point;
use crate::shm::futex::{self, Scope, Wait, Woken};
use crate::sync::{Arc, AtomicU32, Mutex, MutexGuard, Ordering};

/// A producer that threads share.
///
/// What is written is a function `put`: it is given the number of the block and publishes it. It may be called again if it found the
/// ring full.
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
    queue: VecDeque<Arc<Turn>>,
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

    /// Whether nobody waits.
    fn is_free(&self) -> bool {
        self.queue.is_empty()
    }

    fn try_write<P>(&mut self, put: &P) -> Result<(), NotWritten>
    where
        P: Fn(&mut Producer, u32) -> Result<(), TrySendError>,
    {
        if self.ended {
            return Err(NotWritten::Ended);
        }
        match put(&mut self.producer, self.written) {
            Ok(()) => {
                self.written = self.written.wrapping_add(1);
                self.producer.notify();
                kill_point!("inbox.notified");
                Ok(())
            }
            Err(TrySendError::Full) => Err(NotWritten::Full),
            Err(TrySendError::TooLarge { .. }) => Err(NotWritten::TooLarge),
            Err(TrySendError::Disconnected(_)) => Err(NotWritten::Ended),
            Err(TrySendError::Violation(_)) => Err(NotWritten::Violation),
        }
    }

    /// For the front of the queue: writes, or sets the ring's parked word so that the next sleep is ended by space.
    /// `slept`: the head before the last sleep, and how that ended.
    fn write_or_arm<P>(&mut self, len: usize, put: &P, slept: Option<(u64, Woken)>) -> Result<(), NotWritten>
    where
        P: Fn(&mut Producer, u32) -> Result<(), TrySendError>,
    {
        let room = self.producer.arm_for_place(len);
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
            state: Mutex::new(State { producer, written: 0, ended: false, queue: VecDeque::new() }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock leaves the state half changed: the ring commits with one store.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Writes at once, if there is room and nobody waits for it.
    pub(crate) fn try_write<P>(&self, put: &P) -> Result<(), NotWritten>
    where
        P: Fn(&mut Producer, u32) -> Result<(), TrySendError>,
    {
        let mut state = self.lock();
        if state.is_free() {
            state.try_write(put)
        } else if state.ended {
            Err(NotWritten::Ended)
        } else {
            Err(NotWritten::Full)
        }
    }

    /// Takes a place at the end of the queue.
    pub(crate) fn line_up(&self) -> Place<'_> {
        let turn = Arc::new(Turn::default());
        self.lock().queue.push_back(Arc::clone(&turn));
        kill_point!("inbox.queued");
        Place { turns: self, turn }
    }

    /// Accepts nothing any more. Who stands at the front learns it by the close of the channel, which is to follow, or within
    /// [`SPACE_SLICE`]; the others by its leaving.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
    }
}

/// A place in the queue, which is left when this is dropped.
pub(crate) struct Place<'a> {
    turns: &'a Turns,
    turn: Arc<Turn>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.turns.lock().leave(&self.turn);
        kill_point!("inbox.left");
    }
}

impl Place<'_> {
    /// Waits for its turn and for room for `len` bytes, and writes as many. `own` is the waiter's own channel, whose close ends the wait.
    pub(crate) fn write<P>(
        self,
        len: usize,
        put: &P,
        own: &Closer,
        deadline: Instant,
    ) -> Result<(), NotWritten>
    where
        P: Fn(&mut Producer, u32) -> Result<(), TrySendError>,
    {
        let Turns { space, closer, .. } = self.turns;
        let mut slept = None;
        loop {
            // Before anything else: a wake by either close is not a fruitless one, and whoever is gone sends nothing more.
            if own.is_closed() {
                return Err(NotWritten::Leaving);
            }
            if closer.is_closed() {
                return Err(NotWritten::Ended);
            }
            let first;
            {
                let mut state = self.turns.lock();
                first = state.first_is(&self.turn);
                if state.ended {
                    return Err(NotWritten::Ended);
                }
                if first {
                    match state.write_or_arm(len, put, slept.take()) {
                        Err(NotWritten::Full) => slept = Some((state.producer.head(), Woken::TimedOut)),
                        done => return done,
                    }
                }
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(NotWritten::TimedOut);
            }
            if first {
                // The consumer may never look again, and then wakes nobody: wait for space in slices.
                kill_point!("inbox.armed");
                let slice = deadline.min(now + SPACE_SLICE);
                let woken = futex::wait(&[space.as_wait(), closer.as_wait(), own.as_wait()], Some(slice));
                kill_point!("inbox.slept");
                slept = slept.map(|(head, _)| (head, woken));
                #[cfg(fuzzing)]
                if crate::shm::alone::is_alone() && woken == Woken::TimedOut {
                    return Err(NotWritten::TimedOut); // as if the deadline had come: a fuzz target makes no room later
                }
            } else {
                self.turn.sleep(own, deadline);
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::ring::layout::{HEAD, PRODUCER_PARKED};
    use crate::ring::local::local_setup;
    use crate::ring::tests::{tell, until_all_sleep};
    use crate::ring::{Consumer, Peer, Setup, WaitStrategy};
    use std::sync::mpsc;
    use std::time::Duration;

    /// The smallest ring, which takes one block.
    fn one_place() -> (Turns, Setup) {
        let setup = local_setup(128, WaitStrategy::Park, 0).unwrap();
        (Turns::new(Producer::new(&setup)), setup)
    }

    fn own() -> Closer {
        local_setup(128, WaitStrategy::Park, 0).unwrap().closer
    }

    /// A block that says which number it was given.
    fn numbered(producer: &mut Producer, number: u32) -> Result<(), TrySendError> {
        producer.try_publish(None, [&number.to_le_bytes()[..]])
    }

    #[test]
    fn blocks_are_numbered_as_they_are_written() {
        let (turns, setup) = one_place();
        let (mut consumer, mut block) = (Consumer::new(&setup), Vec::new());
        for number in 0..3_u32 {
            let waited = number == 1;
            let now = Instant::now();
            let done = if waited {
                turns.line_up().write(4, &numbered, &own(), now)
            } else {
                turns.try_write(&numbered)
            };
            assert_eq!(done, Ok(()));
            assert_eq!(turns.try_write(&numbered), Err(NotWritten::Full));
            assert_eq!(turns.line_up().write(4, &numbered, &own(), now), Err(NotWritten::TimedOut));
            consumer.try_recv(&mut block).unwrap();
            assert_eq!(block, number.to_le_bytes());
        }
    }

    /// Before the channel is closed, too: that may take the server a while.
    #[test]
    fn the_end_is_told_though_there_is_no_room() {
        let (turns, _setup) = one_place();
        turns.try_write(&numbered).unwrap();
        let place = turns.line_up();
        turns.end();
        assert_eq!(turns.try_write(&numbered), Err(NotWritten::Ended), "while somebody waits");
        assert_eq!(place.write(4, &numbered, &own(), Instant::now()), Err(NotWritten::Ended));
        assert_eq!(turns.try_write(&numbered), Err(NotWritten::Ended));
    }

    #[test]
    fn what_cannot_be_written_is_told_apart() {
        let (turns, setup) = one_place();
        let long = |producer: &mut Producer, _| producer.try_publish(None, [&[0; 57][..]]);
        assert_eq!(turns.try_write(&long), Err(NotWritten::TooLarge));
        assert_eq!(turns.line_up().write(57, &long, &own(), Instant::now()), Err(NotWritten::TooLarge));
        let closed = own();
        closed.close();
        assert_eq!(turns.line_up().write(4, &numbered, &closed, Instant::now()), Err(NotWritten::Leaving));
        turns.try_write(&numbered).unwrap();
        setup.view.store64(HEAD, 1, Ordering::Relaxed);
        assert_eq!(turns.try_write(&numbered), Err(NotWritten::Violation));
        let (turns, setup) = one_place();
        turns.try_write(&numbered).unwrap();
        setup.view.store64(HEAD, 1, Ordering::Relaxed);
        assert_eq!(turns.line_up().write(4, &numbered, &own(), Instant::now()), Err(NotWritten::Violation));
        setup.closer.close();
        assert_eq!(turns.line_up().write(4, &numbered, &own(), Instant::now()), Err(NotWritten::Ended));
    }

    /// What should come at once may take this long on a busy machine.
    const LIMIT: Duration = Duration::from_secs(60);

    /// A deadline that ends no wait of a test.
    fn far() -> Instant {
        Instant::now() + 60 * LIMIT
    }

    #[test]
    fn who_waits_comes_before_who_does_not() {
        let (turns, _setup) = one_place();
        let place = turns.line_up();
        assert_eq!(turns.try_write(&numbered), Err(NotWritten::Full), "for others");
        drop(place);
        assert_eq!(turns.try_write(&numbered), Ok(()));
    }

    /// The second's deadline comes while it is not its turn, the fourth's channel is closed while it sleeps, and the first
    /// leaves without a word: the third and the fifth are told that it is their turn.
    #[test]
    fn those_who_wait_are_served_in_turn() {
        let (turns, setup) = one_place();
        let mut consumer = Consumer::new(&setup);
        turns.try_write(&numbered).unwrap();
        let [first, second, third, fourth, fifth] = [(); 5].map(|()| turns.line_up());
        let own = || Closer::new(setup.view.clone(), Scope::Shared, vec![], None, Peer::Unheard);
        let (mine, closed) = (own(), own());
        let written_by = |who: u32| {
            move |producer: &mut Producer, _: u32| producer.try_publish(None, [&who.to_le_bytes()[..]])
        };
        assert_eq!(second.write(4, &written_by(2), &mine, Instant::now()), Err(NotWritten::TimedOut));
        let (to, threads) = mpsc::channel();
        let (done, outcomes) = mpsc::channel();
        std::thread::scope(|scope| {
            for (who, place, own) in [(3, third, &mine), (4, fourth, &closed), (5, fifth, &mine)] {
                let (to, done, put) = (to.clone(), done.clone(), written_by(who));
                scope.spawn(move || {
                    tell(&to);
                    done.send((who, place.write(4, &put, own, far()))).unwrap();
                });
            }
            until_all_sleep(&threads, 3);
            let outcome = || outcomes.recv_timeout(LIMIT).inspect_err(|_| mine.close());
            closed.close();
            assert_eq!(outcome(), Ok((4, Err(NotWritten::Leaving))));
            drop(first);
            let mut block = Vec::new();
            for (written, next) in [(0, Some(3)), (3, Some(5)), (5, None)] {
                assert_eq!(consumer.try_recv(&mut block), Ok(4));
                assert_eq!(block, u32::to_le_bytes(written));
                if let Some(who) = next {
                    assert_eq!(outcome(), Ok((who, Ok(()))), "it sleeps on");
                }
            }
        });
        assert!(turns.lock().is_free());
    }

    #[test]
    fn wakes_for_nothing_are_found_out() {
        let (turns, setup) = one_place();
        turns.try_write(&numbered).unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| turns.line_up().write(4, &numbered, &own(), Instant::now() + LIMIT));
            let word = setup.view.word32(PRODUCER_PARKED);
            while !waiter.is_finished() {
                if word.swap(0, Ordering::Relaxed) == 1 {
                    futex::wake(word, Scope::Private, 1);
                }
                std::thread::yield_now();
            }
            assert_eq!(waiter.join().unwrap(), Err(NotWritten::Violation));
        });
    }
}
