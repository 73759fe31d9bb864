//! What waits for other clients, and what never waits: room in an inbox, a registration, responses.

use crate::common::{Bus, Gate, LIMIT, begin, eventually, within_limit};
use ringpost::{Address, CallError, CloseReason, Name, NameError, RecvError, Request, Response, SendError};
use std::time::{Duration, Instant};

const MOMENT: Duration = Duration::from_millis(20);

/// A server whose service waits at a gate before it echoes.
fn behind(gate: &Gate) -> Bus {
    let gate = gate.clone();
    Bus::with(|b| {
        b.ring_size(4096).service(move |request: Request<'_>, response: &mut Response<'_>| {
            gate.pass();
            response.write(request.payload())
        })
    })
}

#[test]
fn a_send_waits_until_there_is_room() {
    let bus = Bus::with(|b| b.ring_size(4096));
    let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
    let mut sent = 0_u32;
    while alice.try_send(bob.key(), &sent.to_le_bytes()).is_ok() {
        sent += 1;
    }
    let to = bob.key();
    let sender = begin(move || {
        for number in sent..sent + 100 {
            alice.send(to, &number.to_le_bytes()).unwrap();
        }
        alice
    });
    std::thread::sleep(MOMENT);
    within_limit("receiving", move || {
        for number in 0..sent + 100 {
            assert_eq!(bob.recv().unwrap().payload(), number.to_le_bytes());
        }
    });
    drop(sender.end("the sender"));
}

#[test]
fn a_send_without_a_limit_ends_with_its_receiver() {
    let bus = Bus::with(|b| b.ring_size(4096));
    let (mut alice, bob) = (bus.client("alice"), bus.client("bob"));
    let to = bob.key();
    while alice.try_send(to, b"x").is_ok() {}
    let sender = begin(move || alice.send(to, b"x"));
    std::thread::sleep(MOMENT);
    drop(bob);
    assert!(matches!(sender.end("the sender"), Err(SendError::Gone | SendError::NotFound)));
}

#[test]
#[expect(clippy::needless_borrows_for_generic_args, reason = "references are taken, too")]
fn a_receiver_is_given_by_its_name_or_its_key() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
    let (name, key) = (*bob.name(), bob.key());
    let text = key.to_string();
    alice.send("bob", b"1").unwrap();
    alice.send(name, b"2").unwrap();
    alice.send(&name, b"3").unwrap();
    alice.send(key, b"4").unwrap();
    alice.send(text.as_str(), b"5").unwrap();
    alice.send(&text, b"6").unwrap();
    alice.send(Address::Name(name), b"7").unwrap();
    alice.try_send("bob", b"8").unwrap();
    alice.send_timeout("bob", b"9", LIMIT).unwrap();
    for number in b'1'..=b'9' {
        assert_eq!(bob.recv().unwrap().payload(), [number]);
    }
    assert_eq!(
        (alice.look_up("bob"), alice.look_up(&name), alice.look_up(&text)),
        (Ok(Some(key)), Ok(Some(key)), Ok(Some(key)))
    );
    assert_eq!((alice.wait_for("bob", None), alice.wait_for(key, None)), (Ok(key), Ok(key)));
}

#[test]
fn a_receiver_that_cannot_be_is_an_error_that_says_why() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    assert_eq!(alice.send("", b"x"), Err(SendError::InvalidName(NameError::Empty)));
    assert_eq!(alice.look_up(" bob"), Err(CallError::InvalidName(NameError::OuterSpace)));
    assert_eq!(alice.wait_for("bob ", None), Err(CallError::InvalidName(NameError::OuterSpace)));
    let error = alice.try_send(" bob", b"x").unwrap_err();
    assert!(error.to_string().contains("trim it"), "{error}");
    assert_eq!(alice.send("bob", b"x"), Err(SendError::NotFound));
    // The message is checked first.
    let large = vec![0; alice.limits().max_message + 1];
    assert!(matches!(alice.send("bob", &large), Err(SendError::TooLarge { .. })));
}

#[test]
fn a_wait_for_a_client_ends_when_it_registers() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    let waiting = begin(move || (alice.wait_for("bob", None), alice));
    std::thread::sleep(MOMENT);
    let bob = bus.client("bob");
    let (found, mut alice) = waiting.end("the wait");
    assert_eq!(found, Ok(bob.key()));
    let began = Instant::now();
    assert_eq!(alice.wait_for("carol", MOMENT), Err(CallError::TimedOut));
    assert!(began.elapsed() >= MOMENT);
    assert_eq!(alice.wait_for("carol", Instant::now()), Err(CallError::TimedOut));
}

#[test]
fn a_wait_for_a_client_ends_with_the_connection() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    let closer = alice.closer();
    let waiting = begin(move || alice.wait_for("bob", None));
    std::thread::sleep(MOMENT);
    closer.close();
    let error = waiting.end("the wait").unwrap_err();
    assert!(error.is_disconnected(), "{error:?}");
    let mut alice = bus.client("carol");
    let waiting = begin(move || alice.wait_for("bob", None));
    std::thread::sleep(MOMENT);
    bus.server.join_after_shutdown();
    let error = waiting.end("the wait").unwrap_err();
    assert!(matches!(error, CallError::ShuttingDown) || error.is_disconnected(), "{error:?}");
}

/// The responses to calls that were submitted before are kept meanwhile.
#[test]
fn a_wait_for_a_client_keeps_responses() {
    let bus = Bus::start();
    let (mut caller, _inbox) = bus.client("alice").split();
    caller.submit(b"one").unwrap();
    assert_eq!(caller.wait_for("bob", MOMENT), Err(CallError::TimedOut));
    caller.submit(b"two").unwrap();
    assert_eq!(caller.outstanding(), 2);
    assert_eq!(caller.response().unwrap(), b"one");
    assert_eq!(caller.response().unwrap(), b"two");
}

#[test]
fn a_full_request_ring_is_told_at_once_and_loses_nothing() {
    let gate = Gate::default();
    let bus = behind(&gate);
    let (mut caller, _inbox) = bus.client("alice").split();
    let mut submitted = 0_u32;
    loop {
        match caller.try_submit(&submitted.to_le_bytes()) {
            Ok(()) => submitted += 1,
            Err(CallError::Full) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(submitted > 10, "{submitted}");
    assert_eq!(caller.outstanding(), submitted as usize);
    assert!(caller.try_response().unwrap().is_none());
    gate.open();
    for number in 0..submitted {
        // It never waits.
        let mut response = None;
        eventually("the response is there", || {
            response = caller.try_response().unwrap().map(|reply| reply.to_vec());
            response.is_some()
        });
        assert_eq!(response.unwrap(), number.to_le_bytes());
    }
    assert_eq!(caller.try_response().unwrap_err(), CallError::NothingOutstanding);
    caller.try_submit(b"again").unwrap();
    assert_eq!(caller.response().unwrap(), b"again");
}

#[test]
fn what_never_waits_tells_of_the_end() {
    let bus = Bus::start();
    let (mut caller, mut inbox) = bus.client("alice").split();
    caller.try_submit(b"x").unwrap();
    bus.server.join_after_shutdown();
    // What was answered before the end is still collected.
    assert_eq!(caller.try_response().unwrap().unwrap(), b"x");
    assert_eq!(caller.try_submit(b"x"), Err(CallError::NotSent(CloseReason::Shutdown)));
    assert_eq!(caller.try_send("alice", b"x"), Err(SendError::NotSent(CloseReason::Shutdown)));
    assert_eq!(inbox.try_recv(), Err(RecvError::Disconnected(CloseReason::Shutdown)));
}

#[test]
fn one_deadline_serves_several_operations() {
    let gate = Gate::default();
    let bus = behind(&gate);
    let mut alice = bus.client("alice");
    let deadline = Instant::now() + MOMENT;
    assert_eq!(alice.call_timeout(b"x", deadline).unwrap_err(), CallError::TimedOut);
    assert_eq!(alice.recv_timeout(deadline), Err(RecvError::TimedOut));
    gate.open();
    assert_eq!(alice.call_timeout(b"x", None).unwrap(), b"x");
    assert_eq!(alice.call_timeout(b"x", LIMIT).unwrap(), b"x");
    assert_eq!(alice.call_timeout(b"x", Some(LIMIT)).unwrap(), b"x");
    assert_eq!(alice.call_timeout(b"x", Duration::MAX).unwrap(), b"x");
}

/// What comes from elsewhere as a name goes in as it is.
#[test]
fn names_and_keys_are_addresses() {
    let name = Name::try_from("bob").unwrap();
    assert_eq!(Address::try_from("bob"), Ok(Address::from(name)));
    assert_eq!(Address::from(&name), Address::Name(name));
    assert_eq!(Address::from(&Address::from(name)), Address::Name(name));
}
