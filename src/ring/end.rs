//! What the producer and the consumer of a ring have in common.

use std::fmt;

use super::kick::Kick;
use super::layout::{self, ONE_LINE, Violation};
use super::stamps::Stamps;
use super::wait::Waiting;
use super::{CloseReason, Closer, SPARE_HINTS, Setup};
use crate::shm::RingView;
use crate::shm::futex::Scope;

/// The common part of a [`Producer`](super::Producer) and a [`Consumer`](super::Consumer).
pub(super) struct End {
    pub(super) ring: RingView,
    pub(super) max_block: usize,
    /// The length of the longest block whose record is a single line.
    pub(super) one_line: usize,
    /// Where the next record begins. For the producer this is the committed tail: padding may come first.
    /// The consumer has taken everything before it, and released it, unless a `Drain` still holds it.
    pub(super) position: u64,
    /// The position when the other end was last notified. It knows of everything before.
    pub(super) notified: u64,
    pub(super) closer: Closer,
    pub(super) scope: Scope,
    /// The other end's pipe.
    pub(super) kick: Kick,
    /// Where the times of the consumer's wakes are written.
    pub(super) stamps: Option<Stamps>,
    /// The rule that the other end broke, once this end has found that.
    pub(super) broken: Option<Violation>,
    pub(super) waiting: Waiting,
    /// Counts what the other end did for this one: blocks taken by a consumer, moves of `head` seen by a
    /// producer. The wake that came with each may arrive late, when this end is already waiting again.
    pub(super) progress: u64,
    /// Counts the returns from a sleep that led nowhere: woken, but nothing was there.
    pub(super) fruitless_wakes: u64,
    /// The reason for which dropping this end closes the channel, if it does.
    closes_on_drop: Option<CloseReason>,
}

impl End {
    pub(super) fn new(setup: &Setup) -> End {
        debug_assert!(setup.capacity.is_power_of_two() && setup.capacity >= layout::MIN_CAPACITY);
        debug_assert!(setup.max_block <= layout::largest_block(setup.capacity));
        End {
            ring: setup.view.ring(setup.control, setup.data, setup.capacity),
            max_block: setup.max_block,
            one_line: setup.max_block.min(ONE_LINE),
            position: setup.start,
            notified: setup.start,
            closer: setup.closer.clone(),
            scope: setup.scope,
            kick: setup.kick.clone(),
            stamps: setup.stamps.clone(),
            broken: None,
            waiting: Waiting::new(setup.strategy),
            progress: 0,
            fruitless_wakes: 0,
            closes_on_drop: setup.closes_on_drop,
        }
    }

    #[inline(always)]
    pub(super) fn capacity(&self) -> u64 {
        self.ring.capacity() as u64
    }

    /// Whether this end has published or released anything since it last notified the other one.
    #[inline(always)]
    pub(super) fn owes_wake(&self) -> bool {
        self.notified != self.position
    }

    /// Records that the other end broke a rule, and closes the channel.
    #[cold]
    pub(super) fn poison(&mut self, violation: Violation) -> Violation {
        self.broken = Some(violation);
        self.closer.close_as(CloseReason::FAULT);
        violation
    }

    /// Counts a return from a sleep that led nowhere. Each step of progress excuses one; beyond that and
    /// [`SPARE_HINTS`] the other end wakes this one on purpose.
    pub(super) fn count_fruitless_wake(&mut self) -> Result<(), Violation> {
        self.fruitless_wakes += 1;
        if self.fruitless_wakes >= SPARE_HINTS + self.progress {
            return Err(self.poison(Violation::FruitlessWakes));
        }
        Ok(())
    }

    pub(super) fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("capacity", &self.ring.capacity())
            .field("max_block", &self.max_block)
            .field("closed", &self.closer.reason())
            .finish_non_exhaustive()
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if let Some(reason) = self.closes_on_drop {
            self.closer.close_as(reason);
        }
    }
}
