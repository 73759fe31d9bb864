//! How long to look before sleeping.
//!
//! Three steps: a microsecond of looks with `pause` (a round trip of 0.1 µs, if the other side runs); rounds
//! of looks with a `sched_yield` after each (2.6 µs, if the other side needs this CPU); park on a futex
//! (4.3 µs on one CPU, 55 µs across two). Spinning longer than a park and wake would cost is waste, so that
//! bounds the rounds; and rounds are counted, not microseconds, since while others run a spinner costs
//! nothing. Below the bound they are learned per ring. A *long* wait halves the next one's rounds, down to
//! none. A *late* one, which a spin bore only because it went on while the other end woke up, is borne a few
//! times: if the other end begins to spin as well, both are *early* from then on; if not, spinning stops.
//! After that the next attempt is put off, longer each time, so that a ring with long gaps costs almost
//! nothing. Many finds since the last wait that was not early were a burst, whose end says nothing against
//! spinning. When as many threads spin as there are CPUs that this process may use (`cpus.rs`), the others
//! park: a yield hands over the CPU, but the scheduler takes it for a waiver, so that many who yield are
//! served unfairly. For the same reason a yield that takes long ends the spin. And two ends that find each
//! other only by yields share one CPU: now and then one of them parks instead, so that its wake can move it
//! to an idle one.

mod deadline;

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use crate::os::processors;
use crate::shm::backend::{SPINS, now, spin_hint};

pub use deadline::Deadline;

/// How a blocking operation waits. Each end of a channel chooses for itself.
///
/// | | looks | yields | sleeps | for |
/// | --- | --- | --- | --- | --- |
/// | `Spin` | all the time | never | never | the lowest latency, if each waiting end has its own CPU |
/// | `Adaptive` | as long as it has paid off lately | a few times | then | nearly everything |
/// | `Park` | a look before it sleeps | never | at once | the least CPU time |
///
/// # Examples
///
/// ```
/// use ringpost::WaitStrategy;
///
/// let strategy: WaitStrategy = "spin".parse()?; // as on the programs' command lines
/// assert_eq!(strategy, WaitStrategy::Spin);
/// assert_eq!(WaitStrategy::default().to_string(), "adaptive");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum WaitStrategy {
    /// Looks all the time; never yields and never sleeps. The lowest latency, and one CPU for each waiting
    /// end.
    ///
    /// Do not use it under a real-time policy (`SCHED_FIFO`, `SCHED_RR`) on a CPU that other threads need:
    /// the other end of the channel, if it is an ordinary thread there, waits until the kernel takes the
    /// CPU away from the spinner, so that a call takes whole seconds, or never ends where the kernel is
    /// told not to do that.
    Spin,
    /// Spins as long as it has paid off lately, at most about as long as sleeping would cost, giving the CPU
    /// to others in between; then sleeps.
    #[default]
    Adaptive,
    /// Sleeps at once. The least CPU time.
    Park,
}

impl fmt::Display for WaitStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            WaitStrategy::Spin => "spin",
            WaitStrategy::Adaptive => "adaptive",
            WaitStrategy::Park => "park",
        })
    }
}

/// The word is not the name of a [`WaitStrategy`].
///
/// # Examples
///
/// ```
/// use ringpost::WaitStrategy;
///
/// assert!("sleepy".parse::<WaitStrategy>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a wait strategy: use spin, adaptive or park")]
pub struct ParseWaitStrategyError(String);

impl FromStr for WaitStrategy {
    type Err = ParseWaitStrategyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "spin" => Ok(WaitStrategy::Spin),
            "adaptive" => Ok(WaitStrategy::Adaptive),
            "park" => Ok(WaitStrategy::Park),
            _ => Err(ParseWaitStrategyError(text.to_owned())),
        }
    }
}

/// Rounds of looks: some 90 µs on a computer with nothing else to do. Longer than a wake across CPUs takes
/// (some 50 µs), so that one end which spins bears the other's waking up, and both go on spinning.
const MOST_ROUNDS: u32 = 64;

/// A spin that paid off only after this many rounds is hardly better than sleep.
const EARLY_ROUNDS: u32 = 16;

/// A yield that took longer than this went to many, or to somebody who computes.
const LONG_YIELD: Duration = Duration::from_micros(50);

/// A round that took longer than this ended with a yield to somebody; one without takes 1.5 µs.
const SWITCH: Duration = Duration::from_micros(3);

/// Finds behind such yields until one wait parks.
const MOST_SWITCHES: u32 = 64;

/// A wait that was parked and yet ended within this time was a short one made long by parking.
const SHORT_PARKED: Duration = Duration::from_micros(200);

/// Late waits in a row before spinning stops.
const PATIENCE: u32 = 8;

/// Looks in a round, and before the first.
const LOOKS: u32 = 64;

/// Finds since the last wait that was not early which make it the end of a burst.
const BURST: u64 = 8;

/// Short waits passed over at the most before spinning is tried again.
const LONGEST_PAUSE: u32 = 64;

/// Threads of this process that spin in rounds right now.
static SPINNERS: CachePadded<AtomicUsize> = CachePadded::new(AtomicUsize::new(0));

/// What one end of a ring has learned about its waits.
#[derive(Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) strategy: WaitStrategy,
    /// Rounds of the next spin.
    rounds: u32,
    /// Late waits still to bear before spinning stops.
    patience: u32,
    /// Short parked waits still to pass over before spinning is tried again, and the number for the next
    /// time.
    pause: u32,
    next_pause: u32,
    /// What had been found in all when a wait was last not early.
    found: u64,
    /// Finds behind yields to somebody, since the last wait that parked.
    switches: u32,
    yields: Yields,
}

/// How often an end yielded in its waits, and how often somebody took the CPU then. Both wrap around.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Yields {
    pub(crate) all: u32,
    pub(crate) taken: u32,
}

impl Yields {
    pub(crate) fn since(self, before: Yields) -> Yields {
        Yields { all: self.all.wrapping_sub(before.all), taken: self.taken.wrapping_sub(before.taken) }
    }
}

/// How a round of looking ended.
#[derive(Debug)]
pub(crate) enum Looked {
    Found,
    TimedOut,
    /// It is time to sleep. When the wait began, if that is of use.
    Sleep(Option<Instant>),
}

impl Waiting {
    pub(crate) fn new(strategy: WaitStrategy) -> Waiting {
        Waiting {
            strategy,
            rounds: MOST_ROUNDS,
            patience: PATIENCE,
            pause: 0,
            next_pause: 1,
            found: 0,
            switches: 0,
            yields: Yields::default(),
        }
    }

    /// How often to look at the beginning of a wait, before the clock is read.
    #[inline]
    pub(crate) fn brief_looks(&self) -> u32 {
        match self.strategy {
            _ if !SPINS => 0,
            WaitStrategy::Spin => LOOKS,
            WaitStrategy::Adaptive if self.rounds > 0 => LOOKS,
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
            WaitStrategy::Spin => spin_on(deadline, look),
            WaitStrategy::Adaptive => self.look_longer(deadline, found, look),
        }
    }

    fn look_longer(
        &mut self,
        deadline: Option<Instant>,
        found: u64,
        mut look: impl FnMut() -> bool,
    ) -> Looked {
        let began = now();
        let spinning = (self.rounds > 0 && self.switches < MOST_SWITCHES).then(Spinning::begin);
        let rounds = spinning.as_ref().map_or(0, |spinning| if spinning.allowed { self.rounds } else { 0 });
        let (mut before, mut switched) = (began, 0);
        for round in 0..rounds {
            for _ in 0..LOOKS {
                if look() {
                    if round < EARLY_ROUNDS {
                        self.was_early()
                    } else {
                        self.was_late(found)
                    }
                    self.switches += switched;
                    return Looked::Found;
                }
                spin_hint();
            }
            // The other end may need this CPU; if nobody does, this costs less than the looks before it.
            std::thread::yield_now();
            let time = now();
            if deadline.is_some_and(|deadline| time >= deadline) {
                return if look() { Looked::Found } else { Looked::TimedOut };
            }
            let yielded = time - before;
            switched = u32::from(yielded > SWITCH);
            self.yields.all = self.yields.all.wrapping_add(1);
            self.yields.taken = self.yields.taken.wrapping_add(switched);
            if yielded > LONG_YIELD {
                break;
            }
            before = time;
        }
        if let Some(deadline) = deadline
            && now() >= deadline
        {
            return Looked::TimedOut;
        }
        drop(spinning);
        processors::look_again_if_due();
        Looked::Sleep(Some(began))
    }

    /// Tells that a wait which began then ended in its sleep. `found` as for [`look`](Self::look).
    pub(crate) fn slept(&mut self, began: Option<Instant>, found: u64) {
        let Some(began) = began else { return };
        let short = began.elapsed() <= SHORT_PARKED;
        if std::mem::take(&mut self.switches) >= MOST_SWITCHES {
            // Parked for the sake of its wake: that tells nothing.
            return;
        }
        if self.rounds > 0 {
            if short { self.was_late(found) } else { self.was_long(found) }
        } else if short && self.pause > 0 {
            self.pause -= 1;
        } else if short {
            self.rounds = MOST_ROUNDS;
            self.patience = PATIENCE;
            self.found = found;
        }
    }

    /// Spins in the next wait, whatever it has learned.
    pub(crate) fn spin_again(&mut self) {
        self.rounds = MOST_ROUNDS;
        self.patience = PATIENCE;
    }

    /// Whether the next sleep is for the sake of its wake.
    pub(crate) fn has_switched_enough(&self) -> bool {
        self.switches >= MOST_SWITCHES
    }

    pub(crate) fn yields(&self) -> Yields {
        self.yields
    }

    fn was_early(&mut self) {
        self.rounds = MOST_ROUNDS;
        self.patience = PATIENCE;
        self.next_pause = 1;
    }

    /// The other end probably slept. If it begins to spin as well, both will be early.
    fn was_late(&mut self, found: u64) {
        if self.ends_a_burst(found) {
            self.was_early();
        } else if self.patience > 0 {
            self.patience -= 1;
        } else {
            self.stop_spinning();
        }
    }

    /// No spin could have borne that.
    fn was_long(&mut self, found: u64) {
        if self.ends_a_burst(found) {
            self.was_early();
        }
        self.rounds /= 2;
        if self.rounds == 0 {
            self.stop_spinning();
        }
    }

    /// Whether much was found since this was asked last. What the first looks find is told to nobody: this
    /// makes up for it.
    fn ends_a_burst(&mut self, found: u64) -> bool {
        let since = found.saturating_sub(self.found);
        self.found = found;
        since >= BURST
    }

    fn stop_spinning(&mut self) {
        self.rounds = 0;
        self.pause = self.next_pause;
        self.next_pause = (self.next_pause * 2).min(LONGEST_PAUSE);
    }
}

fn spin_on(deadline: Option<Instant>, mut look: impl FnMut() -> bool) -> Looked {
    loop {
        for _ in 0..LOOKS {
            if look() {
                return Looked::Found;
            }
            spin_hint();
        }
        if deadline.is_some_and(|deadline| now() >= deadline) {
            return Looked::TimedOut;
        }
    }
}

/// Counts this thread among the spinners while it lives.
struct Spinning {
    allowed: bool,
}

impl Spinning {
    fn begin() -> Spinning {
        // More spinners than CPUs that this process may use only keep each other from working.
        let before = SPINNERS.fetch_add(1, Ordering::Relaxed);
        Spinning { allowed: before < processors::usable() }
    }
}

impl Drop for Spinning {
    fn drop(&mut self) {
        SPINNERS.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for strategy in [WaitStrategy::Spin, WaitStrategy::Adaptive, WaitStrategy::Park] {
            assert_eq!(strategy.to_string().parse(), Ok(strategy));
        }
        assert!("Spin".parse::<WaitStrategy>().is_err());
    }

    fn ago(time: Duration) -> Option<Instant> {
        Some(Instant::now() - time)
    }

    /// A wait that began then was short, however long this thread is kept from asking: what is yet to come is
    /// no time ago.
    fn just_now() -> Option<Instant> {
        Some(Instant::now() + FAR)
    }

    #[test]
    fn long_waits_end_spinning_and_short_ones_begin_it_again() {
        let mut waiting = Waiting::new(WaitStrategy::Adaptive);
        for _ in 0..10 {
            assert!(matches!(waiting.look(None, 0, || false), Looked::Sleep(Some(_))));
            waiting.slept(ago(Duration::from_millis(5)), 0);
        }
        assert_eq!((waiting.rounds, waiting.brief_looks()), (0, 0));
        waiting.slept(ago(Duration::from_millis(5)), 0);
        waiting.slept(just_now(), 0);
        assert_eq!(waiting.rounds, 0, "put off once");
        waiting.slept(just_now(), 0);
        assert_eq!((waiting.rounds, waiting.brief_looks()), (MOST_ROUNDS, LOOKS));
    }

    #[test]
    fn late_waits_are_borne_for_a_while_and_then_put_off_for_longer_and_longer() {
        let mut waiting = Waiting::new(WaitStrategy::Adaptive);
        for pause in [1, 2, 4, 8, 16, 32, 64, 64] {
            for _ in 0..PATIENCE {
                waiting.was_late(0);
                assert_eq!(waiting.rounds, MOST_ROUNDS);
            }
            waiting.was_late(0);
            assert_eq!((waiting.rounds, waiting.pause), (0, pause));
            for _ in 0..=pause {
                assert_eq!(waiting.rounds, 0);
                waiting.slept(just_now(), 0);
            }
        }
        waiting.was_early();
        assert_eq!((waiting.patience, waiting.next_pause), (PATIENCE, 1));
    }

    #[test]
    fn a_burst_between_two_long_waits_keeps_the_next_spin_long() {
        let mut waiting = Waiting::new(WaitStrategy::Adaptive);
        for burst in 1..20 {
            waiting.was_long(burst * BURST);
            assert_eq!(waiting.rounds, MOST_ROUNDS / 2);
        }
        waiting.was_long(20 * BURST - 1);
        assert_eq!(waiting.rounds, MOST_ROUNDS / 4);
    }

    #[test]
    fn a_deadline_ends_every_strategy_that_looks() {
        for strategy in [WaitStrategy::Spin, WaitStrategy::Adaptive] {
            let mut waiting = Waiting::new(strategy);
            let deadline = Some(Instant::now());
            assert!(matches!(waiting.look(deadline, 0, || false), Looked::TimedOut));
        }
    }

    /// Often enough that other tests, which may spin on all CPUs, do not spin meanwhile.
    fn where_spinning_is_allowed(mut check: impl FnMut()) {
        let mut allowed = 0;
        while allowed < 50 {
            allowed += u32::from(Spinning::begin().allowed);
            check();
        }
    }

    const FAR: Duration = Duration::from_secs(3600);

    /// Longer than a short wait.
    const LONG: Duration = Duration::from_millis(5);

    #[test]
    fn a_deadline_that_is_far_ends_nothing() {
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
    fn who_does_not_spin_does_not_look_but_heeds_the_deadline() {
        let parked = Waiting { rounds: 0, ..Waiting::new(WaitStrategy::Adaptive) };
        let for_its_wake = Waiting { switches: MOST_SWITCHES, ..Waiting::new(WaitStrategy::Adaptive) };
        for mut waiting in [parked, for_its_wake] {
            let never = || panic!("a look");
            where_spinning_is_allowed(|| {
                assert!(matches!(waiting.look(None, 0, never), Looked::Sleep(_)));
            });
            assert!(matches!(waiting.look(Some(Instant::now() + FAR), 0, never), Looked::Sleep(_)));
            assert!(matches!(waiting.look(Some(Instant::now()), 0, never), Looked::TimedOut));
        }
    }

    /// A sleep that was chosen for the sake of its wake.
    #[test]
    fn what_a_sleep_does_not_tell_is_not_learned() {
        let mut waiting = Waiting { switches: MOST_SWITCHES, ..Waiting::new(WaitStrategy::Adaptive) };
        for rounds in [MOST_ROUNDS, MOST_ROUNDS / 2] {
            waiting.slept(ago(LONG), 0);
            assert_eq!((waiting.rounds, waiting.switches), (rounds, 0));
        }
        let mut parks = Waiting::new(WaitStrategy::Park);
        let Looked::Sleep(began) = parks.look(None, 0, || panic!("a look")) else { panic!("no sleep") };
        assert_eq!(began, None, "nothing is to be learned: the clock is not read");
        parks.slept(began, 0);
        assert_eq!(parks.rounds, MOST_ROUNDS);
    }

    #[test]
    fn what_is_found_in_the_first_rounds_is_early() {
        loop {
            let mut waiting = Waiting { patience: 1, next_pause: 8, ..Waiting::new(WaitStrategy::Adaptive) };
            // Other tests may be spinning at this moment on as many CPUs as there are.
            if let Looked::Found = waiting.look(None, 0, || true) {
                assert_eq!((waiting.patience, waiting.next_pause), (PATIENCE, 1));
                return;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn no_more_threads_spin_than_there_are_cpus() {
        let mut alone = 0;
        while alone < 50 {
            let spinning: Vec<_> = (0..processors::usable()).map(|_| Spinning::begin()).collect();
            alone += u32::from(SPINNERS.load(Ordering::Relaxed) == processors::usable());
            assert!(!Spinning::begin().allowed);
            drop(spinning);
        }
        while !Spinning::begin().allowed {
            std::thread::yield_now(); // until other tests do not spin
        }
    }

    #[test]
    fn a_wait_stops_spinning_when_its_last_round_is_gone() {
        let mut waiting = Waiting::new(WaitStrategy::Adaptive);
        for halved in [32, 16, 8, 4, 2, 1, 0] {
            waiting.was_long(0);
            assert_eq!((waiting.rounds, waiting.pause), (halved, u32::from(halved == 0)));
        }
        // Short sleeps are passed over, long ones tell nothing new.
        waiting.pause = 2;
        for (began, pause) in [(ago(LONG), 2), (just_now(), 1), (ago(LONG), 1), (just_now(), 0)] {
            waiting.slept(began, 0);
            assert_eq!((waiting.rounds, waiting.pause), (0, pause));
        }
        waiting.slept(ago(LONG), 0);
        assert_eq!(waiting.rounds, 0);
        (waiting.patience, waiting.next_pause) = (0, 4);
        waiting.slept(just_now(), 17);
        let learned = (waiting.rounds, waiting.patience, waiting.found, waiting.next_pause);
        assert_eq!(learned, (MOST_ROUNDS, PATIENCE, 17, 4));
    }

    #[test]
    fn a_late_wait_at_the_end_of_a_burst_is_none() {
        let mut waiting = Waiting { patience: 3, ..Waiting::new(WaitStrategy::Adaptive) };
        waiting.was_late(BURST - 1);
        assert_eq!((waiting.patience, waiting.found), (2, BURST - 1));
        waiting.was_late(2 * BURST - 1);
        assert_eq!((waiting.patience, waiting.found), (PATIENCE, 2 * BURST - 1));
    }
}
