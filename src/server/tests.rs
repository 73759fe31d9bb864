//! Tests of the server's parts that no client can observe from outside.

use proptest::collection::vec;
use proptest::prelude::*;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::acceptor::Acceptor;
use super::builder::Settings;
use super::delivery::{Delivery, Inbox};
use super::internals::TestWorker;
use super::member::{Member, Members};
use super::shared::Shared;
use super::worker::parse_send;
use crate::channel::{self, Geometry, Guest};
use crate::connect::dial::{DialError, Line};
use crate::connect::{Ask, Refusal};
use crate::link::{Request, Response};
use crate::registry::{Owner, Registered, Registry};
use crate::ring::{RecvError, SendError, WaitStrategy};
use crate::wire::{BlockHeader, Operation};
use crate::wire::{CloseReason, Key, Name, Peer, Status, WAITS};

/// A member with the smallest channel, and the client's ends of that channel.
fn member(registry: &Registry, name: &str) -> (Member, Guest) {
    let name = Name::new(name).unwrap();
    let owner = Owner { pid: 1, uid: 2, gid: 3 };
    let Registered { key, counters } = registry.register(&name, owner).unwrap();
    let peer = Peer { name, key, pid: 1, uid: 2, gid: 3 };
    let geometry = Geometry::new(4096).unwrap();
    let (host, descriptor) = channel::create_for_server(&geometry, WaitStrategy::Park).unwrap();
    let guest = channel::open_for_client(&descriptor, WaitStrategy::Park).unwrap();
    let inbox = Inbox::new(host.inbox, host.intake.clone(), counters.clone());
    (Member::new(peer, inbox, (host.closer, host.intake), counters, 2), guest)
}

/// An inbox is closed a moment before its channel, so other threads may still try to deliver.
#[test]
fn a_closed_inbox_takes_no_message_although_it_has_room() {
    let registry = Registry::create(2).unwrap();
    let (bob, mut guest) = member(&registry, "bob");
    let (alice, _guest) = member(&registry, "alice");
    let delivery = Delivery { from: &alice, payload: b"x", handed: None };
    assert_eq!(bob.inbox.deliver(&delivery, None), Status::Ok);
    bob.inbox.close();
    assert_eq!(bob.inbox.deliver(&delivery, None), Status::Gone);
    let soon = Instant::now() + Duration::from_secs(600);
    assert_eq!(bob.inbox.deliver(&delivery, Some(soon)), Status::Gone);
    let mut block = Vec::new();
    guest.inbox.try_recv(&mut block).unwrap().unwrap();
    let nothing = guest.inbox.recv_timeout(&mut block, Instant::now());
    assert_eq!(nothing, Err(RecvError::TimedOut), "exactly the acknowledged one is there");
}

#[test]
fn a_member_is_found_by_its_whole_key_and_retired_once() {
    let registry = Registry::create(2).unwrap();
    let members = Members::default();
    let (bob, _guest) = member(&registry, "bob");
    let key = bob.peer.key;
    members.insert(Arc::new(bob));
    assert!(members.get(key).is_some());
    for bit in 0..128 {
        let near = Key::from_u128(key.to_u128() ^ 1 << bit);
        assert!(members.get(near).is_none(), "bit {bit}");
        members.remove(near);
    }
    let bob = members.get(key).unwrap();
    assert!(!bob.is_retired() && bob.retire() && bob.is_retired() && !bob.retire());
    members.remove(key);
    assert!(members.get(key).is_none() && members.all().is_empty());
}

/// A worker releases a request's room before it runs the service, so that a client which has the response
/// also has the room.
#[test]
fn the_room_of_a_request_is_released_before_its_response() {
    let geometry = Geometry::new(4096).unwrap();
    let (host, descriptor) = channel::create_for_server(&geometry, WaitStrategy::Park).unwrap();
    let mut guest = channel::open_for_client(&descriptor, WaitStrategy::Park).unwrap();
    let header = BlockHeader::new(Operation::Call as u16, 0, 0).to_word().to_ne_bytes();
    let mut largest = header.to_vec();
    largest.resize(geometry.max_block(), 7);
    guest.requests.try_send(&largest).unwrap();
    assert_eq!(guest.requests.try_send(&largest), Err(SendError::Full));
    // The service looks, because while it runs there is no response yet.
    let found = Arc::new(Mutex::new(Vec::new()));
    let (seen, requests) = (Arc::clone(&found), Mutex::new(guest.requests));
    let service = move |_: Request<'_>, _: &mut Response<'_>| {
        let mut seen = seen.lock().unwrap();
        if seen.is_empty() {
            seen.push(requests.lock().unwrap().try_send(&largest));
        }
        Ok(())
    };
    TestWorker::with_service(host, geometry, service).unwrap().serve();
    assert_eq!(*found.lock().unwrap(), [Ok(())]);
    let mut response = Vec::new();
    assert_eq!(guest.responses.try_recv(&mut response), Ok(Some(8)));
}

/// A response that does not fit before the end of the ring goes to its start, or waits in memory for room.
#[test]
fn responses_stay_whole_at_the_end_of_the_ring() {
    let geometry = Geometry::new(4096).unwrap();
    for (size, pieces) in [(1300, 1), (1300, 2), (2000, 1), (2000, 3), (700, 1)] {
        let (host, descriptor) = channel::create_for_server(&geometry, WaitStrategy::Park).unwrap();
        let mut guest = channel::open_for_client(&descriptor, WaitStrategy::Park).unwrap();
        let echo = move |request: Request<'_>, response: &mut Response<'_>| {
            request.payload().chunks(size / pieces + 1).try_for_each(|piece| response.write(piece))
        };
        let mut test_worker = TestWorker::with_service(host, geometry, echo).unwrap();
        for number in 0..50_u32 {
            let header = BlockHeader::new(Operation::Call as u16, 0, number).to_word().to_ne_bytes();
            let body: Vec<u8> = (0..size).map(|at| (at as u32 * 7 + number) as u8).collect();
            guest.requests.try_send(&[&header[..], &body].concat()).unwrap();
            test_worker.serve();
            let mut response = Vec::new();
            guest.responses.try_recv(&mut response).unwrap().unwrap();
            assert_eq!(response[8..], body, "response {number} of {size} bytes in {pieces} pieces");
        }
    }
}

pub(super) fn prepared(path: &Path) -> (Acceptor, Arc<Shared>) {
    let settings = Settings {
        path: path.to_owned(),
        max_clients: 3,
        geometry: Geometry::new(4096).unwrap(),
        wait: WaitStrategy::Park,
        pin: None,
        access: Default::default(),
        grace: Duration::from_secs(1),
        control: None,
    };
    let echo = |request: Request<'_>, response: &mut Response<'_>| response.write(request.payload());
    Acceptor::prepare(settings, None, Box::new(echo)).unwrap()
}

/// The deadline of a connection ends when it registers. Otherwise each of a thousand idle clients would wake
/// the acceptor once for nothing.
#[test]
fn nothing_is_due_for_a_client_that_has_registered() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("bus");
    let (mut acceptor, shared) = prepared(&path);
    let clients = std::thread::spawn(move || {
        ["alice", "bob", "carol"].map(|name| crate::Client::register(&path, name).unwrap())
    });
    // Each turn lasts until something happens.
    while shared.registry.len().unwrap() < 3 {
        acceptor.turn(None).unwrap();
    }
    let clients = clients.join().unwrap();
    assert_eq!(acceptor.connections.first_deadline(), None);
    drop(clients);
}

/// The acceptor should never panic. If it does, nobody is left waiting, and the summary says so.
#[test]
fn a_server_whose_acceptor_panics_ends_and_reports_it() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("bus");
    let server = super::Server::builder(&path).start().unwrap();
    let mut alice = crate::Client::register(&path, "alice").unwrap();
    let bob = crate::Client::register(&path, "bob").unwrap();
    alice.send(bob.key(), b"x").unwrap();
    server.shared.is_to_fail.store(true, Ordering::Relaxed);
    // This makes the acceptor turn. The turn before may still see it.
    let _ = crate::Client::register(&path, "carol");
    assert_eq!(alice.recv(), Err(crate::RecvError::Disconnected(CloseReason::Died)));
    assert_eq!(alice.call(b"x"), Err(crate::CallError::NotSent(CloseReason::Died)));
    let summary = server.join();
    assert!(summary.failed && summary.registered >= 2 && summary.messages == 1, "{summary:?}");
    assert_eq!(summary.abandoned, 0);
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    super::Server::builder(&path).start().unwrap();
}

/// Connections that were not accepted yet are told why they are refused, too.
#[test]
fn connections_in_the_backlog_are_refused_with_a_reason_at_the_shutdown() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("bus");
    let (acceptor, shared) = prepared(&path);
    let deadline = Instant::now() + Duration::from_secs(60);
    let lines: Vec<_> = (0..100).map(|_| Line::connect(&path, deadline).unwrap()).collect();
    shared.stop.request();
    let asking: Vec<_> =
        lines.into_iter().map(|line| std::thread::spawn(move || line.ask(&Ask::Server, deadline))).collect();
    acceptor.run();
    for answer in asking {
        let answer = answer.join().unwrap();
        assert!(matches!(answer, Err(DialError::Refused(Refusal::ShuttingDown, _))), "{answer:?}");
    }
    assert!(matches!(Line::connect(&path, deadline), Err(DialError::NoServer(_))));
}

proptest! {
    /// A send request is a key, 8 bytes of time-out if the flag is set, and a payload. Shorter ones fail.
    #[test]
    fn a_send_request_is_parsed_or_refused(body in vec(any::<u8>(), 0..40), flags: u16) {
        let head = if flags & WAITS == 0 { 16 } else { 24 };
        let expected = (body.len() >= head).then(|| {
            let key = Key::from_u128(u128::from_le_bytes(*body.first_chunk().unwrap()));
            let wait = body[16..head].first_chunk().map(|bytes| Duration::from_nanos(u64::from_le_bytes(*bytes)));
            (key, wait, head)
        });
        prop_assert_eq!(parse_send(&body, flags), expected);
    }
}
