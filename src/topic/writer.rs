//! `Writer`: publishes samples, one after the other, whoever reads.

use std::fmt;

use super::audience::{Attached, Audience, Heeded, Successor, always_fences, end_segment, ended_word};
use super::carry::{Carried, intent};
use super::grant::Grant;
use super::page::State;
use super::patience::Kept;
use super::shape::{DATA, FIRST, INTENT, LAST, Shape};
use super::tally::Tally;
use crate::channel::NewestFigures;
use crate::ring::layout::{
    EMPTY, HEADER, LINE, ONE_LINE, data_header, gap_header, padding_header, record_size,
};
use crate::ring::{CloseReason, Deadline, WaitStrategy, Waiting};
use crate::shm::backend::{Arc, Ordering, fence};
use crate::shm::{RingView, View, Word32};
use crate::testing::failpoints::failpoint;

/// A generation that never is, so that the writer looks again.
const STALE: u32 = 2;

/// Why a sample was not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// It has more bytes than the largest sample.
    TooLarge,
    /// Reliable readers have not read enough yet.
    Full,
    TimedOut,
    Ended(CloseReason),
}

/// How a topic's segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Nothing more is published.
    Closed = 1,
    /// The publisher goes on in another segment.
    Moved = 2,
}

impl Ended {
    pub(super) fn from_word(word: u32) -> Option<Ended> {
        match word {
            0 => None,
            2 => Some(Ended::Moved),
            _ => Some(Ended::Closed),
        }
    }
}

/// The publisher's end of a topic.
pub(crate) struct Writer {
    pub(super) ring: RingView,
    view: View,
    ended: Word32,
    shape: Shape,
    /// Where the next record begins, or the padding before it.
    pub(super) position: u64,
    /// As it was stored.
    intent: u64,
    /// The sequence of the next sample.
    pub(super) sequence: u64,
    /// The end of the part of the ring for which an entry was stored last.
    noted: u64,
    pub(super) audience: Audience,
    pub(super) heeded: Heeded,
    /// Those that may sleep.
    sleepers: Vec<Arc<Attached>>,
    /// Those that are waited for.
    pub(super) reliable: Vec<Arc<Attached>>,
    always_fences: bool,
    pub(super) waiting: Waiting,
    /// How far reliable readers must have read for the sample that did not find room.
    pub(super) wanted: Option<u64>,
    /// Who keeps it waiting in an event loop.
    pub(super) kept_waiting: Option<Kept>,
    /// What is told to who looks at the bus.
    tally: Option<Box<Tally>>,
}

impl Writer {
    /// Publishes in this memory, which is all zeros. The first sample has the sequence `first`.
    pub(crate) fn new(
        view: View,
        shape: Shape,
        first: u64,
        audience: Audience,
        strategy: WaitStrategy,
    ) -> Writer {
        let ring = view.ring(0, DATA, shape.ring_size());
        audience.begin(&view, shape);
        let ended = ended_word(&view);
        let mut writer = Writer {
            ring,
            view,
            ended,
            shape,
            position: 0,
            intent: 0,
            sequence: first,
            noted: 0,
            heeded: audience.heed(),
            audience,
            sleepers: Vec::new(),
            reliable: Vec::new(),
            always_fences: always_fences(),
            waiting: Waiting::new(strategy),
            wanted: None,
            kept_waiting: None,
            tally: None,
        };
        writer.sort();
        writer.say_first();
        writer
    }

    /// Says in the segment with which sequence it begins.
    fn say_first(&self) {
        self.ring.word64::<FIRST>().store(self.sequence.wrapping_add(1), Ordering::Release);
    }

    /// From now on what it publishes is counted there.
    pub(crate) fn counted_in(&mut self, figures: NewestFigures) {
        self.tally = Some(Box::new(Tally::new(figures, self.sequence, self.position)));
    }

    /// Counts what was published so far.
    fn tally_up(&mut self) {
        Tally::published(&mut self.tally, self.sequence, self.position);
    }

    /// The sequence of the next sample.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.sequence
    }

    pub(crate) fn max_sample(&self) -> usize {
        self.shape.max_sample()
    }

    // ---- publishing

    /// Publishes a sample. Blocks only for reliable readers, at most until the deadline.
    #[inline]
    pub(crate) fn send(&mut self, payload: &[u8], deadline: Deadline) -> Result<(), Unsent> {
        self.heed_changes()?;
        if payload.len() > ONE_LINE || self.position + 2 * LINE as u64 > self.intent {
            return self.send_longer(payload, Some(deadline));
        }
        self.send_line(payload);
        Ok(())
    }

    /// The same without waiting.
    #[inline]
    pub(crate) fn try_send(&mut self, payload: &[u8]) -> Result<(), Unsent> {
        self.heed_changes()?;
        if payload.len() > ONE_LINE || self.position + 2 * LINE as u64 > self.intent {
            return self.send_longer(payload, None);
        }
        self.send_line(payload);
        Ok(())
    }

    /// Room for a sample of up to `len` bytes, to be written in place. Blocks as [`send`](Self::send).
    pub(crate) fn grant(&mut self, len: usize, deadline: Deadline) -> Result<Grant<'_>, Unsent> {
        self.heed_changes()?;
        let start = self.place(len, Some(deadline))?;
        Ok(Grant::new(self, start, len))
    }

    /// The next sample has this number, if that is ahead. Blocks as [`send`](Self::send).
    pub(crate) fn skip_to(&mut self, sequence: u64, deadline: Deadline) -> Result<(), Unsent> {
        self.heed_changes()?;
        if sequence > self.sequence {
            // One line, which always fits before the end of the ring.
            self.place(size_of::<u64>(), Some(deadline))?;
            self.commit_gap(sequence);
            self.tell();
        }
        Ok(())
    }

    /// Makes a record visible that says which number the next sample has.
    fn commit_gap(&mut self, sequence: u64) {
        let (start, end) = (self.position, self.position + LINE as u64);
        self.ring.copy_in(start, HEADER, &sequence.to_le_bytes());
        self.ring.header(end).store(EMPTY, Ordering::Relaxed);
        self.ring.header(start).store(gap_header(start), Ordering::Release);
        self.tally_up();
        (self.position, self.sequence) = (end, sequence);
        if let Some(tally) = &mut self.tally {
            tally.leap(self.sequence, self.position);
        }
        self.audience.set_tail(end);
    }

    /// A sample of one line, which the intent covers with the header behind it. A line always fits before the
    /// end of the ring.
    #[inline(always)]
    fn send_line(&mut self, payload: &[u8]) {
        self.ring.copy_into_line(self.position, HEADER, payload);
        failpoint!("sample.line", [topic, server], always);
        self.commit(self.position, payload.len(), LINE as u64);
        self.tell();
    }

    #[inline(never)]
    fn send_longer(&mut self, payload: &[u8], deadline: Option<Deadline>) -> Result<(), Unsent> {
        let start = self.place(payload.len(), deadline)?;
        self.ring.copy_in(start, HEADER, payload);
        failpoint!("sample.payload", [topic, server], always);
        self.commit_at(start, payload.len());
        self.tell();
        Ok(())
    }

    /// Where a record of this length begins, behind padding if it does not fit before the end of the ring.
    /// Announces how far it will overwrite. Waits for reliable readers, unless there is no deadline.
    fn place(&mut self, len: usize, mut deadline: Option<Deadline>) -> Result<u64, Unsent> {
        loop {
            if len > self.shape.max_sample() {
                return Err(Unsent::TooLarge);
            }
            let (capacity, size) = (self.capacity(), record_size(len));
            let left = capacity - (self.position & (capacity - 1));
            let start = if size > left { self.position + left } else { self.position };
            let end = start + size + LINE as u64;
            if end <= self.intent || self.raise(end, deadline.as_mut())? {
                return Ok(start);
            }
            // Meanwhile it was told to go on in another segment.
            self.settle();
        }
    }

    /// Raises the intent to the end of the part in which `end` lies. The list of readers was read before.
    /// False if this segment is not the newest any more.
    #[cold]
    #[inline(never)]
    fn raise(&mut self, end: u64, deadline: Option<&mut Deadline>) -> Result<bool, Unsent> {
        let intent = end.next_multiple_of(self.shape.part());
        self.wait_for_readers(intent, deadline)?;
        if self.heeded.has_successor {
            // The readers of this segment are not waited for any more, so nothing is overwritten here.
            return Ok(false);
        }
        failpoint!("intent.raising", [topic, server], seldom);
        self.ring.word64::<INTENT>().store(intent, Ordering::Relaxed);
        // Whoever sees a byte that is stored from here on, and then makes an Acquire fence, sees the intent.
        fence(Ordering::Release);
        failpoint!("intent.raised", [topic, server], seldom);
        self.intent = intent;
        Ok(true)
    }

    /// Makes the record at `start` visible, and the padding before it.
    pub(super) fn commit_at(&mut self, start: u64, len: usize) {
        if start == self.position {
            return self.commit(start, len, record_size(len));
        }
        let (padded, size) = (self.position, record_size(len));
        self.ring.header(start + size).store(EMPTY, Ordering::Relaxed);
        self.ring.header(start).store(data_header(start, len), Ordering::Relaxed);
        failpoint!("sample.behind_padding", [topic, server], seldom);
        self.ring.header(padded).store(padding_header(padded, start - padded), Ordering::Release);
        self.note(start, start + size);
    }

    #[inline(always)]
    fn commit(&mut self, start: u64, len: usize, size: u64) {
        let end = start + size;
        self.ring.header(end).store(EMPTY, Ordering::Relaxed);
        self.ring.header(start).store(data_header(start, len), Ordering::Release);
        self.note(start, end);
    }

    /// What is said of a record behind its commit.
    #[inline(always)]
    fn note(&mut self, start: u64, end: u64) {
        failpoint!("sample.committed", [topic, server], always);
        if start >= self.noted {
            self.enter(start);
        }
        // Behind the entry of its part, from which its sequence is counted.
        self.ring.word64::<LAST>().store(start | 1, Ordering::Release);
        self.position = end;
        self.sequence += 1;
        self.audience.set_tail(end);
    }

    /// The first record of a part. A reader that takes the position for valid takes the sequence for its own:
    /// so the position is stored behind it, and the intent that makes the old position invalid before it.
    #[cold]
    fn enter(&mut self, start: u64) {
        let (position, sequence) = self.shape.entry(start);
        self.view.word64(sequence).store(self.sequence, Ordering::Relaxed);
        failpoint!("table.sequence", [topic, server], seldom);
        self.view.word64(position).store(start | 1, Ordering::Release);
        self.noted = (start + 1).next_multiple_of(self.shape.part());
        self.tally_up();
    }

    /// Wakes those that sleep, behind a commit.
    #[inline(always)]
    pub(super) fn tell(&mut self) {
        if self.always_fences {
            fence(Ordering::SeqCst);
        }
        // Behind the header, for who attaches a reader. `fence(Release)` keeps the compiler from exchanging
        // them; the barrier of the other side does the rest.
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
        if self.audience.generation() != self.heeded.generation {
            self.settle();
        }
        if !self.sleepers.is_empty() {
            self.wake_sleepers();
        }
    }

    #[inline(never)]
    fn wake_sleepers(&mut self) {
        if !self.always_fences {
            fence(Ordering::SeqCst);
        }
        if self.sleepers.iter().any(|attached| attached.page.looks_parked()) {
            self.wake_parked();
        }
    }

    /// Apart from the look, which needs few registers.
    #[cold]
    #[inline(never)]
    fn wake_parked(&mut self) {
        for attached in &self.sleepers {
            if attached.page.looks_parked() {
                failpoint!("sample.waking", [topic, server], seldom);
                if attached.page.has_left() {
                    self.audience.leave(attached.id);
                } else if !attached.wake(self.position) {
                    self.audience.evict(attached, State::BrokeRules);
                }
            }
        }
        self.tally_up();
    }

    // ---- the audience

    #[inline(always)]
    pub(crate) fn heed_changes(&mut self) -> Result<(), Unsent> {
        if self.audience.generation() != self.heeded.generation {
            self.settle();
        }
        // A close is a change, and stays.
        match self.heeded.closed {
            None => Ok(()),
            Some(reason) => Err(Unsent::Ended(reason)),
        }
    }

    /// Heeds all changes. Between two samples only: it may go on in another segment.
    #[cold]
    #[inline(never)]
    pub(super) fn settle(&mut self) {
        self.heed();
        if self.heeded.has_successor {
            self.move_on();
            self.heed();
        }
    }

    /// Heeds who reads. If this writer is to go on elsewhere, it heeds that before the next sample.
    #[cold]
    #[inline(never)]
    pub(super) fn heed(&mut self) {
        self.heeded = self.audience.heed();
        if self.heeded.has_successor {
            self.heeded.generation = STALE;
        }
        self.sort();
    }

    fn sort(&mut self) {
        let those = |wanted: fn(&Attached) -> bool| {
            self.heeded.all.iter().filter(|attached| wanted(attached)).cloned().collect()
        };
        self.sleepers = those(|attached| attached.may_sleep);
        self.reliable = those(|attached| attached.reliable);
        for attached in &self.reliable {
            attached.floor(self.position);
        }
    }

    /// Ends this segment and goes on in another one, whose readers are not those of this one.
    fn move_on(&mut self) {
        let Some((successor, former)) = self.audience.take_successor() else { return };
        end_segment(&self.ended, Ended::Moved, &former);
        failpoint!("topic.moved", [topic], seldom);
        self.tally_up();
        let Successor { view, shape, carried } = successor;
        self.ring = view.ring(0, DATA, shape.ring_size());
        self.ended = ended_word(&view);
        (self.view, self.shape) = (view, shape);
        (self.position, self.intent, self.noted, self.wanted) = (0, 0, 0, None);
        self.kept_waiting = None;
        match carried {
            None => self.say_first(),
            Some(carried) => self.go_on_behind(carried),
        }
        if let Some(tally) = &mut self.tally {
            tally.leap(self.sequence, self.position);
        }
    }

    /// Goes on behind what was carried here, with what was not.
    fn go_on_behind(&mut self, mut carried: Carried) {
        let next = self.sequence;
        (self.position, self.noted, self.sequence) = (carried.position, carried.noted, carried.sequence);
        self.intent = intent(&self.shape);
        // It is one at most, and what it has skipped, so it has room before the end of the ring.
        while let Some((sample, sequence)) = carried.next() {
            if sequence > self.sequence {
                self.commit_gap(sequence);
            }
            self.ring.copy_in(self.position, HEADER, sample);
            self.commit_at(self.position, sample.len());
        }
        if next > self.sequence {
            self.commit_gap(next);
        }
    }

    pub(super) fn capacity(&self) -> u64 {
        self.shape.ring_size() as u64
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("shape", &self.shape).finish_non_exhaustive()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.settle();
        self.tally_up();
        self.audience.end(&self.ended, Ended::Closed);
    }
}
