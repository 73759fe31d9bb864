//! The server process of a round.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ringpost::{Server, WaitStrategy};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::content::{Turner, quiet_panics};
use ringpost::cli::child::die_with_parent;
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::signals::Interrupt;

/// What the process is told.
#[derive(Debug, Args)]
pub struct ServerOptions {
    socket: PathBuf,
    ring_size: usize,
    wait: WaitStrategy,
    /// Milliseconds.
    grace: u64,
    /// The limit of open files; 0 leaves it.
    descriptors: u64,
}

/// No trace of a process that is meant to die.
pub fn no_core() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// Serves until SIGTERM, or until it is killed.
pub fn serve(options: &ServerOptions) -> Outcome {
    die_with_parent();
    no_core();
    quiet_panics();
    if options.descriptors > 0 {
        let limit = Some(options.descriptors);
        setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).map_err(Failure::failed)?;
    }
    let interrupt = Interrupt::install()?;
    let server = Server::builder(&options.socket)
        .ring_size(options.ring_size)
        .wait(options.wait)
        .grace(Duration::from_millis(options.grace))
        .max_clients(64)
        .service_with(Turner::default())
        .start()
        .map_err(Failure::failed)?;
    let stopper = server.stopper();
    interrupt.then(move || stopper.shutdown());
    server.join();
    Ok(())
}
