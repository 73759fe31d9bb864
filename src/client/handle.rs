//! A registered client: its two halves in one handle.

#![forbid(unsafe_code)]

use std::fmt;
use std::path::PathBuf;

use super::{
    CallError, Caller, ClientBuilder, Closer, ConnectError, Inbox, Limits, Link, Message, RecvError,
    RegisterError, SendError,
};
use crate::codec::{Payload, Reply};
use crate::registry::ClientInfo;
use crate::ring::Deadline;
use crate::wire::{Address, Key, Name, NameError};

/// A registered client: calls the server's service, sends messages to other clients, and receives its own.
///
/// It is one [`Caller`] and one [`Inbox`]. [`split`](Self::split) gives them to two threads, and
/// [`caller`](Self::caller) lends the calling half with its less common operations: pipelined calls,
/// statistics, reconnecting. Dropping a client unregisters it, waiting for at most a second.
///
/// | operation | waits for | at most |
/// | --- | --- | --- |
/// | [`call`](Self::call), [`call_timeout`](Self::call_timeout) | the response | the deadline, if any |
/// | [`try_send`](Self::try_send) | the server's acknowledgement, which is immediate | |
/// | [`send`](Self::send), [`send_timeout`](Self::send_timeout) | room as well | the deadline, if any |
/// | [`try_recv`](Self::try_recv) | nothing | |
/// | [`recv`](Self::recv), [`recv_timeout`](Self::recv_timeout) | a message | the deadline, if any |
/// | [`connect`](Self::connect) | the other client's acceptance | [`ClientBuilder::timeout`] |
/// | [`look_up`](Self::look_up), [`list`](Self::list) | the server's answer | [`ClientBuilder::timeout`] |
/// | [`unregister`](Self::unregister) | the server's answer | [`ClientBuilder::timeout`] |
/// | [`wait_for`](Self::wait_for) | another client's registration | the limit that you give |
///
/// Every wait also ends when the server dies, shuts down or closes the channel, and when the
/// [closer](Self::closer) is used.
///
/// The operations of one client are served in order: while the server works on a call, or a `send` waits for
/// room, nothing else that this client asks is answered. To do two things at once, register two clients.
/// Receiving does not go through the server's worker, so it is not delayed.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, Server};
/// use std::time::Duration;
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let _server = Server::builder(&path).start()?; // usually in another process
///
/// let mut alice = Client::register(&path, "alice")?;
/// let mut bob = Client::register(&path, "bob")?;
/// assert_eq!(alice.call(b"ping")?, b"ping"); // the default service echoes
/// alice.send("bob", b"hello")?; // in bob's inbox, or an error that says why
/// let message = bob.recv_timeout(Duration::from_secs(1))?;
/// assert_eq!(message.sender(), alice.key());
/// assert_eq!(message.payload(), b"hello");
/// alice.unregister()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Client {
    pub(super) caller: Caller,
    pub(super) inbox: Inbox,
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
    /// Blocks until the server answers, five seconds at most; [`builder`](Self::builder) sets another limit.
    ///
    /// # Errors
    ///
    /// See [`RegisterError`]: the name is invalid or taken, there is no server or it does not let this
    /// process in, it is full, or it does not answer.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Client, RegisterError, Server};
    ///
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
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
    pub fn builder(path: impl Into<PathBuf>) -> ClientBuilder {
        ClientBuilder::new(path.into())
    }

    /// The two halves, for two threads. The registration ends when the caller is dropped; the inbox then
    /// gives out what was delivered before. An [`Inbox`] that is dropped first is given up: messages to this
    /// client are refused as [`Gone`](SendError::Gone), and what lay in it is lost. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// # let (_bus, alice) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/one.rs"));
    /// let (mut caller, mut inbox) = alice.split();
    /// let receiver = std::thread::spawn(move || inbox.recv());
    /// assert_eq!(caller.call(b"ping")?, b"ping"); // while the other thread waits for a message
    /// caller.send("alice", b"a note to myself")?;
    /// assert_eq!(receiver.join().unwrap()?.payload(), b"a note to myself");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn split(self) -> (Caller, Inbox) {
        self.caller.part();
        (self.caller, self.inbox)
    }

    /// The calling half, with all its operations.
    ///
    /// # Examples
    ///
    /// ```
    /// # let (_bus, mut client) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/one.rs"));
    /// client.caller().ping()?;
    /// client.caller().submit(b"one")?;
    /// assert_eq!(client.caller().response()?, b"one");
    /// assert_eq!(client.caller().statistics()?.calls, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn caller(&mut self) -> &mut Caller {
        &mut self.caller
    }

    /// The receiving half.
    #[inline]
    pub fn inbox(&mut self) -> &mut Inbox {
        &mut self.inbox
    }

    /// This client's key: its address for others, and not a secret. Does not block.
    pub fn key(&self) -> Key {
        self.caller.key()
    }

    /// This client's name. Does not block.
    pub fn name(&self) -> &Name {
        self.caller.name()
    }

    /// What the server's settings allow. Does not block.
    pub fn limits(&self) -> Limits {
        self.caller.limits()
    }

    /// A handle that ends this client from another thread or a signal handler: its waits end with
    /// `Disconnected`, and its registration ends. Does not block.
    pub fn closer(&self) -> Closer {
        self.caller.closer()
    }

    /// Calls the server's service and waits for its response; see [`Caller::call`].
    ///
    /// # Errors
    ///
    /// See [`CallError`]; never [`TimedOut`](CallError::TimedOut).
    #[inline]
    pub fn call(&mut self, request: impl Payload) -> Result<Reply<'_>, CallError> {
        self.caller.call(request)
    }

    /// As [`call`](Self::call), but blocks until the [deadline](Deadline) at most; see
    /// [`Caller::call_timeout`].
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    #[inline]
    pub fn call_timeout(
        &mut self,
        request: impl Payload,
        deadline: impl Into<Deadline>,
    ) -> Result<Reply<'_>, CallError> {
        self.caller.call_timeout(request, deadline)
    }

    /// Sends a message if there is room in the receiver's inbox now; see [`Caller::try_send`].
    ///
    /// # Errors
    ///
    /// See [`SendError`]; [`InboxFull`](SendError::InboxFull) if there is no room.
    pub fn try_send(
        &mut self,
        to: impl TryInto<Address, Error: Into<NameError>>,
        message: impl Payload,
    ) -> Result<(), SendError> {
        self.caller.try_send(to, message)
    }

    /// Sends a message, waiting for room in the receiver's inbox; see [`Caller::send`].
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    pub fn send(
        &mut self,
        to: impl TryInto<Address, Error: Into<NameError>>,
        message: impl Payload,
    ) -> Result<(), SendError> {
        self.caller.send(to, message)
    }

    /// As [`send`](Self::send), but blocks until the [deadline](Deadline) at most; see
    /// [`Caller::send_timeout`].
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    pub fn send_timeout(
        &mut self,
        to: impl TryInto<Address, Error: Into<NameError>>,
        message: impl Payload,
        deadline: impl Into<Deadline>,
    ) -> Result<(), SendError> {
        self.caller.send_timeout(to, message, deadline)
    }

    /// The next message, or `None` if none is there now; see [`Inbox::try_recv`].
    ///
    /// # Errors
    ///
    /// See [`RecvError`].
    pub fn try_recv(&mut self) -> Result<Option<Message>, RecvError> {
        self.inbox.try_recv()
    }

    /// Waits for the next message; see [`Inbox::recv`].
    ///
    /// # Errors
    ///
    /// See [`RecvError`].
    pub fn recv(&mut self) -> Result<Message, RecvError> {
        self.inbox.recv()
    }

    /// As [`recv`](Self::recv), but blocks until the [deadline](Deadline) at most.
    ///
    /// # Errors
    ///
    /// See [`RecvError`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
    /// assert!(bob.try_recv()?.is_none());
    /// assert!(bob.recv_timeout(Duration::from_millis(5)).unwrap_err().is_timeout());
    /// alice.send("bob", b"one")?;
    /// alice.send("bob", b"two")?;
    /// assert_eq!(bob.recv()?.payload(), b"one");
    /// assert_eq!(bob.try_recv()?.unwrap().payload(), b"two"); // it was there when `send` returned
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv_timeout(&mut self, deadline: impl Into<Deadline>) -> Result<Message, RecvError> {
        self.inbox.recv_timeout(deadline)
    }

    /// The key of the client with this name, if there is one; see [`Caller::look_up`].
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn look_up(
        &mut self,
        client: impl TryInto<Address, Error: Into<NameError>>,
    ) -> Result<Option<Key>, CallError> {
        self.caller.look_up(client)
    }

    /// Waits until a client with this name is registered; see [`Caller::wait_for`].
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn wait_for(
        &mut self,
        client: impl TryInto<Address, Error: Into<NameError>>,
        limit: impl Into<Deadline>,
    ) -> Result<Key, CallError> {
        self.caller.wait_for(client, limit)
    }

    /// Opens a link to another client that [listens](Self::listen); see [`Caller::connect`].
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub fn connect(
        &mut self,
        to: impl TryInto<Address, Error: Into<NameError>>,
    ) -> Result<Link, ConnectError> {
        self.caller.connect(to)
    }

    /// Who is registered now; see [`Caller::list`].
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn list(&mut self) -> Result<Vec<ClientInfo>, CallError> {
        self.caller.list()
    }

    /// Leaves the bus. When this returns `Ok`, the name is free. To go on receiving what was delivered
    /// before, [`split`](Self::split) first and unregister the [`Caller`].
    ///
    /// Blocks until the server confirms it, at most for [`ClientBuilder::timeout`]. Dropping a client does
    /// the same, for at most a second and without reporting errors.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. The registration ends in any case; after an error it is not known when the name
    /// becomes free.
    pub fn unregister(self) -> Result<(), CallError> {
        self.caller.unregister()
    }
}
