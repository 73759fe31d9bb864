//! The errors of a client's operations: one type for each operation, whatever limit in time it was given.

#![forbid(unsafe_code)]

use std::io;
use std::path::PathBuf;

use crate::channel::ChannelError;
use crate::codec::EncodeError;
use crate::connect::is_unknown_user;
use crate::link::Stop;
use crate::os::remedy::on_memory_or_threads;
use crate::wire::{CloseReason, NameError, Status, Violation};

/// Why a client was not registered, or a server could not be asked. The texts say what to do.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, RegisterError};
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// match Client::register(&path, "alice") {
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
    /// A rule of the server closes the name to this client. The text says which, and what to do.
    #[error("the server refused: {0}")]
    NotAllowed(String),
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

/// Why a server did not carry out an [operator's command](crate::Observer::control).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The server carried it out, and it failed. The text is the server's.
    #[error("{0}")]
    Failed(String),
    /// This user may give the server no commands.
    #[error("only the server's own user and root may give it commands: run this as one of them")]
    NotPermitted,
    /// The server's program takes no commands.
    #[error("this server takes no commands: its program has set none (control)")]
    NoCommands,
    /// Too many commands wait.
    #[error("too many commands wait for the server: try again")]
    Busy,
    /// The command is empty or too long.
    #[error("a command of {0} bytes: give one of 1 to 4096 bytes")]
    Length(usize),
    /// The server could not be asked.
    #[error(transparent)]
    Asking(#[from] RegisterError),
}

/// Why a request has no result: a call of the server's or, over a [`Link`](super::Link), another client's
/// service, or a question about the registry.
///
/// [`may_have_executed`](Self::may_have_executed) tells what asking again would do.
///
/// # Examples
///
/// ```
/// use ringpost::{CallError, Client, Request, Response, Server, ServiceError};
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let _server = Server::builder(&path)
///     .service(|_: Request<'_>, _: &mut Response<'_>| Err(ServiceError::new("out of order")))
///     .start()?;
/// let mut client = Client::register(&path, "alice")?;
/// let error = client.call(b"x").unwrap_err();
/// assert_eq!(error, CallError::ServiceFailed("out of order".into()));
/// assert!(error.may_have_executed());
/// let max = client.limits().max_call;
/// let error = client.call(&vec![0; max + 1]).unwrap_err();
/// assert_eq!(error, CallError::TooLarge { len: max + 1, max });
/// assert!(!error.may_have_executed());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The request is larger than a block; nothing was sent.
    #[error(
        "{len} bytes are more than the largest payload here, {max} bytes: send less, or start the server with larger rings \
         (ring_size, --ring-size), and a larger max_block if it was given one; a link can have larger ones of its own \
         (ring_size)"
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
    /// The name asked for is not one that a client can have; nothing was sent.
    #[error("no client can have this name: {0}")]
    InvalidName(#[from] NameError),
    /// There is no room for the request now; nothing was sent. Only
    /// [`Caller::try_submit`](super::Caller::try_submit) says so: the others wait.
    #[error("the request ring is full: collect responses, or submit without try")]
    Full,
    /// No response came before the deadline. A call may have been executed, or may yet be; if a client that
    /// registers again was waiting for a server, it was not sent.
    #[error("no response before the deadline; the request may have been executed")]
    TimedOut,
    /// The channel was closed before the response came. A call may have been executed.
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
    /// The server, or a link's other client, could not execute the request, in its own words.
    #[error("the other side could not do it: {0}")]
    Server(String),
    /// Too many responses to submitted calls are waiting to be collected; this call was not sent.
    #[error("{most} responses were not collected: collect some with response() before submitting more")]
    Uncollected {
        /// How many are kept at most.
        most: usize,
    },
    /// The response cannot be waited for any more in this runtime; the request may have been executed. Only
    /// operations of `Async` say so.
    #[error("{CANNOT_WAIT}")]
    CannotWait,
    /// Every submitted call's response was collected.
    #[error("nothing was submitted that a response could come for: submit() first")]
    NothingOutstanding,
    /// The server, or a link's other client, broke a rule; the channel or the link was closed.
    #[error("the other side broke the protocol: {0}")]
    Violation(Violation),
}

impl CallError {
    /// Whether the service may have seen the request, or may yet see it. If not, asking again is safe.
    pub fn may_have_executed(&self) -> bool {
        match self {
            CallError::TimedOut
            | CallError::Disconnected(_)
            | CallError::ServiceFailed(_)
            | CallError::ResponseTooLarge(_)
            | CallError::Server(_)
            | CallError::CannotWait
            | CallError::Violation(_) => true,
            CallError::TooLarge { .. }
            | CallError::Encode(_)
            | CallError::InvalidName(_)
            | CallError::Full
            | CallError::NotSent(_)
            | CallError::ShuttingDown
            | CallError::Uncollected { .. }
            | CallError::NothingOutstanding => false,
        }
    }

    /// Whether the connection has ended, before or after the request was sent.
    pub fn is_disconnected(&self) -> bool {
        matches!(self, CallError::Disconnected(_) | CallError::NotSent(_))
    }

    /// Whether the deadline passed first.
    pub fn is_timeout(&self) -> bool {
        matches!(self, CallError::TimedOut)
    }
}

/// Why a message is not known to be in the receiver's inbox.
///
/// [`may_have_executed`](Self::may_have_executed) tells whether it may be there all the same.
///
/// # Examples
///
/// ```
/// use ringpost::SendError;
///
/// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
/// let large = vec![0; alice.limits().max_message];
/// let error = loop {
///     match alice.try_send(bob.key(), &large) {
///         Ok(()) => {} // bob does not receive, so his inbox fills
///         Err(error) => break error,
///     }
/// };
/// assert_eq!(error, SendError::InboxFull);
/// bob.recv()?;
/// alice.try_send("bob", &large)?; // there is room again
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// No client has this key or name now. A key is never given twice.
    #[error("no client has this key or name: it has left, or never was; look its name up again")]
    NotFound,
    /// The text is neither a key nor a name that a client can have.
    #[error("no client can have this name: {0}")]
    InvalidName(#[from] NameError),
    /// A rule of the server closes the receiver to this client. The text says which, and what to do.
    #[error("the server refused: {0}")]
    NotAllowed(String),
    /// There is no room in the receiver's inbox now. Only `try_send` says so: the others wait.
    #[error("the receiver's inbox is full: try again, or wait for room with send")]
    InboxFull,
    /// The receiver left while the message was on its way, or has dropped its [`Inbox`](crate::Inbox) and
    /// takes no messages any more. The message was not delivered.
    #[error(
        "the receiver has left, or has given up its inbox: look its name up again; one that still has this key takes no messages"
    )]
    Gone,
    /// The message was not delivered before the deadline: there was no room in the receiver's inbox, or a
    /// client that registers again was waiting for a server.
    #[error("there was no room in the receiver's inbox, or no server, before the deadline")]
    TimedOut,
    /// The server did not answer before the deadline. The message may have been delivered.
    #[error("the server did not answer before the deadline; the message may have been delivered")]
    NoAnswer,
    /// The receiver is on another computer, for example, and what became of the message is not known: the
    /// [relay](crate::ClientBuilder::relay) that stands for it here has not said so before the deadline (or
    /// within 5 s), has ended, or does not know. The message may have been delivered.
    #[error(
        "the relay that carries messages to the receiver did not confirm it; the message may have been delivered"
    )]
    Unconfirmed,
    /// The message cannot be encoded; nothing was sent.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The message is larger than a block; nothing was sent.
    #[error(
        "{len} bytes are more than the largest payload here, {max} bytes: send less, or start the server with larger rings \
         (ring_size, --ring-size), and a larger max_block if it was given one"
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
    /// The answer cannot be waited for any more in this runtime; the message may have been delivered. Only
    /// operations of `Async` say so.
    #[error("{CANNOT_WAIT}")]
    CannotWait,
    /// The server could not deliver it, in its own words.
    #[error("the server could not do it: {0}")]
    Server(String),
    /// The server broke a rule; the channel was closed.
    #[error("the server broke the protocol: {0}")]
    Violation(Violation),
}

impl SendError {
    /// Whether the message may be in the receiver's inbox all the same. If not, sending it again is safe.
    pub fn may_have_executed(&self) -> bool {
        matches!(
            self,
            SendError::NoAnswer
                | SendError::Unconfirmed
                | SendError::Disconnected(_)
                | SendError::CannotWait
                | SendError::Violation(_)
        )
    }

    /// Whether the connection has ended, before or after the message was sent.
    pub fn is_disconnected(&self) -> bool {
        matches!(self, SendError::Disconnected(_) | SendError::NotSent(_))
    }

    /// Whether the deadline passed first.
    pub fn is_timeout(&self) -> bool {
        matches!(self, SendError::TimedOut | SendError::NoAnswer)
    }

    /// The receiver's name could not be looked up, so the message was not sent.
    #[cold]
    pub(crate) fn of_look_up(error: CallError) -> SendError {
        match error {
            CallError::TimedOut => SendError::TimedOut,
            CallError::Disconnected(reason) => SendError::NotSent(reason),
            error => error.into(),
        }
    }
}

/// Why no message was received.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, CloseReason, RecvError, Server};
/// use std::time::Duration;
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let server = Server::builder(&path).start()?;
/// let mut client = Client::register(&path, "alice")?;
/// let nothing = client.recv_timeout(Duration::from_millis(5)).unwrap_err();
/// assert!(nothing.is_timeout());
/// server.join_after_shutdown();
/// assert_eq!(client.recv(), Err(RecvError::Disconnected(CloseReason::Shutdown)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// No message came before the deadline.
    #[error("no message before the deadline")]
    TimedOut,
    /// The inbox is empty, and nothing can come any more: the connection has ended.
    #[error("disconnected: {0}")]
    Disconnected(CloseReason),
    /// Messages cannot be waited for any more in this runtime: only operations of `Async` say so.
    #[error("{CANNOT_WAIT}")]
    CannotWait,
    /// The server broke a rule; the channel was closed.
    #[error("the server broke the protocol: {0}")]
    Violation(Violation),
}

impl RecvError {
    /// Whether the connection has ended, and everything was received that came before.
    pub fn is_disconnected(&self) -> bool {
        matches!(self, RecvError::Disconnected(_))
    }

    /// Whether the deadline passed first.
    pub fn is_timeout(&self) -> bool {
        matches!(self, RecvError::TimedOut)
    }
}

impl From<CallError> for SendError {
    #[cold]
    fn from(error: CallError) -> SendError {
        match error {
            CallError::TooLarge { len, max } => SendError::TooLarge { len, max },
            CallError::Encode(error) => SendError::Encode(error),
            CallError::InvalidName(error) => SendError::InvalidName(error),
            CallError::TimedOut => SendError::NoAnswer,
            CallError::Disconnected(reason) => SendError::Disconnected(reason),
            CallError::NotSent(reason) => SendError::NotSent(reason),
            CallError::ShuttingDown => SendError::ShuttingDown,
            CallError::CannotWait => SendError::CannotWait,
            CallError::Violation(violation) => SendError::Violation(violation),
            CallError::ServiceFailed(why) | CallError::ResponseTooLarge(why) | CallError::Server(why) => {
                SendError::Server(why)
            }
            CallError::Full | CallError::NothingOutstanding | CallError::Uncollected { .. } => {
                SendError::Server(error.to_string())
            }
        }
    }
}

/// The end was wrapped for a runtime, and then that ended, or the client registered again.
pub(super) const CANNOT_WAIT: &str = "this runtime has ended, or the client has registered again: take it out with into_inner, and \
                                      wrap it again";

/// A response did not come.
pub(super) fn no_response(stop: Stop) -> CallError {
    match stop {
        Stop::Deadline => CallError::TimedOut,
        Stop::Closed(reason) => CallError::Disconnected(reason),
        Stop::Fault(violation) => CallError::Violation(violation),
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
pub(super) fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GONE: CloseReason = CloseReason::Died;

    #[test]
    fn errors_tell_what_asking_again_would_do() {
        let violation = Violation::MalformedBlock;
        for (error, executed, disconnected, timeout) in [
            (CallError::TooLarge { len: 2, max: 1 }, false, false, false),
            (CallError::Full, false, false, false),
            (CallError::TimedOut, true, false, true),
            (CallError::Disconnected(GONE), true, true, false),
            (CallError::NotSent(GONE), false, true, false),
            (CallError::ServiceFailed(String::new()), true, false, false),
            (CallError::ShuttingDown, false, false, false),
            (CallError::Violation(violation), true, false, false),
        ] {
            let found = (error.may_have_executed(), error.is_disconnected(), error.is_timeout());
            assert_eq!(found, (executed, disconnected, timeout), "{error:?}");
        }
        for (error, delivered, disconnected, timeout) in [
            (SendError::NotFound, false, false, false),
            (SendError::InboxFull, false, false, false),
            (SendError::TimedOut, false, false, true),
            (SendError::NoAnswer, true, false, true),
            (SendError::Unconfirmed, true, false, false),
            (SendError::Disconnected(GONE), true, true, false),
            (SendError::NotSent(GONE), false, true, false),
            (SendError::Violation(violation), true, false, false),
        ] {
            let found = (error.may_have_executed(), error.is_disconnected(), error.is_timeout());
            assert_eq!(found, (delivered, disconnected, timeout), "{error:?}");
        }
        assert!(RecvError::TimedOut.is_timeout() && RecvError::Disconnected(GONE).is_disconnected());
    }

    /// A name that could not be looked up is a message that was not sent.
    #[test]
    fn a_look_up_that_fails_sends_nothing() {
        for (error, expected) in [
            (CallError::TimedOut, SendError::TimedOut),
            (CallError::Disconnected(GONE), SendError::NotSent(GONE)),
            (CallError::NotSent(GONE), SendError::NotSent(GONE)),
        ] {
            let error = SendError::of_look_up(error);
            assert!(!error.may_have_executed(), "{error:?}");
            assert_eq!(error, expected);
        }
    }
}
