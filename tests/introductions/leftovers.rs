//! Tests that nothing is left of an introduction, whatever becomes of it.

use super::common::raw::{RawClient, VERSION, datagram, dial, hear_all};
use super::common::raw_links::{CONNECT, LISTEN, TAKE, all_links, ask, is_ready, sizes_on};
use super::common::server::shut_down;
use super::common::{LIMIT, eventually};
use super::{Bus, ComesTo};
use rustix::event::PollFlags;
use rustix::net::{SendFlags, send};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// A server with `alice` and `bob`, who listens.
fn with_two() -> (Bus, RawClient, RawClient, OwnedFd) {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    let bell = bob.listen(bus.path());
    (bus, alice, bob, bell)
}

#[test]
fn what_nobody_takes_is_dropped_after_a_while() {
    let (bus, alice, bob, _bell) = with_two();
    let sides: Vec<_> = (0..3).map(|_| alice.connect(bus.path(), "bob").unwrap()).collect();
    bus.comes_to(2, 1, 3);
    assert!(sides.iter().all(|side| side.is_cut_off(LIMIT)));
    bus.comes_to(2, 1, 0);
    assert!(bob.take(bus.path()).is_none());
    assert!(all_links(bus.path()).is_empty());
    assert_eq!((bus.listed("alice").links, bus.listed("bob").links), (3, 0));
    sides.iter().for_each(|side| alice.flip(side.index));
    assert_eq!(bus.listed("alice").links, 0);
    let side = alice.connect(bus.path(), "bob").unwrap();
    assert_eq!(bob.take(bus.path()).unwrap().id, side.id);
}

#[test]
fn a_caller_that_died_leaves_a_link_whose_end_shows() {
    let (bus, alice, bob, _bell) = with_two();
    let caller = alice.connect(bus.path(), "bob").unwrap();
    drop((alice, caller));
    let callee = bob.take(bus.path()).unwrap();
    assert!(callee.is_cut_off(LIMIT));
    bus.comes_to(1, 1, 0);
    assert!(all_links(bus.path()).is_empty());
}

#[test]
fn a_callee_that_died_takes_what_waits_for_it_along() {
    let (bus, alice, bob, bell) = with_two();
    let callers: Vec<_> = (0..3).map(|_| alice.connect(bus.path(), "bob").unwrap()).collect();
    drop((bob, bell));
    assert!(callers.iter().all(|caller| caller.is_cut_off(LIMIT)));
    bus.comes_to(1, 0, 0);
    assert!(all_links(bus.path()).is_empty());
}

#[test]
fn an_answer_that_is_never_read_is_dropped_with_its_connection() {
    let (bus, alice, bob, _bell) = with_two();
    let line = dial(bus.path());
    let connect = datagram(VERSION, CONNECT, &alice.connect_body("bob"));
    send(&line, &connect, SendFlags::NOSIGNAL).unwrap();
    assert!(is_ready(&line, PollFlags::IN, LIMIT));
    drop(line);
    let mut callee = None;
    eventually("the other side waits", || {
        callee = bob.take(bus.path());
        callee.is_some()
    });
    assert!(callee.unwrap().is_cut_off(LIMIT));
    // The same for what is taken.
    let caller = alice.connect(bus.path(), "bob").unwrap();
    let line = dial(bus.path());
    send(&line, &datagram(VERSION, TAKE, &bob.proof()), SendFlags::NOSIGNAL).unwrap();
    assert!(is_ready(&line, PollFlags::IN, LIMIT));
    drop(line);
    assert!(caller.is_cut_off(LIMIT));
    assert!(bob.take(bus.path()).is_none());
    bus.comes_to(2, 1, 0);
}

/// A caller that hangs up before the server answers was never introduced, or its callee sees the end.
#[test]
fn callers_that_hang_up_at_once_leave_nothing() {
    let (bus, alice, bob, _bell) = with_two();
    for _ in 0..40 {
        let line = dial(bus.path());
        let connect = datagram(VERSION, CONNECT, &alice.connect_body("bob"));
        let _ = send(&line, &connect, SendFlags::NOSIGNAL);
    }
    eventually("all were heard", || {
        while let Some(side) = bob.take(bus.path()) {
            // The server had answered before this caller hung up.
            assert!(side.is_cut_off(LIMIT));
            bob.flip(side.index);
        }
        all_links(bus.path()).is_empty()
    });
    bus.comes_to(2, 1, 0);
}

#[test]
fn a_flood_of_takes_ends_its_own_connection_only() {
    let (bus, alice, bob, _bell) = with_two();
    let ask = |line: &OwnedFd| sizes_on(line, TAKE, &bob.proof());
    // A slow machine may need longer for that than the ten seconds of a connection.
    eventually("a connection has had its last answer before its time was over", || {
        let (began, line) = (Instant::now(), dial(bus.path()));
        let caller =
            (0..4095).all(|_| ask(&line) == Some((0, 0))).then(|| alice.connect(bus.path(), "bob").unwrap());
        if let Some(caller) = caller
            && ask(&line).is_some_and(|(_, descriptors)| descriptors == 5)
        {
            assert!(hear_all(&line).is_none(), "that was the last answer");
            assert!(caller.is_cut_off(LIMIT), "the test has dropped the other side");
            return true;
        }
        assert!(began.elapsed() >= Duration::from_secs(10), "another answer, or the end before its time");
        drop(bob.take(bus.path()));
        false
    });
    // One that does not read is cut off when its buffer is full, or asked too much.
    let take = datagram(VERSION, TAKE, &bob.proof());
    let line = dial(bus.path());
    eventually("the server has had enough", || send(&line, &take, SendFlags::NOSIGNAL).is_err());
    drop(line);
    let caller = alice.connect(bus.path(), "bob").unwrap();
    assert_eq!(bob.take(bus.path()).unwrap().id, caller.id);
    bus.comes_to(2, 1, 0);
}

#[test]
fn who_listens_again_has_one_bell() {
    let (bus, alice, bob, mut bell) = with_two();
    for _ in 0..300 {
        let earlier = std::mem::replace(&mut bell, bob.listen(bus.path()));
        assert!(is_ready(&earlier, PollFlags::empty(), LIMIT), "the old one has ended");
    }
    // Without reading the answer.
    for _ in 0..300 {
        let line = dial(bus.path());
        let _ = send(&line, &datagram(VERSION, LISTEN, &bob.proof()), SendFlags::NOSIGNAL);
    }
    let bell = bob.listen(bus.path());
    bus.comes_to(2, 1, 0);
    let _caller = alice.connect(bus.path(), "bob").unwrap();
    assert!(is_ready(&bell, PollFlags::IN, LIMIT));
}

#[test]
fn a_wrong_proof_leaves_nothing() {
    let (bus, alice, bob, _bell) = with_two();
    let wrong = [&bob.key.to_bytes()[..], &[0; 16]].concat();
    for _ in 0..300 {
        assert!(ask(bus.path(), TAKE, &wrong).is_err() && ask(bus.path(), LISTEN, &wrong).is_err());
        assert!(ask(bus.path(), CONNECT, &[&wrong[..], &[0; 9], b"bob"].concat()).is_err());
    }
    let caller = alice.connect(bus.path(), "bob").unwrap();
    assert_eq!(bob.take(bus.path()).unwrap().id, caller.id);
    bus.comes_to(2, 1, 0);
}

/// What waits is dropped with the server; open links go on.
#[test]
fn links_outlive_the_server_and_what_waits_does_not() {
    for dies in [false, true] {
        let (mut bus, alice, bob, bell) = with_two();
        let (caller, callee) = (alice.connect(bus.path(), "bob").unwrap(), bob.take(bus.path()).unwrap());
        let waits = alice.connect(bus.path(), "bob").unwrap();
        if dies {
            bus.server.get_mut().unwrap().kill();
        } else {
            let place = std::mem::replace(&mut bus.place, super::common::Place::new());
            shut_down(bus.server.into_inner().unwrap());
            assert!(place.is_clean());
        }
        assert!(waits.is_cut_off(LIMIT));
        assert!(is_ready(&bell, PollFlags::empty(), LIMIT), "nobody rings it any more");
        assert!(!caller.is_cut_off(Duration::ZERO) && !callee.is_cut_off(Duration::ZERO));
        assert_eq!(rustix::io::write(&caller.others, b"x"), Ok(1));
        assert_eq!(rustix::io::read(&callee.own, &mut [0; 4]), Ok(1));
    }
}

/// A client may ask for links and register again on and on.
#[test]
fn nothing_is_left_of_clients_that_are_gone() {
    let (bus, alice, bob, _bell) = with_two();
    for round in 0..60 {
        let mut registered = None;
        eventually("the name is free", || {
            registered = RawClient::try_register(bus.path(), "other").ok();
            registered.is_some()
        });
        let other = registered.unwrap();
        let bell = other.listen(bus.path());
        let calls = other.connect(bus.path(), "bob").unwrap();
        let serves = alice.connect(bus.path(), "other").unwrap();
        if round % 2 == 0 {
            drop(other.take(bus.path()).unwrap());
        }
        let callee = bob.take(bus.path()).unwrap();
        drop((other, calls, bell));
        assert!(callee.is_cut_off(LIMIT) && serves.is_cut_off(LIMIT));
        bob.flip(callee.index);
        alice.flip(serves.index);
    }
    bus.comes_to(2, 1, 0);
    assert!(all_links(bus.path()).is_empty());
    assert_eq!((bus.listed("alice").links, bus.listed("bob").links), (0, 0));
}
