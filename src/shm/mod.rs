#![allow(unsafe_code)]

//! Shared memory: sealed segments, the copy in and out of them, and the futex.
//!
//! This is the bottom of the library. A [`Segment`] is a mapping that another process may map too and write
//! at any time; nothing here ever makes a reference to plain bytes in it. Words are touched through atomics,
//! payload through the `copy` module, and sleeping goes through the `futex` module.

#![cfg_attr(loom, allow(dead_code, reason = "the layers above are not built for the models"))]

#[cfg(fuzzing)]
pub(crate) mod alone;
pub(crate) mod futex;

#[cfg(not(loom))]
mod copy;
#[cfg(not(loom))]
mod segment;
#[cfg(not(loom))]
mod view;

#[cfg(loom)]
#[path = "view_model.rs"]
mod view;

#[cfg(not(loom))]
pub(crate) use crate::os::fork_safe::{ForkSafeWord, PerProcess};
#[cfg(not(loom))]
pub use futex::{futex_wait, futex_wake};
#[cfg(not(loom))]
pub use segment::{Segment, SegmentError};
#[cfg(loom)]
pub(crate) use view::ForkSafeWord;
pub(crate) use view::{RingView, View, Word32};

pub(crate) use crate::os::{FOREIGN, LINE};

/// Bytes of a ring's control block: three words, each alone in 128 bytes, because processors fetch lines in
/// pairs.
pub(crate) const CONTROL: usize = 384;
