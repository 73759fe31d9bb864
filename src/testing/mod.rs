//! For this repository's tests alone: failpoints, and doors for fuzz targets and instruction counts.

#[cfg_attr(ringpost_failpoints, doc(hidden))]
#[cfg(ringpost_failpoints)]
pub mod failpoints;
#[cfg(not(ringpost_failpoints))]
pub(crate) mod failpoints;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
#[cfg(all(feature = "internals", not(loom)))]
#[doc(hidden)]
pub mod internals;
#[cfg(all(test, not(loom)))]
mod protocol_doc;
