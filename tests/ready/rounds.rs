//! Many rounds in which the other side writes at any moment: no readiness is missed.

use super::common::role::{Role, say};
use super::common::{Bus, Place, begin};
use super::{Waiter, Way, register, wait_for};
use ringpost::{Client, Link, Ready, Subscriber};
use std::cell::Cell;
use std::hint::spin_loop;

const ROUNDS: u32 = 100_000;

thread_local! {
    static RANDOM: Cell<u32> = const { Cell::new(0x9e37_79b9) };
}

/// A number below a limit.
fn below(limit: u32) -> u32 {
    RANDOM.with(|random| {
        let mut next = random.get();
        next ^= next << 13;
        next ^= next >> 17;
        next ^= next << 5;
        random.set(next);
        next % limit
    })
}

/// Now and then spends some time, so that the two sides meet at other moments in each round.
pub fn dally() {
    match below(8) {
        0 => std::thread::yield_now(),
        1..4 => (0..below(2000)).for_each(|_| spin_loop()),
        _ => {}
    }
}

fn role(bus: &Bus, name: &str) -> Role {
    Role::start(name, &[("PATH", bus.path().to_str().unwrap())])
}

/// Both ends in event loops, in two processes.
#[test]
fn a_link_misses_nothing() {
    let bus = Bus::start();
    let mut bob = role(&bus, "serves");
    bob.hear("serves");
    let mut alice = bus.client("alice");
    let mut link = Link::options().arms().connect(alice.caller(), "bob").unwrap();
    let readiness = link.readiness().unwrap();
    let mut waiter = Waiter::new(Way::Edge, &readiness);
    for round in 0..ROUNDS {
        let number = round.to_le_bytes();
        link.submit(&number).unwrap();
        dally();
        let response =
            wait_for(&mut link, &mut waiter, |link| link.try_response().unwrap().map(|reply| reply.to_vec()));
        assert_eq!(response, number);
        dally();
    }
    drop(link);
    assert_eq!(bob.hear("ended"), "Peer");
}

/// Several calls on their way, to a server in another process.
#[test]
fn a_caller_misses_nothing() {
    let place = Place::new();
    let _server = super::common::server::start_server(&place, &[]);
    let mut alice = Client::register(&place.path, "alice").unwrap();
    let readiness = alice.readiness().unwrap();
    let mut waiter = Waiter::new(Way::Level, &readiness);
    let (mut sent, mut collected) = (0_u32, 0_u32);
    while collected < ROUNDS {
        for _ in 0..below(4) + 1 {
            alice.caller().submit(&sent.to_le_bytes()).unwrap();
            sent += 1;
        }
        dally();
        while collected < sent {
            let response = wait_for(&mut alice, &mut waiter, |alice| {
                alice.caller().try_response().unwrap().map(|reply| reply.to_vec())
            });
            assert_eq!(response, collected.to_le_bytes());
            collected += 1;
        }
    }
}

/// The role of a client that sends messages.
pub fn send_at_any_moment() {
    let mut bob = register("bob");
    for round in 0..ROUNDS {
        bob.send("alice", &round.to_le_bytes()).unwrap();
        dally();
    }
    say("sent");
}

#[test]
fn an_inbox_misses_nothing() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    let readiness = alice.inbox().readiness().unwrap();
    let mut waiter = Waiter::new(Way::Edge, &readiness);
    let mut bob = role(&bus, "sends");
    for round in 0..ROUNDS {
        let message = wait_for(alice.inbox(), &mut waiter, |inbox| inbox.try_recv().unwrap());
        assert_eq!(message.payload(), round.to_le_bytes());
    }
    bob.hear("sent");
}

/// The role of a client that answers each sample by one of its own, and waits in an event loop for them.
pub fn answer_samples() {
    let mut bob = register("bob");
    let mut questions = Subscriber::options().arms().subscribe(bob.caller(), "questions").unwrap();
    let mut answers = bob.publish("answers").unwrap();
    let readiness = questions.readiness().unwrap();
    let mut waiter = Waiter::new(Way::Level, &readiness);
    say("answers");
    for round in 0..ROUNDS {
        let number = wait_for(&mut questions, &mut waiter, next_number);
        assert_eq!(number, round);
        dally();
        answers.send(&number.to_le_bytes()).unwrap();
        dally();
    }
    say("answered");
}

fn next_number(sub: &mut Subscriber) -> Option<u32> {
    sub.try_recv().unwrap().map(|sample| {
        assert_eq!(sample.missed(), 0);
        sample.read().unwrap()
    })
}

/// Two topics, and both subscribers in event loops, in two processes.
#[test]
fn a_subscriber_misses_nothing() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    let mut questions = alice.publish("questions").unwrap();
    let mut answers = Subscriber::options().arms().subscribe(alice.caller(), "answers").unwrap();
    let mut bob = role(&bus, "answers");
    bob.hear("answers");
    let readiness = answers.readiness().unwrap();
    let mut waiter = Waiter::new(Way::Edge, &readiness);
    for round in 0..ROUNDS {
        questions.send(&round.to_le_bytes()).unwrap();
        dally();
        assert_eq!(wait_for(&mut answers, &mut waiter, next_number), round);
        dally();
    }
    bob.hear("answered");
}

/// Two clients of one thread, which send to each other and call.
#[test]
fn two_clients_share_a_loop() {
    let bus = Bus::start();
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| bus.client(name));
    let readinesses = [alice.readiness().unwrap(), bob.readiness().unwrap()];
    begin(move || {
        let mut waiters = readinesses.each_ref().map(|readiness| Waiter::new(Way::Level, readiness));
        for round in 0..2000_u32 {
            let number = round.to_le_bytes();
            let ((one, waiter), (other, name)) = match round % 2 {
                0 => ((&mut alice, &mut waiters[0]), (&mut bob, "alice")),
                _ => ((&mut bob, &mut waiters[1]), (&mut alice, "bob")),
            };
            one.caller().submit(&number).unwrap();
            other.send(name, &number).unwrap();
            let (mut message, mut response) = (None, None);
            while message.is_none() || response.is_none() {
                message = message.or_else(|| one.try_recv().unwrap());
                if response.is_none() {
                    response = one.caller().try_response().unwrap().map(|reply| reply.to_vec());
                }
                if (message.is_none() || response.is_none()) && one.arm().unwrap() {
                    waiter.wait();
                }
            }
            assert_eq!(message.unwrap().payload(), number);
            assert_eq!(response.unwrap(), number);
        }
    })
    .end("two clients in one loop");
}
