//! Where the words of a topic's segment lie, and how segments and pages are made, sealed and opened.
//!
//! `docs/PROTOCOL.md` describes them byte by byte.

use std::os::fd::{AsFd, OwnedFd};

use crate::channel::ChannelError;
use crate::ring::layout::{HEADER, LINE, MAX_CAPACITY};
use crate::shm::{Segment, View};

/// How far the writer will overwrite: readers behind this position less the capacity are lapped.
pub(super) const INTENT: usize = 0;
/// The position of the last record, with the lowest bit set; 0 before the first.
pub(super) const LAST: usize = 128;
/// Not 0 when the topic has ended.
pub(super) const ENDED: usize = 256;
/// The sequence of the first record, plus 1. It is stored before that record.
pub(super) const FIRST: usize = 320;
/// The sequence of the first record that is no copy of one in a former segment, plus 1; 0 without such.
pub(super) const NEW: usize = 328;
/// The table: for each part of the ring the first record that began in it, in the writer's latest pass.
const TABLE: usize = if cfg!(loom) { 384 } else { 1024 };
const ENTRY: usize = 128;
/// In the models there is less memory, because they make it anew for each order of events.
pub(super) const DATA: usize = if cfg!(loom) { TABLE + 8 * ENTRY } else { 4096 };

/// The numbers of samples are below this. Nobody lives to count so far, so a publisher that begins anywhere
/// below never comes to the end.
pub(crate) const MOST_SEQUENCE: u64 = 1 << 62;

/// The parts into which the table divides a ring.
const PARTS: u64 = 16;

/// The part of a ring that the largest sample may take. Half a ring would not do: with padding, and rounded
/// up, the intent would then lap readers that have read everything.
const LARGEST: usize = 4;

const SMALLEST_RING: usize = 4096;

/// The sizes of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    capacity: usize,
}

impl Shape {
    /// Of a ring of so many bytes: a power of two from 4 KiB to 1 GiB.
    pub(crate) fn new(ring_size: usize) -> Result<Shape, ChannelError> {
        if !ring_size.is_power_of_two() || !(SMALLEST_RING..=MAX_CAPACITY).contains(&ring_size) {
            return Err(ChannelError::RingSize(ring_size as u64));
        }
        Ok(Shape { capacity: ring_size })
    }

    /// Of so few lines that a model can explore it.
    #[cfg(all(test, loom))]
    pub(super) fn of_lines(lines: usize) -> Shape {
        assert!(lines.is_power_of_two() && lines >= LARGEST);
        Shape { capacity: lines * LINE }
    }

    pub(crate) fn ring_size(&self) -> usize {
        self.capacity
    }

    /// The longest sample, in bytes.
    pub(crate) fn max_sample(&self) -> usize {
        self.capacity / LARGEST - HEADER
    }

    pub(crate) fn segment_len(&self) -> usize {
        DATA + self.capacity
    }

    /// The bytes of each part.
    pub(super) fn part(&self) -> u64 {
        (self.capacity as u64 / PARTS).max(LINE as u64)
    }

    pub(super) fn entries(&self) -> usize {
        (self.capacity as u64 / self.part()) as usize
    }

    /// The table's entry for the record at a position: where its position lies, and its sequence.
    pub(super) fn entry(&self, position: u64) -> (usize, usize) {
        self.nth_entry((position / self.part()) as usize & (self.entries() - 1))
    }

    pub(super) fn nth_entry(&self, number: usize) -> (usize, usize) {
        let at = TABLE + number * ENTRY;
        (at, at + LINE)
    }
}

/// Makes a topic's segment, for its publisher to map and seal. Writes nothing into it: pages belong to who
/// touches them first. Does not block.
pub(crate) fn create_topic(shape: &Shape) -> Result<OwnedFd, ChannelError> {
    Ok(Segment::make_for_a_writer("ringpost-topic", shape.segment_len())?)
}

/// Maps the segment and seals it: from then on only this mapping can be written. Does not block.
pub(crate) fn publish_on(descriptor: impl AsFd, shape: &Shape) -> Result<View, ChannelError> {
    of_length(Segment::open_as_the_writer(descriptor)?, shape.segment_len())
}

/// Checks that the publisher has sealed the segment, and gives a descriptor for those who may only read.
/// Does not block.
pub(crate) fn read_only(descriptor: OwnedFd) -> Result<OwnedFd, ChannelError> {
    Ok(Segment::for_readers(descriptor)?)
}

/// Checks the segment and maps it for reading. Does not block.
pub(crate) fn open_topic(descriptor: impl AsFd, shape: &Shape) -> Result<View, ChannelError> {
    of_length(Segment::open_to_read(descriptor)?, shape.segment_len())
}

/// The size of the memory that one publisher and one subscription share.
pub(super) const PAGE: usize = if cfg!(loom) { 6 * LINE } else { 4096 };

/// Makes a page and writes nothing into it. Does not block.
pub(crate) fn create_page() -> Result<OwnedFd, ChannelError> {
    let (_unmapped, descriptor) = Segment::create("ringpost-page", PAGE)?;
    Ok(descriptor)
}

/// Checks a page and maps it. Does not block.
pub(crate) fn open_page(descriptor: impl AsFd) -> Result<View, ChannelError> {
    of_length(Segment::open(descriptor)?, PAGE)
}

fn of_length(segment: Segment, needed: usize) -> Result<View, ChannelError> {
    match segment.len() {
        found if found != needed => Err(ChannelError::Length { found, needed }),
        _ => Ok(View::new(segment)),
    }
}

#[cfg(all(test, not(any(loom, miri))))]
mod tests {
    use std::io;
    use std::os::fd::AsRawFd;
    use std::sync::atomic::Ordering;

    use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate, fstat, open};
    use rustix::io::{Errno, pwrite};

    use super::*;

    fn shape() -> Shape {
        Shape::new(4096).unwrap()
    }

    #[test]
    fn rings_are_powers_of_two_and_samples_a_quarter() {
        for size in [0, 2048, 5000, 2 * MAX_CAPACITY, usize::MAX] {
            assert!(matches!(Shape::new(size), Err(ChannelError::RingSize(_))), "{size}");
        }
        assert_eq!((shape().max_sample(), shape().part(), shape().entries()), (1016, 256, 16));
        let largest = Shape::new(MAX_CAPACITY).unwrap();
        assert_eq!((largest.max_sample(), largest.part()), ((256 << 20) - 8, 64 << 20));
        assert_eq!(shape().entry(4096 + 300), shape().nth_entry(1));
    }

    #[test]
    fn who_reads_sees_what_the_publisher_writes_and_cannot_write() {
        let made = create_topic(&shape()).unwrap();
        assert_eq!(fstat(&made).unwrap().st_blocks, 0, "its maker touches none of it");
        let writer = publish_on(&made, &shape()).unwrap();
        let descriptor = read_only(made).unwrap();
        let reader = open_topic(&descriptor, &shape()).unwrap();
        writer.word64(64).store(7, Ordering::Relaxed);
        assert_eq!(reader.word64(64).load(Ordering::Relaxed), 7);
        assert_eq!(pwrite(&descriptor, b"x", 0), Err(Errno::BADF));
        assert!(
            fallocate(&descriptor, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, 4096).is_err()
        );
        // Whoever may open it for writing cannot write it either.
        let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
        if let Ok(again) = open(path, OFlags::RDWR, Mode::empty()) {
            assert_eq!(pwrite(&again, b"x", 0), Err(Errno::PERM));
            assert!(Segment::open(&again).is_err(), "it cannot be mapped for writing");
        }
    }

    #[test]
    fn memory_that_is_not_sealed_is_given_to_nobody() {
        let made = create_topic(&shape()).unwrap();
        assert!(matches!(open_topic(&made, &shape()), Err(ChannelError::NotSealed { .. })));
        assert!(matches!(read_only(made), Err(ChannelError::NotSealed { .. })));
        // A channel's memory can be written by both sides.
        let (_segment, both) = Segment::create("test", shape().segment_len()).unwrap();
        assert!(matches!(open_topic(&both, &shape()), Err(ChannelError::NotSealed { .. })));
        assert!(matches!(publish_on(io::stdin(), &shape()), Err(ChannelError::NotMemory)));
        assert!(matches!(open_topic(io::stdin(), &shape()), Err(ChannelError::NotMemory)));
    }

    #[test]
    fn memory_of_another_length_is_refused() {
        let larger = Shape::new(8192).unwrap();
        let made = create_topic(&larger).unwrap();
        let writer = publish_on(&made, &larger).unwrap();
        let descriptor = read_only(made).unwrap();
        assert!(matches!(open_topic(&descriptor, &shape()), Err(ChannelError::Length { .. })));
        drop(writer);
        let made = create_topic(&larger).unwrap();
        assert!(matches!(publish_on(&made, &shape()), Err(ChannelError::Length { .. })));
        assert!(open_page(create_page().unwrap()).is_ok());
        let (_segment, long) = Segment::create("test", 2 * PAGE).unwrap();
        assert!(matches!(open_page(&long), Err(ChannelError::Length { .. })));
    }
}
