//! `Change`: what a presence tells.

#![forbid(unsafe_code)]

use crate::wire::{Peer, VanishReason};

/// What a [`Presence`](crate::Presence) tells of a client: a registration with the server, or its end.
///
/// # Examples
///
/// See [`Presence`](crate::Presence).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// It is registered: so says the list with which a presence begins.
    Present(Peer),
    /// It has registered.
    Appeared(Peer),
    /// It is not registered any more.
    Vanished {
        /// The client.
        peer: Peer,
        /// Why.
        reason: VanishReason,
    },
}

impl Change {
    /// Of whom it tells.
    pub fn peer(&self) -> &Peer {
        match self {
            Change::Present(peer) | Change::Appeared(peer) | Change::Vanished { peer, .. } => peer,
        }
    }
}
