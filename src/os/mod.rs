//! What the operating system offers without a safe wrapper, and how the library stays a good guest of its
//! process.

#[cfg(not(loom))]
pub(crate) mod descriptors;
#[cfg(not(loom))]
pub(crate) mod fork_safe;
pub(crate) mod processors;
pub(crate) mod remedy;
#[cfg(not(loom))]
pub(crate) mod sys;
#[cfg(not(loom))]
pub(crate) mod threads;

/// What a word of one process reads in the children that it forks: see [`fork_safe`].
pub(crate) const FOREIGN: u32 = 0;

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;
