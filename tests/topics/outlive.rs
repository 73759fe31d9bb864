//! A server that is killed under running publishers and subscribers, and another one that takes its place.

use super::common::role::{Role, Stage, say, setting};
use super::common::server::start_server;
use super::common::{LIMIT, Place, eventually};
use super::{next, number, send_number};
use ringpost::{
    Client, CloseReason, Observer, Policy, Publisher, Reconnect, ReconnectEvent, SampleError, Subscriber,
};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

fn again(path: &std::path::Path, name: &str) -> Client {
    Client::builder(path).reconnect(Reconnect::default()).register(name).unwrap()
}

// ---- the other process

/// Publishes numbers without a pause, until it is told to stop.
pub fn publish_on(stage: &Stage) {
    let mut alice = again(&setting::<PathBuf>("PATH").unwrap(), "alice");
    let options = Publisher::options().ring_size(1 << 24);
    let mut publisher = options.publish(alice.caller(), "numbers").unwrap();
    say("publishes");
    while stage.ordered().is_none() {
        let next = publisher.sequence() + 1;
        send_number(&mut publisher, next);
        std::thread::sleep(Duration::from_micros(200));
    }
    say(format_args!("sent {}", publisher.sequence()));
    stage.await_order("end");
}

/// Takes numbers until it is told which was the last, and says how many were missed.
pub fn subscribe_on(stage: &Stage) {
    let mut bob = again(&setting::<PathBuf>("PATH").unwrap(), "bob");
    let mut sub = bob.subscribe("numbers").unwrap();
    say("subscribed");
    let (mut first, mut last, mut missed, mut until) = (0, 0, 0, u64::MAX);
    while last < until {
        if let Some(order) = stage.ordered() {
            until = order.parse().unwrap();
        }
        match sub.recv_timeout(Duration::from_millis(100)) {
            Ok(sample) => {
                assert_eq!(sample.read::<u64>().unwrap(), sample.sequence());
                if first == 0 {
                    first = sample.sequence();
                } else {
                    assert_eq!(sample.sequence(), last + sample.missed() + 1, "each once, in order");
                    missed += sample.missed();
                }
                last = sample.sequence();
            }
            Err(SampleError::TimedOut) => {}
            Err(error) => panic!("{error}"),
        }
    }
    say(format_args!("took {first} {last} {missed}"));
    stage.await_order("end");
}

// ---- this one

#[test]
fn publishers_and_subscribers_go_on_while_servers_come_and_go() {
    let place = Place::new();
    let mut server = start_server(&place, &[]);
    let path = [("PATH", place.path.to_str().unwrap())];
    let mut alice = Role::start("goes on publishing", &path);
    alice.hear("publishes");
    let mut bob = Role::start("goes on subscribing", &path);
    bob.hear("subscribed");
    for _ in 0..3 {
        server.kill();
        server = start_server(&place, &[]);
        let mut carol = again(&place.path, "carol");
        // What is published while bob has no part in it would be missed.
        eventually("bob reads what alice publishes anew", || {
            let topics = Observer::connect(&place.path).unwrap().topics().unwrap();
            topics.iter().any(|info| info.topic == "numbers" && info.subscriptions > 0)
        });
        let mut sub = carol.subscribe("numbers").unwrap();
        let sample = next(&mut sub);
        assert_eq!(number(&sample), sample.sequence());
        carol.unregister().unwrap();
    }
    alice.tell("stop");
    let sent = alice.hear("sent");
    bob.tell(&sent);
    let took = bob.hear("took");
    let took: Vec<u64> = took.split(' ').map(|number| number.parse().unwrap()).collect();
    assert_eq!(took[1].to_string(), sent);
    assert_eq!(took[2], 0, "the rings held everything");
}

/// Bob comes back only to the third server. Alice has published at the second one, and says nothing more.
#[test]
fn what_was_published_at_a_server_that_a_subscriber_never_saw_is_received() {
    let place = Place::new();
    let mut server = start_server(&place, &[]);
    let mut alice = again(&place.path, "alice");
    let (lets_go, may_go) = std::sync::mpsc::channel::<()>();
    let may_go = Mutex::new(may_go);
    let held = Reconnect::default().on_event(move |event| {
        if let ReconnectEvent::Ended { .. } = event {
            // Nobody registers bob again before this returns.
            let _ = may_go.lock().unwrap().recv_timeout(LIMIT);
        }
    });
    let mut bob = Client::builder(&place.path).reconnect(held).register("bob").unwrap();
    let mut numbers = alice.publish("numbers").unwrap();
    let mut sub = bob.subscribe("numbers").unwrap();
    eventually("it is attached", || numbers.subscribers() == 1);
    send_number(&mut numbers, 1);
    assert_eq!(number(&next(&mut sub)), 1);
    for second in [true, false] {
        server.kill();
        server = start_server(&place, &[]);
        eventually("alice publishes anew", || {
            let topics = Observer::connect(&place.path).unwrap().topics().unwrap();
            topics.iter().any(|info| info.topic == "numbers")
        });
        if second {
            (2..=10).for_each(|count| send_number(&mut numbers, count));
        }
    }
    // Who comes now begins with what is published from now on, and may ask for what was before.
    let mut carol = again(&place.path, "carol");
    let mut new = carol.subscribe("numbers").unwrap();
    let mut old = Subscriber::options().history(3).subscribe(carol.caller(), "numbers").unwrap();
    assert_eq!([next(&mut old), next(&mut old), next(&mut old)].map(|sample| number(&sample)), [8, 9, 10]);
    lets_go.send(()).unwrap();
    for count in 2..=10 {
        let sample = next(&mut sub);
        assert_eq!((number(&sample), sample.missed()), (count, 0));
    }
    send_number(&mut numbers, 11);
    for sub in [&mut sub, &mut new, &mut old] {
        let sample = next(sub);
        assert_eq!((number(&sample), sample.missed()), (11, 0));
    }
}

/// Without a server, what is attached goes on; a gap between the rings is told.
#[test]
fn the_old_ring_is_read_to_its_end_and_then_the_gap_is_told() {
    let place = Place::new();
    let mut server = start_server(&place, &[]);
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| again(&place.path, name));
    let options = Publisher::options().ring_size(4096);
    let mut numbers = options.publish(alice.caller(), "numbers").unwrap();
    let mut sub = bob.subscribe("numbers").unwrap();
    eventually("it is attached", || numbers.subscribers() == 1);
    send_number(&mut numbers, 1);
    assert_eq!(number(&next(&mut sub)), 1);
    server.kill();
    for count in 2..=10 {
        send_number(&mut numbers, count);
    }
    assert_eq!(number(&next(&mut sub)), 2, "without a server");
    let _server = start_server(&place, &[]);
    eventually("the publisher was published anew, and the subscription attached", || {
        // The publisher moves with its next sample.
        let next = numbers.sequence() + 1;
        send_number(&mut numbers, next);
        std::thread::sleep(Duration::from_millis(1));
        numbers.subscribers() == 1 && alice.look_up("bob").is_ok_and(|bob| bob.is_some())
    });
    for _ in 0..500 {
        let next = numbers.sequence() + 1;
        send_number(&mut numbers, next);
    }
    let mut last = 2;
    let mut missed = 0;
    while last < numbers.sequence() {
        let sample = next(&mut sub);
        assert_eq!(number(&sample), sample.sequence());
        assert_eq!(sample.sequence(), last + sample.missed() + 1);
        last = sample.sequence();
        missed += sample.missed();
    }
    assert!(missed > 0, "the rings are small");
}

#[test]
fn a_subscription_waits_for_a_publisher_at_the_next_server() {
    let place = Place::new();
    let mut server = start_server(&place, &[]);
    let mut bob = again(&place.path, "bob");
    let mut sub = bob.subscribe("a/*").unwrap();
    server.kill();
    let waiting = super::common::begin(move || sub.recv_timeout(LIMIT).unwrap().to_owned());
    let _server = start_server(&place, &[]);
    let mut alice = again(&place.path, "alice");
    eventually("bob has registered again", || alice.look_up("bob").unwrap().is_some());
    let mut publisher = alice.publish("a/b").unwrap();
    eventually("a sample comes", || {
        let next = publisher.sequence() + 1;
        send_number(&mut publisher, next);
        waiting.is_over()
    });
    let sample = waiting.end("a sample");
    assert_eq!(number(&sample), sample.sequence());
    drop(bob);
}

#[test]
fn a_reliable_subscription_goes_on_at_the_next_server() {
    let place = Place::new();
    let mut server = start_server(&place, &[]);
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| again(&place.path, name));
    let options = Publisher::options().ring_size(1 << 16).reliable(Duration::from_secs(30));
    let mut numbers = options.publish(alice.caller(), "numbers").unwrap();
    let every = Subscriber::options().policy(Policy::Reliable);
    let mut sub = every.subscribe(bob.caller(), "numbers").unwrap();
    for count in 1..=10 {
        send_number(&mut numbers, count);
    }
    server.kill();
    for count in 11..=20 {
        send_number(&mut numbers, count);
    }
    let _server = start_server(&place, &[]);
    eventually("it is attached again", || {
        let next = numbers.sequence() + 1;
        send_number(&mut numbers, next);
        std::thread::sleep(Duration::from_millis(5));
        numbers.sequence() > 25 && numbers.subscribers() == 1
    });
    for count in 1..=numbers.sequence() {
        let sample = next(&mut sub);
        assert_eq!((number(&sample), sample.missed()), (count, 0));
    }
    assert!(numbers.evictions().is_empty());
}

#[test]
fn without_reconnecting_what_is_attached_goes_on_and_then_ends() {
    let place = Place::new();
    let mut server = start_server(&place, &[]);
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| Client::register(&place.path, name).unwrap());
    let mut numbers = alice.publish("numbers").unwrap();
    let mut sub = bob.subscribe("numbers").unwrap();
    let mut empty = bob.subscribe("nobody").unwrap();
    eventually("it is attached", || numbers.subscribers() == 1);
    server.kill();
    assert_eq!(empty.recv_timeout(LIMIT).unwrap_err(), SampleError::Disconnected(CloseReason::Died));
    for count in 1..=100 {
        send_number(&mut numbers, count);
        assert_eq!(number(&next(&mut sub)), count);
    }
    let waiting = super::common::begin(move || {
        let error = sub.recv_timeout(LIMIT).map(|_| ()).unwrap_err();
        (error, sub.try_recv().map(|_| ()).unwrap_err())
    });
    drop(numbers);
    let ended = SampleError::Disconnected(CloseReason::Died);
    assert_eq!(waiting.end("the publisher's end"), (ended, ended));
}
