//! The halves of a client on a channel made by hand, for this repository's own benchmarks.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::builder::DEFAULT_TIMEOUT;
use super::caller::Caller;
use super::inbox::Inbox;
use super::links::Links;
use super::session::{Place, Session};
use crate::channel::Guest;
use crate::connect::Proof;
use crate::connect::connection::Connection;
use crate::ring::WaitStrategy;
use crate::wire::{Key, Name};

pub(crate) fn client_on(guest: Guest, lifeline: OwnedFd, key: Key) -> io::Result<(Caller, Inbox)> {
    let name = Name::new("benchmark").map_err(io::Error::other)?;
    let place = Place { path: "unused".into(), wait: WaitStrategy::default(), timeout: DEFAULT_TIMEOUT };
    let (proof, links) = (Proof::without_secret(key), Links::new(place));
    let session = Arc::new(Session::begin(&guest, Connection::of(lifeline)?, proof, name, links)?);
    let inbox = Inbox::new(guest.inbox, Arc::clone(&session));
    Ok((Caller::new(guest.requests, guest.responses, session, DEFAULT_TIMEOUT), inbox))
}
