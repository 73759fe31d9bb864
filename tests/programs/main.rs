//! The programs as people and scripts use them: their contract, the seed scenario by separate programs, the
//! client on a terminal, the server's log, and what is generated from their definitions.

#![cfg(feature = "cli")]

#[path = "../common/mod.rs"]
mod common;
mod program;
mod screen;
mod tty;

mod commands;
mod contract;
mod generate;
mod log;
mod signals;
mod terminal;
