//! What crosses between two nodes: presence, messages, calls, posts and topics.

mod common;

use std::collections::VecDeque;
use std::time::Duration;

use common::{Bus, LONG, Pair, vanishes, watch};
use ringpost::{CallError, ConnectError, Publisher, SampleError, SendError, Subscriber};

#[test]
fn only_what_is_exported_appears_and_vanishes_when_it_leaves() {
    let pair = Pair::start(&["alice", "bob"]);
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
    let pair = Pair::start(&["alice", "bob"]);
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
    let pair = Pair::start(&["alice", "bob"]);
    let (mut alice, mut bob) = pair.clients();
    let mut sent = 0;
    let full = loop {
        match alice.try_send("bob@b", &[7; 4096][..]) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, SendError::InboxFull), "{full:?}");
    // The other node says that it was not delivered, in time: a part of the patience is kept for the way.
    let late = alice.caller().send_timeout("bob@b", &[7; 4096][..], Duration::from_secs(4));
    assert_eq!(late, Err(SendError::TimedOut));
    for _ in 0..sent {
        bob.try_recv().unwrap().unwrap();
    }
    assert!(bob.try_recv().unwrap().is_none(), "a refused message must not be there");
    alice.caller().send_timeout("bob@b", b"now", LONG).unwrap();
    assert_eq!(bob.try_recv().unwrap().unwrap().payload(), b"now");
}

/// However long its message would wait for room there.
#[test]
fn a_client_whose_message_waits_for_room_vanishes_when_it_leaves() {
    let pair = Pair::start(&["**"]);
    let (mut alice, mut bob) = pair.clients();
    let mut carl = pair.a.client("carl");
    let mut presence = watch(&mut bob, "alice@a");
    while carl.try_send("bob@b", &[7; 4096][..]).is_ok() {}
    let closer = alice.closer();
    let sends = std::thread::spawn(move || alice.send_timeout("bob@b", &[7; 8192][..], 20 * LONG));
    // Each goes there and back, and so does the one that waits meanwhile.
    for _ in 0..50 {
        carl.try_send("bob@b", &[7; 8192][..]).unwrap_err();
    }
    closer.close();
    sends.join().unwrap().unwrap_err();
    vanishes(&mut presence, "alice@a");
}

/// It may be quicker than the word of it to the other node.
#[test]
fn a_client_that_has_just_registered_can_send_and_call() {
    let pair = Pair::start(&["**"]);
    let (_alice, mut bob) = pair.clients();
    let served = bob.listen().unwrap().serve(|request, response| response.write(request.payload()));
    let _served = served.unwrap();
    for number in 0..30 {
        let mut sends = pair.a.client(&format!("sends {number}"));
        sends.send("bob@b", b"first").unwrap();
        assert_eq!(bob.try_recv().unwrap().unwrap().sender_name(), &*format!("sends {number}@a"));
        let mut calls = pair.a.client(&format!("calls {number}"));
        assert_eq!(&*calls.connect("bob@b").unwrap().call(b"first").unwrap(), b"first");
    }
    // And to one that has just appeared.
    let mut calls = pair.a.client("calls");
    for number in 0..30 {
        let name = format!("hears {number}");
        let mut hears = pair.b.client(&name);
        calls.wait_for(&*format!("{name}@b"), LONG).unwrap();
        calls.send(&*format!("{name}@b"), b"first").unwrap();
        assert_eq!(hears.try_recv().unwrap().unwrap().payload(), b"first");
    }
}

#[test]
fn a_client_that_is_not_exported_can_neither_send_nor_call() {
    let pair = Pair::start(&["alice", "bob"]);
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
    let pair = Pair::start(&["alice", "bob"]);
    let (mut alice, mut bob) = pair.clients();
    // Who is there can be connected to, and says that it takes no links.
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
    let pair = Pair::start(&["alice", "bob", "prices/**"]);
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
    let (mut taken, mut missed, mut last, mut before) = (0, 0, 0, None);
    while last < 500 {
        let sample = match all.recv_timeout(Duration::from_millis(200)) {
            Ok(sample) => sample,
            // The last was lost: only the next can tell that.
            Err(SampleError::TimedOut) => {
                prices.send(&(prices.sequence() as u32 + 1).to_le_bytes()[..]).unwrap();
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        assert_eq!((sample.topic(), sample.publisher().name.as_str()), ("prices/x/y", "bob@b"));
        assert!(sample.sequence() > last, "twice, or out of order");
        assert_eq!(sample.payload(), (sample.sequence() as u32).to_le_bytes());
        last = sample.sequence();
        before.get_or_insert(last - 1 - sample.missed());
        (taken, missed) = (taken + 1, missed + sample.missed());
    }
    assert_eq!(before.map(|before| before + taken + missed), Some(last), "every gap is counted");
}

/// Messages, calls and replies up to the largest that cross, and large samples. What is larger is refused,
/// and all goes on.
#[test]
fn large_blocks_cross_up_to_the_limit() {
    const MOST: usize = 16 << 20;
    let rings = || Bus::with_rings(64 << 20);
    let pair = Pair::of(rings(), rings(), &["alice", "bob", "large"], &[]);
    let (mut alice, mut bob) = pair.clients();
    let block = |len: usize| -> Vec<u8> { (0..len).map(|at| (at / 251 + at) as u8).collect() };
    let sizes = [4 << 10, (4 << 10) + 1, 100_000, 3 << 20, MOST];
    for len in sizes {
        alice.caller().send_timeout("bob@b", &block(len)[..], LONG).unwrap();
        assert!(bob.try_recv().unwrap().unwrap().payload() == block(len), "{len}");
    }
    let sent = alice.send("bob@b", &block(MOST + 1)[..]);
    assert_eq!(sent, Err(SendError::TooLarge { len: MOST + 1, max: MOST }));
    assert!(bob.try_recv().unwrap().is_none());
    let served = bob.listen().unwrap().serve(|request, response| match request.payload() {
        b"too much" => response.write(&[0; MOST + 1][..]),
        payload => response.write(payload),
    });
    let _served = served.unwrap();
    let mut link = alice.connect("bob@b").unwrap();
    for len in sizes {
        let reply = link.call(&block(len)[..]).unwrap_or_else(|error| panic!("{len}: {error}"));
        assert!(*reply == *block(len), "{len}");
    }
    for call in [&block(MOST + 1)[..], b"too much"] {
        match link.call(call) {
            Err(CallError::ServiceFailed(text)) => {
                assert!(text.contains("16777217 bytes are too many for the network"), "{text}");
            }
            other => panic!("{:?}", other.map(|reply| reply.len())),
        }
    }
    assert_eq!(&*link.call(b"still there").unwrap(), b"still there");

    let mut news = alice.subscribe("large").unwrap();
    let mut large = Publisher::options().ring_size(256 << 20).publish(bob.caller(), "large").unwrap();
    while large.subscribers() == 0 {
        std::thread::yield_now();
    }
    // One that is lost on a busy computer is sent again. The larger they are, the sooner a full queue drops
    // them: so not the largest here.
    let (mut sent, mut last) = (Vec::new(), None);
    for len in [4097, 100_000, 1 << 20, MOST + 1, 5000] {
        while sent.last() != Some(&len) || len <= MOST && last != Some(sent.len()) {
            large.send(&block(len)[..]).unwrap();
            sent.push(len);
            while len <= MOST && last != Some(sent.len()) {
                match news.recv_timeout(Duration::from_secs(2)) {
                    Ok(sample) => {
                        let number = sample.sequence() as usize;
                        assert!(sample.payload() == block(sent[number - 1]), "{len}");
                        assert!(
                            last.is_none_or(|last| number == last + 1 + sample.missed() as usize),
                            "a gap"
                        );
                        last = Some(number);
                    }
                    Err(SampleError::TimedOut) => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

/// What fits here need not fit there.
#[test]
fn a_block_that_is_too_large_for_the_other_server_is_refused_by_its_size() {
    let pair = Pair::of(Bus::with_rings(4 << 20), Bus::start(), &["alice", "bob"], &[]);
    let (mut alice, mut bob) = pair.clients();
    let sent = alice.send("bob@b", &[7; 1 << 20][..]);
    assert!(matches!(sent, Err(SendError::TooLarge { len, max }) if len == 1 << 20 && max < len), "{sent:?}");
    let served = bob.listen().unwrap().serve(|request, response| response.write(request.payload()));
    let _served = served.unwrap();
    let mut link = alice.connect("bob@b").unwrap();
    let called = link.call(&[7; 1 << 20][..]).map(|reply| reply.len());
    assert!(matches!(called, Err(CallError::ServiceFailed(_))), "{called:?}");
    assert_eq!(&*link.call(b"still there").unwrap(), b"still there");
    assert!(bob.try_recv().unwrap().is_none());
}

#[test]
fn batches_of_several_topics_and_publishers_keep_each_number_and_gap() {
    let pair = Pair::start(&["alice", "bob", "carl", "prices/**"]);
    let (mut alice, mut bob) = pair.clients();
    let mut carl = pair.b.client("carl");
    alice.wait_for("carl@b", LONG).unwrap();
    let mut all = alice.subscribe("**").unwrap();
    let mut publishers = [
        ("bob@b", bob.publish("prices/x").unwrap()),
        ("bob@b", bob.publish("prices/y").unwrap()),
        ("carl@b", carl.publish("prices/x").unwrap()),
    ];
    let (mut came, mut lost) = ([0_u64; 3], 0);
    for round in 0..20_u64 {
        let mut expected = [const { VecDeque::new() }; 3];
        for number in 0..60_u64 {
            for (at, (_, publisher)) in publishers.iter_mut().enumerate() {
                let skipped = if (number + 7 * at as u64) % 20 == round { at as u64 + 1 } else { 0 };
                publisher.skip_to(publisher.sequence() + 1 + skipped).unwrap();
                let sequence = publisher.sequence() + 1;
                publisher.send(&[&sequence.to_le_bytes()[..], &vec![7; number as usize]].concat()).unwrap();
                expected[at].push_back((sequence, skipped, number));
            }
        }
        while expected.iter().any(|expected| !expected.is_empty()) {
            let Ok(sample) = all.recv_timeout(Duration::from_millis(500)) else {
                // The last ones were dropped at a full queue. Only another one shows that.
                for ((_, publisher), expected) in publishers.iter_mut().zip(&mut expected) {
                    let sequence = publisher.sequence() + 1;
                    publisher.send(&sequence.to_le_bytes()[..]).unwrap();
                    expected.push_back((sequence, 0, 0));
                }
                continue;
            };
            let is = |(name, publisher): &(&str, Publisher)| {
                (*name, &**publisher.topic()) == (sample.publisher().name.as_str(), sample.topic())
            };
            let at = publishers.iter().position(is).unwrap();
            let mut missed = 0;
            let more = loop {
                let (sequence, skipped, more) = expected[at].pop_front().unwrap();
                missed += skipped;
                if sequence == sample.sequence() {
                    break more;
                }
                (missed, lost) = (missed + 1, lost + 1);
            };
            // Nobody misses what was before the first one.
            assert_eq!(sample.missed(), if came[at] > 0 { missed } else { 0 });
            assert_eq!(sample.payload()[..8], sample.sequence().to_le_bytes());
            assert_eq!(sample.payload()[8..], vec![7; more as usize]);
            came[at] += 1;
        }
    }
    // Each round is less than any ring or queue on the way has room for. A busy computer drops some.
    assert!(came.iter().sum::<u64>() > 10 * lost, "{came:?} came, and {lost} were lost");
}

#[test]
fn what_is_lost_of_a_publisher_that_does_not_pause_is_counted_and_too_large_samples_too() {
    let pair = Pair::start(&["alice", "bob", "prices"]);
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

/// What a client has received and answered is not lost because it leaves at once.
#[test]
fn whoever_leaves_has_received_and_answered() {
    let pair = Pair::start(&["**"]);
    let mut alice = pair.a.client("alice");
    let mut presence = alice.presence().unwrap();
    for _ in 0..20 {
        let mut bob = pair.b.client("bob");
        let serves = bob.listen().unwrap().serve(|request, response| response.write(request.payload()));
        let leaves = std::thread::spawn(move || {
            let serves = serves.unwrap();
            assert_eq!(bob.recv_timeout(LONG).unwrap().payload(), b"leave");
            drop((serves, bob));
        });
        alice.wait_for("bob@b", LONG).unwrap();
        let mut link = alice.connect("bob@b").unwrap();
        assert_eq!(link.call_timeout(b"ping", LONG).unwrap(), b"ping");
        alice.send_timeout("bob@b", b"leave", LONG).unwrap();
        vanishes(&mut presence, "bob@b");
        leaves.join().unwrap();
    }
}

#[test]
fn the_demo_shows_what_crosses_and_ends_well() {
    for _ in 0..3 {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ringpost-bridge"));
        let demo = command.arg("demo").stdin(std::process::Stdio::null()).output().unwrap();
        let (told, log) = (String::from_utf8_lossy(&demo.stdout), String::from_utf8_lossy(&demo.stderr));
        let shows = ["hello across", "returned SHOUT", "number 3 of bob@b"].map(|text| told.contains(text));
        assert!(demo.status.success() && shows == [true; 3], "{told}{log}");
    }
}
