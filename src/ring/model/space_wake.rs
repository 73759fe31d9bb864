//! A producer that sleeps for room, or is about to, is woken by each way to give room back.

use super::*;

/// In the smallest ring each block waits until the one before was read, and each look waits for the next
/// block, so both sides sleep. At most 5 preemptions.
#[test]
fn both_sides_sleep_in_turn() {
    explore_bounded(Some(5), || {
        let (mut producer, mut consumer) = ring(2, WRAP - 1);
        producer.try_send(&block(1, 8)).unwrap();
        let sender = thread::spawn(move || {
            producer.send(&block(2, 8)).unwrap();
        });
        let mut received = Vec::new();
        for number in 1..=2 {
            assert_eq!(consumer.recv(&mut received), Ok(8));
            assert_eq!(received, block(number, 8));
        }
        sender.join().unwrap();
    });
}

/// The first block taken sends a wake at once; from then on one is due for each quarter of the ring.
pub(super) fn first_wake_paid((mut producer, mut consumer): (Producer, Consumer)) -> (Producer, Consumer) {
    producer.try_send(&[]).unwrap();
    assert_eq!(look(&mut consumer, &[vec![]], 1), 1);
    (producer, consumer)
}

/// A ring in which one line is less than a quarter. It holds one block of one line, behind which three lines
/// follow to the end. A block of half the ring needs that line, too.
pub(super) fn nearly_enough_room() -> (Producer, Consumer) {
    let (mut producer, consumer) = first_wake_paid(ring(8, WRAP - 5));
    producer.try_send(&block(1, 8)).unwrap();
    assert_eq!(producer.try_send(&block(2, 248)), Err(SendError::Full));
    (producer, consumer)
}

/// Less than a quarter was given back, so the consumer must send the wake when its next look finds nothing.
/// There may be no other wake.
#[test]
fn a_look_that_finds_nothing_wakes_the_producer() {
    explore(|| {
        let (mut producer, mut consumer) = nearly_enough_room();
        let sender = thread::spawn(move || {
            producer.send(&block(2, 248)).unwrap();
            producer
        });
        let blocks = [block(1, 8), block(2, 248)];
        let received = look(&mut consumer, &blocks, 2);
        assert!(received >= 1);
        drop(sender.join().unwrap());
        assert_eq!(look(&mut consumer, &blocks[received..], 1), 2 - received);
    });
}

/// The same where the consumer waits for what comes next. At most 5 preemptions.
#[test]
fn a_wait_wakes_the_producer() {
    explore_bounded(Some(5), || {
        let (mut producer, mut consumer) = nearly_enough_room();
        let sender = thread::spawn(move || {
            producer.send(&block(2, 248)).unwrap();
        });
        let mut received = Vec::new();
        assert_eq!(consumer.recv(&mut received), Ok(8));
        assert_eq!(consumer.recv(&mut received), Ok(248));
        sender.join().unwrap();
    });
}

/// The same where the consumer never looks again, but publishes on another ring.
#[test]
fn a_publish_elsewhere_wakes_the_producer() {
    explore(|| {
        let (mut producer, mut consumer) = nearly_enough_room();
        let (mut elsewhere, _peer) = ring(2, 0);
        let sender = thread::spawn(move || {
            producer.send(&block(2, 248)).unwrap();
            producer
        });
        assert_eq!(look(&mut consumer, &[block(1, 8)], 1), 1);
        elsewhere.try_publish(None, &[b"x"]).unwrap();
        notify_both(&mut elsewhere, &mut consumer);
        drop(sender.join().unwrap());
    });
}

/// The same where the block taken completes a quarter, and the consumer does nothing afterwards.
#[test]
fn a_quarter_given_back_wakes_the_producer() {
    explore(|| {
        let (mut producer, mut consumer) = first_wake_paid(ring(8, WRAP - 5));
        producer.try_send(&block(1, 60)).unwrap();
        assert_eq!(producer.try_send(&block(2, 248)), Err(SendError::Full));
        let sender = thread::spawn(move || {
            producer.send(&block(2, 248)).unwrap();
            producer
        });
        assert_eq!(look(&mut consumer, &[block(1, 60)], 1), 1);
        drop(sender.join().unwrap());
    });
}

/// A requester that has its response also has the request's room back, so a lone call is never refused or
/// delayed.
#[test]
fn a_response_gives_the_room_of_its_request_back() {
    explore(|| {
        let (mut requests, mut worker_requests) = ring(4, WRAP - 4);
        let (mut worker_responses, mut responses) = ring(2, WRAP - 1);
        requests.try_send(&block(1, 100)).unwrap();
        assert_eq!(requests.try_send(&block(2, 100)), Err(SendError::Full));
        let worker = thread::spawn(move || {
            let incoming = worker_requests.try_recv_ref().unwrap().unwrap();
            let mut request = [0; 8];
            incoming.read_at(0, &mut request);
            incoming.release_quietly();
            worker_responses.try_publish(None, &[&request]).unwrap();
            notify_both(&mut worker_responses, &mut worker_requests);
        });
        let mut response = Vec::new();
        if responses.try_recv(&mut response).unwrap().is_some() {
            assert_eq!(response, block(1, 8));
            assert_eq!(requests.try_send(&block(2, 100)), Ok(()));
        }
        worker.join().unwrap();
    });
}
