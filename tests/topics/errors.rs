//! What cannot be published or subscribed to, and why.

use super::pair;
use ringpost::{CloseReason, Pattern, PublishError, Publisher, SubscribeError, Topic, TopicError};

#[test]
fn names_that_cannot_be_are_refused_before_anybody_is_asked() {
    let (bus, mut alice, _bob) = pair();
    drop(bus.server);
    for topic in ["", "a//b", "/a", "a/", "a/*", "**", "a$", "a#b", "what?", " a", "a\nb", &"x".repeat(129)] {
        match alice.publish(topic) {
            Err(PublishError::InvalidTopic(_)) => {}
            other => panic!("{topic:?}: {other:?}"),
        }
    }
    for pattern in ["", "a//b", "a*", "***", "a/b*/c", "$*", &"x".repeat(129)] {
        match alice.subscribe(pattern) {
            Err(SubscribeError::InvalidPattern(_)) => {}
            other => panic!("{pattern:?}: {other:?}"),
        }
    }
    assert_eq!(TopicError::Empty, Topic::try_from("").unwrap_err());
}

#[test]
fn topics_and_patterns_may_be_given_as_such() {
    let (_bus, mut alice, mut bob) = pair();
    let topic = Topic::try_from("a/b").unwrap();
    let mut publisher = alice.publish(topic.clone()).unwrap();
    let mut exact = bob.subscribe(Pattern::from(topic)).unwrap();
    let mut some = bob.subscribe(Pattern::try_from("a/*").unwrap()).unwrap();
    publisher.send("x").unwrap();
    assert_eq!(super::next(&mut exact).topic(), "a/b");
    assert_eq!(super::next(&mut some).topic(), "a/b");
}

#[test]
fn a_client_publishes_a_topic_once() {
    let (_bus, mut alice, mut bob) = pair();
    let first = alice.publish("a").unwrap();
    let Err(PublishError::Refused(why)) = alice.publish("a") else { panic!("published twice") };
    assert!(why.contains("a"), "{why}");
    let _other_client = bob.publish("a").unwrap();
    drop(first);
    alice.publish("a").unwrap();
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let (_bus, mut alice, _bob) = pair();
    for size in [0, 1, 2048, 5000, (1 << 30) + 1, 1 << 31] {
        let published = Publisher::options().ring_size(size).publish(alice.caller(), "a");
        assert!(matches!(published, Err(PublishError::Channel(_))), "{size}: {published:?}");
    }
    let many = Publisher::options().users(&[0; 17]).publish(alice.caller(), "a");
    assert!(matches!(many, Err(PublishError::TooManyUsers { found: 17, max: 16 })), "{many:?}");
    let mut small = Publisher::options().ring_size(4096).publish(alice.caller(), "a").unwrap();
    let max = small.max_sample();
    assert_eq!(max, 1024 - 8);
    small.send(&vec![0; max]).unwrap();
    match small.send(&vec![0; max + 1]) {
        Err(PublishError::TooLarge { len, max: most }) => assert_eq!((len, most), (max + 1, max)),
        other => panic!("{other:?}"),
    }
    assert!(matches!(small.grant(max + 1), Err(PublishError::TooLarge { .. })));
    assert!(matches!(small.try_send(&vec![0; 5000]), Err(PublishError::TooLarge { .. })));
    assert_eq!(small.sequence(), 1);
}

#[test]
fn a_client_that_is_not_registered_any_more_publishes_nothing() {
    let (bus, mut alice, mut bob) = pair();
    bus.server.join_after_shutdown();
    match alice.publish("a") {
        Err(PublishError::Disconnected(CloseReason::Shutdown)) => {}
        other => panic!("{other:?}"),
    }
    match bob.subscribe("a") {
        Err(SubscribeError::Disconnected(CloseReason::Shutdown)) => {}
        other => panic!("{other:?}"),
    }
}
