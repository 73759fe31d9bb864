//! What one process sees: order, sequences, policies, history, patterns, large samples.

use super::common::{LIMIT, eventually};
use super::{next, number, pair, payloads, send_number};
use ringpost::{Overrun, Policy, Publisher, SampleGrant, SampleView, Subscriber, WaitStrategy};
use std::io::Write;
use std::time::Duration;

#[test]
fn samples_come_in_order_with_what_belongs_to_them() {
    let (_bus, mut alice, mut bob) = pair();
    let mut prices = alice.publish("prices/AAPL").unwrap();
    let mut sub = bob.subscribe("prices/*").unwrap();
    eventually("it is attached", || prices.subscribers() == 1);
    assert_eq!(prices.sequence(), 0);
    for count in 1..=1000_u64 {
        send_number(&mut prices, count);
        let sample = sub.recv().unwrap();
        assert_eq!((sample.sequence(), sample.missed()), (count, 0));
        assert_eq!(sample.read::<u64>().unwrap(), count);
        assert_eq!((sample.topic(), sample.publisher().key), ("prices/AAPL", alice.key()));
    }
    assert_eq!(sub.publishers().len(), 1);
    assert!(sub.try_recv().unwrap().is_none());
    assert_eq!((prices.sequence(), sub.lag()), (1000, 0));
}

#[test]
fn a_thousand_samples_are_there_when_nobody_took_one_meanwhile() {
    let (_bus, mut alice, mut bob) = pair();
    let mut prices = Publisher::options().ring_size(1 << 20).publish(alice.caller(), "prices").unwrap();
    let mut sub = bob.subscribe("**").unwrap();
    for count in 1..=1000 {
        send_number(&mut prices, count);
    }
    assert!(sub.lag() >= 64_000, "{}", sub.lag());
    for count in 1..=1000 {
        let sample = next(&mut sub);
        assert_eq!((number(&sample), sample.sequence(), sample.missed()), (count, count, 0));
    }
}

#[test]
fn a_lossy_subscriber_counts_what_it_missed() {
    let (_bus, mut alice, mut bob) = pair();
    let mut ticks = Publisher::options().ring_size(4096).publish(alice.caller(), "ticks").unwrap();
    let mut sub = bob.subscribe("ticks").unwrap();
    let (mut sent, mut seen, mut missed) = (0, 0, 0);
    for round in 0..50 {
        for _ in 0..round * 7 {
            sent += 1;
            send_number(&mut ticks, sent);
        }
        while let Some(sample) = sub.try_recv().unwrap() {
            assert_eq!(sample.sequence(), seen + missed + sample.missed() + 1);
            assert_eq!(sample.read::<u64>().unwrap(), sample.sequence());
            seen += 1;
            missed += sample.missed();
        }
        assert_eq!(seen + missed, sent, "each gap is told");
    }
    assert!(missed > 0 && seen > 0);
}

#[test]
fn the_latest_policy_takes_the_newest_sample_only() {
    let (_bus, mut alice, mut bob) = pair();
    let mut state = alice.publish("state").unwrap();
    let mut sub = Subscriber::options().policy(Policy::Latest).subscribe(bob.caller(), "state").unwrap();
    assert!(sub.try_recv().unwrap().is_none());
    for (first, last) in [(1, 1), (2, 9), (10, 200)] {
        for count in first..=last {
            send_number(&mut state, count);
        }
        let sample = next(&mut sub);
        assert_eq!((number(&sample), sample.sequence(), sample.missed()), (last, last, last - first));
        assert!(sub.try_recv().unwrap().is_none());
    }
}

#[test]
fn history_begins_with_the_last_samples_that_are_still_there() {
    let (_bus, mut alice, mut bob) = pair();
    let mut ticks = Publisher::options().ring_size(4096).publish(alice.caller(), "ticks").unwrap();
    let with = |history| Subscriber::options().history(history);
    let mut none = bob.subscribe("ticks").unwrap();
    for count in 1..=10 {
        send_number(&mut ticks, count);
    }
    assert_eq!(payloads(&mut none, 10).len(), 10);
    for (wanted, first) in [(0, 11), (1, 10), (3, 8), (10, 1), (99, 1)] {
        let mut sub = with(wanted).subscribe(bob.caller(), "ticks").unwrap();
        for expected in first..=10 {
            let sample = next(&mut sub);
            assert_eq!((number(&sample), sample.sequence(), sample.missed()), (expected, expected, 0));
        }
        assert!(sub.try_recv().unwrap().is_none(), "{wanted}");
    }
    for count in 11..=500 {
        send_number(&mut ticks, count);
    }
    let mut all = with(1000).subscribe(bob.caller(), "ticks").unwrap();
    let first = next(&mut all);
    assert!(number(&first) > 400 && first.missed() == 0, "{first:?}");
    for expected in number(&first) + 1..=500 {
        assert_eq!(number(&next(&mut all)), expected);
    }
}

#[test]
fn a_subscription_before_any_publisher_misses_no_first_sample() {
    let (_bus, mut alice, mut bob) = pair();
    let mut sub = bob.subscribe("a/**").unwrap();
    for round in 0..50 {
        let mut publisher = alice.publish("a/b/c").unwrap();
        send_number(&mut publisher, round);
        drop(publisher);
        let sample = next(&mut sub);
        assert_eq!((number(&sample), sample.sequence(), sample.missed()), (round, 1, 0));
    }
}

/// Also one that was not looked at while publishers came and went.
#[test]
fn what_publishers_published_that_have_ended_is_still_read() {
    let (_bus, mut alice, mut bob) = pair();
    let mut sub = bob.subscribe("a/*").unwrap();
    for round in 0..20 {
        send_number(&mut alice.publish("a/b").unwrap(), round);
    }
    let mut numbers: Vec<_> = (0..20).map(|_| number(&next(&mut sub))).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    assert!(sub.try_recv().unwrap().is_none() && sub.publishers().is_empty());
}

#[test]
fn several_publishers_of_a_topic_each_keep_their_order() {
    let (bus, mut alice, mut bob) = pair();
    let mut carol = bus.client("carol");
    let mut sub = bob.subscribe("prices/*").unwrap();
    let mut publishers = [
        alice.publish("prices/AAPL").unwrap(),
        carol.publish("prices/AAPL").unwrap(),
        carol.publish("prices/MSFT").unwrap(),
    ];
    eventually("all came", || sub.publishers().len() == 3);
    for count in 1..=100 {
        for publisher in &mut publishers {
            send_number(publisher, count);
        }
    }
    let mut last = [0; 3];
    for _ in 0..300 {
        let sample = next(&mut sub);
        let of = match (sample.topic(), sample.publisher().name.as_str()) {
            ("prices/AAPL", "alice") => 0,
            ("prices/AAPL", "carol") => 1,
            ("prices/MSFT", "carol") => 2,
            other => panic!("{other:?}"),
        };
        last[of] += 1;
        assert_eq!((number(&sample), sample.sequence(), sample.missed()), (last[of], last[of], 0));
        assert!(last.iter().max().unwrap() - last.iter().min().unwrap() <= 1, "in turn: {last:?}");
    }
    let mut names: Vec<_> = sub.publishers().iter().map(|peer| peer.name.to_string()).collect();
    names.sort();
    assert_eq!(names, ["alice", "carol", "carol"]);
}

#[test]
fn patterns_take_what_they_match_and_nothing_else() {
    let (_bus, mut alice, mut bob) = pair();
    let mut one = bob.subscribe("a/*/c").unwrap();
    let mut many = bob.subscribe("a/**").unwrap();
    let mut exact = bob.subscribe("a/x/c").unwrap();
    for topic in ["a/x/c", "a/y/c", "a/x/y/c", "b/x/c", "a"] {
        alice.publish(topic).unwrap().send(topic).unwrap();
    }
    let taken = |sub: &mut Subscriber, count| {
        let mut topics = payloads(sub, count);
        topics.sort();
        assert!(sub.try_recv().unwrap().is_none());
        topics.into_iter().map(|topic| String::from_utf8(topic).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(taken(&mut one, 2), ["a/x/c", "a/y/c"]);
    assert_eq!(taken(&mut many, 4), ["a", "a/x/c", "a/x/y/c", "a/y/c"]);
    assert_eq!(taken(&mut exact, 1), ["a/x/c"]);
}

#[test]
fn a_large_sample_is_written_and_read_in_place() {
    const FRAME: usize = 4 << 20;
    let (_bus, mut alice, mut bob) = pair();
    let mut frames =
        Publisher::options().ring_size(8 * FRAME).publish(alice.caller(), "camera/front").unwrap();
    let mut sub = bob.subscribe("camera/*").unwrap();
    let image: Vec<u8> = (0..FRAME).map(|at| (at % 251) as u8).collect();
    for round in 0..20_u64 {
        let mut frame = frames.grant(FRAME).unwrap();
        assert_eq!(frame.remaining(), FRAME);
        frame.write_all(&round.to_ne_bytes()).unwrap();
        frame.write_all(&image[8..]).unwrap();
        assert_eq!(frame.write(b"more").unwrap(), 0);
        frame.commit();
        let view = sub.recv_ref().unwrap();
        assert_eq!((view.len(), view.sequence(), view.missed()), (FRAME, round + 1, 0));
        assert_eq!(view.read_at::<u64>(0).unwrap(), Some(round));
        assert_eq!(view.read_at::<u64>(FRAME - 7).unwrap(), None, "it ends before");
        let mut part = [0; 1000];
        assert_eq!(view.copy_to(FRAME / 2, &mut part).unwrap(), 1000);
        assert_eq!(part, image[FRAME / 2..][..1000]);
        assert_eq!(view.copy_to(FRAME - 10, &mut part).unwrap(), 10);
        assert_eq!(view.copy_to(FRAME + 10, &mut part).unwrap(), 0);
        view.finish().unwrap();
    }
    drop(frames.grant(100).unwrap());
    assert!(sub.try_recv_ref().unwrap().is_none(), "nothing was published");
}

/// As code of another language does: what lies there is read without Rust's knowing that it may change.
fn read_there(view: &SampleView<'_>) -> Vec<u8> {
    let mut bytes = vec![0; view.len()];
    // SAFETY: so many bytes can be read there, and nobody writes there in these tests.
    unsafe { std::ptr::copy_nonoverlapping(view.as_ptr(), bytes.as_mut_ptr(), bytes.len()) };
    bytes
}

/// The same for what is written there.
fn write_there(grant: &mut SampleGrant<'_>, bytes: &[u8]) {
    assert!(bytes.len() <= grant.remaining());
    // SAFETY: so many bytes can be written there, and nobody else has the address.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), grant.as_mut_ptr(), bytes.len()) };
    grant.advance(bytes.len());
}

#[test]
fn a_large_sample_is_written_and_read_by_its_address() {
    const FRAME: usize = 4 << 20;
    let (_bus, mut alice, mut bob) = pair();
    let mut frames =
        Publisher::options().ring_size(8 * FRAME).publish(alice.caller(), "camera/front").unwrap();
    let mut sub = bob.subscribe("camera/*").unwrap();
    for round in 0..20_u8 {
        // Longer and shorter than the room, and given back.
        let image: Vec<u8> = (0..FRAME).map(|at| (at % 251) as u8 ^ round).collect();
        let mut given_back = frames.grant(FRAME).unwrap();
        write_there(&mut given_back, &image[..FRAME / 2]);
        drop(given_back);
        let mut frame = frames.grant_timeout(FRAME, LIMIT).unwrap();
        assert!(frame.as_mut_ptr().cast::<u64>().is_aligned());
        write_there(&mut frame, &image[..FRAME / 3]);
        write_there(&mut frame, &image[FRAME / 3..FRAME - usize::from(round)]);
        assert_eq!(frame.remaining(), usize::from(round));
        frame.commit();
        let view = sub.recv_ref_timeout(LIMIT).unwrap();
        assert_eq!((view.len(), view.sequence()), (FRAME - usize::from(round), u64::from(round) + 1));
        assert!(view.as_ptr().cast::<u64>().is_aligned());
        assert_eq!(read_there(&view), image[..FRAME - usize::from(round)]);
        view.check().unwrap();
        view.finish().unwrap();
    }
    frames.grant(0).unwrap().commit();
    let view = sub.recv_ref().unwrap();
    assert_eq!((view.as_ptr().is_null(), read_there(&view), view.check()), (false, Vec::new(), Ok(())));
}

#[test]
fn a_view_that_is_waited_for_comes_or_the_time_is_over() {
    let (_bus, mut alice, mut bob) = pair();
    let mut ticks = alice.publish("ticks").unwrap();
    let mut sub = bob.subscribe("ticks").unwrap();
    assert!(sub.recv_ref_timeout(Duration::ZERO).unwrap_err().is_timeout());
    assert!(sub.recv_ref_timeout(Duration::from_millis(5)).unwrap_err().is_timeout());
    let waiting = super::common::begin(move || {
        let view = sub.recv_ref_timeout(LIMIT).unwrap();
        view.read_at::<u64>(0).unwrap()
    });
    send_number(&mut ticks, 7);
    assert_eq!(waiting.end("a sample"), Some(7));
}

#[test]
fn a_view_that_was_overrun_says_so_and_the_next_sample_tells_the_gap() {
    let (_bus, mut alice, mut bob) = pair();
    let mut ticks = Publisher::options().ring_size(4096).publish(alice.caller(), "ticks").unwrap();
    let mut sub = bob.subscribe("ticks").unwrap();
    send_number(&mut ticks, 1);
    let view = sub.recv_ref().unwrap();
    assert_eq!((view.read_at::<u64>(0), view.check()), (Ok(Some(1)), Ok(())));
    for count in 2..=1000 {
        send_number(&mut ticks, count);
    }
    assert_eq!((view.check(), view.read_at::<u64>(0)), (Err(Overrun), Err(Overrun)));
    assert_eq!(view.finish(), Err(Overrun));
    let sample = next(&mut sub);
    assert_eq!(number(&sample), sample.sequence());
    assert_eq!(sample.sequence(), 2 + sample.missed());
}

#[test]
fn each_strategy_waits_for_samples() {
    let (_bus, mut alice, mut bob) = pair();
    for strategy in [WaitStrategy::Spin, WaitStrategy::Adaptive, WaitStrategy::Park] {
        let mut there = Publisher::options().wait(strategy).publish(alice.caller(), "there").unwrap();
        let mut back = bob.publish("back").unwrap();
        let mut to = Subscriber::options().wait(strategy).subscribe(bob.caller(), "there").unwrap();
        let mut from = Subscriber::options().wait(strategy).subscribe(alice.caller(), "back").unwrap();
        let echo = super::common::begin(move || {
            for _ in 0..300 {
                let sample = to.recv().unwrap();
                back.send(sample.payload()).unwrap();
            }
        });
        for round in 0..300_u64 {
            if round % 100 == 99 {
                // The other side sleeps, if it ever does.
                std::thread::sleep(Duration::from_millis(20));
            }
            send_number(&mut there, round);
            assert_eq!(number(&next(&mut from)), round);
        }
        echo.end("the echo");
    }
}

#[test]
fn the_iterator_gives_samples_until_the_end() {
    let (_bus, mut alice, mut bob) = pair();
    let mut ticks = alice.publish("ticks").unwrap();
    let mut sub = bob.subscribe("ticks").unwrap();
    for count in 0..10 {
        send_number(&mut ticks, count);
    }
    let closer = sub.closer();
    let mut numbers = Vec::new();
    for sample in sub.iter() {
        match sample {
            Ok(sample) => numbers.push(number(&sample)),
            Err(error) => assert!(error.is_disconnected(), "{error}"),
        }
        if numbers.len() == 10 {
            closer.close();
        }
    }
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
}
