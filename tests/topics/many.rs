//! Many publishers, and many subscribers: more than a thread can sleep on at once.

use super::common::{begin, eventually};
use super::{next, number, pair, send_number};
use ringpost::{Publisher, Subscriber, WaitStrategy};

/// More than the kernel takes words.
const MANY: usize = 140;

fn options() -> ringpost::PublishOptions {
    Publisher::options().ring_size(4096)
}

#[test]
fn a_subscriber_sleeps_on_more_publishers_than_the_kernel_takes_words() {
    let (bus, _alice, mut bob) = pair();
    let asleep = Subscriber::options().wait(WaitStrategy::Park);
    let mut sub = asleep.subscribe(bob.caller(), "many/*").unwrap();
    let mut clients: Vec<_> = (0..4).map(|at| bus.client(&format!("client{at}"))).collect();
    let mut publishers = Vec::new();
    for at in 0..MANY {
        let topic = format!("many/{at}");
        publishers.push(options().publish(clients[at % 4].caller(), topic.as_str()).unwrap());
        if at % 3 == 0 {
            // Some have published before the subscriber looks.
            send_number(&mut publishers[at], at as u64);
        }
    }
    let first = (0..MANY).step_by(3).count();
    for _ in 0..first {
        let sample = next(&mut sub);
        assert_eq!(sample.topic(), format!("many/{}", number(&sample)));
    }
    eventually("all came", || sub.publishers().len() == MANY);
    // The last ones are those beyond what is slept on.
    for at in (0..MANY).rev().take(30).chain(0..10) {
        let (sender, begun) = std::sync::mpsc::channel();
        let waiting = begin(move || {
            sender.send(()).unwrap();
            let sample = next(&mut sub);
            (sample, sub)
        });
        begun.recv().unwrap();
        send_number(&mut publishers[at], at as u64);
        let (sample, back) = waiting.end("a sample");
        assert_eq!((sample.topic(), number(&sample)), (&*format!("many/{at}"), at as u64));
        sub = back;
    }
    drop(publishers);
    eventually("all have ended", || {
        assert!(sub.try_recv().unwrap().is_none());
        sub.publishers().is_empty()
    });
}

#[test]
fn a_subscription_that_finds_many_publishers_has_them_all_when_it_is_made() {
    let (bus, _alice, mut bob) = pair();
    let mut clients: Vec<_> = (0..3).map(|at| bus.client(&format!("client{at}"))).collect();
    let mut publishers: Vec<_> = (0..60)
        .map(|at| options().publish(clients[at % 3].caller(), format!("many/{at}").as_str()).unwrap())
        .collect();
    let mut sub = bob.subscribe("many/*").unwrap();
    for publisher in &mut publishers {
        send_number(publisher, 7);
    }
    for _ in 0..60 {
        let sample = next(&mut sub);
        assert_eq!((number(&sample), sample.missed()), (7, 0));
    }
}

#[test]
fn one_sample_wakes_all_who_sleep() {
    let (bus, mut alice, _bob) = pair();
    let mut numbers = alice.publish("numbers").unwrap();
    let mut clients: Vec<_> = (0..8).map(|at| bus.client(&format!("client{at}"))).collect();
    let asleep = Subscriber::options().wait(WaitStrategy::Park);
    let mut subs: Vec<_> =
        (0..32).map(|at| asleep.subscribe(clients[at % 8].caller(), "numbers").unwrap()).collect();
    eventually("all are attached", || numbers.subscribers() == 32);
    for round in 1..=5 {
        let waiting: Vec<_> = subs
            .drain(..)
            .map(|mut sub| {
                begin(move || {
                    let sample = next(&mut sub);
                    (sample.sequence(), sub)
                })
            })
            .collect();
        send_number(&mut numbers, round);
        for waiting in waiting {
            let (sequence, sub) = waiting.end("a sample");
            assert_eq!(sequence, round);
            subs.push(sub);
        }
    }
}
