//! Why an end cannot wait in an event loop.

#![forbid(unsafe_code)]

use std::io;

use crate::wire::CloseReason;

/// Why an end has no descriptor for an event loop, or cannot wait by it: of [`Ready`](crate::Ready).
///
/// # Examples
///
/// ```
/// use ringpost::{CloseReason, ReadinessError, Ready};
///
/// # let (_bus, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/one.rs"));
/// let mut listener = bob.listen()?;
/// assert!(matches!(listener.arm(), Err(ReadinessError::NotAsked)));
/// let _readiness = listener.readiness()?;
/// assert!(listener.arm()?); // nobody asks for a link: wait
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadinessError {
    /// The connection has ended, and nothing is left to look at.
    #[error("disconnected: {0}")]
    Disconnected(CloseReason),
    /// The server did not answer within [`ClientBuilder::timeout`](crate::ClientBuilder::timeout).
    #[error(
        "the server did not answer in time: it may be stopped or busy with this client's calls, try again"
    )]
    TimedOut,
    /// The server refused, in its own words.
    #[error("the server refused: {0}")]
    Refused(String),
    /// The end was never asked for its readiness, or the client has registered again since.
    #[error("nothing to wait by: ask for the readiness first, and again after each registration")]
    NotAsked,
    /// The end did not say, when it was made, that it may wait in an event loop.
    #[error(
        "this end cannot wait in an event loop: open or accept the link, publish or subscribe with `arms`"
    )]
    NotArmable,
    /// A system call failed.
    #[error("cannot {action}: {source}")]
    System {
        /// What was being done.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}
