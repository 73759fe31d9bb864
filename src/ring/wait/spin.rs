//! Looking without sleep: until a deadline, or for a number of rounds with a yield after each.
//!
//! A round is a fixed number of looks, then one `sched_yield`: the other end may need this CPU, and if nobody
//! does, the yield costs less than the looks before it. Rounds are counted rather than microseconds, because
//! a thread that spins while others run costs them nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use crate::os::processors;
use crate::shm::backend::{now, spin_hint};

/// Looks in a round, and at the beginning of a wait before the clock is read.
pub(super) const LOOKS: u32 = 64;

/// A yield that took longer than this gave the CPU to many threads, or to one that computes. It ends the
/// spin: spinners that yield to busy threads are served unfairly by the kernel.
const LONG_YIELD: Duration = Duration::from_micros(50);

/// In a round that took longer than this, another thread ran during the yield. Without one, it takes 1.5 µs.
const SWITCH: Duration = Duration::from_micros(3);

/// How many threads of this process are spinning in rounds right now.
static SPINNERS: CachePadded<AtomicUsize> = CachePadded::new(AtomicUsize::new(0));

/// Counts the yields in one end's waits, and those in which another thread ran. Both wrap around.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Yields {
    pub(crate) all: u32,
    pub(crate) taken: u32,
}

impl Yields {
    pub(crate) fn since(self, before: Yields) -> Yields {
        Yields { all: self.all.wrapping_sub(before.all), taken: self.taken.wrapping_sub(before.taken) }
    }

    fn add(&mut self, taken: bool) {
        self.all = self.all.wrapping_add(1);
        self.taken = self.taken.wrapping_add(u32::from(taken));
    }
}

/// How a spin ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spun {
    /// Found in this round (the first is 0). `switched`: another thread ran just before that round.
    Found { round: u32, switched: bool },
    /// The deadline passed. `found`: the last look, made after that, found something.
    TimedOut { found: bool },
    /// All rounds were in vain, or a yield took too long.
    InVain,
}

/// Looks until something is found or the deadline passes. Returns whether something was found.
pub(super) fn spin_until(deadline: Option<Instant>, mut look: impl FnMut() -> bool) -> bool {
    loop {
        for _ in 0..LOOKS {
            if look() {
                return true;
            }
            spin_hint();
        }
        if deadline.is_some_and(|deadline| now() >= deadline) {
            return false;
        }
    }
}

/// Looks for so many rounds, the first of which begins at `began`. Counts the yields.
pub(super) fn spin_in_rounds(
    rounds: u32,
    began: Instant,
    deadline: Option<Instant>,
    yields: &mut Yields,
    mut look: impl FnMut() -> bool,
) -> Spun {
    let (mut before, mut switched) = (began, false);
    for round in 0..rounds {
        for _ in 0..LOOKS {
            if look() {
                return Spun::Found { round, switched };
            }
            spin_hint();
        }
        std::thread::yield_now();
        let time = now();
        if deadline.is_some_and(|deadline| time >= deadline) {
            return Spun::TimedOut { found: look() };
        }
        let took = time - before;
        switched = took > SWITCH;
        yields.add(switched);
        if took > LONG_YIELD {
            break;
        }
        before = time;
    }
    Spun::InVain
}

/// Counts this thread among the spinners while it lives.
pub(super) struct Spinner {
    /// Others spun when it began.
    among_others: bool,
    /// There are fewer spinners than CPUs that this process may use: more would only keep each other from
    /// working.
    pub(super) allowed: bool,
}

impl Spinner {
    pub(super) fn begin() -> Spinner {
        let before = SPINNERS.fetch_add(1, Ordering::Relaxed);
        Spinner { among_others: before > 0, allowed: before == 0 || before < processors::usable() }
    }

    /// Ends a spin before a sleep. That is the time to count the CPUs again, if their number matters: it does
    /// not for one that spins alone.
    pub(super) fn end_before_sleep(self) {
        let among_others = self.among_others;
        drop(self);
        if among_others {
            processors::look_again_if_due();
        }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        SPINNERS.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_threads_spin_than_there_are_cpus() {
        let mut alone = 0;
        while alone < 50 {
            let spinning: Vec<_> = (0..processors::usable()).map(|_| Spinner::begin()).collect();
            alone += u32::from(SPINNERS.load(Ordering::Relaxed) == processors::usable());
            assert!(!Spinner::begin().allowed);
            drop(spinning);
        }
        while !Spinner::begin().allowed {
            std::thread::yield_now(); // until other tests do not spin
        }
    }
}
