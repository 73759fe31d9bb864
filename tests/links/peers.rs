//! Who is at the other end: oneself, one client twice, clients that serve each other, and ends with their
//! reasons.

use super::common::{Bus, LIMIT, begin, eventually};
use super::{Pair, echo};
use ringpost::{CallError, Client, CloseReason, Link};
use std::sync::Mutex;
use std::time::Duration;

#[test]
fn a_client_connects_to_itself() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    let serving = alice.listen().unwrap().serve(echo).unwrap();
    let mut link = alice.connect("alice").unwrap();
    assert_eq!(link.peer().key, alice.key());
    assert_eq!(link.call(b"to myself").unwrap(), b"to myself");
    drop(serving);
    assert!(link.call(b"still there?").unwrap_err().is_disconnected());
}

#[test]
fn two_links_to_one_client_end_one_by_one() {
    let mut pair = Pair::new(echo);
    let mut one = pair.alice.connect("bob").unwrap();
    let mut other = pair.alice.connect("bob").unwrap();
    assert_eq!(pair.links_of("bob"), 2);
    one.closer().close();
    assert_eq!(one.call(b"x"), Err(CallError::NotSent(CloseReason::Local)));
    assert_eq!(other.call(b"x").unwrap(), b"x");
    drop(one);
    eventually("bob notices", || pair.serving.links().len() == 1);
    eventually("the server notices", || pair.links_of("alice") == 1 && pair.links_of("bob") == 1);
    assert_eq!(other.call(b"y").unwrap(), b"y");
}

/// Bob's service calls alice, whose service calls bob: each waits for the other until its deadline.
#[test]
fn a_cycle_of_calls_ends_by_deadlines() {
    let bus = Bus::start();
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| bus.client(name));
    let [alices, bobs] = [alice.listen().unwrap(), bob.listen().unwrap()];
    // Each serves with a service that has a link to the other.
    let service = |link: std::sync::Arc<Mutex<Option<Link>>>| {
        move |request: ringpost::Request<'_>, response: &mut ringpost::Response<'_>| {
            let Ok(mut link) = link.try_lock() else { return response.write(b"busy") };
            let link = link.as_mut().expect("a link");
            match link.call_timeout(request.payload(), LIMIT) {
                Ok(reply) => response.write(reply.payload()),
                Err(error) => Err(error.into()),
            }
        }
    };
    let [to_bob, to_alice] = [(); 2].map(|()| std::sync::Arc::new(Mutex::new(None)));
    let _serving =
        [alices.serve(service(to_bob.clone())).unwrap(), bobs.serve(service(to_alice.clone())).unwrap()];
    *to_bob.lock().unwrap() = Some(alice.connect("bob").unwrap());
    *to_alice.lock().unwrap() = Some(bob.connect("alice").unwrap());
    let mut link = alice.connect("bob").unwrap();
    // Around: bob calls alice, alice calls bob on a second link, whose service finds its link to alice in
    // use.
    assert_eq!(link.call(b"around").unwrap(), b"busy");
    // One that is held by somebody who waits for ever ends by the deadline.
    let held = to_bob.lock().unwrap();
    assert_eq!(link.call(b"held").unwrap(), b"busy");
    drop(held);
    assert_eq!(link.call_timeout(b"again", Duration::from_secs(60)).unwrap(), b"busy");
}

#[test]
fn clients_serve_each_other_at_once() {
    const CALLS: u32 = 5000;
    let bus = Bus::start();
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| bus.client(name));
    let _serving = [&mut alice, &mut bob].map(|client| client.listen().unwrap().serve(echo).unwrap());
    let links = [alice.connect("bob").unwrap(), bob.connect("alice").unwrap()];
    let calling = links.map(|mut link| {
        begin(move || {
            for number in 0..CALLS {
                assert_eq!(link.call(&number.to_ne_bytes()).unwrap(), number.to_ne_bytes());
            }
        })
    });
    for calls in calling {
        calls.end("calls in both directions");
    }
}

#[test]
fn an_end_is_told_with_its_reason() {
    // Bob closes one link, and unregisters with the other.
    let Pair { mut alice, bob, serving, bus } = Pair::new(echo);
    let mut link = alice.connect("bob").unwrap();
    let mut waiting = alice.connect("bob").unwrap();
    assert_eq!(link.call(b"x").unwrap(), b"x");
    bob.unregister().unwrap();
    let ended = CallError::NotSent(CloseReason::Unregistered);
    assert_eq!(link.call(b"x"), Err(ended.clone()));
    assert_eq!(waiting.call(b"x"), Err(ended));
    assert_eq!(link.closer().reason(), Some(CloseReason::Unregistered));
    drop(serving);

    // The name is somebody else's now; the link is not.
    let mut bob = bus.client("bob");
    let serving = bob.listen().unwrap().serve(echo).unwrap();
    assert!(link.call(b"x").is_err());
    let mut link = alice.connect("bob").unwrap();
    assert_eq!(link.peer().key, bob.key());
    serving.stop();
    assert_eq!(link.call(b"x"), Err(CallError::NotSent(CloseReason::Peer)));

    // A client's links end with it.
    let mut listener = bob.listen().unwrap();
    let accepting = begin(move || {
        let mut responder = listener.accept().unwrap().accept().unwrap();
        responder.serve(echo)
    });
    let mut link = alice.connect("bob").unwrap();
    assert_eq!(link.call(b"x").unwrap(), b"x");
    alice.unregister().unwrap();
    assert_eq!(link.call(b"x"), Err(CallError::NotSent(CloseReason::Unregistered)));
    assert_eq!(accepting.end("the link's end"), Ok(CloseReason::Unregistered));
}

/// A call that waits when the end comes hears the reason; the closer of another thread ends it, too.
#[test]
fn a_wait_ends_with_the_link() {
    let gate = super::common::Gate::default();
    let bobs = gate.clone();
    let mut pair = Pair::new(move |_, _| {
        bobs.pass();
        Ok(())
    });
    let mut link = pair.alice.connect("bob").unwrap();
    let closer = link.closer();
    let waiting = begin(move || link.call(b"x").map(|_| ()));
    gate.wait_for(1);
    closer.close();
    assert_eq!(waiting.end("a closer"), Err(CallError::Disconnected(CloseReason::Local)));
    let mut link = pair.alice.connect("bob").unwrap();
    let waiting = begin(move || link.call(b"x").map(|_| ()));
    gate.wait_for(2);
    pair.alice.closer().close();
    assert_eq!(waiting.end("the client's closer"), Err(CallError::Disconnected(CloseReason::Local)));
    gate.open();
}

/// The caller goes away without a word while a call of it is served.
#[test]
fn a_dropped_link_leaves_nothing_at_either_side() {
    let mut pair = Pair::new(echo);
    for _ in 0..50 {
        let mut link = pair.alice.connect("bob").unwrap();
        link.submit(b"nobody waits").unwrap();
    }
    eventually("bob has no links", || pair.serving.links().is_empty());
    eventually("the server notes none", || pair.links_of("alice") == 0 && pair.links_of("bob") == 0);
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    let mut links: Vec<Link> = (0..10).map(|_| pair.alice.connect("bob").unwrap()).collect();
    assert!(links.iter_mut().all(|link| link.call(b"x").is_ok()));
    drop(links);
    eventually("every descriptor is closed", || open() <= before);
}

/// A client of another process: its identity is the server's word.
#[test]
fn the_peer_is_who_the_server_says() {
    let mut pair = Pair::new(echo);
    let link = pair.alice.connect("bob").unwrap();
    let peer = *link.peer();
    assert_eq!((peer.name, peer.key), (*pair.bob.name(), pair.bob.key()));
    assert_eq!(
        (peer.uid, peer.gid),
        (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    );
    let callers = pair.serving.links();
    assert_eq!((callers.len(), callers[0].key), (1, pair.alice.key()));
    assert!(format!("{link:?}").contains("bob"));
    let _: &Client = &pair.bob;
}
