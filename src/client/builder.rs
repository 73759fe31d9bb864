//! Setting up a client.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Client;
use super::backoff::Reconnect;
use super::caller::Caller;
use super::error::RegisterError;
use super::inbox::Inbox;
use super::reconnect::Reconnector;
use super::session::{Place, Session, deadline_in};
use crate::channel::Guest;
use crate::connect::lasting;
use crate::ring::WaitStrategy;
use crate::wire::Name;

/// How long a registration may take, if nothing else is said.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// Sets up a [`Client`]: [`Client::builder`].
///
/// | setting | default |
/// | --- | --- |
/// | [`wait`](Self::wait) | adaptive |
/// | [`timeout`](Self::timeout) of the registration | 5 s |
/// | [`reconnect`](Self::reconnect) | no |
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
    pub(super) place: Place,
    reconnect: Option<Reconnect>,
}

impl ClientBuilder {
    pub(super) fn new(path: PathBuf) -> ClientBuilder {
        let place = Place { path: lasting(path), wait: WaitStrategy::default(), timeout: DEFAULT_TIMEOUT };
        ClientBuilder { place, reconnect: None }
    }

    /// How the client waits for responses and messages. Adaptive, if nothing else is said. The server chooses
    /// for its own end: [`ServerBuilder::wait`](crate::ServerBuilder::wait).
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
        self.place.wait = strategy;
        self
    }

    /// How long the registration may take. Five seconds, if nothing else is said. Not a limit for anything
    /// later.
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
        self.place.timeout = timeout;
        self
    }

    /// Makes the client register again, under the same name, after its server has ended and a new one has
    /// started. Off by default.
    ///
    /// The operations of a reconnecting client behave as follows:
    ///
    /// - When the connection ends, the operation that notices it returns the error once, as without this
    ///   option: `Disconnected` if the operation was under way (the call may have been executed, the message
    ///   delivered), `NotSent` if not. For [submitted](super::Caller::submit) calls, each response is that
    ///   error. Nothing is ever sent twice. Each half of a [split](Client::split) client returns the error.
    /// - The next operation first registers again. Meanwhile it blocks as [`Reconnect`] says, but not longer
    ///   than its own deadline (plus up to 100 ms for an attempt under way), after which it returns
    ///   `TimedOut`. [`Caller::reconnect`](super::Caller::reconnect) does nothing else.
    /// - The client then has another key, and so have all other clients: look up their names again.
    /// - Messages that were in the inbox when the connection ended are received first; then comes the error;
    ///   then the messages of the new inbox. Messages of several connections are received in order.
    /// - [`try_recv`](Client::try_recv) never blocks, so it does not register again; it continues after
    ///   another operation has done so.
    /// - After it gave up, every operation fails with [`CloseReason::GaveUp`](crate::CloseReason::GaveUp),
    ///   and [`Caller::reconnect`](super::Caller::reconnect) returns the reason. The client has ended, as
    ///   after use of its [closer](Client::closer).
    ///
    /// There is no background activity: no thread is started, and a client without operations does nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{CallError, Client, CloseReason, Reconnect, Server};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// let server = Server::builder(&path).start()?;
    /// let mut client = Client::builder(&path).reconnect(Reconnect::default()).register("alice")?;
    /// let former = client.key();
    /// server.join_after_shutdown();
    /// assert_eq!(client.call(b"one"), Err(CallError::NotSent(CloseReason::Shutdown))); // told once
    /// let _server = Server::builder(&path).start()?;
    /// assert_eq!(client.call(b"two")?, b"two"); // registers again first
    /// assert_ne!(client.key(), former);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.reconnect = Some(reconnect);
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
    /// assert!(matches!(error, RegisterError::InvalidName { .. })); // white space at an end
    /// let nowhere = path.with_file_name("nowhere");
    /// assert!(matches!(Client::builder(nowhere).register("alice"), Err(RegisterError::NoServer { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn register(&self, name: impl AsRef<str>) -> Result<Client, RegisterError> {
        let name = Name::new(name.as_ref())
            .map_err(|source| RegisterError::InvalidName { name: name.as_ref().to_owned(), source })?;
        let (guest, session) = self.place.register(name, deadline_in(self.place.timeout))?;
        Ok(self.client(guest, session))
    }

    pub(super) fn client(&self, guest: Guest, session: Arc<Session>) -> Client {
        let mut inbox = Inbox::new(guest.inbox, Arc::clone(&session));
        let mut caller =
            Caller::new(guest.requests, guest.responses, Arc::clone(&session), self.place.timeout);
        if let Some(policy) = &self.reconnect {
            let reconnector = Arc::new(Reconnector::new(self.place.clone(), policy.clone(), session));
            inbox.settle(Arc::clone(&reconnector));
            caller.settle(reconnector);
        }
        Client { caller, inbox }
    }
}
