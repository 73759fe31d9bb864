//! Blocks written in place: drafts, grants and batches.

use super::*;

/// Drafts and batches load the head exactly if the last head seen does not show enough room.
#[test]
fn drafts_and_batches_grow_into_what_was_given_back() {
    let (mut producer, mut consumer) = local(1024).unwrap();
    for _ in 0..8 {
        producer.try_send(&[]).unwrap();
        consumer.try_recv(&mut Vec::new()).unwrap().unwrap();
    }
    let mut draft = producer.begin(0).unwrap();
    assert_eq!(draft.room(), 56);
    producer.extend(&mut draft, 440);
    assert_eq!((draft.room(), producer.head()), (440, 0), "half the ring, without the zeroed line");
    producer.extend(&mut draft, 441);
    assert_eq!((draft.room(), producer.head()), (504, 512), "all of it");
    producer.commit_draft(&draft, 0);

    let (mut producer, mut consumer) = local(256).unwrap();
    for _ in 0..2 {
        producer.try_send(&[]).unwrap();
        consumer.try_recv(&mut Vec::new()).unwrap().unwrap();
    }
    let mut batch = producer.batch();
    batch.push(&[]).unwrap();
    batch.commit();
    assert_eq!(producer.head(), 0, "it was full up to the last line, and not fuller");
    let mut batch = producer.batch();
    batch.push(&[]).unwrap();
    batch.commit();
    assert_eq!(producer.head(), 128);
}

#[test]
fn a_draft_behind_padding_may_end_within_its_first_line() {
    let (mut producer, mut consumer) = local(1024).unwrap();
    let mut block = Vec::new();
    for _ in 0..15 {
        producer.try_send(&[]).unwrap();
        consumer.try_recv(&mut block).unwrap().unwrap();
    }
    let draft = producer.begin(57).unwrap();
    producer.write(&draft, 0, b"short");
    producer.commit_draft(&draft, 5);
    producer.notify();
    assert_eq!(consumer.try_recv(&mut block), Ok(Some(5)));
    assert_eq!(block, b"short");
}

/// The draft wrote over a 0 that had been stored ahead, and then a shorter block is committed.
#[test]
fn a_draft_begun_anew_leaves_nothing_behind_its_end() {
    let setup = local_setup(1024, WaitStrategy::Park, 0).unwrap();
    let (mut producer, mut consumer) = (Producer::new(&setup), Consumer::new(&setup));
    let mut into = Vec::new();
    for len in [100, 170] {
        producer.try_send(&vec![1; len]).unwrap();
        assert_eq!(consumer.try_recv(&mut into), Ok(Some(len)));
        let ahead = producer.cleared().next().unwrap();
        let mut draft = producer.begin(0).unwrap();
        producer.extend(&mut draft, 400);
        producer.write(&draft, 0, &[0xff; 400]);
        producer.take_back(&draft, 400);
        producer.write(&draft, 0, &vec![2; len]);
        producer.commit_draft(&draft, len);
        producer.notify();
        assert_eq!(consumer.try_recv(&mut into), Ok(Some(len)));
        assert_eq!(
            ahead,
            setup.view.word64(HEAD).load(Ordering::Relaxed),
            "it ends where the line was cleared"
        );
        assert_eq!(consumer.try_recv(&mut into), Ok(None));
    }
}
