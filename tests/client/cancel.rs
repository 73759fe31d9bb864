//! Calls that take too long: ended by their deadline, by the close handle, or by looking again.

use crate::common::proc::worker_sleeps;
use crate::common::raw::{DATA_RECORD, VERSION, accept, datagram, header, listen_at, say_with};
use crate::common::{Begun, Bus, Gate, LIMIT, Place, begin, eventually};
use ringpost::channel;
use ringpost::testing::Segment;
use ringpost::{CallError, Caller, Client, CloseReason, Name, Request, Response, SendError, WaitStrategy};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const MOMENT: Duration = Duration::from_millis(20);

/// "sleep" takes as long as the gate is shut; everything else is echoed at once.
fn sleepy(gate: &Gate) -> Bus {
    let gate = gate.clone();
    Bus::with(|b| {
        b.ring_size(4096).service(move |request: Request<'_>, response: &mut Response<'_>| {
            if request.payload() == b"sleep" {
                gate.pass();
            }
            response.write(request.payload())
        })
    })
}

/// Each call has a deadline of its own, and an answer of its own, however many came too late before.
#[test]
fn every_call_gets_its_own_answer_after_any_number_of_late_ones() {
    let gate = Gate::default();
    let bus = sleepy(&gate);
    let mut client = bus.client("alice");
    assert_eq!(client.call_timeout(b"sleep", MOMENT), Err(CallError::TimedOut));
    gate.wait_for(1);
    // The worker is still at the first: all of these are too late in turn.
    for i in 0..20_u8 {
        let error = match i % 2 {
            0 => client.call_timeout(&[i], Duration::from_millis(1)),
            _ => client.call_timeout(&[i], Instant::now()),
        };
        assert_eq!(error, Err(CallError::TimedOut));
    }
    assert_eq!(client.caller().outstanding(), 0, "nobody waits for them any more");
    // Nobody else waits for the sleeper.
    assert_eq!(bus.client("bob").call(b"x").unwrap(), b"x");
    gate.open();
    for i in 100..120_u8 {
        assert_eq!(client.call_timeout(&[i], LIMIT).unwrap(), [i]);
    }
    assert_eq!(client.call(b"sleep").unwrap(), b"sleep");
    assert_eq!(client.caller().statistics().unwrap().calls, 42, "those too late were executed all the same");
    let error = CallError::TimedOut.to_string();
    assert!(error.contains("before the deadline") && error.contains("may have been executed"), "{error}");
}

/// A client whose worker sleeps in the service, ready for an operation that has to wait behind that.
fn behind_a_sleeper(bus: &Bus, gate: &Gate, count: usize) -> Caller {
    let (mut caller, _inbox) = bus.client(&format!("waiter {count}")).split();
    caller.submit(b"sleep").unwrap();
    gate.wait_for(count);
    caller
}

type Operation = fn(&mut Caller) -> String;

#[test]
fn the_closer_ends_every_wait_behind_a_service_that_sleeps() {
    let gate = Gate::default();
    let bus = sleepy(&gate);
    let operations: [(&str, Operation); 10] = [
        ("call", |c| format!("{:?}", c.call(b"x").unwrap_err())),
        ("call_timeout", |c| format!("{:?}", c.call_timeout(b"x", LIMIT).unwrap_err())),
        ("call_deadline", |c| format!("{:?}", c.call_timeout(b"x", Instant::now() + LIMIT).unwrap_err())),
        ("response", |c| format!("{:?}", c.response().unwrap_err())),
        ("response_timeout", |c| format!("{:?}", c.response_timeout(LIMIT).unwrap_err())),
        ("submit", |c| format!("{:?}", (0..).find_map(|_| c.submit(&[0; 900]).err()).unwrap())),
        ("send", |c| format!("{:?}", c.send(c.key(), b"x").unwrap_err())),
        ("look_up", |c| format!("{:?}", c.look_up(Name::try_from("bob").unwrap()).unwrap_err())),
        ("list", |c| format!("{:?}", c.list().unwrap_err())),
        ("ping", |c| format!("{:?}", c.ping().unwrap_err())),
    ];
    for (count, (what, operation)) in operations.into_iter().enumerate() {
        let mut caller = behind_a_sleeper(&bus, &gate, count + 1);
        let (handle, name) = (caller.closer(), *caller.name());
        let waiting = begin(move || (operation(&mut caller), caller));
        // It may not have begun yet; then it must end all the same.
        handle.close();
        let (ended, mut caller) = waiting.end(what);
        assert!(ended == "Disconnected(Local)" || ended == "NotSent(Local)", "{what}: {ended}");
        assert_eq!(caller.call(b"y"), Err(CallError::NotSent(CloseReason::Local)), "{what}");
        assert_eq!(caller.send(caller.key(), b"y"), Err(SendError::NotSent(CloseReason::Local)), "{what}");
        // Its name is free although the service still sleeps over its call.
        eventually("the name is free", || Client::register(bus.path(), name).is_ok());
    }
    gate.open();
    assert_eq!(bus.server.join_after_shutdown().abandoned, 0);
}

/// The same where it certainly waits: in a call that sleeps itself.
#[test]
fn the_closer_ends_a_call_in_a_service_that_sleeps() {
    for wait in [WaitStrategy::Spin, WaitStrategy::Adaptive, WaitStrategy::Park] {
        let gate = Gate::default();
        let bus = sleepy(&gate);
        let mut alice = Client::builder(bus.path()).wait(wait).register("alice").unwrap();
        let handle = alice.closer();
        let calling = begin(move || alice.call(b"sleep").map(|reply| reply.to_vec()));
        gate.wait_for(1);
        eventually("the worker sleeps", || worker_sleeps("alice"));
        handle.close();
        assert_eq!(calling.end("the call"), Err(CallError::Disconnected(CloseReason::Local)), "{wait}");
        gate.open();
    }
}

// ---- a response of which nobody was told

/// A server by hand that answers the first of two calls without waking anybody, and the second never: as a
/// worker may that overlooks a client which lies down in just that moment, and goes on to a service that
/// sleeps.
fn forgetful(place: &Place) -> Begun<()> {
    let socket = listen_at(&place.path);
    begin(move || {
        let line = accept(&socket);
        let _ = rustix::io::read(&line, &mut [0; 100]).unwrap();
        let (mut host, descriptor) = channel::create(4096, WaitStrategy::Park).unwrap();
        let segment = Segment::open(&descriptor).unwrap();
        say_with(&line, &datagram(VERSION, 0, &[7; 32]), &[&descriptor]);
        let mut block = Vec::new();
        host.requests.recv(&mut block).unwrap();
        host.requests.recv(&mut block).unwrap();
        // The response ring's control block and data, as in the table of the layout.
        let (parked, data) = (256 + 384 + 128, 8192 + 4096);
        eventually("the client sleeps", || segment.word32(parked).load(Ordering::Acquire) == 1);
        segment.copy_in(data + 8, b"\0\0\0\0\0\0\0\0first");
        segment.word64(data).store(header(0, DATA_RECORD, 8 + 5), Ordering::Release);
        // Until the client hangs up.
        let _ = rustix::io::read(&line, &mut [0; 1]);
    })
}

#[test]
fn a_client_that_was_overlooked_looks_again() {
    for (what, collect) in [
        (
            "untimed",
            (|c| c.caller().response().map(|reply| reply.to_vec()))
                as fn(&mut Client) -> Result<Vec<u8>, CallError>,
        ),
        ("timed", |c| c.caller().response_timeout(LIMIT * 2).map(|reply| reply.to_vec())),
    ] {
        let place = Place::new();
        let server = forgetful(&place);
        let mut client = Client::builder(&place.path).wait(WaitStrategy::Park).register("alice").unwrap();
        client.caller().submit(b"one").unwrap();
        client.caller().submit(b"two").unwrap();
        let waiting = begin(move || {
            let first = collect(&mut client);
            let second = client.caller().response_timeout(MOMENT).map(|reply| reply.to_vec());
            // Nobody would confirm that it leaves.
            client.closer().close();
            (first, second)
        });
        let (first, second) = waiting.end(what);
        assert_eq!(first.unwrap(), b"first", "{what}");
        assert_eq!(second, Err(CallError::TimedOut), "{what}");
        server.end("the server by hand");
    }
}
