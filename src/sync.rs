//! The one place that chooses between the standard library's atomics and locks and loom's.
//!
//! Everything that takes part in a protocol between threads or processes takes its atomics from here, so that
//! the code which ships is the code which loom explores (`RUSTFLAGS="--cfg loom"`).

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64, Ordering, fence},
};

#[cfg(loom)]
pub(crate) use loom::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

/// loom's fence, made an access to one common word as well: loom tries another order of two threads only
/// where both access something, so it would leave out orders that differ in which fence comes first.
#[cfg(loom)]
pub(crate) fn fence(order: Ordering) {
    loom::lazy_static! {
        static ref COMMON: AtomicU32 = AtomicU32::new(0);
    }
    COMMON.fetch_or(0, Ordering::Relaxed);
    loom::sync::atomic::fence(order);
}

/// Tells the processor that this is a spin loop; under loom it gives the other threads their turn.
#[inline(always)]
pub(crate) fn spin_hint() {
    #[cfg(not(loom))]
    std::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}
