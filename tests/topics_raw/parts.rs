//! Tests of what a publisher and a subscriber get.

use super::common::raw_bus::Bus;
use super::common::raw_links::is_ready;
use super::common::raw_topics::*;
use super::common::role::Role;
use super::common::{LIMIT, eventually};
use super::{Ears, Joined, all_parts, joined, publish, source, subscribe};
use rustix::event::PollFlags;
use rustix::fs::fstat;
use rustix::io::{read, write};
use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// A flag of a subscriber's part and one of a publisher's: the topic was published after the subscription.
const FROM_BEGINNING: u8 = 1;
const JOINED_FROM_BEGINNING: u8 = 4;
const OFFERS_RELIABLE: u8 = 2;

fn is_same(one: &OwnedFd, other: &OwnedFd) -> bool {
    let file = |fd| fstat(fd).map(|found| (found.st_dev, found.st_ino)).unwrap();
    file(one) == file(other)
}

/// Whether a bell rings, in time. What it has rung for is forgotten.
fn rings(bell: &OwnedFd) -> bool {
    is_ready(bell, PollFlags::IN, LIMIT) && read(bell, &mut [0; 64]).is_ok()
}

/// Whether a bell has not rung, as far as can be seen.
fn is_quiet(bell: &OwnedFd) -> bool {
    !is_ready(bell, PollFlags::IN, Duration::ZERO)
}

/// What is written into one end comes out of the other.
fn are_joined(writer: &OwnedFd, reader: &OwnedFd) -> bool {
    write(writer, b"x") == Ok(1) && read(reader, &mut [0; 9]) == Ok(1)
}

#[test]
fn both_sides_get_what_belongs_to_them_and_are_rung_when_it_comes() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    let (alices, bobs) = (alice.attend(bus.path()), bob.attend(bus.path()));
    let (early, count) = bob.subscribe(bus.path(), LATEST, MAY_SLEEP, "prices/*").unwrap();
    assert_eq!(count, 0);
    let wish = Wish { epoch: 77, first: 1000, ..Wish::of("prices/AAPL") };
    let mut prices = alice.publish_topic(bus.path(), &wish).unwrap();
    assert!(rings(&bobs) && is_quiet(&alices));
    let part = source(bob.part(bus.path()));
    assert_eq!((part.subscription, part.publication, part.epoch, part.first), (early, prices.id, 77, 1000));
    assert_eq!((part.ring_size, part.flags, part.rest.len()), (4096, FROM_BEGINNING, 0));
    assert_eq!((part.key, part.name.as_str(), part.topic.as_str()), (alice.key, "alice", "prices/AAPL"));
    assert_eq!(part.pid, std::process::id());
    let pidfd = format!("/proc/self/fdinfo/{}", part.process.as_raw_fd());
    assert!(std::fs::read_to_string(pidfd).unwrap().contains(&format!("Pid:\t{}\n", part.pid)));
    assert!(is_same(&part.segment, &prices.segment));
    assert!(rings(&alices) && is_quiet(&bobs));
    let Joined { publication, subscription, line, policy, flags, page, rest } =
        joined(alice.part(bus.path()));
    assert_eq!((publication, subscription, line), (prices.id, early, part.line));
    assert_eq!((policy, flags, rest.len()), (LATEST, MAY_SLEEP | JOINED_FROM_BEGINNING, 0));
    assert!(is_same(&page, &part.page));
    // They share the page, and bob reads what alice publishes.
    Page::of(&page, line).word32(STATE).store(1, std::sync::atomic::Ordering::Release);
    assert_eq!(Page::of(&part.page, part.line).state(), ATTACHED);
    let mut ears = Ears::of(&part);
    prices.send(b"one");
    prices.send(&[7; 900]);
    assert_eq!(ears.all(), [b"one".to_vec(), vec![7; 900]]);
    // One who subscribes later is not rung for it, and does not begin at the beginning.
    let (late, count) = bob.subscribe(bus.path(), LOSSY, 0, "**").unwrap();
    assert!(count == 1 && is_quiet(&bobs));
    let part = source(bob.part(bus.path()));
    assert_eq!((part.subscription, part.flags), (late, 0));
    assert!(!is_same(&part.page, &page), "each pair has a page of its own");
    assert_eq!(joined(alice.part(bus.path())).flags, 0);
    assert!(bob.part(bus.path()).is_none() && alice.part(bus.path()).is_none());
    let listed = all_topics(bus.path());
    assert_eq!(listed, [(prices.id, "prices/AAPL".to_owned(), "alice".to_owned(), 2)]);
}

#[test]
fn pipes_come_for_those_who_arm_and_for_a_publisher_that_waits() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    let wish = Wish { reliable: true, ..Wish::of("a") };
    alice.publish_topic(bus.path(), &wish).unwrap();
    for (policy, flags, subscribers, publishers) in [
        (LOSSY, MAY_SLEEP, 0, 0),
        (LATEST, MAY_SLEEP | ARMS, 2, 1),
        (RELIABLE, 0, 1, 2),
        (RELIABLE, MAY_SLEEP | ARMS, 3, 3),
    ] {
        bob.subscribe(bus.path(), policy, flags, "a").unwrap();
        let (part, joined) = (source(bob.part(bus.path())), joined(alice.part(bus.path())));
        assert_eq!((part.rest.len(), joined.rest.len()), (subscribers, publishers), "{policy} {flags}");
        assert_eq!((part.flags, joined.policy, joined.flags), (OFFERS_RELIABLE, policy, flags));
        if flags & ARMS != 0 {
            // The subscriber's own pipe, which both write.
            assert!(are_joined(&part.rest[1], &part.rest[0]) && are_joined(&joined.rest[0], &part.rest[0]));
        }
        if policy == RELIABLE {
            let [.., own, write] = &joined.rest[..] else { panic!() };
            let others = part.rest.last().unwrap();
            assert!(are_joined(write, own) && are_joined(others, own));
        }
    }
    // If the publisher does not offer it, there is none.
    let carol = bus.register("carol");
    carol.publish_topic(bus.path(), &Wish::of("b")).unwrap();
    bob.subscribe(bus.path(), RELIABLE, 0, "b").unwrap();
    let part = source(bob.part(bus.path()));
    assert_eq!((part.flags, part.rest.len()), (0, 0));
}

#[test]
fn publishers_are_told_how_many_want_them_to_wait() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    for (policy, pattern) in [(RELIABLE, "a"), (LOSSY, "a"), (RELIABLE, "**"), (RELIABLE, "b")] {
        bob.subscribe(bus.path(), policy, 0, pattern).unwrap();
    }
    let unsealed = alice.ask_to_publish(bus.path(), &Wish::of("a")).unwrap();
    let _memory = Memory::writable(&unsealed.segment).unwrap();
    rustix::fs::fcntl_add_seals(&unsealed.segment, PUBLISHERS_SEALS).unwrap();
    assert_eq!(alice.say_published(bus.path(), unsealed.id), Ok(2));
    assert_eq!(alice.say_published(bus.path(), unsealed.id), Ok(2), "it may ask again");
    assert_eq!(all_parts(&bob, &bus).len(), 3);
}

#[test]
fn a_bell_rings_for_what_waits_already_and_there_is_one_for_each_client() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    let topic = publish(&alice, &bus, "a");
    let early = bob.attend(bus.path());
    subscribe(&bob, &bus, "a");
    assert!(is_quiet(&early));
    let mut bell = bob.attend(bus.path());
    assert!(rings(&bell) && is_ready(&early, PollFlags::empty(), LIMIT), "the old one has ended");
    assert_eq!(source(bob.part(bus.path())).publication, topic.id);
    assert!(bob.part(bus.path()).is_none());
    for _ in 0..100 {
        bell = bob.attend(bus.path());
    }
    assert!(is_quiet(&bell));
    // A topic, two bells, and a page that waits for its publisher.
    assert!(rings(&alice.attend(bus.path())));
    bus.has(2, 1 + 2 + 1);
}

#[test]
fn several_publish_one_topic_also_to_themselves() {
    let bus = Bus::start(&[]);
    let clients: Vec<_> = ["alice", "bob", "carol"].map(|name| bus.register(name)).into();
    let topics: Vec<_> = clients.iter().map(|client| publish(client, &bus, "state").id).collect();
    subscribe(&clients[0], &bus, "state");
    let (mut publications, mut own) = (BTreeSet::new(), 0);
    for part in all_parts(&clients[0], &bus) {
        match part {
            Part::Subscriber(part) => {
                assert!(publications.insert(part.publication));
                own += usize::from(part.key == clients[0].key);
            }
            Part::Publisher { publication, .. } => assert_eq!(publication, topics[0]),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((publications.into_iter().collect::<Vec<_>>(), own), (topics.clone(), 1));
    assert_eq!(joined(clients[2].part(bus.path())).publication, topics[2]);
}

/// A publisher looks at a word of each page. They must not all lie at the same offset.
#[test]
fn the_words_of_pages_begin_at_different_lines() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    publish(&alice, &bus, "a");
    let lines: BTreeSet<u16> = (0..57)
        .map(|_| {
            subscribe(&bob, &bus, "a");
            let (part, joined) = (source(bob.part(bus.path())), joined(alice.part(bus.path())));
            assert!(part.line == joined.line && part.line <= 59);
            part.line
        })
        .collect();
    assert!(lines.len() >= 50, "{lines:?}");
}

#[test]
fn a_publisher_is_told_of_the_end_of_what_it_has_taken_only() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    let bell = alice.attend(bus.path());
    let topic = publish(&alice, &bus, "a");
    let ids: Vec<u64> = (0..3).map(|_| subscribe(&bob, &bus, "a")).collect();
    bob.leave_topic(bus.path(), ids[0]).unwrap();
    assert_eq!(all_parts(&bob, &bus).len(), 2, "the first one has ended");
    assert_eq!(joined(alice.part(bus.path())).subscription, ids[1]);
    assert!(rings(&bell));
    ids[1..].iter().for_each(|id| drop(bob.leave_topic(bus.path(), *id).unwrap()));
    assert!(rings(&bell));
    match &all_parts(&alice, &bus)[..] {
        [Part::Ended { publication, subscription }] => {
            assert_eq!((*publication, *subscription), (topic.id, ids[1]));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(all_topics(bus.path())[0].3, 0);
    bus.has(2, 2);
}

/// A publisher that says nothing in its segment, and whose process lives on, does not keep a subscriber's
/// part.
#[test]
fn a_subscriber_is_told_of_the_end_of_what_it_has_taken_only() {
    let bus = Bus::start(&[]);
    let (alice, bob, carol) = (bus.register("alice"), bus.register("bob"), bus.register("carol"));
    let bell = bob.attend(bus.path());
    let ids: Vec<u64> = (0..3).map(|_| subscribe(&bob, &bus, "**")).collect();
    let topics: Vec<_> = ["a", "b"].map(|topic| publish(&alice, &bus, topic)).into();
    assert!(rings(&bell));
    assert_eq!(all_parts(&bob, &bus).len(), 6);
    bob.leave_topic(bus.path(), ids[1]).unwrap();
    alice.leave_topic(bus.path(), topics[0].id).unwrap();
    assert!(rings(&bell));
    // They come before anything else that it could take.
    let late = publish(&carol, &bus, "c");
    let parts = all_parts(&bob, &bus);
    let over = |part: &Part| match part {
        Part::Over { subscription, publication } => Some((*subscription, *publication)),
        _ => None,
    };
    let told: Vec<_> = parts.iter().map_while(over).collect();
    assert_eq!((told, parts.len()), (vec![(ids[0], topics[0].id), (ids[2], topics[0].id)], 4));
    // A client's end is that of all its topics. A subscription that ends meanwhile is told nothing.
    drop((alice, carol));
    eventually("they are gone", || all_topics(bus.path()).is_empty());
    bob.leave_topic(bus.path(), ids[0]).unwrap();
    let told: BTreeSet<_> = all_parts(&bob, &bus).iter().map(|part| over(part).unwrap()).collect();
    assert_eq!(told, BTreeSet::from([(ids[2], topics[1].id), (ids[2], late.id)]));
    // A bell that is made later rings for ends that wait.
    let dave = bus.register("dave");
    let short = publish(&dave, &bus, "d");
    assert_eq!(source(bob.part(bus.path())).publication, short.id);
    dave.leave_topic(bus.path(), short.id).unwrap();
    assert!(rings(&bob.attend(bus.path())));
}

#[test]
fn samples_of_a_publisher_that_left_at_once_reach_those_who_subscribed_before() {
    let bus = Bus::start(&[]);
    let (alice, bob, carol) = (bus.register("alice"), bus.register("bob"), bus.register("carol"));
    let bell = bob.attend(bus.path());
    let (before, slow) = (subscribe(&bob, &bus, "a"), subscribe(&carol, &bus, "*"));
    let mut topic = publish(&alice, &bus, "a");
    topic.send(b"hello");
    alice.leave_topic(bus.path(), topic.id).unwrap();
    assert!(all_topics(bus.path()).is_empty() && rings(&bell));
    let part = source(bob.part(bus.path()));
    assert_eq!((part.subscription, part.flags), (before, FROM_BEGINNING));
    assert_eq!(Ears::of(&part).all(), [b"hello"]);
    assert!(matches!(bob.part(bus.path()), Some(Part::Over { subscription, publication })
        if subscription == before && publication == topic.id));
    assert!(alice.part(bus.path()).is_none(), "it has no publication any more");
    assert_eq!(bob.subscribe(bus.path(), LOSSY, 0, "a").unwrap().1, 0);
    assert!(bob.part(bus.path()).is_none());
    // It may be published again, and then both are taken, each once.
    let again = publish(&alice, &bus, "a");
    assert_eq!(source(carol.part(bus.path())).publication, topic.id);
    assert!(matches!(carol.part(bus.path()), Some(Part::Over { subscription, .. }) if subscription == slow));
    assert_eq!(source(carol.part(bus.path())).publication, again.id);
    bus.has(3, 1 + 1 + 1);
}

#[test]
fn samples_of_a_publisher_that_died_reach_those_who_subscribed_before() {
    let bus = Bus::start(&[]);
    let bob = bus.register("bob");
    let subscription = subscribe(&bob, &bus, "short/*");
    let mut child = Role::start("publisher", &[("PATH", bus.path().to_str().unwrap())]);
    child.hear("published");
    let pid = child.pid();
    child.kill();
    eventually("the server has noticed", || all_topics(bus.path()).is_empty());
    let part = source(bob.part(bus.path()));
    assert_eq!((part.subscription, part.pid), (subscription, pid));
    assert!(is_ready(&part.process, PollFlags::IN, LIMIT), "its process has ended");
    assert_eq!(Ears::of(&part).all().len(), 3);
    bus.has(1, 0);
}

/// What nobody takes does not stay for ever.
#[test]
fn what_a_publisher_has_left_is_dropped_after_a_while() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    subscribe(&bob, &bus, "**");
    for number in 0..100 {
        let topic = publish(&alice, &bus, &format!("a/{number}"));
        alice.leave_topic(bus.path(), topic.id).unwrap();
    }
    // At most as many stay as one user may have, with one process.
    let of = |kind: &str| {
        let links = std::fs::read_dir(format!("/proc/{}/fd", bus.pid)).unwrap();
        let links = links.filter_map(|link| std::fs::read_link(link.unwrap().path()).ok());
        links.filter(|link| link.to_string_lossy().contains(kind)).count()
    };
    assert!(of("ringpost-topic") <= 64 && of("pidfd") <= 2 + 1);
    bus.has(2, 0);
    assert!(bob.part(bus.path()).is_none());
}
