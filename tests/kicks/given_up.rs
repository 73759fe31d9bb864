//! The response to a call that was given up is nobody's, and keeps no event loop busy.

use std::time::{Duration, Instant};

use ringpost::{CallError, Caller, Link, Ready, Request, Response, ServiceError};

use super::common::by_epoll::ByEpoll;
use super::common::{Bus, Gate, LIMIT, eventually};

/// A service that answers once the gate is open.
fn gated(gate: &Gate) -> impl Fn(Request<'_>, &mut Response<'_>) -> Result<(), ServiceError> + use<> {
    let gate = gate.clone();
    move |request: Request<'_>, response: &mut Response<'_>| {
        gate.pass();
        response.write(request.payload())
    }
}

/// The call has timed out. Its response comes, and then the end waits again.
fn waits_again<E: Ready>(end: &mut E, by: &ByEpoll, gate: &Gate, look: impl Fn(&mut E) -> Option<CallError>) {
    gate.wait_for(1);
    eventually("nothing is there", || end.arm().unwrap());
    gate.open();
    assert!(by.wait(Some(Instant::now() + LIMIT)), "the response is told of");
    assert!(matches!(look(end), Some(CallError::NothingOutstanding)));
    eventually("it waits again", || end.arm().unwrap());
}

#[test]
fn a_late_response_keeps_no_client_busy() {
    let gate = Gate::default();
    let bus = Bus::with(|builder| builder.service(gated(&gate)));
    let (mut alice, _inbox) = bus.client("alice").split();
    let by = ByEpoll::of(&mut alice, false).unwrap();
    // The server writes the first byte of a pipe for nothing.
    assert!(by.wait(Some(Instant::now() + LIMIT)));
    eventually("that byte is taken", || alice.arm().unwrap() && !by.wait(Some(Instant::now())));
    assert!(matches!(alice.call_timeout(b"x", Duration::ZERO), Err(CallError::TimedOut)));
    waits_again(&mut alice, &by, &gate, |alice: &mut Caller| alice.try_response().err());
    assert_eq!(alice.call(b"y").unwrap(), b"y");
}

#[test]
fn a_late_response_keeps_no_link_busy() {
    let (gate, bus) = (Gate::default(), Bus::start());
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| bus.client(name));
    let serving = bob.listen().unwrap().serve(gated(&gate)).unwrap();
    let mut link = Link::options().arms().connect(alice.caller(), "bob").unwrap();
    let by = ByEpoll::of(&mut link, true).unwrap();
    assert!(matches!(link.call_timeout(b"x", Duration::ZERO), Err(CallError::TimedOut)));
    waits_again(&mut link, &by, &gate, |link: &mut Link| link.try_response().err());
    assert_eq!(link.call(b"y").unwrap(), b"y");
    serving.stop();
    serving.join();
}
