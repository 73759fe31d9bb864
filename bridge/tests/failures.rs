//! Bridges, servers and networks that go away and come back, and names that two bridges claim.

mod common;

use std::sync::{Mutex, mpsc};

use common::{Bridge, LONG, Pair, bridge, vanishes, watch};
use ringpost::{CallError, SendError};

#[test]
fn names_vanish_with_a_killed_bridge_and_come_back_with_the_next() {
    let mut pair = Pair::start(&["alice", "bob"]);
    let (mut alice, mut bob) = pair.clients();
    let mut presence = watch(&mut alice, "bob@b");
    let endpoint = pair.endpoint.clone();
    for round in 0..2_u8 {
        let killed = std::mem::replace(
            &mut pair.bridge_b,
            // Its name is taken until the one that is killed is gone.
            bridge("b", "a", &pair.b, &["--connect", &endpoint], &["alice", "bob"]),
        );
        killed.kill();
        vanishes(&mut presence, "bob@b");
        pair.bridge_b.says("knows this node as b");
        alice.wait_for("bob@b", LONG).unwrap();
        bob.wait_for("alice@a", LONG).unwrap();
        alice.send("bob@b", &[round][..]).unwrap();
        assert_eq!(bob.recv_timeout(LONG).unwrap().payload(), [round]);
        assert!(bob.try_recv().unwrap().is_none(), "twice");
    }
}

#[test]
fn a_bridge_registers_again_when_its_server_is_back() {
    let mut pair = Pair::start(&["alice", "bob"]);
    let (mut alice, bob) = pair.clients();
    let mut presence = watch(&mut alice, "bob@b");
    drop(bob);
    drop(pair.b.server.take());
    vanishes(&mut presence, "bob@b");
    let sent = alice.send("bob@b", b"nobody");
    assert!(matches!(sent, Err(SendError::NotFound)), "{sent:?}");
    pair.b.serve();
    pair.bridge_b.says("joined the server");
    let mut bob = pair.b.client("bob");
    bob.wait_for("alice@a", LONG).unwrap();
    alice.wait_for("bob@b", LONG).unwrap();
    alice.send("bob@b", b"again").unwrap();
    assert_eq!(bob.try_recv().unwrap().unwrap().payload(), b"again");
}

#[test]
fn a_second_bridge_of_the_same_name_is_refused_and_the_first_goes_on() {
    let pair = Pair::start(&["alice", "bob"]);
    let (mut alice, mut bob) = pair.clients();
    let other = common::Bus::start();
    let _mallory = other.client("bob");
    let arguments = ["--connect", &pair.endpoint, "--allow", "a", "--export", "**", "--import", "**"];
    let mut second = Bridge::start("b", &other.path(), &arguments);
    second.says("the name b is taken");
    assert_eq!(second.end().code(), Some(1));
    alice.send("bob@b", b"to the first").unwrap();
    assert_eq!(bob.try_recv().unwrap().unwrap().payload(), b"to the first");
}

#[test]
fn a_call_may_have_been_executed_if_a_bridge_is_killed_meanwhile() {
    for kills_a in [false, true] {
        let pair = Pair::start(&["alice", "bob"]);
        let (mut alice, mut bob) = pair.clients();
        let (called, of_called) = mpsc::channel();
        let (free, of_free) = mpsc::channel::<()>();
        let of_free = Mutex::new(of_free);
        let serves = bob.listen().unwrap().serve(move |request, response| {
            called.send(()).unwrap();
            match request.payload() {
                b"wait" => of_free.lock().unwrap().recv().map_err(ringpost::ServiceError::from),
                other => response.write(other),
            }
        });
        let _serves = serves.unwrap();
        let mut link = alice.connect("bob@b").unwrap();
        link.submit(b"first").unwrap();
        link.submit(b"wait").unwrap();
        link.submit(b"behind").unwrap();
        for _ in 0..2 {
            of_called.recv_timeout(LONG).unwrap();
        }
        assert_eq!(&*link.response_timeout(LONG).unwrap(), b"first");
        if kills_a {
            pair.bridge_a.kill()
        } else {
            pair.bridge_b.kill()
        };
        for _ in 0..2 {
            let ended = link.response_timeout(LONG).unwrap_err();
            assert!(ended.may_have_executed() && ended != CallError::TimedOut, "{ended:?}");
        }
        drop(free);
    }
}
