//! Sleeping on a word until another thread or process changes it.
//!
//! A return from [`wait`] is only a *hint*: the word was woken, or had already changed, or the kernel had its
//! own reasons, or a peer that may write the word misleads. The caller looks again at what it waits for, and
//! counts hints that lead nowhere.
//!
//! **Why no wake is lost.** The kernel compares the word with `expected` under the lock of its queue, and a
//! waker takes the same lock. If the waker changes the word *before* it wakes, then either the sleeper's
//! compare sees the change, and it does not sleep, or the sleeper is already in the queue, and the wake finds
//! it.
//!
//! **Scope.** A word in memory that two processes map must be waited for and woken as *shared*. A private
//! wait is keyed by address space: a waker in another process would not find it. It is for words that only
//! one process maps, and where it has no limit in time `atomic_wait` makes the call.
//!
//! **Several words.** If an untrusted peer can write the first word, a second word in private memory makes
//! sure that closing is noticed: `futex_waitv` (Linux 5.16) sleeps on both. Where that call is unknown, or a
//! container's filter forbids it with any error, the wait sleeps in slices on the first word and looks at the
//! others in between. Closing a channel also wakes its first words, so an end that nobody disturbs hears of
//! it at once. Only where a peer keeps the sleeper on the first word, or where another channel closes (a
//! sender that waits for somebody's inbox), is it heard one slice later. Slices grow from [`SLICE`] to
//! [`LONGEST_SLICE`] while nothing happens.
//!
//! **Errors.** An error that is not a documented outcome of the call is this process's own affair and never a
//! hint, because hints are counted against the peer.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::thread::ClockId;
use rustix::thread::futex::{self, Flags, Timespec, Wait as WaitvEntry, WaitFlags, WaitPtr, WaitvFlags};

use super::lacks::Lack;

/// Which threads a wait and a wake can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Those of all processes that map the same memory.
    Shared,
    /// Those of this process.
    Private,
}

/// One word to sleep on, for as long as it holds `expected`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wait<'a> {
    pub(crate) word: &'a AtomicU32,
    pub(crate) expected: u32,
    pub(crate) scope: Scope,
}

/// Why a sleep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// A word was woken or changed, or so it seems.
    Hint,
    /// A signal was handled.
    Interrupted,
    /// The deadline passed.
    TimedOut,
    /// A slice of the fallback ended, and nothing is known.
    Slice,
}

/// How long the fallback sleeps before it looks at the other words, at first.
const SLICE: Duration = Duration::from_millis(10);

/// The longest sleep of the fallback, after some slices without an event. A malicious client can delay the
/// end of its worker by at most this much. 500 idle clients then cause 1,000 short wakes per second.
const LONGEST_SLICE: Duration = Duration::from_millis(500);

/// The most words in one wait: as many as `futex_waitv` takes. A subscriber has one for each publisher.
pub(crate) const MOST: usize = 128;

/// The most words of the usual waits, which lie in less memory. A sender that waits for room in an inbox has
/// four: room in the inbox, the inbox's end, its place in the queue, and its own end.
const FEW: usize = 4;

/// Whether `futex_waitv` can be used, once that was tried.
static WAITV: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const WORKS: u8 = 1;
/// It was refused, and would be refused again.
const REFUSED: u8 = 2;

thread_local! {
    /// The next slice of the fallback on this thread.
    static NEXT_SLICE: Cell<Duration> = const { Cell::new(SLICE) };
}

fn flags(scope: Scope) -> Flags {
    match scope {
        Scope::Shared => Flags::empty(),
        Scope::Private => Flags::PRIVATE,
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// Sleeps while every one of the words holds its expected value, at most until the deadline. Words beyond
/// [`MOST`] are not slept on.
pub(crate) fn wait(waits: &[Wait<'_>], deadline: Option<Instant>) -> Woken {
    match waits {
        [] => Woken::Hint,
        [only] => wait_one(only, deadline),
        several => wait_several(several, deadline),
    }
}

fn wait_one(on: &Wait<'_>, deadline: Option<Instant>) -> Woken {
    let remaining = match deadline {
        None if on.scope == Scope::Private => {
            atomic_wait::wait(on.word, on.expected);
            // It does not say why it returned. A waker changes the word first; otherwise it was a signal.
            let changed = on.word.load(Ordering::Relaxed) != on.expected;
            return if changed { Woken::Hint } else { Woken::Interrupted };
        }
        None => None,
        Some(deadline) => match deadline.checked_duration_since(Instant::now()) {
            None | Some(Duration::ZERO) => return Woken::TimedOut,
            Some(left) => Some(timespec(left)),
        },
    };
    // The time-out of this call is relative and on the monotonic clock.
    match futex::wait(on.word, flags(on.scope), on.expected, remaining.as_ref()) {
        Err(Errno::TIMEDOUT) => Woken::TimedOut,
        Err(Errno::INTR) => Woken::Interrupted,
        // Woken, or changed before the sleep: the caller looks and counts.
        Ok(()) | Err(Errno::AGAIN) => Woken::Hint,
        // The call was refused, so nobody could wake this thread either: look again after a while.
        Err(_) => {
            let left = deadline.map_or(SLICE, |deadline| deadline.saturating_duration_since(Instant::now()));
            std::thread::sleep(left.min(SLICE));
            Woken::Slice
        }
    }
}

/// Whether a wait on several words sleeps on all of them. If not, it sleeps on the first one, in slices.
pub(crate) fn sleeps_on_all() -> bool {
    waitv_works()
}

fn wait_several(waits: &[Wait<'_>], deadline: Option<Instant>) -> Woken {
    if waitv_works() {
        match waitv(waits, deadline) {
            Ok(_) | Err(Errno::AGAIN) => return Woken::Hint,
            Err(Errno::TIMEDOUT) => return Woken::TimedOut,
            Err(Errno::INTR) => return Woken::Interrupted,
            // Only this time.
            Err(Errno::NOMEM) => {}
            Err(errno) => refused(errno),
        }
    }
    wait_in_slices(waits, deadline)
}

/// Whether `futex_waitv` works. A filter may answer with an error that is also an outcome of the call, so
/// the first use makes two calls that must end at once, each with another outcome.
fn waitv_works() -> bool {
    match WAITV.load(Ordering::Relaxed) {
        UNKNOWN => {
            let word = AtomicU32::new(0);
            let on = |expected| Wait { word: &word, expected, scope: Scope::Private };
            let changed = waitv(&[on(1), on(1)], None);
            let late = waitv_until(&[on(0), on(0)], Some(Timespec { tv_sec: 0, tv_nsec: 0 }));
            match (changed, late) {
                (Err(Errno::AGAIN), Err(Errno::TIMEDOUT)) => {
                    WAITV.store(WORKS, Ordering::Relaxed);
                    return true;
                }
                (Err(Errno::AGAIN) | Ok(_), late) => refused(late.err().unwrap_or(Errno::NOSYS)),
                (Err(errno), _) => refused(errno),
            }
            false
        }
        answer => answer == WORKS,
    }
}

fn refused(errno: Errno) {
    WAITV.store(REFUSED, Ordering::Relaxed);
    Lack::FutexWaitv.note(&errno.into());
}

fn waitv(waits: &[Wait<'_>], deadline: Option<Instant>) -> rustix::io::Result<usize> {
    let until = match deadline {
        None => None,
        Some(deadline) => {
            // The time-out of this call is absolute, and `Instant` does not show its value.
            let left = deadline.checked_duration_since(Instant::now()).ok_or(Errno::TIMEDOUT)?;
            let now = rustix::time::clock_gettime(ClockId::Monotonic);
            let now = Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32);
            Some(timespec(now.saturating_add(left)))
        }
    };
    waitv_until(waits, until)
}

fn waitv_until(waits: &[Wait<'_>], until: Option<Timespec>) -> rustix::io::Result<usize> {
    if waits.len() <= FEW { waitv_of::<FEW>(waits, until) } else { waitv_of_many(waits, until) }
}

#[cold]
#[inline(never)]
fn waitv_of_many(waits: &[Wait<'_>], until: Option<Timespec>) -> rustix::io::Result<usize> {
    waitv_of::<MOST>(waits, until)
}

fn waitv_of<const SPACE: usize>(waits: &[Wait<'_>], until: Option<Timespec>) -> rustix::io::Result<usize> {
    let mut entries = [WaitvEntry::new(); SPACE];
    for (entry, wait) in entries.iter_mut().zip(waits) {
        entry.val = wait.expected.into();
        entry.uaddr = WaitPtr::new(wait.word.as_ptr().cast());
        entry.flags = match wait.scope {
            Scope::Shared => WaitFlags::SIZE_U32,
            Scope::Private => WaitFlags::SIZE_U32 | WaitFlags::PRIVATE,
        };
    }
    let used = waits.len().min(SPACE);
    futex::waitv(&entries[..used], WaitvFlags::empty(), until.as_ref(), ClockId::Monotonic)
}

/// Sleeps without `futex_waitv`: one slice on the first word. The caller looks and comes back.
fn wait_in_slices(waits: &[Wait<'_>], deadline: Option<Instant>) -> Woken {
    if waits[1..].iter().any(|w| w.word.load(Ordering::Acquire) != w.expected) {
        return Woken::Hint;
    }
    let length = NEXT_SLICE.replace(SLICE);
    let slice = Instant::now() + length;
    match deadline {
        Some(deadline) if deadline <= slice => wait_one(&waits[0], Some(deadline)),
        _ => match wait_one(&waits[0], Some(slice)) {
            Woken::TimedOut => {
                NEXT_SLICE.set(LONGEST_SLICE.min(length * 2));
                Woken::Slice
            }
            ended => ended,
        },
    }
}

/// Ends the sleep of up to `count` waiters; on a private word of one, or of all if `count` is more. The word
/// must have been changed before.
pub(crate) fn wake(word: &AtomicU32, scope: Scope, count: u32) {
    match (scope, count) {
        (Scope::Private, 1) => atomic_wait::wake_one(word),
        (Scope::Private, _) => atomic_wait::wake_all(word),
        // It fails only for an address that is not mapped; this one is borrowed.
        (Scope::Shared, count) => _ = futex::wake(word, Flags::empty(), count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn on(word: &AtomicU32, expected: u32, scope: Scope) -> Wait<'_> {
        Wait { word, expected, scope }
    }

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_millis(20))
    }

    #[test]
    fn a_changed_word_does_not_sleep() {
        let (a, b) = (AtomicU32::new(1), AtomicU32::new(0));
        assert_eq!(wait(&[on(&a, 0, Scope::Private)], None), Woken::Hint);
        assert_eq!(wait(&[on(&a, 1, Scope::Shared), on(&b, 7, Scope::Private)], None), Woken::Hint);
        assert_eq!(wait_in_slices(&[on(&a, 1, Scope::Shared), on(&b, 7, Scope::Private)], None), Woken::Hint);
    }

    #[test]
    fn deadlines_are_kept() {
        let (a, b) = (AtomicU32::new(0), AtomicU32::new(0));
        let both = [on(&a, 0, Scope::Shared), on(&b, 0, Scope::Private)];
        for _ in 0..2 {
            let started = Instant::now();
            assert_eq!(wait(&both[..1], soon()), Woken::TimedOut);
            assert_eq!(wait(&both, soon()), Woken::TimedOut);
            assert!(started.elapsed() >= Duration::from_millis(40));
        }
        // One that has passed already does not sleep at all.
        let past = Some(Instant::now());
        assert_eq!(wait(&both[..1], past), Woken::TimedOut);
        assert_eq!(wait(&both, past), Woken::TimedOut);
        // The fallback ends in slices until the deadline is nearer than one.
        assert_eq!(wait_in_slices(&both, Some(Instant::now() + Duration::from_secs(600))), Woken::Slice);
        assert_eq!(wait_in_slices(&both, Some(Instant::now() + SLICE / 10)), Woken::TimedOut);
        // They grow while nothing happens, and begin anew behind anything else.
        let far = Some(Instant::now() + Duration::from_secs(600));
        let measured = || {
            let began = Instant::now();
            assert_eq!(wait_in_slices(&both, far), Woken::Slice);
            began.elapsed()
        };
        for doublings in 0..4 {
            assert!(measured() >= SLICE * (1 << doublings));
        }
        b.store(1, Ordering::Relaxed);
        assert_eq!(wait_in_slices(&both, far), Woken::Hint);
    }

    /// Each word of a wait, in each scope, ends it.
    #[test]
    fn any_of_the_words_wakes() {
        for (count, which) in
            [(3, 0), (3, 1), (3, 2), (4, 3), (5, 4), (MOST, 0), (MOST, FEW), (MOST, MOST - 1)]
        {
            let words: Vec<AtomicU32> = (0..count).map(|_| AtomicU32::new(0)).collect();
            let scopes: Vec<Scope> =
                (0..count).map(|at| if at % 3 == 0 { Scope::Shared } else { Scope::Private }).collect();
            thread::scope(|s| {
                let sleeper = s.spawn(|| {
                    let waits: Vec<_> =
                        words.iter().zip(&scopes).map(|(w, scope)| on(w, 0, *scope)).collect();
                    while words.iter().all(|w| w.load(Ordering::Acquire) == 0) {
                        wait(&waits, None);
                    }
                });
                words[which].store(1, Ordering::Release);
                wake(&words[which], scopes[which], 1);
                sleeper.join().unwrap();
            });
        }
    }
}
