//! How long to look before sleeping.
//!
//! A wait has three steps: about a microsecond of looks with `pause` (a round trip takes 0.1 µs if the other
//! side is running), rounds of looks with a `sched_yield` after each (2.6 µs if the other side needs this
//! CPU), and sleep on a futex (4.3 µs on one CPU, 55 µs across two). A spin that is longer than a sleep and
//! its wake is waste; within that bound, each end of a ring learns how long to spin (`adaptive.rs`).
//!
//! When as many threads spin as there are CPUs that this process may use, the others sleep at once
//! (`spin.rs`). And two ends that find each other only by yields share one CPU, so now and then one of them
//! sleeps, and its wake can move it to an idle one (`waiting.rs`).

mod adaptive;
mod deadline;
mod spin;
mod strategy;
mod waiting;

pub use deadline::Deadline;
pub(crate) use spin::Yields;
pub use strategy::WaitStrategy;
pub(crate) use waiting::{Looked, Waiting};
