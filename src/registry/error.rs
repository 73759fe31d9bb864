//! Errors of the registry.

#![forbid(unsafe_code)]

use std::io;

use crate::shm::SegmentError;

/// Why the registry could not be made, adopted or used.
///
/// A server reports it as text, or as an [`io::Error`]: nobody handles one kind unlike another.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    /// The shared memory could not be made or mapped.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The capacity is zero or too large.
    #[error("max_clients must be 1 to 65536, got {asked}")]
    BadCapacity {
        /// The capacity that was requested or found.
        asked: u32,
    },
    /// The memory is not a registry.
    #[error("the descriptor is not that of a registry; pass the one that the other server made")]
    NotARegistry,
    /// The registry was made by another version of this library.
    #[error(
        "the registry has layout {found}, but this version needs layout {needed}; use the same version for both servers"
    )]
    WrongVersion {
        /// The layout version found.
        found: u32,
        /// The layout version that this library reads.
        needed: u32,
    },
    /// The registry was made for another processor or C library.
    #[error(
        "the registry has a mutex of {mutex} bytes and entries of {entry}, unlike this build; use the same build for both \
         servers"
    )]
    WrongLayout {
        /// The size of its mutex, in bytes.
        mutex: u32,
        /// The size of its entries, in bytes.
        entry: u32,
    },
    /// The size of the memory does not match its capacity.
    #[error("the registry's memory has {found} bytes, but its capacity needs {needed}")]
    WrongSize {
        /// The size found.
        found: usize,
        /// The size needed.
        needed: usize,
    },
    /// An owner of the mutex died, and the repair failed.
    #[error("a repair of the registry failed, so it can no longer be used; restart the server")]
    NotRecoverable,
    /// The mutex could not be made or locked.
    #[error("cannot {action} the registry's mutex: {source}")]
    Mutex {
        /// What was attempted: a verb.
        action: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The system provided no random bytes.
    #[error("cannot get random bytes for a new key: {0}")]
    Random(#[source] io::Error),
}

/// Why a name was not registered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegisterError {
    /// Another client has the name.
    #[error("the name is taken; choose another one, or wait until that client has left")]
    NameTaken,
    /// Every slot is taken.
    #[error(
        "the server is full; wait until a client leaves, or raise the server's limit (max_clients, \
         --max-clients)"
    )]
    Full,
    /// The registry itself failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}
