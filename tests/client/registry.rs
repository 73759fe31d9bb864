//! Looking around: names, lists in pages, counters, observers.

use crate::common::raw::RawClient;
use crate::common::{Bus, eventually};
use ringpost::{Address, Client, ClientState, Name, Observer, RegisterError, WaitStrategy};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

fn names(clients: &[ringpost::ClientInfo]) -> BTreeSet<&str> {
    clients.iter().map(|client| client.name.as_str()).collect()
}

#[test]
fn names_lead_to_keys() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    let bob = bus.client("Bob the second, 東京");
    assert_eq!(alice.look_up(bob.name()).unwrap(), Some(bob.key()));
    assert_eq!(alice.look_up(Name::try_from("alice").unwrap()).unwrap(), Some(alice.key()));
    assert_eq!(alice.look_up(Name::try_from("nobody").unwrap()).unwrap(), None);
    assert_eq!(alice.look_up(Address::Name(*bob.name())).unwrap(), Some(bob.key()));
    assert_eq!(alice.look_up(Address::Key(bob.key())).unwrap(), Some(bob.key()));
    let name = *bob.name();
    bob.unregister().unwrap();
    assert_eq!(alice.look_up(name).unwrap(), None);
}

/// The smallest blocks hold one client each, and a datagram of the connect channel about a hundred.
#[test]
fn lists_of_more_clients_than_one_page() {
    let bus = Bus::with(|b| b.ring_size(4096).max_block(256));
    let long = |i: usize| format!("{i:03}{}", "ü".repeat(30));
    let mut clients: Vec<Client> = (0..130).map(|i| bus.client(&long(i))).collect();
    let expected: BTreeSet<String> = (0..130).map(long).collect();
    let seen = clients[7].list().unwrap();
    assert_eq!(seen.len(), 130);
    assert_eq!(names(&seen), expected.iter().map(String::as_str).collect());
    let observed = Observer::connect(bus.path()).unwrap().list().unwrap();
    assert_eq!(observed.len(), 130);
    assert_eq!(names(&observed), names(&seen));
    for info in &observed {
        let client = clients.iter().find(|client| client.name() == &info.name).unwrap();
        assert_eq!(info.key, client.key());
        assert_eq!(info.pid, std::process::id());
        assert_eq!(info.state, ClientState::Live);
        assert!(info.registered <= SystemTime::now());
    }
    // Every second one goes.
    let mut keep = false;
    clients.retain(|_| {
        keep = !keep;
        keep
    });
    // Each drop waits for a second at most.
    eventually("the others are gone", || clients[0].list().unwrap().len() == 65);
    assert_eq!(bus.server.clients().unwrap().len(), 65);
    assert_eq!(bus.server.info().clients, 65);
}

#[test]
fn the_server_counts_what_a_client_does() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
    for _ in 0..10 {
        alice.call(&[0; 100]).unwrap();
    }
    for _ in 0..3 {
        alice.send(bob.key(), &[0; 7]).unwrap();
    }
    alice.caller().ping().unwrap();
    let counters = alice.caller().statistics().unwrap();
    assert_eq!((counters.calls, counters.sent, counters.received), (10, 3, 0));
    assert_eq!((counters.bytes_in, counters.bytes_out), (10 * 100 + 3 * 7, 10 * 100));
    let inbox = |counters: ringpost::Counters| (counters.delivered, counters.received);
    assert_eq!(inbox(bob.caller().statistics().unwrap()), (3, 0));
    for received in 1..=3 {
        bob.recv().unwrap();
        assert_eq!(inbox(bob.caller().statistics().unwrap()), (3, received));
        let listed = alice.list().unwrap().into_iter().find(|client| client.key == bob.key()).unwrap();
        assert_eq!(inbox(listed.counters), (3, received));
    }
    // Whoever comes next into the slot begins anew.
    alice.unregister().unwrap();
    drop(bob);
    let mut others: Vec<Client> = (0..4).map(|i| bus.client(&format!("other {i}"))).collect();
    for other in &mut others {
        assert_eq!(other.caller().statistics().unwrap(), ringpost::Counters::default());
    }
}

/// A client says itself how much it has received, and may say anything.
#[test]
fn nobody_is_shown_to_have_received_more_than_there_was() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    let liar = RawClient::register(bus.path(), "liar");
    alice.send(liar.key, b"x").unwrap();
    // As in the document's tables: the control block of the inbox ring.
    let taken = liar.segment.word64(1024 + 8);
    for (said, shown) in [(0, (1, 0)), (1, (1, 1)), (2, (2, 2)), (3, (2, 2)), (u64::MAX, (2, 2))] {
        taken.store(said, Ordering::Relaxed);
        let listed = alice.list().unwrap().into_iter().find(|client| client.key == liar.key).unwrap();
        assert_eq!((listed.counters.delivered, listed.counters.received), shown, "{said}");
    }
}

#[test]
fn an_observer_sees_and_is_not_seen() {
    let bus = Bus::with(|b| b.max_clients(3).ring_size(8192).max_block(512).wait(WaitStrategy::Park));
    let observer = Observer::connect(bus.path()).unwrap();
    assert_eq!(observer.list().unwrap(), []);
    let alice = bus.client("alice");
    assert_eq!(names(&observer.list().unwrap()), ["alice"].into());
    let info = observer.server().unwrap();
    assert_eq!(info, bus.server.info());
    assert_eq!((info.clients, info.max_clients, info.ring_size, info.max_block), (1, 3, 8192, 512));
    assert_eq!((info.pid, info.wait), (std::process::id(), WaitStrategy::Park));
    drop(alice);
    eventually("she is gone", || observer.list().unwrap().is_empty());
    for _ in 0..100 {
        assert_eq!(observer.list().unwrap(), []);
    }
    drop(bus.server);
    assert!(observer.list().is_err());
    let gone = Observer::connect(&bus.place.path);
    assert!(matches!(gone, Err(RegisterError::NoServer { .. })));
}
