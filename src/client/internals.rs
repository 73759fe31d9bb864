//! The halves of a client, and both ends of a link, on memory made by hand, for this repository's own
//! benchmarks.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::builder::DEFAULT_TIMEOUT;
use super::caller::Caller;
use super::inbox::Inbox;
use super::links::{Link, LinkEnd, Links, Responder};
use super::session::{Place, Session};
use crate::channel::{Geometry, Guest, LinkEnds};
use crate::connect::connection::Connection;
use crate::connect::{Proof, Role};
use crate::link::{DRAIN, Request, Response};
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
    Ok(Link::new(end_of(Role::Caller, &ends)?, ends, geometry, None))
}

/// The serving end of such a link.
pub(crate) fn responder_on(ends: LinkEnds, geometry: &Geometry) -> io::Result<Responder> {
    let end = end_of(Role::Callee, &ends)?;
    let rings = (ends.consumer, ends.producer);
    Ok(Responder::new(end, rings, geometry.ring_size(), WaitStrategy::Spin, None, None))
}

/// Serves up to 64 requests that are there with an echo.
pub(crate) fn serve_some(responder: &mut Responder) {
    let mut echo = |request: Request<'_>, response: &mut Response<'_>| response.write(request.payload());
    responder.serve_some(&mut echo, DRAIN);
}

fn end_of(role: Role, ends: &LinkEnds) -> io::Result<LinkEnd> {
    let name = Name::new("benchmark").map_err(io::Error::other)?;
    let peer = Peer { name, key: Key::from_u128(0), pid: 0, uid: 0, gid: 0 };
    Ok(LinkEnd::unwatched(&Links::new(place()), role, peer, ends.closer.clone()))
}

fn place() -> Place {
    Place { path: "unused".into(), wait: WaitStrategy::default(), timeout: DEFAULT_TIMEOUT, relay: false }
}
