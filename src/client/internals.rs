//! The halves of a client, and the calling end of a link, on memory made by hand, for this repository's own
//! benchmarks.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::builder::DEFAULT_TIMEOUT;
use super::caller::Caller;
use super::inbox::Inbox;
use super::links::{Link, LinkEnd, Links};
use super::session::{Place, Session};
use crate::channel::{Geometry, Guest, LinkEnds};
use crate::connect::connection::Connection;
use crate::connect::{Proof, Role};
use crate::ring::WaitStrategy;
use crate::wire::{Key, Name, Peer};

pub(crate) fn client_on(guest: Guest, lifeline: OwnedFd, key: Key) -> io::Result<(Caller, Inbox)> {
    let name = Name::new("benchmark").map_err(io::Error::other)?;
    let (proof, links) = (Proof::without_secret(key), Links::new(place()));
    let session = Arc::new(Session::begin(&guest, Connection::of(lifeline)?, proof, name, links)?);
    let inbox = Inbox::new(guest.inbox, Arc::clone(&session));
    Ok((Caller::new(guest.requests, guest.responses, session, DEFAULT_TIMEOUT), inbox))
}

/// The calling end of a link that nobody watches.
pub(crate) fn link_on(ends: LinkEnds, geometry: &Geometry) -> io::Result<Link> {
    let name = Name::new("benchmark").map_err(io::Error::other)?;
    let peer = Peer { name, key: Key::from_u128(0), pid: 0, uid: 0, gid: 0 };
    let end = LinkEnd::unwatched(&Links::new(place()), Role::Caller, peer, ends.closer.clone());
    Ok(Link::new(end, ends, geometry))
}

fn place() -> Place {
    Place { path: "unused".into(), wait: WaitStrategy::default(), timeout: DEFAULT_TIMEOUT }
}
