//! How long a wake takes: who wakes writes the time, and who was woken takes the difference.
//!
//! Only while somebody looks at the bus, and only around a sleep and its wake, which make system calls
//! anyway. The time comes from the other side: it counts if it lies within the sleep, and is ignored if not.

use std::fmt;
use std::time::Duration;

use crate::shm::View;
use crate::shm::backend::{Ordering, nanoseconds};

/// What is done with the duration of a wake.
pub(crate) type OnWake = std::sync::Arc<dyn Fn(Duration) + Send + Sync>;

/// Where the time of a wake is written, for one ring.
#[derive(Clone)]
pub(crate) struct Stamps {
    view: View,
    /// The word that is not 0 while somebody looks.
    wanted: usize,
    /// The time of the last wake, in nanoseconds.
    at: usize,
    woken: Option<OnWake>,
}

// Relaxed: the words carry no data, and a time that comes late is ignored.
impl Stamps {
    pub(crate) fn new(view: View, wanted: usize, at: usize) -> Stamps {
        Stamps { view, wanted, at, woken: None }
    }

    pub(super) fn on_wake(&mut self, woken: OnWake) {
        self.woken = Some(woken);
    }

    fn are_wanted(&self) -> bool {
        self.view.word32(self.wanted).load(Ordering::Relaxed) != 0
    }

    /// The other end is woken now.
    #[cold]
    pub(super) fn wakes(&self) {
        if self.are_wanted() {
            self.view.word64(self.at).store(nanoseconds(), Ordering::Relaxed);
        }
    }

    /// This end is about to sleep. Returns when, if its wake is to be timed.
    pub(super) fn sleeps(&self) -> Option<u64> {
        (self.woken.is_some() && self.are_wanted()).then(nanoseconds)
    }

    /// This end was woken from a sleep that began then.
    pub(super) fn woke(&self, began: u64) {
        let (at, now) = (self.view.word64(self.at).load(Ordering::Relaxed), nanoseconds());
        if let Some(woken) = &self.woken
            && (began..=now).contains(&at)
        {
            woken(Duration::from_nanos(now - at));
        }
    }
}

impl fmt::Debug for Stamps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stamps").field("wanted", &self.are_wanted()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::shm::Segment;

    const WANTED: usize = 0;
    const AT: usize = 64;

    /// Stamps in a memory, and what was counted by them.
    fn stamps() -> (View, Stamps, Arc<Mutex<Vec<Duration>>>) {
        let view = View::new(Segment::anonymous(4096).unwrap());
        let mut stamps = Stamps::new(view.clone(), WANTED, AT);
        let counted = Arc::new(Mutex::new(Vec::new()));
        let count = Arc::clone(&counted);
        stamps.on_wake(Arc::new(move |took| count.lock().unwrap().push(took)));
        (view, stamps, counted)
    }

    #[test]
    fn a_clock_is_read_only_while_somebody_looks() {
        let (view, stamps, _) = stamps();
        stamps.wakes();
        assert_eq!((view.word64(AT).load(Ordering::Relaxed), stamps.sleeps()), (0, None));
        view.word32(WANTED).store(1, Ordering::Relaxed);
        let began = stamps.sleeps().unwrap();
        stamps.wakes();
        assert!((began..=nanoseconds()).contains(&view.word64(AT).load(Ordering::Relaxed)));
    }

    /// The other side may write any time, and its clock may be another one.
    #[test]
    fn only_a_time_within_the_sleep_counts() {
        let (view, stamps, counted) = stamps();
        view.word32(WANTED).store(1, Ordering::Relaxed);
        let began = stamps.sleeps().unwrap();
        for lie in [0, began - 1, nanoseconds() + 3_600_000_000_000, u64::MAX] {
            view.word64(AT).store(lie, Ordering::Relaxed);
            stamps.woke(began);
        }
        assert!(counted.lock().unwrap().is_empty());
        stamps.wakes();
        let within = view.word64(AT).load(Ordering::Relaxed);
        stamps.woke(began);
        let counted = counted.lock().unwrap();
        assert!(counted.len() == 1 && counted[0] <= Duration::from_nanos(nanoseconds() - within));
    }
}
