//! How many samples a topic has had, for its server, which can read the segment and does not map it.
//!
//! The publisher may write anything there, also while it is read. So what is read is only a number: it leads
//! to no read outside the segment, and to no more of them than [`MOST`] bytes take.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::{Errno, pread};

use super::shape::{DATA, FIRST, LAST, NEW, Shape};
use crate::ring::layout::{Header, LINE, check, record_size};

/// The most bytes of the ring that are read. The samples since the newest entry of the table are counted in
/// them; if they take more, the number of the others is estimated.
const MOST: usize = 64 * 1024;

/// How often it is tried again if the publisher has overwritten what was being read.
const ATTEMPTS: usize = 3;

/// What was published in a segment so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) samples: u64,
    /// Bytes of the ring that they took.
    pub(crate) bytes: u64,
}

/// Reads what was published in a segment of this shape. Nothing if it makes no sense. Does not block.
///
/// # Errors
///
/// If the descriptor cannot be read.
pub(crate) fn published(segment: impl AsFd, shape: &Shape) -> Result<Published, Errno> {
    for _ in 0..ATTEMPTS {
        if let Some(published) = look(segment.as_fd(), shape)? {
            return Ok(published);
        }
    }
    Ok(Published::default())
}

/// `None` if what was read does not go together.
fn look(segment: BorrowedFd<'_>, shape: &Shape) -> Result<Option<Published>, Errno> {
    let mut words = [0; DATA];
    let read = pread(segment, &mut words, 0)?;
    let Some(last) = told(word(&words[..read], LAST)) else { return Ok(Some(Published::default())) };
    let (position, sequence) = shape.entry(last);
    let (entry, sequence) = (told(word(&words, position)), word(&words, sequence));
    let Some(entry) = entry.filter(|entry| *entry <= last && entry / shape.part() == last / shape.part())
    else {
        return Ok(None);
    };
    // Samples that were copied from a former segment were not published here. The words hold one more.
    let first = match word(&words, NEW) {
        0 => word(&words, FIRST).wrapping_sub(1),
        new => new - 1,
    };
    let mut records = vec![0; MOST.min((last - entry) as usize + LINE)];
    let at = DATA as u64 + (entry & (shape.ring_size() as u64 - 1));
    let read = pread(segment, &mut records, at)?;
    let Some((behind, counted)) = count(&records[..read], entry, last, shape) else { return Ok(None) };
    let samples = sequence.wrapping_add(counted).wrapping_sub(first);
    // A record has a line at least.
    Ok((samples <= behind / LINE as u64).then_some(Published { samples, bytes: behind }))
}

/// How many records there are up to the last one, and the position behind that. `records` begins with the one
/// at `entry`.
fn count(records: &[u8], entry: u64, last: u64, shape: &Shape) -> Option<(u64, u64)> {
    let (mut at, mut counted) = (entry, 0);
    loop {
        let offset = (at - entry) as usize;
        if offset >= records.len() {
            // As many to the byte as so far.
            let rest = u128::from(last - at + LINE as u64) * u128::from(counted) / u128::from(at - entry);
            return Some((last + LINE as u64, counted + rest as u64));
        }
        match check(word(records, offset), at, shape.ring_size(), shape.max_sample()) {
            Ok(Header::Data(len)) if at == last => return Some((at + record_size(len), counted + 1)),
            Ok(Header::Data(len)) => at += record_size(len),
            // What is padded begins in the first part again.
            Ok(Header::Padding) | Err(_) => return None,
        }
        counted += 1;
        if at > last {
            return None;
        }
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u64::from_ne_bytes(*word))
}

/// A position that the publisher told, if it can be one.
fn told(word: u64) -> Option<u64> {
    (word & (LINE as u64 - 1) == 1 && word < 1 << 62).then_some(word & !1)
}

#[cfg(all(test, not(any(loom, miri))))]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::ring::{Deadline, WaitStrategy};
    use crate::shm::View;
    use crate::shm::backend::Ordering;
    use crate::topic::shape::{create_topic, publish_on, read_only};
    use crate::topic::{Audience, Writer};

    fn segment(ring: usize) -> (View, OwnedFd, Shape) {
        let shape = Shape::new(ring).unwrap();
        let made = create_topic(&shape).unwrap();
        let view = publish_on(&made, &shape).unwrap();
        (view, read_only(made).unwrap(), shape)
    }

    #[test]
    fn every_sample_is_counted() {
        for ring in [4096, 64 * 1024] {
            let (view, descriptor, shape) = segment(ring);
            assert_eq!(published(&descriptor, &shape), Ok(Published::default()));
            let mut writer = Writer::new(view, shape, 77, Audience::new(None).unwrap(), WaitStrategy::Park);
            let mut payload = Vec::new();
            for number in 1..=1000_u64 {
                payload.resize((number * number) as usize % 600, 0);
                writer.send(&payload, Deadline::NEVER).unwrap();
                let Published { samples, bytes } = published(&descriptor, &shape).unwrap();
                assert_eq!((samples, bytes), (number, writer.position), "ring of {ring}");
            }
        }
    }

    #[test]
    fn what_is_too_much_to_read_is_estimated() {
        let (view, descriptor, shape) = segment(16 << 20);
        let mut writer = Writer::new(view, shape, 0, Audience::new(None).unwrap(), WaitStrategy::Park);
        for number in 1..=10_000_u64 {
            writer.send(&[0; 80], Deadline::NEVER).unwrap();
            if number.is_multiple_of(1000) {
                let samples = published(&descriptor, &shape).unwrap().samples;
                assert!(samples.abs_diff(number) <= 1, "{samples} of {number}");
            }
        }
    }

    #[test]
    fn whatever_a_publisher_writes_is_only_a_number() {
        let (view, descriptor, shape) = segment(4096);
        let (entry, sequence) = shape.entry(0);
        let values = [0, 1, 65, 4097, (1 << 62) - 63, 1 << 62 | 1, u64::MAX];
        for last in values {
            for other in values {
                for (at, value) in
                    [(LAST, last), (entry, other), (sequence, other), (FIRST, other), (NEW, last)]
                {
                    view.word64(at).store(value, Ordering::Relaxed);
                }
                for line in 0..64 {
                    view.word64(DATA + 64 * line).store(other, Ordering::Relaxed);
                }
                let Published { samples, bytes } = published(&descriptor, &shape).unwrap();
                assert!(samples <= bytes / LINE as u64, "{last:#x} {other:#x}");
            }
        }
        // All goes together, but for a sequence that nobody can have reached.
        let record = crate::ring::layout::data_header(64, 8);
        let words = [(LAST, 65), (entry, 65), (sequence, 1000), (FIRST, 1), (NEW, 0), (DATA + 64, record)];
        words.iter().for_each(|(at, value)| view.word64(*at).store(*value, Ordering::Relaxed));
        assert_eq!(published(&descriptor, &shape), Ok(Published::default()));
        let (pipe, _other) = std::io::pipe().unwrap();
        assert_eq!(published(&pipe, &shape), Err(Errno::SPIPE));
    }
}
