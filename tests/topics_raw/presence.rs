//! Tests of the server's own topic: who registers and who is gone, in the registry's order.

use super::common::raw::{RawClient, Ring};
use super::common::raw_bus::{ALICES, Bus, as_user, refused};
use super::common::raw_links::*;
use super::common::raw_topics::*;
use super::common::{LIMIT, eventually};
use super::{Ears, Introduced};
use ringpost::Key;
use rustix::event::PollFlags;
use rustix::io::read;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a sample says: whether the client appeared, its key, the reason, and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    appeared: bool,
    key: Key,
    reason: u8,
    name: String,
}

fn change(sample: &[u8]) -> Change {
    assert!(matches!(sample[0], 1 | 2) && sample.len() > 30);
    Change {
        appeared: sample[0] == 1,
        key: Key::from_bytes(sample[1..17].try_into().unwrap()),
        reason: sample[29],
        name: String::from_utf8(sample[30..].to_vec()).unwrap(),
    }
}

fn follow(client: &RawClient, bus: &Bus, flags: u8) -> Result<Introduced, (u16, String)> {
    let (body, descriptors) = ask(bus.path(), PRESENCE, &[&client.proof()[..], &[flags]].concat())?;
    Ok(Part::of(&body, descriptors).expect("a part").subscribers())
}

/// The next change, which comes in time.
fn next(ears: &mut Ears) -> Change {
    let mut found = None;
    eventually("a change is told", || {
        found = ears.next();
        found.is_some()
    });
    change(&found.unwrap())
}

#[test]
fn registrations_and_ends_are_told_with_their_reasons() {
    let bus = Bus::start(&[]);
    let alice = bus.register("alice");
    let part = follow(&alice, &bus, MAY_SLEEP).unwrap();
    assert_eq!((part.flags, part.rest.len(), part.first), (0, 0, 1));
    assert_eq!((part.topic.as_str(), part.name.as_str()), ("@ringpost/presence", "ringpost"));
    assert_eq!((part.pid, u128::from_le_bytes(part.key.to_bytes())), (bus.pid, 0));
    let page = Page::of(&part.page, part.line);
    eventually("it is attached", || page.state() == ATTACHED);
    let mut ears = Ears::of(&part);
    assert!(ears.next().is_none(), "nothing of what was before");
    let told = |appeared, client: &RawClient, reason, name: &str| Change {
        appeared,
        key: client.key,
        reason,
        name: name.to_owned(),
    };
    // One that dies.
    let bob = bus.register("bob");
    assert_eq!(next(&mut ears), told(true, &bob, 0, "bob"));
    let key = bob.key;
    drop(bob);
    assert_eq!(next(&mut ears), Change { appeared: false, key, reason: 1, name: "bob".into() });
    // One that unregisters.
    let mut carol = bus.register("carol");
    carol.request(7, 0, &[]);
    assert_eq!(
        (next(&mut ears), next(&mut ears)),
        (told(true, &carol, 0, "carol"), told(false, &carol, 0, "carol"),)
    );
    assert_eq!(carol.response().map(|(status, ..)| status), Some(0));
    // One that breaks a rule.
    let dave = bus.register("dave");
    dave.put_header(u64::MAX);
    assert_eq!(
        (next(&mut ears), next(&mut ears)),
        (told(true, &dave, 0, "dave"), told(false, &dave, 2, "dave"))
    );
    assert_eq!(dave.head(Ring::Inbox).load(Ordering::Relaxed), 0);
    // The server ends, and so does the topic, when all was told.
    let path = bus.path().to_owned();
    bus.server.lock().unwrap().tell("shutdown");
    assert_eq!(next(&mut ears), told(false, &alice, 3, "alice"));
    eventually("the topic has ended", || ears.memory.word32(ENDED).load(Ordering::Acquire) == 1);
    assert!(ears.next().is_none());
    eventually("the server is gone", || super::common::raw::try_dial(&path).is_err());
}

/// Clients come and go on several threads, two of each name. What is told is true in its order, and a list
/// that is made later never has who was told to be gone.
#[test]
fn what_is_told_is_in_the_registry_s_order_and_no_list_contradicts_it() {
    let bus = Bus::start(&[]);
    let alice = bus.register("alice");
    let part = follow(&alice, &bus, MAY_SLEEP).unwrap();
    let (mut ears, over) = (Ears::of(&part), AtomicBool::new(false));
    let (mut present, mut names, mut told) = (HashSet::new(), HashSet::new(), 0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let (bus, over) = (&bus, &over);
                scope.spawn(move || {
                    let name = format!("client {}", number / 2);
                    let mut clients = 0;
                    while !over.load(Ordering::Relaxed) {
                        if let Ok(mut client) = RawClient::try_register(bus.path(), &name) {
                            clients += 1;
                            if clients % 2 == 0 {
                                client.request(7, 0, &[]);
                                client.response();
                            }
                        }
                    }
                    clients
                })
            })
            .collect();
        while told < 600 {
            let mut gone = Vec::new();
            while let Some(sample) = ears.next() {
                let Change { appeared, key, name, .. } = change(&sample);
                told += 1;
                if appeared {
                    assert!(present.insert(key) && names.insert(name.clone()), "{name} is there already");
                } else {
                    assert!(present.remove(&key) && names.remove(&name), "{name} was not there");
                    gone.push(key);
                }
            }
            let listed = ringpost::Observer::connect(bus.path()).unwrap().list().unwrap();
            let listed: HashSet<Key> = listed.into_iter().map(|client| client.key).collect();
            assert!(gone.iter().all(|key| !listed.contains(key)), "listed after it was told to be gone");
        }
        over.store(true, Ordering::Relaxed);
        assert!(threads.into_iter().all(|thread| thread.join().unwrap() > 0));
    });
    eventually("only alice is left", || super::common::registered(bus.path()) == 1);
    eventually("all were told to be gone", || {
        while let Some(sample) = ears.next() {
            let Change { appeared, key, .. } = change(&sample);
            assert!(if appeared { present.insert(key) } else { present.remove(&key) });
        }
        present.is_empty()
    });
}

#[test]
fn who_waits_in_an_event_loop_is_kicked_by_its_own_pipe() {
    let bus = Bus::start(&[]);
    let alice = bus.register("alice");
    let part = follow(&alice, &bus, ARMS).unwrap();
    let [own, own_write] = &part.rest[..] else { panic!("a pipe") };
    assert_eq!(rustix::io::write(own_write, b"x"), Ok(1));
    assert_eq!(read(own, &mut [0; 9]), Ok(1));
    let page = Page::of(&part.page, part.line);
    eventually("it is attached", || page.state() == ATTACHED);
    page.word32(PARKED).store(2, Ordering::SeqCst);
    let _bob = bus.register("bob");
    assert!(is_ready(own, PollFlags::IN, LIMIT));
    assert_eq!(page.word32(PARKED).load(Ordering::SeqCst), 0);
    assert_eq!(change(&Ears::of(&part).next().unwrap()).name, "bob");
    // The server has its write end, and the topic's descriptor.
    bus.has(2, 2);
    alice.leave_topic(bus.path(), part.subscription).unwrap();
    bus.has(2, 1);
    refused(alice.leave_topic(bus.path(), part.subscription), NOT_FOUND, &["ended already"]);
    assert!(
        is_ready(own_write, PollFlags::empty(), std::time::Duration::ZERO) || read(own, &mut [0; 9]).is_ok()
    );
}

#[test]
fn one_client_follows_a_few_times_and_ends_its_own_only() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    let parts: Vec<Introduced> = (0..4).map(|_| follow(&alice, &bus, MAY_SLEEP | ARMS).unwrap()).collect();
    refused(follow(&alice, &bus, MAY_SLEEP), QUOTA, &["4 times", "drop one"]);
    follow(&bob, &bus, MAY_SLEEP).unwrap();
    refused(bob.leave_topic(bus.path(), parts[0].subscription), NOT_FOUND, &["this client has no"]);
    alice.leave_topic(bus.path(), parts[0].subscription).unwrap();
    follow(&alice, &bus, MAY_SLEEP).unwrap();
    bus.has(2, 1 + 3);
    // It is not among the topics, and nobody's pattern matches it.
    assert!(all_topics(bus.path()).is_empty());
    for pattern in ["**", "@ringpost/*", "@ringpost/presence"] {
        assert_eq!(bob.subscribe(bus.path(), LOSSY, 0, pattern).unwrap().1, 0);
    }
    drop((alice, bob));
    bus.has(0, 1);
    as_user(ALICES, || {
        let carol = bus.register("carol");
        assert!(follow(&carol, &bus, 0).is_ok());
    });
}

/// A pipe costs the server a descriptor as long as its client wants. Some are left for clients that register.
#[test]
fn pipes_of_presence_leave_descriptors_to_clients_that_register() {
    let bus = Bus::start(&[("FILES", "128")]);
    let fill = |what: &str| {
        let mut clients = Vec::new();
        loop {
            let client = bus.register(&format!("{what} {}", clients.len()));
            let refusal = (0..4).find_map(|_| follow(&client, &bus, ARMS).err());
            clients.push(client);
            if let Some(refusal) = refusal {
                refused::<()>(Err(refusal), NO_RESOURCES, &["ulimit -n"]);
                return clients;
            }
        }
    };
    let strangers = as_user(ALICES, || fill("stranger"));
    let own = fill("own");
    let more: Vec<_> = (0..8).map(|number| bus.register(&format!("more {number}"))).collect();
    assert!(follow(&more[0], &bus, MAY_SLEEP).is_ok(), "without a pipe it costs none");
    drop((strangers, own));
    eventually("there are enough again", || follow(&more[0], &bus, ARMS).is_ok());
}

/// A subscriber that rewrites its page, and never reads, harms nobody: it is given up.
#[test]
fn a_hostile_page_is_given_up() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    let (hostile, honest) =
        (follow(&alice, &bus, MAY_SLEEP).unwrap(), follow(&bob, &bus, MAY_SLEEP).unwrap());
    let page = Page::of(&hostile.page, hostile.line);
    let mut ears = Ears::of(&honest);
    let mut told = 0;
    eventually("the server gives it up", || {
        page.word32(PARKED).store(1, Ordering::SeqCst);
        let name = format!("client {told}");
        drop(bus.register(&name));
        told += 1;
        assert_eq!(next(&mut ears).name, name);
        assert_eq!(next(&mut ears).name, name);
        page.state() > ATTACHED
    });
    assert_eq!(Page::of(&honest.page, honest.line).state(), ATTACHED);
}
