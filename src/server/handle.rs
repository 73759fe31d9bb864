//! `Server`: a program's handle of a running server.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::acceptor::Acceptor;
use super::access::AccessControl;
use super::builder::{ServerBuilder, Settings};
use super::error::StartError;
use super::shared::Shared;
use super::stopper::{OURS, Stopper};
use super::summary::{ServerSummary, summary};
use super::workers::Part;
use crate::connect::{Figures, ServerInfo};
use crate::link::Service;
use crate::os::threads;
use crate::registry::ClientInfo;
use crate::shm::ForkSafeWord;

/// A running server. Dropping it shuts it down and waits until it is gone, as
/// [`join_after_shutdown`](Self::join_after_shutdown) does.
///
/// A forked child has no server: there, shutting it down, joining or dropping it does nothing, and the
/// parent's server goes on. But the child holds copies of the server's descriptors until it ends or executes
/// another program. While it outlives its parent, no other server can be started at the same path.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, Server};
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let server = Server::builder(&path)
///     .service(|request, response| {
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
    pub(super) shared: Arc<Shared>,
    acceptor: Option<JoinHandle<ServerSummary>>,
    /// Tells this process and its forked children apart.
    process: ForkSafeWord,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("path", &self.shared.settings.path).finish_non_exhaustive()
    }
}

impl Server {
    /// Begins to set up a server whose socket is at a path; see [`default_path`](crate::default_path). Does
    /// not block and creates nothing yet. A relative path is made absolute now, so the process may change
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

    pub(super) fn start(
        settings: Settings,
        socket: Option<OwnedFd>,
        service: Box<dyn Service>,
    ) -> Result<Server, StartError> {
        let process = ForkSafeWord::not_inherited(OURS)
            .map_err(|source| StartError::System { action: "map memory", source })?;
        let (acceptor, shared) = Acceptor::prepare(settings, socket, service)?;
        let no_thread = |source| StartError::System { action: "start a thread", source };
        shared.events.start().map_err(no_thread)?;
        let acceptor = threads::spawn("rp-acceptor", move || acceptor.run()).map_err(no_thread)?;
        Ok(Server { shared, acceptor: Some(acceptor), process })
    }

    /// Describes the server, as [`Observer::server`](crate::Observer::server) does. Blocks at most for the
    /// registry's lock, which is held briefly.
    pub fn info(&self) -> ServerInfo {
        self.shared.info()
    }

    /// Lists the clients that are registered now. Blocks at most for the registry's lock, which is held
    /// briefly.
    ///
    /// # Errors
    ///
    /// If the registry cannot be locked, or a repair of it failed. The registry of a running server does not
    /// fail.
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
    pub fn clients(&self) -> io::Result<Vec<ClientInfo>> {
        let (clients, _) = self.shared.list(0, usize::MAX).map_err(io::Error::other)?;
        Ok(clients)
    }

    /// What the bus counts about itself, as [`Observer::figures`](crate::Observer::figures) tells the
    /// server's own user: this, too, lets durations be measured for ten seconds. Waits for the server's
    /// own thread, which takes some microseconds for some hundred clients.
    ///
    /// # Errors
    ///
    /// If the server has ended, in a forked child, and if the registry fails. In the drop of the service,
    /// too.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, Server};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let server = Server::builder(&path).start()?;
    /// let mut alice = Client::register(&path, "alice")?;
    /// alice.call(b"ping")?;
    /// alice.caller().ping()?; // now the call is counted
    /// let figures = server.figures()?;
    /// assert_eq!((figures.server.calls, figures.clients.len()), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn figures(&self) -> io::Result<Figures> {
        if self.process.is_foreign() {
            return Err(io::Error::other("this process was forked from the server's"));
        }
        self.shared.figures()
    }

    /// Begins to shut down: takes no more connections, answers what was committed, then disconnects everyone
    /// with the reason [`Shutdown`](crate::CloseReason::Shutdown). Idempotent.
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

    /// A handle that shuts the server down from anywhere while this one is [joined](Self::join). Does not
    /// block. [`Stopper`] has an example.
    pub fn stopper(&self) -> Stopper {
        Stopper { stop: Arc::clone(&self.shared.stop), process: self.process.clone() }
    }

    /// A handle that replaces who may use the server, and for what, while it runs. Does not block.
    /// [`AccessControl`] has an example.
    pub fn access_control(&self) -> AccessControl {
        AccessControl { shared: Arc::downgrade(&self.shared), process: self.process.clone() }
    }

    /// A handle that records the server's figures with the `metrics` facade while it runs. Does not block.
    /// [`Metrics`](crate::Metrics) has an example.
    #[cfg(feature = "metrics")]
    pub fn metrics(&self) -> super::metrics::Metrics {
        super::metrics::Metrics { shared: Arc::downgrade(&self.shared), process: self.process.clone() }
    }

    /// Waits until the server was shut down, by [`shutdown`](Self::shutdown) or a [`Stopper`], and everything
    /// of it is gone: its socket, its threads and its service, which is dropped last.
    ///
    /// Blocks for ever if nobody shuts it down, unless the server [failed](ServerSummary::failed) or was
    /// [cut off](ServerSummary::cut_off). After the shutdown it waits for calls that are being served, at
    /// most for the [grace period](ServerBuilder::grace) and a second; up to another second for the program's
    /// `tracing` subscriber to take all [events](crate#events); and for the drop of the service and of what
    /// it keeps for each thread (`thread_local!`). A call that does not return in time is
    /// [abandoned](ServerSummary::abandoned): its thread keeps the service, which is dropped when the call
    /// returns. If dropping the service panics, the panic is caught.
    ///
    /// A subscriber may call this; then the server does not wait for the subscriber. The server's own service
    /// may call it, too, or drop the server. Then it does not wait for the call it is made from: that call is
    /// answered when the service returns, its client is disconnected after that, and the service is dropped
    /// last. A thread that the service has started and waits for is not recognised as part of the call. In
    /// the drop of the service this waits for nothing and returns the summary so far.
    pub fn join(mut self) -> ServerSummary {
        self.wait()
    }

    /// [`shutdown`](Self::shutdown), then [`join`](Self::join). Blocks as `join` does after the shutdown.
    /// Dropping a server does the same.
    pub fn join_after_shutdown(self) -> ServerSummary {
        self.shutdown();
        self.join()
    }

    fn wait(&mut self) -> ServerSummary {
        if self.process.is_foreign() {
            // The thread does not exist in this process, and another thread may have its number by now.
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
        // The acceptor contains its own panics. If it panicked all the same, all that is known is that.
        acceptor.join().unwrap_or(ServerSummary { failed: true, ..ServerSummary::default() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown();
        self.wait();
    }
}
