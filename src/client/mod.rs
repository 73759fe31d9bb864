//! The client: registers, calls, sends, receives, unregisters.

mod backoff;
mod builder;
mod caller;
mod error;
mod event;
#[cfg(fuzzing)]
pub(crate) mod fuzz;
mod handle;
mod inbox;
#[cfg(feature = "internals")]
pub(crate) mod internals;
mod observer;
mod reconnect;
mod session;
mod watcher;

pub use backoff::Reconnect;
pub use builder::ClientBuilder;
pub use caller::Caller;
pub use error::{CallError, RegisterError, SendError};
pub use event::{ReconnectError, ReconnectEvent};
pub use handle::CloseHandle;
pub use inbox::{Inbox, Message};
pub use observer::Observer;

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::codec::{Payload, Reply};
use crate::registry::{ClientInfo, Counters};
use crate::ring::{RecvError, RecvTimeoutError, TryRecvError};
use crate::wire::{Address, Key, Name};

/// What a server's settings allow its clients: [`Client::limits`].
///
/// # Examples
///
/// ```
/// # use ringpost::{Client, Server};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("bus");
/// # let _server = Server::builder(&path).start()?;
/// # let mut client = Client::register(&path, "alice")?;
/// let limits = client.limits();
/// assert_eq!(limits.ring_size, 256 * 1024); // unless the server says otherwise
/// assert_eq!((limits.max_call, limits.max_message), (131_056, 130_976));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The most bytes of a call, and of its response.
    pub max_call: usize,
    /// The most bytes of a message to another client.
    pub max_message: usize,
    /// Bytes of each of the client's rings. The inbox ring bounds how many messages can wait to be received.
    pub ring_size: usize,
}

/// A registered client.
///
/// It is one [`Caller`] and one [`Inbox`]; [`split`](Self::split) gives them to two threads. Dropping it
/// unregisters.
///
/// | operation | waits for | at most |
/// | --- | --- | --- |
/// | [`call`](Self::call) | the service's response | for ever; `_timeout`, `_deadline` |
/// | [`send`](Self::send) | the server's acknowledgement | for ever; a full inbox is an error at once |
/// | [`send_timeout`](Self::send_timeout), [`send_deadline`](Self::send_deadline) | room in the inbox as well | the time given |
/// | [`submit`](Self::submit) | room in the request ring | for ever |
/// | [`response`](Self::response) | the next response | for ever; `_timeout` |
/// | [`recv`](Self::recv) | a message | for ever; `_timeout`, `_deadline` |
/// | [`try_recv`](Self::try_recv) | nothing | |
/// | [`look_up`](Self::look_up), [`resolve`](Self::resolve), [`list`](Self::list), [`ping`](Self::ping), [`statistics`](Self::statistics) | the server's response | for ever; `_timeout` |
/// | [`unregister`](Self::unregister) | the server's confirmation | for ever; `_timeout` |
///
/// Every wait also ends when the server dies, shuts down or closes the channel, and when the
/// [close handle](Self::close_handle) is used. Payloads are bytes, or values; see [`codec`](crate::codec).
///
/// # Examples
///
/// ```
/// use ringpost::{Client, Server};
/// use std::time::Duration;
///
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("bus");
/// let _server = Server::builder(&path).start()?; // usually in another process
///
/// let mut alice = Client::register(&path, "alice")?;
/// let mut bob = Client::register(&path, "bob")?;
/// assert_eq!(alice.call(b"ping")?, b"ping"); // the default service echoes
/// alice.send(bob.key(), b"hello")?; // in bob's inbox, or an error that says why
/// let message = bob.recv_timeout(Duration::from_secs(1))?;
/// assert_eq!(message.from(), alice.key());
/// assert_eq!(message.payload(), b"hello");
/// alice.unregister()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Client {
    caller: Caller,
    inbox: Inbox,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.caller.show_as("Client", f)
    }
}

impl Client {
    /// Registers under a name with the server at a path, with default settings. The first registration in a
    /// process also starts the thread that watches for the death of servers.
    ///
    /// Blocks until the server answers, five seconds at most; see [`builder`](Self::builder) for another
    /// time.
    ///
    /// # Errors
    ///
    /// See [`RegisterError`]: the name cannot be or is taken, there is no server or it does not let this
    /// process in, it is full, or it does not answer.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, RegisterError, Server};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// let _server = Server::builder(&path).start()?;
    /// let alice = Client::register(&path, "alice")?;
    /// println!("alice has the key {}", alice.key());
    /// assert!(matches!(Client::register(&path, "alice"), Err(RegisterError::NameTaken { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn register(path: impl Into<PathBuf>, name: impl AsRef<str>) -> Result<Client, RegisterError> {
        Client::builder(path).register(name)
    }

    /// Begins to set up a client of the server at a path; see [`default_path`](crate::default_path). Does not
    /// block: nothing is connected yet.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, WaitStrategy};
    /// use std::time::Duration;
    ///
    /// # use ringpost::Server;
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let client = Client::builder(&path)
    ///     .wait(WaitStrategy::Park)
    ///     .timeout(Duration::from_secs(1))
    ///     .register("alice")?;
    /// assert_eq!(client.name().as_str(), "alice");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder(path: impl Into<PathBuf>) -> ClientBuilder {
        ClientBuilder::new(path.into())
    }

    /// The two halves, for two threads. The registration ends when the caller is dropped; the inbox then
    /// gives out what was committed before. An [`Inbox`] that is dropped first is given up: messages to
    /// this client are refused as [`Gone`](SendError::Gone), and what lay in it is lost. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let alice = Client::register(&path, "alice")?;
    /// let own = alice.key();
    /// let (mut caller, mut inbox) = alice.split();
    /// let receiver = std::thread::spawn(move || inbox.recv());
    /// caller.send(own, b"a note to myself")?;
    /// assert_eq!(receiver.join().unwrap()?.payload(), b"a note to myself");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn split(self) -> (Caller, Inbox) {
        self.caller.part();
        (self.caller, self.inbox)
    }

    /// This client's key: its address for others. Not a secret. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// # let mut client = Client::register(&path, "alice")?;
    /// println!("send to {}", client.key());
    /// # client.ping()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn key(&self) -> Key {
        self.caller.key()
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
    /// # let mut client = Client::register(&path, "alice")?;
    /// assert_eq!(client.name().as_str(), "alice");
    /// # client.ping()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn name(&self) -> &Name {
        self.caller.name()
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
    /// # let mut client = Client::register(&path, "alice")?;
    /// let longest = vec![0; client.limits().max_call];
    /// assert_eq!(client.call(&longest)?, longest);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn limits(&self) -> Limits {
        self.caller.limits()
    }

    /// A handle that ends this client's waits from another thread, with `Disconnected`, and with it the
    /// registration. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{CloseReason, RecvError};
    ///
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// # let mut client = Client::register(&path, "alice")?;
    /// let handle = client.close_handle();
    /// let waiting = std::thread::spawn(move || client.recv());
    /// handle.close();
    /// assert_eq!(waiting.join().unwrap(), Err(RecvError::Disconnected(CloseReason::Local)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close_handle(&self) -> CloseHandle {
        self.caller.close_handle()
    }

    /// Registers again now if the connection has ended, as the next operation would: for a client with
    /// [`ClientBuilder::reconnect`]. Returns its key, which is a new one then. Messages that lie in the inbox
    /// are still received first.
    ///
    /// Blocks until it is registered or has given up; not at all if the connection stands.
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
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// let server = Server::builder(&path).start()?;
    /// let reconnect = Reconnect::default().within(Duration::from_millis(50));
    /// let mut client = Client::builder(&path).reconnect(reconnect).register("alice")?;
    /// assert_eq!(client.reconnect()?, client.key());
    /// server.join_after_shutdown();
    /// match client.reconnect() {
    ///     Err(ReconnectError::GaveUp { attempts, error }) => println!("{attempts} attempts: {error}"),
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reconnect(&mut self) -> Result<Key, ReconnectError> {
        self.caller.reconnect()
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
    /// use ringpost::{Client, Reconnect, ReconnectError, Server};
    /// use std::time::Duration;
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// let server = Server::builder(&path).start()?;
    /// let mut client = Client::builder(&path).reconnect(Reconnect::default()).register("alice")?;
    /// server.join_after_shutdown();
    /// let soon = client.reconnect_timeout(Duration::from_millis(50));
    /// assert!(matches!(soon, Err(ReconnectError::TimedOut)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reconnect_timeout(&mut self, timeout: Duration) -> Result<Key, ReconnectError> {
        self.caller.reconnect_timeout(timeout)
    }

    /// Calls the server's service and waits for its response, which stays readable until the next operation.
    /// One request, one complete response.
    ///
    /// Blocks until the response is there; [`Caller::call`] has the details.
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
    /// # let mut client = Client::register(&path, "alice")?;
    /// let response = client.call(b"ping")?; // to a service that echoes
    /// assert_eq!(response, b"ping");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn call(&mut self, request: impl Payload) -> Result<Reply<'_>, CallError> {
        self.caller.call(request)
    }

    /// As [`call`](Self::call), but blocks at most this long.
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
    /// use ringpost::{CallError, Client, Request, Response, Server};
    /// use std::time::Duration;
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// let _server = Server::builder(&path)
    ///     .service(|request: Request<'_>, response: &mut Response<'_>| {
    ///         if request.payload() == b"slow" {
    ///             std::thread::sleep(Duration::from_millis(50));
    ///         }
    ///         response.write(request.payload())
    ///     })
    ///     .start()?;
    /// let mut client = Client::register(&path, "alice")?;
    /// assert_eq!(client.call_timeout(b"slow", Duration::from_millis(5)), Err(CallError::TimedOut));
    /// assert_eq!(client.call_timeout(b"quick", Duration::from_secs(5))?, b"quick");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn call_timeout(&mut self, request: impl Payload, timeout: Duration) -> Result<Reply<'_>, CallError> {
        self.caller.call_timeout(request, timeout)
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
    /// # let mut client = Client::register(&path, "alice")?;
    /// let deadline = Instant::now() + Duration::from_secs(5);
    /// for request in [b"one", b"two"] {
    ///     assert_eq!(client.call_deadline(request, deadline)?, request);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn call_deadline(
        &mut self,
        request: impl Payload,
        deadline: Instant,
    ) -> Result<Reply<'_>, CallError> {
        self.caller.call_deadline(request, deadline)
    }

    /// Sends a call without waiting for its response: collect it with [`response`](Self::response). Several
    /// calls may be outstanding; responses come in their order.
    ///
    /// Blocks only if the server is behind and the request ring is full, until there is room.
    ///
    /// # Errors
    ///
    /// Those of [`Caller::submit`]; this call was not sent then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// # let mut client = Client::register(&path, "alice")?;
    /// client.submit(b"one")?;
    /// client.submit(b"two")?;
    /// assert_eq!(client.response()?, b"one");
    /// assert_eq!(client.response()?, b"two");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn submit(&mut self, request: impl Payload) -> Result<(), CallError> {
        self.caller.submit(request)
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
    /// # let mut client = Client::register(&path, "alice")?;
    /// client.submit_all([&b"one"[..], b"two"])?;
    /// assert_eq!(client.response()?, b"one");
    /// assert_eq!(client.response()?, b"two");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn submit_all<P: Payload>(&mut self, requests: impl IntoIterator<Item = P>) -> Result<(), CallError> {
        self.caller.submit_all(requests)
    }

    /// The response to the oldest call submitted. It stays readable until the next operation. Blocks until it
    /// is there.
    ///
    /// # Errors
    ///
    /// [`NothingOutstanding`](CallError::NothingOutstanding) if every response was collected. Else those of
    /// [`call`](Self::call).
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// # let mut client = Client::register(&path, "alice")?;
    /// client.submit(b"ping")?;
    /// assert_eq!(client.response()?, b"ping");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn response(&mut self) -> Result<Reply<'_>, CallError> {
        self.caller.response()
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
    /// # let mut client = Client::register(&path, "alice")?;
    /// client.submit(b"ping")?;
    /// assert_eq!(client.response_timeout(Duration::from_secs(5))?, b"ping");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn response_timeout(&mut self, timeout: Duration) -> Result<Reply<'_>, CallError> {
        self.caller.response_timeout(timeout)
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
    /// # let mut client = Client::register(&path, "alice")?;
    /// client.submit(b"ping")?;
    /// assert_eq!(client.outstanding(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn outstanding(&self) -> usize {
        self.caller.outstanding()
    }

    /// Sends a message to the client with this key. `Ok` means that it is in that client's inbox, behind all
    /// that this client sent there before. It does not mean that it was read: it is lost with a receiver
    /// that dies, leaves or drops its inbox before that.
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
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// # let mut alice = Client::register(&path, "alice")?;
    /// # let mut bob = Client::register(&path, "bob")?;
    /// alice.send(bob.key(), b"hello")?;
    /// let message = bob.recv()?;
    /// assert_eq!((message.from(), message.payload()), (alice.key(), &b"hello"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send(&mut self, to: Key, message: impl Payload) -> Result<(), SendError> {
        self.caller.send(to, message)
    }

    /// As [`send`](Self::send), but blocks for room in the receiver's inbox, at most this long. Senders that
    /// wait are served in their order.
    ///
    /// # Errors
    ///
    /// Those of [`Caller::send_deadline`].
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
    /// # let mut alice = Client::register(&path, "alice")?;
    /// # let mut bob = Client::register(&path, "bob")?;
    /// alice.send_timeout(bob.key(), b"hello", Duration::from_secs(5))?;
    /// assert_eq!(bob.recv()?.payload(), b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_timeout(
        &mut self,
        to: Key,
        message: impl Payload,
        timeout: Duration,
    ) -> Result<(), SendError> {
        self.caller.send_timeout(to, message, timeout)
    }

    /// As [`send`](Self::send), but blocks for room in the receiver's inbox, until the deadline at most.
    /// Senders that wait are served in their order. [`Caller::send_deadline`] says how near to the
    /// deadline the answer comes.
    ///
    /// # Errors
    ///
    /// Those of [`Caller::send_deadline`].
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
    /// # let mut alice = Client::register(&path, "alice")?;
    /// # let mut bob = Client::register(&path, "bob")?;
    /// alice.send_deadline(bob.key(), b"hello", Instant::now() + Duration::from_secs(5))?;
    /// assert_eq!(bob.recv()?.payload(), b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_deadline(
        &mut self,
        to: Key,
        message: impl Payload,
        deadline: Instant,
    ) -> Result<(), SendError> {
        self.caller.send_deadline(to, message, deadline)
    }

    /// The key of the client that is registered under this name now, if there is one. Blocks until the server
    /// answers.
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
    /// # let mut alice = Client::register(&path, "alice")?;
    /// # let mut bob = Client::register(&path, "bob")?;
    /// assert_eq!(alice.look_up(&Name::new("bob")?)?, Some(bob.key()));
    /// assert_eq!(bob.look_up(&Name::new("nobody")?)?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn look_up(&mut self, name: &Name) -> Result<Option<Key>, CallError> {
        self.caller.look_up(name)
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
    /// # let mut client = Client::register(&path, "alice")?;
    /// assert_eq!(client.look_up_timeout(&"nobody".parse()?, Duration::from_secs(5))?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn look_up_timeout(&mut self, name: &Name, timeout: Duration) -> Result<Option<Key>, CallError> {
        self.caller.look_up_timeout(name, timeout)
    }

    /// The key that an address stands for: itself, or that of the client with this name. Blocks until the
    /// server answers if it is a name.
    ///
    /// # Errors
    ///
    /// Those of [`look_up`](Self::look_up).
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// # let mut client = Client::register(&path, "alice")?;
    /// assert_eq!(client.resolve(&"alice".parse()?)?, Some(client.key()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resolve(&mut self, address: &Address) -> Result<Option<Key>, CallError> {
        self.caller.resolve(address)
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
    /// # let mut client = Client::register(&path, "alice")?;
    /// assert_eq!(client.resolve_timeout(&"nobody".parse()?, Duration::from_secs(5))?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resolve_timeout(
        &mut self,
        address: &Address,
        timeout: Duration,
    ) -> Result<Option<Key>, CallError> {
        self.caller.resolve_timeout(address, timeout)
    }

    /// Who is registered now. Clients that come or go while the pages of a long list are fetched may or may
    /// not be in it. Blocks until the server has answered for each page.
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
    /// # let mut alice = Client::register(&path, "alice")?;
    /// # let mut bob = Client::register(&path, "bob")?;
    /// let names: Vec<_> = alice.list()?.into_iter().map(|client| client.name).collect();
    /// assert_eq!(names, ["alice", "bob"]);
    /// # bob.ping()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn list(&mut self) -> Result<Vec<ClientInfo>, CallError> {
        self.caller.list()
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
    /// # let mut client = Client::register(&path, "alice")?;
    /// assert_eq!(client.list_timeout(Duration::from_secs(5))?[0].key, client.key());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn list_timeout(&mut self, timeout: Duration) -> Result<Vec<ClientInfo>, CallError> {
        self.caller.list_timeout(timeout)
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
    /// # let mut client = Client::register(&path, "alice")?;
    /// client.ping()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ping(&mut self) -> Result<(), CallError> {
        self.caller.ping()
    }

    /// As [`ping`](Self::ping), but blocks at most this long.
    ///
    /// # Errors
    ///
    /// Those of [`ping`](Self::ping), and [`TimedOut`](CallError::TimedOut).
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
    /// # let mut client = Client::register(&path, "alice")?;
    /// client.ping_timeout(Duration::from_secs(5))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ping_timeout(&mut self, timeout: Duration) -> Result<(), CallError> {
        self.caller.ping_timeout(timeout)
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
    /// # let mut client = Client::register(&path, "alice")?;
    /// client.call(b"four")?;
    /// let counted = client.statistics()?;
    /// assert_eq!((counted.calls, counted.bytes_in, counted.bytes_out), (1, 4, 4));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn statistics(&mut self) -> Result<Counters, CallError> {
        self.caller.statistics()
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
    /// # let mut client = Client::register(&path, "alice")?;
    /// assert_eq!(client.statistics_timeout(Duration::from_secs(5))?.sent, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn statistics_timeout(&mut self, timeout: Duration) -> Result<Counters, CallError> {
        self.caller.statistics_timeout(timeout)
    }

    /// The next message, if one is there. Does not block.
    ///
    /// # Errors
    ///
    /// [`Empty`](TryRecvError::Empty); [`Disconnected`](TryRecvError::Disconnected) when nothing is there and
    /// nothing can come any more; [`Violation`](TryRecvError::Violation) if the server broke a rule.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::TryRecvError;
    ///
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// # let mut alice = Client::register(&path, "alice")?;
    /// # let mut bob = Client::register(&path, "bob")?;
    /// assert_eq!(bob.try_recv(), Err(TryRecvError::Empty));
    /// alice.send(bob.key(), b"hello")?; // it is there when this returns
    /// assert_eq!(bob.try_recv()?.payload(), b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_recv(&mut self) -> Result<Message, TryRecvError> {
        self.inbox.try_recv()
    }

    /// The next message. Those of one sender come in its order.
    ///
    /// Blocks until one is there, or the connection ends; messages committed before its end come first.
    ///
    /// # Errors
    ///
    /// [`Disconnected`](RecvError::Disconnected) when nothing can come any more;
    /// [`Violation`](RecvError::Violation) if the server broke a rule.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// # let mut alice = Client::register(&path, "alice")?;
    /// # let mut bob = Client::register(&path, "bob")?;
    /// alice.send(bob.key(), b"one")?;
    /// alice.send(bob.key(), b"two")?;
    /// assert_eq!(bob.recv()?.payload(), b"one");
    /// assert_eq!(bob.recv()?.payload(), b"two");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv(&mut self) -> Result<Message, RecvError> {
        self.inbox.recv()
    }

    /// As [`recv`](Self::recv), but blocks at most this long.
    ///
    /// # Errors
    ///
    /// Those of [`recv`](Self::recv), and [`TimedOut`](RecvTimeoutError::TimedOut).
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::RecvTimeoutError;
    /// use std::time::Duration;
    ///
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// # let mut client = Client::register(&path, "alice")?;
    /// let nothing = client.recv_timeout(Duration::from_millis(5));
    /// assert_eq!(nothing, Err(RecvTimeoutError::TimedOut));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Message, RecvTimeoutError> {
        self.inbox.recv_timeout(timeout)
    }

    /// As [`recv`](Self::recv), but blocks until the deadline at most.
    ///
    /// # Errors
    ///
    /// Those of [`recv_timeout`](Self::recv_timeout).
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
    /// # let mut alice = Client::register(&path, "alice")?;
    /// # let mut bob = Client::register(&path, "bob")?;
    /// alice.send(bob.key(), b"hello")?;
    /// let deadline = Instant::now() + Duration::from_secs(5);
    /// assert_eq!(bob.recv_deadline(deadline)?.payload(), b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<Message, RecvTimeoutError> {
        self.inbox.recv_deadline(deadline)
    }

    /// Leaves the bus. When this returns `Ok`, the name is free. To go on receiving what was committed
    /// before, [`split`](Self::split) first and unregister the [`Caller`].
    ///
    /// Blocks until the server confirms it. Dropping a client does the same, for at most a second and without
    /// telling of errors.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. The registration ends in any case.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let alice = Client::register(&path, "alice")?;
    /// alice.unregister()?;
    /// let _another = Client::register(&path, "alice")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unregister(self) -> Result<(), CallError> {
        self.caller.unregister()
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
    /// let alice = Client::register(&path, "alice")?;
    /// alice.unregister_timeout(Duration::from_secs(1))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unregister_timeout(self, timeout: Duration) -> Result<(), CallError> {
        self.caller.unregister_timeout(timeout)
    }
}
