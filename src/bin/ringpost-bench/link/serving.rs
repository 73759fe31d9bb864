//! The process that serves links, and this process's end of one.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ringpost::cli::child::{Helper, die_with_parent};
use ringpost::cli::cpu;
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::out;
use ringpost::{Client, Link, WaitStrategy};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::setup::Setup;

/// The name of the client that serves.
pub const NAME: &str = "ringpost-bench-serving";

const PATIENCE: Duration = Duration::from_secs(30);

/// The arguments of the serving process.
#[derive(Debug, Args)]
pub struct ServingOptions {
    socket: PathBuf,
    wait: WaitStrategy,
}

/// The serving process: answers every call with its request, until it is killed.
pub fn serve(options: &ServingOptions) -> Outcome {
    die_with_parent();
    raise_limit();
    let mut client = Client::builder(&options.socket)
        .wait(options.wait)
        .timeout(PATIENCE)
        .register(NAME)
        .map_err(Failure::failed)?;
    let serving = client
        .listen()
        .map_err(Failure::failed)?
        .serve(|request, response| response.write(request.payload()));
    let _serving = serving.map_err(Failure::failed)?;
    out::line("ready")?;
    loop {
        std::thread::park();
    }
}

/// Raises this process's own limit on descriptors: each open link takes some.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Starts the serving process of `setup`, on the CPU of its server if that is pinned.
pub fn start(setup: &Setup, wait: WaitStrategy) -> Result<Helper, Failure> {
    let _freedom = cpu::SavedAffinity::save();
    if let Some(pins) = setup.pins() {
        // The process inherits it, and so do its threads.
        cpu::pin(pins.server).map_err(Failure::Failed)?;
    }
    let wait = wait.to_string();
    setup.helper(&["link-server".as_ref(), setup.socket().as_os_str(), wait.as_ref()], PATIENCE)
}

/// A link of the measuring client, and the process that serves it.
pub struct Linked {
    pub link: Link,
    process: Helper,
    wait: WaitStrategy,
}

impl Linked {
    /// Starts the serving process and connects to it.
    pub fn open(setup: &mut Setup, wait: WaitStrategy) -> Result<Linked, Failure> {
        let process = start(setup, wait)?;
        let link = setup.client.connect(NAME).map_err(Failure::failed)?;
        Ok(Linked { link, process, wait })
    }

    /// Measures something else while the serving process stands still, if it would spin: it shares the
    /// server's CPU.
    pub fn aside<T>(&mut self, measure: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        if self.wait != WaitStrategy::Spin {
            return measure();
        }
        self.process.pause()?;
        let measured = measure();
        self.process.resume();
        measured
    }
}
