#![allow(unsafe_code)]

//! What a thread has used of the CPU, and how often it slept.

use std::mem::zeroed;
use std::time::Duration;

/// What this thread has used so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ThreadUse {
    pub(crate) cpu: Duration,
    /// How often it went to sleep of its own accord.
    pub(crate) sleeps: i64,
}

impl ThreadUse {
    pub(crate) fn now() -> ThreadUse {
        // SAFETY: `rusage` is made of integers alone, for which zeros are valid.
        let mut usage: libc::rusage = unsafe { zeroed() };
        // SAFETY: the pointer is that of a whole `rusage`, which the kernel fills. The call fails for an
        // unknown first argument only, and then leaves the zeros.
        unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
        // The times in it are brought up to date every few milliseconds only; this one is exact.
        ThreadUse { cpu: clock(libc::CLOCK_THREAD_CPUTIME_ID), sleeps: usage.ru_nvcsw }
    }
}

/// What a clock shows. (By way of `rustix` it ended the instruction counts, which run below valgrind, with
/// signal 11.)
pub(crate) fn clock(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is that of a whole `timespec`, which the kernel fills. Should the call fail, the
    // zeros stay.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_has_used_grows_by_what_it_does() {
        let before = ThreadUse::now();
        while ThreadUse::now().cpu < before.cpu + Duration::from_millis(5) {
            std::hint::spin_loop();
        }
        let between = ThreadUse::now();
        std::thread::sleep(Duration::from_millis(1)); // nothing is waited for: the sleep is what is counted
        let after = ThreadUse::now();
        assert!(between.sleeps < after.sleeps);
    }
}
