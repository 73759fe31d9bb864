//! The halves of a client on a channel made by hand, for this repository's own benchmarks.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::builder::DEFAULT_TIMEOUT;
use super::caller::Caller;
use super::inbox::Inbox;
use super::session::Session;
use crate::channel::Guest;
use crate::connect::Proof;
use crate::connect::connection::Connection;
use crate::wire::{Key, Name};

pub(crate) fn client_on(guest: Guest, lifeline: OwnedFd, key: Key) -> io::Result<(Caller, Inbox)> {
    let name = Name::new("benchmark").map_err(io::Error::other)?;
    let session =
        Arc::new(Session::begin(&guest, Connection::of(lifeline)?, Proof::without_secret(key), name)?);
    let inbox = Inbox::new(guest.inbox, Arc::clone(&session));
    Ok((Caller::new(guest.requests, guest.responses, session, DEFAULT_TIMEOUT), inbox))
}
