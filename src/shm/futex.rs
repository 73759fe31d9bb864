//! Sleeping on a word of shared memory until another thread or process changes it.
//!
//! The system calls are in `os::futex`, with the argument why no wake is lost.

#[cfg(any(test, feature = "cli", feature = "internals", fuzzing))]
use std::{sync::atomic::AtomicU32, time::Instant};

pub(crate) use super::backend::{Wait, set, wait, wake};
pub(crate) use crate::os::futex::{Scope, Woken};

/// Sleeps while `word`, in shared memory, holds `expected`, at most until the deadline. May return early:
/// look again.
#[cfg(any(test, feature = "cli", feature = "internals", fuzzing))]
pub fn futex_wait(word: &AtomicU32, expected: u32, deadline: Option<Instant>) {
    crate::os::futex::wait(&[crate::os::futex::Wait { word, expected, scope: Scope::Shared }], deadline);
}

/// As [`futex_wait`], but also ends when `other`, a word of this process, holds something else than 0.
#[cfg(feature = "cli")]
pub fn futex_wait_on_two(word: &AtomicU32, expected: u32, other: &AtomicU32) {
    use crate::os::futex::{Scope, Wait, wait};
    let other = Wait { word: other, expected: 0, scope: Scope::Private };
    wait(&[Wait { word, expected, scope: Scope::Shared }, other], None);
}

/// Ends the sleep of up to `count` [`futex_wait`]s on `word`, which must have been changed before. Does not
/// block.
#[cfg(any(test, feature = "cli", feature = "internals", fuzzing))]
pub fn futex_wake(word: &AtomicU32, count: u32) {
    crate::os::futex::wake(word, Scope::Shared, count);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::Segment;
    use std::thread;
    use std::time::Duration;

    /// Between two mappings, with the word unchanged: only the wake can end that sleep.
    #[test]
    fn a_sleep_on_shared_memory_lasts_until_the_wake_or_the_deadline() {
        const LIMIT: Duration = Duration::from_secs(300);
        let (ours, fd) = Segment::create("test", 4096).unwrap();
        let theirs = Segment::open(&fd).unwrap();
        let until = Instant::now() + Duration::from_millis(20);
        futex_wait(ours.word32(0), 0, Some(until));
        assert!(Instant::now() >= until);
        let until = Instant::now() + LIMIT;
        let sleeper = thread::spawn(move || {
            futex_wait(theirs.word32(0), 0, Some(until));
            Instant::now() < until
        });
        while !sleeper.is_finished() {
            futex_wake(ours.word32(0), 1);
            thread::yield_now();
        }
        assert!(sleeper.join().unwrap(), "the wake did not reach it");
    }
}
