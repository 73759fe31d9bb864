//! `Reader`: reads the samples of one publisher, at its own pace, without writing where others read.

use std::fmt;

use super::in_place::InPlace;
use super::page::{Page, State};
use super::shape::{DATA, ENDED, FIRST, INTENT, LAST, Shape};
use super::writer::Ended;
use crate::ring::layout::{EMPTY, HEADER, Header, LINE, ONE_LINE, Violation, check, data_mark, record_size};
use crate::ring::{ARMED, AWAKE, Kick, Kicks, OwnPipe, PARKED};
use crate::shm::backend::{Ordering, SPINS, count_word, fence, spin_hint};
use crate::shm::futex::{self, Scope, Wait};
use crate::shm::{RingView, View};
use crate::testing::failpoints::failpoint;
use crate::wire::Policy;

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// At the first sample of all, or the oldest that is still there.
    Beginning,
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
            run: 0,
            pauses: 0,
        };
        match start {
            Start::Beginning => {}
            Start::Now => reader.begin_with_last(0),
            Start::Last(most) => reader.begin_with_last(most),
        }
        reader
    }

    // ---- taking

    /// Takes the next sample into the buffer, which it clears first. Does not block. Returns `None` also when
    /// it was lapped again and again; [`is_pending`](Self::is_pending) tells.
    #[inline]
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
    pub(crate) fn go_on_under(&mut self, other: Reader) {
        (self.page, self.kick) = (other.page, other.kick);
    }

    /// Heeds the sequence of the first sample, which was stored before it.
    fn begin(&mut self) {
        let first = self.ring.word64::<FIRST>().load(Ordering::Relaxed);
        self.sequence = self.sequence.max(first.saturating_sub(1));
        self.has_begun = true;
    }

    /// The length of the sample at the position, after padding was skipped and what is lost was passed over.
    fn find(&mut self) -> Result<Option<usize>, Fault> {
        if self.careful {
            self.take_care();
        }
        // Padding, and each of the ways to go on.
        for _ in 0..2 * ATTEMPTS {
            match self.look()? {
                Some(Look::Sample(len)) => return Ok(Some(len)),
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

    /// Looks at the position. `None` if it skipped padding.
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
        match check(word, self.position, self.shape.ring_size(), self.shape.max_sample()) {
            Ok(Header::Data(len)) => Ok(Some(Look::Sample(len))),
            Ok(Header::Padding) => {
                self.position = self.position.next_multiple_of(self.capacity());
                Ok(None)
            }
            Err(violation) => Err(self.failed(Fault::Broken(violation))),
        }
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

    /// Nothing is there: a good time to say how far the reader is.
    fn nothing(&mut self) -> Result<Option<Taken>, Fault> {
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

    // ---- what was missed

    /// Goes on at a sample that is still there: the oldest. If it is lapped again before it has read a part of
    /// the ring, it goes on in the middle: a slow reader would be lapped at the edge again and again. If it did
    /// not get a single sample there either, it goes on with the last, or else large samples would never be
    /// copied in time.
    #[cold]
    fn catch_up(&mut self) -> Result<(), Fault> {
        if self.policy == Policy::Reliable {
            // That is not, unless the publisher has said so.
            self.look_at_state()?;
        }
        self.laps = self.laps.saturating_add(1);
        let soon = self.position < self.edge;
        let parts = self.parts();
        let first = match self.laps {
            // It is lapped only in what was before it, and must not miss what comes behind that.
            _ if self.policy == Policy::Reliable => 0,
            1 if !soon => 0,
            1 | 2 => parts.len() / 2,
            _ => parts.len() - 1,
        };
        // The entries of the parts from there on, and if they have none, of those before.
        let (before, from) = parts.split_at(first);
        let found = from.iter().chain(before.iter().rev()).find_map(|part| self.entry(*part));
        let Some((position, sequence)) = found else {
            self.stuck += 1;
            if self.stuck >= MOST_STUCK {
                return Err(self.failed(Fault::Broken(Violation::HeaderPosition)));
            }
            return Ok(());
        };
        self.pass_over(position, sequence);
        if self.laps > 2 && self.policy != Policy::Reliable {
            self.skip_to_last();
        }
        self.edge = self.position + self.shape.part();
        self.stuck = 0;
        Ok(())
    }

    /// The parts of the ring that the intent leaves, the oldest first. Counted from the first pass on.
    fn parts(&self) -> Vec<u64> {
        let oldest = self.intent().saturating_sub(self.capacity()) / self.shape.part();
        (oldest..).take(self.shape.entries()).collect()
    }

    /// The first record of a part, if it is still there. What a publisher may have written for no good is left
    /// out.
    fn entry(&self, part: u64) -> Option<(u64, u64)> {
        let (position, sequence) = self.shape.nth_entry(part as usize & (self.shape.entries() - 1));
        count_word();
        count_word();
        let position = self.view.word64(position).load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let sequence = self.view.word64(sequence).load(Ordering::Relaxed);
        let position = told(position).filter(|position| position / self.shape.part() == part)?;
        (!self.is_overwritten(position) && self.is_plausible(position, sequence))
            .then_some((position, sequence))
    }

    /// Whether a sample beyond the position may have this sequence: no record is shorter than a line.
    fn is_plausible(&self, position: u64, sequence: u64) -> bool {
        let (Some(lines), Some(samples)) =
            (position.checked_sub(self.position), sequence.checked_sub(self.sequence))
        else {
            return false;
        };
        samples <= lines / LINE as u64
    }

    fn pass_over(&mut self, position: u64, sequence: u64) {
        self.missed = self.missed.saturating_add(sequence - self.sequence);
        (self.position, self.sequence) = (position, sequence);
    }

    /// Passes over everything but the last sample.
    fn skip_to_last(&mut self) {
        let Some(last) = self.last() else { return };
        if last <= self.position {
            return;
        }
        let part = last / self.shape.part();
        let here = (self.position / self.shape.part() == part).then_some((self.position, self.sequence));
        // An honest writer stores the entry of a part before it says which record is the last.
        if let Some(from) = here.or_else(|| self.entry(part))
            && let Some(sequence) = self.count(from, last)
        {
            self.pass_over(last, sequence);
        }
    }

    fn last(&self) -> Option<u64> {
        let last = self.ring.word64::<LAST>().load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        told(last)
    }

    /// The sequence of the record at `to`, counted from another one before it. `None` if the writer overwrote
    /// what lies between, or there is no such record.
    fn count(&self, (from, sequence): (u64, u64), to: u64) -> Option<u64> {
        let (mut at, mut sequence) = (from, sequence);
        to.checked_sub(from).filter(|bytes| *bytes <= self.capacity())?;
        while at < to {
            (at, sequence) = self.step(at, sequence)?;
        }
        (at == to && !self.is_overwritten(from)).then_some(sequence)
    }

    /// Behind the next sample from a position on.
    fn skip(&self, at: u64, sequence: u64) -> Option<(u64, u64)> {
        let behind = self.step(at, sequence)?;
        if behind.1 == sequence { self.step(behind.0, sequence) } else { Some(behind) }
    }

    /// Behind the record or the padding at a position.
    fn step(&self, at: u64, sequence: u64) -> Option<(u64, u64)> {
        let word = self.ring.header(at).load(Ordering::Relaxed);
        match check(word, at, self.shape.ring_size(), self.shape.max_sample()) {
            Ok(Header::Data(len)) => Some((at + record_size(len), sequence.wrapping_add(1))),
            Ok(Header::Padding) => Some((at.next_multiple_of(self.capacity()), sequence)),
            Err(_) => None,
        }
    }

    /// Begins with the last samples that are still there, at most so many. Where the writer is so quick that
    /// nothing can be counted, it begins where it can.
    fn begin_with_last(&mut self, most: u64) {
        for _ in 0..ATTEMPTS {
            let Some(last) = self.last() else { break };
            if !self.has_begun {
                self.begin();
            }
            // For nothing but the end, count from the part in which it lies, else from the oldest.
            let from = if most == 0 {
                self.entry(last / self.shape.part())
            } else {
                self.parts().into_iter().find_map(|part| self.entry(part))
            };
            let Some(from) = from else { continue };
            let Some(sequence) = self.count(from, last) else { continue };
            let Some(end) = self.step(last, sequence) else { continue };
            let begin = if most == 0 {
                Some(end)
            } else {
                let surplus = end.1.wrapping_sub(from.1).saturating_sub(most);
                (0..surplus).try_fold(from, |(at, sequence), _| self.skip(at, sequence))
            };
            if let Some((position, sequence)) = begin
                && !self.is_overwritten(from.0)
            {
                (self.position, self.sequence) = (position, sequence);
                break;
            }
        }
        (self.missed, self.laps) = (0, 0);
        if self.tell_at != u64::MAX {
            self.tell_at = self.position + self.shape.part();
        }
    }

    /// Lets this reader go on with the sample of this sequence, or count those that are missing. For a
    /// publisher that was read in another segment up to there.
    pub(crate) fn resume(&mut self, sequence: u64) {
        (self.resumed_at, self.careful) = (Some(sequence), true);
    }

    /// Skips the samples before this one, as far as they are there by now.
    fn go_on_at(&mut self, wanted: u64) {
        if wanted < self.sequence {
            self.missed = self.sequence - wanted;
        }
        for _ in 0..self.capacity() / LINE as u64 {
            if self.sequence >= wanted {
                self.resumed_at = None;
                return;
            }
            let Some(next) = self.step(self.position, self.sequence) else { return };
            if self.is_lapped() {
                return;
            }
            (self.position, self.sequence) = next;
        }
    }

    /// The sequence of the next sample, if none is missed.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.sequence
    }

    /// About how many bytes of the ring are still to be read.
    pub(crate) fn lag(&self) -> u64 {
        let Some(last) = self.last().filter(|last| *last >= self.position) else { return 0 };
        let behind = self.step(last, 0).map_or(last + LINE as u64, |(at, _)| at);
        behind - self.position
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

    // ---- waiting

    /// Whether there is something to take, or an end to be seen.
    #[inline]
    pub(crate) fn is_pending(&self) -> bool {
        self.load_header() != EMPTY
            || self.is_lapped()
            || self.ring.word32::<ENDED>().load(Ordering::Relaxed) != 0
            || self.fault.is_none() && !matches!(self.page.state(), State::Noted | State::Attached)
    }

    /// Announces that this reader is about to sleep. It must look once more before it does.
    pub(crate) fn park(&self) {
        self.say_cursor();
        futex::set(&self.page.parked, PARKED);
        fence(Ordering::SeqCst);
    }

    /// Takes that back.
    pub(crate) fn unpark(&self) {
        futex::set(&self.page.parked, AWAKE);
    }

    /// What to sleep on, once it is parked.
    pub(crate) fn as_wait(&self) -> Wait<'_> {
        Wait { word: &self.page.parked, expected: PARKED, scope: Scope::Shared }
    }

    /// Announces that this reader waits in an event loop, for its pipe. Returns false if it is to look again.
    pub(crate) fn arm(&mut self, pipe: &mut OwnPipe) -> bool {
        match pipe.drain() {
            Kicks::Permitted => {}
            Kicks::CutOff => return false,
            Kicks::TooMany => {
                self.failed(Fault::Broken(Violation::FruitlessWakes));
                return false;
            }
        }
        self.say_cursor();
        if self.page.parked.swap(ARMED, Ordering::Release) != ARMED {
            pipe.permit();
        }
        fence(Ordering::SeqCst);
        if self.is_pending() {
            if self.page.parked.swap(AWAKE, Ordering::Relaxed) == ARMED {
                pipe.withdraw();
            }
            return false;
        }
        pipe.waits()
    }

    fn say_cursor(&self) {
        self.page.cursor().store(self.position, Ordering::Release);
    }

    /// Tells a publisher that waits for this reader how far it is, and wakes it.
    #[cold]
    #[inline(never)]
    fn tell(&mut self) {
        self.say_cursor();
        self.tell_at = self.position + self.shape.part();
        failpoint!("cursor.said", [topic], seldom);
        fence(Ordering::SeqCst);
        if self.page.publisher_parked.load(Ordering::Relaxed) != AWAKE {
            self.wake_publisher();
        }
    }

    fn wake_publisher(&self) {
        match self.page.publisher_parked.swap(AWAKE, Ordering::Relaxed) {
            PARKED => futex::wake(&self.page.publisher_parked, Scope::Shared, 1),
            ARMED => self.kick.kick(),
            _ => {}
        }
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

/// A position that the publisher told, if it can be one. No publisher lives to write so many bytes.
fn told(word: u64) -> Option<u64> {
    (word & (LINE as u64 - 1) == 1 && word < 1 << 62).then_some(word & !1)
}
