//! `Watch`: what the workers have to do for those who look at the bus, besides serving.
//!
//! Whoever looks says so in one word of the server. A worker looks at that word once in each drain, when its
//! first request is there, and keeps what it [saw](Watched) in memory of its own. So who is not watched pays
//! for one look at a word that is seldom written, and for each request one branch.

#![forbid(unsafe_code)]

use std::ops::BitOr;
use std::sync::atomic::{AtomicU32, Ordering};

use crossbeam_utils::CachePadded;

/// What is wanted of a worker: some of the constants, joined with `|`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Watched(u32);

impl Watched {
    /// Durations are measured.
    pub(super) const STAMPED: Watched = Watched(1);
    /// Copies of messages and calls go to a tap.
    pub(super) const TAPPED: Watched = Watched(2);
    /// The program's `tracing` subscriber wants an event for each message.
    pub(super) const MESSAGES: Watched = Watched(4);
    /// The subscriber wants an event for each call.
    pub(super) const CALLS: Watched = Watched(8);
    /// The subscriber may want a span around each call.
    pub(super) const SPANS: Watched = Watched(16);

    /// Whether any of these is wanted.
    #[inline(always)]
    pub(super) fn has(self, any: Watched) -> bool {
        self.0 & any.0 != 0
    }

    #[must_use]
    pub(super) fn without(self, others: Watched) -> Watched {
        Watched(self.0 & !others.0)
    }
}

impl BitOr for Watched {
    type Output = Watched;

    #[inline(always)]
    fn bitor(self, other: Watched) -> Watched {
        Watched(self.0 | other.0)
    }
}

/// What those who look want of all workers. Subscribers to events have words of their own.
#[derive(Debug, Default)]
pub(super) struct Watch(CachePadded<AtomicU32>);

// Relaxed: the word carries no data, and a worker may see it a drain later.
impl Watch {
    #[inline(always)]
    pub(super) fn look(&self) -> Watched {
        Watched(self.0.load(Ordering::Relaxed))
    }

    /// From now on this is wanted, or not any more.
    pub(super) fn set(&self, what: Watched, wanted: bool) {
        match wanted {
            true => self.0.fetch_or(what.0, Ordering::Relaxed),
            false => self.0.fetch_and(!what.0, Ordering::Relaxed),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_kept_apart() {
        let watch = Watch::default();
        watch.set(Watched::STAMPED | Watched::TAPPED, true);
        watch.set(Watched::STAMPED, false);
        let seen = watch.look() | Watched::CALLS;
        assert!(seen.has(Watched::TAPPED) && seen.has(Watched::STAMPED | Watched::CALLS));
        assert!(!seen.has(Watched::STAMPED | Watched::MESSAGES));
        assert_eq!(seen.without(Watched::CALLS), Watched::TAPPED);
    }
}
