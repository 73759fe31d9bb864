//! Clients of a server, and ends of links to another client, that the fuzz targets play.

#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::caller::Caller;
use super::error::RegisterError;
use super::inbox::Inbox;
use super::links::{
    Bell, ConnectError, Greeting, Incoming, Intake, Link, LinkEnd, Links, Responder, connect_over, taken,
};
use super::observer::Kept;
use super::session::{Place, Session, explain};
use super::watcher::Watch;
use super::{Client, ClientBuilder, Observer};
use crate::channel::fuzz::Memory;
use crate::channel::{Geometry, LinkEnds, Side, open_link};
use crate::connect::connection::Connection;
use crate::connect::dial::Line;
use crate::connect::{Ask, Introduction, Proof, Role};
use crate::link::{DRAIN, Request, Response, ServiceError};
use crate::ring::WaitStrategy;
use crate::shm::backend::now;
use crate::wire::{CloseReason, Key, Name, Peer, Status, Violation};

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

/// How long the callee of a link has for what it says first; a sleep in vain takes longer.
const LONG: Duration = Duration::from_secs(3600);

/// Opens a link on this memory, to a callee of whose handshake everything lies there already, or comes while
/// the caller sleeps.
pub fn link_on(memory: &Memory) -> Result<Link, ConnectError> {
    let ends = memory.link(Side::Caller);
    let end = end_of(Role::Caller, &ends);
    Greeting::over(ends, *memory.geometry(), end, None, now() + LONG)?.wait(now() + LONG)
}

/// A caller on this memory, to whom hello was said.
pub fn incoming_on(memory: &Memory) -> Incoming {
    let ends = memory.link(Side::Callee);
    let end = end_of(Role::Callee, &ends);
    let ring_size = memory.geometry().ring_size();
    let rings = (ends.consumer, ends.producer);
    let mut incoming = Incoming::new(end, rings, None, ring_size, WaitStrategy::Park);
    incoming.say(Status::Hello, &[]);
    incoming
}

/// Waits for the hello of this caller, as the watcher does, and accepts it. `None`: it did not say hello.
pub fn accept(mut incoming: Incoming) -> Option<Responder> {
    incoming.await_hello(now() + LONG).then(|| incoming.accept().ok()).flatten()
}

/// What a serving end did when told to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServedLink {
    /// There was no request.
    Nothing,
    /// It served requests that were there, at most those of one drain.
    Some,
    /// The link has ended.
    Ended(Result<CloseReason, Violation>),
}

/// Serves the requests that are there, as [`Responder::serve`] does between two sleeps.
pub fn serve_link<F>(responder: &mut Responder, service: &mut F) -> ServedLink
where
    F: FnMut(Request<'_>, &mut Response<'_>) -> Result<(), ServiceError>,
{
    if responder.is_idle() {
        return ServedLink::Nothing;
    }
    responder.serve_some(service, DRAIN).map_or(ServedLink::Some, ServedLink::Ended)
}

fn end_of(role: Role, ends: &LinkEnds) -> LinkEnd {
    let peer = Peer { name: alice(), key: Key::from_u128(7), pid: 1, uid: 2, gid: 3 };
    LinkEnd::unwatched(&Links::new(place()), role, peer, ends.closer.clone())
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

/// Connects over a connection on which the answer lies already.
pub fn link_over(client: &mut Client, connection: OwnedFd) -> Result<Link, ConnectError> {
    let session = client.caller.session();
    let ask = Ask::Connect { proof: session.proof(), ring_size: 0, to: alice().into() };
    connect_over(&line_on(connection), &ask, session, Instant::now() + PATIENCE)
}

/// Takes an introduction over a connection on which the answer lies already.
pub fn take_over(client: &mut Client, connection: OwnedFd) -> Option<Incoming> {
    let session = client.caller.session();
    let ask = Ask::Take(session.proof());
    let answer = line_on(connection).ask(&ask, Instant::now() + PATIENCE).ok()?;
    let (introduction, descriptors) = taken(answer).ok()??;
    let intake = Intake::without_bell(session);
    intake.admit(session, &introduction, descriptors);
    intake.next().or_else(|| intake.next_silent())
}

/// Whether a bell comes over a connection on which the answer lies already.
pub fn bell_over(client: &mut Client, connection: OwnedFd) -> bool {
    let ask = Ask::Listen(client.caller.session().proof());
    let answer = line_on(connection).ask(&ask, Instant::now() + PATIENCE);
    answer.is_ok_and(|answer| answer.descriptors.only().and_then(Bell::check).is_some())
}

/// Whether this is an introduction, and memory that belongs to it.
pub fn is_link(introduction: &[u8], segment: &OwnedFd) -> bool {
    let Some(introduction) = Introduction::decode(introduction) else { return false };
    let geometry = Geometry::new(introduction.ring_size)
        .and_then(|geometry| geometry.with_max_block(introduction.max_block));
    geometry.is_ok_and(|geometry| open_link(segment, &geometry, WaitStrategy::Park, Side::Caller).is_ok())
}

fn line_on(connection: OwnedFd) -> Line {
    Line { connection: Connection::of(connection).expect("memory for a word") }
}

fn place() -> Place {
    Place { path: "unused".into(), wait: WaitStrategy::Park, timeout: PATIENCE, relay: false }
}

fn alice() -> Name {
    Name::new("alice").expect("a name")
}
