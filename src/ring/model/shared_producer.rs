//! Threads that share a producer, as the workers of senders share an inbox: two threads that wait for room,
//! and the receiver.
//!
//! Three threads make too many interleavings for all of them, so each model states how many preemptions it
//! allows. The front starts the other thread, so the order in the queue is known. The ring is the smallest,
//! full, and begins just below 2^30 lines. As in the server, the producer's side trusts nothing that the
//! consumer's side writes.

use loom::thread;

use super::{block, explore_bounded, shared_setups};
use crate::ring::layout::PRODUCER_PARKED;
use crate::ring::{CloseReason, Closer, Consumer, NotSent, NotWritten, Peer, Producer, SharedProducer};
use crate::shm::View;
use crate::shm::backend::{Arc, Mutex};
use crate::shm::futex::{self, Scope};
use std::time::{Duration, Instant};

/// More make the longest of these models take minutes.
const PREEMPTIONS: Option<usize> = Some(3);

type Written = Result<(), NotWritten>;

/// Each block has so many bytes.
const LEN: usize = 8;

fn put(number: u8) -> impl Fn(&mut Producer, u32) -> Result<(), NotSent> {
    move |producer, _| producer.try_publish(None, &[&block(number, LEN)[..]])
}

/// A full ring: block 0 is in it.
fn full() -> (Arc<SharedProducer>, Closer, Consumer) {
    let (client, server) = shared_setups(2);
    let shared = SharedProducer::new(Producer::new(&server));
    shared.try_pass(LEN, &put(0)).unwrap();
    assert_eq!(shared.try_pass(LEN, &put(9)), Err(NotWritten::Full));
    (Arc::new(shared), server.closer, Consumer::new(&client))
}

/// A sender's own channel: only the part that a wait for another client's inbox uses.
fn own() -> Closer {
    Closer::new(View::of_len(0), Scope::Shared, Vec::new(), None, Peer::Unheard)
}

/// Never reached: the sleeps of the models are untimed.
fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(1 << 30)
}

/// One thread joins the queue, and only then starts the other. Then it waits and writes block 1. Returns both
/// results.
fn front(
    shared: Arc<SharedProducer>,
    own: Closer,
    behind: impl FnOnce(&SharedProducer) -> Written + 'static,
) -> thread::JoinHandle<(Written, Written)> {
    thread::spawn(move || {
        let waiter = shared.enqueue(LEN);
        let other = shared.clone();
        let behind = thread::spawn(move || behind(&other));
        let written = waiter.write(&put(1), &own, deadline());
        (written, behind.join().unwrap())
    })
}

/// The other thread joins the queue, too, and writes block 2.
fn waits(own: Closer) -> impl FnOnce(&SharedProducer) -> Written {
    move |shared| shared.enqueue(LEN).write(&put(2), &own, deadline())
}

fn recv(consumer: &mut Consumer) -> Vec<u8> {
    let mut received = Vec::new();
    consumer.recv(&mut received).unwrap();
    received
}

#[test]
fn two_who_wait_are_served_in_their_order() {
    explore_bounded(PREEMPTIONS, || {
        let (shared, _closer, mut consumer) = full();
        let senders = front(shared, own(), waits(own()));
        for number in 0..3 {
            assert_eq!(recv(&mut consumer), block(number, LEN));
        }
        assert_eq!(senders.join().unwrap(), (Ok(()), Ok(())));
    });
}

/// A sender that does not wait takes no room that a waiting one could use.
#[test]
fn nobody_overtakes_one_who_waits() {
    explore_bounded(PREEMPTIONS, || {
        let (shared, _closer, mut consumer) = full();
        let senders = front(shared, own(), |shared| shared.try_pass(LEN, &put(2)));
        assert_eq!(recv(&mut consumer), block(0, LEN));
        assert_eq!(recv(&mut consumer), block(1, LEN), "block 2 overtook it");
        let (first, second) = senders.join().unwrap();
        assert_eq!(first, Ok(()));
        match second {
            Ok(()) => assert_eq!(recv(&mut consumer), block(2, LEN)),
            Err(error) => assert_eq!(error, NotWritten::Full),
        }
    });
}

/// A block of two lines.
const LONG: usize = 100;

fn put_long(producer: &mut Producer, _: u32) -> Result<(), NotSent> {
    producer.try_publish(None, &[&block(1, LONG)[..]])
}

/// One line of four is taken. A waiting block of two lines does not fit, because it needs padding before it.
/// A block of one line fits and passes it. The waiting block is written once the line was read.
#[test]
fn what_fits_passes_one_who_waits_for_more() {
    explore_bounded(PREEMPTIONS, || {
        let (client, server) = shared_setups(4);
        let (shared, mut consumer) =
            (Arc::new(SharedProducer::new(Producer::new(&server))), Consumer::new(&client));
        for _ in 0..3 {
            shared.try_pass(LEN, &put(9)).unwrap();
            recv(&mut consumer);
        }
        shared.try_pass(LEN, &put(0)).unwrap();
        let senders = thread::spawn(move || {
            let waiter = shared.enqueue(LONG);
            let small = shared.try_pass(LEN, &put(2));
            (waiter.write(&put_long, &own(), deadline()), small)
        });
        assert_eq!(recv(&mut consumer), block(0, LEN));
        let mut next = recv(&mut consumer);
        // If the line was read before, the waiting block fits, and the small one may not pass it.
        let small = if next == block(2, LEN) { Ok(()) } else { Err(NotWritten::Full) };
        if small.is_ok() {
            next = recv(&mut consumer);
        }
        assert_eq!(next, block(1, LONG));
        assert_eq!(senders.join().unwrap(), (Ok(()), small));
    });
}

/// Three lines of four are taken, and one is given back. That is too little for the front and enough for the
/// second in the queue, which the front signals. Nothing more is read before the second has written.
#[test]
fn one_behind_is_told_of_room_that_is_too_small_for_the_front() {
    explore_bounded(Some(2), || {
        let (client, server) = shared_setups(4);
        let (shared, consumer) =
            (Arc::new(SharedProducer::new(Producer::new(&server))), Consumer::new(&client));
        for _ in 0..3 {
            shared.try_pass(LEN, &put(0)).unwrap();
        }
        let consumer = Arc::new(Mutex::new(consumer));
        let reader = consumer.clone();
        let senders = thread::spawn(move || {
            let waiter = shared.enqueue(LONG);
            let other = shared.clone();
            let behind = thread::spawn(move || {
                other.enqueue(LEN).write(&put(2), &own(), deadline()).unwrap();
                let mut consumer = reader.lock().unwrap();
                while recv(&mut consumer) != block(2, LEN) {}
            });
            let written = waiter.write(&put_long, &own(), deadline());
            behind.join().unwrap();
            written
        });
        assert_eq!(recv(&mut consumer.lock().unwrap()), block(0, LEN));
        assert_eq!(senders.join().unwrap(), Ok(()));
        assert_eq!(recv(&mut consumer.lock().unwrap()), block(1, LONG));
    });
}

/// The front's own channel ends, so it leaves without having written, and signals the next.
#[test]
fn a_front_that_leaves_signals_the_next() {
    explore_bounded(PREEMPTIONS, || {
        let (shared, _closer, mut consumer) = full();
        let first = own();
        let senders = front(shared, first.clone(), waits(own()));
        first.close_as(CloseReason::ANOTHER);
        assert_eq!(recv(&mut consumer), block(0, LEN));
        let next = recv(&mut consumer);
        let written = next == block(1, LEN);
        if written {
            assert_eq!(recv(&mut consumer), block(2, LEN));
        } else {
            assert_eq!(next, block(2, LEN));
        }
        let left = if written { Ok(()) } else { Err(NotWritten::Leaving) };
        assert_eq!(senders.join().unwrap(), (left, Ok(())));
    });
}

/// The same for the second in the queue: the front goes on without it.
#[test]
fn one_behind_may_leave() {
    explore_bounded(PREEMPTIONS, || {
        let (shared, _closer, mut consumer) = full();
        let second = own();
        let senders = front(shared, own(), waits(second.clone()));
        second.close_as(CloseReason::ANOTHER);
        assert_eq!(recv(&mut consumer), block(0, LEN));
        assert_eq!(recv(&mut consumer), block(1, LEN));
        let (first, left) = senders.join().unwrap();
        assert_eq!(first, Ok(()));
        match left {
            Ok(()) => assert_eq!(recv(&mut consumer), block(2, LEN)),
            Err(error) => assert_eq!(error, NotWritten::Leaving),
        }
    });
}

/// The same without room for the front: each of the two is woken only by the close of its own channel.
#[test]
fn each_one_leaves_by_itself() {
    explore_bounded(PREEMPTIONS, || {
        let (shared, _closer, _consumer) = full();
        let (first, second) = (own(), own());
        let ends_the_first = first.clone();
        let waiting = waits(second.clone());
        let senders = front(shared, first, move |shared| {
            let left = waiting(shared);
            ends_the_first.close_as(CloseReason::ANOTHER);
            left
        });
        second.close_as(CloseReason::ANOTHER);
        let left = Err(NotWritten::Leaving);
        assert_eq!(senders.join().unwrap(), (left, left));
    });
}

/// The receiver dies or unregisters: both waits end, and nothing more is written.
#[test]
fn the_receivers_end_sends_both_away() {
    explore_bounded(PREEMPTIONS, || {
        let (shared, closer, _consumer) = full();
        let senders = front(shared.clone(), own(), waits(own()));
        shared.end();
        closer.close_as(CloseReason::ANOTHER);
        let gone = Err(NotWritten::Ended);
        assert_eq!(senders.join().unwrap(), (gone, gone));
    });
}

/// The receiver gives up its inbox, and its channel stays open. Both waits end, though only `give_up` wakes
/// anybody.
#[test]
fn an_inbox_given_up_sends_both_away() {
    explore_bounded(PREEMPTIONS, || {
        let (shared, _closer, consumer) = full();
        let senders = front(shared, own(), waits(own()));
        consumer.give_up();
        let gone = Err(NotWritten::Ended);
        assert_eq!(senders.join().unwrap(), (gone, gone));
    });
}

/// The same just after the receiver made room. An acknowledged block is in the ring, though nobody will read
/// it.
#[test]
fn an_inbox_given_up_after_a_read_keeps_nobody_waiting() {
    explore_bounded(PREEMPTIONS, || {
        let (shared, _closer, mut consumer) = full();
        let senders = front(shared, own(), waits(own()));
        assert_eq!(recv(&mut consumer), block(0, LEN));
        consumer.give_up();
        let gone = Err(NotWritten::Ended);
        let (first, second) = senders.join().unwrap();
        assert!(first == gone || first == Ok(()));
        assert_eq!(second, gone);
        let mut received = Vec::new();
        assert_eq!(matches!(consumer.try_recv(&mut received), Ok(Some(_))), first.is_ok());
    });
}

/// The receiver makes room before it ends: the ring holds the block that was acknowledged, and nothing else.
#[test]
fn what_was_acknowledged_before_the_end_is_there() {
    explore_bounded(PREEMPTIONS, || {
        let (shared, closer, mut consumer) = full();
        let senders = front(shared.clone(), own(), waits(own()));
        assert_eq!(recv(&mut consumer), block(0, LEN));
        shared.end();
        closer.close_as(CloseReason::ANOTHER);
        let gone = Err(NotWritten::Ended);
        let (first, second) = senders.join().unwrap();
        assert!(first == gone || first == Ok(()));
        assert_eq!(second, gone);
        let mut received = Vec::new();
        let there = consumer.recv(&mut received).map(|_| received == block(1, LEN));
        assert_eq!(there.ok(), first.ok().map(|()| true));
    });
}

/// The receiver clears the parked word without a wake, and then ends. The close still wakes the front. Two
/// threads.
#[test]
fn the_receivers_close_needs_no_word_of_its_own() {
    explore_bounded(Some(5), || {
        let (client, server) = shared_setups(2);
        let shared = Arc::new(SharedProducer::new(Producer::new(&server)));
        shared.try_pass(LEN, &put(0)).unwrap();
        let sender = shared.clone();
        let sending = thread::spawn(move || sender.enqueue(LEN).write(&put(1), &own(), deadline()));
        futex::set(client.view.word32(PRODUCER_PARKED), 0);
        shared.end();
        server.closer.close_as(CloseReason::ANOTHER);
        assert_eq!(sending.join().unwrap(), Err(NotWritten::Ended));
    });
}
