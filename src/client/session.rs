//! What the two halves of a client share, and how one comes to be.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::caller::Caller;
use super::error::RegisterError;
use super::inbox::Inbox;
use super::watcher::Watch;
use super::{Client, Limits};
use crate::channel::{self, Guest};
use crate::connect::dial::{DialError, Line};
use crate::connect::{Ask, Refusal, Reply};
use crate::kill::kill_point;
use crate::protocol::{BLOCK_HEADER, Key, MESSAGE_OVERHEAD, Name, PROTOCOL_VERSION};
use crate::ring::{CloseReason, Closer, WaitStrategy};

/// How long a registration may take, if nothing else is said.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// One registration. When the last half of the client is gone, so is the lifeline, and with it the registration.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) key: Key,
    pub(super) name: Name,
    pub(super) limits: Limits,
    pub(super) closer: Closer,
    watch: Watch,
}

impl Session {
    /// Begins to watch the lifeline.
    pub(super) fn begin(guest: &Guest, lifeline: OwnedFd, key: Key, name: Name) -> io::Result<Session> {
        let geometry = guest.geometry();
        let limits = Limits {
            max_call: geometry.max_block() - BLOCK_HEADER,
            max_message: geometry.max_block() - MESSAGE_OVERHEAD,
            ring_size: geometry.ring_size(),
        };
        let watch = Watch::begin(lifeline, guest.closer.clone())?;
        Ok(Session { key, name, limits, closer: guest.closer.clone(), watch })
    }

    /// Ends every wait, and the connection with it: the server frees the name.
    pub(super) fn end(&self, reason: CloseReason) {
        self.closer.close_as(reason);
        kill_point!("session.closed");
        self.watch.end();
        kill_point!("session.ended");
    }
}

/// Ends a client from any thread: every wait ends with `Disconnected`, and the registration with it.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, CloseReason, RecvError, Server};
///
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("bus");
/// let _server = Server::builder(&path).start()?;
/// let mut client = Client::register(&path, "alice")?;
/// let handle = client.close_handle();
/// let waiting = std::thread::spawn(move || client.recv());
/// handle.close();
/// assert_eq!(waiting.join().unwrap(), Err(RecvError::Disconnected(CloseReason::Local)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct CloseHandle(Arc<Session>);

impl CloseHandle {
    pub(super) fn new(session: &Arc<Session>) -> CloseHandle {
        CloseHandle(Arc::clone(session))
    }

    /// Ends the client. Idempotent. Messages that were committed before can still be received. Does not block; the server frees the
    /// name when it sees the end of the connection.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{CallError, CloseReason};
    ///
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// # let mut client = Client::register(&path, "alice")?;
    /// client.close_handle().close();
    /// assert_eq!(client.call(b"ping"), Err(CallError::NotSent(CloseReason::Local)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(&self) {
        self.0.end(CloseReason::Local);
    }

    /// Why the client has ended, if it has. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, CloseReason, Server};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// let server = Server::builder(&path).start()?;
    /// let client = Client::register(&path, "alice")?;
    /// let handle = client.close_handle();
    /// assert_eq!(handle.reason(), None);
    /// server.join_after_shutdown();
    /// assert_eq!(handle.reason(), Some(CloseReason::Shutdown));
    /// # drop(client);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reason(&self) -> Option<CloseReason> {
        self.0.closer.reason()
    }
}

/// Sets up a [`Client`]: [`Client::builder`].
///
/// | setting | default |
/// | --- | --- |
/// | [`wait`](Self::wait) | adaptive |
/// | [`timeout`](Self::timeout) of the registration | 5 s |
///
/// # Examples
///
/// ```
/// use ringpost::{Client, WaitStrategy};
///
/// # use ringpost::Server;
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("bus");
/// # let _server = Server::builder(&path).start()?;
/// let settings = Client::builder(&path).wait(WaitStrategy::Park);
/// let alice = settings.register("alice")?; // a builder can be used again
/// let bob = settings.register("bob")?;
/// assert_ne!(alice.key(), bob.key());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until register is called"]
pub struct ClientBuilder {
    path: PathBuf,
    wait: WaitStrategy,
    timeout: Duration,
}

impl ClientBuilder {
    pub(super) fn new(path: PathBuf) -> ClientBuilder {
        ClientBuilder { path, wait: WaitStrategy::default(), timeout: DEFAULT_TIMEOUT }
    }

    /// How the client waits for responses and messages. Adaptive, if nothing else is said. The server chooses for its own end:
    /// [`ServerBuilder::wait`](crate::ServerBuilder::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, WaitStrategy};
    ///
    /// # use ringpost::Server;
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let mut client = Client::builder(&path).wait(WaitStrategy::Spin).register("alice")?;
    /// assert_eq!(client.call(b"ping")?, b"ping");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait(mut self, strategy: WaitStrategy) -> Self {
        self.wait = strategy;
        self
    }

    /// How long the registration may take. Five seconds, if nothing else is said. Not a limit for anything later.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::Client;
    /// use std::time::Duration;
    ///
    /// # use ringpost::Server;
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let client = Client::builder(&path).timeout(Duration::from_secs(1)).register("alice")?;
    /// # assert_eq!(client.name().as_str(), "alice");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Registers under a name. Blocks until the server answers, at most the [time](Self::timeout) set.
    ///
    /// # Errors
    ///
    /// See [`RegisterError`].
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, RegisterError};
    ///
    /// # use ringpost::Server;
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let error = Client::builder(&path).register(" alice").unwrap_err();
    /// assert!(matches!(error, RegisterError::InvalidName { .. })); // names have no white space at either end
    /// let nowhere = path.with_file_name("nowhere");
    /// assert!(matches!(Client::builder(nowhere).register("alice"), Err(RegisterError::NoServer { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn register(&self, name: impl AsRef<str>) -> Result<Client, RegisterError> {
        let name = Name::new(name.as_ref())
            .map_err(|source| RegisterError::InvalidName { name: name.as_ref().to_owned(), source })?;
        let deadline = deadline_in(self.timeout);
        let line = dial(&self.path, deadline)?;
        self.register_on(line, name, deadline)
    }

    /// Asks on a connection that stands.
    pub(super) fn register_on(
        &self,
        line: Line,
        name: Name,
        deadline: Instant,
    ) -> Result<Client, RegisterError> {
        let answer = line
            .ask(&Ask::Register(name), deadline)
            .map_err(|error| explain(error, &self.path, Some(&name)))?;
        let not_ringpost = || RegisterError::NotRingpost { path: self.path.clone() };
        let key = Reply::key(&answer.body).ok_or_else(not_ringpost)?;
        let descriptor = answer.descriptor.ok_or_else(not_ringpost)?;
        let guest = channel::open_for_client(&descriptor, self.wait)?;
        kill_point!("join.mapped");
        let session = Session::begin(&guest, line.into_lifeline(), key, name)
            .map_err(|source| RegisterError::System { action: "watch the server", source })?;
        kill_point!("join.watched");
        let session = Arc::new(session);
        let inbox = Inbox::new(guest.inbox, Arc::clone(&session));
        Ok(Client { caller: Caller::new(guest.requests, guest.responses, session), inbox })
    }
}

pub(super) fn dial(path: &Path, deadline: Instant) -> Result<Line, RegisterError> {
    Line::connect(path, deadline).map_err(|error| explain(error, path, None))
}

/// A time-out beyond what the clock can hold is none that anybody will see.
pub(super) fn deadline_in(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout).unwrap_or_else(|| now + Duration::from_secs(u32::MAX.into()))
}

/// What the owner of a socket that is closed to this process has to do.
fn let_in(source: &io::Error) -> String {
    let uid = rustix::process::geteuid().as_raw();
    format!(
        "{source}; start its server with --allow-user {uid}, on a socket in a directory that user {uid} may enter"
    )
}

pub(super) fn explain(error: DialError, path: &Path, name: Option<&Name>) -> RegisterError {
    let path = path.to_owned();
    match error {
        DialError::NoServer(source) => RegisterError::NoServer { path, source },
        DialError::TooLong => RegisterError::PathTooLong { path },
        DialError::NotPermitted(source) => RegisterError::NotPermitted { path, why: let_in(&source) },
        DialError::Untrusted { uid } => RegisterError::Untrusted { path, uid },
        DialError::TimedOut => RegisterError::TimedOut { path },
        DialError::NotRingpost => RegisterError::NotRingpost { path },
        DialError::Version { found } => {
            RegisterError::VersionMismatch { server: found, own: PROTOCOL_VERSION }
        }
        DialError::Io(source) => RegisterError::System { action: "reach the server", source },
        DialError::Refused(refusal, why) => match refusal {
            Refusal::NameTaken => {
                let name = name.map(|name| name.as_str().to_owned()).unwrap_or_default();
                RegisterError::NameTaken { name }
            }
            Refusal::Full => RegisterError::Full(why),
            Refusal::NotAllowed => RegisterError::NotPermitted { path, why },
            Refusal::NotRingpost
            | Refusal::Version
            | Refusal::Unknown
            | Refusal::InvalidName
            | Refusal::ShuttingDown
            | Refusal::Busy
            | Refusal::NoResources => RegisterError::Refused(why),
        },
    }
}
