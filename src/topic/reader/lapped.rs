//! What a reader does that was lapped or comes late: it finds a sample that is still there, and its sequence.

use super::{ATTEMPTS, Fault, MOST_STUCK, Reader};
use crate::ring::layout::{Header, LINE, Violation, check, gap_header, record_size};
use crate::shm::backend::{Ordering, count_word, fence};
use crate::testing::failpoints::fault;
use crate::topic::shape::{LAST, MOST_SEQUENCE, NEW};
use crate::wire::Policy;

impl Reader {
    /// Goes on at a sample that is still there: the oldest. If it is lapped again before it has read a part
    /// of the ring, it goes on in the middle: a slow reader would be lapped at the edge again and again.
    /// If it did not get a single sample there either, it goes on with the last, or else large samples
    /// would never be copied in time.
    #[cold]
    pub(super) fn catch_up(&mut self) -> Result<(), Fault> {
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

    /// The first record of a part, if it is still there. What a publisher may have written for no good is
    /// left out.
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

    /// Whether a sample beyond the position may have this sequence. It may be far ahead, because publishers
    /// may skip some.
    fn is_plausible(&self, position: u64, sequence: u64) -> bool {
        position >= self.position && (self.sequence..MOST_SEQUENCE).contains(&sequence)
    }

    /// Goes on elsewhere. What lies between does not count as taken.
    pub(super) fn leap(&mut self, position: u64, sequence: u64) {
        if let Some(tally) = &mut self.tally {
            tally.count(self.sequence, self.position);
            tally.leap(sequence, position);
        }
        (self.position, self.sequence) = (position, sequence);
    }

    pub(super) fn pass_over(&mut self, position: u64, sequence: u64) {
        if !fault!("gap") {
            self.missed = self.missed.saturating_add(sequence - self.sequence);
            if let Some(tally) = &mut self.tally {
                tally.miss(sequence - self.sequence);
            }
        }
        self.leap(position, sequence);
    }

    /// Passes over everything but the last sample.
    pub(super) fn skip_to_last(&mut self) {
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

    /// How many samples begin from one place on and before another, if it is not beyond a ring.
    fn samples(&self, from: u64, to: u64) -> Option<u64> {
        let (mut at, mut samples) = (from, 0);
        to.checked_sub(from).filter(|bytes| *bytes <= self.capacity())?;
        while at < to {
            samples += u64::from(self.is_sample(at));
            (at, _) = self.step(at, 0)?;
        }
        Some(samples)
    }

    /// Behind the next sample from a position on.
    fn skip(&self, mut at: u64, mut sequence: u64) -> Option<(u64, u64)> {
        for _ in 0..=self.capacity() / LINE as u64 {
            let is_sample = self.is_sample(at);
            (at, sequence) = self.step(at, sequence)?;
            if is_sample {
                return Some((at, sequence));
            }
        }
        None
    }

    /// Behind the gaps at a position: who begins there does not miss what they skip.
    fn behind_gaps(&self, (mut at, mut sequence): (u64, u64)) -> Option<(u64, u64)> {
        for _ in 0..=self.capacity() / LINE as u64 {
            if self.ring.header(at).load(Ordering::Relaxed) != gap_header(at) {
                return Some((at, sequence));
            }
            (at, sequence) = self.step(at, sequence)?;
        }
        None
    }

    fn is_sample(&self, at: u64) -> bool {
        let word = self.ring.header(at).load(Ordering::Relaxed);
        matches!(check(word, at, self.shape.ring_size(), self.shape.max_sample()), Ok(Header::Data(_)))
    }

    /// Behind the record or the padding at a position, or behind the gap, which leads to a later sequence.
    fn step(&self, at: u64, sequence: u64) -> Option<(u64, u64)> {
        let word = self.ring.header(at).load(Ordering::Relaxed);
        if word == gap_header(at) {
            fence(Ordering::Acquire);
            let next = self.behind_gap(at);
            return (sequence..MOST_SEQUENCE).contains(&next).then_some((at + LINE as u64, next));
        }
        match check(word, at, self.shape.ring_size(), self.shape.max_sample()) {
            Ok(Header::Data(len)) => Some((at + record_size(len), sequence.wrapping_add(1))),
            Ok(Header::Padding) => Some((at.next_multiple_of(self.capacity()), sequence)),
            Err(_) => None,
        }
    }

    /// Begins behind what was published so far.
    pub(crate) fn begin_now(&mut self) {
        self.begin_with_last(0);
    }

    /// Begins with the last samples that are still there, at most so many. Where the writer is so quick that
    /// nothing can be counted, it begins where it can.
    pub(super) fn begin_with_last(&mut self, most: u64) {
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
                let Some(samples) = self.samples(from.0, end.0) else { continue };
                let surplus = samples.saturating_sub(most);
                (0..surplus).try_fold(from, |(at, sequence), _| self.skip(at, sequence))
            };
            if let Some((position, sequence)) = begin.and_then(|begin| self.behind_gaps(begin))
                && !self.is_overwritten(from.0)
            {
                self.leap(position, sequence);
                break;
            }
        }
        (self.missed, self.laps) = (0, 0);
        if self.tell_at != u64::MAX {
            self.tell_at = self.position + self.shape.part();
        }
    }

    /// Leaves out what the publisher has published in another segment before.
    pub(super) fn begin_with_new(&mut self) {
        count_word();
        let new = self.view.word64(NEW).load(Ordering::Acquire);
        if new > 0 {
            self.resume(new - 1);
        }
    }

    /// Lets this reader go on with the sample of this sequence, or count those that are missing. For a
    /// publisher that was read in another segment up to there.
    pub(crate) fn resume(&mut self, sequence: u64) {
        (self.resumed_at, self.careful) = (Some(sequence), true);
    }

    /// Skips the samples before this one, as far as they are there by now.
    pub(super) fn go_on_at(&mut self, wanted: u64) {
        for _ in 0..=self.capacity() / LINE as u64 {
            if self.sequence >= wanted {
                // What was passed over until here was read before, but for these.
                let missed = self.sequence - wanted;
                if let Some(tally) = &mut self.tally {
                    tally.found(self.missed.saturating_sub(missed));
                }
                (self.missed, self.resumed_at) = (missed, None);
                return;
            }
            let Some(next) = self.step(self.position, self.sequence) else { return };
            if self.is_lapped() {
                return;
            }
            self.leap(next.0, next.1);
        }
    }

    /// The sequence of the next sample, if none is missed.
    pub(crate) fn next_sequence(&self) -> u64 {
        // One that was to go on here, and has seen nothing, is where it was.
        self.resumed_at.map_or(self.sequence, |wanted| wanted.max(self.sequence))
    }

    /// About how many bytes of the ring are still to be read.
    pub(crate) fn lag(&self) -> u64 {
        let Some(last) = self.last().filter(|last| *last >= self.position) else { return 0 };
        let behind = self.step(last, 0).map_or(last + LINE as u64, |(at, _)| at);
        behind - self.position
    }
}

/// A position that the publisher told, if it can be one. No publisher lives to write so many bytes.
fn told(word: u64) -> Option<u64> {
    (word & (LINE as u64 - 1) == 1 && word < 1 << 62).then_some(word & !1)
}
