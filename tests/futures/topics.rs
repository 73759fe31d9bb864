//! Publishers, subscribers and presences as futures and streams.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream;
use ringpost::{
    Async, Change, Client, CloseReason, Policy, Presence, PublishError, Publisher, ReadinessError,
    SampleError, Subscriber, VanishReason,
};
use tokio::join;

use crate::common::{Bus, LIMIT};
use crate::run::{poll_times, sleep};

on_each_runtime! {
    samples_of_several_publishers_are_received
    a_publisher_waits_for_reliable_subscribers
    a_subscriber_that_does_not_read_is_evicted_while_its_publisher_waits
    a_stream_of_samples_ends_with_the_client
    a_dropped_future_takes_and_publishes_nothing
    presence_is_told
    who_did_not_ask_for_it_cannot_wait
}

async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)).await
}

fn subscribe(client: &mut Client, pattern: &str, policy: Policy) -> Async<Subscriber> {
    let subscriber = Subscriber::options().policy(policy).arms().subscribe(client.caller(), pattern).unwrap();
    Async::new(subscriber).unwrap()
}

fn publish(client: &mut Client, topic: &str, stall: Duration) -> Async<Publisher> {
    let options = Publisher::options().ring_size(4096).reliable(stall).arms();
    Async::new(options.publish(client.caller(), topic).unwrap()).unwrap()
}

async fn samples_of_several_publishers_are_received() {
    const EACH: u32 = 500;
    let bus = Bus::start();
    let [mut alice, mut bob, mut carol] = ["alice", "bob", "carol"].map(|name| bus.client(name));
    let mut sub = subscribe(&mut carol, "numbers/*", Policy::Reliable);
    let mut first = publish(&mut alice, "numbers/even", LIMIT);
    let publishes_first = async {
        for number in 0..EACH {
            first.send(&(2 * number).to_ne_bytes()).await.unwrap();
        }
    };
    let publishes_second = async {
        // It comes while the subscriber waits.
        sleep(20).await;
        let mut second = publish(&mut bob, "numbers/odd", LIMIT);
        for number in 0..EACH {
            second.send(&(2 * number + 1).to_ne_bytes()).await.unwrap();
        }
        second
    };
    let receives = async {
        let mut expected = [0, 1];
        while expected != [2 * EACH, 2 * EACH + 1] {
            let sample = sub.recv().await.unwrap();
            let number: u32 = sample.read().unwrap();
            let which = usize::from(sample.topic() == "numbers/odd");
            assert_eq!((number, sample.missed()), (expected[which], 0));
            expected[which] += 2;
        }
    };
    join!(publishes_first, publishes_second, receives);
}

async fn a_publisher_waits_for_reliable_subscribers() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
    let mut jobs = publish(&mut alice, "jobs", LIMIT);
    let mut sub = subscribe(&mut bob, "jobs", Policy::Reliable);
    let sends = async {
        for number in 0..1000_u32 {
            jobs.send(&[number.to_ne_bytes(); 25].concat()).await.unwrap();
        }
    };
    let receives = async {
        sleep(50).await;
        for number in 0..1000_u32 {
            let sample = sub.recv().await.unwrap();
            assert_eq!(sample.payload(), [number.to_ne_bytes(); 25].concat());
            assert_eq!(sample.missed(), 0);
        }
    };
    join!(sends, receives);
    assert!(jobs.get_mut().evictions().is_empty());
    let max = jobs.get_ref().max_sample();
    let too_large = jobs.send(&vec![0; max + 1]).await;
    assert!(
        matches!(too_large, Err(PublishError::TooLarge { len, max: most }) if (len, most) == (max + 1, max))
    );
}

/// Nothing but the publisher's own clock ends its wait.
async fn a_subscriber_that_does_not_read_is_evicted_while_its_publisher_waits() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
    let mut jobs = publish(&mut alice, "jobs", Duration::from_millis(30));
    let mut sub = subscribe(&mut bob, "jobs", Policy::Reliable);
    for _ in 0..200 {
        jobs.send(&[7; 100]).await.unwrap();
    }
    let evictions = jobs.get_mut().evictions();
    assert_eq!(evictions.len(), 1);
    assert!(evictions[0].stalled && evictions[0].subscriber.name == "bob");
    let told = loop {
        match sub.recv().await {
            Ok(sample) => assert_eq!(sample.missed(), 0),
            Err(error) => break error,
        }
    };
    assert!(matches!(told, SampleError::Evicted { publisher } if publisher.name == "alice"), "{told:?}");
}

async fn a_stream_of_samples_ends_with_the_client() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
    let mut prices = alice.publish("prices/AAPL").unwrap();
    let mut sub = subscribe(&mut bob, "prices/*", Policy::Lossy);
    for number in 0..10_u8 {
        prices.send(&[number]).unwrap();
        let sample = next(&mut sub).await.unwrap().unwrap();
        assert_eq!((sample.payload(), sample.topic()), (&[number][..], "prices/AAPL"));
    }
    let ends = async {
        sleep(20).await;
        bob.unregister().unwrap();
    };
    let ended = async {
        let last = next(&mut sub).await;
        assert!(matches!(last, Some(Err(SampleError::Disconnected(CloseReason::Unregistered)))), "{last:?}");
        assert!(next(&mut sub).await.is_none());
    };
    join!(ends, ended);
}

async fn a_dropped_future_takes_and_publishes_nothing() {
    let bus = Bus::start();
    let (mut alice, mut bob) = (bus.client("alice"), bus.client("bob"));
    let mut jobs = publish(&mut alice, "jobs", LIMIT);
    let mut sub = subscribe(&mut bob, "jobs", Policy::Reliable);
    assert!(poll_times(1, sub.recv()).await.is_none());
    let mut sent = 0_u32;
    while poll_times(1, jobs.send(&sent.to_ne_bytes())).await.is_some() {
        sent += 1;
    }
    // That future was dropped while it waited for room.
    for number in 0..sent {
        let sample = sub.recv().await.unwrap();
        assert_eq!((sample.read::<u32>().unwrap(), sample.missed()), (number, 0));
    }
    assert!(poll_times(1, sub.recv()).await.is_none());
    jobs.send(b"last").await.unwrap();
    let sample = sub.recv().await.unwrap();
    assert_eq!((sample.payload(), sample.sequence()), (&b"last"[..], u64::from(sent) + 1));
}

async fn presence_is_told() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    let mut who: Async<Presence> = Async::new(alice.presence().unwrap()).unwrap();
    assert!(matches!(who.recv().await, Ok(Change::Present(peer)) if peer.name == "alice"));
    for round in 0..20 {
        let (came, bob) = join!(next(&mut who), async {
            sleep(if round < 3 { 10 } else { 0 }).await;
            bus.client("bob")
        });
        let key = bob.key();
        assert!(matches!(came, Some(Ok(Change::Appeared(peer))) if peer.key == key));
        bob.unregister().unwrap();
        match who.recv().await.unwrap() {
            Change::Vanished { peer, reason: VanishReason::Unregistered } => assert_eq!(peer.key, key),
            other => panic!("{other:?}"),
        }
    }
    alice.unregister().unwrap();
    let ended = SampleError::Disconnected(CloseReason::Unregistered);
    assert_eq!(next(&mut who).await, Some(Err(ended)));
    assert_eq!(next(&mut who).await, None);
}

async fn who_did_not_ask_for_it_cannot_wait() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    let publisher = alice.publish("a").unwrap();
    assert!(matches!(Async::new(publisher), Err(ReadinessError::NotArmable)));
    let subscriber = alice.subscribe("a").unwrap();
    assert!(matches!(Async::new(subscriber), Err(ReadinessError::NotArmable)));
}
