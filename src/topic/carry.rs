//! What a publisher takes along when it goes on in another segment: its newest samples.
//!
//! A subscriber may never get the segment that is left: a server can die before its subscribers have taken
//! what was published there, and a publisher that says nothing for a while must not leave them with an old
//! sample. So the next segment begins with what lies in the newer half of the last one, under the same
//! sequences.
//!
//! This is done before anybody knows of the new segment, and mostly not by the writer, which may be idle. The
//! writer stays where it is until it sees the change, so it may publish one more sample there: it takes that
//! along itself.

use super::reader::{Reader, Start, Taken};
use super::shape::{DATA, FIRST, INTENT, LAST, NEW, Shape};
use crate::ring::Kick;
use crate::ring::layout::{HEADER, LINE, data_header, gap_header, record_size};
use crate::shm::View;
use crate::shm::backend::Ordering;
use crate::wire::Policy;

/// Where a writer is in a segment that has what was carried.
pub(super) struct Carried {
    /// Reads the former segment, from the first sample on that was not carried.
    rest: Reader,
    buffer: Vec<u8>,
    /// Where the next record begins.
    pub(super) position: u64,
    /// The sequence of the next sample.
    pub(super) sequence: u64,
    /// The end of the part of the ring for which an entry was stored last.
    pub(super) noted: u64,
}

/// How far the writer will overwrite in a segment with what was carried: nothing of it.
pub(super) fn intent(shape: &Shape) -> u64 {
    shape.ring_size() as u64
}

/// Copies the newest samples of one segment into another, which is all zeros, and which nobody else has. The
/// writer publishes at most one sample in the former one meanwhile. `None`, and nothing is written, if there
/// is nothing to be carried, or not enough room.
pub(super) fn carry((from, former): &(View, Shape), to: &View, shape: &Shape) -> Option<Carried> {
    if former.ring_size() > shape.ring_size() {
        return None;
    }
    // It neither sleeps nor tells how far it is, so it needs no page of its own.
    let no_page = (from.clone(), 0, Kick::default());
    let mut rest = Reader::new(from.clone(), *former, no_page, 0, Start::Beginning, Policy::Lossy);
    let mut buffer = Vec::new();
    // Half a ring has room for the largest sample with padding before it.
    while rest.lag() > former.ring_size() as u64 / 2 {
        rest.try_take(&mut buffer).ok()??;
    }
    let Taken { sequence, .. } = rest.try_take(&mut buffer).ok()??;
    let mut carried = Carried { rest, buffer, position: 0, sequence, noted: 0 };
    // Less than a ring, so there is neither padding nor anything to be cleared.
    loop {
        carried.put(to, shape);
        let Some(next) = carried.next().map(|(_, sequence)| sequence) else { break };
        if next > carried.sequence {
            carried.put_gap(to, shape, next);
        }
    }
    let next = carried.rest.next_sequence();
    if next > carried.sequence {
        carried.put_gap(to, shape, next);
    }
    let ring = to.ring(0, DATA, shape.ring_size());
    ring.word64::<FIRST>().store(sequence.wrapping_add(1), Ordering::Relaxed);
    ring.word64::<INTENT>().store(intent(shape), Ordering::Relaxed);
    to.word64(NEW).store(carried.sequence.wrapping_add(1), Ordering::Release);
    Some(carried)
}

impl Carried {
    /// The next sample of the former segment, if there is one, and its sequence.
    pub(super) fn next(&mut self) -> Option<(&[u8], u64)> {
        let taken = self.rest.try_take(&mut self.buffer).ok()??;
        Some((&self.buffer, taken.sequence))
    }

    fn put_gap(&mut self, to: &View, shape: &Shape, sequence: u64) {
        let (ring, start) = (to.ring(0, DATA, shape.ring_size()), self.position);
        ring.copy_in(start, HEADER, &sequence.to_le_bytes());
        ring.header(start).store(gap_header(start), Ordering::Relaxed);
        (self.position, self.sequence) = (start + LINE as u64, sequence);
    }

    fn put(&mut self, to: &View, shape: &Shape) {
        let (ring, start) = (to.ring(0, DATA, shape.ring_size()), self.position);
        ring.copy_in(start, HEADER, &self.buffer);
        ring.header(start).store(data_header(start, self.buffer.len()), Ordering::Relaxed);
        if start >= self.noted {
            let (position, sequence) = shape.entry(start);
            to.word64(sequence).store(self.sequence, Ordering::Relaxed);
            to.word64(position).store(start | 1, Ordering::Relaxed);
            self.noted = (start + 1).next_multiple_of(shape.part());
        }
        ring.word64::<LAST>().store(start | 1, Ordering::Relaxed);
        self.position = start + record_size(self.buffer.len());
        self.sequence += 1;
    }
}
