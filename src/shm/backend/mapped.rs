//! The backend that ships: mapped memory, the standard library's atomics, the kernel's futex and clock.

use std::time::Instant;

pub(crate) use std::hint::spin_loop as spin_hint;
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
pub(crate) use std::sync::{Arc, Mutex, MutexGuard};

pub(crate) use crate::os::fork_safe::ForkSafeWord;
pub(crate) use crate::os::futex::{Wait, wait, wake};
pub(crate) use crate::os::pipe::{PipeReader, PipeWriter};
pub(crate) use crate::os::random::fill as fill_random;
pub(crate) use crate::shm::copy::{copy_in, copy_out};
pub(crate) use crate::shm::view::{RingView, View, Word32};

/// Whether a wait looks repeatedly before it sleeps.
pub(crate) const SPINS: bool = true;

/// The time, for every deadline of a wait on a ring.
#[inline(always)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time as all processes of this computer read it, in nanoseconds of `CLOCK_MONOTONIC`.
pub(crate) fn nanoseconds() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// The deadline that a wait on a ring keeps, given the one that its caller asked for.
#[inline(always)]
pub(crate) fn effective_deadline(deadline: Option<Instant>) -> Option<Instant> {
    deadline
}

/// Stores into a word that others swap. Relaxed: what it must be ordered with is ordered by fences.
#[inline(always)]
pub(crate) fn set(word: &AtomicU32, value: u32) {
    word.store(value, Ordering::Relaxed);
}

/// Is told of every header and control word that a ring accesses.
#[inline(always)]
pub(crate) fn count_word() {}

/// Is told of every copy that a ring makes.
#[inline(always)]
pub(crate) fn count_bytes(_len: usize) {}
