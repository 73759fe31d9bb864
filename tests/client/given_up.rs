//! A client whose inbox was dropped while its caller goes on: whoever sends to it is told so.

use crate::common::proc::worker_sleeps;
use crate::common::raw::{RawClient, SEND};
use crate::common::{Bus, LIMIT, begin, eventually, within_limit};
use ringpost::{Caller, Client, Key, SendError};
use std::time::Instant;

/// A client that has dropped its inbox.
fn deaf(bus: &Bus, name: &str) -> Caller {
    let (caller, inbox) = bus.client(name).split();
    drop(inbox);
    caller
}

fn fill(sender: &mut Client, to: Key) {
    let full = (0..1000).find_map(|_| sender.try_send(to, b"x").err());
    assert_eq!(full, Some(SendError::InboxFull));
}

fn goes_on(caller: &mut Caller) {
    for number in 0..200_u32 {
        assert_eq!(caller.call(&number.to_le_bytes()).unwrap(), number.to_le_bytes());
    }
}

#[test]
fn the_first_message_is_refused_and_the_caller_goes_on() {
    let bus = Bus::with(|b| b.ring_size(4096));
    let (mut alice, mut bob) = (bus.client("alice"), deaf(&bus, "bob"));
    for _ in 0..3 {
        assert_eq!(alice.try_send(bob.key(), b"x"), Err(SendError::Gone));
        assert_eq!(alice.send_timeout(bob.key(), b"x", LIMIT), Err(SendError::Gone));
        assert_eq!(alice.send_timeout(bob.key(), b"x", Instant::now() + LIMIT), Err(SendError::Gone));
    }
    assert_eq!(bob.try_send(bob.key(), b"a note to itself"), Err(SendError::Gone));
    goes_on(&mut bob);
    bob.try_send(alice.key(), b"I still write").unwrap();
    assert_eq!(alice.recv().unwrap().payload(), b"I still write");
    assert_eq!(alice.look_up("bob"), Ok(Some(bob.key())));
    assert_eq!(alice.list().unwrap().len(), 2);
    bob.unregister().unwrap();
    // Its name is free, and whoever has it next has an inbox.
    alice.try_send(bus.client("bob").key(), b"x").unwrap();
    drop(alice);
    let summary = bus.server.join_after_shutdown();
    assert_eq!((summary.violations, summary.messages), (0, 2));
}

/// What lies in it does not matter.
#[test]
fn a_full_inbox_that_is_dropped_is_not_full() {
    let bus = Bus::with(|b| b.ring_size(4096));
    let mut alice = bus.client("alice");
    let (mut bob, inbox) = bus.client("bob").split();
    fill(&mut alice, bob.key());
    drop(inbox);
    assert_eq!(alice.try_send(bob.key(), b"x"), Err(SendError::Gone));
    assert_eq!(alice.send_timeout(bob.key(), b"x", LIMIT), Err(SendError::Gone));
    goes_on(&mut bob);
}

/// The first in the queue and those behind it, with hours left.
#[test]
fn senders_that_wait_are_told_at_once() {
    const GONE: u16 = 6;
    let bus = Bus::with(|b| b.ring_size(4096));
    let mut alice = bus.client("alice");
    let (mut bob, inbox) = bus.client("bob").split();
    let key = bob.key();
    fill(&mut alice, key);
    let mut body = key.to_bytes().to_vec();
    body.extend_from_slice(&(600 * LIMIT.as_nanos() as u64).to_le_bytes());
    let mut waiting: Vec<_> = ["first", "second", "third"]
        .into_iter()
        .map(|name| {
            let mut sender = RawClient::register(bus.path(), name);
            sender.request(SEND, 1, &body);
            eventually("the worker takes the request", || sender.all_taken());
            eventually("the sender waits", || worker_sleeps(name));
            sender
        })
        .collect();
    let library = begin(move || alice.send_timeout(key, b"y", 600 * LIMIT));
    eventually("the sender waits", || worker_sleeps("alice"));
    drop(inbox);
    within_limit("those who wait", move || {
        for sender in &mut waiting {
            assert_eq!(sender.response().unwrap().0, GONE);
        }
    });
    assert_eq!(library.end("the sender"), Err(SendError::Gone));
    goes_on(&mut bob);
}

/// Nobody can know of it.
#[test]
fn a_leaked_inbox_fills() {
    let bus = Bus::with(|b| b.ring_size(4096));
    let mut alice = bus.client("alice");
    let (bob, inbox) = bus.client("bob").split();
    std::mem::forget(inbox);
    fill(&mut alice, bob.key());
}

/// As ever: one that is whole leaves, whichever half is dropped last.
#[test]
fn a_client_that_is_dropped_whole_has_left() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    for inbox_first in [false, true] {
        let (bob, inbox) = bus.client("bob").split();
        let key = bob.key();
        if inbox_first {
            drop((inbox, bob));
        } else {
            drop((bob, inbox));
        }
        assert_eq!(alice.try_send(key, b"x"), Err(SendError::NotFound));
    }
}
