//! Calls and messages of all types that serde knows; see [`codec`](crate::codec).
//!
//! As thin as its neighbour `typed`: each is the method without the suffix, an encoding before it or a
//! decoding behind it.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned};

use super::typed::typed;
use super::{CallError, Caller, Client, Inbox, Message, MessageOf, RecvAsError, SendError};
use crate::codec::{self, EncodeError, PayloadError, with_encoded};
use crate::ring::{RecvError, RecvTimeoutError, TryRecvError};
use crate::wire::Key;

/// Why a call of serde types has no result.
///
/// # Examples
///
/// ```
/// use ringpost::{CallSerdeError, EncodeError};
///
/// # use ringpost::{Client, Server};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("bus");
/// # let _server = Server::builder(&path).start()?;
/// # let mut client = Client::register(&path, "alice")?;
/// let large = "x".repeat(client.limits().max_call);
/// match client.call_serde::<_, String>(&large) {
///     Err(CallSerdeError::Request(EncodeError::TooLarge { max, .. })) => println!("{max} bytes at most"),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallSerdeError {
    /// The request has no encoded form that can be sent; nothing was sent.
    #[error("the request was not sent: {0}")]
    Request(#[from] EncodeError),
    /// The call itself has no result.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A response came, and it is not of the type asked for. The call was executed.
    #[error("the response is of another type: {0}")]
    Response(#[source] PayloadError),
}

/// Why a message of a serde type is not known to be in the receiver's inbox.
///
/// # Examples
///
/// ```
/// use ringpost::{Key, SendError, SendSerdeError};
///
/// # use ringpost::{Client, Server};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("bus");
/// # let _server = Server::builder(&path).start()?;
/// # let mut client = Client::register(&path, "alice")?;
/// let nobody = Key::from_u128(7);
/// let error = client.send_serde(nobody, "hello").unwrap_err();
/// assert_eq!(error, SendSerdeError::Send(SendError::UnknownKey));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendSerdeError {
    /// The message has no encoded form that can be sent; nothing was sent.
    #[error("the message was not sent: {0}")]
    Message(#[from] EncodeError),
    /// Sending failed.
    #[error(transparent)]
    Send(#[from] SendError),
}

impl Message {
    /// What it sent, as a value, which may borrow from the payload. Does not block. Needs the feature
    /// `serde`.
    ///
    /// # Errors
    ///
    /// The payload is not a `T`, or more than one; see [`codec::decode`].
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
    /// alice.send_serde(bob.key(), &("north", 3))?;
    /// let message = bob.recv()?;
    /// assert_eq!(message.payload_serde::<(&str, i32)>()?, ("north", 3));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn payload_serde<'m, T: Deserialize<'m>>(&'m self) -> Result<T, PayloadError> {
        codec::decode(self.payload())
    }
}

macro_rules! serde_calls {
    ($who:ty) => {
        /// Calls and messages of all types that serde knows, with the feature `serde`; see
        /// [`codec`](crate::codec).
        impl $who {
            /// Calls the service with a value, and gives the response as a value, which may borrow from this
            /// client until its next operation. Blocks as [`call`](Self::call) does. Needs the feature
            /// `serde`.
            ///
            /// # Errors
            ///
            /// [`CallSerdeError::Request`] if the request cannot be encoded or is too large, the errors of
            /// [`call`](Self::call), or [`CallSerdeError::Response`] if the response is not a `Resp`.
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
            ///         let words: Vec<&str> = request.payload_serde()?;
            ///         response.write_serde(&words.join(" "))
            ///     })
            ///     .start()?;
            /// let mut client = Client::register(&path, "alice")?;
            /// let text: String = client.call_serde(&["hello", "world"][..])?;
            /// assert_eq!(text, "hello world");
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn call_serde<'c, Req, Resp>(&'c mut self, request: &Req) -> Result<Resp, CallSerdeError>
            where
                Req: Serialize + ?Sized,
                Resp: Deserialize<'c>,
            {
                let max = self.limits().max_call;
                response(with_encoded(request, max, |bytes| self.call(bytes))?)
            }

            /// As [`call_serde`](Self::call_serde), waiting at most this long, as
            /// [`call_timeout`](Self::call_timeout) does.
            ///
            /// # Errors
            ///
            /// Those of [`call_serde`](Self::call_serde), and the time-out as
            /// [`CallError::TimedOut`](crate::CallError::TimedOut).
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
            /// let echoed: String = client.call_serde_timeout("hello", Duration::from_secs(5))?;
            /// assert_eq!(echoed, "hello");
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn call_serde_timeout<'c, Req, Resp>(
                &'c mut self,
                request: &Req,
                timeout: Duration,
            ) -> Result<Resp, CallSerdeError>
            where
                Req: Serialize + ?Sized,
                Resp: Deserialize<'c>,
            {
                let max = self.limits().max_call;
                response(with_encoded(request, max, |bytes| self.call_timeout(bytes, timeout))?)
            }

            /// As [`call_serde`](Self::call_serde), waiting until the deadline, as
            /// [`call_deadline`](Self::call_deadline) does.
            ///
            /// # Errors
            ///
            /// Those of [`call_serde`](Self::call_serde), and the time-out as
            /// [`CallError::TimedOut`](crate::CallError::TimedOut).
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
            /// let echoed: Vec<u8> = client.call_serde_deadline(&vec![1_u8, 2], deadline)?;
            /// assert_eq!(echoed, [1, 2]);
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn call_serde_deadline<'c, Req, Resp>(
                &'c mut self,
                request: &Req,
                deadline: Instant,
            ) -> Result<Resp, CallSerdeError>
            where
                Req: Serialize + ?Sized,
                Resp: Deserialize<'c>,
            {
                let max = self.limits().max_call;
                response(with_encoded(request, max, |bytes| self.call_deadline(bytes, deadline))?)
            }

            /// Sends a call with a value, without waiting for its response. Blocks as
            /// [`submit`](Self::submit) does. Needs the feature `serde`.
            ///
            /// # Errors
            ///
            /// [`CallSerdeError::Request`], or the errors of [`submit`](Self::submit).
            ///
            /// # Examples
            ///
            /// ```
            /// # use ringpost::{Client, Server};
            /// # let directory = tempfile::tempdir()?;
            /// # let path = directory.path().join("bus");
            /// # let _server = Server::builder(&path).start()?;
            /// # let mut client = Client::register(&path, "alice")?;
            /// client.submit_serde("one")?; // to a service that echoes
            /// client.submit_serde("two")?;
            /// assert_eq!(client.response_serde::<String>()?, "one");
            /// assert_eq!(client.response_serde::<&str>()?, "two");
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn submit_serde<Req>(&mut self, request: &Req) -> Result<(), CallSerdeError>
            where
                Req: Serialize + ?Sized,
            {
                let max = self.limits().max_call;
                Ok(with_encoded(request, max, |bytes| self.submit(bytes))??)
            }

            /// The response to the oldest call submitted, as a value. Blocks as [`response`](Self::response)
            /// does. Needs the feature `serde`.
            ///
            /// # Errors
            ///
            /// Those of [`response`](Self::response), or [`CallSerdeError::Response`]; the response is taken
            /// in that case, too.
            ///
            /// # Examples
            ///
            /// ```
            /// # use ringpost::{Client, Server};
            /// # let directory = tempfile::tempdir()?;
            /// # let path = directory.path().join("bus");
            /// # let _server = Server::builder(&path).start()?;
            /// # let mut client = Client::register(&path, "alice")?;
            /// client.submit_serde("hello")?; // to a service that echoes
            /// assert_eq!(client.response_serde::<&str>()?, "hello");
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn response_serde<'c, Resp: Deserialize<'c>>(&'c mut self) -> Result<Resp, CallSerdeError> {
                response(self.response())
            }

            /// As [`response_serde`](Self::response_serde), waiting at most this long. After a time-out the
            /// response is still outstanding.
            ///
            /// # Errors
            ///
            /// Those of [`response_timeout`](Self::response_timeout), or [`CallSerdeError::Response`].
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
            /// client.submit_serde("hello")?;
            /// let echoed: String = client.response_serde_timeout(Duration::from_secs(5))?;
            /// assert_eq!(echoed, "hello");
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn response_serde_timeout<'c, Resp: Deserialize<'c>>(
                &'c mut self,
                timeout: Duration,
            ) -> Result<Resp, CallSerdeError> {
                response(self.response_timeout(timeout))
            }

            /// Sends a value to another client. Blocks as [`send`](Self::send) does. Needs the feature
            /// `serde`.
            ///
            /// # Errors
            ///
            /// [`SendSerdeError::Message`] if it cannot be encoded or is too large, or the errors of
            /// [`send`](Self::send).
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
            /// alice.send_serde(bob.key(), &vec!["a", "b"])?;
            /// assert_eq!(bob.recv_serde::<Vec<String>>()?.into_payload(), ["a", "b"]);
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn send_serde<T>(&mut self, to: Key, message: &T) -> Result<(), SendSerdeError>
            where
                T: Serialize + ?Sized,
            {
                let max = self.limits().max_message;
                Ok(with_encoded(message, max, |bytes| self.send(to, bytes))??)
            }

            /// As [`send_serde`](Self::send_serde), waiting at most this long for room in the receiver's
            /// inbox, as [`send_timeout`](Self::send_timeout) does.
            ///
            /// # Errors
            ///
            /// [`SendSerdeError::Message`], or the errors of [`send_timeout`](Self::send_timeout).
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
            /// alice.send_serde_timeout(bob.key(), "hello", Duration::from_secs(5))?;
            /// assert_eq!(bob.recv_serde::<String>()?.payload(), "hello");
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn send_serde_timeout<T>(
                &mut self,
                to: Key,
                message: &T,
                timeout: Duration,
            ) -> Result<(), SendSerdeError>
            where
                T: Serialize + ?Sized,
            {
                let max = self.limits().max_message;
                Ok(with_encoded(message, max, |bytes| self.send_timeout(to, bytes, timeout))??)
            }

            /// As [`send_serde`](Self::send_serde), waiting until the deadline for room in the receiver's
            /// inbox, as [`send_deadline`](Self::send_deadline) does.
            ///
            /// # Errors
            ///
            /// [`SendSerdeError::Message`], or the errors of [`send_deadline`](Self::send_deadline).
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
            /// alice.send_serde_deadline(bob.key(), "hello", Instant::now() + Duration::from_secs(5))?;
            /// assert_eq!(bob.recv_serde::<String>()?.payload(), "hello");
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn send_serde_deadline<T>(
                &mut self,
                to: Key,
                message: &T,
                deadline: Instant,
            ) -> Result<(), SendSerdeError>
            where
                T: Serialize + ?Sized,
            {
                let max = self.limits().max_message;
                Ok(with_encoded(message, max, |bytes| self.send_deadline(to, bytes, deadline))??)
            }
        }
    };
}

macro_rules! serde_messages {
    ($who:ty) => {
        /// Messages of all types that serde knows, with the feature `serde`; see [`codec`](crate::codec).
        impl $who {
            /// The next message as a value, if one is there. Does not block. Needs the feature `serde`.
            ///
            /// # Errors
            ///
            /// [`RecvAsError::Recv`] with the errors of [`try_recv`](Self::try_recv);
            /// [`RecvAsError::Payload`] with the message if it is not a `T`.
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
            /// assert!(bob.try_recv_serde::<String>().is_err()); // nothing is there
            /// alice.send_serde(bob.key(), "hello")?;
            /// assert_eq!(bob.try_recv_serde::<String>()?.payload(), "hello");
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn try_recv_serde<T: DeserializeOwned>(
                &mut self,
            ) -> Result<MessageOf<T>, RecvAsError<TryRecvError>> {
                typed(self.try_recv(), |message| message.payload_serde())
            }

            /// The next message as a value, waiting as long as it takes, as [`recv`](Self::recv) does. Needs
            /// the feature `serde`.
            ///
            /// # Errors
            ///
            /// [`RecvAsError::Recv`] with the errors of [`recv`](Self::recv); [`RecvAsError::Payload`] with
            /// the message if it is not a `T`: other clients can send what they like.
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
            /// alice.send_serde(bob.key(), "hello")?;
            /// let message = bob.recv_serde::<String>()?;
            /// assert_eq!(message.payload(), "hello");
            /// assert_eq!(message.from_name(), &"alice");
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn recv_serde<T: DeserializeOwned>(
                &mut self,
            ) -> Result<MessageOf<T>, RecvAsError<RecvError>> {
                typed(self.recv(), |message| message.payload_serde())
            }

            /// As [`recv_serde`](Self::recv_serde), waiting at most this long.
            ///
            /// # Errors
            ///
            /// [`RecvAsError::Recv`] with the errors of [`recv_timeout`](Self::recv_timeout), or
            /// [`RecvAsError::Payload`].
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
            /// alice.send_serde(bob.key(), "hello")?;
            /// assert_eq!(bob.recv_serde_timeout::<String>(Duration::from_secs(5))?.payload(), "hello");
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn recv_serde_timeout<T: DeserializeOwned>(
                &mut self,
                timeout: Duration,
            ) -> Result<MessageOf<T>, RecvAsError<RecvTimeoutError>> {
                typed(self.recv_timeout(timeout), |message| message.payload_serde())
            }

            /// As [`recv_serde`](Self::recv_serde), waiting until the deadline.
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
            /// # let mut client = Client::register(&path, "alice")?;
            /// assert!(client.recv_serde_deadline::<String>(Instant::now()).is_err()); // nothing came
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn recv_serde_deadline<T: DeserializeOwned>(
                &mut self,
                deadline: Instant,
            ) -> Result<MessageOf<T>, RecvAsError<RecvTimeoutError>> {
                typed(self.recv_deadline(deadline), |message| message.payload_serde())
            }
        }
    };
}

serde_calls!(Caller);
serde_calls!(Client);
serde_messages!(Inbox);
serde_messages!(Client);

fn response<'c, T: Deserialize<'c>>(came: Result<&'c [u8], CallError>) -> Result<T, CallSerdeError> {
    codec::decode(came?).map_err(CallSerdeError::Response)
}
