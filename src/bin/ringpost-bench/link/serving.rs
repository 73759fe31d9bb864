//! The process that serves links, and this process's end of one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use ringpost::cli::child::{Helper, ServerChild, die_with_parent};
use ringpost::cli::cpu;
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::out;
use ringpost::cli::place::{TempDir, sibling};
use ringpost::{Client, Link, WaitStrategy};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::setup::{Setup, ring_size};

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

/// Starts the serving process of the server on `socket`.
pub fn start(setup: &Setup, socket: &Path, wait: WaitStrategy) -> Result<Helper, Failure> {
    let wait = wait.to_string();
    setup.helper(&["link-server".as_ref(), socket.as_os_str(), wait.as_ref()], PATIENCE)
}

/// A link of this process, and the processes that belong to it.
///
/// They have a server of their own, which sleeps: in the server of the setup a second worker, that of the
/// serving client, would spin beside the measured one.
pub struct Linked {
    pub link: Link,
    _client: Client,
    process: Helper,
    _server: ServerChild,
    _directory: TempDir,
    wait: WaitStrategy,
}

impl Linked {
    /// Starts the processes, and opens a link for calls of `size` bytes. The serving process shares the CPU
    /// of the setup's server.
    pub fn open(setup: &mut Setup, wait: WaitStrategy, size: usize) -> Result<Linked, Failure> {
        let directory = TempDir::new("link")?;
        let socket = directory.path().join("bus.sock");
        let options = ["--wait", "park", "--ring-size", &ring_size(size)?.to_string()].map(OsString::from);
        let (server, process) = {
            let _freedom = cpu::SavedAffinity::save();
            if let Some(pins) = setup.pins() {
                // The processes inherit it, and so do their threads.
                cpu::pin(pins.server).map_err(Failure::Failed)?;
            }
            let program = sibling("ringpost-server")?;
            let server = ServerChild::start(&program, &socket, &options, &setup.interrupt, |_| {})?;
            let process = start(setup, &socket, wait)?;
            (server, process)
        };
        let mut client =
            Client::builder(&socket).wait(wait).register("ringpost-bench").map_err(Failure::failed)?;
        let link = client.connect(NAME).map_err(Failure::failed)?;
        setup.end_waits_on_signals(Some(link.closer()));
        Ok(Linked { link, _client: client, process, _server: server, _directory: directory, wait })
    }

    /// Measures something else while the serving process stands still, if it would spin: it shares a CPU with
    /// others.
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
