//! The adaptive rule: how long to spin in the next wait, learned from how the last ones ended.
//!
//! [`Outcome`] is the whole rule as a table.

/// Rounds of a full spin: about 90 µs on an idle computer. That is longer than a wake across CPUs takes
/// (about 50 µs), so an end that spins outlasts the other end's waking up, and then both go on spinning.
pub(super) const MOST_ROUNDS: u32 = 64;

/// A spin that paid off only after this many rounds was hardly better than sleep.
pub(super) const EARLY_ROUNDS: u32 = 16;

/// How many late waits in a row an end puts up with before it stops spinning.
const PATIENCE: u32 = 8;

/// So many finds since the last wait that was not early are a burst.
const BURST: u64 = 8;

/// The most short sleeps that are passed over before spinning is tried again.
const LONGEST_PAUSE: u32 = 64;

/// How a wait ended, and what is learned from it.
///
/// | outcome | condition | what it means | what changes |
/// | --- | --- | --- | --- |
/// | `Early` | | spinning pays off | trust: spin fully, patience full, the next pause is 1 |
/// | `Late` | after a burst | the burst ended, which says nothing against spinning | as for `Early` |
/// | `Late` | patience is left | the other end probably slept, and may spin next time | patience - 1 |
/// | `Late` | no patience is left | the other end keeps sleeping | stop |
/// | `Long` | after a burst | the burst ended, and a long gap follows | as `Early`, then half the rounds |
/// | `Long` | more than one round is left | no spin lasts that long | half the rounds |
/// | `Long` | one round is left | the gaps stay long | stop |
/// | `Short` | the pause is not over | spinning may pay off, but did not the last time | pause - 1 |
/// | `Short` | the pause is over | it may pay off again | spin fully, patience full |
///
/// *Stop*: spin no more, begin the pause, and double the next one (up to [`LONGEST_PAUSE`]): a ring with long
/// gaps costs almost nothing. *After a burst*: at least [`BURST`] things were found since the last wait that
/// changed anything other than by `Early` or a running pause. Nobody reports what the first looks of a wait
/// find; counting the finds makes up for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A spin found something within [`EARLY_ROUNDS`].
    Early,
    /// A spin found something after that, or the sleep behind it was short.
    Late,
    /// The sleep behind a spin was long.
    Long,
    /// The end did not spin, and its sleep was short.
    Short,
}

/// What one end of a ring has learned about its waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Adaptive {
    /// Rounds of the next spin; 0 while the end does not spin.
    pub(super) rounds: u32,
    /// Late waits to put up with before spinning stops.
    patience: u32,
    /// Short sleeps to pass over before spinning is tried again, and how many it will be the next time.
    pause: u32,
    next_pause: u32,
    /// How much had been found in all at the last wait that changed anything other than by `Early` or a
    /// running pause.
    found: u64,
}

impl Adaptive {
    pub(super) fn new() -> Adaptive {
        Adaptive { rounds: MOST_ROUNDS, patience: PATIENCE, pause: 0, next_pause: 1, found: 0 }
    }

    /// Applies the table of [`Outcome`]. `found` counts all that this end has found so far.
    pub(super) fn learn(&mut self, outcome: Outcome, found: u64) {
        let after_burst = found.saturating_sub(self.found) >= BURST;
        match outcome {
            Outcome::Early => return self.trust(),
            Outcome::Late if after_burst => self.trust(),
            Outcome::Late if self.patience > 0 => self.patience -= 1,
            Outcome::Late => self.stop(),
            Outcome::Long => {
                if after_burst {
                    self.trust();
                }
                self.rounds /= 2;
                if self.rounds == 0 {
                    self.stop();
                }
            }
            Outcome::Short if self.pause > 0 => return self.pause -= 1,
            Outcome::Short => self.spin_fully(),
        }
        self.found = found;
    }

    /// Spins fully in the next wait, whatever was learned.
    pub(super) fn spin_fully(&mut self) {
        self.rounds = MOST_ROUNDS;
        self.patience = PATIENCE;
    }

    fn trust(&mut self) {
        self.spin_fully();
        self.next_pause = 1;
    }

    fn stop(&mut self) {
        self.rounds = 0;
        self.pause = self.next_pause;
        self.next_pause = (self.next_pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome::{Early, Late, Long, Short};
    use super::*;

    /// Each row of the table: the state and the number found before, the outcome, the state after.
    #[test]
    fn every_row_of_the_table_holds() {
        const FULL: u32 = MOST_ROUNDS;
        let state = |rounds, patience, pause, next_pause, found| Adaptive {
            rounds,
            patience,
            pause,
            next_pause,
            found,
        };
        let spins = state(20, 3, 0, 4, 100);
        let rows = [
            (spins, 100, Early, state(FULL, PATIENCE, 0, 1, 100)),
            (spins, 200, Early, state(FULL, PATIENCE, 0, 1, 100)),
            (spins, 100 + BURST, Late, state(FULL, PATIENCE, 0, 1, 100 + BURST)),
            (spins, 99 + BURST, Late, state(20, 2, 0, 4, 99 + BURST)),
            (state(20, 0, 0, 4, 100), 101, Late, state(0, 0, 4, 8, 101)),
            (spins, 100 + BURST, Long, state(FULL / 2, PATIENCE, 0, 1, 100 + BURST)),
            (spins, 99 + BURST, Long, state(10, 3, 0, 4, 99 + BURST)),
            (state(1, 3, 0, LONGEST_PAUSE, 100), 101, Long, state(0, 3, LONGEST_PAUSE, LONGEST_PAUSE, 101)),
            (state(0, 3, 2, 4, 100), 200, Short, state(0, 3, 1, 4, 100)),
            (state(0, 3, 0, 4, 100), 200, Short, state(FULL, PATIENCE, 0, 4, 200)),
        ];
        for (row, (before, found, outcome, after)) in rows.into_iter().enumerate() {
            let mut learned = before;
            learned.learn(outcome, found);
            assert_eq!(learned, after, "row {row}: {outcome:?} of {before:?}");
        }
    }

    #[test]
    fn after_too_many_late_waits_each_pause_is_twice_as_long_as_the_last() {
        let mut learned = Adaptive::new();
        for pause in [1, 2, 4, 8, 16, 32, 64, 64] {
            for _ in 0..PATIENCE {
                learned.learn(Late, 0);
                assert_eq!(learned.rounds, MOST_ROUNDS);
            }
            learned.learn(Late, 0);
            assert_eq!((learned.rounds, learned.pause), (0, pause));
            for _ in 0..=pause {
                assert_eq!(learned.rounds, 0);
                learned.learn(Short, 0);
            }
        }
        learned.learn(Early, 0);
        assert_eq!((learned.patience, learned.next_pause), (PATIENCE, 1));
    }

    #[test]
    fn a_burst_between_two_long_waits_keeps_the_next_spin_long() {
        let mut learned = Adaptive::new();
        for burst in 1..20 {
            learned.learn(Long, burst * BURST);
            assert_eq!(learned.rounds, MOST_ROUNDS / 2);
        }
        learned.learn(Long, 20 * BURST - 1);
        assert_eq!(learned.rounds, MOST_ROUNDS / 4);
    }

    #[test]
    fn long_waits_halve_the_rounds_until_spinning_stops() {
        let mut learned = Adaptive::new();
        for halved in [32, 16, 8, 4, 2, 1, 0] {
            learned.learn(Long, 0);
            assert_eq!((learned.rounds, learned.pause), (halved, u32::from(halved == 0)));
        }
    }

    #[test]
    fn a_late_wait_at_the_end_of_a_burst_counts_as_early() {
        let mut learned = Adaptive { patience: 3, ..Adaptive::new() };
        learned.learn(Late, BURST - 1);
        assert_eq!((learned.patience, learned.found), (2, BURST - 1));
        learned.learn(Late, 2 * BURST - 1);
        assert_eq!((learned.patience, learned.found), (PATIENCE, 2 * BURST - 1));
    }
}
