//! Closing: what was committed comes first, and every sleeper is woken.

use super::*;

/// A block committed before the close is received before the close is reported, even if the consumer does not
/// sleep.
#[test]
fn what_was_committed_before_the_close_comes_first() {
    explore(|| {
        let (mut producer, mut consumer) = ring(2, WRAP - 1);
        let sender = thread::spawn(move || {
            // Published without a wake: only the close announces the block.
            producer.try_publish(None, &[&block(1, 8)]).unwrap();
            producer.closer().close();
        });
        let mut received = Vec::new();
        let mut came = false;
        for _ in 0..2 {
            match consumer.try_recv(&mut received) {
                Ok(Some(_)) => came = true,
                Ok(None) => {}
                Err(error) => {
                    assert_eq!(error, RecvError::Disconnected(CloseReason::LOCAL));
                    assert!(came, "closed before the block was received");
                }
            }
        }
        sender.join().unwrap();
    });
}

/// The same where the closer's process has its own private word, so that only the shared word reports the
/// close.
#[test]
fn what_was_committed_before_the_other_side_closed_comes_first() {
    explore(|| {
        let (client, server) = shared_setups(2);
        let (mut producer, mut consumer) = (Producer::new(&server), Consumer::new(&client));
        let sender = thread::spawn(move || {
            producer.try_publish(None, &[&block(1, 8)]).unwrap();
            producer.closer().close_as(CloseReason::ABOVE);
        });
        let mut received = Vec::new();
        let mut came = false;
        for _ in 0..2 {
            match consumer.try_recv(&mut received) {
                Ok(Some(_)) => came = true,
                Ok(None) => {}
                Err(error) => {
                    assert_eq!(error, RecvError::Disconnected(CloseReason::ABOVE));
                    assert!(came, "closed before the block was received");
                }
            }
        }
        sender.join().unwrap();
    });
}

/// A side that closes sees its own reason, never the one that the shared word holds for the other side.
#[test]
fn a_close_is_ones_own() {
    explore(|| {
        let (producer, consumer) = ring(2, 0);
        let closing = thread::spawn(move || producer.closer().close());
        assert!(matches!(consumer.closer().reason(), None | Some(CloseReason::LOCAL)));
        closing.join().unwrap();
    });
}

/// A consumer that sleeps, or is about to, gets the block and then the end.
/// At most 5 preemptions: the two sleeps of its one consumer make too many interleavings for all of them.
#[test]
fn a_close_wakes_the_consumer_behind_the_last_block() {
    explore_bounded(Some(5), || {
        let (mut producer, mut consumer) = ring(2, WRAP - 1);
        let sender = thread::spawn(move || {
            producer.try_send(&block(1, 8)).unwrap();
            producer.closer().close_as(CloseReason::PEER);
        });
        let mut received = Vec::new();
        assert_eq!(consumer.recv(&mut received), Ok(8));
        assert_eq!(received, block(1, 8));
        assert_eq!(consumer.recv(&mut received), Err(RecvError::Disconnected(CloseReason::PEER)));
        sender.join().unwrap();
    });
}

#[test]
fn a_close_wakes_the_consumer() {
    explore(|| {
        let (producer, mut consumer) = ring(2, 0);
        let closing = thread::spawn(move || producer.closer().close_as(CloseReason::PEER));
        let mut received = Vec::new();
        assert_eq!(consumer.recv(&mut received), Err(RecvError::Disconnected(CloseReason::PEER)));
        closing.join().unwrap();
    });
}

#[test]
fn a_close_wakes_the_producer() {
    explore(|| {
        let (mut producer, consumer) = ring(2, 0);
        producer.try_send(&[]).unwrap();
        let closing = thread::spawn(move || consumer.closer().close_as(CloseReason::PEER));
        assert_eq!(producer.send(&[]), Err(SendError::Disconnected(CloseReason::PEER)));
        closing.join().unwrap();
    });
}

/// Between processes: the other side's close reaches a sleeper through the shared word and the parked word.
#[test]
fn the_other_sides_close_wakes_both_ends() {
    explore(|| {
        let (client, server) = shared_setups(2);
        let mut consumer = Consumer::new(&client);
        let closing = thread::spawn(move || server.closer.close_as(CloseReason::ABOVE));
        let mut received = Vec::new();
        assert_eq!(consumer.recv(&mut received), Err(RecvError::Disconnected(CloseReason::ABOVE)));
        closing.join().unwrap();
    });
    explore(|| {
        let (client, server) = shared_setups(2);
        let mut producer = Producer::new(&client);
        producer.try_send(&[]).unwrap();
        let closing = thread::spawn(move || server.closer.close_as(CloseReason::ABOVE));
        assert_eq!(producer.send(&[]), Err(SendError::Disconnected(CloseReason::ABOVE)));
        closing.join().unwrap();
    });
}

/// Ends a wait by a close of its own side, while the other side changes the parked word. First a consumer
/// waits, then a producer; each sleeps or is about to. At most 6 preemptions.
pub(super) fn closed_all_the_same(side: fn() -> Setup, spoil_and_close: fn(&AtomicU32, &Closer)) {
    let closing = move |side: &Setup, parked: usize| {
        let (closer, view) = (side.closer.clone(), side.view.clone());
        thread::spawn(move || spoil_and_close(view.word32(parked), &closer))
    };
    explore_bounded(Some(6), move || {
        let side = side();
        let mut consumer = Consumer::new(&side);
        let closing = closing(&side, CONSUMER_PARKED);
        let mut received = Vec::new();
        assert_eq!(consumer.recv(&mut received), Err(RecvError::Disconnected(CloseReason::ANOTHER)));
        closing.join().unwrap();
    });
    explore_bounded(Some(6), move || {
        let side = side();
        let mut producer = Producer::new(&side);
        producer.try_send(&[]).unwrap();
        let closing = closing(&side, PRODUCER_PARKED);
        assert_eq!(producer.send(&[]), Err(SendError::Disconnected(CloseReason::ANOTHER)));
        closing.join().unwrap();
    });
}

/// The peer dies between the change of the parked word and the wake. A side that relies on it closes when it
/// learns of the death, and that wakes its sleeper.
#[test]
fn a_close_wakes_a_sleeper_whose_waker_died() {
    let client = || shared_setups(2).0;
    closed_all_the_same(client, |parked, closer| {
        futex::set(parked, 0);
        closer.close_as(CloseReason::ANOTHER);
    });
}

/// The peer clears the parked word without a wake, so the closer finds nobody asleep there; then it sets the
/// word again, so a thread that is about to sleep finds its word unchanged. The private word still ends the
/// sleep.
#[test]
fn a_close_wakes_a_sleeper_whose_parked_word_the_peer_clears() {
    let server = || shared_setups(2).1;
    closed_all_the_same(server, |parked, closer| {
        futex::set(parked, 0);
        closer.close_as(CloseReason::ANOTHER);
        futex::set(parked, 1);
    });
}
