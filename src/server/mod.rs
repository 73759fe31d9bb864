//! The server: accepts clients, serves each by a thread of its own, forwards their messages.

mod acceptor;
mod admission;
mod answers;
mod builder;
mod enrolment;
mod event_limits;
mod events;
#[cfg(fuzzing)]
pub(crate) mod fuzz;
mod inbox;
#[cfg(any(feature = "internals", fuzzing, test))]
pub(crate) mod internals;
mod life;
mod limits;
pub(crate) mod member;
mod place;
mod processes;
mod quotas;
mod scheduler;
mod service;
mod shared;
mod stop;
mod typed;
mod worker;
mod workers;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use acceptor::{GREETING_TIME, MOST_ASKS, OBSERVING_TIME};
#[cfg(test)]
pub(crate) use admission::MOST_GREETING;
pub use builder::{DEFAULT_MAX_CLIENTS, DEFAULT_RING_SIZE, MOST_CLIENTS, ServerBuilder};
pub use service::{Request, Response, Service, ServiceError};
#[cfg(test)]
pub(crate) use worker::{DRAIN, parse_send};

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::channel::GeometryError;
use crate::connect::{ListenError, ServerInfo};
use crate::os::threads;
use crate::registry::{ClientInfo, RegistryError};
use crate::shm::ForkSafeWord;
use acceptor::Acceptor;
use builder::Settings;
use shared::Shared;
use stop::Stop;
use workers::Part;

/// Why a server did not start. Nothing is left behind.
///
/// # Examples
///
/// ```
/// use ringpost::{ListenError, Server, StartError};
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let _first = Server::builder(&path).start()?;
/// match Server::builder(&path).start() {
///     Err(StartError::Listen(ListenError::InUse(path))) => println!("a server runs at {path:?} already"),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Too many clients, or none.
    #[error("{0} clients cannot be: use 1 to {MOST_CLIENTS}")]
    MaxClients(u32),
    /// The rings cannot have these sizes.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The number that stands for no user and no group was to be let in.
    #[error("{0} is no user and no group: use a number from 0 to 4294967294")]
    NobodyAllowed(u32),
    /// The number that stands for all users, or all groups, that the server's user namespace does not know
    /// was to be let in.
    #[error(
        "{0} cannot be let in: it is the number of every user or group that has none in this user namespace, so whoever \
         has it may be anyone; use a user or group with a number of its own"
    )]
    UnknownAllowed(u32),
    /// The CPU to pin to is not one of this machine, or not one that this process may use.
    #[error(
        "cannot pin to CPU {cpu}: {source}; use a CPU that this process may run on (`taskset -p $$` tells)"
    )]
    Pin {
        /// The CPU asked for.
        cpu: usize,
        /// The system's answer.
        source: io::Error,
    },
    /// The socket cannot be made at its path.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The registry cannot be made.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A system call failed.
    #[error("cannot {action}: {source}{}", limits::on_start(action, source))]
    System {
        /// What was being done.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// A running server. Dropping it shuts it down and waits until it is gone, as
/// [`join_after_shutdown`](Self::join_after_shutdown) does.
///
/// In a child of the process, made by `fork`, there is no server: shutting it down, joining or dropping it
/// does nothing there, and its parent's serves on. Such a child holds copies of the server's descriptors
/// until it ends or executes another program: as long as it lives longer than its parent, no other server can
/// be started at the same path.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, Request, Response, Server};
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let server = Server::builder(&path)
///     .service(|request: Request<'_>, response: &mut Response<'_>| {
///         response.write(b"hello ")?;
///         response.write(request.payload())
///     })
///     .start()?;
/// let mut client = Client::register(&path, "alice")?;
/// assert_eq!(client.call(b"world")?, b"hello world");
/// client.unregister()?;
/// let summary = server.join_after_shutdown();
/// assert_eq!(summary.calls, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<ServerSummary>>,
    /// Tells this process from its forked children.
    process: ForkSafeWord,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("path", &self.shared.settings.path).finish_non_exhaustive()
    }
}

/// What [`Server::process`] holds.
const OURS: u32 = 1;

/// Shuts a server down from another thread, from a service, or from a signal's handler: [`Server::stopper`].
/// It keeps nothing of the server: not its service, and not its memory.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, Request, Response, Server};
/// use std::sync::OnceLock;
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// static STOPPER: OnceLock<ringpost::Stopper> = OnceLock::new();
/// let server = Server::builder(&path)
///     .service(|request: Request<'_>, response: &mut Response<'_>| {
///         if request.payload() == b"stop" {
///             if let Some(stopper) = STOPPER.get() {
///                 stopper.shutdown();
///             }
///         }
///         response.write(b"as you like")
///     })
///     .start()?;
/// STOPPER.set(server.stopper()).unwrap();
/// let mut client = Client::register(&path, "alice")?;
/// assert_eq!(client.call(b"stop")?, b"as you like"); // what was committed is answered
/// server.join();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Stopper {
    stop: Arc<Stop>,
    process: ForkSafeWord,
}

impl fmt::Debug for Stopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopper").field("path", &self.stop.path).finish_non_exhaustive()
    }
}

impl Stopper {
    /// As [`Server::shutdown`]: begins to shut down, and does not block. In a forked child it does nothing.
    ///
    /// It is async-signal-safe: it sets a flag, makes one system call, and leaves `errno` as it was.
    pub fn shutdown(&self) {
        if !self.process.is_foreign() {
            self.stop.request();
        }
    }
}

/// What a server did in its life: the result of [`Server::join`].
///
/// # Examples
///
/// ```
/// use ringpost::{Client, Server};
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let server = Server::builder(&path).start()?;
/// let mut client = Client::register(&path, "alice")?;
/// client.call(b"four")?;
/// client.unregister()?;
/// let summary = server.join_after_shutdown();
/// assert_eq!((summary.registered, summary.calls, summary.bytes_in), (1, 1, 4));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerSummary {
    /// Clients that registered.
    pub registered: u64,
    /// Connections refused.
    pub refused: u64,
    /// Clients that broke the protocol.
    pub violations: u64,
    /// Calls answered.
    pub calls: u64,
    /// Messages delivered.
    pub messages: u64,
    /// Payload bytes of calls and of messages that were delivered.
    pub bytes_in: u64,
    /// Payload bytes of the responses to calls, failures' texts included.
    pub bytes_out: u64,
    /// Workers left behind in a service that did not return within the grace period. If there are any, the
    /// service is not dropped until they return.
    pub abandoned: usize,
    /// From start to end.
    pub uptime: Duration,
    /// The server was not shut down: its own thread panicked, which is a fault of this library. Its clients
    /// were disconnected with the reason [`Died`](crate::CloseReason::Died), and its path is free.
    pub failed: bool,
    /// The server was not shut down: the process has closed its descriptors, as a program does that becomes
    /// a daemon and closes all that it has. Its clients were disconnected with the reason
    /// [`Died`](crate::CloseReason::Died), and its path is free.
    pub cut_off: bool,
}

impl Server {
    /// Begins to set up a server at a path for its socket; see [`default_path`](crate::default_path). Does
    /// not block: nothing is made yet. A relative path is made absolute now, so the process may change
    /// its working directory later.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Server, WaitStrategy};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let server = Server::builder(&path).max_clients(16).wait(WaitStrategy::Park).start()?;
    /// assert_eq!(server.info().max_clients, 16);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder(path: impl Into<PathBuf>) -> ServerBuilder {
        ServerBuilder::new(path.into())
    }

    fn start(settings: Settings, service: Box<dyn Service>) -> Result<Server, StartError> {
        let process = ForkSafeWord::not_inherited(OURS)
            .map_err(|source| StartError::System { action: "map memory", source })?;
        let (acceptor, shared) = Acceptor::prepare(settings, service)?;
        let no_thread = |source| StartError::System { action: "start a thread", source };
        shared.events.start().map_err(no_thread)?;
        let acceptor = threads::spawn("rp-acceptor", move || acceptor.run()).map_err(no_thread)?;
        Ok(Server { shared, acceptor: Some(acceptor), process })
    }

    /// Where its socket lies: an absolute path. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::Server;
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let server = Server::builder(&path).start()?;
    /// assert_eq!(server.path(), &*path);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn path(&self) -> &Path {
        &self.shared.settings.path
    }

    /// What it tells about itself, as an [`Observer`](crate::Observer) would hear it. Blocks at most for the
    /// registry's lock, which is held briefly.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::Server;
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let server = Server::builder(&path).start()?;
    /// assert_eq!((server.info().clients, server.info().ring_size), (0, 256 * 1024));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn info(&self) -> ServerInfo {
        self.shared.info()
    }

    /// Who is registered now. Blocks at most for the registry's lock, which is held briefly.
    ///
    /// # Errors
    ///
    /// See [`RegistryError`]; of a server that runs, the registry does not fail.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, Server};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let server = Server::builder(&path).start()?;
    /// let alice = Client::register(&path, "alice")?;
    /// let clients = server.clients()?;
    /// assert_eq!((clients[0].name.as_str(), clients[0].key), ("alice", alice.key()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clients(&self) -> Result<Vec<ClientInfo>, RegistryError> {
        Ok(self.shared.registry.list(0, usize::MAX)?.0)
    }

    /// Begins to shut down: no more connections, what was committed is answered, then everyone is
    /// disconnected with the reason [`Shutdown`](crate::ring::CloseReason::Shutdown). Idempotent.
    ///
    /// Does not block: [`join`](Self::join) waits until it is done.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, CloseReason, RecvError, Server};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let server = Server::builder(&path).start()?;
    /// let mut client = Client::register(&path, "alice")?;
    /// server.shutdown();
    /// assert_eq!(client.recv(), Err(RecvError::Disconnected(CloseReason::Shutdown)));
    /// server.join();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown(&self) {
        if !self.process.is_foreign() {
            self.shared.stop.request();
        }
    }

    /// A handle that shuts the server down from anywhere, while this value is [joined](Self::join). Does not
    /// block.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::Server;
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let server = Server::builder(&path).start()?;
    /// let stopper = server.stopper();
    /// let other = std::thread::spawn(move || stopper.shutdown());
    /// server.join();
    /// other.join().unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stopper(&self) -> Stopper {
        Stopper { stop: Arc::clone(&self.shared.stop), process: self.process.clone() }
    }

    /// Waits until the server was shut down, by [`shutdown`](Self::shutdown) or a [`Stopper`], and everything
    /// of it is gone: its socket, its threads, and its service, which is dropped last, before this
    /// returns.
    ///
    /// Blocks for ever if nobody shuts it down, unless it ends by itself because it
    /// [failed](ServerSummary::failed) or was [cut off](ServerSummary::cut_off). From the shutdown on it
    /// takes as long as the services that are at work, at most the [grace period](ServerBuilder::grace)
    /// and a second; up to another second if the program's `tracing` subscriber has not taken
    /// all [events](crate#events) yet; and as long as it takes to drop the service, and what it keeps for
    /// each thread (`thread_local!`). A call that does not return in that time is
    /// [abandoned](ServerSummary::abandoned): its thread keeps the service, which is dropped when that
    /// call returns. If dropping the service panics, the panic is caught.
    ///
    /// A subscriber may call it, and is not waited for then. It can also be called, and a server be dropped,
    /// within the server's own service. Then it does not wait for the call that it is a part of: that one
    /// is answered when the service returns, its client is disconnected after that, and the service is
    /// dropped last. A thread that the service has started and waits for is not recognised as such. Within
    /// the drop of the service it waits for nothing, and the summary is that of what is done so far.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::Server;
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let server = Server::builder(&path).start()?;
    /// server.shutdown();
    /// let summary = server.join();
    /// assert_eq!(summary.abandoned, 0);
    /// assert!(!path.exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn join(mut self) -> ServerSummary {
        self.wait()
    }

    /// [`shutdown`](Self::shutdown) and [`join`](Self::join). Blocks as the latter does from the shutdown on.
    /// Dropping a server does the same.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::Server;
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let server = Server::builder(&path).start()?;
    /// println!("{:?}", server.join_after_shutdown());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn join_after_shutdown(self) -> ServerSummary {
        self.shutdown();
        self.join()
    }

    fn wait(&mut self) -> ServerSummary {
        if self.process.is_foreign() {
            // The thread is not in this process, and one that was started here may have its number by now.
            std::mem::forget(self.acceptor.take());
        }
        let Some(acceptor) = self.acceptor.take() else { return ServerSummary::default() };
        let waits_for_itself = match self.shared.workers.part_of_this_thread() {
            Part::None => false,
            Part::Worker(key) => {
                let lives = self.shared.workers.leave_alone(key);
                self.shared.stop.wake_acceptor();
                !lives
            }
            Part::Acceptor => true,
        };
        if waits_for_itself {
            return summary(&self.shared, 0);
        }
        self.shared.events.before_join();
        // Not even the end of a server that failed went well.
        acceptor.join().unwrap_or(ServerSummary { failed: true, ..ServerSummary::default() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown();
        self.wait();
    }
}

fn summary(shared: &Shared, abandoned: usize) -> ServerSummary {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let sums = &shared.sums;
    ServerSummary {
        registered: read(&sums.registered),
        refused: read(&sums.refused),
        violations: read(&sums.violations),
        calls: read(&sums.calls),
        messages: read(&sums.messages),
        bytes_in: read(&sums.bytes_in),
        bytes_out: read(&sums.bytes_out),
        abandoned,
        uptime: shared.life.uptime(),
        failed: false,
        cut_off: false,
    }
}
