//! How long a server has been up, and since when.
//!
//! The length comes from a clock that nobody sets and that goes on while the computer sleeps. The time of day
//! at which the server started is what that length is before the present time of day: a clock that was wrong
//! at the start, or is set later, makes no server a thousand days old.

#![forbid(unsafe_code)]

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::os::sys::clock;

/// The two clocks may drift apart by so much before another time of start is told.
const DRIFT: Duration = Duration::from_secs(1);

/// A server's time since its start.
#[derive(Debug)]
pub(super) struct Life {
    began: Duration,
    /// As it was last told: it does not change with each look.
    started: Mutex<SystemTime>,
}

fn since_boot() -> Duration {
    clock(libc::CLOCK_BOOTTIME)
}

impl Life {
    pub(super) fn begin() -> Life {
        Life { began: since_boot(), started: Mutex::new(SystemTime::now()) }
    }

    pub(super) fn uptime(&self) -> Duration {
        since_boot().saturating_sub(self.began)
    }

    pub(super) fn started(&self) -> SystemTime {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        *started = start(*started, SystemTime::now(), self.uptime());
        *started
    }
}

/// When it started, by the clock as it is set now.
fn start(told: SystemTime, now: SystemTime, uptime: Duration) -> SystemTime {
    let computed = now.checked_sub(uptime).unwrap_or(SystemTime::UNIX_EPOCH);
    let apart = computed.duration_since(told).unwrap_or_else(|earlier| earlier.duration());
    if apart > DRIFT { computed } else { told }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_does_not_change_the_length() {
        let hour = Duration::from_secs(3600);
        let at = |hours: u32| SystemTime::UNIX_EPOCH + hours * hour;
        // Started in 1970 by a clock that had no battery, and was set an hour later.
        assert_eq!(start(at(0), at(500_000), hour), at(499_999));
        // Set back.
        assert_eq!(start(at(499_999), at(400_000), 2 * hour), at(399_998));
        assert_eq!(start(at(100), at(1), 2 * hour).duration_since(at(0)).unwrap_or_default(), Duration::ZERO);
        // A little drift is none.
        let drifted = at(10) + Duration::from_millis(900);
        assert_eq!(start(at(9), drifted, hour), at(9));
    }

    #[test]
    fn it_is_told_the_same_each_time() {
        let life = Life::begin();
        let (before, first) = (life.uptime(), life.started());
        assert_eq!(life.started(), first);
        assert!(life.uptime() >= before && life.uptime() < Duration::from_secs(60));
    }
}
