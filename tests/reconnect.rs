//! Tests of reconnecting clients: their server is killed and restarted in every state that a client can be
//! in.

mod common;

use common::role::{self, Role, Stage, say};
use common::server::{self, shut_down, start_server};
use common::{LIMIT, Place, begin, eventually};
use ringpost::{
    CallError, Client, CloseReason, Inbox, Observer, Reconnect, ReconnectError, ReconnectEvent, RecvError,
    RegisterError, Request, Response, SendError,
};
use std::fmt::Debug;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// Runs the role of a child process of this test program; does nothing in the main process.
#[test]
fn role() {
    let Some((role, stage)) = role::role() else { return };
    match role.as_str() {
        "server" => serve(&stage),
        other => panic!("no role {other:?}"),
    }
}

/// Serves an echo. Calls with "hang" are never answered.
fn serve(stage: &Stage) {
    let service = |request: Request<'_>, response: &mut Response<'_>| {
        if request.payload() == b"hang" {
            say("hangs");
            loop {
                std::thread::park();
            }
        }
        response.write(request.payload())
    };
    server::serve(server::as_set().service(service), stage);
}

// ---- a bus whose server comes and goes

const DIED: CloseReason = CloseReason::Died;

struct RestartableBus {
    place: Place,
    server: Option<Role>,
}

impl RestartableBus {
    fn new() -> RestartableBus {
        let mut bus = RestartableBus { place: Place::new(), server: None };
        bus.start();
        bus
    }

    fn start(&mut self) {
        self.start_with(&[]);
    }

    fn start_with(&mut self, settings: &[(&str, &str)]) {
        self.server = Some(start_server(&self.place, settings));
    }

    fn kill(&mut self) {
        self.server.take().unwrap().kill();
    }

    fn server(&mut self) -> &mut Role {
        self.server.as_mut().unwrap()
    }

    fn plain(&self, name: &str) -> Client {
        Client::register(&self.place.path, name).unwrap()
    }

    /// Registers a reconnecting client. Also returns its events.
    fn client(
        &self,
        name: &str,
        set: impl FnOnce(Reconnect) -> Reconnect,
    ) -> (Client, Receiver<ReconnectEvent>) {
        let (sender, events) = mpsc::channel();
        // A generous limit, for busy machines.
        let reconnect = Reconnect::default().longest_delay(Duration::from_millis(50)).within(10 * LIMIT);
        let reconnect = set(reconnect).on_event(move |event| drop(sender.send(event.clone())));
        (Client::builder(&self.place.path).reconnect(reconnect).register(name).unwrap(), events)
    }

    fn steady(&self, name: &str) -> (Client, Receiver<ReconnectEvent>) {
        self.client(name, |reconnect| reconnect)
    }
}

/// Expects the events of a reconnect: an end with this reason, any number of failed attempts, and the new
/// registration, whose key it returns.
fn hear_of_return(events: &Receiver<ReconnectEvent>, ended: CloseReason) -> ringpost::Key {
    match events.recv_timeout(LIMIT).unwrap() {
        ReconnectEvent::Ended { reason } => assert_eq!(reason, ended),
        other => panic!("{other:?}"),
    }
    let mut failed = 0;
    loop {
        match events.recv_timeout(LIMIT).unwrap() {
            ReconnectEvent::Failed { attempt, error, .. } => {
                failed += 1;
                assert_eq!(attempt, failed);
                assert!(matches!(*error, RegisterError::NoServer { .. }), "{error}");
            }
            ReconnectEvent::Registered { key, attempts } => {
                assert_eq!(attempts, failed + 1);
                return key;
            }
            other => panic!("{other:?}"),
        }
    }
}

fn text(inbox: Result<ringpost::Message, impl Debug>) -> String {
    String::from_utf8(inbox.unwrap().into_payload()).unwrap()
}

// ---- in every state

#[test]
fn a_wait_for_a_message_goes_on_with_the_next_server() {
    let mut bus = RestartableBus::new();
    let (mut client, events) = bus.steady("alice");
    let former = client.key();
    let receiver = begin(move || {
        let first = client.recv();
        // There is no server now, so this waits for one.
        let second = client.recv();
        (client, first, second)
    });
    bus.kill();
    assert!(matches!(events.recv_timeout(LIMIT), Ok(ReconnectEvent::Ended { reason: DIED })));
    assert!(matches!(events.recv_timeout(LIMIT), Ok(ReconnectEvent::Failed { attempt: 1, .. })));
    bus.start();
    let mut bob = bus.plain("bob");
    // Retries: the name is found a moment before the server can deliver messages to that client.
    let mut back = None;
    while back.is_none() {
        match events.recv_timeout(LIMIT).unwrap() {
            ReconnectEvent::Registered { key, .. } => back = Some(key),
            other => assert!(matches!(other, ReconnectEvent::Failed { .. }), "{other:?}"),
        }
    }
    assert_eq!(bob.look_up("alice"), Ok(back));
    bob.send(back.unwrap(), b"welcome back").unwrap();
    let (mut client, first, second) = receiver.end("the receiver");
    assert_eq!(first, Err(RecvError::Disconnected(DIED)));
    assert_eq!(text(second), "welcome back");
    assert_eq!(Some(client.key()), back);
    assert_ne!(client.key(), former, "a key is never used again");
    assert_eq!(client.call(b"x").unwrap(), b"x");
    assert_eq!(client.closer().reason(), None);
    client.unregister().unwrap();
    assert_eq!(bob.look_up("alice"), Ok(None));
}

#[test]
fn a_call_on_its_way_is_not_made_again() {
    let mut bus = RestartableBus::new();
    let (mut client, events) = bus.steady("alice");
    let caller = begin(move || {
        let end = client.call(b"hang").map(|_| ());
        (client, end)
    });
    bus.server().hear("hangs");
    bus.kill();
    let (mut client, end) = caller.end("the call");
    let end = end.unwrap_err();
    assert_eq!(end, CallError::Disconnected(DIED));
    assert!(end.to_string().contains("may have been executed"), "{end}");
    assert_eq!(client.caller().outstanding(), 0);
    bus.start();
    // The call above reported the end, so the next one registers again.
    assert_eq!(client.call(b"next").unwrap(), b"next");
    assert_eq!(hear_of_return(&events, DIED), client.key());
    assert_eq!(client.caller().statistics().unwrap().calls, 1);
    client.unregister().unwrap();
    let sums = shut_down(bus.server.take().unwrap());
    assert_eq!((sums["registered"], sums["calls"]), (1, 1));
}

#[test]
fn an_idle_client_is_told_by_its_next_operation() {
    let mut bus = RestartableBus::new();
    let (mut client, events) = bus.steady("alice");
    let handle = client.closer();
    for round in 0..3_u8 {
        let own = client.key();
        bus.kill();
        eventually("it is noticed", || handle.reason() == Some(DIED));
        bus.start();
        let told = match round {
            0 => client.call(b"x").map(|_| ()).unwrap_err(),
            1 => client.caller().submit(b"x").unwrap_err(),
            _ => client
                .send(own, b"x")
                .map_err(|error| match error {
                    SendError::NotSent(reason) => CallError::NotSent(reason),
                    other => panic!("{other}"),
                })
                .unwrap_err(),
        };
        assert_eq!(told, CallError::NotSent(DIED));
        // The client is not split, so no other half reports the end again.
        assert_eq!(client.recv_timeout(Duration::ZERO).unwrap_err(), RecvError::TimedOut);
        assert_eq!(client.call(b"x").unwrap(), b"x");
        assert_eq!(client.send(own, b"x"), Err(SendError::NotFound));
        assert_eq!(handle.reason(), None);
        hear_of_return(&events, DIED);
    }
}

/// Asking them a second time does no harm, so the end is told by an event alone.
#[test]
fn questions_are_asked_again_by_themselves() {
    let mut bus = RestartableBus::new();
    let (mut client, events) = bus.steady("alice");
    for round in 0..6 {
        let former = client.key();
        bus.kill();
        bus.start();
        match round {
            0 => assert_eq!(client.look_up("alice").unwrap().unwrap(), client.key()),
            1 => client.caller().ping().unwrap(),
            2 => assert_eq!(client.list().unwrap().len(), 1),
            3 => assert_eq!(client.caller().statistics().unwrap().calls, 0),
            4 => assert_eq!(client.wait_for("alice", LIMIT).unwrap(), client.key()),
            _ => client.send("alice", b"to myself").unwrap(),
        }
        assert_ne!(client.key(), former);
        assert_eq!(hear_of_return(&events, DIED), client.key());
    }
    assert_eq!(text(client.recv()), "to myself");
    // Not without an end, if the server does not come back.
    bus.kill();
    drop(events);
    let limited = Client::builder(&bus.place.path).timeout(Duration::from_millis(50));
    assert!(limited.register("bob").is_err());
    assert_eq!(client.wait_for("bob", Duration::from_millis(50)), Err(CallError::TimedOut));
}

#[test]
fn messages_committed_before_come_first() {
    let mut bus = RestartableBus::new();
    let (mut client, events) = bus.steady("alice");
    // Once the inbox reports the end; once the client registers again before it has received anything.
    for explicitly in [false, true] {
        let mut bob = bus.plain("bob");
        for n in 0..3 {
            bob.send(client.key(), format!("old {n}").as_bytes()).unwrap();
        }
        bus.kill();
        bus.start();
        if explicitly {
            let key = client.caller().reconnect(None).unwrap();
            assert_eq!(key, client.key());
            let mut bob = bus.plain("bob");
            bob.send(key, b"new").unwrap();
        }
        for n in 0..3 {
            assert_eq!(text(client.recv_timeout(LIMIT)), format!("old {n}"));
        }
        if !explicitly {
            assert_eq!(client.recv(), Err(RecvError::Disconnected(DIED)));
            // `try_recv` does not register again.
            assert_eq!(client.try_recv(), Err(RecvError::Disconnected(DIED)));
            client.caller().reconnect(None).unwrap();
            assert_eq!(client.try_recv(), Ok(None));
            let mut bob = bus.plain("robert");
            bob.send(client.key(), b"new").unwrap();
        }
        assert_eq!(text(client.recv_timeout(LIMIT)), "new");
        hear_of_return(&events, DIED);
    }
}

#[test]
fn messages_of_several_connections_come_in_their_order() {
    let mut bus = RestartableBus::new();
    let (mut client, _events) = bus.steady("alice");
    let mut expected = Vec::new();
    for round in 0..5 {
        // Some connections transport no message.
        for n in 0..round % 3 {
            let mut bob = bus.plain("bob");
            let message = format!("{round}: {n}");
            bob.send(client.key(), message.as_bytes()).unwrap();
            expected.push(message);
            bob.unregister().unwrap();
        }
        bus.kill();
        bus.start();
        client.caller().reconnect(None).unwrap();
    }
    for message in expected {
        assert_eq!(text(client.recv_timeout(LIMIT)), message);
    }
    let own = client.key();
    client.send(own, b"the last").unwrap();
    assert_eq!(text(client.recv_timeout(LIMIT)), "the last");
    assert_eq!(client.try_recv(), Ok(None));
}

#[test]
fn every_call_of_a_burst_has_one_end() {
    let mut bus = RestartableBus::new();
    let (mut client, _events) = bus.steady("alice");
    for told_by_response in [true, false] {
        for n in 0..5_u8 {
            client.caller().submit(&[n]).unwrap();
        }
        client.caller().submit(b"hang").unwrap();
        for n in 5..10_u8 {
            client.caller().submit(&[n]).unwrap();
        }
        bus.server().hear("hangs");
        bus.kill();
        if !told_by_response {
            let handle = client.closer();
            eventually("it is noticed", || handle.reason() == Some(DIED));
            assert_eq!(client.call(b"x"), Err(CallError::NotSent(DIED)));
        }
        bus.start();
        if !told_by_response {
            // Registers again before any response was collected, and submits another call.
            client.caller().submit(b"behind").unwrap();
            assert_eq!(client.caller().outstanding(), 12);
        }
        for n in 0..5_u8 {
            assert_eq!(client.caller().response().unwrap(), [n]);
        }
        for left in (0..6).rev() {
            assert_eq!(client.caller().response(), Err(CallError::Disconnected(DIED)));
            assert_eq!(client.caller().outstanding(), left + usize::from(!told_by_response));
        }
        if !told_by_response {
            assert_eq!(client.caller().response().unwrap(), b"behind");
        }
        assert_eq!(client.caller().response(), Err(CallError::NothingOutstanding));
        assert_eq!(client.call(b"next").unwrap(), b"next");
        assert_eq!(client.caller().outstanding(), 0);
    }
}

#[test]
fn a_shutdown_is_an_end_like_any_other() {
    let mut bus = RestartableBus::new();
    let (mut client, events) = bus.steady("alice");
    bus.server().tell("shutdown");
    assert_eq!(client.recv(), Err(RecvError::Disconnected(CloseReason::Shutdown)));
    bus.server().hear("summary");
    bus.start();
    client.caller().ping().unwrap();
    assert_eq!(hear_of_return(&events, CloseReason::Shutdown), client.key());
}

// ---- halves

#[test]
fn both_halves_go_on_with_one_registration() {
    const ROUNDS: usize = 5;
    let mut bus = RestartableBus::new();
    let (client, _events) = bus.steady("alice");
    let handle = client.closer();
    let (mut caller, inbox) = client.split();
    let (tell, told) = mpsc::channel();
    let receiver = begin(move || receive_all(inbox, &tell));
    for round in 0..ROUNDS {
        let own = caller.key();
        caller.send(own, format!("round {round}").as_bytes()).unwrap();
        assert_eq!(told.recv_timeout(LIMIT).unwrap(), format!("round {round}"));
        bus.kill();
        eventually("it is noticed", || handle.reason().is_some() || caller.key() != own);
        bus.start();
        if round % 2 == 1 {
            eventually("the inbox has registered for both", || caller.key() != own);
        }
        // Each half reports the end once. The half that is used first registers again for both.
        assert_eq!(caller.call(b"x"), Err(CallError::NotSent(DIED)));
        assert_eq!(told.recv_timeout(LIMIT).unwrap(), "the other process is gone");
        assert_eq!(caller.call(b"x").unwrap(), b"x");
        let listed = caller.list().unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].key, listed[0].name.as_str()), (caller.key(), "alice"));
    }
    caller.unregister().unwrap();
    assert_eq!(told.recv_timeout(LIMIT).unwrap(), "the client unregistered");
    receiver.end("the inbox");
    let sums = shut_down(bus.server.take().unwrap());
    assert_eq!((sums["registered"], sums["calls"]), (1, 1));
}

/// The inbox is dropped before its server dies, while there is no server, or after the caller has registered
/// again.
#[test]
fn a_dropped_inbox_is_given_up_with_each_registration() {
    for when in 0..3 {
        let mut bus = RestartableBus::new();
        let (mut caller, inbox) = bus.steady("alice").0.split();
        let mut inbox = Some(inbox);
        for round in 0..3 {
            if when == 0 {
                inbox = None;
            }
            bus.kill();
            assert!(caller.ping().is_err());
            if when == 1 {
                inbox = None;
            }
            bus.start();
            caller.ping().unwrap();
            if when == 2 {
                inbox = None;
            }
            let mut bob = bus.plain("bob");
            let what = format!("dropped {when}, round {round}");
            assert!(inbox.is_none());
            assert_eq!(bob.send(caller.key(), b"x"), Err(SendError::Gone), "{what}");
            assert_eq!(bob.send_timeout(caller.key(), b"x", LIMIT), Err(SendError::Gone), "{what}");
            assert_eq!(caller.call(b"x").unwrap(), b"x");
            caller.send(bob.key(), b"still there").unwrap();
            assert_eq!(text(bob.recv()), "still there");
        }
        caller.unregister().unwrap();
    }
}

fn receive_all(mut inbox: Inbox, tell: &mpsc::Sender<String>) {
    loop {
        match inbox.recv() {
            Ok(message) => {
                assert_eq!(message.sender(), inbox.key());
                tell.send(String::from_utf8(message.into_payload()).unwrap()).unwrap();
            }
            Err(RecvError::Disconnected(reason)) => {
                tell.send(reason.to_string()).unwrap();
                if reason != DIED {
                    return;
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_dropped_caller_ends_a_client_that_was_to_register_again() {
    let mut bus = RestartableBus::new();
    for connected in [true, false] {
        let (client, _events) = bus.steady("alice");
        let (caller, mut inbox) = client.split();
        if !connected {
            bus.kill();
            assert_eq!(inbox.recv(), Err(RecvError::Disconnected(DIED)));
        }
        let receiver = begin(move || inbox.recv());
        drop(caller);
        let end = receiver.end("the inbox").unwrap_err();
        assert_eq!(end, RecvError::Disconnected(CloseReason::Unregistered));
    }
    bus.start();
    assert!(Observer::connect(&bus.place.path).unwrap().list().unwrap().is_empty());
}

// ---- ends for good

#[test]
fn a_server_gone_for_good_is_given_up() {
    let mut bus = RestartableBus::new();
    let (mut client, events) =
        bus.client("alice", |reconnect| reconnect.attempts(3).first_delay(Duration::from_millis(1)));
    bus.kill();
    assert_eq!(client.recv(), Err(RecvError::Disconnected(DIED)));
    assert_eq!(client.recv(), Err(RecvError::Disconnected(CloseReason::GaveUp)));
    assert_eq!(client.call(b"x"), Err(CallError::NotSent(CloseReason::GaveUp)));
    assert_eq!(client.try_recv(), Err(RecvError::Disconnected(CloseReason::GaveUp)));
    let Err(ReconnectError::GaveUp { attempts: 3, error }) = client.caller().reconnect(None) else {
        panic!("not given up")
    };
    assert!(matches!(*error, RegisterError::NoServer { .. }), "{error}");
    assert!(matches!(events.recv(), Ok(ReconnectEvent::Ended { reason: DIED })));
    assert!(matches!(events.recv(), Ok(ReconnectEvent::Failed { attempt: 1, .. })));
    assert!(matches!(events.recv(), Ok(ReconnectEvent::Failed { attempt: 2, .. })));
    assert!(matches!(events.recv(), Ok(ReconnectEvent::GaveUp { attempts: 3, .. })));
    // A new server does not bring the client back.
    bus.start();
    assert_eq!(client.caller().ping(), Err(CallError::NotSent(CloseReason::GaveUp)));
    assert_eq!(client.unregister(), Err(CallError::NotSent(CloseReason::GaveUp)));
    bus.plain("alice").unregister().unwrap();
}

#[test]
fn a_name_that_somebody_else_took_is_given_up() {
    let mut bus = RestartableBus::new();
    let (mut client, events) = bus.steady("alice");
    bus.kill();
    assert_eq!(client.recv(), Err(RecvError::Disconnected(DIED)));
    bus.start();
    let mut other = bus.plain("alice");
    let Err(ReconnectError::GaveUp { error, .. }) = client.caller().reconnect(None) else {
        panic!("not given up")
    };
    assert!(matches!(*error, RegisterError::NameTaken { .. }), "{error}");
    assert_eq!(client.recv(), Err(RecvError::Disconnected(CloseReason::GaveUp)));
    let last = events.try_iter().last();
    assert!(matches!(last, Some(ReconnectEvent::GaveUp { .. })), "{last:?}");
    other.caller().ping().unwrap();
}

/// This happens when a connection is lost but the server lives on.
#[test]
fn a_name_that_becomes_free_is_taken_again() {
    let mut bus = RestartableBus::new();
    let (sender, holders) = mpsc::channel::<Client>();
    let holders = std::sync::Mutex::new(holders);
    let reconnect = Reconnect::default().on_event(move |event| {
        if let ReconnectEvent::Failed { error, .. } = event
            && matches!(**error, RegisterError::NameTaken { .. })
        {
            // The other client with the name leaves.
            drop(holders.lock().unwrap().try_recv());
        }
    });
    let mut client = Client::builder(&bus.place.path).reconnect(reconnect).register("alice").unwrap();
    bus.kill();
    assert_eq!(client.recv(), Err(RecvError::Disconnected(DIED)));
    bus.start();
    sender.send(bus.plain("alice")).unwrap();
    assert_eq!(client.caller().reconnect(None).unwrap(), client.key());
    client.caller().ping().unwrap();
}

#[test]
fn a_full_server_is_given_up() {
    let mut bus = RestartableBus::new();
    let (mut client, _events) = bus.steady("alice");
    bus.kill();
    assert_eq!(client.recv(), Err(RecvError::Disconnected(DIED)));
    bus.start_with(&[("CLIENTS", "1")]);
    let _other = bus.plain("bob");
    let Err(ReconnectError::GaveUp { error, .. }) = client.caller().reconnect(None) else {
        panic!("not given up")
    };
    assert!(matches!(*error, RegisterError::Full(_)), "{error}");
}

#[test]
fn a_close_ends_the_attempts() {
    let mut bus = RestartableBus::new();
    let (mut client, events) = bus.client("alice", |reconnect| {
        reconnect.first_delay(100 * LIMIT).longest_delay(100 * LIMIT).within(1000 * LIMIT)
    });
    let handle = client.closer();
    bus.kill();
    assert_eq!(client.recv(), Err(RecvError::Disconnected(DIED)));
    let receiver = begin(move || {
        let end = client.recv();
        (client, end)
    });
    assert!(matches!(events.recv_timeout(LIMIT), Ok(ReconnectEvent::Ended { .. })));
    handle.close();
    let (mut client, end) = receiver.end("the wait for a server");
    assert_eq!(end, Err(RecvError::Disconnected(CloseReason::Local)));
    assert_eq!(client.call(b"x"), Err(CallError::NotSent(CloseReason::Local)));
    assert!(matches!(client.caller().reconnect(None), Err(ReconnectError::Ended(CloseReason::Local))));
}

#[test]
fn deadlines_hold_while_there_is_no_server() {
    let mut bus = RestartableBus::new();
    let (mut client, _events) = bus.steady("alice");
    bus.kill();
    assert_eq!(client.recv(), Err(RecvError::Disconnected(DIED)));
    let soon = Duration::from_millis(30);
    assert_eq!(client.recv_timeout(soon), Err(RecvError::TimedOut));
    assert_eq!(client.recv_timeout(Instant::now()), Err(RecvError::TimedOut));
    assert_eq!(client.call_timeout(b"x", soon), Err(CallError::TimedOut));
    assert_eq!(client.send_timeout(client.key(), b"x", soon), Err(SendError::TimedOut));
    assert!(matches!(client.caller().reconnect(soon), Err(ReconnectError::TimedOut)));
    bus.start();
    assert_eq!(client.call(b"x").unwrap(), b"x");
}

/// A client without the option does not reconnect.
#[test]
fn a_plain_client_does_not_register_again() {
    let mut bus = RestartableBus::new();
    let mut client = bus.plain("alice");
    assert!(matches!(client.caller().reconnect(None), Err(ReconnectError::NotAsked)));
    bus.kill();
    assert_eq!(client.recv(), Err(RecvError::Disconnected(DIED)));
    bus.start();
    for _ in 0..2 {
        assert_eq!(client.recv(), Err(RecvError::Disconnected(DIED)));
        assert_eq!(client.call(b"x"), Err(CallError::NotSent(DIED)));
        assert!(matches!(client.caller().reconnect(None), Err(ReconnectError::NotAsked)));
    }
}
