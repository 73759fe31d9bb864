//! Publishing and consuming: what is received is what was sent.

use super::*;

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

/// Once the first block of a batch was seen, no look finds the ring empty before its last block.
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
        if consumer.try_recv(&mut received).unwrap().is_some() {
            assert_eq!(consumer.try_recv(&mut received), Ok(Some(8)));
            assert_eq!(consumer.try_recv(&mut received), Ok(Some(8)));
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

/// Sends and receives a block whose second line is a forged header. Then moves the committed tail to the line
/// before it, one lap later. A consumer that looks behind the next record must not believe the forgery.
fn stale_forgery(lines: u64, start: u64) -> (Producer, Consumer) {
    let (mut producer, mut consumer) = ring(lines, start);
    producer.try_send(&forgery(start + 1 + lines)).unwrap();
    let mut received = Vec::new();
    assert_eq!(consumer.try_recv(&mut received), Ok(Some(64)));
    for _ in 2..lines {
        producer.try_send(&[]).unwrap();
        assert_eq!(consumer.try_recv(&mut received), Ok(Some(0)));
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
            consumer.try_recv(&mut received).unwrap().unwrap();
        }
        // At line 9: two lines, then line 11, which is where the forgery lies.
        pass((producer, consumer), vec![block(1, 100)], 2, send_some(1));
    });
}

/// The same behind the second of two such records, whose 0 was stored after the first one.
#[test]
fn stale_payload_is_not_a_header_where_far_ahead_was_cleared() {
    explore(|| {
        let (mut producer, mut consumer) = ring(16, WRAP);
        let mut received = Vec::new();
        // Lines 0 to 3, then 4 and 5 with the forgery at 5, one lap early; then up to line 16.
        for line in 0..16 {
            let block = if line == 4 { forgery(WRAP + 21) } else { vec![] };
            producer.try_send(&block).unwrap();
            consumer.try_recv(&mut received).unwrap().unwrap();
        }
        // At line 17: twice two lines, then line 21, which is where the forgery lies.
        pass((producer, consumer), vec![block(1, 100), block(2, 100)], 3, send_some(2));
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
        assert_eq!(consumer.try_recv(&mut received), Ok(Some(64)));
        producer.try_send(&[]).unwrap();
        assert_eq!(consumer.try_recv(&mut received), Ok(Some(0)));
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
            consumer.try_recv(&mut received).unwrap().unwrap();
        }
        // At line 7: one line of padding, two of the record, then line 10, which is where the forgery lies.
        pass((producer, consumer), vec![block(1, 100)], 2, send_some(1));
    });
}
