//! Tests of the table and the queues, with clients that have no connection.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::queues::{AT_ONE_PUBLISHER, Full, OF_ONE_SUBSCRIBER, Queues, Sides, Waiting};
use super::table::{Id, LOOKED_AT, Next, Progress, Table};
use crate::connect::Quotas;
use crate::connect::topics::{Joined, Part, Publish, Subscribe, Waits};
use crate::os::descriptors::Ours;
use crate::server::access::{Access, Act, CheckedAccess, Gate, Rule};
use crate::server::quotas::Ledger;
use crate::server::tests::prepared;
use crate::topic::Shape;
use crate::wire::{HELLO_TIME, Key, Name, Pattern, Peer, Policy, Topic};

/// A user other than this process's and root.
const USER: u32 = 70_001;

fn descriptor() -> OwnedFd {
    let (reader, _) = std::io::pipe().unwrap();
    reader.into()
}

fn peer(number: u128, uid: u32) -> Peer {
    let name = Name::new(&format!("client {number}")).unwrap();
    Peer { name, key: Key::from_u128(number), pid: 1, uid, gid: 3 }
}

struct Stage {
    ledger: Arc<Ledger>,
    table: Table,
    now: Instant,
}

impl Stage {
    fn new() -> Stage {
        let mut quotas = Quotas::default();
        (quotas.topics, quotas.subscriptions, quotas.registrations) = (10_000, 10_000, 1_000_000);
        Stage { ledger: Arc::new(Ledger::new(quotas)), table: Table::default(), now: Instant::now() }
    }

    fn offer(&mut self, publisher: Peer, topic: &str, users: &[u32]) -> Id {
        let topic = Topic::new(topic).unwrap();
        let publish =
            Publish { epoch: 1, first: 1, ring_size: 0, reliable: true, users: users.to_vec(), topic };
        let share = self.ledger.begin_topic(publisher.uid, 8192).unwrap();
        let (shape, segment) = (Shape::new(4096).unwrap(), Ours::new(descriptor()));
        self.table.offer(publisher, publish, shape, segment, share, self.now)
    }

    /// Returns the number, the clients that are to be told, and how many are waited for.
    fn publish_for(&mut self, publisher: Peer, topic: &str, users: &[u32]) -> (Id, Vec<u128>, u32) {
        let id = self.offer(publisher, topic, users);
        let found = self.table.open(id, Ours::new(descriptor()));
        (id, found.keys.iter().map(|key| u128::from_le_bytes(key.to_bytes())).collect(), found.reliable)
    }

    fn publish(&mut self, publisher: Peer, topic: &str) -> Id {
        self.publish_for(publisher, topic, &[]).0
    }

    fn subscribe_as(&mut self, subscriber: Peer, pattern: &str, policy: Policy) -> (Id, u32) {
        let (waits, pattern) = (Waits::default(), Pattern::new(pattern).unwrap());
        let share = self.ledger.begin_subscription(subscriber.uid).unwrap();
        self.table.subscribe(subscriber, Subscribe { policy, waits, pattern }, share)
    }

    fn subscribe(&mut self, subscriber: Peer, pattern: &str) -> Id {
        self.subscribe_as(subscriber, pattern, Policy::Lossy).0
    }

    /// What waits for a client, as long as there is something. All of it is taken.
    fn take(&mut self, client: Peer) -> Vec<(Id, Id)> {
        let mut taken = Vec::new();
        loop {
            match self.table.next(client.key) {
                Next::Pair { subscription, publication } => {
                    self.join(subscription, publication);
                    taken.push((subscription, publication));
                }
                Next::Later => {}
                Next::Nothing => return taken,
            }
        }
    }

    fn join(&mut self, subscription: Id, publication: Id) {
        let share = self.ledger.begin_pair(USER, 4096).unwrap();
        self.table.add_pair(subscription, publication, share);
        self.table.set_progress(subscription, publication, Progress::Taken);
        self.table.is_served(publication);
    }

    fn end(&mut self, publication: Id) -> super::table::EndedPublication {
        self.table.end_publication(publication, || Some(Arc::new(Ours::new(descriptor()))), self.now)
    }

    fn ids(&self, uid: u32) -> Vec<Id> {
        self.table.page(0, 1000, uid, USER + 9).0.iter().map(|topic| topic.id).collect()
    }
}

#[test]
fn each_pair_that_matches_is_found_once_whoever_came_first() {
    let mut stage = Stage::new();
    let (alice, bob, carol) = (peer(1, USER), peer(2, USER), peer(3, USER));
    let prices = stage.subscribe(bob, "prices/*");
    let all = stage.subscribe(carol, "**");
    let (aapl, told, _) = stage.publish_for(alice, "prices/AAPL", &[]);
    assert_eq!(told.len(), 2);
    let frames = stage.publish(alice, "frames");
    assert_eq!(stage.table.next(alice.key), Next::Nothing, "it has not subscribed");
    assert_eq!(stage.take(bob), [(prices, aapl)]);
    assert_eq!(stage.take(carol), [(all, aapl), (all, frames)]);
    assert!(stage.take(bob).is_empty() && stage.take(carol).is_empty());
    // Several of one topic, and one's own.
    let (late, found) = stage.subscribe_as(alice, "prices/AAPL", Policy::Latest);
    let other = stage.publish(bob, "prices/AAPL");
    assert_eq!((found, stage.take(alice)), (1, vec![(late, aapl), (late, other)]));
    assert_eq!(stage.take(bob), [(prices, other)]);
    assert!(stage.table.has(alice.key, &stage_publish("prices/AAPL")));
    assert!(!stage.table.has(alice.key, &stage_publish("prices")));
    assert_eq!(stage.ids(USER), [aapl, frames, other]);
}

fn stage_publish(topic: &str) -> Publish {
    let topic = Topic::new(topic).unwrap();
    Publish { epoch: 9, first: 9, ring_size: 0, reliable: false, users: Vec::new(), topic }
}

#[test]
fn what_was_only_offered_is_not_there_and_is_dropped_in_time() {
    let mut stage = Stage::new();
    let (alice, bob) = (peer(1, USER), peer(2, USER));
    let offer = stage.offer(alice, "a", &[]);
    let (subscription, found) = stage.subscribe_as(bob, "**", Policy::Lossy);
    assert_eq!((found, stage.take(bob).len(), stage.ids(USER).len()), (0, 0, 0));
    assert!(stage.table.has(alice.key, &stage_publish("a")) && stage.table.reliable_if_open(offer).is_none());
    let due = stage.table.due().unwrap();
    assert_eq!(due, stage.now + HELLO_TIME);
    assert_eq!((stage.table.expire(due - Duration::from_millis(1)), stage.table.expire(due)), (0, 1));
    assert!(stage.table.due().is_none() && !stage.table.has(alice.key, &stage_publish("a")));
    // One that was sealed in time is not due any more.
    let open = stage.publish(alice, "a");
    assert!(stage.table.due().is_none());
    assert_eq!(stage.take(bob), [(subscription, open)]);
}

#[test]
fn topics_are_there_for_their_users_only() {
    let mut stage = Stage::new();
    let (alice, bob, carol) = (peer(1, USER), peer(2, USER + 1), peer(3, USER + 2));
    for subscriber in [alice, bob, carol] {
        stage.subscribe_as(subscriber, "**", Policy::Reliable);
    }
    let (id, told, reliable) = stage.publish_for(alice, "a", &[USER + 1, USER + 5]);
    assert_eq!((told.len(), reliable, stage.table.reliable_if_open(id)), (1, 1, Some(1)));
    assert_eq!((stage.take(alice).len(), stage.take(bob).len(), stage.take(carol).len()), (0, 1, 0));
    assert_eq!(stage.subscribe_as(carol, "a", Policy::Lossy).1, 0);
    // The list shows it to them, to its publisher, and to those who see everything.
    let shown = |uid: u32| stage.ids(uid).len();
    assert_eq!([USER, USER + 1, USER + 2, USER + 5, USER + 9, 0].map(shown), [1, 1, 0, 1, 1, 1]);
}

#[test]
fn subscriptions_of_a_client_take_turns_and_a_long_log_takes_several_questions() {
    let mut stage = Stage::new();
    let (alice, bob) = (peer(1, USER), peer(2, USER));
    let others: Vec<Id> =
        (0..LOOKED_AT).map(|number| stage.publish(alice, &format!("other/{number}"))).collect();
    let (one, two) = (stage.publish(alice, "a"), stage.publish(alice, "b"));
    let (first, second) = (stage.subscribe(bob, "a"), stage.subscribe(bob, "**"));
    assert_eq!(stage.table.next(bob.key), Next::Later, "it has looked at many for nothing");
    assert_eq!(stage.table.next(bob.key), Next::Pair { subscription: first, publication: one });
    stage.join(first, one);
    let all = stage.take(bob);
    assert_eq!(all.len(), LOOKED_AT + 2);
    assert!(all.iter().all(|(subscription, _)| *subscription == second));
    assert_eq!((all[0].1, all[LOOKED_AT + 1].1), (others[0], two));
    // Both want the next one.
    let third = stage.subscribe(bob, "c/*");
    let next = stage.publish(alice, "c/d");
    let taken: BTreeSet<_> = stage.take(bob).into_iter().collect();
    assert_eq!(taken, BTreeSet::from([(second, next), (third, next)]));
}

#[test]
fn a_publication_that_ends_stays_for_those_who_subscribed_before() {
    let mut stage = Stage::new();
    let (alice, bob, carol) = (peer(1, USER), peer(2, USER), peer(3, USER));
    let (before, slow) = (stage.subscribe(bob, "a"), stage.subscribe(carol, "a"));
    let short = stage.publish(alice, "a");
    assert_eq!(stage.take(bob), [(before, short)]);
    let ended = stage.end(short);
    assert!(ended.was_open && ended.tickets.is_empty());
    assert!(stage.ids(USER).is_empty() && !stage.table.has(alice.key, &stage_publish("a")));
    let (after, found) = stage.subscribe_as(bob, "a", Policy::Lossy);
    assert_eq!((found, stage.table.next(bob.key)), (0, Next::Nothing));
    // Carol takes it, and nobody else awaits it.
    assert_eq!(stage.table.next(carol.key), Next::Pair { subscription: slow, publication: short });
    assert!(stage.table.publication(short).is_some());
    stage.table.is_served(short);
    assert!(stage.table.publication(short).is_none() && stage.table.due().is_none());
    // Nobody awaits this one, so it goes at once.
    let next = stage.publish(alice, "b");
    stage.end(next);
    assert!(stage.table.publication(next).is_none());
    // This one goes in time, and one without a process at once.
    let awaited = stage.publish(alice, "a");
    stage.end(awaited);
    let due = stage.table.due().unwrap();
    assert_eq!(stage.table.expire(due), 1);
    assert_eq!(stage.table.next(carol.key), Next::Nothing);
    let dead = stage.publish(alice, "a");
    stage.table.end_publication(dead, || None, stage.now);
    assert!(stage.table.publication(dead).is_none());
    for id in [before, slow, after] {
        stage.table.end_subscription(id);
    }
    assert!(stage.table.is_empty());
}

#[test]
fn what_has_ended_makes_room_for_what_is_new() {
    let mut stage = Stage::new();
    let (alice, bob) = (peer(1, USER), peer(2, USER + 1));
    stage.subscribe(bob, "**");
    let all: Vec<Id> = (0..70).map(|number| stage.publish(alice, &format!("a/{number}"))).collect();
    all.iter().for_each(|id| _ = stage.end(*id));
    let stay = all.iter().filter(|id| stage.table.publication(**id).is_some()).count();
    assert_eq!((stay, stage.table.publication(all[5]).is_some()), (64, false), "the oldest are dropped");
    assert!(!stage.table.drop_ended(Some(USER + 1)) && stage.table.drop_ended(Some(USER)));
    assert!(stage.take(bob).is_empty() && !stage.table.drop_ended(None));
}

#[test]
fn a_deferred_pair_is_tried_again_and_ends_with_either_side() {
    let mut stage = Stage::new();
    let (alice, bob) = (peer(1, USER), peer(2, USER));
    let subscription = stage.subscribe(bob, "**");
    let publication = stage.publish(alice, "a");
    assert_eq!(stage.table.next(bob.key), Next::Pair { subscription, publication });
    let share = stage.ledger.begin_pair(USER, 4096).unwrap();
    stage.table.add_pair(subscription, publication, share);
    assert_eq!((stage.table.next(bob.key), stage.table.is_hungry(bob.key)), (Next::Nothing, false));
    assert_eq!(stage.table.try_again(subscription, publication), Some(bob.key));
    assert_eq!(stage.table.next(bob.key), Next::Pair { subscription, publication });
    assert_eq!(stage.table.progress(subscription, publication), Some(Progress::Deferred));
    // Its publisher ends: it may be taken at once, without a pair.
    let ended = stage.end(publication);
    assert_eq!((ended.deferred, ended.keys), (vec![subscription], BTreeSet::from([bob.key])));
    assert_eq!(stage.table.next(bob.key), Next::Pair { subscription, publication });
    assert_eq!(stage.table.progress(subscription, publication), None);
    stage.table.try_again(subscription, publication);
    assert!(stage.table.end_subscription(subscription).is_empty());
    assert_eq!(stage.table.try_again(subscription, publication), None);
    // The subscriber leaves first.
    let (subscription, publication) = (stage.subscribe(bob, "**"), stage.publish(alice, "b"));
    stage.take(bob);
    assert_eq!(stage.table.end_subscription(subscription), [(publication, Progress::Taken)]);
    let ended = stage.end(publication);
    assert!(ended.deferred.is_empty() && ended.tickets.is_empty());
    stage.table.expire(stage.now + HELLO_TIME);
    assert!(stage.table.is_empty());
}

#[test]
fn pages_have_the_open_topics_in_order() {
    let mut stage = Stage::new();
    let (alice, bob) = (peer(1, USER), peer(2, USER));
    let all: Vec<Id> = (0..5).map(|number| stage.publish(alice, &format!("a/{number}"))).collect();
    stage.offer(alice, "offered", &[]);
    stage.end(all[1]);
    stage.subscribe(bob, "a/3");
    stage.take(bob);
    let (first, next) = stage.table.page(0, 3, USER, 0);
    assert_eq!(first.iter().map(|topic| topic.id).collect::<Vec<_>>(), [all[0], all[2], all[3]]);
    assert_eq!((first[2].topic.as_str(), first[2].subscriptions, first[2].ring_size), ("a/3", 1, 4096));
    assert_eq!((first[1].subscriptions, first[1].publisher), (0, alice.name));
    let (second, next) = stage.table.page(next.unwrap(), 3, USER, 0);
    assert_eq!((second[0].id, second.len(), next), (all[4], 1, None));
}

#[test]
fn a_client_with_everything_is_forgotten_wholly() {
    let mut stage = Stage::new();
    let (alice, bob) = (peer(1, USER), peer(2, USER));
    for number in 0..40 {
        stage.publish(alice, &format!("a/{number}"));
        stage.subscribe(bob, if number % 2 == 0 { "**" } else { "a/*" });
    }
    assert_eq!(stage.take(bob).len(), 40 * 40);
    let (_, subscriptions) = stage.table.of(bob.key);
    assert_eq!(subscriptions.len(), 40);
    let ended: usize = subscriptions.into_iter().map(|id| stage.table.end_subscription(id).len()).sum();
    assert_eq!(ended, 40 * 40);
    let (publications, _) = stage.table.of(alice.key);
    publications.into_iter().for_each(|id| _ = stage.end(id));
    // A publication cannot know that those who awaited it have left without taking it.
    stage.table.expire(stage.now + HELLO_TIME);
    assert!(stage.table.is_empty() && stage.ledger.topics_of(USER) == [0, 0]);
}

// ---- queues

fn joined(subscription: Id, descriptors: usize, uid: u32, now: Instant) -> Waiting {
    let part = Part::Joined(Joined {
        publication: 1,
        subscription,
        line: 0,
        policy: Policy::Lossy,
        waits: Waits::default(),
        from_beginning: false,
        peer: peer(7, uid),
    });
    Waiting::new(part, (0..descriptors).map(|_| descriptor()).collect(), uid, now)
}

fn sides(publisher: u128, publishers_user: u32, subscriber: u32) -> Sides {
    Sides { publisher: (Key::from_u128(publisher), publishers_user), subscriber }
}

/// Pushes if there is room.
fn push(queues: &mut Queues, sides: Sides, id: Id, descriptors: usize) -> Result<(), Full> {
    queues.room(sides, descriptors, |uid| uid == 0)?;
    queues.push(sides.publisher, joined(id, descriptors, sides.subscriber, Instant::now()));
    Ok(())
}

#[test]
fn how_many_wait_is_limited_at_each_publisher_and_for_each_user() {
    let mut queues = Queues::default();
    let mut id = 0;
    let mut push_until = |queues: &mut Queues, sides: Sides, descriptors| loop {
        id += 1;
        if let Err(full) = push(queues, sides, id, descriptors) {
            return full;
        }
    };
    // Of one user's subscribers, then of all, at a client of one who is exempt.
    let at_root = |subscriber| sides(1, 0, subscriber);
    assert_eq!(push_until(&mut queues, at_root(USER), 1), Full::AtThePublisher);
    assert_eq!(queues.room(at_root(USER), 1, |_| true), Err(Full::AtThePublisher));
    push(&mut queues, at_root(USER + 1), 1000, 1).unwrap();
    assert_eq!(push_until(&mut queues, at_root(USER + 1), 1), Full::AtThePublisher);
    assert_eq!(push(&mut queues, at_root(USER + 2), 1001, 1), Err(Full::AtThePublisher));
    let at_first = std::iter::from_fn(|| queues.take(Key::from_u128(1))).count();
    assert_eq!((at_first, 2 * OF_ONE_SUBSCRIBER), (AT_ONE_PUBLISHER, AT_ONE_PUBLISHER));
    assert!(queues.take_deferred(Key::from_u128(1)).is_empty());
    queues.left(Key::from_u128(1));
    assert!(queues.is_empty());
    // What waits for publishers of one user, however many these are, is less than a subscriber's user may
    // have.
    let mut publisher = 10;
    let full = loop {
        publisher += 1;
        let full = push_until(&mut queues, sides(publisher, USER, USER + 1), 4);
        if full != Full::AtThePublisher {
            break full;
        }
    };
    assert_eq!(full, Full::OfThePublishers);
    push(&mut queues, sides(9000, USER + 7, USER + 1), 9000, 4).unwrap();
    let full = loop {
        publisher += 1;
        let full = push_until(&mut queues, sides(publisher, publisher as u32 + 80_000, USER + 1), 4);
        if full != Full::AtThePublisher {
            break full;
        }
    };
    assert_eq!(full, Full::OfTheSubscribers);
    // Others still have room, but for the part that is kept for who is exempt.
    let mut subscriber = USER + 100;
    let full = loop {
        (publisher, subscriber) = (publisher + 1, subscriber + 1);
        let full = push_until(&mut queues, sides(publisher, publisher as u32 + 80_000, subscriber), 4);
        if full == Full::InAll {
            break full;
        }
    };
    assert_eq!(full, Full::InAll);
    push(&mut queues, sides(9001, 0, 0), 9001, 4).unwrap();
    while push(&mut queues, sides(publisher, 0, 0), 9002, 4).is_ok() {
        publisher += 1;
    }
    assert_eq!(queues.room(sides(9999, 0, 0), 4, |uid| uid == 0), Err(Full::InAll));
    (0..publisher + 100).chain([9000, 9001]).for_each(|key| queues.left(Key::from_u128(key)));
    assert!(queues.is_empty());
}

#[test]
fn what_waits_too_long_gives_up_its_place_to_whom_needs_it() {
    let mut queues = Queues::default();
    let began = Instant::now();
    let (later, key) = (began + HELLO_TIME, Key::from_u128(1));
    for (id, publisher, subscriber) in [(1, USER, USER + 1), (2, USER + 2, USER + 3), (3, USER, USER + 3)] {
        queues.push((key, publisher), joined(id, 2, subscriber, began));
    }
    let at = sides(5, USER + 2, USER + 3);
    assert_eq!(queues.reclaim(Full::InAll, at, later - Duration::from_millis(1)), None, "not that soon");
    assert_eq!(queues.reclaim(Full::AtThePublisher, at, later), None, "its own publisher's matter");
    assert_eq!(queues.reclaim(Full::OfTheSubscribers, at, later), Some((2, 1)));
    assert_eq!(queues.reclaim(Full::OfThePublishers, sides(5, USER, USER + 9), later), Some((1, 1)));
    assert_eq!(queues.reclaim(Full::OfThePublishers, at, later), None);
    assert_eq!(queues.reclaim(Full::InAll, at, later), Some((3, 1)));
    assert!(queues.take(key).is_none());
    queues.left(key);
    assert!(queues.is_empty());
}

#[test]
fn parts_come_in_order_and_are_put_back_or_taken_out() {
    let mut queues = Queues::default();
    let (key, now) = (Key::from_u128(1), Instant::now());
    let publisher = (key, USER);
    queues.push(publisher, joined(1, 1, USER, now));
    let left = Part::Left { publication: 1, subscription: 9 };
    queues.push(publisher, Waiting::new(left, Vec::new(), USER, now));
    let third = queues.push(publisher, joined(3, 2, USER, now));
    let first = queues.take(key).unwrap();
    assert_eq!(first.1.descriptors().unwrap().len(), 1);
    queues.put_back(publisher, first);
    assert!(queues.remove(key, third).is_some() && queues.remove(key, third).is_none());
    assert!(matches!(queues.take(key).unwrap().1.part, Part::Joined(joined) if joined.subscription == 1));
    assert!(matches!(queues.take(key).unwrap().1.part, Part::Left { subscription: 9, .. }));
    assert!(queues.take(key).is_none() && !queues.has_parts(key));
    queues.left(key);
    assert!(queues.is_empty());
}

#[test]
fn deferred_pairs_are_woken_when_half_of_the_places_are_free() {
    let mut queues = Queues::default();
    let (key, now) = (Key::from_u128(1), Instant::now());
    (0..AT_ONE_PUBLISHER as Id).for_each(|id| _ = queues.push((key, 0), joined(id, 1, id as u32, now)));
    (0..5).for_each(|id| queues.defer(key, 1000 + id, 1));
    queues.forget(key, 1002, 1);
    for _ in 0..AT_ONE_PUBLISHER / 2 - 1 {
        queues.take(key).unwrap();
        assert!(queues.take_deferred(key).is_empty());
    }
    queues.take(key).unwrap();
    assert_eq!(queues.take_deferred(key), BTreeSet::from([(1000, 1), (1001, 1), (1003, 1), (1004, 1)]));
    assert!(queues.take_deferred(key).is_empty());
    queues.defer(key, 7, 8);
    assert_eq!(queues.take_all_deferred(), [(7, 8)]);
}

/// A subscription counts for a topic that a rule closes to it until it comes to it. Then the topic is let go.
#[test]
fn a_topic_that_is_closed_is_passed_over_and_let_go() {
    let place = tempfile::tempdir().unwrap();
    let (_acceptor, shared) = prepared(&place.path().join("bus"));
    let rule = Rule { acts: vec![Act::Subscribe], what: vec!["**".into()], ..Rule::default() };
    shared
        .replace_access(CheckedAccess::new(Access { rules: vec![rule], ..Access::default() }).unwrap())
        .unwrap();
    let mut stage = Stage { table: Table::behind(Gate::new(shared)), ..Stage::new() };
    let (alice, bob) = (peer(1, USER), peer(2, USER));
    let early = stage.publish(alice, "early");
    let (_, matching) = stage.subscribe_as(bob, "**", Policy::Reliable);
    let (late, told, reliable) = stage.publish_for(alice, "late", &[]);
    assert_eq!((matching, told, reliable, stage.table.reliable_if_open(early)), (0, vec![], 0, Some(0)));
    stage.end(late);
    assert!(stage.table.process_of(alice.key).is_some(), "it stays for those who may take it");
    assert_eq!(stage.table.next(bob.key), Next::Nothing);
    let passed: Vec<String> = stage.table.passed_over().iter().map(|topic| topic.as_str().into()).collect();
    assert_eq!((passed, stage.table.passed_over().len()), (vec!["early".into(), "late".into()], 0));
    assert!(stage.table.process_of(alice.key).is_none() && stage.table.publication(late).is_none());
    // The one that goes on is awaited by nobody any more.
    stage.end(early);
    assert!(stage.table.publication(early).is_none());
}
