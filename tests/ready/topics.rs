//! Subscribers, publishers and presences in an event loop, in each way to wait.

use super::common::server::start_server;
use super::common::{Bus, LIMIT, Place, begin};
use super::{Waiter, Way, arm, wait_for};
use ringpost::{
    Change, Client, CloseReason, OwnedSample, Policy, Presence, PublishError, Publisher, ReadinessError,
    Ready, Reconnect, SampleError, Subscriber,
};
use std::time::Duration;

fn subscribe(client: &mut Client, policy: Policy) -> Subscriber {
    Subscriber::options().policy(policy).arms().subscribe(client.caller(), "topic/*").unwrap()
}

fn next(sub: &mut Subscriber, waiter: &mut Waiter) -> OwnedSample {
    wait_for(sub, waiter, |sub| sub.try_recv().unwrap().map(|sample| sample.to_owned()))
}

#[test]
fn a_subscriber_waits_for_publishers_and_samples_in_each_way() {
    for way in Way::ALL {
        let bus = Bus::start();
        let mut bob = bus.client("bob");
        let mut sub = subscribe(&mut bob, Policy::Lossy);
        let readiness = sub.readiness().unwrap();
        let mut waiter = Waiter::new(way, &readiness);
        assert!(sub.try_recv().unwrap().is_none());
        arm(&mut sub, &mut waiter);
        let path = bus.path().to_owned();
        let publishes = begin(move || {
            let mut alice = Client::register(path, "alice").unwrap();
            let mut topics: Vec<Publisher> = ["topic/a", "topic/b", "topic/c"]
                .iter()
                .map(|topic| alice.publish(*topic).unwrap())
                .collect();
            for number in 0..300_u32 {
                topics[number as usize % 3].send(&number.to_ne_bytes()).unwrap();
                if number % 50 == 0 {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        });
        let mut expected = [0, 1, 2];
        for _ in 0..300 {
            let sample = next(&mut sub, &mut waiter);
            let number: u32 = sample.read().unwrap();
            let which = number as usize % 3;
            assert_eq!((number, sample.missed()), (expected[which], 0), "{way:?}");
            expected[which] += 3;
        }
        publishes.end("three topics are published");
        // The ends of the publishers are looked at, and then nothing is left.
        while sub.try_recv().unwrap().is_some() || !sub.publishers().is_empty() {
            if sub.arm().unwrap() {
                waiter.wait();
            }
        }
        assert!(sub.try_recv().unwrap().is_none());
        arm(&mut sub, &mut waiter);
    }
}

#[test]
fn a_publisher_waits_for_room_in_each_way() {
    for way in Way::ALL {
        let bus = Bus::start();
        let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
        let options = Publisher::options().ring_size(4096).reliable(LIMIT).arms();
        let mut jobs = options.publish(alice.caller(), "topic/jobs").unwrap();
        let mut sub =
            Subscriber::options().policy(Policy::Reliable).subscribe(bob.caller(), "topic/*").unwrap();
        let readiness = jobs.readiness().unwrap();
        let mut waiter = Waiter::new(way, &readiness);
        assert!(!jobs.arm().unwrap(), "there is room: nothing is waited for");
        let reads = begin(move || {
            for number in 0..500_u32 {
                let sample = sub.recv_timeout(LIMIT).unwrap();
                assert_eq!((sample.read::<u32>().unwrap(), sample.missed()), (number, 0));
                if number % 100 == 0 {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        });
        for number in 0..500_u32 {
            wait_for(&mut jobs, &mut waiter, |jobs| match jobs.try_send(&number.to_ne_bytes()) {
                Ok(()) => Some(()),
                Err(PublishError::Full) => None,
                Err(error) => panic!("{error}"),
            });
        }
        reads.end("a reliable subscriber reads");
        assert!(jobs.evictions().is_empty());
    }
}

#[test]
fn a_publisher_that_waits_for_room_hears_of_the_end_of_whom_it_waits_for() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    let options = Publisher::options().ring_size(4096).reliable(LIMIT).arms();
    let mut jobs = options.publish(alice.caller(), "topic/jobs").unwrap();
    let readiness = jobs.readiness().unwrap();
    let mut waiter = Waiter::new(Way::Edge, &readiness);
    for goes_in_order in [true, false] {
        let mut bob = bus.client("bob");
        let sub = Subscriber::options().policy(Policy::Reliable).subscribe(bob.caller(), "topic/*").unwrap();
        while jobs.try_send(&[0; 100]).is_ok() {}
        assert!(jobs.arm().unwrap());
        if goes_in_order {
            drop(sub);
        } else {
            drop(bob);
            drop(sub);
        }
        wait_for(&mut jobs, &mut waiter, |jobs| jobs.try_send(&[0; 100]).ok());
    }
    let closer = jobs.closer();
    let mut bob = bus.client("bob");
    let _sub = Subscriber::options().policy(Policy::Reliable).subscribe(bob.caller(), "topic/*").unwrap();
    while jobs.try_send(&[0; 100]).is_ok() {}
    assert!(jobs.arm().unwrap());
    closer.close();
    waiter.wait();
    assert!(matches!(jobs.try_send(b"x"), Err(PublishError::Disconnected(CloseReason::Local))));
    assert!(matches!(jobs.readiness(), Err(ReadinessError::Disconnected(CloseReason::Local))));
}

#[test]
fn a_subscriber_that_reads_nothing_is_evicted_by_the_publishers_clock() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
    let options = Publisher::options().ring_size(4096).reliable(Duration::from_millis(30)).arms();
    let mut jobs = options.publish(alice.caller(), "topic/jobs").unwrap();
    let mut sub = subscribe(&mut bob, Policy::Reliable);
    let readiness = jobs.readiness().unwrap();
    let mut waiter = Waiter::new(Way::Edge, &readiness);
    while jobs.evictions().is_empty() {
        wait_for(&mut jobs, &mut waiter, |jobs| jobs.try_send(&[0; 100]).ok());
    }
    let readiness = sub.readiness().unwrap();
    let mut waiter = Waiter::new(Way::Level, &readiness);
    let told = wait_for(&mut sub, &mut waiter, |sub| sub.try_recv().err());
    assert!(matches!(told, SampleError::Evicted { publisher } if publisher.name == "alice"));
}

/// Neither the server's end nor another registration is the end of what is waited by.
#[test]
fn a_subscriber_and_a_presence_go_on_under_another_server() {
    let place = Place::new();
    let mut server = start_server(&place, &[]);
    let register =
        |name: &str| Client::builder(&place.path).reconnect(Reconnect::default()).register(name).unwrap();
    let (mut alice, mut bob) = (register("alice"), register("bob"));
    let mut topic = alice.publish("topic/a").unwrap();
    let mut sub = subscribe(&mut bob, Policy::Lossy);
    let mut who = bob.presence().unwrap();
    let (of_sub, of_who) = (sub.readiness().unwrap(), who.readiness().unwrap());
    let (mut subs, mut whos) = (Waiter::new(Way::Edge, &of_sub), Waiter::new(Way::Edge, &of_who));
    let change = |who: &mut Presence| who.try_recv().unwrap();
    for _ in 0..2 {
        assert!(matches!(wait_for(&mut who, &mut whos, change), Change::Present(_)));
    }
    topic.send(b"before").unwrap();
    assert_eq!(next(&mut sub, &mut subs).payload(), b"before");
    arm(&mut sub, &mut subs);
    server.kill();
    server = start_server(&place, &[]);
    // Both clients vanish and appear.
    let mut changes = [0, 0];
    while changes != [2, 2] {
        match wait_for(&mut who, &mut whos, change) {
            Change::Vanished { .. } => changes[0] += 1,
            Change::Appeared(_) => changes[1] += 1,
            other => panic!("{other:?}"),
        }
    }
    // The segment is the same or another one; nothing is lost or comes twice.
    for number in 0..100_u32 {
        topic.send(&number.to_ne_bytes()).unwrap();
        let sample = next(&mut sub, &mut subs);
        assert_eq!((sample.read::<u32>().unwrap(), sample.missed()), (number, 0));
    }
    server.kill();
}

#[test]
fn a_presence_waits_in_each_way() {
    for way in Way::ALL {
        let bus = Bus::start();
        let mut alice = bus.client("alice");
        let mut who = alice.presence().unwrap();
        let readiness = who.readiness().unwrap();
        let mut waiter = Waiter::new(way, &readiness);
        let change = |who: &mut Presence| who.try_recv().unwrap();
        assert!(matches!(wait_for(&mut who, &mut waiter, change), Change::Present(_)));
        for _ in 0..20 {
            arm(&mut who, &mut waiter);
            let bob = bus.client("bob");
            assert!(matches!(wait_for(&mut who, &mut waiter, change), Change::Appeared(_)), "{way:?}");
            drop(bob);
            assert!(matches!(wait_for(&mut who, &mut waiter, change), Change::Vanished { .. }), "{way:?}");
        }
        arm(&mut who, &mut waiter);
        alice.unregister().unwrap();
        waiter.wait();
        assert_eq!(who.try_recv(), Err(SampleError::Disconnected(CloseReason::Unregistered)));
    }
}
