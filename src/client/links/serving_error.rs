//! The errors of a client that serves others: of listening, and of accepting.

#![forbid(unsafe_code)]

use std::io;

use crate::client::error::CANNOT_WAIT;
use crate::client::topics::PublishError;
use crate::os::remedy::on_memory_or_threads;
use crate::wire::CloseReason;

/// Why a client does not serve others: of [`Client::listen`](crate::Client::listen) and
/// [`Listener::serve`](crate::Listener::serve).
///
/// # Examples
///
/// ```
/// use ringpost::ServeError;
///
/// # let (_bus, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/one.rs"));
/// let listener = bob.listen()?;
/// assert!(matches!(bob.listen(), Err(ServeError::Listening)));
/// drop(listener);
/// let _listener = bob.listen()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The client has a listener.
    #[error("this client listens already: use that listener, or drop it first")]
    Listening,
    /// The client is not registered: its connection has ended.
    #[error("the client is not registered any more: {0}")]
    Disconnected(CloseReason),
    /// The server did not answer within [`ClientBuilder::timeout`](crate::ClientBuilder::timeout).
    #[error("the server did not answer in time: it may be stopped or overloaded, try again")]
    TimedOut,
    /// A rule of the server closes serving to this client. The text says which, and what to do.
    #[error("the server refused: {0}")]
    NotAllowed(String),
    /// The server refused, in its own words.
    #[error("the server refused: {0}")]
    Refused(String),
    /// Copies of what it serves cannot be published: of
    /// [`Caller::listen_tappable`](crate::Caller::listen_tappable).
    #[error("its links cannot be tapped: {0}")]
    NotTappable(#[from] PublishError),
    /// A system call failed.
    #[error("cannot {action}: {source}{}", on_memory_or_threads(source))]
    System {
        /// What was being done.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// Why no link was accepted: of [`Listener::accept`](crate::Listener::accept) and its other forms, and of
/// [`Incoming::accept`](crate::Incoming::accept).
///
/// # Examples
///
/// ```
/// use ringpost::{AcceptError, CloseReason};
/// use std::time::Duration;
///
/// # let (_bus, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/one.rs"));
/// let mut listener = bob.listen()?;
/// assert_eq!(listener.accept_timeout(Duration::ZERO).unwrap_err(), AcceptError::TimedOut);
/// bob.unregister()?;
/// let ended = AcceptError::Disconnected(CloseReason::Unregistered);
/// assert_eq!(listener.accept().unwrap_err(), ended);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// Of a listener: the client is not registered, for now or for good, or the listener was closed. Of an
    /// incoming link: the caller has given up or is gone.
    #[error("disconnected: {0}")]
    Disconnected(CloseReason),
    /// Of a listener: nobody asked for a link until the deadline.
    #[error("no link in time")]
    TimedOut,
    /// Callers cannot be waited for any more in this runtime: only operations of `Async` say so.
    #[error("{CANNOT_WAIT}")]
    CannotWait,
}
