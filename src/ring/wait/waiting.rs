//! One wait of one end of a ring: looks first, then says that it is time to sleep, then learns from the
//! sleep.

use std::time::{Duration, Instant};

use super::WaitStrategy;
use super::adaptive::{Adaptive, EARLY_ROUNDS, Outcome};
use super::spin::{LOOKS, Spinner, Spun, Yields, spin_in_rounds, spin_until};
use crate::shm::backend::{SPINS, now};

/// After this many finds that each followed a yield to another thread, the next wait sleeps: two ends that
/// find each other only by yields share one CPU, and a wake can move one of them to an idle CPU.
const MOST_SWITCHES: u32 = 64;

/// A wait that slept and yet ended within this time is short: without the sleep, it would have been shorter.
const SHORT: Duration = Duration::from_micros(200);

/// How one end of a ring waits, and what it has learned about its waits.
#[derive(Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) strategy: WaitStrategy,
    learned: Adaptive,
    /// Finds just after a yield in which another thread ran, since the last sleep.
    switches: u32,
    yields: Yields,
}

/// How the looks of a wait ended.
#[derive(Debug)]
pub(crate) enum Looked {
    Found,
    TimedOut,
    /// It is time to sleep. Holds when the wait began, if the sleep can teach anything.
    Sleep(Option<Instant>),
}

impl Waiting {
    pub(crate) fn new(strategy: WaitStrategy) -> Waiting {
        Waiting { strategy, learned: Adaptive::new(), switches: 0, yields: Yields::default() }
    }

    /// How often to look at the beginning of a wait, before the clock is read.
    #[inline]
    pub(crate) fn brief_looks(&self) -> u32 {
        match self.strategy {
            _ if !SPINS => 0,
            WaitStrategy::Spin => LOOKS,
            WaitStrategy::Adaptive if self.learned.rounds > 0 => LOOKS,
            WaitStrategy::Adaptive | WaitStrategy::Park => 0,
        }
    }

    /// Looks until something is found, the deadline passes, or it is time to sleep. `found` counts what this
    /// end has found so far.
    #[cold]
    pub(crate) fn look(
        &mut self,
        deadline: Option<Instant>,
        found: u64,
        look: impl FnMut() -> bool,
    ) -> Looked {
        match self.strategy {
            _ if !SPINS => Looked::Sleep(None),
            WaitStrategy::Park => Looked::Sleep(None),
            WaitStrategy::Spin => match spin_until(deadline, look) {
                true => Looked::Found,
                false => Looked::TimedOut,
            },
            WaitStrategy::Adaptive => self.look_adaptively(deadline, found, look),
        }
    }

    fn look_adaptively(
        &mut self,
        deadline: Option<Instant>,
        found: u64,
        look: impl FnMut() -> bool,
    ) -> Looked {
        let began = now();
        let spinner = (self.learned.rounds > 0 && !self.has_switched_enough()).then(Spinner::begin);
        let allowed = spinner.as_ref().is_some_and(|spinner| spinner.allowed);
        let rounds = if allowed { self.learned.rounds } else { 0 };
        match spin_in_rounds(rounds, began, deadline, &mut self.yields, look) {
            Spun::Found { round, switched } => {
                let outcome = if round < EARLY_ROUNDS { Outcome::Early } else { Outcome::Late };
                self.learned.learn(outcome, found);
                self.switches += u32::from(switched);
                return Looked::Found;
            }
            Spun::TimedOut { found: true } => return Looked::Found,
            Spun::TimedOut { found: false } => return Looked::TimedOut,
            Spun::InVain => {}
        }
        if deadline.is_some_and(|deadline| now() >= deadline) {
            return Looked::TimedOut;
        }
        if let Some(spinner) = spinner {
            spinner.end_before_sleep();
        }
        Looked::Sleep(Some(began))
    }

    /// Learns from a wait that began at `began` and ended in its sleep. `found` as for [`look`](Self::look).
    pub(crate) fn slept(&mut self, began: Option<Instant>, found: u64) {
        let Some(began) = began else { return };
        let short = began.elapsed() <= SHORT;
        if std::mem::take(&mut self.switches) >= MOST_SWITCHES {
            // It slept only to be woken on another CPU, so its duration says nothing.
            return;
        }
        match (self.learned.rounds > 0, short) {
            (true, true) => self.learned.learn(Outcome::Late, found),
            (true, false) => self.learned.learn(Outcome::Long, found),
            (false, true) => self.learned.learn(Outcome::Short, found),
            (false, false) => {}
        }
    }

    /// Spins fully in the next wait, whatever was learned.
    pub(crate) fn spin_again(&mut self) {
        self.learned.spin_fully();
    }

    /// Whether the next wait sleeps in order to be woken on another CPU.
    pub(crate) fn has_switched_enough(&self) -> bool {
        self.switches >= MOST_SWITCHES
    }

    pub(crate) fn yields(&self) -> Yields {
        self.yields
    }
}

#[cfg(test)]
mod tests {
    use super::super::adaptive::MOST_ROUNDS;
    use super::*;

    const FAR: Duration = Duration::from_secs(3600);

    /// Longer than a short wait.
    const LONG: Duration = Duration::from_millis(5);

    fn ago(time: Duration) -> Option<Instant> {
        Some(Instant::now() - time)
    }

    /// The beginning of a wait that counts as short however long this thread is kept from running, because it
    /// lies in the future.
    fn just_now() -> Option<Instant> {
        Some(Instant::now() + FAR)
    }

    /// Calls `check` often enough that at least 50 times no other test is spinning on all CPUs.
    fn where_spinning_is_allowed(mut check: impl FnMut()) {
        let mut allowed = 0;
        while allowed < 50 {
            allowed += u32::from(Spinner::begin().allowed);
            check();
        }
    }

    fn stopped() -> Waiting {
        let mut waiting = Waiting::new(WaitStrategy::Adaptive);
        while waiting.learned.rounds > 0 {
            waiting.slept(ago(LONG), 0);
        }
        waiting
    }

    #[test]
    fn long_waits_end_spinning_and_short_ones_begin_it_again() {
        let mut waiting = Waiting::new(WaitStrategy::Adaptive);
        for _ in 0..10 {
            assert!(matches!(waiting.look(None, 0, || false), Looked::Sleep(Some(_))));
            waiting.slept(ago(LONG), 0);
        }
        assert_eq!((waiting.learned.rounds, waiting.brief_looks()), (0, 0));
        waiting.slept(ago(LONG), 0);
        waiting.slept(just_now(), 0);
        assert_eq!(waiting.learned.rounds, 0, "the pause is not over");
        waiting.slept(just_now(), 0);
        assert_eq!((waiting.learned.rounds, waiting.brief_looks()), (MOST_ROUNDS, LOOKS));
    }

    #[test]
    fn a_passed_deadline_ends_the_wait_under_every_strategy_that_looks() {
        for strategy in [WaitStrategy::Spin, WaitStrategy::Adaptive] {
            let mut waiting = Waiting::new(strategy);
            let deadline = Some(Instant::now());
            assert!(matches!(waiting.look(deadline, 0, || false), Looked::TimedOut));
        }
    }

    #[test]
    fn a_deadline_far_away_ends_no_wait() {
        let far = Some(Instant::now() + FAR);
        let mut looks = 0;
        let found = Waiting::new(WaitStrategy::Spin).look(far, 0, || {
            looks += 1;
            looks > 3 * LOOKS
        });
        assert!(matches!(found, Looked::Found));
        where_spinning_is_allowed(|| {
            for strategy in [WaitStrategy::Adaptive, WaitStrategy::Park] {
                assert!(matches!(Waiting::new(strategy).look(far, 0, || false), Looked::Sleep(_)));
            }
        });
    }

    #[test]
    fn an_end_that_does_not_spin_does_not_look_but_heeds_the_deadline() {
        let to_be_woken = Waiting { switches: MOST_SWITCHES, ..Waiting::new(WaitStrategy::Adaptive) };
        for mut waiting in [stopped(), to_be_woken] {
            let never = || panic!("a look");
            where_spinning_is_allowed(|| {
                assert!(matches!(waiting.look(None, 0, never), Looked::Sleep(_)));
            });
            assert!(matches!(waiting.look(Some(Instant::now() + FAR), 0, never), Looked::Sleep(_)));
            assert!(matches!(waiting.look(Some(Instant::now()), 0, never), Looked::TimedOut));
        }
    }

    #[test]
    fn nothing_is_learned_from_a_sleep_to_be_woken_or_without_a_beginning() {
        let mut waiting = Waiting { switches: MOST_SWITCHES, ..Waiting::new(WaitStrategy::Adaptive) };
        for rounds in [MOST_ROUNDS, MOST_ROUNDS / 2] {
            waiting.slept(ago(LONG), 0);
            assert_eq!((waiting.learned.rounds, waiting.switches), (rounds, 0));
        }
        let mut parks = Waiting::new(WaitStrategy::Park);
        let Looked::Sleep(began) = parks.look(None, 0, || panic!("a look")) else { panic!("no sleep") };
        assert_eq!(began, None, "nothing is to be learned: the clock is not read");
        parks.slept(began, 0);
        assert_eq!(parks.learned.rounds, MOST_ROUNDS);
    }

    #[test]
    fn what_the_first_rounds_find_is_early() {
        loop {
            let mut waiting = Waiting::new(WaitStrategy::Adaptive);
            waiting.learned.learn(Outcome::Long, 0);
            // Other tests may be spinning at this moment on as many CPUs as there are.
            if let Looked::Found = waiting.look(None, 0, || true) {
                assert_eq!(waiting.learned, Adaptive::new());
                return;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_end_that_does_not_spin_passes_over_short_sleeps_and_learns_nothing_from_long_ones() {
        let mut waiting = stopped();
        let stopped = waiting.learned;
        waiting.slept(ago(LONG), 0);
        assert_eq!(waiting.learned, stopped);
        waiting.slept(just_now(), 0);
        assert_ne!(waiting.learned, stopped, "the pause of one short sleep is over");
        let paused = waiting.learned;
        waiting.slept(ago(LONG), 0);
        assert_eq!((waiting.learned, paused.rounds), (paused, 0));
        waiting.slept(just_now(), 17);
        assert_eq!(waiting.learned.rounds, MOST_ROUNDS);
    }
}
