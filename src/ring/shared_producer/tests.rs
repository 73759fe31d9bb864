//! Who writes, who waits, and how each wait ends.

use super::waiter::Look;
use super::*;
use crate::ring::layout::{GIVEN_UP, HEAD, PRODUCER_PARKED};
use crate::ring::local::local_setup;
use crate::ring::tests::{tell, until_all_sleep};
use crate::ring::{Consumer, Peer, Setup, WaitStrategy};
use crate::shm::backend::Ordering;
use crate::shm::futex::{self, Scope};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// The smallest ring, which takes one block.
fn one_place() -> (SharedProducer, Setup) {
    let setup = local_setup(128, WaitStrategy::Park, 0).unwrap();
    (SharedProducer::new(Producer::new(&setup)), setup)
}

fn own() -> Closer {
    local_setup(128, WaitStrategy::Park, 0).unwrap().closer
}

/// A block that says which number it was given.
fn numbered(producer: &mut Producer, number: u32) -> Result<(), NotSent> {
    producer.try_publish(None, &[&number.to_le_bytes()[..]])
}

#[test]
fn blocks_are_numbered_as_they_are_written() {
    let (shared, setup) = one_place();
    let (mut consumer, mut block) = (Consumer::new(&setup), Vec::new());
    for number in 0..3_u32 {
        let waited = number == 1;
        let now = Instant::now();
        let done = if waited {
            shared.enqueue(4).write(&numbered, &own(), now)
        } else {
            shared.try_pass(4, &numbered)
        };
        assert_eq!(done, Ok(()));
        assert_eq!(shared.try_pass(4, &numbered), Err(NotWritten::Full));
        assert_eq!(shared.enqueue(4).write(&numbered, &own(), now), Err(NotWritten::TimedOut));
        consumer.try_recv(&mut block).unwrap().unwrap();
        assert_eq!(block, number.to_le_bytes());
    }
}

/// Reported even before the channel is closed, which may take the server a while.
#[test]
fn the_end_is_told_though_there_is_no_room() {
    let (shared, _setup) = one_place();
    shared.try_pass(4, &numbered).unwrap();
    let waiter = shared.enqueue(4);
    shared.end();
    assert_eq!(shared.try_pass(4, &numbered), Err(NotWritten::Ended), "while somebody waits");
    assert_eq!(waiter.write(&numbered, &own(), Instant::now()), Err(NotWritten::Ended));
    assert_eq!(shared.try_pass(4, &numbered), Err(NotWritten::Ended));
}

/// This is final for every value of the word, with and without room, whatever the word says later.
#[test]
fn a_ring_that_was_given_up_takes_nothing_more() {
    const GONE: Result<(), NotWritten> = Err(NotWritten::Ended);
    for value in [1, 2, 1 << 31, u32::MAX] {
        let (shared, setup) = one_place();
        let word = setup.view.word32(GIVEN_UP);
        word.store(value, Ordering::Relaxed);
        assert_eq!(shared.try_write(&numbered), Some(GONE), "though there is room");
        word.store(0, Ordering::Relaxed);
        assert_eq!(shared.try_write(&numbered), Some(GONE), "for good");

        let (shared, setup) = one_place();
        shared.try_pass(4, &numbered).unwrap();
        let [front, behind] = [(); 2].map(|()| shared.enqueue(4));
        assert!(matches!(front.look(&numbered, None), Ok(Look::NoRoom { .. })));
        setup.view.word32(GIVEN_UP).store(value, Ordering::Relaxed);
        assert_eq!(shared.try_pass(4, &numbered), GONE);
        setup.view.word32(GIVEN_UP).store(0, Ordering::Relaxed);
        for waiter in [behind, front] {
            assert_eq!(waiter.write(&numbered, &own(), Instant::now()), GONE);
        }
    }
}

/// The front notices it without a wake and without room.
#[test]
fn a_sender_that_waits_looks_whether_the_ring_was_given_up() {
    let (shared, setup) = one_place();
    shared.try_pass(4, &numbered).unwrap();
    let waiter = shared.enqueue(4);
    assert!(matches!(waiter.look(&numbered, None), Ok(Look::NoRoom { .. })));
    setup.view.word32(GIVEN_UP).store(1, Ordering::Relaxed);
    assert_eq!(waiter.write(&numbered, &own(), far()), Err(NotWritten::Ended));
}

#[test]
fn what_cannot_be_written_is_told_apart() {
    let (shared, setup) = one_place();
    let long = |producer: &mut Producer, _| producer.try_publish(None, &[&[0; 57][..]]);
    assert_eq!(shared.try_pass(57, &long), Err(NotWritten::TooLarge));
    assert_eq!(shared.enqueue(57).write(&long, &own(), Instant::now()), Err(NotWritten::TooLarge));
    let closed = own();
    closed.close();
    assert_eq!(shared.enqueue(4).write(&numbered, &closed, Instant::now()), Err(NotWritten::Leaving));
    shared.try_pass(4, &numbered).unwrap();
    setup.view.word64(HEAD).store(1, Ordering::Relaxed);
    assert_eq!(shared.try_pass(4, &numbered), Err(NotWritten::Violation));
    let (shared, setup) = one_place();
    shared.try_pass(4, &numbered).unwrap();
    setup.view.word64(HEAD).store(1, Ordering::Relaxed);
    assert_eq!(shared.enqueue(4).write(&numbered, &own(), Instant::now()), Err(NotWritten::Violation));
    setup.closer.close();
    assert_eq!(shared.enqueue(4).write(&numbered, &own(), Instant::now()), Err(NotWritten::Ended));
}

/// What should come at once may take this long on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A deadline that ends no wait of a test.
fn far() -> Instant {
    Instant::now() + 60 * LIMIT
}

#[test]
fn who_waits_comes_before_who_does_not() {
    let (shared, _setup) = one_place();
    let waiter = shared.enqueue(4);
    assert_eq!(shared.try_write(&numbered), None, "others wait");
    assert_eq!(shared.try_pass(4, &numbered), Err(NotWritten::Full), "for others");
    drop(waiter);
    assert_eq!(shared.try_pass(4, &numbered), Ok(()));
}

/// One line is unread, and a block of the largest size waits behind it. Small blocks pass it until the ring
/// is full.
#[test]
fn small_blocks_pass_a_large_one() {
    let setup = local_setup(4096, WaitStrategy::Park, 2048).unwrap();
    let shared = SharedProducer::new(Producer::new(&setup));
    shared.try_pass(4, &numbered).unwrap();
    let waiter = shared.enqueue(2040);
    assert!(matches!(waiter.look(&large, None), Ok(Look::NoRoom { .. })));
    let passed = (0..).take_while(|_| shared.try_pass(4, &numbered).is_ok()).count();
    assert_eq!(passed, 62, "a ring of 64 lines without the unread one and the zeroed one");
}

/// The receiver reads, but never enough for the large block. Small blocks pass it until they fill a ring;
/// then it is next.
#[test]
fn small_blocks_do_not_starve_a_large_one() {
    let setup = local_setup(4096, WaitStrategy::Park, 0).unwrap();
    let (shared, mut consumer) = (SharedProducer::new(Producer::new(&setup)), Consumer::new(&setup));
    let mut block = Vec::new();
    for _ in 0..33 {
        shared.try_pass(4, &numbered).unwrap();
    }
    let waiter = shared.enqueue(2040);
    let mut passed = 0;
    while shared.try_pass(4, &numbered).is_ok() {
        passed += 1;
        assert!(passed < 1000, "it is starved");
        consumer.try_recv(&mut block).unwrap().unwrap();
        assert!(matches!(waiter.look(&large, None), Ok(Look::NoRoom { .. })));
    }
    assert_eq!(passed, 64);
    while consumer.try_recv(&mut block).unwrap().is_some() {}
    assert_eq!(waiter.look(&large, None), Ok(Look::Written));
}

fn large(producer: &mut Producer, _: u32) -> Result<(), NotSent> {
    producer.try_publish(None, &[&[1; 2040][..]])
}

/// The second's deadline comes while it is not the front, the fourth's channel is closed while it sleeps,
/// and the first leaves without having looked: the third and the fifth are signalled.
#[test]
fn those_who_wait_are_served_in_their_order() {
    let (shared, setup) = one_place();
    let mut consumer = Consumer::new(&setup);
    shared.try_pass(4, &numbered).unwrap();
    let [first, second, third, fourth, fifth] = [(); 5].map(|()| shared.enqueue(4));
    let own = || Closer::new(setup.view.clone(), Scope::Shared, vec![], None, Peer::Unheard);
    let (mine, closed) = (own(), own());
    let written_by = |who: u32| {
        move |producer: &mut Producer, _: u32| producer.try_publish(None, &[&who.to_le_bytes()[..]])
    };
    assert_eq!(second.write(&written_by(2), &mine, Instant::now()), Err(NotWritten::TimedOut));
    let (to, threads) = mpsc::channel();
    let (done, outcomes) = mpsc::channel();
    std::thread::scope(|scope| {
        for (who, waiter, own) in [(3, third, &mine), (4, fourth, &closed), (5, fifth, &mine)] {
            let (to, done, put) = (to.clone(), done.clone(), written_by(who));
            scope.spawn(move || {
                tell(&to);
                done.send((who, waiter.write(&put, own, far()))).unwrap();
            });
        }
        until_all_sleep(&threads, 3);
        let outcome = || outcomes.recv_timeout(LIMIT).inspect_err(|_| mine.close());
        closed.close();
        assert_eq!(outcome(), Ok((4, Err(NotWritten::Leaving))));
        drop(first);
        let mut block = Vec::new();
        for (written, next) in [(0, Some(3)), (3, Some(5)), (5, None)] {
            assert_eq!(consumer.try_recv(&mut block), Ok(Some(4)));
            assert_eq!(block, u32::to_le_bytes(written));
            if let Some(who) = next {
                assert_eq!(outcome(), Ok((who, Ok(()))), "it sleeps on");
            }
        }
    });
    assert!(shared.lock().nobody_waits());
}

#[test]
fn wakes_for_nothing_are_found_out() {
    let (shared, setup) = one_place();
    shared.try_pass(4, &numbered).unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| shared.enqueue(4).write(&numbered, &own(), Instant::now() + LIMIT));
        let word = setup.view.word32(PRODUCER_PARKED);
        while !waiter.is_finished() {
            if word.swap(0, Ordering::Relaxed) == 1 {
                futex::wake(word, Scope::Private, 1);
            }
            std::thread::yield_now();
        }
        assert_eq!(waiter.join().unwrap(), Err(NotWritten::Violation));
    });
}
