//! The shipping ring under loom: every interleaving of two threads and every value that a relaxed load may
//! give.
//!
//! Each model is exhaustive for its threads and operations unless it states a bound on preemptions. There are
//! no spin loops: where a model does not sleep, each side makes a fixed number of attempts, and whatever was
//! sent but not yet received is received after the threads have joined. Sleeps are untimed (see
//! `shm/futex.rs`), also those for space, so a lost wake is a deadlock, which loom reports. `tests/README.md`
//! says how to run them and which fault each one finds.

mod exchange;
mod turns;

use loom::thread;

use super::layout::{CONSUMER_PARKED, CONTROL, HEAD, LINE, PRODUCER_PARKED, data_header, largest_block};
use super::{
    CloseReason, Closer, Consumer, Peer, Producer, RecvError, SendError, Setup, TryRecvError, TrySendError,
    WaitStrategy, notify_both,
};
use crate::shm::View;
use crate::shm::futex::{self, Scope};
use crate::sync::{Arc, AtomicU32, Ordering, fence};

/// The first line number that a header cannot show: it shows 0 again.
const WRAP: u64 = 1 << 30;

/// The words of a modelled ring: control block, a line for the closed word, data.
const CLOSED: usize = CONTROL;
const DATA: usize = CONTROL + LINE;

fn explore(model: impl Fn() + Sync + Send + 'static) {
    explore_bounded(None, model);
}

fn explore_bounded(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 10_000;
    builder.check(move || {
        // The first use of a static passes on what its thread has done until then, to every later user. Here
        // that is nothing; later it would order what the ring leaves unordered.
        fence(Ordering::SeqCst);
        futex::wake(&AtomicU32::new(0), Scope::Private, 0);
        model();
    });
}

/// A ring of so many lines that begins, empty, at a line number. Both ends share one closer, as in
/// `ring::local`.
fn setup(lines: u64, start_line: u64) -> Setup {
    let capacity = lines as usize * LINE;
    let view = View::model(DATA + capacity);
    view.store64(HEAD, start_line * LINE as u64, Ordering::Relaxed);
    let parked = vec![CONSUMER_PARKED, PRODUCER_PARKED];
    Setup {
        closer: Closer::new(view.clone(), Scope::Private, parked, Some(CLOSED), Peer::Relied),
        view,
        control: 0,
        data: DATA,
        capacity,
        max_block: largest_block(capacity),
        scope: Scope::Private,
        strategy: WaitStrategy::Park,
        closes_on_drop: None,
        start: start_line * LINE as u64,
    }
}

fn ring(lines: u64, start_line: u64) -> (Producer, Consumer) {
    let setup = setup(lines, start_line);
    (Producer::new(&setup), Consumer::new(&setup))
}

/// The two sides of a ring between processes that do not trust each other: each has a closer and a private
/// closed word of its own. The first of the two setups is a client's, the second the server's.
fn shared_setups(lines: u64) -> (Setup, Setup) {
    let client = setup(lines, WRAP - 1);
    let closer = |peer| {
        let parked = vec![CONSUMER_PARKED, PRODUCER_PARKED];
        Closer::new(client.view.clone(), Scope::Shared, parked, Some(CLOSED), peer)
    };
    let server = Setup { closer: closer(Peer::Unheard), scope: Scope::Shared, ..client.clone() };
    let client = Setup { closer: closer(Peer::Relied), scope: Scope::Shared, ..client };
    (client, server)
}

/// A block of `len` bytes whose content tells which one it is.
fn block(number: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| number.wrapping_mul(50).wrapping_add(i as u8)).collect()
}

/// A block of two lines whose second line begins like the header of a record of one byte at `line`.
fn forgery(line: u64) -> Vec<u8> {
    let mut block = block(9, 60);
    let fake = data_header(line * LINE as u64, 1).to_le_bytes();
    block.splice(56.., fake);
    block
}

/// So many attempts to receive; what came must be the beginning of `sent`, block by block. Returns how many
/// came.
#[track_caller]
fn look(consumer: &mut Consumer, sent: &[Vec<u8>], attempts: usize) -> usize {
    receive(sent, attempts, |block| consumer.try_recv(block))
}

/// The same in one drain.
#[track_caller]
fn drain(consumer: &mut Consumer, sent: &[Vec<u8>], attempts: usize) -> usize {
    let mut drain = consumer.drain();
    receive(sent, attempts, |block| drain.try_recv(block))
}

#[track_caller]
fn receive(
    sent: &[Vec<u8>],
    attempts: usize,
    mut try_recv: impl FnMut(&mut Vec<u8>) -> Result<usize, TryRecvError>,
) -> usize {
    let mut block = Vec::new();
    let mut received = 0;
    for _ in 0..attempts {
        match try_recv(&mut block) {
            Ok(_) => {
                assert_eq!(sent.get(received), Some(&block), "block {received} arrived changed");
                received += 1;
            }
            Err(TryRecvError::Empty) => {}
            Err(error) => panic!("{error}"),
        }
    }
    received
}

/// One thread sends by `send`, which tells how many of `blocks` it could send; this one looks so many times
/// meanwhile. In the end exactly what was sent has arrived.
fn pass(
    (mut producer, mut consumer): (Producer, Consumer),
    blocks: Vec<Vec<u8>>,
    attempts: usize,
    send: impl FnOnce(&mut Producer, &[Vec<u8>]) -> usize + 'static,
) {
    let blocks = Arc::new(blocks);
    let to_send = blocks.clone();
    let sender = thread::spawn(move || send(&mut producer, &to_send));
    let received = look(&mut consumer, &blocks, attempts);
    let sent = sender.join().unwrap();
    let rest = look(&mut consumer, &blocks[received..sent], sent - received);
    assert_eq!(received + rest, sent, "what was sent is there");
    assert_eq!(look(&mut consumer, &[], 1), 0, "and nothing else");
}

/// Sends until the ring is full. The first `at_least` have room whatever the other side does.
fn send_some(at_least: usize) -> impl FnOnce(&mut Producer, &[Vec<u8>]) -> usize {
    move |producer, blocks| {
        for (i, block) in blocks.iter().enumerate() {
            match producer.try_send(block) {
                Ok(()) => {}
                Err(TrySendError::Full) if i >= at_least => return i,
                Err(error) => panic!("{error}"),
            }
        }
        blocks.len()
    }
}

// ---- (a) publish and consume

/// The smallest ring, in which every block reuses a line that the consumer has just given back, across line
/// 2^30.
#[test]
fn every_line_is_reused_across_the_wrap() {
    explore(|| {
        let blocks = vec![block(1, 56), block(2, 0), block(3, 8)];
        pass(ring(2, WRAP - 1), blocks, 3, send_some(1));
    });
}

/// Records of several lines, whose later lines lie where headers lay before.
#[test]
fn blocks_of_several_lines_arrive_whole() {
    explore(|| {
        let blocks = vec![block(1, 10), block(2, 100), block(3, 110)];
        pass(ring(4, WRAP - 4), blocks, 3, send_some(2));
    });
}

/// Padding to the end of the ring, then the record; both become visible at once, and the padding's place is
/// given back.
#[test]
fn padding_leads_to_the_start_of_the_ring() {
    explore(|| {
        let blocks = vec![block(1, 120), block(2, 30)];
        pass(ring(4, WRAP - 1), blocks, 3, send_some(1));
    });
}

/// A batch of padding and three blocks: nothing of it is there before the commit, all of it after.
#[test]
fn a_batch_is_all_or_nothing() {
    explore(|| {
        let blocks = vec![block(1, 60), block(2, 5), block(3, 0), block(4, 8)];
        pass(ring(8, WRAP - 1), blocks, 4, |producer, blocks| {
            let mut batch = producer.batch();
            for block in &blocks[..3] {
                batch.push(block).unwrap();
            }
            batch.commit();
            producer.try_send(&blocks[3]).unwrap();
            4
        });
    });
}

/// A batch of which a part was seen is seen whole: after its first block no look finds the ring empty.
#[test]
fn a_batch_begun_has_no_gap() {
    explore(|| {
        let (mut producer, mut consumer) = ring(8, 0);
        let sender = thread::spawn(move || {
            let mut batch = producer.batch();
            for number in 1..=3 {
                batch.push(&block(number, 8)).unwrap();
            }
            batch.commit();
        });
        let mut received = Vec::new();
        if consumer.try_recv(&mut received).is_ok() {
            assert_eq!(consumer.try_recv(&mut received), Ok(8));
            assert_eq!(consumer.try_recv(&mut received), Ok(8));
            assert_eq!(received, block(3, 8));
        }
        sender.join().unwrap();
    });
}

/// A batch that is dropped leaves no trace, though its later headers were written.
#[test]
fn an_abandoned_batch_is_never_seen() {
    explore(|| {
        pass(ring(4, WRAP - 2), vec![block(3, 7)], 2, |producer, blocks| {
            let mut batch = producer.batch();
            batch.push(&block(1, 8)).unwrap();
            batch.push(&block(2, 8)).unwrap();
            drop(batch);
            producer.try_send(&blocks[0]).unwrap();
            1
        });
    });
}

/// Sends and receives a forged header into the second line of the ring, and then brings the committed tail to
/// the line before it, one lap later: whoever looks behind the next record must not believe the forgery.
fn stale_forgery(lines: u64, start: u64) -> (Producer, Consumer) {
    let (mut producer, mut consumer) = ring(lines, start);
    producer.try_send(&forgery(start + 1 + lines)).unwrap();
    let mut received = Vec::new();
    assert_eq!(consumer.try_recv(&mut received), Ok(64));
    for _ in 2..lines {
        producer.try_send(&[]).unwrap();
        assert_eq!(consumer.try_recv(&mut received), Ok(0));
    }
    (producer, consumer)
}

/// Payload bytes of the lap before pose as the header of the current position.
#[test]
fn stale_payload_is_not_a_header() {
    explore(|| {
        // The second block lies where the forgery lay.
        let blocks = vec![block(1, 8), block(2, 8)];
        pass(stale_forgery(4, WRAP - 4), blocks, 3, send_some(2));
    });
}

/// The same behind a record of two lines, for which nothing was cleared ahead.
#[test]
fn stale_payload_is_not_a_header_behind_two_lines() {
    explore(|| {
        let (mut producer, mut consumer) = ring(8, WRAP);
        let mut received = Vec::new();
        // Lines 0 and 1, then 2 and 3 with the forgery at 3, one lap early; then up to line 8.
        for block in [vec![], vec![], forgery(WRAP + 11), vec![], vec![], vec![], vec![], vec![]] {
            producer.try_send(&block).unwrap();
            consumer.try_recv(&mut received).unwrap();
        }
        // At line 9: two lines, then line 11, which is where the forgery lies.
        pass((producer, consumer), vec![block(1, 100)], 2, send_some(1));
    });
}

/// The same behind a batch.
#[test]
fn stale_payload_is_not_a_header_behind_a_batch() {
    explore(|| {
        // Tail at line 3 of 4 after one more block: the batch is padding-free, [3], then [0] and the forgery
        // at 1.
        let (mut producer, mut consumer) = ring(4, WRAP);
        producer.try_send(&forgery(WRAP + 5)).unwrap();
        let mut received = Vec::new();
        assert_eq!(consumer.try_recv(&mut received), Ok(64));
        producer.try_send(&[]).unwrap();
        assert_eq!(consumer.try_recv(&mut received), Ok(0));
        let blocks = vec![block(1, 8), block(2, 8)];
        pass((producer, consumer), blocks, 3, |producer, blocks| {
            let mut batch = producer.batch();
            batch.push(&blocks[0]).unwrap();
            batch.push(&blocks[1]).unwrap();
            batch.commit();
            2
        });
    });
}

/// The same behind padding and its record.
#[test]
fn stale_payload_is_not_a_header_behind_padding() {
    explore(|| {
        let (mut producer, mut consumer) = ring(8, WRAP);
        let mut received = Vec::new();
        // Lines 0, then 1 and 2 with the forgery at 2, one lap early; then up to line 7.
        for block in [vec![], forgery(WRAP + 10), vec![], vec![], vec![], vec![]] {
            producer.try_send(&block).unwrap();
            consumer.try_recv(&mut received).unwrap();
        }
        // At line 7: one line of padding, two of the record, then line 10, which is where the forgery lies.
        pass((producer, consumer), vec![block(1, 100)], 2, send_some(1));
    });
}

// ---- (b) data wake

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
            worker_requests.try_recv(&mut request).unwrap();
            worker_responses.try_publish(None, [&request]).unwrap();
            notify_both(&mut worker_responses, &mut worker_requests);
        });
        let mut response = Vec::new();
        assert_eq!(responses.recv(&mut response), Ok(8));
        assert_eq!(response, block(1, 8));
        worker.join().unwrap();
    });
}

// ---- (c) space wake

/// The smallest ring: each block waits for the one before, each look for the next block; both sides sleep. At
/// most 5 preemptions.
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

/// What comes first is told of at once; from then on the consumer counts quarters.
fn first_wake_paid((mut producer, mut consumer): (Producer, Consumer)) -> (Producer, Consumer) {
    producer.try_send(&[]).unwrap();
    assert_eq!(look(&mut consumer, &[vec![]], 1), 1);
    (producer, consumer)
}

/// A ring in which one consumed line is less than a quarter, with one line committed before its last three: a
/// block of half the ring needs that line.
fn nearly_enough_room() -> (Producer, Consumer) {
    let (mut producer, consumer) = first_wake_paid(ring(8, WRAP - 5));
    producer.try_send(&block(1, 8)).unwrap();
    assert_eq!(producer.try_send(&block(2, 248)), Err(TrySendError::Full));
    (producer, consumer)
}

/// Less than a quarter was given back, so the wake is due when the next look finds nothing; there may be no
/// other.
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
        elsewhere.try_publish(None, [b"x"]).unwrap();
        notify_both(&mut elsewhere, &mut consumer);
        drop(sender.join().unwrap());
    });
}

/// The same where the block taken crosses a quarter, and the consumer does nothing afterwards.
#[test]
fn a_quarter_given_back_wakes_the_producer() {
    explore(|| {
        let (mut producer, mut consumer) = first_wake_paid(ring(8, WRAP - 5));
        producer.try_send(&block(1, 60)).unwrap();
        assert_eq!(producer.try_send(&block(2, 248)), Err(TrySendError::Full));
        let sender = thread::spawn(move || {
            producer.send(&block(2, 248)).unwrap();
            producer
        });
        assert_eq!(look(&mut consumer, &[block(1, 60)], 1), 1);
        drop(sender.join().unwrap());
    });
}

// ---- drains

/// A full ring: what is sent meanwhile lies where the drain reads.
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

/// A producer that sleeps, or is about to, is told by a look that finds nothing; the drain goes on.
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
        assert_eq!(drain.try_recv(&mut received), Ok(8));
        let came = drain.try_recv(&mut received).is_ok();
        drop(sender.join().unwrap());
        if !came {
            assert_eq!(drain.try_recv(&mut received), Ok(248));
        }
        assert_eq!(received, blocks[1]);
    });
}

/// The same by a block that crosses a quarter, while the drain goes on and looks no more.
#[test]
fn a_quarter_taken_by_a_drain_wakes_the_producer() {
    explore(|| {
        let (mut producer, mut consumer) = first_wake_paid(ring(8, WRAP - 5));
        producer.try_send(&block(1, 60)).unwrap();
        assert_eq!(producer.try_send(&block(2, 248)), Err(TrySendError::Full));
        let sender = thread::spawn(move || {
            producer.send(&block(2, 248)).unwrap();
            producer
        });
        let mut drain = consumer.drain();
        let mut received = Vec::new();
        assert_eq!(drain.try_recv(&mut received), Ok(60));
        drop(sender.join().unwrap());
        drop(drain);
    });
}

// ---- `head` before a commit elsewhere

/// Whoever has the response to a request has the request's room back: a lone call is never refused or kept
/// waiting.
#[test]
fn a_response_gives_the_room_of_its_request_back() {
    explore(|| {
        let (mut requests, mut worker_requests) = ring(4, WRAP - 4);
        let (mut worker_responses, mut responses) = ring(2, WRAP - 1);
        requests.try_send(&block(1, 100)).unwrap();
        assert_eq!(requests.try_send(&block(2, 100)), Err(TrySendError::Full));
        let worker = thread::spawn(move || {
            let incoming = worker_requests.try_incoming().unwrap();
            let mut request = [0; 8];
            incoming.read_at(0, &mut request);
            incoming.release_quietly();
            worker_responses.try_publish(None, [&request]).unwrap();
            notify_both(&mut worker_responses, &mut worker_requests);
        });
        let mut response = Vec::new();
        if responses.try_recv(&mut response).is_ok() {
            assert_eq!(response, block(1, 8));
            assert_eq!(requests.try_send(&block(2, 100)), Ok(()));
        }
        worker.join().unwrap();
    });
}

// ---- (d) closing

/// A block committed before the close is received before the close is reported, also by one that does not
/// sleep.
#[test]
fn what_was_committed_before_the_close_comes_first() {
    explore(|| {
        let (mut producer, mut consumer) = ring(2, WRAP - 1);
        let sender = thread::spawn(move || {
            // Not told of: only the close itself says that there is something.
            producer.try_publish(None, [&block(1, 8)]).unwrap();
            producer.closer().close();
        });
        let mut received = Vec::new();
        let mut came = false;
        for _ in 0..2 {
            match consumer.try_recv(&mut received) {
                Ok(_) => came = true,
                Err(TryRecvError::Empty) => {}
                Err(error) => {
                    assert_eq!(error, TryRecvError::Disconnected(CloseReason::Local));
                    assert!(came, "closed before the block was received");
                }
            }
        }
        sender.join().unwrap();
    });
}

/// The same where the closer's process has its own private word, and only the shared one tells.
#[test]
fn what_was_committed_before_the_other_side_closed_comes_first() {
    explore(|| {
        let (client, server) = shared_setups(2);
        let (mut producer, mut consumer) = (Producer::new(&server), Consumer::new(&client));
        let sender = thread::spawn(move || {
            producer.try_publish(None, [&block(1, 8)]).unwrap();
            producer.closer().close_as(CloseReason::Shutdown);
        });
        let mut received = Vec::new();
        let mut came = false;
        for _ in 0..2 {
            match consumer.try_recv(&mut received) {
                Ok(_) => came = true,
                Err(TryRecvError::Empty) => {}
                Err(error) => {
                    assert_eq!(error, TryRecvError::Disconnected(CloseReason::Shutdown));
                    assert!(came, "closed before the block was received");
                }
            }
        }
        sender.join().unwrap();
    });
}

/// A close by this side is never taken for the other's, though the other is told so.
#[test]
fn a_close_is_ones_own() {
    explore(|| {
        let (producer, consumer) = ring(2, 0);
        let closing = thread::spawn(move || producer.closer().close());
        assert!(matches!(consumer.closer().reason(), None | Some(CloseReason::Local)));
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
            producer.closer().close_as(CloseReason::Peer);
        });
        let mut received = Vec::new();
        assert_eq!(consumer.recv(&mut received), Ok(8));
        assert_eq!(received, block(1, 8));
        assert_eq!(consumer.recv(&mut received), Err(RecvError::Disconnected(CloseReason::Peer)));
        sender.join().unwrap();
    });
}

#[test]
fn a_close_wakes_the_consumer() {
    explore(|| {
        let (producer, mut consumer) = ring(2, 0);
        let closing = thread::spawn(move || producer.closer().close_as(CloseReason::Peer));
        let mut received = Vec::new();
        assert_eq!(consumer.recv(&mut received), Err(RecvError::Disconnected(CloseReason::Peer)));
        closing.join().unwrap();
    });
}

#[test]
fn a_close_wakes_the_producer() {
    explore(|| {
        let (mut producer, consumer) = ring(2, 0);
        producer.try_send(&[]).unwrap();
        let closing = thread::spawn(move || consumer.closer().close_as(CloseReason::Peer));
        assert_eq!(producer.send(&[]), Err(SendError::Disconnected(CloseReason::Peer)));
        closing.join().unwrap();
    });
}

/// Between processes: the other side's close reaches a sleeper through the shared word and the parked word.
#[test]
fn the_other_sides_close_wakes_both_ends() {
    explore(|| {
        let (client, server) = shared_setups(2);
        let mut consumer = Consumer::new(&client);
        let closing = thread::spawn(move || server.closer.close_as(CloseReason::Shutdown));
        let mut received = Vec::new();
        assert_eq!(consumer.recv(&mut received), Err(RecvError::Disconnected(CloseReason::Shutdown)));
        closing.join().unwrap();
    });
    explore(|| {
        let (client, server) = shared_setups(2);
        let mut producer = Producer::new(&client);
        producer.try_send(&[]).unwrap();
        let closing = thread::spawn(move || server.closer.close_as(CloseReason::Shutdown));
        assert_eq!(producer.send(&[]), Err(SendError::Disconnected(CloseReason::Shutdown)));
        closing.join().unwrap();
    });
}

/// A consumer and then a producer of one side of a channel sleeps, or is about to, while the other side
/// spoils its parked word and this side is closed: the wait ends. At most 6 preemptions.
fn closed_all_the_same(side: fn() -> Setup, spoil_and_close: fn(&AtomicU32, &Closer)) {
    let closing = move |side: &Setup, parked: usize| {
        let (closer, view) = (side.closer.clone(), side.view.clone());
        thread::spawn(move || spoil_and_close(view.word32(parked), &closer))
    };
    explore_bounded(Some(6), move || {
        let side = side();
        let mut consumer = Consumer::new(&side);
        let closing = closing(&side, CONSUMER_PARKED);
        let mut received = Vec::new();
        assert_eq!(consumer.recv(&mut received), Err(RecvError::Disconnected(CloseReason::Died)));
        closing.join().unwrap();
    });
    explore_bounded(Some(6), move || {
        let side = side();
        let mut producer = Producer::new(&side);
        producer.try_send(&[]).unwrap();
        let closing = closing(&side, PRODUCER_PARKED);
        assert_eq!(producer.send(&[]), Err(SendError::Disconnected(CloseReason::Died)));
        closing.join().unwrap();
    });
}

/// The peer dies between the change of the parked word and the wake: a side that relies on it closes when it
/// hears of that, and wakes its sleeper all the same.
#[test]
fn a_close_wakes_a_sleeper_whose_waker_died() {
    let client = || shared_setups(2).0;
    closed_all_the_same(client, |parked, closer| {
        futex::set(parked, 0);
        closer.close_as(CloseReason::Died);
    });
}

/// The peer clears the parked word without a wake, so that a closer finds nobody asleep there, and sets it
/// again for whoever is about to lie down: the private word ends the sleep all the same.
#[test]
fn a_close_wakes_a_sleeper_whose_parked_word_the_peer_clears() {
    let server = || shared_setups(2).1;
    closed_all_the_same(server, |parked, closer| {
        futex::set(parked, 0);
        closer.close_as(CloseReason::Died);
        futex::set(parked, 1);
    });
}
