//! Setting up a client.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Caller;
use super::Client;
use super::backoff::Reconnect;
use super::error::RegisterError;
use super::inbox::Inbox;
use super::links::Links;
use super::reconnect::Reconnector;
use super::session::{Place, Session, deadline_in};
use crate::channel::Guest;
use crate::connect::lasting;
use crate::os::futex::sleeps_on_all;
use crate::os::lacks;
use crate::ring::WaitStrategy;
use crate::wire::Name;

/// How long a registration may take, if nothing else is said.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// Sets up a [`Client`]: [`Client::builder`].
///
/// | setting | default |
/// | --- | --- |
/// | [`wait`](Self::wait) | adaptive |
/// | [`timeout`](Self::timeout) of registrations and questions | 5 s |
/// | [`reconnect`](Self::reconnect) | no |
/// | [`relay`](Self::relay) | no |
///
/// # Examples
///
/// ```
/// use ringpost::{Client, RegisterError, WaitStrategy};
/// use std::time::Duration;
///
/// # use ringpost::Server;
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// # let _server = Server::builder(&path).start()?;
/// let settings = Client::builder(&path).wait(WaitStrategy::Park).timeout(Duration::from_secs(30));
/// let alice = settings.register("alice")?; // a builder can be used again
/// let bob = settings.register("bob")?;
/// assert_ne!(alice.key(), bob.key());
/// let error = settings.register(" carol").unwrap_err(); // no white space at either end of a name
/// assert!(matches!(error, RegisterError::InvalidName { .. }));
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
        let (wait, timeout) = (WaitStrategy::default(), DEFAULT_TIMEOUT);
        let place = Place { path: lasting(path), wait, timeout, relay: false };
        ClientBuilder { place, reconnect: None }
    }

    /// How the client waits for responses and messages. The server chooses for its own end:
    /// [`ServerBuilder::wait`](crate::ServerBuilder::wait).
    pub fn wait(mut self, strategy: WaitStrategy) -> Self {
        self.place.wait = strategy;
        self
    }

    /// How long the registration may take, and later each question that the server answers itself:
    /// [`look_up`](Client::look_up), [`list`](Client::list), [`ping`](Caller::ping),
    /// [`statistics`](Caller::statistics), [`unregister`](Client::unregister).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.place.timeout = timeout;
        self
    }

    /// Registers again under the same name when the server is back after it went away.
    ///
    /// The operations of such a client behave as follows:
    ///
    /// - Questions about the registry ([`look_up`](Client::look_up), [`wait_for`](Client::wait_for),
    ///   [`list`](Client::list), [`ping`](Caller::ping), [`statistics`](Caller::statistics)) are asked again
    ///   after the reconnection, within their time limit. Asking twice does no harm.
    /// - Of the others, the one that finds that the connection has ended reports it, once, as without this
    ///   option: `Disconnected` if it was under way (a call may have been executed then, a message
    ///   delivered), `NotSent` if not. Each outstanding [submitted](Caller::submit) call reports it in place
    ///   of its response. Nothing is ever sent a second time. Of the two halves of a [split](Client::split)
    ///   client each one reports it.
    /// - The next operation registers again first. It blocks meanwhile, as the [`Reconnect`] says, at most
    ///   until its own deadline and 100 ms more if an attempt is being made, and then reports `TimedOut`.
    ///   [`Caller::reconnect`] does only this.
    /// - The key is a new one then, and so are those of all others: look their names up again.
    /// - Messages that lay in the inbox when the connection ended are received first, then the end is
    ///   reported, then comes what the new inbox holds.
    /// - [`try_recv`](Client::try_recv), [`try_submit`](Caller::try_submit) and
    ///   [`try_response`](Caller::try_response) never block, so they do not register by themselves: they go
    ///   on when another operation has done so.
    /// - After it gave up, every operation fails with [`CloseReason::GaveUp`](crate::CloseReason::GaveUp),
    ///   and [`Caller::reconnect`] says why. The client has ended then, as it has when its
    ///   [closer](Client::closer) was used.
    ///
    /// Nothing happens in the background: no thread is started, and a client that is not used does nothing.
    /// But a client that has [publishers](crate::Publisher) or [subscribers](crate::Subscriber) registers
    /// again at once when its connection ends, on a thread that lives until then, because they go on
    /// without a server: publishers are published anew, and subscribers read what is left in the old
    /// rings, then what comes in the new ones.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{CallError, Client, CloseReason, Reconnect, Server};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
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

    /// The client is a relay: it stands for one elsewhere, on another computer for example, and carries its
    /// messages on. Each message that it receives has a [`Ticket`](crate::Ticket), and its sender is answered
    /// when the relay has said what became of it: [`Caller::confirm`].
    ///
    /// Only relays can have names with `@`, such as `bob@workshop`. The server's own user and root may
    /// register relays, and those whom its rules name ([`Act::Relay`](crate::Act::Relay)). Others get
    /// [`RegisterError::NotAllowed`].
    ///
    /// What a relay sends is not relayed again: it cannot send to a relay. Who connects to a relay before it
    /// listens for the first time waits for that, as for one that is busy.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, SendError};
    ///
    /// # let (_bus, mut alice, _bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
    /// # let path = &_bus.1;
    /// let mut bob = Client::builder(path).relay().register("bob@workshop")?;
    /// let carries = std::thread::spawn(move || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    ///     for outcome in [Ok(()), Err(SendError::InboxFull)] {
    ///         let message = bob.recv()?; // carry it to bob, and hear what becomes of it
    ///         let ticket = message.ticket().expect("a relay's messages have tickets");
    ///         assert!(bob.caller().confirm(ticket, outcome)?);
    ///     }
    ///     Ok(())
    /// });
    /// alice.try_send("bob@workshop", b"hello")?; // it lies in the inbox of bob himself
    /// assert_eq!(alice.try_send("bob@workshop", b"and?"), Err(SendError::InboxFull));
    /// carries.join().unwrap().unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn relay(mut self) -> Self {
        self.place.relay = true;
        self
    }

    /// Registers under a name. Blocks until the server answers, at most for the [time](Self::timeout) set.
    ///
    /// # Errors
    ///
    /// See [`RegisterError`].
    pub fn register(&self, name: impl AsRef<str>) -> Result<Client, RegisterError> {
        let name = Name::new(name.as_ref())
            .map_err(|source| RegisterError::InvalidName { name: name.as_ref().to_owned(), source })?;
        let links = Links::new(self.place.clone());
        let (guest, session) = self.place.register(name, &links, deadline_in(self.place.timeout))?;
        let client = self.client(guest, session);
        // It is found out now, so that it is told from here and not in the middle of a wait.
        let _ = sleeps_on_all();
        lacks::tell();
        Ok(client)
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
