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

    /// Registers again, under the same name, when the server is back after it went away. Not done, if nothing
    /// else is said.
    ///
    /// This is what becomes of the operations of such a client:
    ///
    /// - When the connection ends, the operation that finds out tells so, once, as without this option:
    ///   `Disconnected` if it was on its way (a call may have been executed then, a message delivered),
    ///   `NotSent` if not. Of [submitted](Client::submit) calls each one's response is that error. Nothing is
    ///   ever sent a second time. Of the two halves of a [split](Client::split) client each one tells.
    /// - The next operation begins by registering again. It blocks meanwhile, as the [`Reconnect`] says, at
    ///   most until its own deadline (and for up to 100 ms more if an attempt is on its way), which is then
    ///   `TimedOut`. [`Client::reconnect`] does only this.
    /// - The key is another one then, and so are those of all others: look their names up again.
    /// - Messages that lay in the inbox when the connection ended are received first, then comes the error,
    ///   then what the new inbox holds. Without any messages received in between, those of several
    ///   connections come in their order.
    /// - [`try_recv`](Client::try_recv) never blocks, and so it does not register by itself: it goes on when
    ///   another operation has.
    /// - When it gave up, every operation ends with [`CloseReason::GaveUp`](crate::CloseReason::GaveUp);
    ///   [`Client::reconnect`] tells why. The client has then ended, as it has when the [close
    ///   handle](Client::close_handle) was used.
    ///
    /// Nothing happens in the background: no thread is started, and a client of which no operation is asked
    /// does nothing.
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
    /// assert!(matches!(error, RegisterError::InvalidName { .. })); // names have no white space at either end
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
