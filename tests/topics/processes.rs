//! Publishers and subscribers in other processes, which die.

use super::common::role::{Role, Stage, say, setting};
use super::common::{Bus, eventually};
use super::{next, number, register, send_number};
use ringpost::{Policy, Publisher, Subscriber};
use std::time::Duration;

// ---- the other process

/// Publishes as alice, as it is told.
pub fn publish(stage: &Stage) {
    let mut alice = register("alice");
    let size = setting("RING").unwrap_or(1 << 16);
    let mut options = Publisher::options().ring_size(size);
    if let Some(budget) = setting("BUDGET") {
        options = options.reliable(Duration::from_millis(budget));
    }
    let mut publisher = options.publish(alice.caller(), "numbers").unwrap();
    say("publishes");
    loop {
        let order = stage.order();
        let (word, rest) = order.split_once(' ').unwrap_or((&order, ""));
        match word {
            "send" => {
                let last = publisher.sequence() + rest.parse::<u64>().unwrap();
                while publisher.sequence() < last {
                    let next = publisher.sequence() + 1;
                    send_number(&mut publisher, next);
                }
                say(format_args!("sent {}", publisher.sequence()));
            }
            "forever" => loop {
                let next = publisher.sequence() + 1;
                send_number(&mut publisher, next);
            },
            "subscribers" => say(format_args!("subscribers {}", publisher.subscribers())),
            "evictions" => {
                let names: Vec<_> =
                    publisher.evictions().iter().map(|gone| gone.subscriber.name.to_string()).collect();
                say(format_args!("evictions {}", names.join(",")));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Subscribes as bob and takes what it is told to take.
pub fn subscribe(stage: &Stage) {
    let mut bob = register(&setting::<String>("NAME").unwrap_or("bob".into()));
    let reliable = setting::<u32>("RELIABLE").is_some();
    let policy = if reliable { Policy::Reliable } else { Policy::Lossy };
    let mut sub = Subscriber::options().policy(policy).subscribe(bob.caller(), "numbers").unwrap();
    say("subscribed");
    loop {
        let order = stage.order();
        let (word, rest) = order.split_once(' ').unwrap_or((&order, ""));
        match word {
            "take" => {
                let mut last = 0;
                for _ in 0..rest.parse::<u64>().unwrap() {
                    let sample = next(&mut sub);
                    assert_eq!((number(&sample), sample.missed()), (sample.sequence(), 0));
                    last = sample.sequence();
                }
                say(format_args!("took {last}"));
            }
            "sleep" => {
                say("sleeps");
                let sample = sub.recv().unwrap();
                say(format_args!("woke {}", sample.sequence()));
            }
            other => panic!("{other:?}"),
        }
    }
}

// ---- this one

fn start(bus: &Bus, role: &str, settings: &[(&str, &str)]) -> Role {
    let path = [("PATH", bus.path().to_str().unwrap())];
    let mut started = Role::start(role, &[&path, settings].concat());
    started.hear(if role == "publishes" { "publishes" } else { "subscribed" });
    started
}

fn tell(role: &mut Role, order: &str, word: &str) -> String {
    role.tell(order);
    role.hear(word)
}

#[test]
fn what_a_publisher_published_that_died_is_read_first() {
    let bus = Bus::start();
    let mut bob = bus.client("bob");
    let mut sub = bob.subscribe("numbers").unwrap();
    let mut alice = start(&bus, "publishes", &[]);
    assert_eq!(tell(&mut alice, "send 500", "sent"), "500");
    alice.kill();
    for count in 1..=500 {
        let sample = next(&mut sub);
        assert_eq!((number(&sample), sample.sequence(), sample.missed()), (count, count, 0));
    }
    eventually("the part has ended", || sub.try_recv().unwrap().is_none() && sub.publishers().is_empty());
    // Another one takes its place.
    let mut alice = start(&bus, "publishes", &[]);
    tell(&mut alice, "send 1", "sent");
    assert_eq!(next(&mut sub).sequence(), 1);
}

#[test]
fn a_publisher_that_is_killed_while_it_publishes_leaves_whole_samples() {
    let bus = Bus::start();
    let mut bob = bus.client("bob");
    for _ in 0..10 {
        let mut sub = bob.subscribe("numbers").unwrap();
        let mut alice = start(&bus, "publishes", &[("RING", "4096")]);
        alice.tell("forever");
        let mut last = 0;
        let mut check = |sample: &ringpost::OwnedSample| {
            assert_eq!(number(sample), sample.sequence());
            assert_eq!(sample.sequence(), last + sample.missed() + 1);
            last = sample.sequence();
        };
        for _ in 0..1000 {
            check(&next(&mut sub));
        }
        alice.kill();
        eventually("the part has ended", || {
            while let Some(sample) = sub.try_recv().unwrap() {
                check(&sample.to_owned());
            }
            sub.publishers().is_empty()
        });
        drop(alice);
        eventually("the name is free", || bob.look_up("alice").unwrap().is_none());
    }
}

#[test]
fn a_subscriber_that_dies_costs_nobody_anything() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    let mut carol = bus.client("carol");
    let budget = Duration::from_secs(600);
    let options = Publisher::options().ring_size(4096).reliable(budget);
    let mut numbers = options.publish(alice.caller(), "numbers").unwrap();
    let mut other = carol.subscribe("numbers").unwrap();
    for reliable in [&[][..], &[("RELIABLE", "1")]] {
        let mut bob = start(&bus, "subscribes", reliable);
        eventually("both are attached", || numbers.subscribers() == 2);
        for _ in 0..20 {
            let next = numbers.sequence() + 1;
            send_number(&mut numbers, next);
        }
        tell(&mut bob, "take 20", "took");
        bob.tell("sleep");
        bob.hear("sleeps");
        bob.kill();
        // A reliable one is waited for until the server has said that it is gone.
        for _ in 0..1000 {
            let next = numbers.sequence() + 1;
            send_number(&mut numbers, next);
        }
        eventually("its end is noticed", || numbers.subscribers() == 1);
        while other.try_recv().unwrap().is_some() {}
    }
    assert!(numbers.evictions().is_empty());
}

#[test]
fn sleepers_in_several_processes_are_all_woken() {
    let bus = Bus::start();
    let mut alice = bus.client("alice");
    let mut numbers = alice.publish("numbers").unwrap();
    let path = [("PATH", bus.path().to_str().unwrap())];
    let roles = (0..4).map(|at| {
        let name = format!("bob{at}");
        let mut role = Role::start("subscribes", &[&path[..], &[("NAME", name.as_str())]].concat());
        role.hear("subscribed");
        role
    });
    let mut bobs: Vec<_> = roles.collect();
    eventually("all are attached", || numbers.subscribers() == 4);
    for round in 1..=20 {
        for bob in &mut bobs {
            tell(bob, "sleep", "sleeps");
        }
        send_number(&mut numbers, round);
        for bob in &mut bobs {
            assert_eq!(bob.hear("woke"), round.to_string());
        }
    }
}
