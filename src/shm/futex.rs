//! Sleeping on a word until another thread or process changes it.
//!
//! A return from [`wait`] is a *hint*: the word was woken, or had already changed, or the kernel had its own
//! reasons, or a peer that may write the word (or requeue its sleepers) plays tricks. The caller looks again
//! at what it waits for, and counts hints that lead nowhere.
//!
//! **Why no wake is lost.** The kernel compares the word with `expected` under the lock of its queue, and a
//! waker takes the same lock. So if the waker changes the word *before* it wakes, then either the sleeper's
//! compare sees the change, and it does not sleep, or the sleeper is already in the queue, and the wake finds
//! it.
//!
//! **Scope.** A word in memory mapped by two processes must be waited for and woken as *shared*; the private
//! kind is keyed by address space and would never meet. Private is for words that one process alone maps.
//!
//! **Several words.** Where the first word can be written by a peer that is not trusted, a second one in
//! private memory guarantees that closing is noticed: `futex_waitv` (Linux 5.16) sleeps on both. Where that
//! call is unknown, or forbidden by a container's filter with whatever error, the wait is cut into slices on
//! the first word, and the others are looked at in between. Whoever closes a channel also wakes its first
//! words, so an end that nobody disturbs hears of it at once. The slices matter where a peer keeps the
//! sleeper on the first word, or where the close is that of another channel (a sender that
//! waits for somebody's inbox): then it is heard of one slice later. They grow from [`SLICE`] to
//! [`LONGEST_SLICE`] while nothing happens.
//!
//! **Errors.** An error of one of these calls that is not one of its documented outcomes is this process's
//! own affair, and never a hint: hints are counted against the peer.

use std::time::{Duration, Instant};

use crate::sync::AtomicU32;

/// Which processes meet on a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Processes that map the same memory.
    Shared,
    /// Threads of this process.
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
    /// Somebody woke a word or changed it, or so it seems.
    Hint,
    /// A signal was handled.
    Interrupted,
    /// The deadline passed.
    TimedOut,
    /// A slice of the fallback ended; nothing is known.
    Slice,
}

/// Stores into a word that others swap. Relaxed: what it must be ordered with is ordered by fences.
///
/// In the models it is a swap too. loom orders the writes of two threads to one word only as far as they
/// happen before each other, and so would let a thread that sees this store's past still read the value of a
/// swap that this store replaced. Swaps alone it puts into one order, as the language does with all writes to
/// one word.
#[inline(always)]
pub(crate) fn set(word: &AtomicU32, value: u32) {
    #[cfg(not(loom))]
    word.store(value, crate::sync::Ordering::Relaxed);
    #[cfg(loom)]
    word.swap(value, crate::sync::Ordering::Relaxed);
}

/// How long the fallback sleeps before it looks at the other words, at first.
#[cfg_attr(loom, allow(dead_code, reason = "the models have no clock"))]
pub(crate) const SLICE: Duration = Duration::from_millis(10);

/// And after some slices in which nothing happened: the longest that a hostile client can put off the end of
/// its worker. 500 idle clients then cost 1,000 short wakes a second.
#[cfg_attr(loom, allow(dead_code, reason = "the models have no clock"))]
pub(crate) const LONGEST_SLICE: Duration = Duration::from_millis(500);

#[cfg(not(loom))]
pub use real::{futex_wait, futex_wake};
#[cfg(not(loom))]
pub(crate) use real::{wait, wake};

#[cfg(not(loom))]
mod real {
    use super::*;
    use rustix::io::Errno;
    use rustix::thread::futex::{self, Flags, Timespec, WaitFlags, WaitPtr, WaitvFlags};
    use rustix::thread::{ClockId, futex::Wait as WaitvEntry};
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU8, Ordering};

    /// Most words that anybody waits for: an inbox's space and its closing, the waiter's turn, and its own
    /// closing.
    const MOST: usize = 4;

    /// Whether `futex_waitv` can be used: not asked yet, or an answer.
    static WAITV: AtomicU8 = AtomicU8::new(UNKNOWN);
    const UNKNOWN: u8 = 0;
    const WORKS: u8 = 1;
    /// It was refused, and will be refused again.
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

    /// Sleeps while *every* word holds what is expected of it, at most until the deadline. One to four words.
    pub(crate) fn wait(waits: &[Wait<'_>], deadline: Option<Instant>) -> Woken {
        #[cfg(fuzzing)]
        if let Some(woken) = crate::shm::alone::sleep(waits) {
            return woken;
        }
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
                // It does not say why it returned. A waker changes the word first; anything else is a signal.
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
            // Refused: then nobody can be woken either, and all there is left is to look now and then.
            Err(_) => {
                let left =
                    deadline.map_or(SLICE, |deadline| deadline.saturating_duration_since(Instant::now()));
                std::thread::sleep(left.min(SLICE));
                Woken::Slice
            }
        }
    }

    fn wait_several(waits: &[Wait<'_>], deadline: Option<Instant>) -> Woken {
        if waitv_works() {
            match waitv(waits, deadline) {
                Ok(_) | Err(Errno::AGAIN) => return Woken::Hint,
                Err(Errno::TIMEDOUT) => return Woken::TimedOut,
                Err(Errno::INTR) => return Woken::Interrupted,
                // This once.
                Err(Errno::NOMEM) => {}
                Err(_) => WAITV.store(REFUSED, Ordering::Relaxed),
            }
        }
        wait_in_slices(waits, deadline)
    }

    /// Whether the kernel does as it should. A filter may answer with an error that the call has a meaning
    /// for, so at first two calls are made that end at once, each in another way.
    fn waitv_works() -> bool {
        match WAITV.load(Ordering::Relaxed) {
            UNKNOWN => {
                let word = AtomicU32::new(0);
                let on = |expected| Wait { word: &word, expected, scope: Scope::Private };
                let changed = waitv(&[on(1), on(1)], None) == Err(Errno::AGAIN);
                let works = changed
                    && waitv_until(&[on(0), on(0)], Some(Timespec { tv_sec: 0, tv_nsec: 0 }))
                        == Err(Errno::TIMEDOUT);
                WAITV.store(if works { WORKS } else { REFUSED }, Ordering::Relaxed);
                works
            }
            answer => answer == WORKS,
        }
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
        let mut entries = [WaitvEntry::new(); MOST];
        for (entry, wait) in entries.iter_mut().zip(waits) {
            entry.val = wait.expected.into();
            entry.uaddr = WaitPtr::new(wait.word.as_ptr().cast());
            entry.flags = match wait.scope {
                Scope::Shared => WaitFlags::SIZE_U32,
                Scope::Private => WaitFlags::SIZE_U32 | WaitFlags::PRIVATE,
            };
        }
        let used = waits.len().min(MOST);
        futex::waitv(&entries[..used], WaitvFlags::empty(), until.as_ref(), ClockId::Monotonic)
    }

    /// Without `futex_waitv`: a short sleep on the first word; the caller comes back after each slice.
    pub(super) fn wait_in_slices(waits: &[Wait<'_>], deadline: Option<Instant>) -> Woken {
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

    /// Ends the sleep of one waiter, or of `count` (of a private word: of all). The word must have been
    /// changed before.
    pub(crate) fn wake(word: &AtomicU32, scope: Scope, count: u32) {
        #[cfg(fuzzing)]
        if crate::shm::alone::is_alone() {
            return;
        }
        match (scope, count) {
            (Scope::Private, 1) => atomic_wait::wake_one(word),
            (Scope::Private, _) => atomic_wait::wake_all(word),
            // It fails only for an address that is not mapped; this one is borrowed.
            (Scope::Shared, count) => _ = futex::wake(word, Flags::empty(), count),
        }
    }

    /// Sleeps while `word`, in shared memory, holds `expected`, at most until the deadline. May return early:
    /// look again.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::shm::{Segment, futex_wait, futex_wake};
    /// use std::sync::atomic::Ordering;
    ///
    /// let (ours, descriptor) = Segment::create("example", 4096)?;
    /// let theirs = Segment::open(&descriptor)?; // usually in another process
    /// let sleeper = std::thread::spawn(move || {
    ///     while theirs.word32(0).load(Ordering::Acquire) == 0 {
    ///         futex_wait(theirs.word32(0), 0, None);
    ///     }
    /// });
    /// ours.word32(0).store(1, Ordering::Release); // before the wake
    /// futex_wake(ours.word32(0), 1);
    /// sleeper.join().unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn futex_wait(word: &AtomicU32, expected: u32, deadline: Option<Instant>) {
        wait(&[Wait { word, expected, scope: Scope::Shared }], deadline);
    }

    /// Ends the sleep of up to `count` [`futex_wait`]s on `word`, which must have been changed before. Does
    /// not block.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::shm::{Segment, futex_wake};
    ///
    /// let segment = Segment::anonymous(4096)?;
    /// futex_wake(segment.word32(0), 1); // nobody sleeps there
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn futex_wake(word: &AtomicU32, count: u32) {
        wake(word, Scope::Shared, count);
    }
}

#[cfg(loom)]
pub(crate) use model::{wait, wake};

/// The futex of the models: a queue of sleepers under one lock, exactly as in the kernel: compare and enqueue
/// are one step under the lock, a wake marks the sleepers of its own word only. A wake that nobody sends is a
/// sleep that never ends, which loom reports as a deadlock. There are no time-outs here: one would hide a
/// lost wake.
#[cfg(loom)]
mod model {
    use super::*;
    use crate::sync::{Arc, Ordering};
    use loom::sync::{Condvar, Mutex};

    #[derive(Default)]
    struct Sleeper {
        words: Vec<usize>,
        ticket: usize,
    }

    struct Queue {
        sleepers: Mutex<(usize, Vec<Sleeper>)>,
        changed: Condvar,
    }

    loom::lazy_static! {
        static ref QUEUE: Arc<Queue> = Arc::new(Queue { sleepers: Mutex::new((0, Vec::new())), changed: Condvar::new() });
    }

    fn address(word: &AtomicU32) -> usize {
        std::ptr::from_ref(word).addr()
    }

    pub(crate) fn wait(waits: &[Wait<'_>], _deadline: Option<Instant>) -> Woken {
        let changed = || waits.iter().any(|w| w.word.load(Ordering::Relaxed) != w.expected);
        // Whoever sees the change without the lock gets no order from the lock either.
        if changed() {
            return Woken::Hint;
        }
        let mut queue = QUEUE.sleepers.lock().unwrap();
        if changed() {
            return Woken::Hint;
        }
        queue.0 += 1;
        let ticket = queue.0;
        queue.1.push(Sleeper { words: waits.iter().map(|w| address(w.word)).collect(), ticket });
        while queue.1.iter().any(|s| s.ticket == ticket) {
            queue = QUEUE.changed.wait(queue).unwrap();
        }
        Woken::Hint
    }

    pub(crate) fn wake(word: &AtomicU32, _scope: Scope, count: u32) {
        let mut queue = QUEUE.sleepers.lock().unwrap();
        let mut left = count;
        queue.1.retain(|s| {
            let woken = left > 0 && s.words.contains(&address(word));
            left -= u32::from(woken);
            !woken
        });
        QUEUE.changed.notify_all();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::real::wait_in_slices;
    use super::*;
    use crate::shm::Segment;
    use std::sync::atomic::Ordering;
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
        assert_eq!(wait_in_slices(&both, Some(Instant::now() + Duration::from_secs(1))), Woken::Slice);
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

    /// Between two mappings, and with the word unchanged: only the wake can end that sleep.
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

    /// Each word of a wait, in each scope, ends it.
    #[test]
    fn any_of_the_words_wakes() {
        for which in 0..3 {
            let words: [AtomicU32; 3] = Default::default();
            let scopes = [Scope::Shared, Scope::Private, Scope::Private];
            thread::scope(|s| {
                let sleeper = s.spawn(|| {
                    let waits: Vec<_> = words.iter().zip(scopes).map(|(w, scope)| on(w, 0, scope)).collect();
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
