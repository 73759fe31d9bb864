//! `Reader`: reads the samples of one publisher, at its own pace, without writing where others read.

mod lapped;
mod wait;

use std::fmt;

use super::in_place::InPlace;
use super::page::{Page, State};
use super::shape::{DATA, ENDED, FIRST, INTENT, MOST_SEQUENCE, Shape};
use super::tally::Tally;
use super::writer::Ended;
use crate::channel::NewestFigures;
use crate::ring::Kick;
use crate::ring::layout::{
    EMPTY, HEADER, Header, LINE, ONE_LINE, Violation, check, data_mark, gap_header, record_size,
};
use crate::shm::backend::{Ordering, SPINS, fence, spin_hint};
use crate::shm::{RingView, View};
use crate::testing::failpoints::failpoint;
use crate::wire::Policy;

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// At the first sample of all, or the oldest that is still there.
    Beginning,
    /// At the first sample that its publisher did not take along from another segment.
    New,
    /// Behind what was published so far.
    Now,
    /// With as many of the last samples as are still there, at most so many.
    Last(u64),
}

/// A sample that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) sequence: u64,
    /// How many samples were passed over just before it.
    pub(crate) missed: u64,
}

/// Why nothing more is read of this publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The publisher broke a rule.
    Broken(Violation),
    /// The publisher gave this reader up, or refused it.
    GivenUp(State),
}

/// What lies at the reader's position.
pub(super) enum Look {
    Sample(usize),
    Nothing,
    /// The writer has overwritten it, or is about to.
    Lapped,
}

/// How often a reader that is lapped begins anew before it says that nothing can be taken now. By then it has
/// gone to the oldest sample, to the middle of the ring, and to the last one.
const ATTEMPTS: u32 = 4;

/// How often a reader pauses at most after a run of samples: together less than a microsecond.
const MOST_PAUSES: u32 = 16;

/// How many catch-ups may lead nowhere. No honest writer passes all that its table says while that is read.
const MOST_STUCK: u32 = 64;

/// The subscriber's end of one publisher's topic.
pub(crate) struct Reader {
    ring: RingView,
    view: View,
    pub(super) shape: Shape,
    page: Page,
    /// The publisher's pipe, if it may wait for this reader in an event loop.
    kick: Kick,
    policy: Policy,
    /// Where the next record is looked for.
    position: u64,
    /// The sequence of the next sample, if none is missed.
    sequence: u64,
    /// Samples that were passed over since the last one.
    missed: u64,
    /// How often in a row it was lapped without a sample.
    laps: u32,
    /// From this position on the publisher is told how far the reader is.
    tell_at: u64,
    fault: Option<Fault>,
    /// Whether more is to be done for a sample than to take it.
    careful: bool,
    /// Whether the sequence of the first sample is still to be read from the segment.
    has_begun: bool,
    /// The sample with which to go on, for a publisher that was read in another segment.
    resumed_at: Option<u64>,
    /// Whoever is lapped again before this position is too slow for the oldest samples.
    edge: u64,
    /// Catch-ups in a row that led nowhere.
    stuck: u32,
    /// What is told to who looks at the bus.
    tally: Option<Box<Tally>>,
    /// Looks that found nothing, modulo 256.
    looks: u8,
    /// Samples since the last look that found nothing, and how long such a look lasts.
    run: u32,
    pauses: u32,
}

impl Reader {
    /// Reads what a publisher publishes in this memory. `first` is the sequence of its first sample.
    pub(crate) fn new(
        view: View,
        shape: Shape,
        (page, line, kick): (View, u16, Kick),
        first: u64,
        start: Start,
        policy: Policy,
    ) -> Reader {
        let ring = view.ring(0, DATA, shape.ring_size());
        let tell_at = if policy == Policy::Reliable { shape.part() } else { u64::MAX };
        let mut reader = Reader {
            ring,
            view,
            shape,
            page: Page::new(page, line),
            kick,
            policy,
            position: 0,
            sequence: first,
            missed: 0,
            laps: 0,
            tell_at,
            fault: None,
            careful: true,
            has_begun: false,
            resumed_at: None,
            edge: 0,
            stuck: 0,
            tally: None,
            looks: 0,
            run: 0,
            pauses: 0,
        };
        match start {
            Start::Beginning => {}
            Start::New => reader.begin_with_new(),
            Start::Now => reader.begin_with_last(0),
            Start::Last(most) => reader.begin_with_last(most),
        }
        reader
    }

    /// From now on what it takes is counted there.
    pub(crate) fn counted_in(&mut self, figures: NewestFigures) {
        self.tally = Some(Box::new(Tally::new(figures, self.sequence, self.position)));
        self.tell_at = self.tell_at.min(self.position + self.shape.part());
    }

    /// Counts what was taken so far.
    #[cold]
    #[inline(never)]
    fn tally_up(&mut self) {
        if let Some(tally) = &mut self.tally {
            tally.count(self.sequence, self.position);
            tally.tell_taken();
        }
    }

    // ---- taking

    /// Takes the next sample into the buffer, which it clears first. Does not block. Returns `None` also when
    /// it was lapped again and again; [`is_pending`](Self::is_pending) tells.
    #[inline(always)]
    pub(crate) fn try_take(&mut self, to: &mut Vec<u8>) -> Result<Option<Taken>, Fault> {
        to.clear();
        let word = self.load_header();
        let len = (word & 0xffff_ffff) as usize;
        if word >> 32 == data_mark(self.position) && len <= ONE_LINE && !self.careful {
            self.ring.append_from_line(self.position, HEADER, len, to);
            if !self.is_lapped() {
                return Ok(Some(self.taken(LINE as u64)));
            }
        } else if word == EMPTY && !self.careful && !self.is_lapped() {
            self.let_it_get_ahead();
            return self.nothing();
        }
        self.take_slowly(to)
    }

    /// Where samples come without pause, a reader that is right behind the writer takes each line out of the
    /// writer's hands, and both are slow. So after a run of samples it pauses a little before it looks again.
    /// A reader of single samples never does.
    #[inline(always)]
    fn let_it_get_ahead(&mut self) {
        if !SPINS {
            return;
        }
        self.pauses = if self.run >= 2 { MOST_PAUSES.min(2 * self.pauses + 1) } else { self.pauses / 2 };
        self.run = 0;
        for _ in 0..self.pauses {
            spin_hint();
        }
    }

    #[cold]
    #[inline(never)]
    fn take_slowly(&mut self, to: &mut Vec<u8>) -> Result<Option<Taken>, Fault> {
        for _ in 0..ATTEMPTS {
            to.clear();
            let Some(len) = self.find()? else { return self.nothing() };
            self.ring.append_to(self.position, HEADER, len, to);
            failpoint!("sample.copied", [topic], seldom);
            if !self.is_lapped() {
                return Ok(Some(self.taken(record_size(len))));
            }
            self.catch_up()?;
        }
        to.clear();
        Ok(None)
    }

    /// The next sample in place, if there is one. Does not block.
    #[cfg(test)]
    pub(crate) fn try_view(&mut self) -> Result<Option<InPlace<'_>>, Fault> {
        Ok(self.seek()?.map(|len| self.view(len)))
    }

    /// The length of the next sample, if there is one. Does not block.
    pub(crate) fn seek(&mut self) -> Result<Option<usize>, Fault> {
        match self.find()? {
            Some(len) => Ok(Some(len)),
            None => self.nothing().map(|_| None),
        }
    }

    /// The sample that a [`seek`](Self::seek) has just found, in place.
    pub(crate) fn view(&mut self, len: usize) -> InPlace<'_> {
        InPlace::new(self, len)
    }

    /// Goes on under another subscription to the same segment, with the page that was given with that one.
    pub(crate) fn go_on_under(&mut self, mut other: Reader) {
        std::mem::swap(&mut self.page, &mut other.page);
        std::mem::swap(&mut self.kick, &mut other.kick);
    }

    /// Heeds the sequence of the first sample, which was stored before it.
    fn begin(&mut self) {
        let first = self.ring.word64::<FIRST>().load(Ordering::Relaxed);
        self.leap(self.position, self.sequence.max(first.saturating_sub(1)));
        self.has_begun = true;
    }

    /// The length of the sample at the position, after padding was skipped and what is lost was passed over.
    fn find(&mut self) -> Result<Option<usize>, Fault> {
        if self.careful {
            self.take_care();
        }
        // Padding, and each of the ways to go on.
        for _ in 0..2 * ATTEMPTS {
            let found = self.look()?;
            // The first record may have come since the care was taken.
            if !self.has_begun && !matches!(found, Some(Look::Nothing)) {
                self.begin();
            }
            match found {
                // It may have been read in an earlier segment.
                Some(Look::Sample(len)) => match self.resumed_at {
                    None => return Ok(Some(len)),
                    Some(sequence) => self.go_on_at(sequence),
                },
                Some(Look::Nothing) => return Ok(None),
                Some(Look::Lapped) => self.catch_up()?,
                None => {}
            }
        }
        Ok(None)
    }

    /// What is to be done before a look, at the beginning or by the policy.
    #[cold]
    fn take_care(&mut self) {
        if !self.has_begun && (self.load_header() != EMPTY || self.is_lapped()) {
            self.begin();
        }
        if self.has_begun
            && let Some(sequence) = self.resumed_at
        {
            self.go_on_at(sequence);
        }
        if self.policy == Policy::Latest {
            self.skip_to_last();
        }
        self.careful = self.policy == Policy::Latest || !self.has_begun || self.resumed_at.is_some();
    }

    /// Looks at the position. `None` if it skipped padding or a gap.
    fn look(&mut self) -> Result<Option<Look>, Fault> {
        let word = self.load_header();
        // Every look is believed only if the writer does not intend to overwrite the place: a reader that is
        // exactly one pass behind sees the zeros that the writer stores there.
        if self.is_lapped() {
            return Ok(Some(Look::Lapped));
        }
        if word == EMPTY {
            return Ok(Some(Look::Nothing));
        }
        if word == gap_header(self.position) {
            return self.pass_gaps();
        }
        match check(word, self.position, self.shape.ring_size(), self.shape.max_sample()) {
            Ok(Header::Data(len)) => Ok(Some(Look::Sample(len))),
            Ok(Header::Padding) => {
                self.position = self.position.next_multiple_of(self.capacity());
                Ok(None)
            }
            Err(violation) => Err(self.failed(Fault::Broken(violation))),
        }
    }

    /// Counts the numbers that the publisher skips here, unless it has overwritten that.
    #[cold]
    fn pass_gaps(&mut self) -> Result<Option<Look>, Fault> {
        if !self.has_begun {
            self.begin();
        }
        // An honest publisher writes no more in a row than there are lines.
        for _ in 0..self.capacity() / LINE as u64 {
            let next = self.behind_gap(self.position);
            if self.is_lapped() {
                return Ok(Some(Look::Lapped));
            }
            if next <= self.sequence || next >= MOST_SEQUENCE {
                return Err(self.failed(Fault::Broken(Violation::Rejected)));
            }
            self.pass_over(self.position + LINE as u64, next);
            if self.load_header() != gap_header(self.position) {
                break;
            }
        }
        Ok(None)
    }

    /// The sequence of the sample behind the gap at a position.
    fn behind_gap(&self, position: u64) -> u64 {
        let mut sequence = [0; size_of::<u64>()];
        self.ring.copy_out(position, HEADER, &mut sequence);
        u64::from_le_bytes(sequence)
    }

    /// The next sample was taken from a record of this size.
    #[inline(always)]
    pub(super) fn taken(&mut self, size: u64) -> Taken {
        let taken = Taken { sequence: self.sequence, missed: self.missed };
        self.position += size;
        self.sequence = self.sequence.wrapping_add(1);
        (self.missed, self.laps, self.stuck) = (0, 0, 0);
        self.run += 1;
        if self.position >= self.tell_at {
            self.tell();
        }
        taken
    }

    /// The sample at the position, as it will be taken.
    pub(super) fn at_hand(&self) -> Taken {
        Taken { sequence: self.sequence, missed: self.missed }
    }

    pub(super) fn copy_out(&self, from: usize, to: &mut [u8]) {
        self.ring.copy_out(self.position, from, to);
    }

    pub(super) fn address(&self, from: usize, len: usize) -> *const u8 {
        self.ring.address(self.position, from, len)
    }

    /// Nothing is there: a good time to say how far the reader is.
    fn nothing(&mut self) -> Result<Option<Taken>, Fault> {
        self.looks = self.looks.wrapping_add(1);
        // Not at each look: a reader that spins finds nothing behind each sample, and telling takes longer
        // than taking. What it took is also told at each sixteenth of the ring, and before it sleeps.
        if self.looks == 0 {
            self.tally_up();
        }
        if self.policy == Policy::Reliable {
            self.tell();
            self.look_at_state()?;
        }
        match self.fault {
            None => Ok(None),
            Some(fault) => Err(fault),
        }
    }

    #[cold]
    fn failed(&mut self, fault: Fault) -> Fault {
        *self.fault.get_or_insert(fault)
    }

    #[inline(always)]
    fn load_header(&self) -> u64 {
        // A Relaxed load and a fence, because the memory may be mapped for reading only, where the language
        // promises no other load.
        let word = self.ring.header(self.position).load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        word
    }

    fn intent(&self) -> u64 {
        fence(Ordering::Acquire);
        self.ring.word64::<INTENT>().load(Ordering::Relaxed)
    }

    /// Whether the writer may have overwritten anything from the position on, before the loads that came
    /// before this.
    #[inline(always)]
    pub(super) fn is_lapped(&self) -> bool {
        self.is_overwritten(self.position)
    }

    #[inline(always)]
    fn is_overwritten(&self, position: u64) -> bool {
        self.intent() > position.saturating_add(self.capacity())
    }

    // ---- the end

    /// How it ended, once all that came before was taken.
    pub(crate) fn ended(&self) -> Option<Ended> {
        let ended = Ended::from_word(self.ring.word32::<ENDED>().load(Ordering::Relaxed))?;
        fence(Ordering::Acquire);
        // What was published before it can be seen now.
        (self.load_header() == EMPTY && !self.is_lapped()).then_some(ended)
    }

    /// What the publisher says of this subscription.
    pub(crate) fn state(&self) -> State {
        self.page.state()
    }

    fn look_at_state(&mut self) -> Result<(), Fault> {
        match self.page.state() {
            State::Noted | State::Attached => Ok(()),
            gone => Err(self.failed(Fault::GivenUp(gone))),
        }
    }

    /// Tells the publisher that nobody reads any more.
    pub(crate) fn leave(&self) {
        self.page.leave();
        fence(Ordering::SeqCst);
        self.wake_publisher();
    }

    fn capacity(&self) -> u64 {
        self.shape.ring_size() as u64
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.tally_up();
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("shape", &self.shape)
            .field("policy", &self.policy)
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}
