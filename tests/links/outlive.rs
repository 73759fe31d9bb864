//! A link goes on while its server is killed and another one takes its place.

use super::common::role::{Role, Stage, say, setting};
use super::common::server::start_server;
use super::common::{Place, eventually};
use super::echo;
use ringpost::{Client, ConnectError, Reconnect};
use std::path::PathBuf;

/// The role of a client that serves, and says so.
pub fn call_on(stage: &Stage) {
    let path = setting::<PathBuf>("PATH").unwrap();
    let mut bob = Client::builder(path).reconnect(Reconnect::default()).register("bob").unwrap();
    stage.await_order("serve");
    let _serving = bob
        .listen()
        .unwrap()
        .serve(|request, response| {
            if request.payload() == b"sleep" {
                say("asleep");
                std::thread::park();
            }
            echo(request, response)
        })
        .unwrap();
    say("serving");
    stage.await_order("never");
}

#[test]
fn calls_in_flight_do_not_notice_the_death_of_the_server() {
    let place = Place::new();
    let mut first = start_server(&place, &[]);
    let mut bob = Role::start("calls", &[("PATH", place.path.to_str().unwrap())]);
    bob.tell("serve");
    bob.hear("serving");
    let again = Client::builder(&place.path).reconnect(Reconnect::default());
    let mut alice = again.register("alice").unwrap();
    let mut link = alice.connect("bob").unwrap();
    let peer = *link.peer();
    let mut calls = 0_u32;
    let mut call = |times| {
        for _ in 0..times {
            link.post(b"posted").unwrap();
            assert_eq!(link.call(&calls.to_ne_bytes()).unwrap(), calls.to_ne_bytes());
            calls += 1;
        }
        *link.peer()
    };
    call(1000);
    link.submit(b"in flight").unwrap();
    first.kill();
    assert_eq!(link.response().unwrap(), b"in flight");
    let mut call = |times| {
        for _ in 0..times {
            link.post(b"posted").unwrap();
            assert_eq!(link.call(&calls.to_ne_bytes()).unwrap(), calls.to_ne_bytes());
            calls += 1;
        }
        *link.peer()
    };
    call(1000);
    let _second = start_server(&place, &[]);
    let former = peer.key;
    // Both register again; bob by himself, because he serves.
    eventually("bob serves at the second server", || match alice.connect("bob") {
        Ok(mut other) => {
            assert_ne!(other.peer().key, former);
            other.call(b"x").unwrap() == *b"x"
        }
        Err(ConnectError::NotFound | ConnectError::NotServing | ConnectError::TimedOut) => false,
        Err(error) => panic!("{error}"),
    });
    assert_eq!(call(1000), peer, "the identity at introduction");
    // Both have reported it to the server that has never seen it.
    eventually("the second server knows of the link", || {
        let list = alice.list().unwrap();
        ["alice", "bob"]
            .iter()
            .all(|name| list.iter().any(|client| client.name.as_str() == *name && client.links >= 1))
    });
    drop(link);
    eventually("and of its end", || alice.list().unwrap().iter().all(|client| client.links == 0));
}
