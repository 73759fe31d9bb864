//! Clients of a server that the fuzz targets play.

#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::caller::Caller;
use super::error::RegisterError;
use super::inbox::Inbox;
use super::session::Session;
use super::watcher::Watch;
use super::{Client, ClientBuilder, Observer};
use crate::channel::fuzz::Memory;
use crate::connect::dial::Line;
use crate::ring::WaitStrategy;
use crate::wire::{Key, Name};

/// How long a client of these waits for an answer on its connection.
const PATIENCE: Duration = Duration::from_millis(1);

/// A client that is registered, on this memory.
pub fn client_on(memory: &Memory) -> Client {
    let guest = memory.guest();
    let name = Name::new("alice").expect("a name");
    // Without a connection: whatever ends that is another matter.
    let watch = Watch::of_nothing().expect("a watcher");
    let session = Arc::new(Session::under(watch, &guest, Key::from_u128(7), name));
    let inbox = Inbox::new(guest.inbox, Arc::clone(&session));
    Client { caller: Caller::new(guest.requests, guest.responses, session, Duration::ZERO), inbox }
}

/// Registers over a connection at whose other end the answer lies already.
pub fn register_over(connection: OwnedFd) -> Result<Client, RegisterError> {
    let builder = ClientBuilder::new("unused".into()).wait(WaitStrategy::Park);
    let name = Name::new("alice").expect("a name");
    builder.register_on(Line::on(connection), name, Instant::now() + PATIENCE)
}

/// Observes over a connection at whose other end the answers lie already.
pub fn observe_over(connection: OwnedFd) -> Observer {
    Observer::on(Line::on(connection), PATIENCE)
}
