//! `ringpost-bench`: what the bus costs on this computer, beside what the computer itself costs.

#![forbid(unsafe_code)]

#[path = "../common/mod.rs"]
mod common;

mod cli;
mod latency;
mod rig;

use std::process::ExitCode;

use cli::{Cli, Command};
use common::exit::{self, Outcome};

fn main() -> ExitCode {
    exit::run("ringpost-bench", dispatch)
}

fn dispatch(options: Cli) -> Outcome {
    match options.command {
        Command::Latency(latency) => latency::run(options.socket, &latency),
        Command::Generate(generate) => generate.run::<Cli>(),
        Command::FloorPartner { cpu } => common::floor::partner(cpu),
    }
}
