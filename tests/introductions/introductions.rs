//! Tests of introductions that succeed.

use super::common::LIMIT;
use super::common::raw_links::{CONNECT, Side, all_links, ask, is_ready};
use super::{Bus, ComesTo};
use ringpost::testing::Segment;
use rustix::event::PollFlags;
use rustix::fs::fstat;
use rustix::io::{Errno, read, write};
use rustix::pipe::fcntl_getpipe_size;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What is sent to one side comes to the other.
fn belong_together(caller: &Side, callee: &Side) {
    assert_eq!(
        (caller.id, caller.ring_size, caller.max_block),
        (callee.id, callee.ring_size, callee.max_block)
    );
    let [one, other] = [caller, callee].map(|side| Segment::open(&side.segment).unwrap());
    assert_eq!(one.len() as u64, 4096 + 2 * caller.ring_size);
    one.word64(4096).store(77, Ordering::Relaxed);
    assert_eq!(other.word64(4096).load(Ordering::Relaxed), 77);
    for (from, to) in [(caller, callee), (callee, caller)] {
        assert_eq!(write(&from.others, b"x"), Ok(1));
        assert_eq!(read(&to.own, &mut [0; 4]), Ok(1));
        assert_eq!(read(&to.own, &mut [0; 4]), Err(Errno::AGAIN), "it never blocks");
        assert_eq!(fcntl_getpipe_size(&from.own), Ok(4096));
        assert!(!is_ready(&from.process, PollFlags::IN, Duration::ZERO), "this process lives");
        assert!(!from.is_cut_off(Duration::ZERO));
    }
}

#[test]
fn both_sides_get_what_belongs_together_and_the_server_keeps_no_descriptor() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    let bell = bob.listen(bus.path());
    assert!(bus.listed("bob").serves && !bus.listed("alice").serves);
    let names = [(0, b"bob".to_vec(), 0), (1, bob.key.to_bytes().to_vec(), 8192)];
    let mut open = Vec::new();
    for (kind, to, ring_size) in names {
        assert!(bob.take(bus.path()).is_none() && !is_ready(&bell, PollFlags::IN, Duration::ZERO));
        let answer = ask(bus.path(), CONNECT, &alice.connect_body_with(ring_size, kind, &to));
        let caller = Side::of(answer.unwrap());
        assert!(is_ready(&bell, PollFlags::IN, LIMIT));
        assert_eq!(read(&bell, &mut [0; 9]), Ok(1));
        let callee = bob.take(bus.path()).unwrap();
        assert!(bob.take(bus.path()).is_none());
        assert_eq!((caller.key, caller.pid, &caller.name[..]), (bob.key, std::process::id(), "bob"));
        assert_eq!((callee.key, callee.pid, &callee.name[..]), (alice.key, std::process::id(), "alice"));
        assert_eq!(caller.ring_size, if ring_size == 0 { 4096 } else { ring_size });
        belong_together(&caller, &callee);
        bus.comes_to(2, 1, 0);
        open.push((caller, callee));
    }
    assert_ne!(open[0].0.id, open[1].0.id);
    assert_eq!(all_links(bus.path()).len(), 2);
    assert_eq!((bus.listed("alice").links, bus.listed("bob").links), (2, 2));
    let (caller, callee) = open.pop().unwrap();
    drop(callee);
    assert!(caller.is_cut_off(LIMIT), "nobody else has an end of the pipes");
    alice.flip(caller.index);
    assert_eq!((bus.listed("alice").links, bus.listed("bob").links), (1, 2), "each for itself");
    assert_eq!(all_links(bus.path()).len(), 1);
}

#[test]
fn a_client_may_call_itself_and_its_two_sides_have_a_place_each() {
    let bus = Bus::start(&[]);
    let alice = bus.register("alice");
    let _bell = alice.listen(bus.path());
    let caller = alice.connect(bus.path(), "alice").unwrap();
    let callee = alice.take(bus.path()).unwrap();
    belong_together(&caller, &callee);
    assert_ne!(caller.index, callee.index);
    assert_eq!(bus.listed("alice").links, 2);
    alice.flip(caller.index);
    assert_eq!(bus.listed("alice").links, 1);
}

#[test]
fn several_are_taken_in_the_order_of_their_making_on_one_connection_or_more() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    let _bell = bob.listen(bus.path());
    let calls: Vec<Side> = (0..10).map(|_| alice.connect(bus.path(), "bob").unwrap()).collect();
    let serves: Vec<Side> = (0..10).map(|_| bob.take(bus.path()).unwrap()).collect();
    for (caller, callee) in calls.iter().zip(&serves) {
        belong_together(caller, callee);
    }
    let mut inodes: Vec<u64> = calls.iter().map(|side| fstat(&side.segment).unwrap().st_ino).collect();
    inodes.dedup();
    assert_eq!(inodes.len(), 10);
}

/// An introduction that came before the new bell is not overlooked.
#[test]
fn a_new_bell_rings_for_what_waits_already_and_ends_the_old_one() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    let old = bob.listen(bus.path());
    let caller = alice.connect(bus.path(), "bob").unwrap();
    let new = bob.listen(bus.path());
    assert!(is_ready(&new, PollFlags::IN, LIMIT));
    while read(&old, &mut [0; 9]).unwrap() > 0 {}
    belong_together(&caller, &bob.take(bus.path()).unwrap());
}
