#![allow(unsafe_code)]

//! Shared memory: sealed segments, the copy in and out of them, and sleeping on their words.
//!
//! A [`Segment`] is a mapping that another process may map too and write at any time, so nothing here ever
//! makes a reference to plain bytes in it. Words are accessed as atomics and payload by `copy`. Everything
//! that the loom models and the fuzz targets replace (atomics, sleeping, clock, random numbers, views) comes
//! from `backend`.

pub(crate) mod backend;
mod copy;
pub(crate) mod futex;
mod segment;
mod view;

#[cfg(feature = "cli")]
pub use futex::futex_wait_on_two;
#[cfg(any(feature = "cli", feature = "internals", fuzzing))]
pub use futex::{futex_wait, futex_wake};
pub use segment::{Segment, SegmentError};

pub(crate) use crate::os::fork_safe::{FOREIGN, PerProcess};
pub(crate) use backend::{ForkSafeWord, RingView, View, Word32};

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;

/// Bytes of a ring's control block: three words, each alone in 128 bytes, because processors fetch lines in
/// pairs.
pub(crate) const CONTROL: usize = 384;
