//! Each end makes the descriptor readable, and is told: closes, deaths, shutdowns.

use super::common::proc::threads;
use super::common::role::Role;
use super::common::server::{shut_down, start_server};
use super::common::{Bus, Place, begin, eventually};
use super::{Linked, Waiter, Way, arm, echo, serve_in_background};
use ringpost::{
    AcceptError, CallError, Client, CloseReason, Link, Readiness, ReadinessError, Ready, RecvError,
};
use rustix::process::{Pid, Signal, kill_process};

fn waiter_of<E: Ready>(end: &mut E) -> (Readiness, Waiter) {
    let readiness = end.readiness().unwrap();
    let waiter = Waiter::new(Way::Level, &readiness);
    (readiness, waiter)
}

/// What `arm` says of an end without anything outstanding.
fn told<E: Ready>(end: &mut E) -> CloseReason {
    for _ in 0..2 {
        match end.arm() {
            Ok(false) => {}
            Err(ReadinessError::Disconnected(reason)) => return reason,
            other => panic!("{other:?}"),
        }
    }
    panic!("the end is not told");
}

/// Stops a process, so that it answers nothing more.
fn stop(role: &Role) {
    kill_process(Pid::from_raw(role.pid() as i32).unwrap(), Signal::STOP).unwrap();
    let pid = role.pid().to_string();
    eventually("each thread stands still", || threads(&pid).iter().all(|(_, state)| *state == 'T'));
}

// ---- a client

/// The end of a client by this, as its two halves and its listener are told.
fn client_ends_by(mut alice: Client, reason: CloseReason, end: impl FnOnce(&mut Client)) {
    let mut listener = alice.listen().unwrap();
    let (_of_client, mut clients) = waiter_of(&mut alice);
    let (_of_listener, mut listeners) = waiter_of(&mut listener);
    arm(&mut alice, &mut clients);
    arm(&mut listener, &mut listeners);
    end(&mut alice);
    clients.wait();
    listeners.wait();
    assert!(!alice.arm().unwrap());
    assert_eq!(alice.try_recv(), Err(RecvError::Disconnected(reason)));
    assert_eq!(told(alice.caller()), reason);
    assert!(!listener.arm().unwrap());
    assert_eq!(listener.try_accept().unwrap_err(), AcceptError::Disconnected(reason));
    assert!(matches!(alice.readiness(), Err(ReadinessError::Disconnected(found)) if found == reason));
}

#[test]
fn a_client_hears_of_its_own_close() {
    let bus = Bus::start();
    let alice = bus.client("alice");
    client_ends_by(alice, CloseReason::Local, |alice| {
        let closer = alice.closer();
        begin(move || closer.close()).end("a close");
    });
}

#[test]
fn a_client_hears_of_its_servers_death() {
    let place = Place::new();
    let mut server = start_server(&place, &[]);
    let alice = Client::register(&place.path, "alice").unwrap();
    client_ends_by(alice, CloseReason::Died, |_| server.kill());
}

#[test]
fn a_client_hears_of_its_servers_shutdown() {
    let place = Place::new();
    let server = start_server(&place, &[]);
    let alice = Client::register(&place.path, "alice").unwrap();
    client_ends_by(alice, CloseReason::Shutdown, |_| drop(shut_down(server)));
}

#[test]
fn an_inbox_hears_that_its_caller_unregisters() {
    let bus = Bus::start();
    let (caller, mut inbox) = bus.client("alice").split();
    let (_readiness, mut waiter) = waiter_of(&mut inbox);
    arm(&mut inbox, &mut waiter);
    caller.unregister().unwrap();
    waiter.wait();
    assert_eq!(inbox.try_recv(), Err(RecvError::Disconnected(CloseReason::Unregistered)));
}

/// Messages come before the end.
#[test]
fn what_came_before_the_end_is_looked_at_first() {
    let bus = Bus::start();
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| bus.client(name));
    let (_readiness, mut waiter) = waiter_of(&mut alice);
    arm(&mut alice, &mut waiter);
    bob.send("alice", b"last words").unwrap();
    alice.closer().close();
    waiter.wait();
    assert!(!alice.arm().unwrap());
    assert_eq!(alice.try_recv().unwrap().unwrap().payload(), b"last words");
    assert!(!alice.arm().unwrap());
    assert_eq!(alice.try_recv(), Err(RecvError::Disconnected(CloseReason::Local)));
}

/// A response that is outstanding tells the end, and without one `arm` does.
#[test]
fn a_call_on_its_way_tells_the_end() {
    let place = Place::new();
    let mut server = start_server(&place, &[]);
    let (mut caller, _inbox) = Client::register(&place.path, "alice").unwrap().split();
    let (_readiness, mut waiter) = waiter_of(&mut caller);
    stop(&server);
    caller.submit(b"never answered").unwrap();
    arm(&mut caller, &mut waiter);
    server.kill();
    waiter.wait();
    assert!(!caller.arm().unwrap());
    assert_eq!(caller.try_response(), Err(CallError::Disconnected(CloseReason::Died)));
}

// ---- a client that registers again

#[test]
fn a_client_that_registers_again_asks_again() {
    let bus = Bus::start();
    let builder = Client::builder(bus.path()).reconnect(ringpost::Reconnect::default());
    let mut alice = builder.register("alice").unwrap();
    let (_former, mut waiter) = waiter_of(&mut alice);
    arm(&mut alice, &mut waiter);
    let Bus { server, place } = bus;
    server.join_after_shutdown();
    waiter.wait();
    assert_eq!(alice.try_recv(), Err(RecvError::Disconnected(CloseReason::Shutdown)));
    let _server = ringpost::Server::builder(&place.path).start().unwrap();
    alice.caller().reconnect(None).unwrap();
    assert!(alice.try_recv().unwrap().is_none());
    assert!(matches!(alice.arm(), Err(ReadinessError::NotAsked)));
    let (_readiness, mut waiter) = waiter_of(&mut alice);
    arm(&mut alice, &mut waiter);
    let mut bob = Client::register(&place.path, "bob").unwrap();
    bob.send("alice", b"again").unwrap();
    waiter.wait();
    assert_eq!(alice.try_recv().unwrap().unwrap().payload(), b"again");
}

/// A caller with nothing outstanding is told the end by `arm`, once, and goes on.
#[test]
fn a_caller_that_registers_again_is_told_once() {
    let bus = Bus::start();
    let builder = Client::builder(bus.path()).reconnect(ringpost::Reconnect::default());
    let (mut caller, _inbox) = builder.register("alice").unwrap().split();
    let (_former, mut waiter) = waiter_of(&mut caller);
    arm(&mut caller, &mut waiter);
    let Bus { server, place } = bus;
    server.join_after_shutdown();
    waiter.wait();
    assert_eq!(told(&mut caller), CloseReason::Shutdown);
    let _server = ringpost::Server::builder(&place.path).start().unwrap();
    assert_eq!(caller.call(b"again").unwrap(), b"again");
    let (_readiness, mut waiter) = waiter_of(&mut caller);
    arm(&mut caller, &mut waiter);
}

// ---- a link

#[test]
fn both_ends_of_a_link_hear_of_a_close() {
    for of_link in [true, false] {
        let Linked { mut link, mut responder, rest: _rest } = Linked::new();
        let (_of_link, mut links) = waiter_of(&mut link);
        let (_of_responder, mut responders) = waiter_of(&mut responder);
        arm(&mut link, &mut links);
        arm(&mut responder, &mut responders);
        let closer = if of_link { link.closer() } else { responder.closer() };
        begin(move || closer.close()).end("a close");
        links.wait();
        responders.wait();
        let (links, responders) = match of_link {
            true => (CloseReason::Local, CloseReason::Peer),
            false => (CloseReason::Peer, CloseReason::Local),
        };
        assert_eq!(told(&mut link), links);
        assert!(!responder.arm().unwrap());
        assert_eq!(responder.serve_ready(echo), Ok(Some(responders)));
        assert!(!responder.arm().unwrap(), "it is told again");
    }
}

#[test]
fn a_link_ends_with_its_clients_registration() {
    let Linked { mut link, mut responder, rest: (alice, bob, bus) } = Linked::new();
    let (_of_link, mut links) = waiter_of(&mut link);
    let (_of_responder, mut responders) = waiter_of(&mut responder);
    arm(&mut link, &mut links);
    arm(&mut responder, &mut responders);
    // Not with the server.
    drop(bus);
    assert!(!links.is_readable() && !responders.is_readable());
    drop(alice);
    links.wait();
    responders.wait();
    assert_eq!(told(&mut link), CloseReason::Unregistered);
    assert_eq!(responder.serve_ready(echo), Ok(Some(CloseReason::Unregistered)));
    drop(bob);
}

#[test]
fn a_link_hears_that_its_peer_is_killed() {
    let bus = Bus::start();
    let path = bus.path().to_str().unwrap();
    for outstanding in [false, true] {
        let mut bob = Role::start("serves", &[("PATH", path)]);
        bob.hear("serves");
        let mut alice = bus.client("alice");
        let mut link = Link::options().arms().connect(alice.caller(), "bob").unwrap();
        assert_eq!(link.call(b"x").unwrap(), b"x");
        let (_readiness, mut waiter) = waiter_of(&mut link);
        if outstanding {
            stop(&bob);
            link.submit(b"never answered").unwrap();
        }
        arm(&mut link, &mut waiter);
        bob.kill();
        waiter.wait();
        if outstanding {
            assert!(!link.arm().unwrap());
            assert_eq!(link.try_response(), Err(CallError::Disconnected(CloseReason::Died)));
        } else {
            assert_eq!(told(&mut link), CloseReason::Died);
        }
    }
}

#[test]
fn a_responder_hears_that_its_peer_is_killed() {
    let bus = Bus::start();
    let mut bob = bus.client("bob");
    let mut listener = bob.listen().unwrap();
    let mut alice = Role::start("links", &[("PATH", bus.path().to_str().unwrap())]);
    let mut responder = listener.accept().unwrap().arms().accept().unwrap();
    let (_readiness, mut waiter) = waiter_of(&mut responder);
    let mut served = 0;
    while served == 0 {
        let done = responder.serve_ready(|request, response| {
            served += 1;
            response.write(request.payload())
        });
        assert_eq!(done, Ok(None));
        if served == 0 && responder.arm().unwrap() {
            waiter.wait();
        }
    }
    alice.hear("called");
    arm(&mut responder, &mut waiter);
    alice.kill();
    waiter.wait();
    assert_eq!(responder.serve_ready(echo), Ok(Some(CloseReason::Died)));
}

/// A listener that was closed, and one whose handle was dropped by its owner.
#[test]
fn a_listener_hears_of_its_close() {
    let bus = Bus::start();
    let mut bob = bus.client("bob");
    let mut listener = bob.listen().unwrap();
    let (_readiness, mut waiter) = waiter_of(&mut listener);
    arm(&mut listener, &mut waiter);
    listener.closer().close();
    waiter.wait();
    assert!(!listener.arm().unwrap());
    assert_eq!(listener.try_accept().unwrap_err(), AcceptError::Disconnected(CloseReason::Local));
    drop(listener);
    // Another one has a descriptor of its own.
    let serving = serve_in_background(bob);
    let mut alice = bus.client("alice");
    assert_eq!(alice.connect("bob").unwrap().call(b"x").unwrap(), b"x");
    serving.end("bob hears of the end");
}
