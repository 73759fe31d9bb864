//! Each side of a link says that it may wait in an event loop, or that it does not: with the flag of its
//! hello, or of its acceptance.

use std::time::{Duration, Instant};

use ringpost::Link;
use rustix::event::PollFlags;

use super::common::raw::RawClient;
use super::common::raw_links::is_ready;
use super::common::{Bus, LIMIT, begin, eventually};
use super::raw::{HELLO, OK, RawLink, STATUS_HELLO, VIOLATION};

/// How long the watcher waits for a hello.
const HELLO_TIME: Duration = Duration::from_secs(5);

/// The flags of the block that lies first in a ring, or right behind one of one line.
fn flags(link: &RawLink, ring: usize, line: u64) -> u16 {
    let mut bytes = [0; 2];
    link.segment.copy_out(link.offset(ring, line * 64) + 8 + 2, &mut bytes);
    u16::from_le_bytes(bytes)
}

#[test]
fn a_caller_says_so_with_its_hello() {
    for arms in [true, false] {
        let bus = Bus::start();
        let raw = RawClient::register(bus.path(), "raw");
        let bell = raw.listen(bus.path());
        let mut alice = bus.client("alice");
        let calling = begin(move || {
            let options = if arms { Link::options().arms() } else { Link::options() };
            options.connect(alice.caller(), "raw").map(|_| alice)
        });
        assert!(is_ready(&bell, PollFlags::IN, LIMIT));
        let mut link = RawLink::open(raw.take(bus.path()).expect("alice's"), false);
        link.send(STATUS_HELLO, 0, &[]);
        eventually("alice says hello", || link.next().is_some_and(|(code, ..)| code == HELLO));
        assert_eq!(flags(&link, 0, 0), u16::from(arms));
        link.send(OK, 0, &[]);
        let _alice = calling.end("the connect").unwrap();
    }
}

#[test]
fn a_callee_says_so_with_its_acceptance() {
    for arms in [true, false] {
        let bus = Bus::start();
        let raw = RawClient::register(bus.path(), "raw");
        let mut bob = bus.client("bob");
        let mut listener = bob.listen().unwrap();
        let mut link = RawLink::open(raw.connect(bus.path(), "bob").unwrap(), true);
        link.send(HELLO, 0, &[]);
        let incoming = listener.accept().unwrap();
        let incoming = if arms { incoming.arms() } else { incoming };
        let _responder = incoming.accept().unwrap();
        for wanted in [STATUS_HELLO, OK] {
            eventually("bob answers", || link.next().is_some_and(|(code, ..)| code == wanted));
        }
        assert_eq!((flags(&link, 1, 0), flags(&link, 1, 1)), (0, u16::from(arms)));
    }
}

/// The watcher waits for the hello, so a listener does not, and neither do other callers.
#[test]
fn a_caller_that_says_nothing_is_given_up_and_holds_nobody_up() {
    let bus = Bus::start();
    let raw = RawClient::register(bus.path(), "raw");
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| bus.client(name));
    let mut listener = bob.listen().unwrap();
    let began = Instant::now();
    let silent = RawLink::open(raw.connect(bus.path(), "bob").unwrap(), true);
    let flooding = RawLink::open(raw.connect(bus.path(), "bob").unwrap(), true);
    let calling = begin(move || {
        let mut link = alice.connect("bob").unwrap();
        link.call(b"x").map(|reply| reply.to_vec())
    });
    let incoming = begin(move || (listener.accept().unwrap(), listener)).end("the accept");
    let (incoming, mut listener) = incoming;
    assert_eq!(incoming.peer().name, "alice");
    let mut responder = incoming.accept().unwrap();
    let serving = begin(move || responder.serve(|request, response| response.write(request.payload())));
    assert_eq!(calling.end("alice's call").unwrap(), b"x");
    let _ = serving.end("alice's link");
    // One that kicks for nothing meanwhile breaks a rule.
    eventually("who kicks without end is thrown out", || {
        flooding.kick(10);
        flooding.closed() != 0
    });
    let ends = (flooding.closed(), silent.closed());
    // Later both may have been given up for their silence.
    if began.elapsed() < HELLO_TIME {
        assert_eq!(ends, (VIOLATION, 0), "one is thrown out, and the other one still has time");
    }
    eventually("who says nothing is given up", || silent.closed() != 0);
    assert!(listener.try_accept().unwrap().is_none());
}
