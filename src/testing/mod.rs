//! Support for this repository's tests: failpoints, and access to internals for fuzz targets and instruction
//! counts.

pub(crate) mod failpoints;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
#[cfg(test)]
mod protocol_doc;

// The bench program, tests and measurements make and map their own memory, like a peer that breaks the rules.
#[cfg(feature = "cli")]
pub use crate::shm::futex_wait_on_two;
#[cfg(any(feature = "cli", feature = "internals", fuzzing))]
pub use crate::shm::{Segment, futex_wait, futex_wake};
