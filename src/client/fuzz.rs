//! Clients of a server that the fuzz targets play.

#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::caller::Caller;
use super::error::RegisterError;
use super::inbox::Inbox;
use super::links::Links;
use super::observer::Kept;
use super::session::{Place, Session, explain};
use super::watcher::Watch;
use super::{Client, ClientBuilder, Observer};
use crate::channel::fuzz::Memory;
use crate::connect::connection::Connection;
use crate::connect::dial::Line;
use crate::connect::{Ask, Proof};
use crate::ring::WaitStrategy;
use crate::wire::{Key, Name};

/// How long a client of these waits for an answer on its connection.
const PATIENCE: Duration = Duration::from_millis(1);

/// A client that is registered, on this memory.
pub fn client_on(memory: &Memory) -> Client {
    let guest = memory.guest();
    // Without a connection: how a client notices the end of one is another matter.
    let watch = Watch::of_nothing().expect("descriptors and memory");
    let (proof, links) = (Proof::without_secret(Key::from_u128(7)), Links::new(place()));
    let session = Arc::new(Session::under(watch, None, &guest, proof, alice(), links));
    let inbox = Inbox::new(guest.inbox, Arc::clone(&session));
    Client { caller: Caller::new(guest.requests, guest.responses, session, Duration::ZERO), inbox }
}

/// Registers over a connection on which the answer lies already.
pub fn register_over(connection: OwnedFd) -> Result<Client, RegisterError> {
    let builder = ClientBuilder::new("unused".into()).wait(WaitStrategy::Park);
    let line = line_on(connection);
    let answer = line
        .ask(&Ask::Register(alice()), Instant::now() + PATIENCE)
        .map_err(|error| explain(error, &builder.place.path, Some(&alice())))?;
    let (guest, session) = builder.place.begin(line, answer, alice(), &Links::new(place()))?;
    Ok(builder.client(guest, session))
}

/// Observes over a connection on which the answers lie already.
pub fn observe_over(connection: OwnedFd) -> Observer {
    let kept = Kept { line: line_on(connection), used: false };
    Observer { kept: Mutex::new(Some(kept)), timeout: PATIENCE, path: PathBuf::new() }
}

fn line_on(connection: OwnedFd) -> Line {
    Line { connection: Connection::of(connection).expect("memory for a word") }
}

fn place() -> Place {
    Place { path: "unused".into(), wait: WaitStrategy::Park, timeout: PATIENCE }
}

fn alice() -> Name {
    Name::new("alice").expect("a name")
}
