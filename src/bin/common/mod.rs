//! Code that the programs and the chaos harness share: options, exit status, output, signals, CPUs, child
//! processes, man pages, shell completions and measurements.
//!
//! It is part of the library, behind the feature `cli`, so that it is compiled only once. It is hidden
//! because it is not part of the library's interface.

#![allow(
    missing_debug_implementations,
    clippy::new_without_default,
    reason = "these types are for the programs only"
)]

pub mod accounts;
pub mod args;
pub mod calls;
pub mod child;
pub mod completions;
pub mod cpu;
pub mod exit;
pub mod floor;
pub mod floor_copy;
pub mod floor_epoll;
pub mod floor_futex;
pub mod floor_socket;
pub mod generate;
pub mod inherited;
pub mod lacks;
pub mod level;
pub mod manual;
pub mod out;
pub mod place;
pub mod signals;
pub mod stats;
pub mod table;
pub mod tap;
pub mod usage;
