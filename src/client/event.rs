//! What a client that registers again tells of it.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use super::error::RegisterError;
use crate::wire::CloseReason;
use crate::wire::Key;

/// What happens to the registration of a client that [registers again](super::Reconnect).
///
/// # Examples
///
/// ```
/// use ringpost::ReconnectEvent;
///
/// fn show(event: &ReconnectEvent) {
///     match event {
///         ReconnectEvent::Ended { reason } => eprintln!("no server any more: {reason}"),
///         ReconnectEvent::Failed { attempt, error, again_in } => {
///             eprintln!("attempt {attempt}: {error}; again in {again_in:?}");
///         }
///         ReconnectEvent::Registered { key, .. } => eprintln!("registered again, key {key}"),
///         other => eprintln!("{other}"),
///     }
/// }
/// # let _ = show;
/// ```
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReconnectEvent {
    /// The connection ended, and an operation found out.
    #[error("disconnected: {reason}")]
    Ended {
        /// Why.
        reason: CloseReason,
    },
    /// An attempt failed, and another one will be made.
    #[error("attempt {attempt} to register again failed: {error}")]
    Failed {
        /// Its number, from 1 on.
        attempt: u32,
        /// Why.
        error: Arc<RegisterError>,
        /// When the next one is due.
        again_in: Duration,
    },
    /// The client is registered under its name again, with another key: keys are never used again.
    #[error("registered again, with the key {key}")]
    Registered {
        /// The new key.
        key: Key,
        /// How many attempts it took.
        attempts: u32,
    },
    /// The last attempt failed: the client has ended.
    #[error("gave up after {attempts} attempts: {error}")]
    GaveUp {
        /// How many were made.
        attempts: u32,
        /// Why the last one failed.
        error: Arc<RegisterError>,
    },
}

/// Why [`Caller::reconnect`](super::Caller::reconnect) did not register the client again.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, ReconnectError};
///
/// # use ringpost::Server;
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// # let _server = Server::builder(&path).start()?;
/// let mut plain = Client::register(&path, "alice")?;
/// assert!(matches!(plain.caller().reconnect(None), Err(ReconnectError::NotAsked)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReconnectError {
    /// The client was not told to.
    #[error("this client does not register again: set `reconnect` before it registers")]
    NotAsked,
    /// The server did not come back in time, or refused.
    #[error("gave up after {attempts} attempts, the last one because: {error}")]
    GaveUp {
        /// How many were made.
        attempts: u32,
        /// Why the last one failed.
        error: Arc<RegisterError>,
    },
    /// The client has ended for a reason that another connection would not change.
    #[error("the client has ended: {0}")]
    Ended(CloseReason),
    /// The time was up before the attempts were. A later operation goes on with them.
    #[error("not registered again in this time: ask again to go on trying")]
    TimedOut,
}
