//! Reliable subscriptions: every sample once and in order, evictions, refusals.

use super::common::{LIMIT, begin, eventually};
use super::{drain, next, number, pair, send_number};
use ringpost::{Policy, PublishError, Publisher, SampleError, SubscribeError, Subscriber};
use std::io::Write;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(600);

fn every() -> ringpost::SubscribeOptions {
    Subscriber::options().policy(Policy::Reliable)
}

#[test]
fn every_sample_comes_once_and_in_order_through_a_small_ring() {
    let (_bus, mut alice, mut bob) = pair();
    let options = Publisher::options().ring_size(4096).reliable(LONG);
    let mut numbers = options.publish(alice.caller(), "numbers").unwrap();
    let mut sub = every().subscribe(bob.caller(), "numbers").unwrap();
    assert_eq!(numbers.subscribers(), 1, "attached when it returned");
    let sending = begin(move || {
        for count in 1..=20_000 {
            send_number(&mut numbers, count);
        }
        numbers
    });
    for count in 1..=20_000 {
        let sample = sub.recv_timeout(LIMIT).unwrap();
        assert_eq!((sample.sequence(), sample.missed()), (count, 0));
        assert_eq!(sample.read::<u64>().unwrap(), count);
    }
    let mut numbers = sending.end("sending");
    assert!(numbers.evictions().is_empty());
}

#[test]
fn a_full_ring_is_told_without_waiting_and_at_a_deadline() {
    let (_bus, mut alice, mut bob) = pair();
    let options = Publisher::options().ring_size(4096).reliable(LONG);
    let mut numbers = options.publish(alice.caller(), "numbers").unwrap();
    let mut sub = every().subscribe(bob.caller(), "numbers").unwrap();
    let mut sent = 0_u64;
    loop {
        match numbers.try_send(&(sent + 1).to_ne_bytes()) {
            Ok(()) => sent += 1,
            Err(PublishError::Full) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(sent > 10 && sent < 100, "{sent}");
    let late = numbers.send_timeout(b"x", Duration::from_millis(5));
    assert!(late.unwrap_err().is_timeout());
    let late = numbers.grant_timeout(8, Duration::from_millis(5)).map(|_| ());
    assert!(late.unwrap_err().is_timeout());
    assert_eq!(numbers.sequence(), sent);
    let waiting = begin(move || {
        numbers.send_timeout(&(sent + 1).to_ne_bytes(), LIMIT).unwrap();
        for count in sent + 2..=100 + sent {
            let mut grant = numbers.grant_timeout(8, LIMIT).unwrap();
            grant.write_all(&count.to_ne_bytes()).unwrap();
            grant.commit();
        }
        numbers
    });
    for count in 1..=100 + sent {
        assert_eq!(number(&next(&mut sub)), count);
    }
    let mut numbers = waiting.end("room");
    assert!(numbers.evictions().is_empty());
    // A lossy one is not waited for.
    drop(sub);
    let _lossy = bob.subscribe("numbers").unwrap();
    for count in 0..1000 {
        send_number(&mut numbers, count);
    }
}

#[test]
fn one_that_does_not_read_is_evicted_and_both_are_told() {
    let (_bus, mut alice, mut bob) = pair();
    let options = Publisher::options().ring_size(4096).reliable(Duration::from_millis(20));
    let mut numbers = options.publish(alice.caller(), "numbers").unwrap();
    let mut sub = every().subscribe(bob.caller(), "numbers").unwrap();
    let began = Instant::now();
    for count in 1..=200 {
        send_number(&mut numbers, count);
    }
    let evictions = numbers.evictions();
    assert_eq!(evictions.len(), 1);
    assert_eq!((evictions[0].subscriber.key, evictions[0].stalled), (bob.key(), true));
    assert!(numbers.evictions().is_empty(), "each is told once");
    assert_eq!(numbers.subscribers(), 0);
    // Who comes back at once is refused, for a second; a lossy subscription is not.
    match every().subscribe(bob.caller(), "numbers") {
        Err(SubscribeError::NotReliable { publisher }) => assert_eq!(publisher.key, alice.key()),
        Ok(_) if began.elapsed() >= Duration::from_secs(1) => {}
        other => panic!("{other:?}"),
    }
    let (samples, error) = drain(&mut sub);
    assert!(samples.iter().all(|sample| sample.missed() == 0), "before the eviction nothing is missed");
    let SampleError::Evicted { publisher } = error else { panic!("{error}") };
    assert_eq!(publisher.key, alice.key());
    // Nothing more comes, and it is told once.
    assert_eq!(sub.recv_timeout(Duration::from_millis(5)).unwrap_err(), SampleError::TimedOut);
    let mut lossy = bob.subscribe("numbers").unwrap();
    send_number(&mut numbers, 201);
    assert_eq!(number(&next(&mut lossy)), 201);
}

#[test]
fn a_publisher_that_does_not_offer_it_refuses() {
    let (_bus, mut alice, mut bob) = pair();
    let mut waiting = every().subscribe(bob.caller(), "numbers").unwrap();
    let mut numbers = alice.publish("numbers").unwrap();
    match every().subscribe(bob.caller(), "numbers") {
        Err(SubscribeError::NotReliable { publisher }) => assert_eq!(publisher.key, alice.key()),
        other => panic!("{other:?}"),
    }
    send_number(&mut numbers, 1);
    let told = waiting.recv_timeout(LIMIT).unwrap_err();
    let SampleError::NotReliable { publisher } = told else { panic!("{told}") };
    assert_eq!(publisher.key, alice.key());
    // The subscription itself goes on.
    drop(numbers);
    let options = Publisher::options().reliable(LONG);
    let mut numbers = options.publish(alice.caller(), "numbers").unwrap();
    send_number(&mut numbers, 7);
    assert_eq!(number(&next(&mut waiting)), 7);
}

#[test]
fn one_that_was_there_before_gets_every_sample_from_the_first_on() {
    let (_bus, mut alice, mut bob) = pair();
    let mut sub = every().subscribe(bob.caller(), "numbers").unwrap();
    let options = Publisher::options().ring_size(4096).reliable(LONG);
    for round in 0..20 {
        let mut numbers = options.publish(alice.caller(), "numbers").unwrap();
        let sending = begin(move || {
            for count in 1..=300 {
                send_number(&mut numbers, 1000 * round + count);
            }
            numbers
        });
        for count in 1..=300 {
            let sample = next(&mut sub);
            let found = (number(&sample), sample.sequence(), sample.missed());
            assert_eq!(found, (1000 * round + count, count, 0));
        }
        drop(sending.end("sending"));
    }
}

#[test]
fn a_subscriber_that_is_dropped_is_not_waited_for() {
    let (_bus, mut alice, mut bob) = pair();
    let options = Publisher::options().ring_size(4096).reliable(LONG);
    let mut numbers = options.publish(alice.caller(), "numbers").unwrap();
    for _ in 0..20 {
        let sub = every().subscribe(bob.caller(), "numbers").unwrap();
        let dropping = begin(move || drop(sub));
        for count in 0..200 {
            send_number(&mut numbers, count);
        }
        dropping.end("the drop");
    }
    eventually("all have left", || numbers.subscribers() == 0);
    assert!(numbers.evictions().is_empty());
}
