//! For this repository's tests alone: failpoints, and doors for fuzz targets and instruction counts.

pub(crate) mod failpoints;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
#[cfg(test)]
mod protocol_doc;

// Tests and measurements make and map memory of their own, as a peer that breaks the rules would.
pub use crate::shm::{Segment, futex_wait, futex_wake};
