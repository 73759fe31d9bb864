//! Waiting of a reader, and what it tells the publisher about how far it is.

use super::{Fault, Reader};
use crate::ring::layout::{EMPTY, Violation};
use crate::ring::{ARMED, AWAKE, Kicks, OwnPipe, PARKED};
use crate::shm::backend::{Ordering, fence};
use crate::shm::futex::{self, Scope, Wait};
use crate::testing::failpoints::failpoint;
use crate::topic::page::State;
use crate::topic::shape::ENDED;
use crate::wire::Policy;

impl Reader {
    /// Whether there is something to take, or an end to be seen.
    #[inline]
    pub(crate) fn is_pending(&self) -> bool {
        self.load_header() != EMPTY
            || self.is_lapped()
            || self.ring.word32::<ENDED>().load(Ordering::Relaxed) != 0
            || self.fault.is_none() && !matches!(self.page.state(), State::Noted | State::Attached)
    }

    /// Announces that this reader is about to sleep. It must look once more before it does.
    pub(crate) fn park(&mut self) {
        self.tally_up();
        self.say_cursor();
        futex::set(&self.page.parked, PARKED);
        fence(Ordering::SeqCst);
    }

    /// Takes that back. Returns whether the publisher has done so already, to wake this reader.
    pub(crate) fn unpark(&self) -> bool {
        self.page.parked.swap(AWAKE, Ordering::Relaxed) != PARKED
    }

    /// What to sleep on, once it is parked.
    pub(crate) fn as_wait(&self) -> Wait<'_> {
        Wait { word: &self.page.parked, expected: PARKED, scope: Scope::Shared }
    }

    /// Announces that this reader waits in an event loop, for its pipe. Returns false if it is to look again.
    pub(crate) fn arm(&mut self, pipe: &mut OwnPipe) -> bool {
        match pipe.drain() {
            Kicks::Permitted => {}
            Kicks::CutOff => return false,
            Kicks::TooMany => {
                self.failed(Fault::Broken(Violation::FruitlessWakes));
                return false;
            }
        }
        self.tally_up();
        self.say_cursor();
        if self.page.parked.swap(ARMED, Ordering::Release) != ARMED {
            pipe.permit();
        }
        fence(Ordering::SeqCst);
        if self.is_pending() {
            if self.page.parked.swap(AWAKE, Ordering::Relaxed) == ARMED {
                pipe.withdraw();
            }
            return false;
        }
        pipe.waits()
    }

    fn say_cursor(&self) {
        self.page.cursor().store(self.position, Ordering::Release);
    }

    /// Tells a publisher that waits for this reader how far it is, and wakes it.
    #[cold]
    #[inline(never)]
    pub(super) fn tell(&mut self) {
        self.tally_up();
        if self.policy != Policy::Reliable {
            self.tell_at = self.position + self.shape.part();
            return;
        }
        self.say_cursor();
        self.tell_at = self.position + self.shape.part();
        failpoint!("cursor.said", [topic], seldom);
        fence(Ordering::SeqCst);
        if self.page.publisher_parked.load(Ordering::Relaxed) != AWAKE {
            self.wake_publisher();
        }
    }

    pub(super) fn wake_publisher(&self) {
        match self.page.publisher_parked.swap(AWAKE, Ordering::Relaxed) {
            PARKED => futex::wake(&self.page.publisher_parked, Scope::Shared, 1),
            ARMED => self.kick.kick(),
            _ => {}
        }
    }
}
