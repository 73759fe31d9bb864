//! Relays: what a sender is told, when, and whatever becomes of the relay, of the sender and of the server.

mod common;

use common::role::{self, Role, Stage, say, setting};
use common::{Begun, Bus, LIMIT, begin, eventually};
use ringpost::{
    Access, Act, Client, ClientBuilder, ConnectError, Key, Link, Message, Reconnect, RegisterError, Rule,
    SendError, Server, Ticket,
};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Runs the role of a child process of this test program; does nothing in the main process.
#[test]
fn role() {
    let Some((role, stage)) = role::role() else { return };
    match role.as_str() {
        "relay" => relay_until_told(&stage),
        other => panic!("no role {other:?}"),
    }
}

fn relay(bus: &Bus, name: &str) -> Client {
    builder(bus).relay().register(name).unwrap()
}

fn builder(bus: &Bus) -> ClientBuilder {
    Client::builder(bus.path()).timeout(LIMIT)
}

/// Sends on a thread of its own, and gives the client back with what it was told.
fn sends(mut client: Client, to: Key, message: &'static [u8]) -> Begun<(Client, Result<(), SendError>)> {
    begin(move || {
        // Longer than a test waits: it ends by something else.
        let sent = client.send_timeout(to, message, 2 * LIMIT);
        (client, sent)
    })
}

fn receive(relay: &mut Client) -> (Ticket, Message) {
    let message = relay.recv_timeout(LIMIT).unwrap();
    (message.ticket().unwrap(), message)
}

fn confirm(relay: &mut Client, ticket: Ticket, outcome: Result<(), SendError>) -> bool {
    relay.caller().confirm(ticket, outcome).unwrap()
}

#[test]
fn a_sender_is_told_what_the_relay_says_and_not_before() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.client("alice"), relay(&bus, "bob@b"));
    for outcome in [
        Ok(()),
        Err(SendError::NotFound),
        Err(SendError::InboxFull),
        Err(SendError::TimedOut),
        Err(SendError::Gone),
        Err(SendError::NotAllowed("not today".into())),
        Err(SendError::TooLarge { len: 7, max: 6 }),
        Err(SendError::Server("out of paper".into())),
        Err(SendError::Unconfirmed),
    ] {
        let patient = LIMIT;
        let to = bob.key();
        let sent = begin(move || {
            let sent = alice.send_timeout(to, b"hello", patient);
            (alice, sent)
        });
        let (ticket, message) = receive(&mut bob);
        assert_eq!((message.sender_name().as_str(), message.payload()), ("alice", &b"hello"[..]));
        assert!(!sent.is_over(), "nobody has confirmed it");
        assert!(confirm(&mut bob, ticket, outcome.clone()));
        let told;
        (alice, told) = sent.end("a confirmed send");
        assert_eq!(told, outcome);
        assert!(!confirm(&mut bob, ticket, Ok(())), "a ticket is confirmed once");
    }
    // What a relay heard that is nobody else's business is that it does not know.
    let sent = sends(alice, bob.key(), b"hello");
    let (ticket, _) = receive(&mut bob);
    assert!(confirm(&mut bob, ticket, Err(SendError::NoAnswer)));
    let (alice, told) = sent.end("a confirmed send");
    assert_eq!(told, Err(SendError::Unconfirmed));
    assert!(told.unwrap_err().may_have_executed());
    // Delivered is what was confirmed.
    let mut alice = alice;
    assert_eq!(alice.caller().statistics().unwrap().sent, 1);
    assert_eq!(bob.caller().statistics().unwrap().delivered, 10);
}

/// The relay is told how long the sender waits for room: its own limit, nothing, or what the server allows.
#[test]
fn the_senders_patience_reaches_the_relay() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.client("alice"), relay(&bus, "bob@b"));
    let to = bob.key();
    let told = begin(move || {
        let sent = [
            alice.try_send(to, b"1"),
            alice.send(to, b"2"),
            alice.send_timeout(to, b"3", LIMIT),
            alice.send_timeout(to, b"4", None),
        ];
        (alice, sent)
    });
    let second = Duration::from_secs(1);
    let mut expect = |from: Duration, to: Duration, outcome| {
        let (ticket, message) = receive(&mut bob);
        let patience = ticket.patience();
        assert!((from..=to).contains(&patience), "{patience:?} of {:?}", message.payload());
        assert!(confirm(&mut bob, ticket, outcome));
    };
    expect(Duration::ZERO, Duration::ZERO, Ok(()));
    // It waits only if there is no room at once.
    expect(Duration::ZERO, Duration::ZERO, Err(SendError::InboxFull));
    expect(second, 5 * second, Ok(()));
    expect(20 * second, LIMIT, Ok(()));
    expect(second, 5 * second, Ok(()));
    let (_alice, sent) = told.end("four messages");
    assert_eq!(sent, [const { Ok(()) }; 4]);
}

#[test]
fn a_relay_that_never_confirms_costs_the_sender_its_limit() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.client("alice"), relay(&bus, "bob@b"));
    let patience = Duration::from_millis(200);
    let began = Instant::now();
    let told = alice.send_timeout(bob.key(), b"hello", patience).unwrap_err();
    // On a busy machine the server's answer may come too late.
    assert!(matches!(told, SendError::Unconfirmed | SendError::NoAnswer), "{told:?}");
    let (ticket, message) = receive(&mut bob);
    assert!(ticket.patience() <= patience && message.payload() == b"hello");
    eventually("nobody waits", || !confirm(&mut bob, ticket, Ok(())));
    assert_eq!(alice.caller().ping(), Ok(()));
    // One without a limit gets that of the server.
    assert_eq!(alice.try_send(bob.key(), b"hello?"), Err(SendError::Unconfirmed));
    assert!(began.elapsed() >= Duration::from_secs(5));
}

/// While the relay's own inbox is full, a message is not handed over.
#[test]
fn a_full_relay_refuses_as_any_receiver_does() {
    let bus = Bus::with(|server| server.ring_size(4096));
    let (mut alice, bob) = (bus.client("alice"), relay(&bus, "bob@b"));
    let large = vec![0; alice.limits().max_message];
    let (to, none) = (bob.key(), Duration::ZERO);
    let mut others = Vec::new();
    let full = loop {
        let mut other = bus.client(&format!("other {}", others.len()));
        other.caller().try_submit_send(to, &large, none).unwrap();
        // It is answered at once, or it waits for the relay.
        let soon = Instant::now() + Duration::from_millis(100);
        let told = loop {
            match other.caller().try_sent() {
                Ok(None) if Instant::now() < soon => std::thread::yield_now(),
                told => break told,
            }
        };
        others.push(other);
        match told {
            Ok(None) => assert!(others.len() < 10, "the inbox never fills"),
            told => break told,
        }
    };
    assert_eq!(full, Err(SendError::InboxFull));
    assert_eq!(alice.try_send(to, &large), Err(SendError::InboxFull));
    common::finds_no_room(&mut alice, to, &large, Duration::from_millis(50));
}

#[test]
fn tickets_of_others_are_worth_nothing() {
    let bus = Bus::start();
    let (alice, mut bob, mut carol) = (bus.client("alice"), relay(&bus, "bob@b"), relay(&bus, "carol@b"));
    let mut dave = bus.client("dave");
    let sent = sends(alice, bob.key(), b"hello");
    let (ticket, _) = receive(&mut bob);
    assert!(!confirm(&mut carol, ticket, Ok(())), "another relay's");
    assert!(!confirm(&mut dave, ticket, Ok(())), "no relay");
    assert!(!sent.is_over());
    assert!(confirm(&mut bob, ticket, Ok(())));
    assert_eq!(sent.end("a confirmed send").1, Ok(()));
}

/// Neither does a relay wait for another's word, nor for its own.
#[test]
fn what_a_relay_sends_is_not_relayed() {
    let bus = Bus::start();
    let (mut alice, mut bob, carol) = (bus.client("alice"), relay(&bus, "bob@b"), relay(&bus, "carol@b"));
    for to in [bob.key(), carol.key()] {
        assert!(matches!(bob.send(to, b"hello"), Err(SendError::NotAllowed(_))));
    }
    bob.send(alice.key(), b"hello").unwrap();
    let message = alice.recv_timeout(LIMIT).unwrap();
    assert_eq!((message.sender_name().as_str(), message.ticket()), ("bob@b", None));
}

/// Of one sender's messages, the next is handed over when it is known what became of the one before.
#[test]
fn pipelined_messages_keep_their_order() {
    let bus = Bus::start();
    let (mut alice, mut bob, mut carol) = (bus.client("alice"), relay(&bus, "bob@b"), bus.client("carol"));
    let none = Duration::ZERO;
    for (to, message) in [(bob.key(), b"1"), (carol.key(), b"2"), (bob.key(), b"3")] {
        alice.caller().try_submit_send(to, message, none).unwrap();
    }
    let (first, message) = receive(&mut bob);
    assert_eq!(message.payload(), b"1");
    assert_eq!((carol.try_recv().unwrap(), alice.caller().try_sent().unwrap()), (None, None));
    assert!(confirm(&mut bob, first, Err(SendError::Gone)));
    assert_eq!(carol.recv_timeout(LIMIT).unwrap().payload(), b"2");
    let (second, message) = receive(&mut bob);
    assert_eq!(message.payload(), b"3");
    assert!(confirm(&mut bob, second, Ok(())));
    let mut told = Vec::new();
    eventually("all are answered", || {
        told.extend(alice.caller().try_sent().transpose());
        told.len() == 3
    });
    assert_eq!(told, [Err(SendError::Gone), Ok(()), Ok(())]);
}

// ---- links

/// Connects on a thread of its own, and gives the client back with the link.
fn connects(mut client: Client) -> Begun<(Client, Result<Link, ConnectError>)> {
    begin(move || {
        let link = client.connect("bob@b");
        (client, link)
    })
}

/// It cannot listen before it is registered, and must not seem to take no links meanwhile.
#[test]
fn whoever_connects_before_a_relay_listens_waits_for_that() {
    let bus = Bus::start();
    let (alice, mut bob) = (bus.client("alice"), relay(&bus, "bob@b"));
    let begun = connects(alice);
    let mut looks = bus.client("looks");
    eventually("it waits", || {
        looks.list().unwrap().iter().any(|client| client.name == "alice" && client.links == 1)
    });
    assert!(!begun.is_over());
    let listener = bob.listen().unwrap();
    let serving = listener.serve(|request, response| response.write(request.payload())).unwrap();
    let (mut alice, link) = begun.end("a connect to a relay that listens later");
    assert_eq!(&*link.unwrap().call(b"ping").unwrap(), b"ping");
    // From then on it is as any other client.
    assert_eq!(&*alice.connect("bob@b").unwrap().call(b"ping").unwrap(), b"ping");
    serving.stop();
    serving.join();
    assert!(matches!(alice.connect("bob@b"), Err(ConnectError::NotServing)));
}

#[test]
fn a_relay_that_never_listens_costs_the_caller_its_limit() {
    let bus = Bus::start();
    let (mut alice, bob) = (bus.client("alice"), relay(&bus, "bob@b"));
    let soon = Link::options().timeout(Duration::from_millis(20));
    assert!(matches!(soon.connect(alice.caller(), "bob@b"), Err(ConnectError::TimedOut)));
    let begun = connects(alice);
    let mut looks = bus.client("looks");
    eventually("it waits", || {
        looks.list().unwrap().iter().any(|client| client.name == "alice" && client.links == 1)
    });
    bob.unregister().unwrap();
    let told = begun.end("a connect to a relay that leaves").1;
    assert!(matches!(told, Err(ConnectError::Gone(_))), "{told:?}");
}

// ---- ends

#[test]
fn a_relay_that_leaves_tells_nobody_anything() {
    let bus = Bus::start();
    for takes in [false, true] {
        let (alice, mut bob) = (bus.client("alice"), relay(&bus, "bob@b"));
        let sent = sends(alice, bob.key(), b"hello");
        if takes {
            receive(&mut bob);
        } else {
            eventually("it lies in the inbox", || bob.caller().statistics().unwrap().delivered == 1);
        }
        bob.unregister().unwrap();
        let (mut alice, told) = sent.end("a send to a relay that leaves");
        assert_eq!(told, Err(SendError::Unconfirmed));
        assert_eq!(alice.send("bob@b", b"hello?"), Err(SendError::NotFound));
    }
}

/// A relay that says what it does, and does what it is told.
fn relay_until_told(stage: &Stage) {
    let path: PathBuf = setting("PATH").unwrap();
    let mut bob = Client::builder(path).timeout(LIMIT).relay().register("bob@b").unwrap();
    say("registered");
    loop {
        stage.await_order("take");
        let (ticket, _) = receive(&mut bob);
        say("taken");
        stage.await_order("confirm");
        assert!(confirm(&mut bob, ticket, Ok(())));
        say("confirmed");
    }
}

#[test]
fn a_relay_that_is_killed_leaves_nobody_waiting() {
    let bus = Bus::start();
    let path = bus.path().to_str().unwrap().to_owned();
    let mut alice = bus.client("alice");
    for steps in 0..3 {
        let mut bob = Role::start("relay", &[("PATH", &path)]);
        bob.hear("registered");
        let to = alice.look_up("bob@b").unwrap().unwrap();
        let sent = sends(alice, to, b"hello");
        let orders = ["take", "confirm"];
        for (order, heard) in orders.iter().zip(["taken", "confirmed"]).take(steps) {
            bob.tell(order);
            bob.hear(heard);
        }
        if steps == 0 {
            let mut looks = bus.client("looks");
            eventually("it lies in the inbox", || {
                looks.list().unwrap().iter().any(|client| client.key == to && client.counters.delivered == 1)
            });
        }
        bob.kill();
        let told;
        (alice, told) = sent.end("a send to a relay that is killed");
        assert_eq!(
            told,
            if steps == 2 { Ok(()) } else { Err(SendError::Unconfirmed) },
            "after {steps} steps"
        );
        eventually("the relay is gone", || alice.look_up("bob@b").unwrap().is_none());
    }
}

#[test]
fn a_sender_that_leaves_hears_nothing() {
    let bus = Bus::start();
    let (alice, mut bob) = (bus.client("alice"), relay(&bus, "bob@b"));
    let closer = alice.closer();
    let sent = sends(alice, bob.key(), b"hello");
    let (ticket, _) = receive(&mut bob);
    closer.close();
    assert!(sent.end("a send of one that leaves").1.unwrap_err().is_disconnected());
    eventually("its worker has ended", || common::registered(bus.path()) == 1);
    eventually("nobody waits", || !confirm(&mut bob, ticket, Ok(())));
}

#[test]
fn a_shutdown_waits_for_no_relay() {
    let bus = Bus::start();
    let (alice, mut bob) = (bus.client("alice"), relay(&bus, "bob@b"));
    let sent = sends(alice, bob.key(), b"hello");
    receive(&mut bob);
    let began = Instant::now();
    let summary = bus.server.join_after_shutdown();
    assert_eq!(summary.abandoned, 0, "{summary:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "it waited for the relay");
    assert_eq!(sent.end("a send at the server's end").1, Err(SendError::Unconfirmed));
}

/// A relay that registers again cannot confirm what it got before, although it counts its tickets anew.
#[test]
fn a_former_registrations_ticket_is_worth_nothing() {
    let place = common::Place::new();
    let server = Server::builder(&place.path).start().unwrap();
    let settings = Client::builder(&place.path).timeout(LIMIT).reconnect(Reconnect::default());
    let (alice, mut bob) = (settings.register("alice").unwrap(), settings.relay().register("bob@b").unwrap());
    let sent = sends(alice, bob.key(), b"one");
    let (former, _) = receive(&mut bob);
    server.join_after_shutdown();
    let (mut alice, told) = sent.end("a send at the server's end");
    assert!(told.unwrap_err().may_have_executed());
    let _server = Server::builder(&place.path).start().unwrap();
    // Each half tells the end once.
    let _ = (bob.caller().reconnect(None), bob.try_recv(), alice.caller().reconnect(None));
    let sent = sends(alice, bob.key(), b"two");
    let mut next = None;
    eventually("the next message comes", || {
        next = bob.try_recv().ok().flatten().filter(|message| message.payload() == b"two");
        next.is_some()
    });
    let ticket = next.unwrap().ticket().unwrap();
    assert!(!confirm(&mut bob, former, Ok(())), "the ticket of a former registration");
    assert!(!sent.is_over());
    assert!(confirm(&mut bob, ticket, Ok(())));
    assert_eq!(sent.end("a confirmed send").1, Ok(()));
}

// ---- who may

#[test]
fn only_relays_have_names_that_stand_for_clients_elsewhere() {
    let bus = Bus::start();
    for name in ["bob@b", "@", "@b", "bob@"] {
        let refused = builder(&bus).register(name).unwrap_err();
        assert!(matches!(refused, RegisterError::NotAllowed(_)), "{name:?}: {refused:?}");
        drop(relay(&bus, name));
    }
    drop(relay(&bus, "plain"));
}

#[test]
fn rules_say_who_may_be_a_relay() {
    let rule = |what: &str, names: &[&str]| {
        let mut rule = Rule::default();
        rule.acts = vec![Act::Relay];
        rule.what = vec![what.to_owned()];
        rule.names = names.iter().map(|name| (*name).to_owned()).collect();
        rule
    };
    let mut access = Access::default();
    access.rules = vec![rule("*@b", &["bob@b"]), rule("*@c", &[])];
    let bus = Bus::with(|server| server.access(access));
    for (name, is_allowed) in [("bob@b", true), ("carol@b", false), ("bob@c", false), ("bob@d", true)] {
        match builder(&bus).relay().register(name) {
            Ok(_) => assert!(is_allowed, "{name}"),
            Err(RegisterError::NotAllowed(why)) => {
                assert!(!is_allowed && why.contains("be a relay as"), "{name}: {why}");
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

/// The ticket takes the room of a long name.
#[test]
fn a_message_that_is_too_large_with_its_ticket_is_refused_by_its_size() {
    let bus = Bus::with(|server| server.ring_size(4096));
    let bob = relay(&bus, "bob@b");
    for (name, less) in [("a".repeat(48), 0), ("a".repeat(50), 2), ("a".repeat(64), 16)] {
        let mut alice = bus.client(&name);
        let max = alice.limits().max_message - less;
        let told = alice.send_timeout(bob.key(), &vec![0; max], Duration::from_millis(1)).unwrap_err();
        assert!(!matches!(told, SendError::TooLarge { .. }), "{told:?}");
        if less > 0 {
            let told = alice.send(bob.key(), &vec![0; max + 1]);
            assert_eq!(told, Err(SendError::TooLarge { len: max + 1, max }));
        }
    }
}
