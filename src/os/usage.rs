#![allow(unsafe_code)]

//! Measures a thread's CPU time, and how often it slept.

use std::mem::zeroed;
use std::time::Duration;

use rustix::thread::Pid;

/// The CPU time and sleeps of this thread so far.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct ThreadUse {
    pub(crate) cpu: Duration,
    /// The number of voluntary context switches.
    pub(crate) sleeps: i64,
}

impl ThreadUse {
    pub(crate) fn now() -> ThreadUse {
        // SAFETY: `rusage` consists of integers, for which zeros are valid.
        let mut usage: libc::rusage = unsafe { zeroed() };
        // SAFETY: the pointer is to a valid `rusage`, which the kernel fills. The call fails only for an
        // unknown first argument, and then the zeros stay.
        unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
        // The times in `rusage` are updated only every few milliseconds; this clock is exact.
        ThreadUse { cpu: clock(libc::CLOCK_THREAD_CPUTIME_ID), sleeps: usage.ru_nvcsw }
    }
}

/// The processor time that this process has used.
pub(crate) fn of_process() -> Duration {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// The processor time that a thread of this process has used. `None` if there is no such thread.
pub(crate) fn of_thread(thread: Pid) -> Option<Duration> {
    // The number that `pthread_getcpuclockid` makes: of a thread (4), the time that the scheduler counts (2).
    let used = clock(!thread.as_raw_nonzero().get() << 3 | 4 | 2);
    (!used.is_zero()).then_some(used)
}

/// Reads a clock. (Not by `rustix`, with which the instruction counts under valgrind ended with signal 11.)
pub(crate) fn clock(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a valid `timespec`, which the kernel fills. If the call fails, the zeros
    // stay.
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
