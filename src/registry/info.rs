//! `ClientInfo`: what the registry knows about a client.

#![forbid(unsafe_code)]

use std::fmt;
use std::time::SystemTime;

use super::Counters;
use crate::wire::{Key, Name};

/// A snapshot of what the registry knows about one client.
///
/// Returned by [`Client::list`](crate::Client::list), [`Observer::list`](crate::Observer::list) and
/// [`Server::clients`](crate::Server::clients).
///
/// # Examples
///
/// ```
/// use ringpost::ClientState;
///
/// # let (_bus, mut client) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/one.rs"));
/// let own = &client.list()?[0];
/// assert_eq!((own.name.as_str(), own.key, own.state), ("alice", client.key(), ClientState::Live));
/// assert_eq!(own.pid, std::process::id());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientInfo {
    /// Its name.
    pub name: Name,
    /// Its key.
    pub key: Key,
    /// Whether it can be reached.
    pub state: ClientState,
    /// Its process id; 0 if it runs in a process namespace that the server cannot see.
    pub pid: u32,
    /// Its user id.
    pub uid: u32,
    /// Its group id.
    pub gid: u32,
    /// When it registered, by the server's clock at that time.
    pub registered: SystemTime,
    /// What it has done since it registered.
    pub counters: Counters,
    /// Whether it takes links.
    pub serves: bool,
    /// How many links it has, calling or serving.
    pub links: u32,
}

/// Whether a client can be reached.
///
/// # Examples
///
/// ```
/// use ringpost::ClientState;
///
/// # let (_bus, mut client) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/one.rs"));
/// assert_eq!(client.list()?[0].state, ClientState::Live);
/// assert_eq!(ClientState::Leaving.to_string(), "leaving");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientState {
    /// Registered.
    Live,
    /// Ending: no longer found by look-ups, but its name is still taken.
    Leaving,
}

impl fmt::Display for ClientState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ClientState::Live => "live",
            ClientState::Leaving => "leaving",
        })
    }
}

/// The process that a registration belongs to, from the socket's credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}
