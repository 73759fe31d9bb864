//! `StartError`: why a server did not start.

#![forbid(unsafe_code)]

use std::io;

use super::access::AccessError;
use super::builder::MOST_CLIENTS;
use super::system_limits;
use crate::channel::ChannelError;
use crate::connect::ListenError;
use crate::registry::RegistryError;

/// Why a server did not start. Nothing is left behind.
///
/// # Examples
///
/// ```
/// use ringpost::{ListenError, Server, StartError};
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let _first = Server::builder(&path).start()?;
/// match Server::builder(&path).start() {
///     Err(StartError::Listen(ListenError::InUse(path))) => println!("a server runs at {path:?} already"),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The number of clients is 0 or too large.
    #[error("max_clients must be 1 to {MOST_CLIENTS}, got {0}")]
    MaxClients(u32),
    /// The sizes of the rings are not possible.
    #[error(transparent)]
    Geometry(#[from] ChannelError),
    /// Who may use the server, and for what, is not said as it must be.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// This machine does not have the CPU to pin to, or this process may not use it.
    #[error(
        "cannot pin to CPU {cpu}: {source}; use a CPU that this process may run on (`taskset -p $$` tells)"
    )]
    Pin {
        /// The CPU asked for.
        cpu: usize,
        /// The system's answer.
        source: io::Error,
    },
    /// The socket cannot be created at its path.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The registry cannot be created.
    #[error("{0}")]
    Registry(String),
    /// A system call failed.
    #[error("cannot {action}: {source}{}", system_limits::on_start(action, source))]
    System {
        /// What was being done.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

impl From<RegistryError> for StartError {
    fn from(error: RegistryError) -> StartError {
        StartError::Registry(error.to_string())
    }
}
