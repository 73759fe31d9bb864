//! The calling half of a client: who it is, and how it begins, reconnects and ends.
//!
//! Its operations are in `calls`, `messages` and `questions`; `ask` has what they share.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Limits;
use super::ask::Calls;
use super::closer::Closer;
use super::error::CallError;
use super::event::ReconnectError;
use super::reconnect::{Reconnector, Stop, reconnector_of, show};
use super::session::Session;
use crate::ring::{Consumer, Deadline, Producer};
use crate::testing::failpoints::failpoint;
use crate::wire::{CloseReason, Key, Name, Operation};

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
        Caller { calls: Calls::new(requests, responses, session), timeout, unregistered: false }
    }

    /// This client's key: its address for others. Does not block.
    pub fn key(&self) -> Key {
        reconnector_of(&self.calls.session, &self.calls.reconnector)
            .map_or(self.calls.session.key, |reconnector| reconnector.newest().key)
    }

    /// This client's name. Does not block.
    pub fn name(&self) -> &Name {
        &self.calls.session.name
    }

    /// What the server's settings allow. Does not block.
    pub fn limits(&self) -> Limits {
        reconnector_of(&self.calls.session, &self.calls.reconnector)
            .map_or(self.calls.session.limits, |reconnector| reconnector.newest().limits)
    }

    /// As [`Client::closer`](super::Client::closer).
    pub fn closer(&self) -> Closer {
        Closer::new(&self.calls.session, self.calls.reconnector.as_ref())
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
        let reconnector = self.calls.reconnector.clone().ok_or(ReconnectError::NotAsked)?;
        loop {
            match self.calls.session.closer.reason().map(CloseReason::from) {
                None => return Ok(self.calls.session.key),
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
        self.unregistered = true;
        self.settle_down();
        let status = self.calls.ask_rarely::<0>(Operation::Unregister, [], deadline)?;
        failpoint!("leave.answered", [client], seldom);
        self.calls.session.closer.close_as(CloseReason::Unregistered);
        failpoint!("leave.closed", [client], seldom);
        self.calls.done(status)
    }

    /// What `{:?}` shows of it, or of the client that it is a half of.
    pub(super) fn show_as(&self, kind: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(kind, &self.calls.session, &self.calls.reconnector, f)
    }

    /// Makes it go on with another channel when its own has ended.
    pub(super) fn settle(&mut self, reconnector: Arc<Reconnector>) {
        self.calls.reconnector = Some(reconnector);
    }

    /// Its inbox is a separate handle from now on.
    pub(super) fn part(&self) {
        if let Some(reconnector) = reconnector_of(&self.calls.session, &self.calls.reconnector) {
            reconnector.split();
        }
    }

    /// Before the end: takes the newest channel and prevents another registration.
    fn settle_down(&mut self) {
        if let Some(reconnector) = reconnector_of(&self.calls.session, &self.calls.reconnector) {
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
        if !self.calls.session.is_forked() {
            self.calls.session.links.end(CloseReason::Unregistered);
        }
        if !self.unregistered && self.calls.session.closer.reason().is_none() {
            // The connection ends in any case; this only makes the name free before we return.
            let _ = self.unregister_until(PATIENCE_OF_DROP.into());
        }
        // An inbox that lives on gives out what was delivered, then the reason.
        self.calls.session.end(CloseReason::Unregistered);
    }
}
