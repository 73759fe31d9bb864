//! Tests of refusals: each says which rule or limit it was and what to do.

use super::common::raw::{RawClient, VERSION, datagram, dial, hear_all};
use super::common::raw_bus::{ALICES, BOBS, Bus, as_user, refused};
use super::common::raw_links::*;
use super::common::raw_topics::*;
use super::common::role::{Role, Stage, say, setting};
use super::common::{LIMIT, eventually};
use super::{Ears, all_parts, publish, source, subscribe};
use rustix::fs::{SealFlags, fcntl_add_seals, ftruncate};
use rustix::net::{SendFlags, send};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const INVALID_NAME: u16 = 4;
const NAME_TAKEN: u16 = 5;

/// What a client can ask with this proof, about a publication or subscription.
fn asks_of(proof: &[u8], id: u64) -> [(u16, Vec<u8>); 8] {
    let with = |rest: &[u8]| [proof, rest].concat();
    let about = with(&id.to_le_bytes());
    [
        (PUBLISH, with(&[&[0; 26][..], b"other"].concat())),
        (PUBLISHED, about.clone()),
        (SUBSCRIBE, with(b"\0\0**")),
        (LEAVE, about),
        (ATTEND, proof.to_vec()),
        (PART, proof.to_vec()),
        (PRESENCE, with(&[0])),
        (TAP, with(&[0, 9, 0])),
    ]
}

const UNPROVEN: [&str; 2] = ["no client with this key and secret", "register first"];

/// The role of another process that knows a client's secret.
pub fn ask_with_anothers_proof(stage: &Stage) {
    let path: PathBuf = setting("PATH").unwrap();
    let hex = stage.order();
    let proof: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    for (what, body) in asks_of(&proof, setting("ID").unwrap()) {
        refused(ask(&path, what, &body), NOT_REGISTERED, &UNPROVEN);
    }
    say("refused");
}

#[test]
fn only_the_process_and_user_that_registered_may_ask_and_only_with_the_secret() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    let (topic, subscription) = (publish(&alice, &bus, "a"), subscribe(&bob, &bus, "a"));
    let proof = bob.proof();
    for bit in [0, 127, 128, 255] {
        let mut other = proof.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        for (what, body) in asks_of(&other, subscription) {
            refused(ask(bus.path(), what, &body), NOT_REGISTERED, &UNPROVEN);
        }
    }
    let hex: String = proof.iter().map(|byte| format!("{byte:02x}")).collect();
    let settings = [("PATH", bus.path().to_str().unwrap()), ("ID", &subscription.to_string())];
    let mut asker = Role::start("asker", &settings);
    asker.tell(&hex);
    asker.hear("refused");
    as_user(ALICES, || {
        for (what, body) in asks_of(&proof, subscription) {
            refused(ask(bus.path(), what, &body), NOT_REGISTERED, &UNPROVEN);
        }
    });
    // Nobody has taken or ended anything.
    assert_eq!(source(bob.part(bus.path())).publication, topic.id);
    bus.has(2, 1 + 1);
}

#[test]
fn what_is_not_a_topic_a_pattern_or_a_size_is_refused() {
    let bus = Bus::start(&[]);
    let alice = bus.register("alice");
    let long = "x".repeat(129);
    for topic in ["", "/a", "a/", "a//b", "a/*", "**", "a$", "a#b", "a?", " a", "a\u{7}", &long] {
        let refusal = alice.ask_to_publish(bus.path(), &Wish::of(topic)).map(drop);
        refused(refusal, INVALID_NAME, &["not a valid topic"]);
    }
    for pattern in ["", "a//b", "a*", "a/$*", "a/***", &long] {
        refused(alice.subscribe(bus.path(), LOSSY, 0, pattern), INVALID_NAME, &["not a valid topic"]);
    }
    // One pattern has one form, and policies and flags are known.
    for (policy, flags, pattern) in [(0, 0, "a/**/**"), (0, 0, "**/*"), (3, 0, "a"), (0, 4, "a")] {
        refused(alice.subscribe(bus.path(), policy, flags, pattern), UNKNOWN, &["does not know"]);
    }
    for ring_size in [1, 2048, 5000, 1 << 31, u64::MAX] {
        let wish = Wish { ring_size, ..Wish::of("a") };
        refused(alice.ask_to_publish(bus.path(), &wish), UNKNOWN, &["ring size", "power of two"]);
    }
    let users = [1; 17];
    let wish = Wish { users: &users, ..Wish::of("a") };
    refused(alice.ask_to_publish(bus.path(), &wish), UNKNOWN, &["does not know"]);
    for what in [PUBLISH, PUBLISHED, SUBSCRIBE, LEAVE, ATTEND, PART, PRESENCE, TAP] {
        refused(ask(bus.path(), what, &alice.proof()[..31]), UNKNOWN, &["does not know"]);
    }
    for (what, rest) in
        [(PUBLISHED, 7), (PUBLISHED, 9), (LEAVE, 7), (ATTEND, 1), (PART, 1), (PRESENCE, 2), (TAP, 4)]
    {
        let body = [&alice.proof()[..], &vec![0; rest]].concat();
        refused(ask(bus.path(), what, &body), UNKNOWN, &["does not know"]);
    }
    refused(ask(bus.path(), PRESENCE, &[&alice.proof()[..], &[4]].concat()), UNKNOWN, &["does not know"]);
    refused(ask(bus.path(), TAP, &[&alice.proof()[..], &[4, 0, 0]].concat()), UNKNOWN, &["does not know"]);
    refused(ask(bus.path(), TOPICS, &[0; 7]), UNKNOWN, &["does not know"]);
    bus.has(1, 0);
    // The size of the server's rings, if none is given.
    let wish = Wish { ring_size: 0, ..Wish::of("a") };
    assert_eq!(alice.ask_to_publish(bus.path(), &wish).unwrap().ring_size, 4096);
}

#[test]
fn a_client_publishes_a_topic_once_and_ends_its_own_only() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    let topic = publish(&alice, &bus, "a");
    let again = || alice.ask_to_publish(bus.path(), &Wish::of("a"));
    refused(again(), NAME_TAKEN, &["this client publishes \"a\" already", "drop it first"]);
    let unsealed = alice.ask_to_publish(bus.path(), &Wish::of("b")).unwrap();
    refused(alice.ask_to_publish(bus.path(), &Wish::of("b")), NAME_TAKEN, &["publishes \"b\" already"]);
    let subscription = subscribe(&bob, &bus, "a");
    let not_there = ["no publication or subscription with this number"];
    for (client, id) in
        [(&bob, topic.id), (&alice, subscription), (&bob, unsealed.id), (&alice, 0), (&bob, 99)]
    {
        refused(client.leave_topic(bus.path(), id), NOT_FOUND, &not_there);
    }
    let no_such = ["no such publication of this client", "publish again"];
    for (client, id) in [(&bob, topic.id), (&alice, subscription), (&bob, unsealed.id), (&alice, 99)] {
        refused(client.say_published(bus.path(), id), NOT_FOUND, &no_such);
    }
    alice.leave_topic(bus.path(), topic.id).unwrap();
    refused(alice.leave_topic(bus.path(), topic.id), NOT_FOUND, &not_there);
    refused(alice.say_published(bus.path(), topic.id), NOT_FOUND, &no_such);
    again().unwrap();
    // What was not completed may be left, too.
    alice.leave_topic(bus.path(), unsealed.id).unwrap();
    alice.ask_to_publish(bus.path(), &Wish::of("b")).unwrap();
}

#[test]
fn memory_that_is_not_sealed_as_it_must_be_is_given_to_nobody() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    subscribe(&bob, &bus, "**");
    let bell = bob.attend(bus.path());
    for seals in [
        SealFlags::empty(),
        SealFlags::FUTURE_WRITE,
        SealFlags::SEAL,
        SealFlags::WRITE,
        SealFlags::WRITE | SealFlags::SEAL,
    ] {
        let unsealed = alice.ask_to_publish(bus.path(), &Wish::of("a")).unwrap();
        // It was sealed against this by the server.
        for len in [0, 4096, 1 << 20] {
            assert_eq!(ftruncate(&unsealed.segment, len), Err(rustix::io::Errno::PERM));
        }
        fcntl_add_seals(&unsealed.segment, seals).unwrap();
        refused(alice.say_published(bus.path(), unsealed.id), UNKNOWN, &["not sealed as it must be"]);
        refused(alice.say_published(bus.path(), unsealed.id), NOT_FOUND, &["publish again"]);
        assert!(bob.part(bus.path()).is_none() && all_topics(bus.path()).is_empty());
    }
    drop(bell);
    all_parts(&bob, &bus);
    bus.has(2, 1);
}

#[test]
fn a_publication_that_is_not_completed_in_time_is_dropped() {
    let bus = Bus::start(&[]);
    let alice = bus.register("alice");
    let began = Instant::now();
    let unsealed = alice.ask_to_publish(bus.path(), &Wish::of("a")).unwrap();
    let _other = alice.ask_to_publish(bus.path(), &Wish::of("b")).unwrap();
    bus.has(1, 2);
    let kept = publish(&alice, &bus, "c");
    bus.has(1, 1);
    assert!(began.elapsed() >= Duration::from_secs(5));
    let _memory = Memory::writable(&unsealed.segment).unwrap();
    fcntl_add_seals(&unsealed.segment, PUBLISHERS_SEALS).unwrap();
    refused(alice.say_published(bus.path(), unsealed.id), NOT_FOUND, &["within 5 seconds", "publish again"]);
    assert_eq!(all_topics(bus.path())[0].0, kept.id);
    publish(&alice, &bus, "a");
}

#[test]
fn a_topic_for_others_is_not_seen() {
    let bus = Bus::start(&[]);
    let bob = bus.register("bob");
    subscribe(&bob, &bus, "**");
    as_user(ALICES, || {
        let alice = bus.register("alice");
        let users = [ALICES];
        alice.publish_topic(bus.path(), &Wish { users: &users, ..Wish::of("secret") }).unwrap();
        assert_eq!(alice.subscribe(bus.path(), LOSSY, 0, "*").unwrap().1, 1);
        assert_eq!(source(alice.part(bus.path())).topic, "secret");
        assert_eq!(all_topics(bus.path()).len(), 1, "its publisher's user sees it");
    });
    as_user(BOBS, || assert!(all_topics(bus.path()).is_empty()));
    assert!(bob.part(bus.path()).is_none());
}

#[test]
fn a_user_s_topics_and_subscriptions_are_limited() {
    let bus = Bus::start(&[("TOPICS", "3"), ("SUBSCRIPTIONS", "4")]);
    let root = bus.register("root");
    let all = subscribe(&root, &bus, "**");
    as_user(ALICES, || {
        let (alice, other) = (bus.register("alice"), bus.register("other"));
        let topics = ["a", "b", "c"].map(|topic| publish(&alice, &bus, topic));
        let words = ["user 65532 has 3 topics", "its quota", "--quota topics=N"];
        refused(other.ask_to_publish(bus.path(), &Wish::of("d")), QUOTA, &words);
        // One that has ended makes room, although it is kept for who has not taken it.
        alice.leave_topic(bus.path(), topics[0].id).unwrap();
        let offered = other.ask_to_publish(bus.path(), &Wish::of("d")).unwrap();
        refused(alice.ask_to_publish(bus.path(), &Wish::of("e")), QUOTA, &words);
        alice.leave_topic(bus.path(), topics[1].id).unwrap();
        other.leave_topic(bus.path(), offered.id).unwrap();
        let ids: Vec<u64> = (0..3).map(|_| subscribe(&alice, &bus, "x")).collect();
        let (body, _) = ask(bus.path(), PRESENCE, &[&other.proof()[..], &[0]].concat()).unwrap();
        assert!(!body.is_empty());
        let words = ["user 65532 has 4 subscriptions", "--quota subscriptions=N"];
        refused(other.subscribe(bus.path(), LOSSY, 0, "x"), QUOTA, &words);
        refused(ask(bus.path(), PRESENCE, &[&alice.proof()[..], &[0]].concat()), QUOTA, &words);
        alice.leave_topic(bus.path(), ids[0]).unwrap();
        subscribe(&other, &bus, "x");
        // It counts until the client has ended.
        drop(other);
        eventually("its subscriptions are free", || alice.subscribe(bus.path(), LOSSY, 0, "x").is_ok());
    });
    // The server's own user has no quota.
    (0..10).for_each(|number| drop(publish(&root, &bus, &format!("own/{number}"))));
    assert!(all > 0);
}

#[test]
fn memory_of_topics_and_pages_counts_as_rings() {
    // Alice's channel has three rings and two pages, and a topic one of each.
    let bus = Bus::start(&[("BYTES", "36864")]);
    let root = bus.register("root");
    let topics: Vec<u64> = (0..6).map(|number| publish(&root, &bus, &format!("own/{number}")).id).collect();
    as_user(ALICES, || {
        let alice = bus.register("alice");
        let big = Wish { ring_size: 1 << 15, ..Wish::of("a") };
        let words = ["of 36864 bytes of rings", "this takes 36864", "ring-bytes=BYTES", "ring_size"];
        refused(alice.ask_to_publish(bus.path(), &big), QUOTA, &words);
        let topic = publish(&alice, &bus, "a");
        let subscription = subscribe(&alice, &bus, "own/*");
        let taken: Vec<u64> = (0..2).map(|_| source(alice.part(bus.path())).publication).collect();
        // The next is refused, once, and does not stand in the way of those that come when there is room.
        let part = || ask(bus.path(), PART, &alice.proof());
        refused(part(), QUOTA, &["topic \"own/2\" of client \"root\" is not read", "36864 of 36864 bytes"]);
        alice.leave_topic(bus.path(), topic.id).unwrap();
        let rest: Vec<u64> = (0..2).map(|_| source(alice.part(bus.path())).publication).collect();
        assert_eq!([taken, rest].concat(), [topics[0], topics[1], topics[3], topics[4]]);
        refused(part(), QUOTA, &["own/5"]);
        assert!(alice.part(bus.path()).is_none());
        alice.leave_topic(bus.path(), subscription).unwrap();
        publish(&alice, &bus, "a");
    });
}

#[test]
fn topics_and_subscriptions_come_no_faster_than_registrations() {
    let bus = Bus::start(&[("PACE", "20")]);
    as_user(ALICES, || {
        let alice = bus.register("alice");
        let ended = |id: u64| drop(alice.leave_topic(bus.path(), id).unwrap());
        let publish = || alice.ask_to_publish(bus.path(), &Wish::of("a")).map(|topic| ended(topic.id));
        let subscribe = || alice.subscribe(bus.path(), LOSSY, 0, "a").map(|(id, _)| ended(id));
        let words = ["20 registrations, links, topics or subscriptions a second", "try again later"];
        for over in [(0..1000).find_map(|_| publish().err()), (0..1000).find_map(|_| subscribe().err())] {
            refused::<()>(Err(over.expect("too many a second")), BUSY, &words);
        }
        eventually("it may try again later", || publish().is_ok());
    });
    let root = bus.register("root");
    (0..200).for_each(|_| root.leave_topic(bus.path(), subscribe(&root, &bus, "a")).map(drop).unwrap());
}

#[test]
fn a_server_that_ends_says_so_and_topics_go_on() {
    for dies in [false, true] {
        let mut bus = Bus::start(&[("GRACE", "60000")]);
        let (alice, bob) = (bus.register("alice"), bus.register("bob"));
        let bell = bob.attend(bus.path());
        let (mut topic, _) = (publish(&alice, &bus, "a"), subscribe(&bob, &bus, "a"));
        let part = source(bob.part(bus.path()));
        let line = dial(bus.path());
        if dies {
            bus.server.get_mut().unwrap().kill();
        } else {
            bus.server.get_mut().unwrap().tell("shutdown");
            eventually("it does not listen any more", || super::common::raw::try_dial(bus.path()).is_err());
            // A connection that was there before may be told.
            let _ = send(&line, &datagram(VERSION, PART, &alice.proof()), SendFlags::NOSIGNAL);
            if let Some((status, ..)) = hear_all(&line) {
                assert_eq!(status, SHUTTING_DOWN);
            }
        }
        assert!(is_ready(&bell, rustix::event::PollFlags::empty(), LIMIT), "nobody rings it any more");
        topic.send(b"still here");
        assert_eq!(Ears::of(&part).all(), [b"still here"]);
    }
}

#[test]
fn topics_leave_descriptors_to_clients_that_register() {
    let bus = Bus::start(&[("FILES", "128")]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    let bell = bob.attend(bus.path());
    subscribe(&bob, &bus, "**");
    let words = ["for clients that register", "ulimit -n"];
    // Another user's topics leave half, the server's own user's a quarter, connections included.
    let fill = |client: &RawClient, name: &str| {
        let published = |number| client.publish_topic(bus.path(), &Wish::of(&format!("{name}/{number}")));
        let (count, refusal) = (0..200).find_map(|number| Some((number, published(number).err()?))).unwrap();
        refused::<()>(Err(refusal), NO_RESOURCES, &words);
        count
    };
    let others = as_user(ALICES, || {
        let carol = bus.register("carol");
        (fill(&carol, "others"), carol)
    });
    let own = fill(&alice, "own");
    if let Some((others, _carol)) = &others {
        assert!((8..=64).contains(others) && own > 8, "{others} {own}");
    }
    let more: Vec<_> = (0..8).map(|number| bus.register(&format!("more {number}"))).collect();
    drop((more, bell));
    assert!(all_topics(bus.path()).len() >= own);
}

#[test]
fn whoever_does_not_read_its_parts_waits_and_nobody_else() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    (0..30).for_each(|number| drop(publish(&alice, &bus, &format!("a/{number}"))));
    subscribe(&bob, &bus, "**");
    let unread = |_| {
        let line = dial(bus.path());
        send(&line, &datagram(VERSION, PART, &bob.proof()), SendFlags::NOSIGNAL).unwrap();
        line
    };
    // Each has three descriptors, and may have six.
    let mut lines: Vec<_> = (0..21).map(unread).collect();
    let (status, why, _) = hear_all(&lines.pop().unwrap()).unwrap();
    let why = String::from_utf8(why).unwrap();
    refused::<()>(Err((status, why)), BUSY, &["64 descriptors that it does not read"]);
    as_user(ALICES, || {
        let other = bus.register("other");
        subscribe(&other, &bus, "a/1");
        assert_eq!(source(other.part(bus.path())).topic, "a/1");
    });
    drop(lines);
    assert!(bob.part(bus.path()).is_some());
}
