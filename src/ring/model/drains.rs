//! Drains: blocks are given back only after they were read, and a waiting producer is woken.

use super::space_wake::{first_wake_paid, nearly_enough_room};
use super::*;

/// The ring is full, so the producer writes its next blocks where the drain reads.
#[test]
fn what_a_drain_takes_is_given_back_after_it_was_read() {
    explore(|| {
        let (mut producer, mut consumer) = first_wake_paid(ring(8, WRAP - 8));
        // Two lines each, a quarter of the ring, then one line each.
        let blocks: Vec<_> =
            [100, 100, 8, 8, 8, 8, 8].into_iter().zip(1..).map(|(len, i)| block(i, len)).collect();
        for block in &blocks[..5] {
            producer.try_send(block).unwrap();
        }
        let more = blocks.clone();
        let sender = thread::spawn(move || send_some(0)(&mut producer, &more[5..]));
        let taken = drain(&mut consumer, &blocks, 3);
        assert_eq!(taken, 3);
        let sent = 5 + sender.join().unwrap();
        assert_eq!(drain(&mut consumer, &blocks[taken..sent], 4), sent - taken, "what was sent is there");
    });
}

/// A producer sleeps, or is about to. The drain wakes it when a look finds nothing, and then goes on.
#[test]
fn a_look_of_a_drain_that_finds_nothing_wakes_the_producer() {
    explore(|| {
        let (mut producer, mut consumer) = nearly_enough_room();
        let sender = thread::spawn(move || {
            producer.send(&block(2, 248)).unwrap();
            producer
        });
        let blocks = [block(1, 8), block(2, 248)];
        let mut drain = consumer.drain();
        let mut received = Vec::new();
        assert_eq!(drain.try_recv(&mut received), Ok(Some(8)));
        let came = drain.try_recv(&mut received).unwrap().is_some();
        drop(sender.join().unwrap());
        if !came {
            assert_eq!(drain.try_recv(&mut received), Ok(Some(248)));
        }
        assert_eq!(received, blocks[1]);
    });
}

/// The same when a block completes a quarter of the ring, and the drain looks no more.
#[test]
fn a_quarter_taken_by_a_drain_wakes_the_producer() {
    explore(|| {
        let (mut producer, mut consumer) = first_wake_paid(ring(8, WRAP - 5));
        producer.try_send(&block(1, 60)).unwrap();
        assert_eq!(producer.try_send(&block(2, 248)), Err(SendError::Full));
        let sender = thread::spawn(move || {
            producer.send(&block(2, 248)).unwrap();
            producer
        });
        let mut drain = consumer.drain();
        let mut received = Vec::new();
        assert_eq!(drain.try_recv(&mut received), Ok(Some(60)));
        drop(sender.join().unwrap());
        drop(drain);
    });
}
