//! Waiting for a block.

use std::time::Instant;

use super::Consumer;
use super::look::Found;
use crate::ring::layout::{CONSUMER_PARKED, EMPTY};
use crate::ring::wait::{Looked, Yields};
use crate::ring::{Deadline, Stop, WaitStrategy};
use crate::shm::backend::spin_hint;
use crate::shm::futex::Woken;
use crate::testing::failpoints::failpoint;

impl Consumer {
    /// Waits for what the first looks did not find: a later block, padding, the end of the ring, a broken
    /// rule.
    #[cold]
    #[inline(never)]
    pub(crate) fn find(&mut self, deadline: &mut Deadline) -> Result<Found, Stop> {
        self.find_or(deadline, &mut |_| false)
    }

    /// The same, but before it sleeps it asks `goes_on` whether to look once more for as long.
    #[cold]
    pub(crate) fn find_or(
        &mut self,
        deadline: &mut Deadline,
        goes_on: &mut dyn FnMut(Yields) -> bool,
    ) -> Result<Found, Stop> {
        loop {
            match self.look()? {
                Some(found) => return Ok(found),
                None => self.wait(deadline.start(), goes_on)?,
            }
        }
    }

    /// A block that is there or comes within the looks that a wait makes before its first reading of the
    /// clock.
    #[inline(always)]
    pub(crate) fn find_soon(&self) -> Option<Found> {
        let mut looks = self.end.waiting.brief_looks();
        loop {
            let found = self.look_quickly();
            if found.is_some() || looks == 0 {
                return found;
            }
            looks -= 1;
            spin_hint();
        }
    }

    /// Waits until a look would find something, or the end.
    #[cold]
    pub(super) fn wait(
        &mut self,
        deadline: Option<Instant>,
        goes_on: &mut dyn FnMut(Yields) -> bool,
    ) -> Result<(), Stop> {
        // Notify the producer only now, after the first few looks: in a quick exchange the next publish does
        // it.
        self.pay_wake_if_owed();
        let mut waiting = self.end.waiting;
        let result = match waiting.look(deadline, self.end.progress, || self.is_pending()) {
            Looked::Found => Ok(()),
            Looked::TimedOut => Err(Stop::Deadline),
            Looked::Sleep(_) if !waiting.has_switched_enough() && goes_on(waiting.yields()) => {
                waiting.spin_again();
                Ok(())
            }
            Looked::Sleep(began) => {
                let slept = self.sleep_for_data(deadline);
                waiting.slept(began, self.end.progress);
                slept
            }
        };
        self.end.waiting = waiting;
        result
    }

    /// Whether a look would find something, or the end.
    #[inline(always)]
    pub(super) fn is_pending(&self) -> bool {
        self.load_header() != EMPTY || self.end.closer.is_closed()
    }

    #[cold]
    pub(super) fn sleep_for_data(&mut self, deadline: Option<Instant>) -> Result<(), Stop> {
        loop {
            self.end.arm::<CONSUMER_PARKED>();
            if self.is_pending() {
                self.end.disarm::<CONSUMER_PARKED>();
                return Ok(());
            }
            failpoint!("park.data.set", [server, client], always);
            let woken = self.end.sleep::<CONSUMER_PARKED>(deadline);
            failpoint!("park.data.slept", [server, client], always);
            if self.end.closer.is_forked() {
                // Forked by a signal handler that ended the sleep. The word belongs to the parent, which may
                // sleep on it.
                return Ok(());
            }
            self.end.disarm::<CONSUMER_PARKED>();
            failpoint!("park.data.cleared", [server, client], always);
            if self.is_pending() {
                return Ok(());
            }
            match woken {
                Woken::TimedOut => return Err(Stop::Deadline),
                Woken::Hint => self.end.count_fruitless_wake().map_err(Stop::Fault)?,
                Woken::Interrupted | Woken::Slice => {}
            }
        }
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
