//! `ringpost log-level` and `ringpost reload`: give the server an operator's command, and print its answer.

use std::path::Path;
use std::time::Duration;

use ringpost::Observer;

use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::out;

/// The server gives a command ten seconds.
const PATIENCE: Duration = Duration::from_secs(10);

pub fn run(socket: &Path, command: &str) -> Outcome {
    let observer = Observer::connect_timeout(socket, PATIENCE).map_err(Failure::failed)?;
    let answer = observer.control(command).map_err(Failure::failed)?;
    answer.lines().try_for_each(|line| out::line(&out::readable(line.as_bytes())))
}
