//! Endings: unregister, drop, close handle, shutdown. What was committed comes first, then the reason.

use crate::common::proc::worker_sleeps;
use crate::common::raw::{LINE, PING, RawClient, Ring, SEND};
use crate::common::{Bus, Gate, LIMIT, Place, begin, eventually, within_limit};
use ringpost::{
    CallError, Client, CloseReason, ListenError, RecvError, Request, Response, SendError, Server, StartError,
};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

fn gated(
    gate: &Gate,
) -> impl Fn(Request<'_>, &mut Response<'_>) -> Result<(), ringpost::ServiceError> + use<> {
    let gate = gate.clone();
    move |request, response| {
        gate.pass();
        response.write(request.payload())
    }
}

#[test]
fn what_was_committed_is_received_after_unregistering() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    let (bob, mut inbox) = bus.client("bob").split();
    for i in 0..10_u8 {
        alice.send(bob.key(), &[i]).unwrap();
    }
    bob.unregister().unwrap();
    // The name is free at once, and its next owner another client.
    let again = bus.client("bob");
    assert_ne!(again.key(), inbox.key());
    for i in 0..10_u8 {
        assert_eq!(inbox.recv().unwrap().payload(), [i]);
    }
    assert_eq!(inbox.recv(), Err(RecvError::Disconnected(CloseReason::Unregistered)));
    assert_eq!(inbox.try_recv(), Err(RecvError::Disconnected(CloseReason::Unregistered)));
    assert_eq!(inbox.recv_timeout(LIMIT), Err(RecvError::Disconnected(CloseReason::Unregistered)));
}

#[test]
fn what_was_committed_is_received_after_shutdown() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
    for i in 0..10_u8 {
        alice.send(bob.key(), &[i]).unwrap();
    }
    let Bus { server, place } = bus;
    let summary = server.join_after_shutdown();
    assert_eq!((summary.registered, summary.messages, summary.abandoned), (2, 10, 0));
    assert!(place.is_clean());
    for i in 0..10_u8 {
        assert_eq!(bob.recv().unwrap().payload(), [i]);
    }
    assert_eq!(bob.recv(), Err(RecvError::Disconnected(CloseReason::Shutdown)));
    assert_eq!(bob.call(b"x"), Err(CallError::NotSent(CloseReason::Shutdown)));
    assert_eq!(bob.send(alice.key(), b"x"), Err(SendError::NotSent(CloseReason::Shutdown)));
    assert_eq!(bob.caller().ping(), Err(CallError::NotSent(CloseReason::Shutdown)));
    assert_eq!(bob.unregister(), Err(CallError::NotSent(CloseReason::Shutdown)));
}

/// As many as a ring holds, all committed before the shutdown began.
#[test]
fn shutdown_answers_what_was_committed() {
    for ring_size in [4096, 8192, 65536] {
        let gate = Gate::default();
        let bus = Bus::with(|b| b.ring_size(ring_size).grace(LIMIT).service(gated(&gate)));
        let mut client = bus.client("alice");
        client.caller().submit(b"first").unwrap();
        gate.wait_for(1);
        let behind = ring_size / 64 - 1;
        for i in 0..behind {
            client.caller().submit(&i.to_le_bytes()).unwrap();
        }
        let Bus { server, place } = bus;
        server.shutdown();
        // The socket goes first: then the shutdown has begun.
        eventually("nobody can connect", || !place.path.exists());
        gate.open();
        assert_eq!(client.caller().response().unwrap(), b"first");
        for i in 0..behind {
            let response = client.caller().response();
            assert_eq!(response.unwrap(), i.to_le_bytes(), "{i} of {behind}, ring of {ring_size}");
        }
        assert_eq!(client.caller().outstanding(), 0);
        let summary = within_limit("the shutdown", move || server.join());
        assert_eq!((summary.calls, summary.abandoned), (behind as u64 + 1, 0));
    }
}

/// A sender waits for room for up to a minute: no reason to let the shutdown wait as long.
#[test]
fn shutdown_ends_the_wait_for_room_in_an_inbox() {
    let bus = Bus::with(|b| b.ring_size(4096).grace(Duration::from_secs(600)));
    let mut alice = bus.client("alice");
    let bob = bus.client("bob");
    while alice.try_send(bob.key(), b"x").is_ok() {}
    let mut sender = RawClient::register(bus.path(), "long waiter");
    let mut body = bob.key().to_bytes().to_vec();
    body.extend_from_slice(&u64::MAX.to_le_bytes());
    sender.request(SEND, 1, &body);
    eventually("the request is taken", || sender.all_taken());
    eventually("the sender waits", || worker_sleeps("long waiter"));
    let Bus { server, place: _place } = bus;
    let summary = within_limit("the shutdown", move || server.join_after_shutdown());
    assert_eq!(summary.abandoned, 0);
    assert_eq!(
        sender.response().map(|(status, ..)| status),
        Some(10),
        "told that the server is shutting down"
    );
}

/// A client that never reads its responses cannot hold the server up beyond the grace period.
#[test]
fn shutdown_does_not_wait_for_a_client_that_does_not_read() {
    let bus = Bus::with(|b| b.ring_size(4096).grace(Duration::from_millis(200)));
    let mut deaf = RawClient::register(bus.path(), "deaf");
    for _ in 0..40 {
        deaf.request(PING, 0, &[]);
    }
    eventually("they are taken", || deaf.all_taken());
    // The next ones go round the ring: 63 responses fit, the rest wait.
    for _ in 0..24 {
        deaf.request(PING, 0, &[]);
    }
    let last = deaf.record(Ring::Response, 62 * LINE);
    eventually("as many are answered as fit", || last.load(Ordering::Acquire) != 0);
    let Bus { server, place } = bus;
    let summary = within_limit("the shutdown", move || server.join_after_shutdown());
    assert_eq!(summary.abandoned, 0);
    assert!(place.is_clean());
    // What was answered before is still there.
    for i in 0..63 {
        assert_eq!(deaf.response().map(|(status, sequence, _)| (status, sequence)), Some((0, i)));
    }
    assert!(deaf.response().is_none());
    assert_eq!(deaf.closed(), 4, "shutdown");
}

#[test]
fn a_service_that_does_not_return_is_left_behind() {
    let gate = Gate::default();
    let bus = Bus::with(|b| b.grace(Duration::from_millis(100)).service(gated(&gate)));
    let mut alice = bus.client("alice");
    let mut bob = bus.client("bob");
    let waiting = begin(move || alice.call(b"x").map(|reply| reply.to_vec()));
    gate.wait_for(1);
    let Bus { server, place } = bus;
    let summary = within_limit("the shutdown", move || server.join_after_shutdown());
    assert_eq!(summary.abandoned, 1);
    assert!(place.is_clean());
    assert_eq!(waiting.end("the caller"), Err(CallError::Disconnected(CloseReason::Shutdown)));
    assert_eq!(bob.recv(), Err(RecvError::Disconnected(CloseReason::Shutdown)));
    gate.open();
}

/// Every kind of wait, on threads of their own, ended by one shutdown.
#[test]
fn shutdown_ends_every_wait() {
    let bus = Bus::start();
    let listeners: Vec<_> = ["a", "b", "c"]
        .map(|name| {
            let mut client = bus.client(name);
            begin(move || client.recv())
        })
        .into();
    let mut timed = bus.client("timed");
    let timed = begin(move || timed.recv_timeout(LIMIT));
    drop(bus.server);
    for listener in listeners {
        assert_eq!(listener.end("recv"), Err(RecvError::Disconnected(CloseReason::Shutdown)));
    }
    assert_eq!(timed.end("recv_timeout"), Err(RecvError::Disconnected(CloseReason::Shutdown)));
}

#[test]
fn a_stopper_works_from_another_thread_and_twice() {
    let bus = Bus::start();
    let stopper = bus.server.stopper();
    let Bus { server, place } = bus;
    let waiting = begin(move || server.join());
    stopper.shutdown();
    stopper.clone().shutdown();
    waiting.end("join");
    stopper.shutdown();
    assert!(place.is_clean());
}

#[test]
fn the_closer_ends_waits_of_other_threads() {
    let gate = Gate::default();
    let bus = Bus::with(|b| b.service(gated(&gate)));
    let mut alice = bus.client("alice");
    let (mut caller, mut inbox) = bus.client("bob").split();
    alice.send(caller.key(), b"committed").unwrap();
    let handle = caller.closer();
    let call = begin(move || caller.call(b"x").map(|reply| reply.to_vec()));
    gate.wait_for(1);
    assert_eq!(inbox.recv().unwrap().payload(), b"committed");
    alice.send(inbox.key(), b"and this").unwrap();
    handle.close();
    handle.close();
    assert_eq!(call.end("call"), Err(CallError::Disconnected(CloseReason::Local)));
    assert_eq!(inbox.recv().unwrap().payload(), b"and this");
    assert_eq!(inbox.recv(), Err(RecvError::Disconnected(CloseReason::Local)));
    gate.open();

    let (caller, mut inbox) = bus.client("carol").split();
    let handle = caller.closer();
    let recv = begin(move || inbox.recv());
    handle.close();
    assert_eq!(recv.end("recv"), Err(RecvError::Disconnected(CloseReason::Local)));
}

/// "…ends this client's waits from another thread, with `Disconnected`, and with it the registration."
#[test]
fn the_closer_ends_the_registration() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    let bob = bus.client("bob");
    let key = bob.key();
    bob.closer().close();
    // The client itself lives on.
    eventually("its name is free", || alice.look_up(bob.name()).unwrap().is_none());
    assert_eq!(alice.send(key, b"x"), Err(SendError::NotFound));
    drop(bob);
}

/// A client under the name of one that was dropped: a drop waits for the server for a second at most.
fn next_of(bus: &Bus, name: &str) -> Client {
    let mut next = None;
    eventually("the name is free", || {
        next = Client::register(bus.path(), name).ok();
        next.is_some()
    });
    next.unwrap()
}

/// A closed caller that is dropped leaves nothing behind even if its other half is kept.
#[test]
fn a_kept_inbox_does_not_keep_the_name() {
    let bus = Bus::start();
    let (caller, mut inbox) = bus.client("bob").split();
    drop(caller);
    let again = next_of(&bus, "bob");
    assert_eq!(inbox.recv(), Err(RecvError::Disconnected(CloseReason::Unregistered)));
    let (caller, _kept) = again.split();
    caller.closer().close();
    drop(caller);
    eventually("the name is free", || Client::register(bus.path(), "bob").is_ok());
}

#[test]
fn dropping_unregisters() {
    let bus = Bus::with(|b| b.max_clients(1));
    for _ in 0..100 {
        // No waiting: when the drop has returned, name and slot are free. On a busy machine it may have
        // waited for that in vain, as long as it does.
        let mut client = bus.client("alice");
        client.caller().ping().unwrap();
        let began = Instant::now();
        drop(client);
        if began.elapsed() >= Duration::from_secs(1) {
            eventually("name and slot are free", || bus.server.info().clients == 0);
        }
    }
    for _ in 0..1000 {
        bus.client("alice").unregister().unwrap();
        assert_eq!(bus.server.info().clients, 0, "told before it was done");
    }
}

#[test]
fn dropping_does_not_wait_for_a_service_that_hangs() {
    let gate = Gate::default();
    let bus = Bus::with(|b| b.service(gated(&gate)));
    let mut client = bus.client("alice");
    client.caller().submit(b"x").unwrap();
    gate.wait_for(1);
    within_limit("the drop", move || drop(client));
    eventually("the name is free though the service hangs", || Client::register(bus.path(), "alice").is_ok());
    gate.open();
}

#[test]
fn unregistering_has_a_time_limit() {
    let gate = Gate::default();
    let bus = Bus::with(|b| b.service(gated(&gate)));
    let mut client = bus.client("alice");
    client.caller().submit(b"x").unwrap();
    gate.wait_for(1);
    client.caller().set_timeout(Duration::from_secs(1));
    assert_eq!(client.unregister(), Err(CallError::TimedOut));
    eventually("the name is free though the service hangs", || Client::register(bus.path(), "alice").is_ok());
    gate.open();
    bus.client("bob").unregister().unwrap();
}

/// A close handle that outlives its client keeps nothing of it, and does nothing to whoever comes next.
#[test]
fn a_closer_outlives_its_client() {
    let bus = Bus::start();
    for _ in 0..3 {
        let client = bus.client("alice");
        let handle = client.closer();
        drop(client);
        let mut next = next_of(&bus, "alice");
        assert_eq!(handle.reason(), Some(CloseReason::Unregistered));
        handle.close();
        next.caller().ping().unwrap();
        assert_eq!(bus.server.info().clients, 1);
    }
}

#[test]
fn one_server_a_path() {
    let bus = Bus::start();
    let second = Server::builder(bus.path()).start();
    assert!(matches!(second, Err(StartError::Listen(ListenError::InUse(_)))));
    let mut client = bus.client("alice");
    client.caller().ping().unwrap();
    let Bus { server, place } = bus;
    drop(server);
    let server = Server::builder(&place.path).start().unwrap();
    Client::register(&place.path, "alice").unwrap();
    drop(server);
    assert!(place.is_clean());
}

#[test]
fn servers_come_and_go_on_one_path() {
    let place = Place::new();
    for _ in 0..30 {
        let server = Server::builder(&place.path).start().unwrap();
        let mut client = Client::register(&place.path, "alice").unwrap();
        assert_eq!(client.call(b"x").unwrap(), b"x");
        let waiting = begin(move || client.recv());
        drop(server);
        assert_eq!(waiting.end("recv"), Err(RecvError::Disconnected(CloseReason::Shutdown)));
        assert!(place.is_clean());
    }
}
