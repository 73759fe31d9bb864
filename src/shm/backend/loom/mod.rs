//! The backend of the models: atomics, memory and sleeping that loom explores.

mod futex;
mod pipe;
mod view;

use std::io;

pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64};
pub(crate) use loom::sync::{Arc, Mutex, MutexGuard};
pub(crate) use loom::thread::yield_now as spin_hint;

pub(crate) use super::mapped::*;
pub(crate) use futex::{Wait, wait, wake};
#[cfg(test)]
pub(crate) use pipe::pipe;
pub(crate) use pipe::{PipeReader, PipeWriter};
pub(crate) use view::{RingView, View, Word32};

/// The models have no clock: a wait that looked until its deadline would never sleep.
pub(crate) const SPINS: bool = false;

/// A fence that also accesses a word common to all threads. loom tries another order of two threads only
/// where both access something, so with its own fence alone it would leave out orders that differ only in
/// which fence comes first.
pub(crate) fn fence(order: Ordering) {
    loom::lazy_static! {
        static ref COMMON: AtomicU32 = AtomicU32::new(0);
    }
    COMMON.fetch_or(0, Ordering::Relaxed);
    loom::sync::atomic::fence(order);
}

/// A swap instead of a store. loom orders stores of two threads to one word only as far as they happen before
/// each other, so after this store another thread could still read the value of a swap that it replaced. The
/// language puts all writes to one word into one order; loom does so for swaps alone.
pub(crate) fn set(word: &AtomicU32, value: u32) {
    word.swap(value, Ordering::Relaxed);
}

/// An ordinary word: no model forks.
#[derive(Clone)]
pub(crate) struct ForkSafeWord(Arc<AtomicU32>);

impl ForkSafeWord {
    pub(crate) fn inherited(value: u32) -> ForkSafeWord {
        ForkSafeWord(Arc::new(AtomicU32::new(value)))
    }

    pub(crate) fn not_inherited(value: u32) -> io::Result<ForkSafeWord> {
        Ok(ForkSafeWord::inherited(value))
    }

    pub(crate) fn is_foreign(&self) -> bool {
        false
    }
}

impl std::ops::Deref for ForkSafeWord {
    type Target = AtomicU32;

    fn deref(&self) -> &AtomicU32 {
        &self.0
    }
}
