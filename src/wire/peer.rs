//! Who a client is, as the server knows it.

#![forbid(unsafe_code)]

use super::{Key, Name};

/// Who a client is: its name and key from the server's registry, its process, user and group from the kernel.
/// A client cannot pretend to be another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Its name, unique while it is registered.
    pub name: Name,
    /// Its key. A key is never given twice, so it can index what a service keeps for each client.
    pub key: Key,
    /// The process that registered it; 0 if it lives in a process namespace that the server does not see.
    pub pid: u32,
    /// The user of that process.
    pub uid: u32,
    /// The group of that process.
    pub gid: u32,
}
