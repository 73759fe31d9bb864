//! The backend of the fuzz targets: the peer is the target itself, on the same thread.
//!
//! Nobody could end a sleep there, so none is slept, nobody is woken, and no input costs a system call for
//! it. Instead the target says how sleeps end: with how many hints, and with what it wrote meanwhile. A sleep
//! that nothing ends takes a thousand years of a clock of its own. What a ring does with shared memory is
//! counted, so that a target can check how much work a byte of its input may cause.

use std::cell::{Cell, RefCell};
use std::io;
use std::time::{Duration, Instant};

pub(crate) use super::mapped::*;
use crate::os::futex::{Scope, Woken};

/// How much the clock advances in a sleep that nothing ends: a thousand years, because a peer can ask for
/// time limits of up to 2^64 nanoseconds, which are 584 years.
const SLEEP: Duration = Duration::from_secs(1000 * 366 * 24 * 3600);

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
    static HINTS: Cell<u32> = const { Cell::new(0) };
    static WORK: Cell<Work> = const { Cell::new(Work { words: 0, bytes: 0, sleeps: 0 }) };
    static MEANWHILE: RefCell<Vec<Box<dyn FnOnce()>>> = const { RefCell::new(Vec::new()) };
    static BEFORE: RefCell<Option<(u32, Box<dyn FnOnce()>)>> = const { RefCell::new(None) };
    static SLEPT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// What rings did with shared memory on this thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Headers and control words read or written.
    pub words: u64,
    /// Bytes copied in or out.
    pub bytes: u64,
    /// Sleeps begun.
    pub sleeps: u64,
}

impl Work {
    /// What was done since `before`.
    pub fn since(self, before: Work) -> Work {
        Work {
            words: self.words - before.words,
            bytes: self.bytes - before.bytes,
            sleeps: self.sleeps - before.sleeps,
        }
    }
}

/// What was done so far.
pub fn work() -> Work {
    WORK.get()
}

/// Lets the next `count` sleeps end with a hint.
pub fn give_hints(count: u32) {
    HINTS.set(count);
}

/// From now on the peer is on this thread. Nothing is left of an earlier input.
pub(crate) fn begin() {
    ALONE.set(true);
    HINTS.set(0);
    SLEPT.set(Duration::ZERO);
    drop(MEANWHILE.take());
    drop(BEFORE.take());
}

/// What the peer does during the next sleep.
pub(crate) fn meanwhile(act: Box<dyn FnOnce()>) {
    MEANWHILE.with_borrow_mut(|acts| acts.push(act));
}

/// What the peer does before the `count`-th access to a word or to bytes from now on, in the middle of an
/// operation.
pub(crate) fn before_access(count: u32, act: Box<dyn FnOnce()>) {
    BEFORE.set(Some((count, act)));
}

/// One more access begins.
fn begin_access() {
    // What a target keeps for its whole thread ends after these words do.
    let due = BEFORE.try_with(|before| match &mut *before.borrow_mut() {
        Some((left @ 1.., _)) => {
            *left -= 1;
            None
        }
        before => before.take(),
    });
    if let Ok(Some((_, act))) = due {
        act();
    }
}

/// Makes every byte of a segment 0 that nothing else uses any more.
///
/// # Panics
///
/// If an end of a ring still uses it.
pub(crate) fn wipe(view: &mut View) {
    let segment = Arc::get_mut(&mut view.0).expect("an end lives on and holds the memory");
    // SAFETY: the whole mapping, which is writable. It is anonymous memory of this process, and borrowed
    // exclusively, so nothing else accesses it meanwhile.
    unsafe { segment.as_ptr().write_bytes(0, segment.len()) }
}

/// The time, for every deadline of a wait on a ring.
pub(crate) fn now() -> Instant {
    Instant::now() + SLEPT.get()
}

/// A wait without a deadline ends after its first sleep.
pub(crate) fn effective_deadline(deadline: Option<Instant>) -> Option<Instant> {
    if ALONE.get() { deadline.or_else(|| Some(now())) } else { deadline }
}

/// Ends a sleep as the target said, with a hint if it changed a word meanwhile.
pub(crate) fn wait(waits: &[Wait<'_>], deadline: Option<Instant>) -> Woken {
    if !ALONE.get() {
        return crate::os::futex::wait(waits, deadline);
    }
    count(|work| work.sleeps += 1);
    let changed = || waits.iter().any(|wait| wait.word.load(Ordering::Relaxed) != wait.expected);
    if changed() {
        return Woken::Hint;
    }
    MEANWHILE.take().into_iter().for_each(|act| act());
    let hints = HINTS.get();
    HINTS.set(hints.saturating_sub(1));
    if hints > 0 || changed() {
        return Woken::Hint;
    }
    SLEPT.set(SLEPT.get() + SLEEP);
    Woken::TimedOut
}

/// Nobody sleeps while the target runs.
pub(crate) fn wake(word: &AtomicU32, scope: Scope, count: u32) {
    if !ALONE.get() {
        crate::os::futex::wake(word, scope, count);
    }
}

/// Leaves the bytes as they are, so that each run of an input is the same.
pub(crate) fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    if ALONE.get() { Ok(()) } else { crate::os::random::fill(bytes) }
}

pub(crate) fn count_word() {
    begin_access();
    count(|work| work.words += 1);
}

pub(crate) fn count_bytes(len: usize) {
    begin_access();
    count(|work| work.bytes += len as u64);
}

fn count(add: impl FnOnce(&mut Work)) {
    let mut work = WORK.get();
    add(&mut work);
    WORK.set(work);
}

/// A plain copy: the sanitizer sees it, and it is quick although every branch is traced.
///
/// # Safety
///
/// As for `shm::copy::copy_in`, and no other thread may access the shared bytes meanwhile.
pub(crate) unsafe fn copy_in(shared: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the ranges are valid by the caller's promise. Nobody else accesses the shared one meanwhile:
    // the peer is a fuzz target on this thread, or has not been told of the ring yet.
    unsafe { shared.copy_from_nonoverlapping(from, len) }
}

/// See [`copy_in`].
///
/// # Safety
///
/// As for `shm::copy::copy_out`, and no other thread may write the shared bytes meanwhile.
pub(crate) unsafe fn copy_out(to: *mut u8, shared: *const u8, len: usize) {
    // SAFETY: as in `copy_in`, with the roles changed.
    unsafe { to.copy_from_nonoverlapping(shared, len) }
}
