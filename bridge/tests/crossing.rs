//! What crosses between two nodes: presence, messages, calls, posts and topics.

mod common;

use std::collections::VecDeque;
use std::time::Duration;

use common::{LONG, Pair, vanishes, watch};
use ringpost::{CallError, ConnectError, Publisher, SampleError, SendError, Subscriber};

#[test]
fn only_what_is_exported_appears_and_vanishes_when_it_leaves() {
    let mut pair = Pair::start(&["alice", "bob"]);
    let eve = pair.b.client("eve");
    let (mut alice, bob) = pair.clients();
    let mut presence = watch(&mut alice, "bob@b");
    let names: Vec<String> = alice.list().unwrap().iter().map(|client| client.name.to_string()).collect();
    assert!(names.contains(&"bob@b".into()), "{names:?}");
    // Eve was there before bob.
    assert!(!names.contains(&"eve@b".into()), "{names:?}");
    bob.unregister().unwrap();
    vanishes(&mut presence, "bob@b");
    let _again = pair.b.client("bob");
    alice.wait_for("bob@b", LONG).unwrap();
    drop(eve);
}

#[test]
fn messages_are_acknowledged_when_they_lie_in_the_remote_inbox() {
    let mut pair = Pair::start(&["alice", "bob"]);
    let (mut alice, mut bob) = pair.clients();
    for number in 0..100_u32 {
        alice.send("bob@b", &number.to_le_bytes()[..]).unwrap();
    }
    for number in 0..100_u32 {
        // Acknowledged, so it is there.
        let message = bob.try_recv().unwrap().unwrap();
        assert_eq!(
            (message.payload(), message.sender_name().as_str()),
            (&number.to_le_bytes()[..], "alice@a")
        );
    }
    bob.send("alice@a", b"back").unwrap();
    assert_eq!(alice.try_recv().unwrap().unwrap().payload(), b"back");
}

#[test]
fn a_full_inbox_is_told_and_waited_for() {
    let mut pair = Pair::start(&["alice", "bob"]);
    let (mut alice, mut bob) = pair.clients();
    let mut sent = 0;
    let full = loop {
        match alice.try_send("bob@b", &[7; 4096][..]) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, SendError::InboxFull), "{full:?}");
    // Which error depends on who is first: the other node, or the sender's own deadline.
    alice.caller().send_timeout("bob@b", &[7; 4096][..], Duration::from_millis(500)).unwrap_err();
    for _ in 0..sent {
        bob.try_recv().unwrap().unwrap();
    }
    assert!(bob.try_recv().unwrap().is_none(), "a refused message must not be there");
    alice.caller().send_timeout("bob@b", b"now", LONG).unwrap();
    assert_eq!(bob.try_recv().unwrap().unwrap().payload(), b"now");
}

#[test]
fn a_client_that_is_not_exported_can_neither_send_nor_call() {
    let mut pair = Pair::start(&["alice", "bob"]);
    let (_alice, mut bob) = pair.clients();
    let mut eve = pair.a.client("eve");
    let sent = eve.send("bob@b", b"psst");
    assert!(matches!(sent, Err(SendError::NotAllowed(_))), "{sent:?}");
    let _listener = bob.listen().unwrap();
    let called = eve.connect("bob@b");
    assert!(matches!(called, Err(ConnectError::Refused(_))), "{called:?}");
    assert!(bob.try_recv().unwrap().is_none());
}

#[test]
fn calls_cross_pipelined_and_in_order_with_the_services_errors() {
    let mut pair = Pair::start(&["alice", "bob"]);
    let (mut alice, mut bob) = pair.clients();
    let refused = alice.connect("bob@b");
    assert!(matches!(refused, Err(ConnectError::NotServing)), "{refused:?}");
    let served = bob.listen().unwrap().serve(|request, response| {
        if request.payload() == b"fail" {
            return Err(std::io::Error::other("as you wished").into());
        }
        response.write(&[request.peer().name.as_str().as_bytes(), b" ", request.payload()].concat()[..])
    });
    let served = served.unwrap();
    let mut link = alice.connect("bob@b").unwrap();
    assert_eq!(&*link.call(b"one").unwrap(), b"alice@a one");
    for number in 0..1000_u32 {
        link.submit(&number.to_le_bytes()[..]).unwrap();
        if number >= 100 {
            assert_eq!(&link.response().unwrap()[8..], (number - 100).to_le_bytes());
        }
    }
    for number in 900..1000_u32 {
        assert_eq!(&link.response().unwrap()[8..], number.to_le_bytes());
    }
    match link.call(b"fail") {
        Err(CallError::ServiceFailed(text)) => assert!(text.contains("as you wished"), "{text}"),
        other => panic!("{other:?}"),
    }
    for _ in 0..500 {
        link.post(b"a post").unwrap();
    }
    assert_eq!(&*link.call(b"still there").unwrap(), b"alice@a still there");
    // The end of the callee reaches a caller that waits for nothing, and one that does.
    served.stop();
    drop(bob);
    let ended = loop {
        if let Err(error) = link.call_timeout(b"anybody", LONG) {
            break error;
        }
    };
    assert!(ended.is_disconnected() || matches!(ended, CallError::ServiceFailed(_)), "{ended:?}");
}

#[test]
fn samples_keep_publisher_topic_and_number() {
    let mut pair = Pair::start(&["alice", "bob", "prices/**"]);
    let (mut alice, mut bob) = pair.clients();
    let mut all = Subscriber::options().subscribe(alice.caller(), "**").unwrap();
    let mut secret = bob.publish("secret").unwrap();
    let mut prices = bob.publish("prices/x/y").unwrap();
    while prices.subscribers() == 0 {
        std::thread::yield_now();
    }
    for number in 1..=500_u32 {
        secret.send(b"not exported").unwrap();
        prices.send(&number.to_le_bytes()[..]).unwrap();
        if number % 50 == 0 {
            std::thread::sleep(Duration::from_millis(1)); // nobody holds a publisher up
        }
    }
    let (mut taken, mut missed, mut last) = (0, 0, 0);
    while last < 500 {
        let sample = all.recv_timeout(LONG).unwrap();
        assert_eq!((sample.topic(), sample.publisher().name.as_str()), ("prices/x/y", "bob@b"));
        assert!(sample.sequence() > last, "twice, or out of order");
        assert_eq!(sample.payload(), (sample.sequence() as u32).to_le_bytes());
        last = sample.sequence();
        (taken, missed) = (taken + 1, missed + sample.missed());
    }
    assert_eq!(taken + missed, 500, "every gap is counted");
}

#[test]
fn batches_of_several_topics_and_publishers_keep_each_number_and_gap() {
    let mut pair = Pair::start(&["alice", "bob", "carl", "prices/**"]);
    let (mut alice, mut bob) = pair.clients();
    let mut carl = pair.b.client("carl");
    alice.wait_for("carl@b", LONG).unwrap();
    let mut all = alice.subscribe("**").unwrap();
    let mut publishers = [
        ("bob@b", bob.publish("prices/x").unwrap()),
        ("bob@b", bob.publish("prices/y").unwrap()),
        ("carl@b", carl.publish("prices/x").unwrap()),
    ];
    // Each round is less than any ring or queue on the way has room for, so all of it must come.
    for round in 0..20_u64 {
        let mut expected = [const { VecDeque::new() }; 3];
        for number in 0..60_u64 {
            for (at, (_, publisher)) in publishers.iter_mut().enumerate() {
                let skipped = if (number + 7 * at as u64) % 20 == round { at as u64 + 1 } else { 0 };
                let missed = if publisher.sequence() == 0 { 0 } else { skipped };
                publisher.skip_to(publisher.sequence() + 1 + skipped).unwrap();
                let sequence = publisher.sequence() + 1;
                publisher.send(&[&sequence.to_le_bytes()[..], &vec![7; number as usize]].concat()).unwrap();
                expected[at].push_back((sequence, missed, number));
            }
        }
        while expected.iter().any(|expected| !expected.is_empty()) {
            let sample = all.recv_timeout(LONG).unwrap();
            let is = |(name, publisher): &(&str, Publisher)| {
                (*name, &**publisher.topic()) == (sample.publisher().name.as_str(), sample.topic())
            };
            let at = publishers.iter().position(is).unwrap();
            let (sequence, missed, more) = expected[at].pop_front().unwrap();
            assert_eq!((sample.sequence(), sample.missed()), (sequence, missed));
            assert_eq!(sample.payload()[..8], sequence.to_le_bytes());
            assert_eq!(sample.payload()[8..], vec![7; more as usize]);
        }
    }
}

#[test]
fn what_is_lost_of_a_publisher_that_does_not_pause_is_counted_and_too_large_samples_too() {
    let mut pair = Pair::start(&["alice", "bob", "prices"]);
    let (mut alice, mut bob) = pair.clients();
    let mut all = alice.subscribe("prices").unwrap();
    let mut prices = Publisher::options().ring_size(1 << 20).publish(bob.caller(), "prices").unwrap();
    for _ in 0..100_000_u64 {
        prices.send(&(prices.sequence() + 1).to_le_bytes()).unwrap();
    }
    // More than the ring at the other end has room for, though not more than this one.
    prices.send(&[7; 100_000]).unwrap();
    let (mut taken, mut missed, mut last) = (0, 0, 0);
    while last <= 100_001 {
        // The last one may be lost, too.
        prices.send(&(prices.sequence() + 1).to_le_bytes()).unwrap();
        match all.recv_timeout(Duration::from_millis(20)) {
            Ok(sample) => {
                assert_eq!(sample.payload(), sample.sequence().to_le_bytes());
                // Of what came before there was a topic here, nobody counts anything.
                missed = if taken == 0 { sample.sequence() - 1 } else { missed + sample.missed() };
                (taken, last) = (taken + 1, sample.sequence());
                assert_eq!(taken + missed, last, "every gap is counted");
            }
            Err(SampleError::TimedOut) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(missed > 0, "at least the large one is lost");
}
