//! What can go wrong with the registry.

#![forbid(unsafe_code)]

use std::io;

use crate::shm::SegmentError;

/// Why the registry could not be made, adopted or used:
/// [`StartError::Registry`](crate::StartError::Registry), [`Server::clients`](crate::Server::clients).
///
/// # Examples
///
/// ```
/// use ringpost::{RegistryError, Server};
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let server = Server::builder(&path).start()?;
/// match server.clients() {
///     Ok(clients) => println!("{} clients", clients.len()),
///     Err(RegistryError::NotRecoverable) => println!("start it again"),
///     Err(error) => println!("{error}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The memory could not be made or mapped.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The capacity is zero or too large.
    #[error("a registry holds 1 to 65536 clients, not {asked}")]
    BadCapacity {
        /// The capacity asked for or found.
        asked: u32,
    },
    /// The memory is not a registry.
    #[error("the memory received is not a registry; hand over the descriptor that its server made")]
    NotARegistry,
    /// The registry was made by another version of this library.
    #[error(
        "the registry has layout {found}, this version reads layout {needed}; use the same version for both servers"
    )]
    WrongVersion {
        /// The layout version found.
        found: u32,
        /// The layout version that this library reads.
        needed: u32,
    },
    /// The registry was made for another processor or C library.
    #[error(
        "the registry's mutex has {mutex} bytes and its entries {entry}, not as here; use the same build for both servers"
    )]
    WrongLayout {
        /// The bytes of its mutex.
        mutex: u32,
        /// The bytes of its entries.
        entry: u32,
    },
    /// The memory is not as long as its capacity demands.
    #[error("the registry's memory has {found} bytes, its capacity demands {needed}")]
    WrongSize {
        /// The length found.
        found: usize,
        /// The length needed.
        needed: usize,
    },
    /// A holder of the mutex died and the repair was not completed.
    #[error("the registry was left broken by a repair that failed; restart the server")]
    NotRecoverable,
    /// The mutex could not be made or locked.
    #[error("cannot {action} the registry's mutex: {source}")]
    Mutex {
        /// What was being done.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The system gave no random bytes.
    #[error("no random bytes for a new key: {0}")]
    Random(#[source] io::Error),
}

/// Why a name was not registered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegisterError {
    /// Another client holds the name.
    #[error("the name is taken; choose another one, or wait until its client is gone")]
    NameTaken,
    /// Every slot is taken.
    #[error(
        "the server has no room for another client; wait until one is gone, or raise its limit (ServerBuilder::max_clients, \
         --max-clients)"
    )]
    Full,
    /// The registry itself failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}
