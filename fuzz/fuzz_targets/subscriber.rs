//! Fuzzes a subscriber of a topic whose publisher writes any word and byte of its memory, also in the middle
//! of an operation of the subscriber: intent, last position, table, headers, payloads, the end, and its words
//! in the page that the two share.
//!
//! The subscriber must never panic, read outside the memory or write into it, do bounded work for each
//! sample, number samples without gaps that it does not count. As long as the publisher keeps the rules, it
//! gets each sample whole and in order, counts each that it missed, and does not stop before the last.
//! Whoever hears of a broken rule, or that the publisher gave the subscriber up, reads no more.

#![no_main]

mod input;

use std::cell::RefCell;

use input::Input;
use libfuzzer_sys::fuzz_target;
use ringpost::testing::fuzz::{Over, TopicAudience, TopicMemory, TopicReader, TopicWriter, work};

thread_local! {
    static MEMORY: RefCell<TopicMemory> = RefCell::new(TopicMemory::new());
}

/// The words that an operation may read or write, besides the ring's lines.
const WORDS: u64 = 2000;

const LATEST: u8 = 1;

/// A sample's bytes, which tell its sequence.
fn payload(sequence: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (sequence.wrapping_mul(167) ^ at.wrapping_mul(13)) as u8).collect()
}

/// A position that the publisher may have reached, or not, as the byte says; seldom any number.
fn position(tail: u64, input: &mut Input<'_>) -> u64 {
    match input.byte() {
        near @ 0..80 => tail.wrapping_add(u64::from(near) * 64),
        near @ 80..200 => tail.wrapping_sub(u64::from(near - 80) * 64),
        near @ 200..230 => tail.wrapping_add(u64::from(near)),
        near @ 230..250 => (u64::from(near - 230) * 64).wrapping_neg(),
        _ => input.word64(),
    }
}

/// An almost valid header, where a position says.
fn header(at: u64, capacity: u64, input: &mut Input<'_>) -> u64 {
    let (kind, off, len) =
        (u64::from(input.byte()), u64::from(input.byte() / 250), u64::from(input.word16()));
    let len = if kind & 4 == 0 { len % capacity } else { capacity - at / 64 * 64 % capacity - 8 + len % 3 };
    (at / 64).wrapping_add(off) % (1 << 30) << 34 | (kind & 3) << 32 | len
}

/// What the publisher does that no honest one does.
#[derive(Clone, Copy)]
enum Tampering {
    Header { at: u64, word: u64 },
    Byte { offset: usize, byte: u8 },
    Intent(u64),
    Last(u64),
    Entry { number: usize, position: Option<u64>, sequence: Option<u64> },
    Ended(u32),
    Page { word: usize, value: u64 },
}

impl Tampering {
    fn read(tail: u64, next: u64, capacity: u64, input: &mut Input<'_>) -> Tampering {
        match input.byte() % 16 {
            0..4 => {
                let at = position(tail, input);
                Tampering::Header { at, word: header(at, capacity, input) }
            }
            4 => Tampering::Header { at: position(tail, input), word: input.word64() },
            5 => Tampering::Byte { offset: input.word16().into(), byte: input.byte() },
            6..9 => Tampering::Intent(position(tail, input)),
            9 | 10 => Tampering::Last(position(tail, input) | u64::from(input.byte() % 8 > 0)),
            11..14 => {
                let which = input.byte();
                let sequence = next.wrapping_add(u64::from(input.byte())).wrapping_sub(128);
                let sequence = if which >= 250 { input.word64() } else { sequence };
                Tampering::Entry {
                    number: usize::from(which % 16),
                    position: (which % 5 > 0).then(|| position(tail, input) | 1),
                    sequence: (which % 3 > 0).then_some(sequence),
                }
            }
            14 => Tampering::Ended((input.byte() % 4).into()),
            _ => {
                let word = usize::from(input.byte() % 5);
                Tampering::Page { word, value: if word == 1 { input.word64() } else { input.byte().into() } }
            }
        }
    }

    fn apply(self, memory: &TopicMemory, line: u16) {
        match self {
            Tampering::Header { at, word } => memory.set_header(at, word),
            Tampering::Byte { offset, byte } => memory.set_bytes(offset, &[byte]),
            Tampering::Intent(intent) => memory.set_intent(intent),
            Tampering::Last(last) => memory.set_last(last),
            Tampering::Entry { number, position, sequence } => memory.set_entry(number, position, sequence),
            Tampering::Ended(ended) => memory.set_ended(ended),
            Tampering::Page { word, value } => memory.set_page(0, line, word, value),
        }
    }
}

struct Stage {
    reader: TopicReader,
    writer: TopicWriter,
    /// The length of each sample that the writer published.
    lens: Vec<usize>,
    first: u64,
    /// The sequence of the next sample, if none is missed.
    next: u64,
    /// Whether the publisher has kept the rules so far.
    honest: bool,
    over: bool,
}

impl Stage {
    fn send(&mut self, len: usize) {
        let sequence = self.writer.next_sequence();
        // The publisher keeps a plain ring of its own; nobody reliable holds it up.
        self.writer.try_send(&payload(sequence, len));
        if self.writer.next_sequence() > sequence {
            self.lens.push(len);
        }
    }

    fn took(&mut self, sequence: u64, missed: u64, bytes: Option<&[u8]>) {
        assert_eq!(self.next.checked_add(missed), Some(sequence), "a gap that is not counted");
        self.next = sequence.wrapping_add(1);
        if self.honest {
            let len = self.lens.get((sequence - self.first) as usize).expect("it was published");
            if let Some(bytes) = bytes {
                assert!(bytes == payload(sequence, *len), "sample {sequence} is another one");
            }
        }
    }

    fn ended(&mut self, over: Over) {
        assert!(!self.honest, "the publisher has kept the rules: {over:?}");
        self.over = true;
    }
}

fuzz_target!(|data: &[u8]| {
    MEMORY.with_borrow_mut(|memory| {
        let mut input = Input(data);
        let (form, manner) = (input.byte(), input.byte());
        memory.begin(u32::from(form % 3));
        let capacity = memory.capacity();
        let line = u16::from(input.byte()) % (memory.most_line() + 1);
        let first = if form / 3 % 4 == 0 { input.word64() % (1 << 60) } else { 1 };
        let writer = memory.writer(first, &TopicAudience::new(None));
        let mut lens = Vec::new();
        let (mut writer, before) = (writer, usize::from(input.byte()));
        for _ in 0..before {
            let (sequence, len) = (writer.next_sequence(), before * 7 % (memory.max_sample() + 1));
            writer.try_send(&payload(sequence, len));
            lens.push(len);
        }
        let mut honest = true;
        // It may look at what is wrong already when it begins.
        for _ in 0..form / 12 % 4 * (form / 200) {
            let next = writer.next_sequence();
            Tampering::read(memory.intent(), next, capacity, &mut input).apply(memory, line);
            honest = false;
        }
        let reader = memory.reader(0, line, first, manner, input.byte());
        let next = reader.next_sequence();
        let mut stage = Stage { reader, writer, lens, first, next, honest, over: false };
        let mut into = Vec::new();
        while !input.is_empty() && !stage.over {
            let (segment, begun) = (stage.honest.then(|| memory.segment()), work());
            let mut touched = false;
            match input.byte() % 20 {
                0..4 => {
                    stage.send(usize::from(input.word16()) % (memory.max_sample() + 2));
                    touched = true;
                }
                // Many, which lap the reader.
                4 => {
                    let (count, len) = (input.byte(), usize::from(input.word16()));
                    (0..count).for_each(|_| stage.send(len % (memory.max_sample() + 1)));
                    touched = true;
                }
                5..8 => {
                    let next = stage.writer.next_sequence();
                    Tampering::read(memory.intent(), next, capacity, &mut input).apply(memory, line);
                    stage.honest = false;
                    touched = true;
                }
                // In the middle of what it does next.
                8 | 9 => {
                    let (count, next) = (u32::from(input.byte() % 64), stage.writer.next_sequence());
                    let tampering = Tampering::read(memory.intent(), next, capacity, &mut input);
                    memory.before_access(count, move |memory| tampering.apply(memory, line));
                    stage.honest = false;
                }
                10..15 => match stage.reader.take(&mut into) {
                    Ok(Some((sequence, missed))) => {
                        assert!(into.len() <= memory.max_sample());
                        stage.took(sequence, missed, Some(&into));
                    }
                    Ok(None) => {
                        assert!(into.is_empty(), "what was torn is not left in the buffer");
                        if stage.honest && !stage.reader.is_pending() {
                            assert_eq!(stage.reader.next_sequence(), stage.writer.next_sequence());
                        }
                    }
                    Err(over) => stage.ended(over),
                },
                15 => match stage.reader.take_in_place(input.word16().into(), &mut into) {
                    Ok(Some((sequence, missed, whole))) => {
                        assert!(into.len() <= memory.max_sample());
                        let len = stage.lens.get(sequence.wrapping_sub(first) as usize).copied();
                        if let (true, true, Some(len)) = (stage.honest, whole, len) {
                            assert!(payload(sequence, len).ends_with(&into), "sample {sequence}");
                        }
                        stage.took(sequence, missed, None);
                    }
                    Ok(None) => {}
                    Err(over) => stage.ended(over),
                },
                16 => {
                    let pending = stage.reader.park();
                    if stage.honest && stage.reader.next_sequence() < stage.writer.next_sequence() {
                        assert!(pending, "it would sleep while there is something");
                    }
                }
                17 => {
                    let lag = stage.reader.lag();
                    assert!(
                        !stage.honest || manner % 3 == LATEST || lag <= 2 * capacity + u64::from(u32::MAX)
                    );
                    _ = stage.reader.ended();
                }
                18 if !stage.honest => {
                    // It goes on where it was in another segment.
                    let to =
                        stage.reader.next_sequence().wrapping_add(u64::from(input.byte())).wrapping_sub(8);
                    stage.reader.resume(to);
                    // What that counts as missed is another matter.
                    break;
                }
                _ => stage.reader.leave(),
            }
            let done = work().since(begun);
            if !touched {
                assert!(done.words <= WORDS + 12 * capacity / 64, "{done:?} in one step");
                assert!(done.bytes <= 8 * memory.max_sample() as u64 + 512, "{done:?} in one step");
                assert_eq!(done.sleeps, 0);
            }
            if !touched && stage.honest {
                assert!(
                    segment.is_none_or(|before| before == memory.segment()),
                    "it writes where it can only read"
                );
            }
        }
        // Whatever was: it comes to an end of what is there.
        for _ in 0..2 * capacity / 64 + 16 {
            if !matches!(stage.reader.take(&mut into), Ok(Some(_))) {
                break;
            }
        }
        if stage.honest {
            assert_eq!(stage.reader.next_sequence(), stage.writer.next_sequence());
        }
        drop(stage);
        assert!(memory.guards_hold(&[line]));
    });
});
