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
use ringpost::{Client, Link, LinkOptions, WaitStrategy};
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

/// A server beside that of the setup, in a process of its own on the same CPU.
///
/// In the setup's server a second worker that spins would take that CPU from the measured one.
pub struct Another {
    process: ServerChild,
    pub socket: PathBuf,
    directory: TempDir,
}

impl Another {
    /// Starts it, with rings for calls of `size` bytes.
    pub fn start(setup: &Setup, wait: WaitStrategy, size: usize) -> Result<Another, Failure> {
        Another::with(setup, wait, size, |_| Vec::new())
    }

    /// The same, with more options; they may name files in its directory.
    pub fn with(
        setup: &Setup,
        wait: WaitStrategy,
        size: usize,
        more: impl FnOnce(&Path) -> Vec<OsString>,
    ) -> Result<Another, Failure> {
        let directory = TempDir::new("link")?;
        let socket = directory.path().join("bus.sock");
        let (wait, ring) = (wait.to_string(), ring_size(size)?.to_string());
        let mut options: Vec<OsString> = ["--wait", &wait, "--ring-size", &ring].map(OsString::from).into();
        options.extend(more(directory.path()));
        let program = sibling("ringpost-server")?;
        let start = || ServerChild::start(&program, &socket, &options, &setup.interrupt, |_| {});
        let process = on_cpu_of_server(setup, start)?;
        Ok(Another { process, socket, directory })
    }

    /// Where its socket is.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Ends it, and returns its directory, which is removed when that is dropped.
    pub fn stop(self) -> Result<TempDir, Failure> {
        self.process.stop()?;
        Ok(self.directory)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Measures something else while this server, which spins, stands still.
    pub fn aside<T>(&mut self, measure: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        self.process.pause()?;
        let measured = measure();
        self.process.resume();
        measured
    }
}

/// Starts a process on the CPU of the setup's server: it inherits this thread's, and so do its threads.
pub fn on_cpu_of_server<T>(setup: &Setup, start: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let _freedom = cpu::SavedAffinity::save();
    if let Some(pins) = setup.pins() {
        cpu::pin(pins.server).map_err(Failure::Failed)?;
    }
    start()
}

/// A link of this process, and the processes that belong to it: who serves it, and a server of their own,
/// which sleeps.
pub struct Linked {
    pub link: Link,
    _client: Client,
    pub process: Helper,
    _server: Another,
    wait: WaitStrategy,
}

impl Linked {
    /// Starts the processes, and opens a link for calls of `size` bytes. The serving process shares the CPU
    /// of the setup's server.
    pub fn open(setup: &mut Setup, wait: WaitStrategy, size: usize) -> Result<Linked, Failure> {
        Linked::with(setup, wait, size, &Link::options(), |socket| start(setup, socket, wait))
    }

    /// The same with a link of other `options`, and another process that serves.
    pub fn with(
        setup: &Setup,
        wait: WaitStrategy,
        size: usize,
        options: &LinkOptions,
        serving: impl FnOnce(&Path) -> Result<Helper, Failure>,
    ) -> Result<Linked, Failure> {
        let server = Another::start(setup, WaitStrategy::Park, size)?;
        let process = on_cpu_of_server(setup, || serving(&server.socket))?;
        let client = Client::builder(&server.socket).wait(wait).register("ringpost-bench");
        let mut client = client.map_err(Failure::failed)?;
        let link = options.connect(client.caller(), NAME).map_err(Failure::failed)?;
        let closer = link.closer();
        setup.end_waits_on_signals(move || closer.close());
        Ok(Linked { link, _client: client, process, _server: server, wait })
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
