//! Numbers that a publisher skips.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{Stage, numbered, take};
use crate::ring::layout::{HEADER, Violation, gap_header};
use crate::ring::{Deadline, Kick};
use crate::shm::{Segment, View};
use crate::topic::shape::{DATA, MOST_SEQUENCE};
use crate::topic::{Fault, Reader, Start, Taken};
use crate::wire::Policy;

#[test]
fn a_gap_leads_ahead_or_breaks_a_rule() {
    for (next, is_good) in [
        (2, true),
        (1, false),
        (0, false),
        (MOST_SEQUENCE - 1, true),
        (MOST_SEQUENCE, false),
        (u64::MAX, false),
    ] {
        let mut stage = Stage::new(4096, None);
        let mut writer = stage.writer();
        let mut reader = stage.reader(Start::Beginning, Policy::Lossy);
        writer.send(&numbered(0, 8), Deadline::NEVER).unwrap();
        assert_eq!(take(&mut reader).unwrap().0, Taken { sequence: 0, missed: 0 });
        let ring = stage.view.ring(0, DATA, 4096);
        ring.copy_in(64, HEADER, &u64::to_le_bytes(next));
        ring.header(64).store(gap_header(64), Ordering::Release);
        let taken = reader.try_take(&mut Vec::new());
        if is_good {
            assert_eq!((taken, reader.next_sequence()), (Ok(None), next));
        } else {
            assert_eq!(taken, Err(Fault::Broken(Violation::Rejected)), "{next}");
        }
    }
}

/// However quick it is, and whatever it skips between: each segment has the numbers of the one before.
#[test]
fn a_publisher_that_skips_takes_its_gaps_along() {
    let stage = Stage::new(4096, None);
    let mut writer = stage.writer();
    let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !over.load(Ordering::Relaxed) {
                if number % 3 == 1 {
                    number += 3 + number % 5;
                    writer.skip_to(number, Deadline::NEVER).unwrap();
                }
                writer.send(&numbered(number, [8, 60, 1016][number as usize % 3]), Deadline::NEVER).unwrap();
                number += 1;
                sent.store(number, Ordering::Release);
            }
        });
        for _ in 0..2000 {
            let view = View::new(Segment::anonymous(stage.shape.segment_len()).unwrap());
            let before = sent.load(Ordering::Acquire);
            stage.audience.succeed(view.clone(), stage.shape);
            let page = View::new(Segment::anonymous(4096).unwrap());
            let mut reader = Reader::new(
                view,
                stage.shape,
                (page, 0, Kick::default()),
                0,
                Start::Beginning,
                Policy::Lossy,
            );
            let mut next = None;
            while next.is_none_or(|next| next < before) {
                let Some((taken, sample)) = take(&mut reader) else {
                    std::thread::yield_now();
                    continue;
                };
                assert!(next.is_none_or(|next| taken.sequence == next + taken.missed));
                assert_eq!(sample[..8], taken.sequence.to_le_bytes());
                next = Some(taken.sequence + 1);
            }
        }
        over.store(true, Ordering::Relaxed);
    });
}
