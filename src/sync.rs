//! The one place that chooses between the standard library's atomics and loom's.
//!
//! Everything that takes part in a protocol between threads or processes takes its atomics from here, so that
//! the code which ships is the code which loom explores (`RUSTFLAGS="--cfg loom"`).

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering, fence},
};

#[cfg(loom)]
pub(crate) use loom::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering, fence},
};

/// Tells the processor that this is a spin loop; under loom it gives the other threads their turn.
#[inline(always)]
pub(crate) fn spin_hint() {
    #[cfg(not(loom))]
    std::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}
