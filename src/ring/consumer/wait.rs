//! Waiting for a block.

use std::time::Instant;

use super::Consumer;
use super::look::Found;
use crate::ring::layout::{CONSUMER_PARKED, EMPTY};
use crate::ring::stamps::Stamps;
use crate::ring::wait::{Looked, Yields};
use crate::ring::{Deadline, OwnPipe, Stop, WaitStrategy};
use crate::shm::backend::spin_hint;
use crate::shm::futex::Woken;
use crate::testing::failpoints::failpoint;

/// What came of looking for a block.
pub(crate) enum Awake {
    Found(Found),
    /// Nothing came, and the strategy says that it is time to [sleep](Consumer::sleep).
    Sleep(Sleep),
}

/// A sleep that is due.
pub(crate) struct Sleep {
    /// When the wait began, if something can be learned from that.
    began: Option<Instant>,
    /// It is meant to end by a wake, which may move this thread to another CPU. Looking again is no
    /// substitute.
    pub(crate) to_be_woken: bool,
}

impl Consumer {
    /// Waits for what the first looks did not find: a later block, padding, the end of the ring, a broken
    /// rule.
    #[cold]
    #[inline(never)]
    pub(crate) fn find(&mut self, deadline: &mut Deadline) -> Result<Found, Stop> {
        loop {
            match self.find_awake(deadline)? {
                Awake::Found(found) => return Ok(found),
                Awake::Sleep(sleep) => self.sleep(deadline, sleep)?,
            }
        }
    }

    /// The part of a wait before it sleeps.
    #[cold]
    pub(crate) fn find_awake(&mut self, deadline: &mut Deadline) -> Result<Awake, Stop> {
        loop {
            if let Some(found) = self.look()? {
                return Ok(Awake::Found(found));
            }
            // Notify the producer only now, after the first few looks: in a quick exchange the next publish
            // does it.
            self.pay_wake_if_owed();
            let mut waiting = self.end.waiting;
            let looked = waiting.look(deadline.start(), self.end.progress, || self.is_pending());
            self.end.waiting = waiting;
            match looked {
                Looked::Found => {}
                Looked::TimedOut => return Err(Stop::Deadline),
                Looked::Sleep(began) => {
                    let to_be_woken = waiting.has_switched_enough();
                    return Ok(Awake::Sleep(Sleep { began, to_be_woken }));
                }
            }
        }
    }

    /// The part of a wait that sleeps, until a look would find something, or the end.
    #[cold]
    pub(crate) fn sleep(&mut self, deadline: &mut Deadline, sleep: Sleep) -> Result<(), Stop> {
        let slept = self.sleep_for_data(deadline.start());
        self.end.waiting.slept(sleep.began, self.end.progress);
        slept
    }

    /// Lets the next wait look for as long as ever, whatever earlier waits taught.
    pub(crate) fn look_longer(&mut self) {
        self.end.waiting.spin_again();
    }

    /// A block that is there or comes within the looks that a wait makes before its first reading of the
    /// clock.
    #[inline(always)]
    pub(crate) fn find_soon(&mut self) -> Option<Found> {
        let mut looks = self.end.waiting.brief_looks();
        loop {
            let word = self.load_header();
            let found = self.look_quickly(word);
            if found.is_some() {
                return found;
            }
            if word != EMPTY {
                // No further look at padding would find the block behind it, and all together take longer
                // than a call. Anything else is left to the wait that follows, which reports it.
                if self.passes_padding() {
                    continue;
                }
                return None;
            }
            if looks == 0 {
                return None;
            }
            looks -= 1;
            spin_hint();
        }
    }

    /// Skips padding, if that is what lies here and nothing forbids to go on.
    #[cold]
    #[inline(never)]
    fn passes_padding(&mut self) -> bool {
        let start = self.end.position;
        self.look().is_ok() && self.end.position != start
    }

    /// Whether a look would find something, or the end.
    #[inline(always)]
    pub(super) fn is_pending(&self) -> bool {
        self.load_header() != EMPTY || self.end.closer.is_closed()
    }

    #[cold]
    pub(super) fn sleep_for_data(&mut self, deadline: Option<Instant>) -> Result<(), Stop> {
        loop {
            // Before the word says that this end sleeps, and so before any wake of it.
            let began = self.end.stamps.as_ref().and_then(Stamps::sleeps);
            self.end.park::<CONSUMER_PARKED>();
            if self.is_pending() {
                self.end.unpark::<CONSUMER_PARKED>();
                return Ok(());
            }
            failpoint!("park.data.set", [server, client, link], always);
            let woken = self.end.sleep::<CONSUMER_PARKED>(deadline);
            failpoint!("park.data.slept", [server, client, link], always);
            if self.end.closer.is_forked() {
                // Forked by a signal handler that ended the sleep. The word belongs to the parent, which may
                // sleep on it.
                return Ok(());
            }
            self.end.unpark::<CONSUMER_PARKED>();
            failpoint!("park.data.cleared", [server, client, link], always);
            if self.is_pending() {
                if let Some(stamps) = &self.end.stamps
                    && let Some(began) = began
                    && woken == Woken::Hint
                {
                    stamps.woke(began);
                }
                return Ok(());
            }
            match woken {
                Woken::TimedOut => return Err(Stop::Deadline),
                Woken::Hint => self.end.count_fruitless_wake().map_err(Stop::Fault)?,
                Woken::Interrupted | Woken::Slice => {}
            }
        }
    }

    /// Announces that this end waits in an event loop, for its pipe. Returns false if something is there
    /// already, or the end: then look again.
    #[must_use]
    pub(crate) fn arm(&mut self, pipe: &mut OwnPipe) -> bool {
        self.take_kicks(pipe) && self.arm_after_kicks(pipe) && pipe.waits()
    }

    /// The first step of that: takes the kicks that came before. Behind it, none may be taken before the end
    /// has waited.
    pub(crate) fn take_kicks(&mut self, pipe: &mut OwnPipe) -> bool {
        self.end.take_kicks(pipe)
    }

    /// The second step. A [wait](OwnPipe::waits) may follow.
    pub(crate) fn arm_after_kicks(&mut self, pipe: &mut OwnPipe) -> bool {
        self.pay_wake_if_owed();
        self.end.arm::<CONSUMER_PARKED>(pipe);
        failpoint!("arm.data.set", [client, link], always);
        if self.is_pending() {
            self.end.disarm::<CONSUMER_PARKED>(pipe);
            return false;
        }
        true
    }

    /// How often its waits yielded the CPU.
    pub(crate) fn yields(&self) -> Yields {
        self.end.waiting.yields()
    }

    /// Whether a wait may end in sleep.
    pub(crate) fn may_sleep(&self) -> bool {
        self.end.waiting.strategy != WaitStrategy::Spin
    }
}
