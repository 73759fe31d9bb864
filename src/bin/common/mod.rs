//! What the programs and the chaos harness share: options, exit status, output, signals, processors, child
//! processes, man pages and shell completions, and measurements. Part of the library, behind the feature
//! `cli`, so that it is compiled once for all of them; hidden, because it is no part of the library's
//! interface.

#![allow(
    missing_debug_implementations,
    clippy::new_without_default,
    reason = "these types are for the programs only"
)]

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
pub mod table;
pub mod usage;
