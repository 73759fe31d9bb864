//! Tests of what a client can make the server hold, and that none denies others what they need.

use super::common::raw_bus::{ALICES, BOBS, Bus, as_user, descriptors};
use super::common::raw_links::*;
use super::common::raw_topics::*;
use super::common::{LIMIT, eventually};
use super::{all_parts, joined, publish, source, subscribe};
use rustix::event::PollFlags;
use rustix::io::read;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// How many subscriptions wait for one publisher, in all and of one user.
const AT_ONE_PUBLISHER: usize = 128;
const OF_ONE_SUBSCRIBER: usize = 64;

/// How many parts a client can take now.
fn count(client: &super::RawClient, bus: &Bus) -> usize {
    all_parts(client, bus).len()
}

#[test]
fn a_publisher_that_takes_nothing_has_a_full_queue_and_what_is_beyond_waits_for_it() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    publish(&alice, &bus, "a");
    (0..100).for_each(|_| _ = subscribe(&bob, &bus, "a"));
    let bell = bob.attend(bus.path());
    let _ = read(&bell, &mut [0; 9]);
    assert_eq!(count(&bob, &bus), OF_ONE_SUBSCRIBER);
    bus.has(2, 1 + 1 + OF_ONE_SUBSCRIBER);
    let others = as_user(ALICES, || {
        let carol = bus.register("carol");
        (0..100).for_each(|_| _ = subscribe(&carol, &bus, "*"));
        assert_eq!(count(&carol, &bus), OF_ONE_SUBSCRIBER, "another user has places of its own");
        carol
    });
    if others.is_some() {
        as_user(BOBS, || {
            let dave = bus.register("dave");
            subscribe(&dave, &bus, "a");
            assert_eq!(count(&dave, &bus), 0, "all places are taken");
        });
        eventually("dave is gone", || super::common::registered(bus.path()) == 3);
        bus.has(3, 1 + 1 + AT_ONE_PUBLISHER);
    }
    // It takes what waits. Then there is room for the others, who are told.
    let places = if others.is_some() { AT_ONE_PUBLISHER } else { OF_ONE_SUBSCRIBER };
    (0..places).for_each(|_| drop(joined(alice.part(bus.path()))));
    assert!(is_ready(&bell, PollFlags::IN, LIMIT));
    let mut rest = 0;
    eventually("all were taken", || {
        rest += count(&bob, &bus);
        count(&alice, &bus);
        rest == 100 - OF_ONE_SUBSCRIBER
    });
    drop(others);
    bus.has(2, 1 + 1);
}

#[test]
fn a_full_queue_does_not_keep_others_publishers_from_a_subscriber() {
    let bus = Bus::start(&[]);
    let (alice, bob, carol) = (bus.register("alice"), bus.register("bob"), bus.register("carol"));
    publish(&alice, &bus, "silent");
    (0..OF_ONE_SUBSCRIBER).for_each(|_| _ = subscribe(&bob, &bus, "silent"));
    assert_eq!(count(&bob, &bus), OF_ONE_SUBSCRIBER);
    let all = subscribe(&bob, &bus, "**");
    let topic = publish(&carol, &bus, "lively");
    let part = source(bob.part(bus.path()));
    assert_eq!((part.subscription, part.publication), (all, topic.id));
    // What was put off goes with its subscription, and with its publisher.
    let again = subscribe(&bob, &bus, "silent");
    assert_eq!(count(&bob, &bus), 0);
    bob.leave_topic(bus.path(), again).unwrap();
    drop(alice);
    eventually("its publisher is gone", || all_topics(bus.path()).len() == 1);
    // What was put off for the other subscription can still be taken, and each is told of the end once.
    let parts = all_parts(&bob, &bus);
    let ends = parts.iter().filter(|part| matches!(part, Part::Over { .. })).count();
    assert_eq!((parts.len() - ends, ends), (1, OF_ONE_SUBSCRIBER + 1));
    bus.has(2, 1 + 1);
}

/// Neither a subscription nor what matches it costs a descriptor before it is taken.
#[test]
fn a_thousand_subscriptions_to_many_topics_cost_no_descriptor() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    (0..100).for_each(|number| drop(publish(&alice, &bus, &format!("a/{number}"))));
    let mut ids: Vec<u64> = (0..1000).map(|_| subscribe(&bob, &bus, "a/**")).collect();
    (100..110).for_each(|number| drop(publish(&alice, &bus, &format!("a/{number}"))));
    bus.has(2, 110);
    assert_eq!(count(&bob, &bus), OF_ONE_SUBSCRIBER);
    bus.has(2, 110 + OF_ONE_SUBSCRIBER);
    ids.drain(..).for_each(|id| drop(bob.leave_topic(bus.path(), id).unwrap()));
    bus.has(2, 110);
    assert_eq!((count(&bob, &bus), count(&alice, &bus)), (0, 0));
    drop((alice, bob));
    bus.has(0, 0);
}

/// Publishers that take nothing cannot use up the places of others: what waits for them gives up its place.
#[test]
fn publishers_that_take_nothing_lose_their_places_to_those_who_need_them() {
    // 64 descriptors wait at most, a quarter of them for subscribers of one user.
    let bus = Bus::start(&[("FILES", "256")]);
    let (silent, lively) = (bus.register("silent"), bus.register("lively"));
    publish(&silent, &bus, "silent");
    publish(&lively, &bus, "lively");
    let (orders, told) = channel::<()>();
    let (say, taken) = channel();
    let taken = std::sync::Mutex::new(taken);
    std::thread::scope(|scope| {
        let (lively, bus) = (&lively, &bus);
        scope.spawn(move || told.iter().for_each(|()| say.send(joined(lively.part(bus.path()))).unwrap()));
        as_user(ALICES, || {
            let alice = bus.register("alice");
            let bell = alice.attend(bus.path());
            let began = Instant::now();
            (0..30).for_each(|_| _ = subscribe(&alice, bus, "silent"));
            let waiting = count(&alice, bus);
            assert_eq!(waiting, 16, "what a user's subscribers may have");
            let late = subscribe(&alice, bus, "lively");
            let mut parts = all_parts(&alice, bus);
            eventually("others have made room", || {
                if is_ready(&bell, PollFlags::IN, Duration::ZERO) {
                    let _ = read(&bell, &mut [0; 64]);
                    parts.extend(all_parts(&alice, bus));
                }
                // Those to the silent one are tried again as well.
                parts.retain(|part| matches!(part, Part::Subscriber(part) if part.topic == "lively"));
                !parts.is_empty()
            });
            assert!(began.elapsed() >= Duration::from_secs(5));
            orders.send(()).unwrap();
            assert_eq!(taken.lock().unwrap().recv_timeout(LIMIT).unwrap().subscription, late);
        });
        drop(orders);
    });
    // The silent one takes what is left for it, and is not told of subscriptions that it never heard of.
    let parts = all_parts(&silent, &bus);
    assert!(parts.iter().all(|part| matches!(part, Part::Publisher { .. } | Part::Ended { .. })));
    bus.has(2, 2);
}

/// Who subscribes and leaves on and on leaves nothing, and makes nobody wait.
#[test]
fn a_flood_of_subscriptions_leaves_nothing() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    publish(&alice, &bus, "a");
    for round in 0..400 {
        let id = subscribe(&bob, &bus, "**");
        if round % 3 > 0 {
            drop(source(bob.part(bus.path())));
        }
        if round % 3 == 2 && round % 2 == 0 {
            drop(alice.part(bus.path()).unwrap());
        }
        bob.leave_topic(bus.path(), id).unwrap();
    }
    // Only the ends of what it has taken wait for the publisher.
    assert!(all_parts(&alice, &bus).iter().all(|part| matches!(part, Part::Ended { .. })));
    assert_eq!(count(&bob, &bus), 0);
    bus.has(2, 1);
}

#[test]
fn a_server_with_few_descriptors_puts_parts_off_and_serves_on() {
    let bus = Bus::start(&[("FILES", "64")]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    publish(&alice, &bus, "a");
    let bell = bob.attend(bus.path());
    let idle: Vec<_> = (0..26).map(|_| super::common::raw::dial(bus.path())).collect();
    let mut put_off = false;
    eventually("there are too few descriptors for a part", || {
        subscribe(&bob, &bus, "a");
        match ask(bus.path(), PART, &bob.proof()) {
            Ok((body, _)) => {
                put_off = body.is_empty();
                put_off
            }
            Err((code, why)) => {
                assert!(code == NO_RESOURCES && why.contains("ulimit -n"), "{code}: {why}");
                true
            }
        }
    });
    assert!(!put_off || descriptors(bus.pid) < 64);
    drop(idle);
    // It is tried again, and the subscriber hears of it.
    eventually("there are enough again", || {
        all_parts(&alice, &bus);
        is_ready(&bell, PollFlags::IN, Duration::ZERO) && !all_parts(&bob, &bus).is_empty()
    });
}
