//! `ringpost-server`: owns the registry and the connect channel, forwards messages and serves echo.

#![forbid(unsafe_code)]

#[path = "../common/mod.rs"]
mod common;

mod accounts;
mod cli;
mod log;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use ringpost::{Server, StartError};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use cli::Cli;
use common::child;
use common::exit::{self, Failure, Outcome};
use common::signals::Interrupt;

fn main() -> ExitCode {
    exit::run("ringpost-server", serve)
}

fn serve(options: Cli) -> Outcome {
    if options.with_parent {
        child::die_with_parent();
    }
    // Our memory holds every client's channel: no process of the same user looks into it or traces us.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| {
        Failure::failed(format!("cannot shut other processes out of this one's memory: {error}"))
    })?;
    options.check()?;
    let path = options.socket.path()?;
    let interrupt = Interrupt::install()?;
    let log = log::start(options.verbose)?;

    // The log waits for this lock, so that its lines come after ours.
    let mut stderr = io::stderr().lock();
    let mut builder = Server::builder(&path);
    if let Some(clients) = options.max_clients {
        builder = builder.max_clients(clients);
    }
    if let Some(bytes) = options.ring_size {
        builder = builder.ring_size(bytes);
    }
    if let Some(bytes) = options.max_block {
        builder = builder.max_block(bytes);
    }
    if let Some(cpu) = options.pin {
        builder = builder.pin(cpu);
    }
    for user in &options.allow_user {
        builder = builder.allow_user(*user);
    }
    for group in &options.allow_group {
        builder = builder.allow_group(*group);
    }
    let server = match builder.wait(options.wait).start() {
        Ok(server) => server,
        Err(error) => {
            drop(stderr);
            log.finish();
            return Err(match error {
                StartError::MaxClients(_) | StartError::Geometry(_) | StartError::Pin { .. } => {
                    Failure::usage(error)
                }
                _ => Failure::failed(error),
            });
        }
    };
    let _ = stderr
        .write_all(format!("listening on {}\n", exit::one_line(&path.display().to_string())).as_bytes());
    drop(stderr);

    let stopper = server.stopper();
    interrupt.then(move || stopper.shutdown());
    let summary = server.join();
    tracing::info!(
        target: "ringpost",
        event = "stopped",
        signal = interrupt.caught(),
        clients = summary.registered,
        calls = summary.calls,
        messages = summary.messages,
        bytes_in = summary.bytes_in,
        bytes_out = summary.bytes_out,
        refused = summary.refused,
        violations = summary.violations,
        abandoned = summary.abandoned,
        seconds = seconds(summary.uptime),
        "stopped"
    );
    log.finish();
    Ok(())
}

/// A time to a thousandth of a second.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}
