//! What the three programs share: options, exit status, output, signals, processors, the server as a
//! child process, man pages and shell completions, and measurements.

#![forbid(unsafe_code)]
#![allow(dead_code, reason = "each of the programs uses its own part of this module")]

pub mod args;
pub mod child;
pub mod cpu;
pub mod exit;
pub mod floor;
pub mod floor_copy;
pub mod floor_futex;
pub mod floor_socket;
pub mod generate;
pub mod out;
pub mod place;
pub mod signals;
pub mod stats;
pub mod usage;
