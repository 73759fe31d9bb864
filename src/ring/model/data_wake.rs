//! A consumer that sleeps, or is about to, is woken by each way to publish.

use super::*;

/// A consumer that sleeps, or is about to, is woken by each way to publish.
fn data_wake(
    preemptions: Option<usize>,
    blocks: u8,
    send: impl Fn(&mut Producer) + Copy + Sync + Send + 'static,
) {
    explore_bounded(preemptions, move || {
        let (mut producer, mut consumer) = ring(4, WRAP - 1);
        let sender = thread::spawn(move || send(&mut producer));
        let mut received = Vec::new();
        for number in 1..=blocks {
            assert_eq!(consumer.recv(&mut received), Ok(8));
            assert_eq!(received, block(number, 8));
        }
        sender.join().unwrap();
    });
}

#[test]
fn a_send_wakes_the_consumer() {
    data_wake(None, 1, |producer| producer.try_send(&block(1, 8)).unwrap());
}

/// At most 5 preemptions: two sends and two sleeps make too many interleavings for all of them.
#[test]
fn each_of_two_sends_wakes_the_consumer() {
    data_wake(Some(5), 2, |producer| {
        producer.try_send(&block(1, 8)).unwrap();
        producer.try_send(&block(2, 8)).unwrap();
    });
}

#[test]
fn a_batch_wakes_the_consumer() {
    data_wake(None, 2, |producer| {
        let mut batch = producer.batch();
        batch.push(&block(1, 8)).unwrap();
        batch.push(&block(2, 8)).unwrap();
        batch.commit();
    });
}

#[test]
fn a_grant_wakes_the_consumer() {
    data_wake(None, 1, |producer| {
        let mut grant = producer.try_grant(8).unwrap();
        std::io::Write::write_all(&mut grant, &block(1, 8)).unwrap();
        grant.commit();
    });
}

/// One fence for the response just published and the request just consumed, as a worker does it.
#[test]
fn notify_both_wakes_the_consumer() {
    explore(|| {
        let (mut requests, mut worker_requests) = ring(2, 0);
        let (mut worker_responses, mut responses) = ring(2, 0);
        requests.try_send(&block(1, 8)).unwrap();
        let worker = thread::spawn(move || {
            let mut request = Vec::new();
            worker_requests.try_recv(&mut request).unwrap().unwrap();
            worker_responses.try_publish(None, &[&request]).unwrap();
            notify_both(&mut worker_responses, &mut worker_requests);
        });
        let mut response = Vec::new();
        assert_eq!(responses.recv(&mut response), Ok(8));
        assert_eq!(response, block(1, 8));
        worker.join().unwrap();
    });
}
