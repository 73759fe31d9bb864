//! Deadlines come before everything else: also for a client that registers again, whatever delays it was
//! given.

use crate::common::{Bus, Place, begin, within_limit};
use ringpost::{
    CallError, Caller, Client, CloseReason, ConnectError, PublishError, Reconnect, ReconnectError,
    ReconnectEvent, RecvError, SendError, ServeError, Server, SubscribeError,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A client that registers again, and whose server is gone, which it was not told yet.
fn left_alone(reconnect: Reconnect) -> (Place, Client) {
    let Bus { server, place } = Bus::start();
    let client = Client::builder(&place.path).reconnect(reconnect).register("alice").unwrap();
    server.join_after_shutdown();
    (place, client)
}

#[test]
fn a_deadline_that_has_passed_is_called_one() {
    let (place, mut client) = left_alone(Reconnect::default());
    let key = client.key();
    for _ in 0..3 {
        assert_eq!(client.call_timeout(b"x", Instant::now()), Err(CallError::TimedOut));
        assert_eq!(client.send_timeout(key, b"x", Instant::now()), Err(SendError::TimedOut));
        assert_eq!(client.send_timeout(key, b"x", Duration::ZERO), Err(SendError::TimedOut));
        assert_eq!(client.recv_timeout(Instant::now()), Err(RecvError::TimedOut));
        assert_eq!(client.wait_for("bob", Duration::ZERO), Err(CallError::TimedOut));
        assert!(matches!(client.caller().reconnect(Duration::ZERO), Err(ReconnectError::TimedOut)));
    }
    // What could not be told for want of time is told as soon as there is some.
    assert_eq!(client.call(b"x"), Err(CallError::NotSent(CloseReason::Shutdown)));
    assert_eq!(client.call_timeout(b"x", Instant::now()), Err(CallError::TimedOut));
    let _server = Server::builder(&place.path).start().unwrap();
    assert_eq!(client.call(b"x").unwrap(), b"x");
}

/// The loop of the cookbook, with one deadline for all its rounds.
#[test]
fn a_loop_until_a_deadline_ends_with_it() {
    let (_place, mut client) = left_alone(Reconnect::default());
    let deadline = Instant::now() + Duration::from_millis(100);
    let mut rounds = 0;
    let end = loop {
        rounds += 1;
        match client.call_timeout(b"x", deadline) {
            Err(CallError::NotSent(_) | CallError::Disconnected(_)) => {}
            other => break other.map(|reply| reply.to_vec()),
        }
    };
    assert_eq!(end, Err(CallError::TimedOut));
    assert!(rounds <= 2, "{rounds} rounds: told once, then the time-out");
    assert!(Instant::now() >= deadline);
}

/// Delays of nothing are not a loop without pause, and no attempt comes between an operation and its
/// deadline.
#[test]
fn without_any_delay_deadlines_hold_and_attempts_are_few() {
    let none = Duration::ZERO;
    for reconnect in [
        Reconnect::default().first_delay(none),
        Reconnect::default().longest_delay(none),
        Reconnect::default().first_delay(none).longest_delay(none),
    ] {
        let attempts = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&attempts);
        let reconnect = reconnect.on_event(move |event| {
            counted.fetch_add(u64::from(matches!(event, ReconnectEvent::Failed { .. })), Ordering::Relaxed);
        });
        let (_place, mut client) = left_alone(reconnect);
        assert_eq!(client.recv(), Err(RecvError::Disconnected(CloseReason::Shutdown)));
        let began = Instant::now();
        let (end, client) = begin(move || {
            let end = client.call_timeout(b"x", Duration::from_secs(2)).map(|reply| reply.to_vec());
            (end, client)
        })
        .end_within("a call with a deadline", Duration::from_secs(20));
        assert_eq!(end, Err(CallError::TimedOut));
        // Half a millisecond lies before each.
        let most = began.elapsed().as_millis() as u64 * 2 + 1;
        let attempts = attempts.load(Ordering::Relaxed);
        assert!((1..=most).contains(&attempts), "{attempts} attempts");
        drop(client);
    }
}

/// A server that ends each connection as soon as it stands is not asked without pause either.
#[test]
fn a_server_that_comes_and_goes_does_not_make_a_client_busy() {
    let (place, mut client) =
        left_alone(Reconnect::default().first_delay(Duration::ZERO).longest_delay(Duration::ZERO));
    assert!(matches!(client.call(b"x"), Err(CallError::NotSent(_))));
    for _ in 0..3 {
        let server = Server::builder(&place.path).start().unwrap();
        assert_eq!(client.call(b"x").unwrap(), b"x");
        server.join_after_shutdown();
        assert!(matches!(client.call(b"x"), Err(CallError::NotSent(CloseReason::Shutdown))));
    }
}

/// The server answers in order, and is busy with a call.
#[test]
fn a_caller_may_give_its_questions_another_limit() {
    let (go, goes) = std::sync::mpsc::channel::<()>();
    let goes = std::sync::Mutex::new(goes);
    let bus = Bus::with(|builder| {
        builder.service(move |_, response| {
            let _ = goes.lock().unwrap().recv();
            response.write(b"done")
        })
    });
    // No number is too large.
    let mut client = Client::builder(&bus.place.path).timeout(Duration::MAX).register("alice").unwrap();
    client.caller().submit(b"takes long").unwrap();
    let mut client = within_limit("the questions", move || {
        ask_in_vain(client.caller());
        client
    });
    let caller = client.caller();
    caller.set_timeout(Duration::MAX);
    go.send(()).unwrap();
    assert_eq!(caller.response().unwrap(), b"done");
    assert_eq!((caller.ping(), caller.look_up("bob")), (Ok(()), Ok(None)));
    let _publisher = caller.publish("a").unwrap();
    let _subscriber = caller.subscribe("a").unwrap();
    let _listener = caller.listen().unwrap();
    client.unregister().unwrap();
}

fn ask_in_vain(caller: &mut Caller) {
    for limit in [Duration::ZERO, Duration::from_millis(5)] {
        caller.set_timeout(limit);
        assert_eq!(caller.ping(), Err(CallError::TimedOut));
        assert_eq!(caller.look_up("bob"), Err(CallError::TimedOut));
        assert_eq!(caller.list().map(|_| ()), Err(CallError::TimedOut));
        assert_eq!(caller.statistics().map(|_| ()), Err(CallError::TimedOut));
    }
    caller.set_timeout(Duration::ZERO);
    assert!(matches!(caller.publish("a"), Err(PublishError::TimedOut)));
    assert!(matches!(caller.subscribe("a"), Err(SubscribeError::TimedOut)));
    assert!(matches!(caller.listen(), Err(ServeError::TimedOut)));
    assert!(matches!(caller.connect("bob"), Err(ConnectError::TimedOut)));
}
