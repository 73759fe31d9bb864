//! For the fuzz targets: the other side of everything is the target itself, on the same thread.
//!
//! Nobody could end a sleep there. So none is slept, nobody is woken, and no input costs a call of the
//! system. In the kernel's place the target says how sleeps end: with how many hints, and with what it wrote
//! meanwhile. What the end under attack does with shared memory is counted, so that a target can say how much
//! work a byte of its input may cause.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use super::futex::{Wait, Woken};
use crate::sync::Ordering;

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
    static HINTS: Cell<u32> = const { Cell::new(0) };
    static WORK: Cell<Work> = const { Cell::new(Work { words: 0, bytes: 0, sleeps: 0 }) };
    static MEANWHILE: RefCell<Vec<Box<dyn FnOnce()>>> = const { RefCell::new(Vec::new()) };
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
    /// What was done since then.
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

fn count(add: impl FnOnce(&mut Work)) {
    let mut work = WORK.get();
    add(&mut work);
    WORK.set(work);
}

#[inline(always)]
pub(crate) fn count_word() {
    count(|work| work.words += 1);
}

#[inline(always)]
pub(crate) fn count_bytes(len: usize) {
    count(|work| work.bytes += len as u64);
}

/// From now on the other side is on this thread. Nothing is left of an earlier input.
pub(crate) fn begin() {
    ALONE.set(true);
    HINTS.set(0);
    drop(MEANWHILE.take());
}

#[inline(always)]
pub(crate) fn is_alone() -> bool {
    ALONE.get()
}

/// The deadline of a wait: one without ends at once.
pub(crate) fn patience(deadline: Option<Instant>) -> Option<Instant> {
    if is_alone() { deadline.or_else(|| Some(Instant::now())) } else { deadline }
}

/// So many of the next sleeps end with a hint.
pub fn give_hints(count: u32) {
    HINTS.set(count);
}

/// What the other side does during the next sleep.
pub(crate) fn meanwhile(act: Box<dyn FnOnce()>) {
    MEANWHILE.with_borrow_mut(|acts| acts.push(act));
}

/// How a sleep ends, if it is to end by itself.
pub(crate) fn sleep(waits: &[Wait<'_>]) -> Option<Woken> {
    if !is_alone() {
        return None;
    }
    count(|work| work.sleeps += 1);
    let changed = || waits.iter().any(|wait| wait.word.load(Ordering::Relaxed) != wait.expected);
    if changed() {
        return Some(Woken::Hint);
    }
    MEANWHILE.take().into_iter().for_each(|act| act());
    let hints = HINTS.get();
    HINTS.set(hints.saturating_sub(1));
    Some(if hints > 0 || changed() { Woken::Hint } else { Woken::TimedOut })
}
