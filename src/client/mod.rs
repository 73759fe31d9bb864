//! The client: registers, calls, sends, receives, unregisters.

mod caller;
mod error;
#[cfg(fuzzing)]
pub(crate) mod hostile;
mod inbox;
#[cfg(feature = "internals")]
pub(crate) mod internals;
mod observer;
mod session;
mod watcher;

pub use caller::Caller;
pub use error::{CallError, RegisterError, SendError};
pub use inbox::{Inbox, Message};
pub use observer::Observer;
pub use session::{ClientBuilder, CloseHandle};

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::protocol::{Address, Key, Name};
use crate::registry::{ClientInfo, Counters};
use crate::ring::{RecvError, RecvTimeoutError, TryRecvError};

/// What a server's settings allow its clients.
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
/// It is one [`Caller`] and one [`Inbox`]; [`split`](Self::split) gives them to two threads. Dropping it unregisters.
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
/// | [`look_up`](Self::look_up), [`list`](Self::list), [`ping`](Self::ping), [`statistics`](Self::statistics) | the server's response | for ever |
/// | [`unregister`](Self::unregister) | the server's confirmation | for ever; `_timeout` |
///
/// Every wait also ends when the server dies, shuts down or closes the channel, and when the
/// [close handle](Self::close_handle) is used.
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
#[derive(Debug)]
pub struct Client {
    caller: Caller,
    inbox: Inbox,
}

impl Client {
    /// Registers under a name with the server at a path, with default settings.
    pub fn register(path: impl Into<PathBuf>, name: impl AsRef<str>) -> Result<Client, RegisterError> {
        Client::builder(path).register(name)
    }

    /// Begins to set up a client of the server at a path; see [`default_path`](crate::default_path).
    pub fn builder(path: impl Into<PathBuf>) -> ClientBuilder {
        ClientBuilder::new(path.into())
    }

    /// The two halves, for two threads. The registration ends when the caller is dropped; the inbox then gives out what was
    /// committed before.
    pub fn split(self) -> (Caller, Inbox) {
        (self.caller, self.inbox)
    }

    /// This client's key: its address for others. Not a secret.
    pub fn key(&self) -> Key {
        self.caller.key()
    }

    /// This client's name.
    pub fn name(&self) -> &Name {
        self.caller.name()
    }

    /// What the server's settings allow.
    pub fn limits(&self) -> Limits {
        self.caller.limits()
    }

    /// A handle that ends this client's waits from another thread, with `Disconnected`, and with it the registration.
    pub fn close_handle(&self) -> CloseHandle {
        self.caller.close_handle()
    }

    /// See [`Caller::call`].
    #[inline]
    pub fn call(&mut self, request: &[u8]) -> Result<&[u8], CallError> {
        self.caller.call(request)
    }

    /// See [`Caller::call_timeout`].
    pub fn call_timeout(&mut self, request: &[u8], timeout: Duration) -> Result<&[u8], CallError> {
        self.caller.call_timeout(request, timeout)
    }

    /// See [`Caller::call_deadline`].
    pub fn call_deadline(&mut self, request: &[u8], deadline: Instant) -> Result<&[u8], CallError> {
        self.caller.call_deadline(request, deadline)
    }

    /// See [`Caller::submit`].
    pub fn submit(&mut self, request: &[u8]) -> Result<(), CallError> {
        self.caller.submit(request)
    }

    /// See [`Caller::submit_all`].
    pub fn submit_all<'r>(&mut self, requests: impl IntoIterator<Item = &'r [u8]>) -> Result<(), CallError> {
        self.caller.submit_all(requests)
    }

    /// See [`Caller::response`].
    pub fn response(&mut self) -> Result<&[u8], CallError> {
        self.caller.response()
    }

    /// See [`Caller::response_timeout`].
    pub fn response_timeout(&mut self, timeout: Duration) -> Result<&[u8], CallError> {
        self.caller.response_timeout(timeout)
    }

    /// See [`Caller::outstanding`].
    pub fn outstanding(&self) -> usize {
        self.caller.outstanding()
    }

    /// See [`Caller::send`].
    pub fn send(&mut self, to: Key, message: &[u8]) -> Result<(), SendError> {
        self.caller.send(to, message)
    }

    /// See [`Caller::send_timeout`].
    pub fn send_timeout(&mut self, to: Key, message: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.caller.send_timeout(to, message, timeout)
    }

    /// See [`Caller::send_deadline`].
    pub fn send_deadline(&mut self, to: Key, message: &[u8], deadline: Instant) -> Result<(), SendError> {
        self.caller.send_deadline(to, message, deadline)
    }

    /// See [`Caller::look_up`].
    pub fn look_up(&mut self, name: &Name) -> Result<Option<Key>, CallError> {
        self.caller.look_up(name)
    }

    /// See [`Caller::resolve`].
    pub fn resolve(&mut self, address: &Address) -> Result<Option<Key>, CallError> {
        self.caller.resolve(address)
    }

    /// See [`Caller::list`].
    pub fn list(&mut self) -> Result<Vec<ClientInfo>, CallError> {
        self.caller.list()
    }

    /// See [`Caller::ping`].
    pub fn ping(&mut self) -> Result<(), CallError> {
        self.caller.ping()
    }

    /// See [`Caller::statistics`].
    pub fn statistics(&mut self) -> Result<Counters, CallError> {
        self.caller.statistics()
    }

    /// See [`Inbox::try_recv`].
    pub fn try_recv(&mut self) -> Result<Message, TryRecvError> {
        self.inbox.try_recv()
    }

    /// See [`Inbox::recv`].
    pub fn recv(&mut self) -> Result<Message, RecvError> {
        self.inbox.recv()
    }

    /// See [`Inbox::recv_timeout`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Message, RecvTimeoutError> {
        self.inbox.recv_timeout(timeout)
    }

    /// See [`Inbox::recv_deadline`].
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<Message, RecvTimeoutError> {
        self.inbox.recv_deadline(deadline)
    }

    /// Leaves the bus. When this returns `Ok`, the name is free. To go on receiving what was committed before,
    /// [`split`](Self::split) first and unregister the [`Caller`].
    pub fn unregister(self) -> Result<(), CallError> {
        self.caller.unregister()
    }

    /// See [`Caller::unregister_timeout`].
    pub fn unregister_timeout(self, timeout: Duration) -> Result<(), CallError> {
        self.caller.unregister_timeout(timeout)
    }
}
