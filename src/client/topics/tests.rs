//! Parts and feeds over memory made by hand: what servers and publishers seldom do.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::error::SampleError;
use super::feed::Feed;
use super::set::Topics;
use super::subscriber::Subscriber;
use super::subscription::{Subscription, What};
use crate::channel::NewestFigures;
use crate::connect::connection::Descriptors;
use crate::connect::topics::{Source, Waits};
use crate::ring::{Deadline, Kick, WaitStrategy};
use crate::shm::View;
use crate::shm::futex::{self, Scope};
use crate::topic::{
    Audience, Newcomer, Reader, Shape, Writer, create_page, create_topic, open_page, publish_on, read_only,
};
use crate::wire::{Key, Name, Pattern, Peer, Policy, Topic, Violation};

const LIMIT: Duration = Duration::from_secs(60);

/// Where a page says whether the publisher has attached the subscription.
const STATE: usize = 192;

fn shape() -> Shape {
    Shape::new(4096).unwrap()
}

fn alice() -> Peer {
    Peer { name: Name::new("alice").unwrap(), key: Key::from_u128(1), pid: 1, uid: 2, gid: 3 }
}

/// A publisher's memory, and the descriptor of it that subscribers get.
fn segment() -> (View, OwnedFd) {
    let made = create_topic(&shape()).unwrap();
    let view = publish_on(&made, &shape()).unwrap();
    (view, read_only(made).unwrap())
}

struct Alice {
    writer: Writer,
    audience: Audience,
    segment: OwnedFd,
    parts: u64,
}

impl Alice {
    fn new() -> Alice {
        let (view, segment) = segment();
        let audience = Audience::new(None).unwrap();
        let writer = Writer::new(view, shape(), 1, audience.clone(), WaitStrategy::Park);
        Alice { writer, audience, segment, parts: 0 }
    }

    fn send(&mut self, count: u64) {
        for _ in 0..count {
            let number = self.writer.next_sequence().to_ne_bytes();
            self.writer.send(&number, Deadline::never()).unwrap();
        }
    }

    /// She registers again, and goes on elsewhere with the next sample.
    fn moves(&mut self) {
        let (view, segment) = segment();
        self.audience.succeed(view, shape());
        self.segment = segment;
    }

    /// Gives a subscription a part of hers, and attaches it. Returns the page.
    fn give(&mut self, to: &Arc<Subscription>, epoch: u64) -> View {
        self.parts += 1;
        let page = create_page().unwrap();
        let words = open_page(&page).unwrap();
        let newcomer = Newcomer {
            id: self.parts,
            peer: alice(),
            page: words.clone(),
            line: 0,
            may_sleep: true,
            reliable: false,
            from_beginning: true,
            kick: Kick::default(),
            pipe: None,
        };
        self.audience.admit(newcomer);
        let segment = self.segment.try_clone().unwrap();
        to.add(source(self.parts, epoch), Descriptors::of([segment, page, this_process()]));
        words
    }
}

fn source(publication: u64, epoch: u64) -> Source {
    Source {
        subscription: 1,
        publication,
        epoch,
        first: 1,
        ring_size: shape().ring_size(),
        line: 0,
        from_beginning: true,
        offers_reliable: false,
        peer: alice(),
        topic: Topic::new("a/b").unwrap(),
    }
}

fn this_process() -> OwnedFd {
    pidfd_open(getpid(), PidfdFlags::empty()).unwrap()
}

fn subscription(policy: Policy, arms: bool) -> Arc<Subscription> {
    with_history(policy, arms, 0)
}

fn with_history(policy: Policy, arms: bool, history: u64) -> Arc<Subscription> {
    let waits = Waits { may_sleep: true, arms };
    let what = What::Topics(Pattern::new("**").unwrap());
    Arc::new(Subscription::new(what, policy, waits, history, NewestFigures::default()).unwrap())
}

fn feed() -> (Feed, Arc<Subscription>) {
    let shared = subscription(Policy::Lossy, false);
    (Feed::new(Arc::clone(&shared), WaitStrategy::Park), shared)
}

/// Takes all that is there: sequence and missed.
fn take(feed: &mut Feed) -> Vec<(u64, u64)> {
    let mut taken = Vec::new();
    // A look that finds a part's end says that nothing is there, although something may follow.
    for _ in 0..3 {
        while let Some((_, sample)) = feed.look(Reader::try_take).unwrap() {
            assert_eq!(feed.buffer, sample.sequence.to_ne_bytes());
            taken.push((sample.sequence, sample.missed));
        }
    }
    taken
}

fn whole(range: std::ops::RangeInclusive<u64>) -> Vec<(u64, u64)> {
    range.map(|sequence| (sequence, 0)).collect()
}

#[test]
fn what_is_no_part_is_dropped() {
    let alice = Alice::new();
    let segment = || alice.segment.try_clone().unwrap();
    let page = || create_page().unwrap();
    let pipe = || pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
    let writable = || create_topic(&shape()).unwrap();
    let good = || vec![segment(), page(), this_process()];
    let arming = || [good(), vec![pipe().0, pipe().1]].concat_descriptors();
    let cases: Vec<(bool, bool, Vec<OwnedFd>)> = vec![
        (false, true, good()),
        (true, true, arming()),
        (true, false, good()),
        (false, false, arming()),
        (false, false, vec![]),
        (false, false, vec![page(), segment(), this_process()]),
        (false, false, vec![writable(), page(), this_process()]),
        (false, false, vec![segment(), segment(), this_process()]),
        // In place of a process.
        (false, true, vec![segment(), page(), pipe().0]),
        (false, false, vec![segment(), page(), pipe().1]),
        (true, false, vec![segment(), page(), this_process(), pipe().1, pipe().0]),
        (true, false, vec![segment(), page(), this_process(), pipe().0, page()]),
    ];
    for (at, (arms, opens, descriptors)) in cases.into_iter().enumerate() {
        let shared = subscription(Policy::Lossy, arms);
        shared.add(source(1, 7), Descriptors::of(descriptors));
        assert_eq!(shared.take_arrived().len(), usize::from(opens), "case {at}");
        assert_eq!(shared.came(), 1, "it counts as come");
    }
    let shared = subscription(Policy::Lossy, false);
    for ring_size in [0, 2048, 8192, usize::MAX] {
        shared.add(Source { ring_size, ..source(1, 7) }, Descriptors::of(good()));
        assert!(shared.take_arrived().is_empty(), "{ring_size}");
    }
}

/// From a server that gets no pidfd. It may have ended, and not the publisher: so the subscription goes on
/// where it was if the same publisher comes again.
#[test]
fn a_pipe_in_place_of_a_process_shows_the_end() {
    let mut alice = Alice::new();
    alice.send(2);
    let (mut feed, shared) = feed();
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let part = |process| [alice.segment.try_clone().unwrap(), create_page().unwrap(), process];
    let [first, second] = [part(read), part(this_process())];
    shared.add(source(1, 7), Descriptors::of(first));
    assert_eq!((take(&mut feed), feed.parts.len()), (whole(1..=2), 1));
    drop(write);
    feed.lingers = Duration::ZERO;
    let deadline = Instant::now() + Duration::from_secs(60);
    while !feed.parts.is_empty() {
        assert!(Instant::now() < deadline, "the end is seen");
        assert_eq!(take(&mut feed), []);
    }
    alice.send(1);
    shared.add(source(2, 7), Descriptors::of(second));
    assert_eq!(take(&mut feed), whole(3..=3));
}

trait Concat {
    fn concat_descriptors(self) -> Vec<OwnedFd>;
}

impl Concat for [Vec<OwnedFd>; 2] {
    fn concat_descriptors(self) -> Vec<OwnedFd> {
        self.into_iter().flatten().collect()
    }
}

/// As after a client that the same server has lost has registered again.
#[test]
fn the_same_segment_under_another_registration_goes_on_at_the_same_place() {
    let (mut feed, shared) = feed();
    let mut alice = Alice::new();
    alice.give(&shared, 7);
    alice.send(200);
    let first = take(&mut feed);
    assert_eq!(first.last().map(|last| last.0), Some(200));
    alice.send(3);
    shared.begins_anew();
    let page = alice.give(&shared, 7);
    alice.send(3);
    assert_eq!((take(&mut feed), feed.parts.len()), (whole(201..=206), 1));
    // It sleeps on the new page.
    feed.parts[0].reader.park();
    assert_eq!(page.pin32(0).load(Ordering::SeqCst), 1);
    alice.send(1);
    assert!(feed.parts[0].reader.unpark(), "it is woken there");
    assert_eq!(take(&mut feed), whole(207..=207));
}

#[test]
fn the_next_segment_follows_when_the_old_one_was_read() {
    for early in [true, false] {
        let (mut feed, shared) = feed();
        let mut alice = Alice::new();
        alice.give(&shared, 7);
        alice.send(10);
        alice.moves();
        shared.begins_anew();
        if early {
            alice.give(&shared, 7);
        }
        alice.send(10);
        if !early {
            assert_eq!(take(&mut feed), whole(1..=10));
            assert!(feed.parts.is_empty());
            alice.give(&shared, 7);
            assert_eq!(take(&mut feed), whole(11..=20));
        } else {
            assert_eq!(take(&mut feed), whole(1..=20));
        }
        assert_eq!(feed.parts.len(), 1);
    }
}

/// The subscriber's client registers again long after the publisher's.
#[test]
fn the_gap_before_the_next_segment_is_told() {
    let (mut feed, shared) = feed();
    let mut alice = Alice::new();
    alice.give(&shared, 7);
    alice.send(10);
    alice.moves();
    alice.send(500);
    assert_eq!(take(&mut feed), whole(1..=10));
    alice.give(&shared, 7);
    let taken = take(&mut feed);
    let (first, missed) = taken[0];
    assert!(missed > 0 && first == 11 + missed, "{first} {missed}");
    assert_eq!(taken[1..], whole(first + 1..=510));
    // Another publisher of the same topic has no gap.
    let mut other = Alice::new();
    other.send(3);
    other.give(&shared, 8);
    assert_eq!(take(&mut feed), whole(1..=3));
}

#[test]
fn a_publication_that_the_server_has_ended_is_read_and_then_dropped() {
    let (mut feed, shared) = feed();
    let mut alice = Alice::new();
    alice.give(&shared, 7);
    alice.send(10);
    shared.is_over(99);
    shared.is_over(1);
    assert_eq!((take(&mut feed), feed.parts.len()), (whole(1..=10), 1));
    // She may not know that yet.
    alice.send(2);
    assert_eq!((take(&mut feed), feed.parts.len()), (whole(11..=12), 1));
    feed.lingers = Duration::ZERO;
    assert_eq!((take(&mut feed), feed.parts.len()), (vec![], 0));
    // If she publishes anew after all, nothing is told twice, and nothing was missed.
    alice.send(2);
    alice.moves();
    alice.send(1);
    alice.give(&shared, 7);
    assert_eq!(take(&mut feed), whole(13..=15));
}

/// What she says behind the end of her registration counts, too.
#[test]
fn a_publisher_that_the_server_has_ended_is_read_until_it_has_ended_itself() {
    for moves in [true, false] {
        let (mut feed, shared) = feed();
        let mut alice = Alice::new();
        alice.give(&shared, 7);
        alice.send(10);
        shared.is_over(1);
        assert_eq!((take(&mut feed), feed.parts.len()), (whole(1..=10), 1));
        alice.send(5);
        if moves {
            alice.moves();
            alice.give(&shared, 7);
            assert_eq!((take(&mut feed), feed.parts.len()), (whole(11..=15), 1));
            alice.send(1);
            assert_eq!(take(&mut feed), whole(16..=16));
        } else {
            drop(alice);
            assert_eq!((take(&mut feed), feed.parts.len()), (whole(11..=15), 0));
        }
    }
}

/// It has registered again, and died or was dropped before it published there. The server gives what it was
/// to go on in, which begins with copies, while the end is seen or after that.
#[test]
fn a_publisher_that_has_ended_is_not_read_again_in_its_next_segment() {
    for (policy, history) in
        [(Policy::Lossy, 0), (Policy::Lossy, 20), (Policy::Latest, 0), (Policy::Latest, 20)]
    {
        for (dies, early) in [(true, true), (true, false), (false, true), (false, false)] {
            let case = format!("{policy:?}, history {history}, dies {dies}, early {early}");
            let shared = with_history(policy, false, history);
            let mut feed = Feed::new(Arc::clone(&shared), WaitStrategy::Park);
            let mut alice = Alice::new();
            alice.give(&shared, 7);
            alice.send(3);
            assert_eq!(take(&mut feed).last().map(|last| last.0), Some(3), "{case}");
            alice.moves();
            let next = || {
                let segment = alice.segment.try_clone().unwrap();
                let source = Source { from_beginning: false, ..source(2, 7) };
                shared.add(source, Descriptors::of([segment, create_page().unwrap(), this_process()]));
            };
            if dies {
                feed.parts[0].life().is_gone();
            } else {
                alice.audience.conclude();
            }
            if early {
                // Between the look at what came and the look that finds nothing.
                let mut given = false;
                let found = feed.look(|reader, to| {
                    if !std::mem::replace(&mut given, true) {
                        next();
                    }
                    reader.try_take(to)
                });
                assert_eq!(found, Ok(None), "{case}");
            } else {
                assert_eq!((take(&mut feed), feed.parts.len()), (vec![], 0), "{case}");
                next();
            }
            assert_eq!(take(&mut feed), [], "{case}");
            // What it has published there nevertheless comes once, too.
            alice.send(2);
            let rest = if policy == Policy::Latest { vec![(5, 1)] } else { whole(4..=5) };
            assert_eq!(take(&mut feed), rest, "{case}");
        }
    }
}

/// A topic may have any number of publishers, one after the other.
#[test]
fn not_all_publishers_are_known_that_have_ended() {
    let (mut feed, shared) = feed();
    let mut end = |epoch: u64, moves: bool| {
        let mut alice = Alice { parts: epoch, ..Alice::new() };
        alice.give(&shared, epoch);
        feed.fetch();
        let identity = feed.parts[0].identity.clone();
        if moves {
            alice.moves();
            alice.send(1);
        } else {
            alice.audience.conclude();
        }
        assert_eq!((take(&mut feed), feed.parts.len()), (vec![], 0));
        identity
    };
    let (moved, first) = (end(0, true), end(1, false));
    (2..1024).for_each(|epoch| drop(end(epoch, false)));
    assert!(shared.knows(&moved) && shared.knows(&first));
    end(1024, false);
    assert!(shared.knows(&moved) && !shared.knows(&first));
}

/// A publisher could bring about any number of them.
#[test]
fn few_publishers_are_read_that_the_server_has_ended() {
    let (mut feed, shared) = feed();
    let mut all: Vec<Alice> = (0..40).map(|_| Alice::new()).collect();
    for (epoch, alice) in all.iter_mut().enumerate() {
        alice.parts = epoch as u64;
        alice.give(&shared, epoch as u64);
        alice.send(1);
        shared.is_over(epoch as u64 + 1);
    }
    let mut taken = 0;
    for _ in 0..200 {
        taken += usize::from(feed.look(Reader::try_take).unwrap().is_some());
    }
    assert_eq!((taken, feed.parts.len()), (40, 16));
}

#[test]
fn publishers_take_turns() {
    let (mut feed, shared) = feed();
    let mut both = [Alice::new(), Alice::new()];
    for (epoch, alice) in both.iter_mut().enumerate() {
        alice.give(&shared, epoch as u64);
        alice.send(30);
    }
    let mut turns = Vec::new();
    while let Some((at, _)) = feed.look(Reader::try_take).unwrap() {
        turns.push(at);
    }
    assert!(turns.len() == 60 && turns.chunks(2).all(|pair| pair == [0, 1]), "{turns:?}");
}

/// Otherwise a publisher could keep a subscriber's thread awake.
#[test]
fn a_publisher_that_wakes_for_nothing_is_dropped() {
    let (mut feed, shared) = feed();
    let (mut attacker, mut honest) = (Alice::new(), Alice::new());
    let page = attacker.give(&shared, 1);
    honest.give(&shared, 2);
    let over = Arc::new(AtomicBool::new(false));
    let wakes = {
        let over = Arc::clone(&over);
        std::thread::spawn(move || {
            let parked = page.pin32(0);
            let until = Instant::now() + LIMIT;
            while !over.load(Ordering::Relaxed) && Instant::now() < until {
                if parked.swap(0, Ordering::SeqCst) != 0 {
                    futex::wake(&parked, Scope::Shared, 1);
                }
                std::thread::yield_now();
            }
        })
    };
    let told = feed.wait_for(Deadline::from(LIMIT), Reader::try_take).unwrap_err();
    over.store(true, Ordering::Relaxed);
    wakes.join().unwrap();
    let violation = Violation::from(crate::ring::Violation::FruitlessWakes);
    assert_eq!(told, SampleError::Violation { publisher: alice(), violation });
    assert_eq!(feed.parts.len(), 1);
    honest.send(1);
    assert_eq!(take(&mut feed), whole(1..=1));
    drop(attacker);
}

/// Until a publisher has attached the subscription, and while the client is not registered, no wake may come.
#[test]
fn an_event_loop_is_woken_to_look_where_no_publisher_wakes_it() {
    let shared = subscription(Policy::Lossy, true);
    let topics = Topics::new("nowhere".into());
    let mut subscriber = Subscriber::new(Arc::clone(&shared), &topics, WaitStrategy::Park);
    let nest = subscriber.nest().unwrap();
    let is_readable = |patience: Duration| {
        let timeout = Timespec::try_from(patience).unwrap();
        poll(&mut [PollFd::new(&*nest, PollFlags::IN)], Some(&timeout)).unwrap() == 1
    };
    let mut alice = Alice::new();
    let page = create_page().unwrap();
    let state = open_page(&page).unwrap().pin32(STATE);
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
    let all = [alice.segment.try_clone().unwrap(), page, this_process(), read, write];
    shared.add(source(1, 1), Descriptors::of(all));
    for (number, attached, registered) in [(1, false, true), (2, true, false), (3, false, false)] {
        state.store(u32::from(attached), Ordering::SeqCst);
        if registered {
            shared.begins_anew();
        } else {
            shared.registration_has_ended();
        }
        assert!(subscriber.try_recv().unwrap().is_none());
        assert!(subscriber.arm_end().unwrap());
        // She does not know of the subscription.
        alice.send(1);
        assert!(is_readable(LIMIT), "{attached} {registered}");
        assert_eq!(subscriber.try_recv().unwrap().unwrap().sequence(), number);
    }
    state.store(1, Ordering::SeqCst);
    shared.begins_anew();
    assert!(subscriber.try_recv().unwrap().is_none());
    assert!(subscriber.arm_end().unwrap());
    assert!(!is_readable(Duration::ZERO), "the time that was set before is over");
}
