//! Tests that nothing is left of a publication or a subscription, whatever becomes of it.

use super::common::raw::{RawClient, VERSION, datagram, dial, hear_all};
use super::common::raw_bus::Bus;
use super::common::raw_links::*;
use super::common::raw_topics::*;
use super::common::server::shut_down;
use super::common::{LIMIT, Place, eventually};
use super::{all_parts, joined, publish, source, subscribe};
use rustix::event::PollFlags;
use rustix::fs::fcntl_add_seals;
use rustix::net::{SendFlags, send};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

fn is_idle(bus: &Bus, clients: usize, besides: usize) {
    bus.has(clients, besides);
    assert!(all_topics(bus.path()).is_empty());
}

#[test]
fn a_publisher_that_ends_at_any_step_leaves_nothing() {
    let bus = Bus::start(&[]);
    let bob = bus.register("bob");
    let bell = bob.attend(bus.path());
    subscribe(&bob, &bus, "**");
    for step in 0..5 {
        let mut registered = None;
        eventually("the name is free", || {
            registered = RawClient::try_register(bus.path(), "alice").ok();
            registered.is_some()
        });
        let alice = registered.unwrap();
        let unsealed = alice.ask_to_publish(bus.path(), &Wish::of("a")).unwrap();
        let id = unsealed.id;
        if step > 0 {
            let _memory = Memory::writable(&unsealed.segment).unwrap();
            fcntl_add_seals(&unsealed.segment, PUBLISHERS_SEALS).unwrap();
        }
        if step > 1 {
            alice.say_published(bus.path(), id).unwrap();
        }
        if step > 2 {
            assert_eq!(source(bob.part(bus.path())).publication, id);
        }
        if step > 3 {
            assert_eq!(joined(alice.part(bus.path())).publication, id);
        }
        drop(alice);
        if step == 2 {
            // What it has published can still be taken.
            eventually("it is gone", || all_topics(bus.path()).is_empty());
            assert_eq!(source(bob.part(bus.path())).publication, id);
        }
        is_idle(&bus, 1, 1);
        let told = all_parts(&bob, &bus);
        let is_over = |part: &Part| matches!(part, Part::Over { publication, .. } if *publication == id);
        assert!(told.iter().all(is_over) && told.len() == usize::from(step > 1), "{step}: {told:?}");
    }
    drop((bob, bell));
    is_idle(&bus, 0, 0);
}

#[test]
fn a_subscriber_that_ends_at_any_step_leaves_nothing() {
    let bus = Bus::start(&[]);
    let alice = bus.register("alice");
    let topic = publish(&alice, &bus, "a");
    for step in 0..4 {
        let mut registered = None;
        eventually("the name is free", || {
            registered = RawClient::try_register(bus.path(), "bob").ok();
            registered.is_some()
        });
        let bob = registered.unwrap();
        let bell = bob.attend(bus.path());
        let ids = [subscribe(&bob, &bus, "a"), subscribe(&bob, &bus, "**")];
        if step > 0 {
            assert_eq!(all_parts(&bob, &bus).len(), 2);
        }
        if step > 1 {
            assert_eq!(joined(alice.part(bus.path())).subscription, ids[0]);
        }
        if step > 2 {
            bob.leave_topic(bus.path(), ids[0]).unwrap();
        }
        drop((bob, bell));
        bus.has(1, 1);
        let ends = all_parts(&alice, &bus);
        let is_end = |part: &Part| {
            matches!(part, Part::Ended { publication, subscription }
            if *publication == topic.id && *subscription == ids[0])
        };
        assert!(ends.iter().all(is_end) && ends.len() == usize::from(step > 1), "{step}: {ends:?}");
        assert_eq!(all_topics(bus.path())[0].3, 0);
    }
}

/// The server sends what is asked for on a connection that its client has closed, or never reads.
#[test]
fn answers_that_are_never_read_are_dropped_with_their_connections() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    publish(&alice, &bus, "a");
    subscribe(&bob, &bus, "a");
    let hang_up = |what, body: &[u8], waits: bool| {
        let line = dial(bus.path());
        let _ = send(&line, &datagram(VERSION, what, body), SendFlags::NOSIGNAL);
        if waits {
            assert!(is_ready(&line, PollFlags::IN, LIMIT));
        }
    };
    for waits in [true, false] {
        for number in 0..10 {
            hang_up(PUBLISH, &Wish::of(&format!("hang/{waits}/{number}")).body(&bob), waits);
            hang_up(SUBSCRIBE, &[&bob.proof()[..], b"\0\0a"].concat(), waits);
            hang_up(ATTEND, &bob.proof(), waits);
            hang_up(PRESENCE, &[&bob.proof()[..], &[3]].concat(), waits);
            hang_up(TAP, &[&bob.proof()[..], &[3, 9, 0]].concat(), waits);
        }
        (0..10).for_each(|_| hang_up(PART, &bob.proof(), waits));
        (0..10).for_each(|_| hang_up(PART, &alice.proof(), waits));
    }
    drop((alice, bob));
    // The server's own topic of registrations stays: its descriptor. Nobody taps any more.
    is_idle(&bus, 0, 1);
}

#[test]
fn a_flood_of_questions_ends_its_own_connection_only() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    let ask = |line: &OwnedFd| sizes_on(line, PART, &bob.proof());
    let mut topic = None;
    // A slow machine may need longer for that than the ten seconds of a connection.
    eventually("a connection has had its last answer before its time was over", || {
        let (began, line) = (Instant::now(), dial(bus.path()));
        if (0..4095).all(|_| ask(&line) == Some((0, 0))) {
            let published = publish(&alice, &bus, "a");
            let subscription = subscribe(&bob, &bus, "a");
            if ask(&line).is_some_and(|(_, descriptors)| descriptors == 3) {
                assert!(hear_all(&line).is_none(), "that was the last answer");
                topic = Some(published);
                return true;
            }
            bob.leave_topic(bus.path(), subscription).unwrap();
            alice.leave_topic(bus.path(), published.id).unwrap();
            all_parts(&bob, &bus);
            all_parts(&alice, &bus);
        }
        assert!(began.elapsed() >= Duration::from_secs(10), "another answer, or the end before its time");
        false
    });
    let topic = topic.unwrap();
    let part = datagram(VERSION, PART, &bob.proof());
    let line = dial(bus.path());
    eventually("the server has had enough", || send(&line, &part, SendFlags::NOSIGNAL).is_err());
    drop(line);
    assert_eq!(joined(alice.part(bus.path())).publication, topic.id);
    bus.has(2, 1);
}

#[test]
fn nothing_is_left_of_clients_that_are_gone() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    let topic = publish(&alice, &bus, "a");
    subscribe(&bob, &bus, "other/*");
    for round in 0..60 {
        let mut registered = None;
        eventually("the name is free", || {
            registered = RawClient::try_register(bus.path(), "other").ok();
            registered.is_some()
        });
        let other = registered.unwrap();
        let bell = other.attend(bus.path());
        subscribe(&other, &bus, "**");
        let mut own = publish(&other, &bus, &format!("other/{round}"));
        own.send(b"last words");
        let parts = all_parts(&other, &bus);
        assert!(
            parts.iter().any(|part| matches!(part, Part::Subscriber(part) if part.publication == topic.id))
        );
        if round % 2 == 0 {
            all_parts(&alice, &bus);
        }
        drop((other, bell));
        let parts = all_parts(&bob, &bus);
        let is_it = |part: &Part| matches!(part, Part::Subscriber(part) if part.publication == own.id);
        assert!(parts.iter().any(is_it), "{parts:?}");
    }
    all_parts(&alice, &bus);
    all_parts(&bob, &bus);
    bus.has(2, 1);
    assert_eq!(all_topics(bus.path()).len(), 1);
}

/// A server that is shut down gives everything back, whatever waits.
#[test]
fn a_server_ends_with_all_that_waits() {
    let mut bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    publish(&alice, &bus, "a");
    let _unsealed = alice.ask_to_publish(bus.path(), &Wish::of("b")).unwrap();
    (0..10).for_each(|_| _ = subscribe(&bob, &bus, "a"));
    (0..5).for_each(|_| drop(source(bob.part(bus.path()))));
    let ended = publish(&alice, &bus, "c");
    alice.leave_topic(bus.path(), ended.id).unwrap();
    ask(bus.path(), PRESENCE, &[&bob.proof()[..], &[1]].concat()).unwrap();
    ask(bus.path(), TAP, &[&bob.proof()[..], &[1, 9, 0]].concat()).unwrap();
    let place = std::mem::replace(&mut bus.place, Place::new());
    shut_down(bus.server.into_inner().unwrap());
    assert!(place.is_clean());
}
