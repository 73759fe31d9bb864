//! How long the server has been up, and since when.
//!
//! The duration comes from a clock that nobody can set and that goes on while the computer sleeps. The start
//! time is the current time of day minus that duration. So a clock that was wrong at the start, or is set
//! later, does not make a server look a thousand days old.

#![forbid(unsafe_code)]

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::os::usage::clock;

/// How far the two clocks may drift apart before a new start time is reported.
const DRIFT: Duration = Duration::from_secs(1);

/// The time since the server's start.
#[derive(Debug)]
pub(super) struct Uptime {
    began: Duration,
    /// The start time as last reported, so that it does not change from one look to the next.
    started: Mutex<SystemTime>,
}

fn since_boot() -> Duration {
    clock(libc::CLOCK_BOOTTIME)
}

impl Uptime {
    pub(super) fn begin() -> Uptime {
        Uptime { began: since_boot(), started: Mutex::new(SystemTime::now()) }
    }

    /// A number that no earlier or later server of this computer has.
    pub(super) fn number(&self) -> u64 {
        u64::try_from(self.began.as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn length(&self) -> Duration {
        since_boot().saturating_sub(self.began)
    }

    pub(super) fn started(&self) -> SystemTime {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        *started = start(*started, SystemTime::now(), self.length());
        *started
    }
}

/// The start time by the clock as it is set now: the one reported last, unless the clock was set.
fn start(told: SystemTime, now: SystemTime, uptime: Duration) -> SystemTime {
    let computed = now.checked_sub(uptime).unwrap_or(SystemTime::UNIX_EPOCH);
    let apart = computed.duration_since(told).unwrap_or_else(|earlier| earlier.duration());
    if apart > DRIFT { computed } else { told }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_the_clock_does_not_change_the_uptime() {
        let hour = Duration::from_secs(3600);
        let at = |hours: u32| SystemTime::UNIX_EPOCH + hours * hour;
        // Started in 1970 by a clock without a battery, which was set an hour later.
        assert_eq!(start(at(0), at(500_000), hour), at(499_999));
        // Set back.
        assert_eq!(start(at(499_999), at(400_000), 2 * hour), at(399_998));
        assert_eq!(start(at(100), at(1), 2 * hour).duration_since(at(0)).unwrap_or_default(), Duration::ZERO);
        // A little drift is ignored.
        let drifted = at(10) + Duration::from_millis(900);
        assert_eq!(start(at(9), drifted, hour), at(9));
    }

    #[test]
    fn the_start_time_is_the_same_each_time() {
        let uptime = Uptime::begin();
        let (before, first) = (uptime.length(), uptime.started());
        assert_eq!(uptime.started(), first);
        assert!(uptime.length() >= before && uptime.length() < Duration::from_secs(60));
    }
}
