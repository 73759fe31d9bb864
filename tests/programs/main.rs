//! Tests of the programs as people and scripts use them: commands, terminal, log, signals and generated
//! files.

#![cfg(feature = "cli")]

#[path = "../common/mod.rs"]
mod common;
mod program;
mod screen;
mod tty;

mod commands;
mod completions;
mod config;
mod contract;
mod doctor;
mod generate;
mod log;
mod metrics;
mod on_terminal;
mod operate;
mod packaging;
mod person;
mod serve;
mod signals;
mod status;
mod supervise;
mod tap;
mod terminal;
mod top;
mod topics;
mod waiting;
