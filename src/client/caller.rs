//! The asking half of a client.
//!
//! A [`Requester`] does the asking over the channel's rings. This adds what a request means for the server,
//! and a new channel for a client that registers again.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Limits;
use super::error::{CallError, SendError, no_response, not_sent, refused};
use super::event::ReconnectError;
use super::handle::CloseHandle;
use super::reconnect::{Asking, Half, Reconnector, Stop, reconnector_of, show};
use super::session::{Session, deadline_in};
use crate::codec::{Payload, Reply};
use crate::connect::listing::decode_page;
use crate::link::{NoRoom, Requester};
use crate::registry::{ClientInfo, Counters};
use crate::ring::{CloseReason, Consumer, Producer, SendTimeoutError, TrySendError, Violation};
use crate::testing::failpoints::failpoint;
use crate::wire::{Address, BLOCK_HEADER, KEY, Key, Name, Operation, Status, WAITS, take};

/// How long a dropped client waits for the server to confirm that it is unregistered.
const PATIENCE_OF_DROP: Duration = Duration::from_secs(1);

/// How long the answer to a message is awaited at least.
const LEAST_PATIENCE: Duration = Duration::from_millis(5);

/// The calling half of a [`Client`](super::Client): calls the service, sends messages and asks the registry.
///
/// It can be moved to another thread, and has `&mut self` throughout: one thread asks at a time. Dropping it
/// ends the registration, waiting for the server's confirmation for at most a second.
///
/// Every wait also ends when the server dies, shuts down or closes the channel, and when a
/// [close handle](Self::close_handle) is used. The [crate's page](crate#operations) has a table of the
/// operations.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, RecvError, Server};
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("bus");
/// let _server = Server::builder(&path).start()?; // echoes
/// let (mut caller, mut inbox) = Client::register(&path, "alice")?.split();
/// let receiver = std::thread::spawn(move || inbox.recv());
/// assert_eq!(caller.call(b"ping")?, b"ping"); // while the other thread waits for a message
/// drop(caller);
/// assert!(matches!(receiver.join().unwrap(), Err(RecvError::Disconnected(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Caller {
    requester: Requester,
    session: Arc<Session>,
    /// Of a client that registers again.
    reconnector: Option<Arc<Reconnector>>,
    unregistered: bool,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show_as("Caller", f)
    }
}

impl Caller {
    pub(super) fn new(requests: Producer, responses: Consumer, session: Arc<Session>) -> Caller {
        Caller {
            requester: Requester::new(requests, responses),
            session,
            reconnector: None,
            unregistered: false,
        }
    }

    /// This client's key: its address for others. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let (mut caller, _inbox) = Client::register(&path, "alice")?.split();
    /// assert_eq!(caller.look_up(&"alice".parse()?)?, Some(caller.key()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn key(&self) -> Key {
        reconnector_of(&self.session, &self.reconnector)
            .map_or(self.session.key, |reconnector| reconnector.newest().key)
    }

    /// This client's name. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let (mut caller, _inbox) = Client::register(&path, "alice")?.split();
    /// assert_eq!(caller.name().as_str(), "alice");
    /// # caller.ping()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn name(&self) -> &Name {
        &self.session.name
    }

    /// What the server's settings allow. Does not block, and asks nobody.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let (mut caller, _inbox) = Client::register(&path, "alice")?.split();
    /// let longest = vec![0; caller.limits().max_call];
    /// assert_eq!(caller.call(&longest)?, longest);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn limits(&self) -> Limits {
        reconnector_of(&self.session, &self.reconnector)
            .map_or(self.session.limits, |reconnector| reconnector.newest().limits)
    }

    /// A handle that ends a wait here from another thread, and with it the registration. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let (mut caller, _inbox) = Client::register(&path, "alice")?.split();
    /// let handle = caller.close_handle();
    /// handle.close(); // from any thread
    /// assert!(caller.call(b"ping").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close_handle(&self) -> CloseHandle {
        CloseHandle::new(&self.session, self.reconnector.as_ref())
    }

    /// As [`Client::reconnect`](super::Client::reconnect); the [`Inbox`](super::Inbox) goes on with the new
    /// connection when it has received all that came over the old one.
    ///
    /// Blocks until the client is registered or has given up; not at all if the connection stands.
    ///
    /// # Errors
    ///
    /// See [`ReconnectError`].
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, Reconnect, Server};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// let server = Server::builder(&path).start()?;
    /// let client = Client::builder(&path).reconnect(Reconnect::default()).register("alice")?;
    /// let (mut caller, inbox) = client.split();
    /// server.join_after_shutdown();
    /// let _server = Server::builder(&path).start()?;
    /// let key = caller.reconnect()?;
    /// assert_eq!((caller.key(), inbox.key()), (key, key));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reconnect(&mut self) -> Result<Key, ReconnectError> {
        self.reconnect_until(None)
    }

    /// As [`reconnect`](Self::reconnect), but blocks at most this long; 100 ms more if an attempt is on its
    /// way.
    ///
    /// # Errors
    ///
    /// Those of [`reconnect`](Self::reconnect), and [`TimedOut`](ReconnectError::TimedOut).
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, Reconnect, Server};
    /// use std::time::Duration;
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let client = Client::builder(&path).reconnect(Reconnect::default()).register("alice")?;
    /// let (mut caller, _inbox) = client.split();
    /// assert_eq!(caller.reconnect_timeout(Duration::from_secs(5))?, caller.key()); // it is connected
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reconnect_timeout(&mut self, timeout: Duration) -> Result<Key, ReconnectError> {
        self.reconnect_until(Instant::now().checked_add(timeout))
    }

    fn reconnect_until(&mut self, deadline: Option<Instant>) -> Result<Key, ReconnectError> {
        let reconnector = self.reconnector.clone().ok_or(ReconnectError::NotAsked)?;
        loop {
            match self.session.closer.reason() {
                None => return Ok(self.session.key),
                Some(CloseReason::Forked) => return Err(ReconnectError::Ended(CloseReason::Forked)),
                Some(_) => {}
            }
            match reconnector.renew_caller(true, deadline) {
                Ok(asking) => self.install(asking),
                Err(Stop::TimedOut) => return Err(ReconnectError::TimedOut),
                Err(Stop::Over(why)) => return Err(why),
                Err(Stop::Tell(reason)) => return Err(ReconnectError::Ended(reason)),
            }
        }
    }

    // ---- calls

    /// Calls the server's service and waits for its response, which stays readable until the next operation.
    ///
    /// Blocks until the response is there, and before that, if submitted calls fill the request ring, until
    /// there is room. Responses to calls that were [submitted](Self::submit) before come first and are
    /// kept.
    ///
    /// # Errors
    ///
    /// - [`TooLarge`](CallError::TooLarge), [`NotSent`](CallError::NotSent): the service did not see the
    ///   request.
    /// - [`ServiceFailed`](CallError::ServiceFailed), [`ResponseTooLarge`](CallError::ResponseTooLarge): it
    ///   did, and has no response.
    /// - [`Disconnected`](CallError::Disconnected): the channel was closed during the wait; the request may
    ///   have been executed.
    /// - [`Uncollected`](CallError::Uncollected): there is no room for the request, and 65,536 responses to
    ///   submitted calls are kept.
    /// - [`Server`](CallError::Server), [`Violation`](CallError::Violation): the server could not do it, or
    ///   broke a rule.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let (mut caller, _inbox) = Client::register(&path, "alice")?.split();
    /// let response = caller.call(b"ping")?; // to a service that echoes
    /// assert_eq!(response, b"ping");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn call(&mut self, request: impl Payload) -> Result<Reply<'_>, CallError> {
        request.encode(self.session.limits.max_call, |bytes| self.call_until(bytes, None))?
    }

    /// As [`call`](Self::call), but blocks at most this long. A time that the clock cannot hold is no limit.
    ///
    /// # Errors
    ///
    /// Those of [`call`](Self::call), and [`TimedOut`](CallError::TimedOut): the request may have been
    /// executed, or may yet be. Its response is discarded when it comes, and the client can be used as
    /// before.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let (mut caller, _inbox) = Client::register(&path, "alice")?.split();
    /// assert_eq!(caller.call_timeout(b"ping", Duration::from_secs(5))?, b"ping");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn call_timeout(&mut self, request: impl Payload, timeout: Duration) -> Result<Reply<'_>, CallError> {
        let deadline = Instant::now().checked_add(timeout);
        request.encode(self.session.limits.max_call, |bytes| self.call_until(bytes, deadline))?
    }

    /// As [`call`](Self::call), but blocks until the deadline at most. For several operations that share one.
    ///
    /// # Errors
    ///
    /// Those of [`call_timeout`](Self::call_timeout).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let (mut caller, _inbox) = Client::register(&path, "alice")?.split();
    /// let deadline = Instant::now() + Duration::from_secs(5);
    /// let first = caller.call_deadline(b"first", deadline)?.to_vec();
    /// let second = caller.call_deadline(b"second", deadline)?;
    /// assert_eq!((&first[..], second.payload()), (&b"first"[..], &b"second"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn call_deadline(
        &mut self,
        request: impl Payload,
        deadline: Instant,
    ) -> Result<Reply<'_>, CallError> {
        request.encode(self.session.limits.max_call, |bytes| self.call_until(bytes, Some(deadline)))?
    }

    #[inline]
    fn call_until(&mut self, request: &[u8], deadline: Option<Instant>) -> Result<Reply<'_>, CallError> {
        match self.ask(Operation::Call, 0, [request], deadline)? {
            Status::Ok => Ok(Reply::new(self.requester.body())),
            status => Err(refused(status, self.requester.body())),
        }
    }

    // ---- pipelined calls

    /// Sends a call without waiting for its response: collect it with [`response`](Self::response). Several
    /// calls may be outstanding; responses come in their order.
    ///
    /// Blocks only if the server is behind and the request ring is full, until there is room. Responses that
    /// arrive meanwhile are kept.
    ///
    /// # Errors
    ///
    /// [`CallError::Uncollected`] if there is no room and 65,536 responses are kept already;
    /// [`TooLarge`](CallError::TooLarge) or [`NotSent`](CallError::NotSent);
    /// [`Disconnected`](CallError::Disconnected) if the channel is closed while it waits for room. In all
    /// these cases this call was not sent.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let (mut caller, _inbox) = Client::register(&path, "alice")?.split();
    /// caller.submit(b"one")?;
    /// caller.submit(b"two")?;
    /// assert_eq!(caller.outstanding(), 2);
    /// assert_eq!(caller.response()?, b"one");
    /// assert_eq!(caller.response()?, b"two");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn submit(&mut self, request: impl Payload) -> Result<(), CallError> {
        request.encode(self.session.limits.max_call, |bytes| self.submit_quietly(bytes, None))??;
        self.requester.notify();
        Ok(())
    }

    /// Sends several calls, as [`submit`](Self::submit) sends one, and blocks as it does. It costs less than
    /// as many of those.
    ///
    /// Each call is on its way before the iterator is asked for the next: the iterator may wait for what an
    /// earlier call does. If it panics, the calls before are submitted.
    ///
    /// # Errors
    ///
    /// Those of [`submit`](Self::submit). The calls before the one that failed were submitted;
    /// [`outstanding`](Self::outstanding) tells how many.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let (mut caller, _inbox) = Client::register(&path, "alice")?.split();
    /// let requests: [&[u8]; 3] = [b"one", b"two", b"three"];
    /// caller.submit_all(requests)?;
    /// for request in requests {
    ///     assert_eq!(caller.response()?, request);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn submit_all<P: Payload>(&mut self, requests: impl IntoIterator<Item = P>) -> Result<(), CallError> {
        // Declared before the guard, and so dropped after it: its drop is the user's code too.
        let mut requests = requests.into_iter();
        let submitting = Submitting(self);
        loop {
            submitting.0.wake_worker();
            let Some(request) = requests.next() else { return Ok(()) };
            let max = submitting.0.session.limits.max_call;
            request.encode(max, |bytes| submitting.0.submit_quietly(bytes, None))??;
        }
    }

    /// Wakes the worker, if it sleeps and has not been told of all requests. Owed before this thread leaves
    /// or runs the user's code, which may wait for what a request does.
    #[inline]
    fn wake_worker(&mut self) {
        // That code may have forked, and this be the child: the ring goes on without it.
        if !self.session.is_forked() {
            self.requester.notify();
        }
    }

    /// The response to the oldest call submitted. It stays readable until the next operation.
    ///
    /// Blocks until it is there; not at all if it was kept already.
    ///
    /// # Errors
    ///
    /// [`NothingOutstanding`](CallError::NothingOutstanding) if every response was collected. Else those of
    /// [`call`](Self::call): with [`ServiceFailed`](CallError::ServiceFailed) and
    /// [`ResponseTooLarge`](CallError::ResponseTooLarge) this response is collected.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::CallError;
    ///
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let (mut caller, _inbox) = Client::register(&path, "alice")?.split();
    /// caller.submit(b"ping")?;
    /// assert_eq!(caller.response()?, b"ping");
    /// assert!(matches!(caller.response(), Err(CallError::NothingOutstanding)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn response(&mut self) -> Result<Reply<'_>, CallError> {
        self.response_until(None)
    }

    /// As [`response`](Self::response), but blocks at most this long.
    ///
    /// # Errors
    ///
    /// Those of [`response`](Self::response), and [`TimedOut`](CallError::TimedOut): the response is still
    /// outstanding, ask again.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let (mut caller, _inbox) = Client::register(&path, "alice")?.split();
    /// caller.submit(b"ping")?;
    /// assert_eq!(caller.response_timeout(Duration::from_secs(5))?, b"ping");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn response_timeout(&mut self, timeout: Duration) -> Result<Reply<'_>, CallError> {
        self.response_until(Instant::now().checked_add(timeout))
    }

    /// Calls submitted whose responses were not collected yet. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let (mut caller, _inbox) = Client::register(&path, "alice")?.split();
    /// caller.submit(b"ping")?;
    /// assert_eq!(caller.outstanding(), 1);
    /// caller.response()?;
    /// assert_eq!(caller.outstanding(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn outstanding(&self) -> usize {
        self.requester.outstanding()
    }

    fn submit_quietly(&mut self, request: &[u8], deadline: Option<Instant>) -> Result<(), CallError> {
        self.publish(Operation::Call, 0, [request], deadline)?;
        Ok(())
    }

    fn response_until(&mut self, deadline: Option<Instant>) -> Result<Reply<'_>, CallError> {
        if self.outstanding() == 0 {
            return Err(CallError::NothingOutstanding);
        }
        // Even what has arrived is a parent's: the process that asked gets the response.
        if self.requester.has_kept() && self.session.is_forked() {
            return Err(CallError::Disconnected(CloseReason::Forked));
        }
        let status = match self.requester.take_kept() {
            Some(kept) => kept.map_err(CallError::Disconnected)?,
            None => match self.requester.receive(deadline, no_response) {
                Ok(status) => status,
                Err(error) => {
                    self.ended(&error, true);
                    return Err(error);
                }
            },
        };
        match status {
            Status::Ok => Ok(Reply::new(self.requester.body())),
            status => Err(refused(status, self.requester.body())),
        }
    }

    // ---- messages

    /// Sends a message to the client with this key. `Ok` means that it is in that client's inbox, behind all
    /// that this client sent there before. It does not mean that it was read: it is lost with a receiver
    /// that dies, leaves or drops its inbox before that. Where that matters, let the receiver answer.
    ///
    /// Blocks until the server answers, which it does at once: a full inbox is an error.
    ///
    /// # Errors
    ///
    /// - [`UnknownKey`](SendError::UnknownKey), [`InboxFull`](SendError::InboxFull),
    ///   [`Gone`](SendError::Gone), [`TooLarge`](SendError::TooLarge), [`NotSent`](SendError::NotSent),
    ///   [`ShuttingDown`](SendError::ShuttingDown): the message was not delivered.
    /// - [`Disconnected`](SendError::Disconnected): the channel was closed before the answer came; it may
    ///   have been delivered.
    /// - [`Server`](SendError::Server), [`Violation`](SendError::Violation): the server could not do it, or
    ///   broke a rule.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::SendError;
    ///
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let (mut caller, _inbox) = Client::register(&path, "alice")?.split();
    /// # let mut bob = Client::register(&path, "bob")?;
    /// caller.send(bob.key(), b"hello")?;
    /// assert_eq!(bob.recv()?.payload(), b"hello");
    /// let key = bob.key();
    /// bob.unregister()?;
    /// assert_eq!(caller.send(key, b"hello?"), Err(SendError::UnknownKey)); // a key is never given twice
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send(&mut self, to: Key, message: impl Payload) -> Result<(), SendError> {
        message.encode(self.session.limits.max_message, |bytes| self.send_bytes(to, bytes))?
    }

    fn send_bytes(&mut self, to: Key, message: &[u8]) -> Result<(), SendError> {
        self.check_message(message)?;
        let status = self.ask(Operation::Send, 0, [&to.to_bytes(), message], None)?;
        self.sent(status)
    }

    /// As [`send`](Self::send), but blocks for room in the receiver's inbox, at most this long. Senders that
    /// wait are served in their order, but for those whose message fits where that of an earlier one does
    /// not. What is said of the deadline at [`send_deadline`](Self::send_deadline) holds here, too.
    ///
    /// # Errors
    ///
    /// Those of [`send_deadline`](Self::send_deadline).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let (mut caller, _inbox) = Client::register(&path, "alice")?.split();
    /// # let mut bob = Client::register(&path, "bob")?;
    /// caller.send_timeout(bob.key(), b"hello", Duration::from_secs(5))?;
    /// assert_eq!(bob.recv()?.payload(), b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_timeout(
        &mut self,
        to: Key,
        message: impl Payload,
        timeout: Duration,
    ) -> Result<(), SendError> {
        self.send_deadline(to, message, deadline_in(timeout))
    }

    /// As [`send`](Self::send), but blocks for room in the receiver's inbox, until the deadline at most.
    /// Senders that wait are served in their order.
    ///
    /// The server gives up a little before the deadline, by an eighth of the time but at most 10 ms, so that
    /// its answer still arrives. The answer is awaited for 5 ms in any case, even if the deadline is
    /// nearer or past.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send), with these in place of `InboxFull`:
    ///
    /// - [`TimedOut`](SendError::TimedOut): there was no room; the message was not delivered.
    /// - [`NoAnswer`](SendError::NoAnswer): the server did not answer; the message may have been delivered.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::SendError;
    /// use std::time::{Duration, Instant};
    ///
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let (mut caller, _inbox) = Client::register(&path, "alice")?.split();
    /// # let bob = Client::register(&path, "bob")?;
    /// let large = vec![0; caller.limits().max_message];
    /// let deadline = Instant::now() + Duration::from_millis(50);
    /// let error = loop {
    ///     match caller.send_deadline(bob.key(), &large, deadline) {
    ///         Ok(()) => {} // bob does not receive, so his inbox fills
    ///         Err(error) => break error,
    ///     }
    /// };
    /// assert!(matches!(error, SendError::TimedOut | SendError::NoAnswer));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_deadline(
        &mut self,
        to: Key,
        message: impl Payload,
        deadline: Instant,
    ) -> Result<(), SendError> {
        message.encode(self.session.limits.max_message, |bytes| self.send_until(to, bytes, deadline))?
    }

    fn send_until(&mut self, to: Key, message: &[u8], deadline: Instant) -> Result<(), SendError> {
        self.check_message(message)?;
        let (sequence, now) = loop {
            let now = Instant::now();
            let left = deadline.saturating_duration_since(now);
            // The server is to give up a little before us, so that we hear whether the message was delivered.
            let patience = left - (left / 8).min(Duration::from_millis(10));
            let nanoseconds = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
            let parts = [&to.to_bytes()[..], &nanoseconds.to_le_bytes(), message];
            match self.requester.try_publish(Operation::Send, WAITS, parts) {
                Ok(sequence) => break (sequence, now),
                // That may take its time, and leave the server less.
                Err(error) => self.clear_the_way(error, Some(deadline)).map_err(|error| match error {
                    CallError::TimedOut => SendError::TimedOut,
                    error => error.into(),
                })?,
            }
        };
        // However short the time is, the answer itself needs some.
        let deadline = deadline.max(now + LEAST_PATIENCE);
        let status = self.await_answer_to(sequence, Some(deadline))?;
        self.sent(status)
    }

    fn check_message(&self, message: &[u8]) -> Result<(), SendError> {
        let max = self.session.limits.max_message;
        if message.len() > max {
            return Err(SendError::TooLarge { len: message.len(), max });
        }
        Ok(())
    }

    fn sent(&self, status: Status) -> Result<(), SendError> {
        Err(match status {
            Status::Ok => return Ok(()),
            Status::NotFound => SendError::UnknownKey,
            Status::InboxFull => SendError::InboxFull,
            Status::Gone => SendError::Gone,
            Status::TimedOut => SendError::TimedOut,
            status => refused(status, self.requester.body()).into(),
        })
    }

    // ---- the registry

    /// The key of the client that is registered under this name now, if there is one.
    ///
    /// Blocks until the server answers.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; asking again does no harm.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::Name;
    ///
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let (mut caller, _inbox) = Client::register(&path, "alice")?.split();
    /// # let bob = Client::register(&path, "bob")?;
    /// assert_eq!(caller.look_up(&Name::new("bob")?)?, Some(bob.key()));
    /// assert_eq!(caller.look_up(&Name::new("nobody")?)?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn look_up(&mut self, name: &Name) -> Result<Option<Key>, CallError> {
        self.look_up_until(name, None)
    }

    /// As [`look_up`](Self::look_up), but blocks at most this long.
    ///
    /// # Errors
    ///
    /// Those of [`look_up`](Self::look_up), and [`TimedOut`](CallError::TimedOut).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let (mut caller, _inbox) = Client::register(&path, "alice")?.split();
    /// let own = caller.look_up_timeout(&"alice".parse()?, Duration::from_secs(5))?;
    /// assert_eq!(own, Some(caller.key()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn look_up_timeout(&mut self, name: &Name, timeout: Duration) -> Result<Option<Key>, CallError> {
        self.look_up_until(name, Instant::now().checked_add(timeout))
    }

    fn look_up_until(&mut self, name: &Name, deadline: Option<Instant>) -> Result<Option<Key>, CallError> {
        match self.ask(Operation::LookUp, 0, [name.as_bytes()], deadline)? {
            Status::Ok => match take::<KEY>(self.requester.body()) {
                Some((key, [])) => Ok(Some(Key::from_bytes(key))),
                _ => Err(self.violation(Violation::MalformedBlock)),
            },
            Status::NotFound => Ok(None),
            status => Err(refused(status, self.requester.body())),
        }
    }

    /// The key that an address stands for: itself, or that of the client with this name.
    ///
    /// Blocks until the server answers if the address is a name; a key is given back as it is, whether or not
    /// anybody has it.
    ///
    /// # Errors
    ///
    /// Those of [`look_up`](Self::look_up).
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::Address;
    ///
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let (mut caller, _inbox) = Client::register(&path, "alice")?.split();
    /// let typed: Address = "alice".parse()?; // a name or a key, as people type it
    /// assert_eq!(caller.resolve(&typed)?, Some(caller.key()));
    /// assert_eq!(caller.resolve(&caller.key().to_string().parse()?)?, Some(caller.key()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resolve(&mut self, address: &Address) -> Result<Option<Key>, CallError> {
        match address {
            Address::Key(key) => Ok(Some(*key)),
            Address::Name(name) => self.look_up(name),
        }
    }

    /// As [`resolve`](Self::resolve), but blocks at most this long.
    ///
    /// # Errors
    ///
    /// Those of [`look_up_timeout`](Self::look_up_timeout).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let (mut caller, _inbox) = Client::register(&path, "alice")?.split();
    /// let nobody = caller.resolve_timeout(&"nobody".parse()?, Duration::from_secs(5))?;
    /// assert_eq!(nobody, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resolve_timeout(
        &mut self,
        address: &Address,
        timeout: Duration,
    ) -> Result<Option<Key>, CallError> {
        match address {
            Address::Key(key) => Ok(Some(*key)),
            Address::Name(name) => self.look_up_timeout(name, timeout),
        }
    }

    /// Who is registered now. Clients that come or go while the pages of a long list are fetched may or may
    /// not be in it.
    ///
    /// Blocks until the server has answered for each page.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; asking again does no harm.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let (mut caller, _inbox) = Client::register(&path, "alice")?.split();
    /// # let _bob = Client::register(&path, "bob")?;
    /// for client in caller.list()? {
    ///     println!("{} is {}, of process {}", client.name, client.key, client.pid);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn list(&mut self) -> Result<Vec<ClientInfo>, CallError> {
        self.list_until(None)
    }

    /// As [`list`](Self::list), but blocks at most this long, for all pages together.
    ///
    /// # Errors
    ///
    /// Those of [`list`](Self::list), and [`TimedOut`](CallError::TimedOut).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let (mut caller, _inbox) = Client::register(&path, "alice")?.split();
    /// assert_eq!(caller.list_timeout(Duration::from_secs(5))?.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn list_timeout(&mut self, timeout: Duration) -> Result<Vec<ClientInfo>, CallError> {
        self.list_until(Instant::now().checked_add(timeout))
    }

    fn list_until(&mut self, deadline: Option<Instant>) -> Result<Vec<ClientInfo>, CallError> {
        let mut clients = Vec::new();
        let mut from_slot = 0_u32;
        loop {
            let status = self.ask(Operation::List, 0, [&from_slot.to_le_bytes()[..]], deadline)?;
            if status != Status::Ok {
                return Err(refused(status, self.requester.body()));
            }
            let Some((page, next)) = decode_page(self.requester.body(), from_slot) else {
                return Err(self.violation(Violation::MalformedBlock));
            };
            clients.extend(page);
            match next {
                None => return Ok(clients),
                Some(next) => from_slot = next,
            }
        }
    }

    /// Asks the server whether it serves. Blocks until it answers; the service is not involved.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let (mut caller, _inbox) = Client::register(&path, "alice")?.split();
    /// caller.ping()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ping(&mut self) -> Result<(), CallError> {
        self.ping_until(None)
    }

    /// As [`ping`](Self::ping), but blocks at most this long.
    ///
    /// # Errors
    ///
    /// Those of [`ping`](Self::ping), and [`TimedOut`](CallError::TimedOut): the server is stopped, or this
    /// client's worker is busy with an earlier request.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let (mut caller, _inbox) = Client::register(&path, "alice")?.split();
    /// caller.ping_timeout(Duration::from_secs(5))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ping_timeout(&mut self, timeout: Duration) -> Result<(), CallError> {
        self.ping_until(Instant::now().checked_add(timeout))
    }

    fn ping_until(&mut self, deadline: Option<Instant>) -> Result<(), CallError> {
        match self.ask::<0>(Operation::Ping, 0, [], deadline)? {
            Status::Ok => Ok(()),
            status => Err(refused(status, self.requester.body())),
        }
    }

    /// What the server counted for this client. Blocks until it answers.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; asking again does no harm.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let (mut caller, _inbox) = Client::register(&path, "alice")?.split();
    /// caller.call(b"ping")?;
    /// assert_eq!(caller.statistics()?.calls, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn statistics(&mut self) -> Result<Counters, CallError> {
        self.statistics_until(None)
    }

    /// As [`statistics`](Self::statistics), but blocks at most this long.
    ///
    /// # Errors
    ///
    /// Those of [`statistics`](Self::statistics), and [`TimedOut`](CallError::TimedOut).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let (mut caller, _inbox) = Client::register(&path, "alice")?.split();
    /// assert_eq!(caller.statistics_timeout(Duration::from_secs(5))?.calls, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn statistics_timeout(&mut self, timeout: Duration) -> Result<Counters, CallError> {
        self.statistics_until(Instant::now().checked_add(timeout))
    }

    fn statistics_until(&mut self, deadline: Option<Instant>) -> Result<Counters, CallError> {
        let status = self.ask::<0>(Operation::Statistics, 0, [], deadline)?;
        if status != Status::Ok {
            return Err(refused(status, self.requester.body()));
        }
        match decode_page(self.requester.body(), 0) {
            Some((own, None)) if own.len() == 1 => Ok(own[0].counters),
            _ => Err(self.violation(Violation::MalformedBlock)),
        }
    }

    /// Leaves the bus. When this returns `Ok`, the name is free. Messages that were committed before can
    /// still be received by the [`Inbox`](super::Inbox); responses that were not collected are lost.
    ///
    /// Blocks until the server confirms it, behind all requests that are on their way.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. The registration ends in any case; only the time at which the name becomes free is
    /// not known then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let (caller, _inbox) = Client::register(&path, "alice")?.split();
    /// caller.unregister()?;
    /// let _again = Client::register(&path, "alice")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unregister(mut self) -> Result<(), CallError> {
        self.unregister_until(None)
    }

    /// As [`unregister`](Self::unregister), but blocks at most this long for the server's confirmation. The
    /// registration ends in any case.
    ///
    /// # Errors
    ///
    /// Those of [`unregister`](Self::unregister), and [`TimedOut`](CallError::TimedOut).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let (caller, _inbox) = Client::register(&path, "alice")?.split();
    /// caller.unregister_timeout(Duration::from_secs(1))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unregister_timeout(mut self, timeout: Duration) -> Result<(), CallError> {
        self.unregister_until(Instant::now().checked_add(timeout))
    }

    fn unregister_until(&mut self, deadline: Option<Instant>) -> Result<(), CallError> {
        self.unregistered = true;
        self.settle_down();
        let status = self.ask::<0>(Operation::Unregister, 0, [], deadline)?;
        failpoint!("leave.answered");
        self.session.closer.close_as(CloseReason::Unregistered);
        failpoint!("leave.closed");
        match status {
            Status::Ok => Ok(()),
            status => Err(refused(status, self.requester.body())),
        }
    }

    // ---- one request, one response

    /// One request and its response, whose body the requester holds then.
    #[inline]
    fn ask<const N: usize>(
        &mut self,
        operation: Operation,
        flags: u16,
        body: [&[u8]; N],
        deadline: Option<Instant>,
    ) -> Result<Status, CallError> {
        let sequence = self.publish(operation, flags, body, deadline)?;
        self.await_answer_to(sequence, deadline)
    }

    /// The response to the request that was published last.
    #[inline(always)]
    fn await_answer_to(&mut self, sequence: u32, deadline: Option<Instant>) -> Result<Status, CallError> {
        match self.requester.await_response(sequence, deadline, no_response) {
            Ok(status) => Ok(status),
            Err(error) => {
                self.ended(&error, false);
                Err(error)
            }
        }
    }

    /// A wait for a response failed. If a client that registers again lost its channel, the outstanding calls
    /// end; the oldest of them is told by this error if it was the one being collected.
    #[cold]
    fn ended(&mut self, error: &CallError, collecting: bool) {
        if let CallError::Disconnected(reason) = *error
            && reason != CloseReason::Forked
            && let Some(reconnector) = &self.reconnector
        {
            self.requester.end_outstanding(reason);
            if collecting {
                let _ = self.requester.take_kept();
            }
            // Last, because this runs the user's code, which may panic.
            reconnector.tell(Half::Caller, &self.session, reason);
        }
    }

    /// Commits a request and gives it a number. The server may still have to be woken.
    #[inline(always)]
    fn publish<const N: usize>(
        &mut self,
        operation: Operation,
        flags: u16,
        body: [&[u8]; N],
        deadline: Option<Instant>,
    ) -> Result<u32, CallError> {
        match self.requester.try_publish(operation, flags, body) {
            Ok(sequence) => Ok(sequence),
            Err(error) => self.publish_after(error, operation, flags, body, deadline),
        }
    }

    /// The channel has ended, and a request was not sent: goes on with another one, if this client registers
    /// again.
    #[cold]
    fn renew(&mut self, reason: CloseReason, deadline: Option<Instant>) -> Result<(), CallError> {
        let ended = |reason| Err(not_sent(SendTimeoutError::Disconnected(reason)));
        match &self.reconnector {
            Some(reconnector) if reason != CloseReason::Forked => {
                match reconnector.renew_caller(false, deadline) {
                    Ok(asking) => {
                        self.install(asking);
                        Ok(())
                    }
                    Err(stop) => stop.reason(reason).map_or(Err(CallError::TimedOut), ended),
                }
            }
            _ => ended(reason),
        }
    }

    /// Goes on with another channel. What came over the old one stays to be collected.
    #[cold]
    fn install(&mut self, (requests, responses, session): Asking) {
        let reason = self.session.closer.reason().unwrap_or(CloseReason::Died);
        self.requester.resume(reason, requests, responses);
        self.session = session;
    }

    /// After a first attempt that failed: waits for room, or goes on with another channel, if that is what
    /// was missing.
    #[cold]
    fn publish_after<const N: usize>(
        &mut self,
        mut error: TrySendError,
        operation: Operation,
        flags: u16,
        body: [&[u8]; N],
        deadline: Option<Instant>,
    ) -> Result<u32, CallError> {
        loop {
            self.clear_the_way(error, deadline)?;
            match self.requester.try_publish(operation, flags, body) {
                Ok(sequence) => return Ok(sequence),
                Err(again) => error = again,
            }
        }
    }

    /// A request could not be published: does what it takes to try once more, if there is something.
    #[cold]
    fn clear_the_way(&mut self, error: TrySendError, deadline: Option<Instant>) -> Result<(), CallError> {
        match error {
            TrySendError::Full => self.make_room(deadline),
            TrySendError::TooLarge { len, max } => {
                let (len, max) = (len - BLOCK_HEADER, max - BLOCK_HEADER);
                Err(CallError::TooLarge { len, max })
            }
            TrySendError::Disconnected(reason) => self.renew(reason, deadline),
            TrySendError::Violation(violation) => Err(CallError::Violation(violation)),
        }
    }

    #[cold]
    fn make_room(&mut self, deadline: Option<Instant>) -> Result<(), CallError> {
        match self.requester.make_room(deadline) {
            Ok(()) => Ok(()),
            Err(NoRoom::Uncollected { most }) => Err(CallError::Uncollected { most }),
            Err(NoRoom::Stopped(stop)) => {
                let error = no_response(stop);
                self.ended(&error, false);
                Err(error)
            }
        }
    }

    /// What `{:?}` shows of it, or of the client that it is a half of.
    pub(super) fn show_as(&self, kind: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(kind, &self.session, &self.reconnector, f)
    }

    /// From now on it goes on with another channel when its own has ended.
    pub(super) fn settle(&mut self, reconnector: Arc<Reconnector>) {
        self.reconnector = Some(reconnector);
    }

    /// From now on its inbox is a handle by itself.
    pub(super) fn part(&self) {
        if let Some(reconnector) = reconnector_of(&self.session, &self.reconnector) {
            reconnector.split();
        }
    }

    /// Before the end: takes the newest channel, and there will be no other one.
    fn settle_down(&mut self) {
        if let Some(reconnector) = reconnector_of(&self.session, &self.reconnector) {
            reconnector.leave(CloseReason::Unregistered);
            if let Some(asking) = reconnector.take_asking() {
                self.install(asking);
            }
        }
    }

    #[cold]
    fn violation(&mut self, violation: Violation) -> CallError {
        CallError::Violation(self.requester.reject(violation))
    }
}

/// A caller that submits several calls. However that ends, by a panic of the user's iterator too, the worker
/// is told of all that were committed.
struct Submitting<'c>(&'c mut Caller);

impl Drop for Submitting<'_> {
    fn drop(&mut self) {
        self.0.wake_worker();
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.settle_down();
        if !self.unregistered && self.session.closer.reason().is_none() {
            // The connection ends in any case; this only makes the name free before we return.
            let _ = self.unregister_until(Some(Instant::now() + PATIENCE_OF_DROP));
        }
        // An inbox that lives on gives out what was committed, then the reason.
        self.session.end(CloseReason::Unregistered);
    }
}
