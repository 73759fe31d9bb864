//! A topic for fuzz targets, which may write any word and byte of it in place of the other side.

use std::io::Write;
use std::time::{Duration, Instant};

use super::page::PAGE_WORDS;
use super::shape::{DATA, ENDED, INTENT, LAST, PAGE};
use super::{
    Audience, Ended, Fault, MOST_LINE, Newcomer, Reader, Shape, Start, State, Taken, Unsent, Writer,
};
use crate::ring::{CloseReason, Kick, WaitStrategy};
use crate::shm::backend::{Ordering, fuzz};
use crate::shm::{Segment, View};
use crate::wire::{Key, Name, Peer, Policy};

const SMALLEST: usize = 4096;
const MOST_SHIFTS: u32 = 2;
const GUARD: usize = 64;

/// The most subscriptions of one input.
pub const PAGES: usize = 4;

/// The memory of a topic and of its pages, as the other side sees it.
#[derive(Debug, Clone)]
pub struct TopicMemory {
    view: View,
    pages: Vec<View>,
    shape: Shape,
}

impl TopicMemory {
    /// The memory of the largest of the topics that [`begin`](Self::begin) makes.
    pub fn new() -> TopicMemory {
        let memory = |len| View::new(Segment::anonymous(len).expect("memory"));
        TopicMemory {
            view: memory(DATA + (SMALLEST << MOST_SHIFTS) + GUARD),
            pages: (0..PAGES).map(|_| memory(PAGE)).collect(),
            shape: Shape::new(SMALLEST).expect("the smallest ring"),
        }
    }

    /// Makes every byte 0 again, for the next input: a ring of `SMALLEST << shift` bytes.
    ///
    /// # Panics
    ///
    /// If an end of the last input still exists.
    pub fn begin(&mut self, shift: u32) {
        fuzz::begin();
        fuzz::wipe(&mut self.view);
        self.pages.iter_mut().for_each(fuzz::wipe);
        self.shape = Shape::new(SMALLEST << shift.min(MOST_SHIFTS)).expect("a size of a ring");
    }

    /// Bytes of data.
    pub fn capacity(&self) -> u64 {
        self.shape.ring_size() as u64
    }

    /// The longest sample.
    pub fn max_sample(&self) -> usize {
        self.shape.max_sample()
    }

    fn set(&self, offset: usize, word: u64) {
        self.view.word64(offset).store(word, Ordering::Relaxed);
    }

    /// Writes how far the publisher says that it will overwrite.
    pub fn set_intent(&self, intent: u64) {
        self.set(INTENT, intent);
    }

    /// How far the publisher says that it will overwrite.
    pub fn intent(&self) -> u64 {
        self.view.word64(INTENT).load(Ordering::Relaxed)
    }

    /// Writes the word with the position of the last record.
    pub fn set_last(&self, last: u64) {
        self.set(LAST, last);
    }

    /// Writes the word that says how the topic ended.
    pub fn set_ended(&self, ended: u32) {
        self.view.word32(ENDED).store(ended, Ordering::Relaxed);
    }

    /// Writes an entry of the table: both words, or one of them.
    pub fn set_entry(&self, number: usize, position: Option<u64>, sequence: Option<u64>) {
        let entry = self.shape.nth_entry(number % self.shape.entries());
        for (offset, word) in [(entry.0, position), (entry.1, sequence)] {
            word.into_iter().for_each(|word| self.set(offset, word));
        }
    }

    /// Writes the header at a position.
    pub fn set_header(&self, position: u64, header: u64) {
        self.set(DATA + (position / 64 * 64 % self.capacity()) as usize, header);
    }

    /// Writes bytes anywhere into the data; what would lie outside is left out.
    pub fn set_bytes(&self, offset: usize, bytes: &[u8]) {
        let offset = offset % self.shape.ring_size();
        let fits = bytes.len().min(self.shape.ring_size() - offset);
        self.view.copy_in(DATA + offset, &bytes[..fits]);
    }

    /// The last line at which a page's words may begin.
    pub fn most_line(&self) -> u16 {
        MOST_LINE
    }

    fn page_word(&self, page: usize, line: u16, word: usize) -> usize {
        assert!(page < PAGES && word < PAGE_WORDS);
        (usize::from(line) + word) * 64
    }

    /// Writes one of a page's words: parked, cursor, the publisher's parked word, state, left.
    pub fn set_page(&self, page: usize, line: u16, word: usize, value: u64) {
        let at = self.page_word(page, line, word);
        match word {
            1 => self.pages[page].word64(at).store(value, Ordering::Relaxed),
            _ => self.pages[page].word32(at).store(value as u32, Ordering::Relaxed),
        }
    }

    /// One of a page's words.
    pub fn page(&self, page: usize, line: u16, word: usize) -> u64 {
        let at = self.page_word(page, line, word);
        self.pages[page].word64(at).load(Ordering::Relaxed)
    }

    /// Whether the bytes behind the data and around the words of each page are as they were.
    pub fn guards_hold(&self, lines: &[u16]) -> bool {
        let is_zero = |view: &View, from: usize, to: usize| {
            let mut bytes = vec![0; to - from];
            view.copy_out(from, &mut bytes);
            bytes.iter().all(|byte| *byte == 0)
        };
        let behind = DATA + self.shape.ring_size();
        is_zero(&self.view, behind, behind + GUARD)
            && lines.iter().zip(&self.pages).all(|(line, page)| {
                let (from, to) = (usize::from(*line) * 64, (usize::from(*line) + PAGE_WORDS) * 64);
                is_zero(page, 0, from) && is_zero(page, to, PAGE)
            })
    }

    /// Everything that a reader may not write.
    pub fn segment(&self) -> Vec<u8> {
        let mut bytes = vec![0; DATA + self.shape.ring_size()];
        self.view.copy_out(0, &mut bytes);
        bytes
    }

    /// Calls `act` with the memory before the end accesses a word or bytes for the `count`-th time from now.
    pub fn before_access(&self, count: u32, act: impl FnOnce(&TopicMemory) + 'static) {
        let memory = self.clone();
        fuzz::before_access(count, Box::new(move || act(&memory)));
    }

    /// Calls `act` with the memory during the end's next sleep.
    pub fn meanwhile(&self, act: impl FnOnce(&TopicMemory) + 'static) {
        let memory = self.clone();
        fuzz::meanwhile(Box::new(move || act(&memory)));
    }

    /// The publisher.
    pub fn writer(&self, first: u64, audience: &TopicAudience) -> TopicWriter {
        TopicWriter(Writer::new(self.view.clone(), self.shape, first, audience.0.clone(), WaitStrategy::Park))
    }

    /// A subscriber, by what the byte says: its manner, and where it begins.
    pub fn reader(&self, page: usize, line: u16, first: u64, manner: u8, start: u8) -> TopicReader {
        let manner = [Policy::Lossy, Policy::Latest, Policy::Reliable][usize::from(manner % 3)];
        let start = match start {
            0..100 => Start::Beginning,
            100..150 => Start::Now,
            many => Start::Last((many - 149).into()),
        };
        let page = (self.pages[page].clone(), line, Kick::default());
        TopicReader(Reader::new(self.view.clone(), self.shape, page, first, start, manner))
    }
}

impl Default for TopicMemory {
    fn default() -> TopicMemory {
        TopicMemory::new()
    }
}

/// A subscriber's end.
#[derive(Debug)]
pub struct TopicReader(Reader);

/// The sequence of a sample, and how many were missed before it.
pub type Sample = Option<(u64, u64)>;

fn sample(taken: Taken) -> (u64, u64) {
    (taken.sequence, taken.missed)
}

/// Why a subscriber reads no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The publisher broke a rule.
    Broken,
    /// The publisher gave the subscriber up.
    GivenUp,
}

fn over(fault: Fault) -> Over {
    match fault {
        Fault::Broken(_) => Over::Broken,
        Fault::GivenUp(_) => Over::GivenUp,
    }
}

impl TopicReader {
    /// Takes the next sample.
    pub fn take(&mut self, into: &mut Vec<u8>) -> Result<Sample, Over> {
        self.0.try_take(into).map(|taken| taken.map(sample)).map_err(over)
    }

    /// Takes the next sample in place, copies a part of it out, and says whether that was the sample.
    pub fn take_in_place(&mut self, at: usize, into: &mut Vec<u8>) -> Result<Option<(u64, u64, bool)>, Over> {
        let Some(len) = self.0.seek().map_err(over)? else { return Ok(None) };
        let sample = self.0.view(len);
        let at = at % (sample.len() + 1);
        into.clear();
        into.resize(sample.len() - at, 0);
        let whole = sample.copy_out(at, into).is_ok();
        let Taken { sequence, missed } = sample.taken;
        let whole = sample.check().is_ok() && whole;
        Ok(Some((sequence, missed, whole)))
    }

    /// Whether there is something to take or an end.
    pub fn is_pending(&self) -> bool {
        self.0.is_pending()
    }

    /// Whether it ended, and moved then.
    pub fn ended(&self) -> Option<bool> {
        self.0.ended().map(|ended| ended == Ended::Moved)
    }

    /// The sequence of the next sample, if none is missed.
    pub fn next_sequence(&self) -> u64 {
        self.0.next_sequence()
    }

    /// Bytes that are still to be read.
    pub fn lag(&self) -> u64 {
        self.0.lag()
    }

    /// Says that it is about to sleep, looks, and takes that back.
    pub fn park(&mut self) -> bool {
        self.0.park();
        let pending = self.0.is_pending();
        self.0.unpark();
        pending
    }

    /// Goes on at another sample.
    pub fn resume(&mut self, sequence: u64) {
        self.0.resume(sequence);
    }

    /// Reads no more.
    pub fn leave(&self) {
        self.0.leave();
    }
}

/// The subscriptions of a publisher.
#[derive(Debug)]
pub struct TopicAudience(Audience);

impl TopicAudience {
    /// Of a publisher that waits so long for reliable readers, if at all.
    pub fn new(patience: Option<Duration>) -> TopicAudience {
        TopicAudience(Audience::new(patience).expect("there is memory for a word"))
    }

    /// Attaches a subscription, whose number is that of its page.
    pub fn admit(
        &self,
        memory: &TopicMemory,
        page: usize,
        line: u16,
        [may_sleep, reliable, from_beginning]: [bool; 3],
    ) {
        let name = Name::new("alice").expect("a name");
        let uid = page as u32;
        self.0.admit(Newcomer {
            id: page as u64,
            peer: Peer { name, key: Key::from_u128(7), pid: 1, uid, gid: 3 },
            page: memory.pages[page].clone(),
            line,
            may_sleep,
            reliable,
            from_beginning,
            kick: Kick::default(),
            pipe: None,
        });
    }

    /// A subscription has ended.
    pub fn leave(&self, page: usize) {
        self.0.leave(page as u64);
    }

    /// How many are attached.
    pub fn count(&self) -> usize {
        self.0.count()
    }

    /// The pages of the readers that were given up, and whether they broke a rule.
    pub fn evictions(&self) -> Vec<(usize, bool)> {
        let gone = self.0.take_evictions().into_iter();
        gone.map(|gone| (gone.peer.uid as usize, gone.why == State::BrokeRules)).collect()
    }

    /// So many reliable ones are to come.
    pub fn expect(&self, reliable: u32) {
        self.0.expect(reliable, Instant::now() + Duration::from_secs(1));
    }

    /// Nothing is published any more.
    pub fn close(&self) {
        self.0.close(CloseReason::LOCAL);
    }
}

/// A publisher's end.
#[derive(Debug)]
pub struct TopicWriter(Writer);

/// What became of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is there.
    Yes,
    /// It is too large.
    TooLarge,
    /// There is no room, now or until the deadline.
    NoRoom,
    /// The publisher was closed.
    Ended,
}

fn sent(result: Result<(), Unsent>) -> Sent {
    match result {
        Ok(()) => Sent::Yes,
        Err(Unsent::TooLarge) => Sent::TooLarge,
        Err(Unsent::Full | Unsent::TimedOut) => Sent::NoRoom,
        Err(Unsent::Ended(_)) => Sent::Ended,
    }
}

impl TopicWriter {
    /// Publishes if there is room.
    pub fn try_send(&mut self, payload: &[u8]) -> Sent {
        sent(self.0.try_send(payload))
    }

    /// Publishes, and waits for room without a limit, or for a moment.
    pub fn send(&mut self, payload: &[u8], forever: bool) -> Sent {
        let deadline = if forever { None } else { Some(Duration::from_micros(1)) };
        sent(self.0.send(payload, deadline.into()))
    }

    /// Writes a sample in place, and commits it or not.
    pub fn grant(&mut self, len: usize, payload: &[u8], commit: bool) -> Sent {
        sent(self.0.grant(len, Duration::from_micros(1).into()).map(|mut grant| {
            let written = grant.write(payload).expect("never fails");
            assert_eq!(written, payload.len().min(len));
            if commit {
                grant.commit();
            }
        }))
    }

    /// The sequence of the next sample.
    pub fn next_sequence(&self) -> u64 {
        self.0.next_sequence()
    }
}
