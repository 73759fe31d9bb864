//! Why a link was not opened.

#![forbid(unsafe_code)]

use std::io;

use crate::channel::ChannelError;
use crate::client::RegisterError;
use crate::os::remedy::on_memory_or_threads;
use crate::wire::{CloseReason, NameError, Violation};

/// Why there is no link: what [`connect`](crate::Client::connect) says. The texts say what to do.
///
/// Nothing was called, and nothing is left of the attempt: to connect again does no harm.
///
/// # Examples
///
/// ```
/// use ringpost::ConnectError;
///
/// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
/// assert!(matches!(alice.connect("carol"), Err(ConnectError::NotFound)));
/// assert!(matches!(alice.connect("bob"), Err(ConnectError::NotServing)));
/// let mut listener = bob.listen()?;
/// let bobs = std::thread::spawn(move || listener.accept().map(|alice| alice.refuse("not today")));
/// match alice.connect("bob") {
///     Err(ConnectError::Refused(why)) => assert_eq!(why, "not today"),
///     other => panic!("{other:?}"),
/// }
/// # bobs.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The text is neither a key nor a name that a client can have.
    #[error("no client can have this name: {0}")]
    InvalidName(#[from] NameError),
    /// No client has this key or name now.
    #[error(
        "no client has this key or name: it has left, or never was; wait for it with wait_for, then connect to its name"
    )]
    NotFound,
    /// The client takes no links.
    #[error("the client takes no links: it has to listen for them (Client::listen)")]
    NotServing,
    /// The client refused, in its own words.
    #[error("the client refused the link: {0}")]
    Refused(String),
    /// More callers than the client accepts wait for it already. The text is the server's, if it said so, or
    /// the client's.
    #[error("the client is busy: {0}")]
    Busy(String),
    /// This user has as much of the server as one user may have, or this client as many links as one client
    /// may have. The text names the limit, and the option that changes it.
    #[error("the server refused: {0}")]
    Quota(String),
    /// A rule of the server closes the client to this client. The text says which, and what to do.
    #[error("the server refused: {0}")]
    NotAllowed(String),
    /// There was no link before the time was over.
    #[error(
        "no link in time: the client may be stopped, overloaded or not accepting, or the server be stopped; try again, or give it \
         longer (timeout)"
    )]
    TimedOut,
    /// This client is not registered any more, so the server cannot introduce it.
    #[error("this client is not registered any more: {0}; register again to open links")]
    ServerGone(CloseReason),
    /// The link ended before the client accepted it.
    #[error("the link ended before it was accepted: {0}; the client may have left: try again")]
    Gone(CloseReason),
    /// The server could not be asked, or refused for another reason.
    #[error(transparent)]
    Server(RegisterError),
    /// Rings of this size cannot be, or the memory that the server sent is not that of a link.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The client broke a rule; the link was closed.
    #[error("the client broke the protocol: {0}")]
    Violation(Violation),
    /// A system call failed.
    #[error("cannot {action}: {source}{}", on_memory_or_threads(source))]
    System {
        /// What was being done.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

impl ConnectError {
    /// Whether the time was over first.
    pub fn is_timeout(&self) -> bool {
        matches!(self, ConnectError::TimedOut)
    }

    /// Whether this client itself is not registered any more.
    pub fn is_disconnected(&self) -> bool {
        matches!(self, ConnectError::ServerGone(_))
    }
}
