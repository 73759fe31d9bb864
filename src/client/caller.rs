//! The calling half of a client: who it is, and how it begins, reconnects and ends.
//!
//! Its operations are in `calls`, `messages` and `questions`; `ask` has what they share.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::ask::Calls;
use super::closer::Closer;
use super::error::CallError;
use super::event::ReconnectError;
use super::reconnect::{Reconnector, Stop, reconnector_of, show};
use super::session::Session;
use super::{ConnectError, Limits, Link};
use crate::ring::{Consumer, Deadline, Producer};
use crate::testing::failpoints::failpoint;
use crate::wire::{Address, CloseReason, Key, Name, NameError, Operation, Status};

/// How long a dropped client waits for the server to confirm that it is unregistered.
const PATIENCE_OF_DROP: Duration = Duration::from_secs(1);

/// The calling half of a [`Client`](super::Client): calls the service, sends messages and asks about the
/// registry.
///
/// Lent by [`Client::caller`](super::Client::caller), or given by [`Client::split`](super::Client::split);
/// then it can be moved to another thread. Dropping it ends the registration, waiting for the server's
/// confirmation for at most a second.
///
/// Its operations are served in order: a request that the server is busy with delays the next one. Every wait
/// also ends when the server dies, shuts down or closes the channel, and when a [closer](Self::closer) is
/// used. The [crate's page](crate#operations) has a table of the operations.
pub struct Caller {
    pub(super) calls: Calls,
    /// How long a question that the server answers itself may take.
    pub(super) timeout: Duration,
    unregistered: bool,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show_as("Caller", f)
    }
}

impl Caller {
    pub(super) fn new(
        requests: Producer,
        responses: Consumer,
        session: Arc<Session>,
        timeout: Duration,
    ) -> Caller {
        Caller { calls: Calls::of_client(requests, responses, session), timeout, unregistered: false }
    }

    /// This client's key: its address for others. Does not block.
    pub fn key(&self) -> Key {
        self.reconnector().map_or(self.session().key, |reconnector| reconnector.newest().key)
    }

    /// This client's name. Does not block.
    pub fn name(&self) -> &Name {
        &self.session().name
    }

    /// What the server's settings allow. Does not block.
    pub fn limits(&self) -> Limits {
        self.reconnector().map_or(self.calls.limits, |reconnector| reconnector.newest().limits)
    }

    /// From now on each question that the server answers itself, and each attempt to publish, subscribe,
    /// listen or connect, may take so long: another limit than that of
    /// [`ClientBuilder::timeout`](super::ClientBuilder::timeout). Where an operation has a limit of its own,
    /// that one holds. Attempts to register again keep the builder's. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # let (_bus, mut client) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/one.rs"));
    /// client.caller().set_timeout(Duration::from_secs(30));
    /// client.caller().ping()?; // for 30 s at most
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// As [`Client::closer`](super::Client::closer).
    pub fn closer(&self) -> Closer {
        Closer::new(self.session(), self.calls.registration().reconnector.as_ref())
    }

    /// Registers again now if the connection has ended, as the next operation would: for a client with
    /// [`ClientBuilder::reconnect`](super::ClientBuilder::reconnect). Returns its key, which is a new one
    /// then. The [`Inbox`](super::Inbox) receives what came over the old connection first.
    ///
    /// Blocks until the client is registered or has given up, at most until the limit (a [`Deadline`]; `None`
    /// is no limit) and 100 ms more if an attempt is being made. Does not block while the connection stands.
    ///
    /// # Errors
    ///
    /// See [`ReconnectError`].
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, Reconnect, ReconnectError, Server};
    /// use std::time::Duration;
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let server = Server::builder(&path).start()?;
    /// let client = Client::builder(&path).reconnect(Reconnect::default()).register("alice")?;
    /// let (mut caller, inbox) = client.split();
    /// let former = caller.reconnect(None)?; // it is connected
    /// server.join_after_shutdown();
    /// let soon = Duration::from_millis(50);
    /// assert!(matches!(caller.reconnect(soon), Err(ReconnectError::TimedOut)));
    /// let _server = Server::builder(&path).start()?;
    /// let key = caller.reconnect(None)?;
    /// assert_eq!((caller.key(), inbox.key()), (key, key));
    /// assert_ne!(key, former);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reconnect(&mut self, limit: impl Into<Deadline>) -> Result<Key, ReconnectError> {
        self.reconnect_until(limit.into())
    }

    fn reconnect_until(&mut self, mut deadline: Deadline) -> Result<Key, ReconnectError> {
        let reconnector = self.calls.registration().reconnector.clone().ok_or(ReconnectError::NotAsked)?;
        loop {
            match self.session().closer.reason().map(CloseReason::from) {
                None => return Ok(self.session().key),
                Some(CloseReason::Forked) => return Err(ReconnectError::Ended(CloseReason::Forked)),
                Some(_) => {}
            }
            match reconnector.renew_caller(true, deadline.start()) {
                Ok(asking) => self.calls.install(asking),
                Err(Stop::TimedOut) => return Err(ReconnectError::TimedOut),
                Err(Stop::Over(why)) => return Err(why),
                Err(Stop::Tell(reason)) => return Err(ReconnectError::Ended(reason)),
            }
        }
    }

    /// Opens a link to another client, by its key or its name: a direct channel, over which that client
    /// serves this one. It has to [listen](super::Client::listen). [`Link::options`] chooses other rings,
    /// another way to wait or another limit in time.
    ///
    /// Blocks until the other client has accepted or refused, at most for
    /// [`ClientBuilder::timeout`](super::ClientBuilder::timeout). A client that registers again does so first
    /// if its registration has ended. To connect to oneself, another thread must accept.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`]. Nothing is left of the attempt, so trying again does no harm.
    ///
    /// # Examples
    ///
    /// ```
    /// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
    /// let _serving = bob.listen()?.serve(|request, response| {
    ///     let mut reply = b"hello ".to_vec();
    ///     reply.extend_from_slice(request.payload());
    ///     response.write(&reply)
    /// })?;
    /// let (mut caller, _inbox) = alice.split();
    /// let mut link = caller.connect("bob")?;
    /// assert_eq!(link.call(b"alice")?, b"hello alice");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn connect(
        &mut self,
        to: impl TryInto<Address, Error: Into<NameError>>,
    ) -> Result<Link, ConnectError> {
        Link::options().connect(self, to)
    }

    /// Leaves the bus. When this returns `Ok`, the name is free. Messages that were delivered before can
    /// still be received by the [`Inbox`](super::Inbox); responses that were not collected are lost.
    ///
    /// Blocks until the server confirms it, which it does after all requests that were sent before, at most
    /// for [`ClientBuilder::timeout`](super::ClientBuilder::timeout).
    ///
    /// # Errors
    ///
    /// See [`CallError`]. The registration ends in any case; after an error it is not known when the name
    /// becomes free.
    pub fn unregister(mut self) -> Result<(), CallError> {
        self.unregister_until(self.timeout.into())
    }

    fn unregister_until(&mut self, deadline: Deadline) -> Result<(), CallError> {
        self.begin_to_leave();
        let status = self.calls.ask_rarely::<0>(Operation::Unregister, [], deadline)?;
        self.has_left(status)
    }

    /// The registration ends from now on, whether or not the server answers.
    pub(crate) fn begin_to_leave(&mut self) {
        self.unregistered = true;
        self.settle_down();
    }

    /// The server has answered that it ends.
    pub(crate) fn has_left(&mut self, status: Status) -> Result<(), CallError> {
        failpoint!("leave.answered", [client], seldom);
        self.session().closer.close_as(CloseReason::Unregistered);
        failpoint!("leave.closed", [client], seldom);
        self.calls.done(status)
    }

    /// The registration that it uses now.
    pub(super) fn session(&self) -> &Arc<Session> {
        &self.calls.registration().session
    }

    fn reconnector(&self) -> Option<&Reconnector> {
        reconnector_of(self.session(), &self.calls.registration().reconnector)
    }

    /// What `{:?}` shows of it, or of the client that it is a half of.
    pub(super) fn show_as(&self, kind: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(kind, self.session(), &self.calls.registration().reconnector, f)
    }

    /// Makes it go on with another channel when its own has ended.
    pub(super) fn settle(&mut self, reconnector: Arc<Reconnector>) {
        self.calls.settle(reconnector);
    }

    /// Its inbox is a separate handle from now on.
    pub(super) fn part(&self) {
        if let Some(reconnector) = self.reconnector() {
            reconnector.split();
        }
    }

    /// Before the end: takes the newest channel and prevents another registration.
    fn settle_down(&mut self) {
        if let Some(reconnector) = self.reconnector() {
            reconnector.leave(CloseReason::Unregistered);
            if let Some(asking) = reconnector.take_asking() {
                self.calls.install(asking);
            }
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.settle_down();
        if !self.session().is_forked() {
            self.session().links.end(CloseReason::Unregistered);
        }
        if !self.unregistered && self.session().closer.reason().is_none() {
            // The connection ends in any case; this only makes the name free before we return.
            let _ = self.unregister_until(PATIENCE_OF_DROP.into());
        }
        // An inbox that lives on gives out what was delivered, then the reason.
        self.session().end(CloseReason::Unregistered);
    }
}
