//! Fuzzes a publisher whose subscribers write any word of the pages that they share with it, also in the
//! middle of its operations and while it waits for them.
//!
//! The publisher must never panic, write outside its memory and its words, or wait longer for its subscribers
//! than it has patience. It gives up each of them once at most, and none that keeps the rules. Whatever the
//! others do, a subscriber that keeps up gets every sample, whole and in order.

#![no_main]

mod input;

use std::cell::RefCell;
use std::time::Duration;

use input::Input;
use libfuzzer_sys::fuzz_target;
use ringpost::testing::fuzz::{
    PAGES, Sent, TopicAudience, TopicMemory, TopicReader, TopicWriter, give_hints, work,
};

thread_local! {
    static MEMORY: RefCell<TopicMemory> = RefCell::new(TopicMemory::new());
}

/// The words that an operation may read or write, besides some for each sleep.
const WORDS: u64 = 400;

/// The page of a subscriber that keeps the rules; the others belong to those who do not.
const HONEST: usize = 0;

// A page's words.
const PARKED: usize = 0;
const CURSOR: usize = 1;
const STATE: usize = 3;
const LEFT: usize = 4;

static SAMPLE: [u8; 5000] = [0x5a; 5000];

/// A word of a page, and what a subscriber writes into it.
fn page_word(memory: &TopicMemory, tail: u64, input: &mut Input<'_>) -> (usize, usize, u64) {
    let which = input.byte();
    let (page, word) = (1 + usize::from(which) % (PAGES - 1), usize::from(which) / 4 % 5);
    let value = match (word, input.byte()) {
        (CURSOR, near @ 0..100) => tail.wrapping_sub(u64::from(near) * 64),
        (CURSOR, near @ 100..140) => tail.wrapping_add(u64::from(near - 100) * 64),
        (CURSOR, near @ 140..160) => near.into(),
        (CURSOR, 160..240) => tail,
        (CURSOR, _) => input.word64(),
        (PARKED | 2, value @ 0..200) => (value % 3).into(),
        (LEFT, value @ 0..230) => u64::from(value >= 200),
        (STATE, value) => (value % 6).into(),
        (_, value) => value.into(),
    };
    let _ = memory;
    (page, word, value)
}

/// The subscriber that keeps the rules: it reads whenever something was published.
struct Honest {
    reader: TopicReader,
    next: u64,
    into: Vec<u8>,
}

impl Honest {
    fn read(&mut self, writer: &TopicWriter) {
        loop {
            // It says where it is, as before a sleep.
            let taken = self.reader.take(&mut self.into);
            match taken.expect("it keeps the rules") {
                Some((sequence, missed)) => {
                    assert_eq!((sequence, missed), (self.next, 0));
                    assert!(self.into.iter().all(|byte| *byte == 0x5a), "a sample of others' bytes");
                    self.next += 1;
                }
                None if self.reader.park() => {}
                None => break,
            }
        }
        assert_eq!(self.next, writer.next_sequence(), "it does not get all");
    }
}

fuzz_target!(|data: &[u8]| {
    MEMORY.with_borrow_mut(|memory| {
        let mut input = Input(data);
        let form = input.byte();
        memory.begin(u32::from(form % 3));
        let offers = form / 3 % 4 > 0;
        let audience = TopicAudience::new(offers.then_some(Duration::from_millis(5)));
        let mut writer = memory.writer(1, &audience);
        let lines: Vec<u16> =
            (0..PAGES).map(|_| u16::from(input.byte()) % (memory.most_line() + 1)).collect();
        let manner = if offers && form / 12 % 2 == 0 { 2 } else { 0 };
        let mut honest =
            Honest { reader: memory.reader(HONEST, lines[HONEST], 1, manner, 0), next: 1, into: Vec::new() };
        audience.admit(memory, HONEST, lines[HONEST], [true, manner == 2, true]);
        let (mut admitted, mut given_up) = ([false; PAGES], [false; PAGES]);
        admitted[HONEST] = true;
        let (mut closed, mut steps, began) = (false, 0_u64, work());
        while !input.is_empty() {
            let (begun, next) = (work(), writer.next_sequence());
            steps += 1;
            let tail = memory.intent();
            let mut sent = None;
            match input.byte() % 16 {
                // A newcomer, once for each page.
                0 | 1 => {
                    let how = input.byte();
                    let page = 1 + usize::from(how) % (PAGES - 1);
                    if !admitted[page] {
                        admitted[page] = true;
                        let flags = [how & 64 != 0, how & 128 != 0, how & 32 != 0];
                        audience.admit(memory, page, lines[page], flags);
                    }
                }
                2..5 => {
                    let (page, word, value) = page_word(memory, tail, &mut input);
                    memory.set_page(page, lines[page], word, value);
                }
                5 => {
                    let count = u32::from(input.byte() % 64);
                    let (page, word, value) = page_word(memory, tail, &mut input);
                    let line = lines[page];
                    memory.before_access(count, move |memory| memory.set_page(page, line, word, value));
                }
                // While it waits for room.
                6 => {
                    let (page, word, value) = page_word(memory, tail, &mut input);
                    let line = lines[page];
                    memory.meanwhile(move |memory| memory.set_page(page, line, word, value));
                }
                7 => give_hints(input.byte().into()),
                8..11 => sent = Some(writer.try_send(&SAMPLE[..usize::from(input.word16()) % 4500])),
                11 => {
                    let (how, len) = (input.byte(), usize::from(input.word16()) % 4500);
                    sent = Some(writer.send(&SAMPLE[..len], how % 4 == 0));
                }
                12 => {
                    let (how, len) = (input.byte(), usize::from(input.word16()) % 4500);
                    let written = &SAMPLE[..usize::from(input.word16()) % 4500];
                    let granted = writer.grant(len, written, how % 3 > 0);
                    sent = Some(granted).filter(|_| how % 3 > 0 || granted != Sent::Yes);
                }
                13 => {
                    // What fills the ring of one who does not read.
                    for _ in 0..input.byte() % 80 {
                        if writer.send(&SAMPLE[..40], false) == Sent::Yes && !closed {
                            honest.read(&writer);
                        }
                    }
                }
                14 => {
                    let page = 1 + usize::from(input.byte()) % (PAGES - 1);
                    audience.leave(page);
                }
                _ => match input.byte() {
                    0..4 => {
                        audience.close();
                        closed = true;
                    }
                    many @ 4..30 => audience.expect((many % 3).into()),
                    _ => {}
                },
            }
            match sent {
                Some(Sent::Yes) => assert_eq!(writer.next_sequence(), next + 1),
                Some(Sent::Ended) => assert!(closed),
                Some(Sent::TooLarge | Sent::NoRoom) => assert_eq!(writer.next_sequence(), next),
                None => {}
            }
            honest.read(&writer);
            for (page, broke) in audience.evictions() {
                assert!(page != HONEST, "it has kept the rules, and was given up (broke: {broke})");
                assert!(admitted[page] && !given_up[page], "given up once more");
                given_up[page] = true;
            }
            let done = work().since(begun);
            // Reading counts, too: at most eighty samples, and two looks for each.
            assert!(done.words <= WORDS + 100 * 30 + 30 * done.sleeps, "{done:?} in one step");
        }
        // Each sleep has a reason: room that is waited for, or a hint.
        let sleeps = work().since(began).sleeps;
        assert!(sleeps <= 400 * steps, "it goes on sleeping");
        assert!(audience.count() <= PAGES);
        drop(writer);
        assert_eq!(honest.reader.ended(), Some(false));
        drop(honest);
        assert!(memory.guards_hold(&lines));
    });
});
