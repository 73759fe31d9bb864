//! Calls and messages of types with a fixed layout; see [`codec`](crate::codec).
//!
//! Thin: each is the method without the suffix, and a conversion. A [`Client`] and its [`Caller`], a
//! [`Client`] and its [`Inbox`], have the same ones, which are written once here.

#![forbid(unsafe_code)]

use std::fmt;
use std::time::{Duration, Instant};

use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes, Unaligned};

use super::{CallError, Caller, Client, Inbox, Message, SendError};
use crate::codec::{self, PayloadError};
use crate::ring::{RecvError, RecvTimeoutError, TryRecvError};
use crate::wire::{Key, Name};

/// Why a typed call has no result.
///
/// # Examples
///
/// ```
/// use ringpost::{CallAsError, CallError, PayloadError};
///
/// # use ringpost::{Client, Server};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("bus");
/// # let _server = Server::builder(&path).start()?;
/// # let mut client = Client::register(&path, "alice")?;
/// match client.call_as::<u32, u64>(&7) {
///     Ok(number) => println!("{number}"),
///     Err(CallAsError::Response(PayloadError::Size { found, .. })) => assert_eq!(found, 4), // it was echoed
///     Err(CallAsError::Call(CallError::TimedOut)) => println!("later, perhaps"),
///     Err(error) => return Err(error.into()),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallAsError {
    /// The call itself has no result.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A response came, and it is not of the type asked for. The call was executed.
    #[error("the response is of another type: {0}")]
    Response(#[source] PayloadError),
}

/// Why nothing of the type asked for was received. `E` is the error of the method without the suffix.
///
/// # Examples
///
/// ```
/// use ringpost::{RecvAsError, TryRecvError};
///
/// # use ringpost::{Client, Server};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("bus");
/// # let _server = Server::builder(&path).start()?;
/// # let mut alice = Client::register(&path, "alice")?;
/// # let mut bob = Client::register(&path, "bob")?;
/// alice.send(bob.key(), b"text")?;
/// match bob.try_recv_as::<u64>() {
///     Ok(message) => println!("{}", message.payload()),
///     Err(RecvAsError::Recv(TryRecvError::Empty)) => println!("nothing yet"),
///     Err(RecvAsError::Payload { message, source }) => {
///         println!("{} sends {:?}: {source}", message.from_name(), message.payload());
///     }
///     Err(error) => return Err(error.into()),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvAsError<E> {
    /// No message was received.
    #[error(transparent)]
    Recv(#[from] E),
    /// A message was received, and it is not of the type asked for. It is here, so that nothing is lost.
    #[error("a message from {} is of another type: {source}", message.from_name())]
    Payload {
        /// The message, which has left the inbox.
        message: Box<Message>,
        /// What is wrong with it.
        source: PayloadError,
    },
}

/// A message whose payload is a value. What [`Client::recv_as`] and its kin give.
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
/// alice.send_as(bob.key(), &7_u32)?;
/// let message = bob.recv_as::<u32>()?;
/// assert_eq!((message.from(), message.from_name().as_str()), (alice.key(), "alice"));
/// assert_eq!(*message.payload(), 7);
/// assert_eq!(message.into_payload(), 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct MessageOf<T> {
    from: Key,
    name: Name,
    payload: T,
}

impl<T: fmt::Debug> fmt::Debug for MessageOf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageOf")
            .field("from", &self.from)
            .field("name", &self.name)
            .field("payload", &self.payload)
            .finish()
    }
}

impl<T> MessageOf<T> {
    /// The sender's key, as the server knows it: a sender cannot pretend to be another.
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
    /// alice.send_as(bob.key(), &7_u32)?;
    /// assert_eq!(bob.recv_as::<u32>()?.from(), alice.key());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from(&self) -> Key {
        self.from
    }

    /// The sender's name when it sent this.
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
    /// alice.send_as(bob.key(), &7_u32)?;
    /// assert_eq!(bob.recv_as::<u32>()?.from_name(), alice.name());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_name(&self) -> &Name {
        &self.name
    }

    /// What it sent.
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
    /// alice.send_as(bob.key(), &7_u32)?;
    /// assert_eq!(bob.recv_as::<u32>()?.payload(), &7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn payload(&self) -> &T {
        &self.payload
    }

    /// What it sent, to keep.
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
    /// alice.send_as(bob.key(), &7_u32)?;
    /// let number: u32 = bob.recv_as()?.into_payload();
    /// assert_eq!(number, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_payload(self) -> T {
        self.payload
    }
}

/// Makes a typed message of one that was received, or an error that holds it.
pub(super) fn typed<T, E>(
    received: Result<Message, E>,
    read: impl FnOnce(&Message) -> Result<T, PayloadError>,
) -> Result<MessageOf<T>, RecvAsError<E>> {
    let message = received.map_err(RecvAsError::Recv)?;
    match read(&message) {
        Ok(payload) => Ok(MessageOf { from: message.from(), name: *message.from_name(), payload }),
        Err(source) => Err(RecvAsError::Payload { message: Box::new(message), source }),
    }
}

impl Message {
    /// What it sent, as a value, which is copied out of the payload. Does not block.
    ///
    /// # Errors
    ///
    /// The payload has another size, or bits that the type cannot have; see [`codec`](crate::codec).
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
    /// alice.send_as(bob.key(), &[1_u16, 2])?;
    /// let message = bob.recv()?;
    /// assert_eq!(message.payload_as::<[u16; 2]>()?, [1, 2]);
    /// assert!(message.payload_as::<u64>().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn payload_as<T: TryFromBytes>(&self) -> Result<T, PayloadError> {
        codec::read(self.payload())
    }

    /// What it sent, as a value, where it lies: for types without alignment, slices of them, and structures
    /// that end in such a slice. Does not block.
    ///
    /// # Errors
    ///
    /// The payload has another size, or bits that the type cannot have; see [`codec::view`].
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
    /// use ringpost::zerocopy::byteorder::little_endian::U16;
    ///
    /// alice.send_as(bob.key(), &[U16::new(1), U16::new(2), U16::new(3)][..])?;
    /// assert_eq!(bob.recv()?.payload_ref::<[U16]>()?, [1, 2, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn payload_ref<T>(&self) -> Result<&T, PayloadError>
    where
        T: TryFromBytes + KnownLayout + Immutable + Unaligned + ?Sized,
    {
        codec::view(self.payload())
    }
}

macro_rules! typed_calls {
    ($who:ty) => {
        /// Typed calls and messages: payloads are values of a fixed layout; see [`codec`](crate::codec).
        impl $who {
            /// Calls the service with a value, and gives the response as a value. Blocks as
            /// [`call`](Self::call) does.
            ///
            /// # Errors
            ///
            /// Those of [`call`](Self::call), or [`CallAsError::Response`] if the response is not a `Resp`.
            ///
            /// # Examples
            ///
            /// ```
            /// use ringpost::{Client, Request, Response, Server};
            ///
            /// # let directory = tempfile::tempdir()?;
            /// # let path = directory.path().join("bus");
            /// let _server = Server::builder(&path)
            ///     .service(|request: Request<'_>, response: &mut Response<'_>| {
            ///         let [a, b] = request.payload_as::<[u32; 2]>()?;
            ///         response.write_as(&(u64::from(a) * u64::from(b)))
            ///     })
            ///     .start()?;
            /// let mut client = Client::register(&path, "alice")?;
            /// let product: u64 = client.call_as(&[6_u32, 7])?;
            /// assert_eq!(product, 42);
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn call_as<Req, Resp>(&mut self, request: &Req) -> Result<Resp, CallAsError>
            where
                Req: IntoBytes + Immutable + ?Sized,
                Resp: TryFromBytes,
            {
                response(self.call(request.as_bytes()))
            }

            /// As [`call_as`](Self::call_as), waiting at most this long, as
            /// [`call_timeout`](Self::call_timeout) does.
            ///
            /// # Errors
            ///
            /// Those of [`call_timeout`](Self::call_timeout), or [`CallAsError::Response`].
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
            /// let echoed: u32 = client.call_as_timeout(&7_u32, Duration::from_secs(5))?;
            /// assert_eq!(echoed, 7);
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn call_as_timeout<Req, Resp>(
                &mut self,
                request: &Req,
                timeout: Duration,
            ) -> Result<Resp, CallAsError>
            where
                Req: IntoBytes + Immutable + ?Sized,
                Resp: TryFromBytes,
            {
                response(self.call_timeout(request.as_bytes(), timeout))
            }

            /// As [`call_as`](Self::call_as), waiting until the deadline, as
            /// [`call_deadline`](Self::call_deadline) does.
            ///
            /// # Errors
            ///
            /// Those of [`call_deadline`](Self::call_deadline), or [`CallAsError::Response`].
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
            /// let echoed: [u16; 2] = client.call_as_deadline(&[1_u16, 2], deadline)?;
            /// assert_eq!(echoed, [1, 2]);
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn call_as_deadline<Req, Resp>(
                &mut self,
                request: &Req,
                deadline: Instant,
            ) -> Result<Resp, CallAsError>
            where
                Req: IntoBytes + Immutable + ?Sized,
                Resp: TryFromBytes,
            {
                response(self.call_deadline(request.as_bytes(), deadline))
            }

            /// Sends a call with a value, without waiting for its response. Blocks as
            /// [`submit`](Self::submit) does.
            ///
            /// # Errors
            ///
            /// Those of [`submit`](Self::submit).
            ///
            /// # Examples
            ///
            /// ```
            /// # use ringpost::{Client, Server};
            /// # let directory = tempfile::tempdir()?;
            /// # let path = directory.path().join("bus");
            /// # let _server = Server::builder(&path).start()?;
            /// # let mut client = Client::register(&path, "alice")?;
            /// client.submit_as(&1_u32)?; // to a service that echoes
            /// client.submit_as(&2_u32)?;
            /// assert_eq!(client.response_as::<u32>()?, 1);
            /// assert_eq!(client.response_as::<u32>()?, 2);
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn submit_as<Req>(&mut self, request: &Req) -> Result<(), CallError>
            where
                Req: IntoBytes + Immutable + ?Sized,
            {
                self.submit(request.as_bytes())
            }

            /// The response to the oldest call submitted, as a value. Blocks as [`response`](Self::response)
            /// does.
            ///
            /// # Errors
            ///
            /// Those of [`response`](Self::response), or [`CallAsError::Response`]; the response is taken in
            /// that case, too.
            ///
            /// # Examples
            ///
            /// ```
            /// # use ringpost::{Client, Server};
            /// # let directory = tempfile::tempdir()?;
            /// # let path = directory.path().join("bus");
            /// # let _server = Server::builder(&path).start()?;
            /// # let mut client = Client::register(&path, "alice")?;
            /// client.submit_as(&7_u32)?; // to a service that echoes
            /// let echoed: u32 = client.response_as()?;
            /// assert_eq!(echoed, 7);
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn response_as<Resp: TryFromBytes>(&mut self) -> Result<Resp, CallAsError> {
                response(self.response())
            }

            /// As [`response_as`](Self::response_as), waiting at most this long. After a time-out the
            /// response is still outstanding.
            ///
            /// # Errors
            ///
            /// Those of [`response_timeout`](Self::response_timeout), or [`CallAsError::Response`].
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
            /// client.submit_as(&7_u32)?;
            /// assert_eq!(client.response_as_timeout::<u32>(Duration::from_secs(5))?, 7);
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn response_as_timeout<Resp: TryFromBytes>(
                &mut self,
                timeout: Duration,
            ) -> Result<Resp, CallAsError> {
                response(self.response_timeout(timeout))
            }

            /// Sends a value to another client. Blocks as [`send`](Self::send) does.
            ///
            /// # Errors
            ///
            /// Those of [`send`](Self::send).
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
            /// alice.send_as(bob.key(), &[1_u32, 2, 3])?;
            /// assert_eq!(bob.recv_as::<[u32; 3]>()?.into_payload(), [1, 2, 3]);
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn send_as<T>(&mut self, to: Key, message: &T) -> Result<(), SendError>
            where
                T: IntoBytes + Immutable + ?Sized,
            {
                self.send(to, message.as_bytes())
            }

            /// As [`send_as`](Self::send_as), waiting at most this long for room in the receiver's inbox, as
            /// [`send_timeout`](Self::send_timeout) does.
            ///
            /// # Errors
            ///
            /// Those of [`send_timeout`](Self::send_timeout).
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
            /// alice.send_as_timeout(bob.key(), &7_u32, Duration::from_secs(5))?;
            /// assert_eq!(*bob.recv_as::<u32>()?.payload(), 7);
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn send_as_timeout<T>(
                &mut self,
                to: Key,
                message: &T,
                timeout: Duration,
            ) -> Result<(), SendError>
            where
                T: IntoBytes + Immutable + ?Sized,
            {
                self.send_timeout(to, message.as_bytes(), timeout)
            }

            /// As [`send_as`](Self::send_as), waiting until the deadline for room in the receiver's inbox, as
            /// [`send_deadline`](Self::send_deadline) does.
            ///
            /// # Errors
            ///
            /// Those of [`send_deadline`](Self::send_deadline).
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
            /// alice.send_as_deadline(bob.key(), &7_u32, Instant::now() + Duration::from_secs(5))?;
            /// assert_eq!(*bob.recv_as::<u32>()?.payload(), 7);
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn send_as_deadline<T>(
                &mut self,
                to: Key,
                message: &T,
                deadline: Instant,
            ) -> Result<(), SendError>
            where
                T: IntoBytes + Immutable + ?Sized,
            {
                self.send_deadline(to, message.as_bytes(), deadline)
            }
        }
    };
}

macro_rules! typed_messages {
    ($who:ty) => {
        /// Typed messages: payloads are values of a fixed layout; see [`codec`](crate::codec).
        impl $who {
            /// The next message as a value, if one is there. Does not block.
            ///
            /// # Errors
            ///
            /// [`RecvAsError::Recv`] with the errors of [`try_recv`](Self::try_recv);
            /// [`RecvAsError::Payload`] with the message if it is not a `T`.
            ///
            /// # Examples
            ///
            /// ```
            /// use ringpost::{RecvAsError, TryRecvError};
            ///
            /// # use ringpost::{Client, Server};
            /// # let directory = tempfile::tempdir()?;
            /// # let path = directory.path().join("bus");
            /// # let _server = Server::builder(&path).start()?;
            /// # let mut alice = Client::register(&path, "alice")?;
            /// # let mut bob = Client::register(&path, "bob")?;
            /// assert_eq!(bob.try_recv_as::<u32>(), Err(RecvAsError::Recv(TryRecvError::Empty)));
            /// alice.send_as(bob.key(), &7_u32)?;
            /// assert_eq!(bob.try_recv_as::<u32>()?.into_payload(), 7);
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn try_recv_as<T: TryFromBytes>(
                &mut self,
            ) -> Result<MessageOf<T>, RecvAsError<TryRecvError>> {
                typed(self.try_recv(), Message::payload_as)
            }

            /// The next message as a value, waiting as long as it takes, as [`recv`](Self::recv) does.
            ///
            /// # Errors
            ///
            /// [`RecvAsError::Recv`] with the errors of [`recv`](Self::recv); [`RecvAsError::Payload`] with
            /// the message if it is not a `T`: other clients can send what they like.
            ///
            /// # Examples
            ///
            /// ```
            /// use ringpost::RecvAsError;
            ///
            /// # use ringpost::{Client, Server};
            /// # let directory = tempfile::tempdir()?;
            /// # let path = directory.path().join("bus");
            /// # let _server = Server::builder(&path).start()?;
            /// # let mut alice = Client::register(&path, "alice")?;
            /// # let mut bob = Client::register(&path, "bob")?;
            /// alice.send_as(bob.key(), &7_u32)?;
            /// alice.send(bob.key(), b"not a number")?;
            /// assert_eq!(*bob.recv_as::<u32>()?.payload(), 7);
            /// match bob.recv_as::<u32>() {
            ///     Err(RecvAsError::Payload { message, .. }) => assert_eq!(message.payload(), b"not a number"),
            ///     other => panic!("{other:?}"),
            /// }
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn recv_as<T: TryFromBytes>(&mut self) -> Result<MessageOf<T>, RecvAsError<RecvError>> {
                typed(self.recv(), Message::payload_as)
            }

            /// As [`recv_as`](Self::recv_as), waiting at most this long.
            ///
            /// # Errors
            ///
            /// [`RecvAsError::Recv`] with the errors of [`recv_timeout`](Self::recv_timeout), or
            /// [`RecvAsError::Payload`].
            ///
            /// # Examples
            ///
            /// ```
            /// use ringpost::{RecvAsError, RecvTimeoutError};
            /// use std::time::Duration;
            ///
            /// # use ringpost::{Client, Server};
            /// # let directory = tempfile::tempdir()?;
            /// # let path = directory.path().join("bus");
            /// # let _server = Server::builder(&path).start()?;
            /// # let mut client = Client::register(&path, "alice")?;
            /// let nothing = client.recv_as_timeout::<u32>(Duration::from_millis(5));
            /// assert_eq!(nothing, Err(RecvAsError::Recv(RecvTimeoutError::TimedOut)));
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn recv_as_timeout<T: TryFromBytes>(
                &mut self,
                timeout: Duration,
            ) -> Result<MessageOf<T>, RecvAsError<RecvTimeoutError>> {
                typed(self.recv_timeout(timeout), Message::payload_as)
            }

            /// As [`recv_as`](Self::recv_as), waiting until the deadline.
            ///
            /// # Errors
            ///
            /// [`RecvAsError::Recv`] with the errors of [`recv_deadline`](Self::recv_deadline), or
            /// [`RecvAsError::Payload`].
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
            /// alice.send_as(bob.key(), &7_u32)?;
            /// let message = bob.recv_as_deadline::<u32>(Instant::now() + Duration::from_secs(5))?;
            /// assert_eq!(message.into_payload(), 7);
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn recv_as_deadline<T: TryFromBytes>(
                &mut self,
                deadline: Instant,
            ) -> Result<MessageOf<T>, RecvAsError<RecvTimeoutError>> {
                typed(self.recv_deadline(deadline), Message::payload_as)
            }
        }
    };
}

typed_calls!(Caller);
typed_calls!(Client);
typed_messages!(Inbox);
typed_messages!(Client);

fn response<T: TryFromBytes>(came: Result<&[u8], CallError>) -> Result<T, CallAsError> {
    codec::read(came?).map_err(CallAsError::Response)
}
