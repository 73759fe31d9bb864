//! Sequences that are not counted from 1: a publisher that publishes on behalf of another keeps that one's
//! numbers, and says which are missing.

mod common;

use common::{Bus, LIMIT};
use ringpost::{Client, Policy, PublishError, Publisher, Reconnect, Server, Subscriber};
use std::time::Duration;

const BUDGET: Duration = LIMIT;

/// Sequence, missed and payload of the next sample.
fn next(sub: &mut Subscriber) -> (u64, u64, u64) {
    let sample = sub.recv_timeout(LIMIT).unwrap();
    (sample.sequence(), sample.missed(), sample.read().unwrap())
}

fn send(publisher: &mut Publisher, number: u64) {
    publisher.send(&number.to_ne_bytes()).unwrap();
    assert_eq!(publisher.sequence(), number);
}

#[test]
fn numbers_and_gaps_are_those_that_were_given() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
    let options = Publisher::options().first_sequence(100).reliable(BUDGET);
    let mut publisher = options.publish(alice.caller(), "a/b").unwrap();
    assert_eq!(publisher.sequence(), 99);
    let subscribe = |policy, bob: &mut Client| {
        Subscriber::options().policy(policy).subscribe(bob.caller(), "a/*").unwrap()
    };
    let mut subs = [Policy::Lossy, Policy::Reliable].map(|policy| subscribe(policy, &mut bob));
    send(&mut publisher, 100);
    publisher.skip_to(103).unwrap();
    publisher.skip_to(7).unwrap(); // not ahead
    publisher.skip_to(105).unwrap();
    send(&mut publisher, 105);
    publisher.skip_to(1 << 40).unwrap();
    // Who comes now misses nothing of that, and who wants the last ones gets them.
    let mut now = subscribe(Policy::Lossy, &mut bob);
    let mut last = Subscriber::options().history(1).subscribe(bob.caller(), "a/*").unwrap();
    send(&mut publisher, 1 << 40);
    for sub in &mut subs {
        assert_eq!(next(sub), (100, 0, 100));
        assert_eq!(next(sub), (105, 4, 105));
        assert_eq!(next(sub), (1 << 40, (1 << 40) - 106, 1 << 40));
    }
    assert_eq!(next(&mut now), (1 << 40, 0, 1 << 40));
    assert_eq!(next(&mut last), (105, 0, 105));
    let mut latest = subscribe(Policy::Latest, &mut bob);
    publisher.skip_to((1 << 40) + 5).unwrap();
    send(&mut publisher, (1 << 40) + 5);
    assert_eq!(next(&mut latest), ((1 << 40) + 5, 4, (1 << 40) + 5));
}

/// One that is lapped counts what was skipped with what it missed, whatever of that is still there.
#[test]
fn a_slow_reader_counts_every_number() {
    let bus = Bus::with(|server| server.ring_size(4096));
    let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
    let mut publisher = Publisher::options().ring_size(4096).publish(alice.caller(), "a").unwrap();
    let mut sub = bob.subscribe("a").unwrap();
    let (mut number, mut expected) = (1, 1);
    for round in 1..200_u64 {
        for at in 0..round {
            if at % 3 == 0 {
                number += round * round;
                publisher.skip_to(number).unwrap();
            }
            send(&mut publisher, number);
            number += 1;
        }
        for _ in 0..20 {
            let Some(sample) = sub.try_recv().unwrap() else { break };
            let found = (sample.sequence(), sample.missed());
            assert_eq!(found, (expected + sample.missed(), sample.missed()));
            assert_eq!(sample.read::<u64>().unwrap(), sample.sequence());
            expected = sample.sequence() + 1;
        }
    }
}

/// What a publisher takes along to another server has its numbers there.
#[test]
fn numbers_stay_when_the_server_is_another() {
    let place = common::Place::new();
    let server = Server::builder(&place.path).start().unwrap();
    let register =
        |name| Client::builder(&place.path).timeout(LIMIT).reconnect(Reconnect::default()).register(name);
    let (mut alice, mut bob) = (register("alice").unwrap(), register("bob").unwrap());
    let mut publisher = Publisher::options().first_sequence(10).publish(alice.caller(), "a").unwrap();
    let mut sub = bob.subscribe("a").unwrap();
    send(&mut publisher, 10);
    publisher.skip_to(20).unwrap();
    send(&mut publisher, 20);
    assert_eq!((next(&mut sub), next(&mut sub)), ((10, 0, 10), (20, 9, 20)));
    server.join_after_shutdown();
    publisher.skip_to(30).unwrap();
    send(&mut publisher, 30);
    let _server = Server::builder(&place.path).start().unwrap();
    common::eventually("both are back", || common::registered(&place.path) == 2);
    publisher.skip_to(40).unwrap();
    send(&mut publisher, 40);
    assert_eq!(next(&mut sub), (30, 9, 30));
    assert_eq!(next(&mut sub), (40, 9, 40));
}

#[test]
fn numbers_are_bounded() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    let publish =
        |first, alice: &mut Client| Publisher::options().first_sequence(first).publish(alice.caller(), "a");
    assert!(matches!(publish(1 << 62, &mut alice), Err(PublishError::Sequence(_))));
    let mut publisher = publish(0, &mut alice).unwrap();
    assert_eq!(publisher.sequence(), 0);
    assert!(matches!(publisher.skip_to(1 << 62), Err(PublishError::Sequence(_))));
    publisher.skip_to((1 << 62) - 1).unwrap();
    send(&mut publisher, (1 << 62) - 1);
}
