//! How long to look before sleeping.
//!
//! Three steps: spin with `pause` (a round trip of 0.1 µs, if the other side runs), spin with `sched_yield` (2.6 µs,
//! if it needs this CPU), park on a futex (4.3 µs on one CPU, 55 µs across two). Spinning longer than a
//! park and wake would cost is waste, so that is the bound; below it, the time is learned per ring: a spin that ended in
//! vain halves the next one, down to none; a wait that would have been caught restores it. After spins in vain the
//! next attempt is put off, longer each time, so that a ring with long gaps costs almost nothing.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::sync::spin_hint;

/// How a blocking operation waits. Each end of a channel chooses for itself.
///
/// | | looks | yields | sleeps | for |
/// | --- | --- | --- | --- | --- |
/// | `Spin` | all the time | never | never | the lowest latency, where each waiting end can have a CPU of its own |
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
    /// Looks all the time; never yields and never sleeps. The lowest latency, and one CPU for each waiting end.
    Spin,
    /// Spins as long as it has paid off lately, at most about as long as sleeping would cost; then yields, then sleeps.
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

/// About what a park and a wake across CPUs cost: spinning longer than this cannot pay.
const LONGEST_SPIN: Duration = Duration::from_micros(50);

/// A wait that was parked and yet ended within this time was a short one made long by parking: spin again.
const SHORT_PARKED: Duration = Duration::from_micros(200);

/// `sched_yield` calls before parking, while they pay off.
const MOST_YIELDS: u32 = 8;

/// Looks between two readings of the clock, and before the first.
const LOOKS: u32 = 64;

/// Waits put off at the most before spinning is tried again.
const LONGEST_PAUSE: u32 = 64;

/// Threads of this process that spin by the clock right now.
static SPINNERS: AtomicUsize = AtomicUsize::new(0);

fn cpus() -> usize {
    static CPUS: OnceLock<usize> = OnceLock::new();
    *CPUS.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// What one end of a ring has learned about its waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) strategy: WaitStrategy,
    spin: Duration,
    yields: u32,
    /// Short parked waits still to pass over before spinning is tried again, and the number for the next time.
    pause: u32,
    next_pause: u32,
}

/// How a round of looking ended.
#[derive(Debug)]
pub(crate) enum Looked {
    Found,
    TimedOut,
    /// It is time to sleep. When the wait began, if the clock was read.
    Sleep(Instant),
}

impl Waiting {
    pub(crate) fn new(strategy: WaitStrategy) -> Waiting {
        Waiting { strategy, spin: LONGEST_SPIN, yields: MOST_YIELDS, pause: 0, next_pause: 1 }
    }

    /// How often to look at the beginning of a wait, before the clock is read.
    #[inline]
    pub(crate) fn brief_looks(&self) -> u32 {
        match self.strategy {
            _ if cfg!(loom) => 0,
            WaitStrategy::Spin => LOOKS,
            WaitStrategy::Adaptive if self.spin > Duration::ZERO => LOOKS,
            WaitStrategy::Adaptive | WaitStrategy::Park => 0,
        }
    }

    /// Looks until something is found, the deadline passes, or it is time to sleep.
    #[cold]
    pub(crate) fn look(&mut self, deadline: Option<Instant>, look: impl FnMut() -> bool) -> Looked {
        match self.strategy {
            _ if cfg!(loom) => Looked::Sleep(Instant::now()),
            WaitStrategy::Park => Looked::Sleep(Instant::now()),
            WaitStrategy::Spin => spin_on(deadline, look),
            WaitStrategy::Adaptive => self.look_longer(deadline, look),
        }
    }

    fn look_longer(&mut self, deadline: Option<Instant>, mut look: impl FnMut() -> bool) -> Looked {
        let began = Instant::now();
        if self.spin > Duration::ZERO && cpus() > 1 {
            let spinning = Spinning::begin();
            if spinning.allowed {
                let until = match deadline {
                    Some(deadline) => deadline.min(began + self.spin),
                    None => began + self.spin,
                };
                loop {
                    for _ in 0..LOOKS {
                        if look() {
                            self.restore_spin();
                            return Looked::Found;
                        }
                        spin_hint();
                    }
                    if Instant::now() >= until {
                        break;
                    }
                }
                self.spin /= 2;
                if self.spin < Duration::from_micros(1) {
                    self.spin = Duration::ZERO;
                    self.pause = self.next_pause;
                    self.next_pause = (self.next_pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        for _ in 0..self.yields {
            std::thread::yield_now();
            if look() {
                self.yields = MOST_YIELDS;
                return Looked::Found;
            }
        }
        self.yields /= 2;
        match deadline {
            Some(deadline) if Instant::now() >= deadline => Looked::TimedOut,
            _ => Looked::Sleep(began),
        }
    }

    fn restore_spin(&mut self) {
        self.spin = LONGEST_SPIN;
        self.next_pause = 1;
    }

    /// Tells that a wait which began then ended in its sleep.
    pub(crate) fn slept(&mut self, began: Instant) {
        if self.strategy != WaitStrategy::Adaptive || cfg!(loom) || began.elapsed() > SHORT_PARKED {
            return;
        }
        if self.pause > 0 {
            self.pause -= 1;
        } else if self.spin == Duration::ZERO {
            self.spin = LONGEST_SPIN;
            self.yields = MOST_YIELDS;
        }
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
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
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
        // More spinners than CPUs only keep each other from working.
        let before = SPINNERS.fetch_add(1, Ordering::Relaxed);
        Spinning { allowed: before < cpus() }
    }
}

impl Drop for Spinning {
    fn drop(&mut self) {
        SPINNERS.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for strategy in [WaitStrategy::Spin, WaitStrategy::Adaptive, WaitStrategy::Park] {
            assert_eq!(strategy.to_string().parse(), Ok(strategy));
        }
        assert!("Spin".parse::<WaitStrategy>().is_err());
    }

    #[test]
    fn spins_in_vain_end_and_short_waits_restore_them() {
        let mut waiting = Waiting::new(WaitStrategy::Adaptive);
        for _ in 0..10 {
            assert!(matches!(waiting.look(None, || false), Looked::Sleep(_)));
            waiting.slept(Instant::now() - Duration::from_millis(5));
        }
        assert_eq!(waiting.spin, if cpus() > 1 { Duration::ZERO } else { LONGEST_SPIN });
        if cpus() > 1 {
            waiting.slept(Instant::now());
            assert_eq!(waiting.spin, Duration::ZERO, "put off once");
            waiting.slept(Instant::now());
            assert_eq!(waiting.spin, LONGEST_SPIN);
        }
    }

    #[test]
    fn a_deadline_ends_every_strategy_that_looks() {
        for strategy in [WaitStrategy::Spin, WaitStrategy::Adaptive] {
            let mut waiting = Waiting::new(strategy);
            let deadline = Some(Instant::now());
            assert!(matches!(waiting.look(deadline, || false), Looked::TimedOut));
        }
    }
}
