//! One error type for each operation of a client.

#![forbid(unsafe_code)]

use std::io;
use std::path::PathBuf;

use crate::channel::ChannelError;
use crate::codec::EncodeError;
use crate::connect::is_unknown_user;
use crate::os::remedy::on_memory_or_threads;
use crate::ring::{CloseReason, RecvTimeoutError, SendTimeoutError, Violation};
use crate::wire::{NameError, Status};

/// Why a client was not registered, or a server could not be asked. The texts say what to do.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, RegisterError};
///
/// # let directory = tempfile::tempdir()?;
/// match Client::register(directory.path().join("bus"), "alice") {
///     Ok(client) => println!("registered, key {}", client.key()),
///     Err(RegisterError::NoServer { path, .. }) => println!("start a server at {path:?} first"),
///     Err(error) => return Err(error.into()),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The name is not one that a client can have.
    #[error("{name:?} cannot be registered: {source}")]
    InvalidName {
        /// The name asked for.
        name: String,
        /// What is wrong with it.
        source: NameError,
    },
    /// Another client holds the name.
    #[error("the name {name:?} is taken: choose another one, or wait until its client is gone")]
    NameTaken {
        /// The name asked for.
        name: String,
    },
    /// No server listens there.
    #[error(
        "no server at {path:?} ({source}): start the program whose server listens there, or start one with ringpost-server \
         --socket {path:?}"
    )]
    NoServer {
        /// Where one was expected.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The path is longer than a socket's address can be.
    #[error("{path:?} is too long for a socket: use a path of at most 104 bytes")]
    PathTooLong {
        /// Where a server was expected.
        path: PathBuf,
    },
    /// The socket's permissions, or the server, do not let this user in.
    #[error("not permitted to connect to {path:?}: {why}")]
    NotPermitted {
        /// The socket.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// The server runs as another user, in a place where anybody could have put a socket.
    #[error(
        "the server at {path:?} runs as user {uid}, and others could have put its socket there: {}",
        on_untrusted(*uid)
    )]
    Untrusted {
        /// The socket.
        path: PathBuf,
        /// The user that the server runs as.
        uid: u32,
    },
    /// What listens there is not a ringpost server.
    #[error("what listens at {path:?} is not a ringpost server: choose another socket")]
    NotRingpost {
        /// The socket.
        path: PathBuf,
    },
    /// The server speaks another version of the protocol.
    #[error(
        "the server speaks protocol version {server}, this program {own}: use the same ringpost version on both sides"
    )]
    VersionMismatch {
        /// The server's version.
        server: u32,
        /// This library's.
        own: u32,
    },
    /// The server has as many clients as it was told to accept.
    #[error("{0}")]
    Full(String),
    /// This user has as much of the server as one user may have: see [`Quotas`](crate::Quotas). The text
    /// names the quota, and the option that changes it.
    #[error("the server refused: {0}")]
    Quota(String),
    /// The server refused, in its own words.
    #[error("the server refused: {0}")]
    Refused(String),
    /// The server did not answer in time.
    #[error("the server at {path:?} did not answer in time: it may be stopped or overloaded, try again")]
    TimedOut {
        /// The socket.
        path: PathBuf,
    },
    /// The channel that the server sent is not one.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// A system call failed.
    #[error("cannot {action}: {source}{}", on_memory_or_threads(source))]
    System {
        /// What was being done.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// Why a request to the server has no result.
///
/// Each says whether the request can have been executed, so that a program knows what asking again would do:
///
/// | error | executed |
/// | --- | --- |
/// | `TooLarge`, `Encode`, `NotSent`, `Uncollected`, `NothingOutstanding`, `ShuttingDown` | no |
/// | `ServiceFailed`, `ResponseTooLarge` | yes, by the service |
/// | `TimedOut`, `Disconnected` | perhaps, or not yet |
/// | `Server`, `Violation` | not known |
///
/// # Examples
///
/// ```
/// use ringpost::{CallError, Client, Request, Response, Server, ServiceError};
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("bus");
/// let _server = Server::builder(&path)
///     .service(|_: Request<'_>, _: &mut Response<'_>| Err(ServiceError::new("out of order")))
///     .start()?;
/// let mut client = Client::register(&path, "alice")?;
/// assert_eq!(client.call(b"x"), Err(CallError::ServiceFailed("out of order".into())));
/// let max = client.limits().max_call;
/// assert_eq!(client.call(&vec![0; max + 1]), Err(CallError::TooLarge { len: max + 1, max }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The request is larger than a block; nothing was sent.
    #[error(
        "{len} bytes are more than the largest payload here, {max} bytes: send less, or start the server with larger rings \
         (ServerBuilder::ring_size, --ring-size), and a larger max_block if it was given one"
    )]
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The most that can be sent.
        max: usize,
    },
    /// The request cannot be encoded; nothing was sent.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// No response came until the deadline. The request may have been executed, or may yet be; if a client
    /// that registers again was waiting for a server, it was not sent.
    #[error("no response until the deadline; the request may have been executed")]
    TimedOut,
    /// The channel was closed before the response came. The request may have been executed.
    #[error("disconnected: {0}; the request may have been executed")]
    Disconnected(CloseReason),
    /// The channel was closed before the request was sent: it was not executed.
    #[error("disconnected: {0}; the request was not sent")]
    NotSent(CloseReason),
    /// The service failed, in its own words.
    #[error("the service failed: {0}")]
    ServiceFailed(String),
    /// The service answered more than a block holds.
    #[error("the service answered too much: {0}")]
    ResponseTooLarge(String),
    /// The server is shutting down and did not execute the request.
    #[error("the server is shutting down: register again when it is back")]
    ShuttingDown,
    /// The server could not execute the request, in its own words.
    #[error("the server could not do it: {0}")]
    Server(String),
    /// Too many responses to submitted calls are waiting to be collected; this call was not sent.
    #[error("{most} responses were not collected: collect some with response() before submitting more")]
    Uncollected {
        /// How many are kept at the most.
        most: usize,
    },
    /// There is no response to wait for: nothing was submitted.
    #[error("nothing was submitted that a response could come for: submit() first")]
    NothingOutstanding,
    /// The server broke a rule; the channel was closed.
    #[error("the server broke the protocol: {0}")]
    Violation(Violation),
}

/// Why a message is not known to be in the receiver's inbox.
///
/// After `NoAnswer` and `Disconnected` it may be there, and after `Violation` nothing is known. In all other
/// cases it is not.
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
/// # let mut alice = Client::register(&path, "alice")?;
/// # let mut bob = Client::register(&path, "bob")?;
/// let large = vec![0; alice.limits().max_message];
/// let error = loop {
///     match alice.send(bob.key(), &large) {
///         Ok(()) => {} // bob does not receive
///         Err(error) => break error,
///     }
/// };
/// assert_eq!(error, SendError::InboxFull);
/// bob.recv()?;
/// alice.send(bob.key(), &large)?; // there is room again
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// No client has this key: it never had, or is gone. A key is never given twice.
    #[error("no client has this key: it has left, or never was; look its name up again")]
    UnknownKey,
    /// There is no room in the receiver's inbox now.
    #[error("the receiver's inbox is full: try again, or wait for room with a time-out")]
    InboxFull,
    /// The receiver left while the message was on its way, or has dropped its [`Inbox`](crate::Inbox) and
    /// takes no messages any more. The message was not delivered.
    #[error(
        "the receiver has left, or has given up its inbox: look its name up again; one that still has this key takes no messages"
    )]
    Gone,
    /// The message was not delivered until the deadline: there was no room in the receiver's inbox, or a
    /// client that registers again was waiting for a server.
    #[error("there was no room in the receiver's inbox, or no server, until the deadline")]
    TimedOut,
    /// The server did not answer until the deadline. The message may have been delivered.
    #[error("the server did not answer until the deadline; the message may have been delivered")]
    NoAnswer,
    /// The message cannot be encoded; nothing was sent.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The message is larger than a block; nothing was sent.
    #[error(
        "{len} bytes are more than the largest payload here, {max} bytes: send less, or start the server with larger rings \
         (ServerBuilder::ring_size, --ring-size), and a larger max_block if it was given one"
    )]
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The most that can be sent.
        max: usize,
    },
    /// The channel was closed before the answer came. The message may have been delivered.
    #[error("disconnected: {0}; the message may have been delivered")]
    Disconnected(CloseReason),
    /// The channel was closed before the message was sent.
    #[error("disconnected: {0}; the message was not sent")]
    NotSent(CloseReason),
    /// The server is shutting down and did not deliver the message.
    #[error("the server is shutting down: register again when it is back")]
    ShuttingDown,
    /// The server could not deliver it, in its own words.
    #[error("the server could not do it: {0}")]
    Server(String),
    /// The server broke a rule; the channel was closed.
    #[error("the server broke the protocol: {0}")]
    Violation(Violation),
}

impl From<CallError> for SendError {
    fn from(error: CallError) -> SendError {
        match error {
            CallError::TooLarge { len, max } => SendError::TooLarge { len, max },
            CallError::Encode(error) => SendError::Encode(error),
            CallError::TimedOut => SendError::NoAnswer,
            CallError::Disconnected(reason) => SendError::Disconnected(reason),
            CallError::NotSent(reason) => SendError::NotSent(reason),
            CallError::ShuttingDown => SendError::ShuttingDown,
            CallError::Violation(violation) => SendError::Violation(violation),
            CallError::ServiceFailed(why) | CallError::ResponseTooLarge(why) | CallError::Server(why) => {
                SendError::Server(why)
            }
            CallError::NothingOutstanding | CallError::Uncollected { .. } => {
                SendError::Server(error.to_string())
            }
        }
    }
}

/// A request was not committed.
pub(super) fn not_sent(error: SendTimeoutError) -> CallError {
    match error {
        SendTimeoutError::TimedOut => CallError::TimedOut,
        SendTimeoutError::TooLarge { len, max } => CallError::TooLarge { len, max },
        SendTimeoutError::Disconnected(reason) => CallError::NotSent(reason),
        SendTimeoutError::Violation(violation) => CallError::Violation(violation),
    }
}

/// A response did not come.
pub(super) fn no_response(error: RecvTimeoutError) -> CallError {
    match error {
        RecvTimeoutError::TimedOut => CallError::TimedOut,
        RecvTimeoutError::Disconnected(reason) => CallError::Disconnected(reason),
        RecvTimeoutError::Violation(violation) => CallError::Violation(violation),
    }
}

/// A response that is not OK, for every operation but send.
pub(super) fn refused(status: Status, text: &[u8]) -> CallError {
    let text = printable(text);
    match status {
        Status::ServiceFailed => CallError::ServiceFailed(text),
        Status::ResponseTooLarge => CallError::ResponseTooLarge(text),
        Status::ShuttingDown => CallError::ShuttingDown,
        _ if text.is_empty() => CallError::Server(format!("{status:?}")),
        _ => CallError::Server(text),
    }
}

/// What to do about a server of another user in a place that is not its alone.
fn on_untrusted(uid: u32) -> String {
    if is_unknown_user(uid) {
        format!(
            "{uid} is whoever has no number in this user namespace; connect from one in which the server's user has its own"
        )
    } else {
        format!("use a directory that only {uid} or root can write")
    }
}

/// Another process's text, without anything that could steer a terminal.
fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).collect()
}
