//! Numbers that a publisher skips.

use std::sync::atomic::Ordering;

use super::{Stage, each_segment_goes_on, numbered, take};
use crate::ring::Deadline;
use crate::ring::layout::{HEADER, Violation, gap_header};
use crate::topic::shape::{DATA, MOST_SEQUENCE};
use crate::topic::{Fault, Start, Taken};
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
    each_segment_goes_on(|number| if number % 3 == 1 { 3 + number % 5 } else { 0 });
}
