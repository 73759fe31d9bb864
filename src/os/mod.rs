//! What the library needs of the operating system, one subject a file.
//!
//! `unsafe` is used only where no crate offers a safe call. Nothing here knows rings, channels or clients.

pub(crate) mod barrier;
pub(crate) mod credentials;
pub(crate) mod descriptors;
pub(crate) mod fork_safe;
pub(crate) mod futex;
#[cfg(feature = "cli")]
pub(crate) mod inherited;
pub(crate) mod lacks;
pub(crate) mod memfd;
pub(crate) mod neighbour;
pub(crate) mod nest;
pub(crate) mod pipe;
pub(crate) mod processors;
pub(crate) mod random;
pub(crate) mod remedy;
pub(crate) mod scheduling;
pub(crate) mod signals;
pub(crate) mod sockets;
pub(crate) mod threads;
pub(crate) mod usage;
