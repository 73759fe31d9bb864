//! The same work over ringpost and over its peers: `peers --help`, and README.md beside this crate for the
//! method.

mod cli;
mod context;
mod failure;
mod machine;
mod measure;
mod output;
mod parts;
mod peers;
mod result;
mod run;
mod work;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let done = match cli.command {
        Some(cli::Command::Role(role)) => return context::play(role),
        None => run::run(&cli.options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("peers: {failure}");
            ExitCode::FAILURE
        }
    }
}
