//! Fuzzes a consumer while another process writes arbitrary headers, payloads and futex words.
//!
//! Words change between its looks and while it sleeps. It must never panic or read outside the ring (every
//! access is checked, and the words around are guarded), pass at most one padding and one record in a look,
//! do no more work than that needs, and stay broken after it has found a broken rule.

#![no_main]

mod input;

use std::cell::RefCell;
use std::time::Instant;

use input::Input;
use libfuzzer_sys::fuzz_target;
use ringpost::ring::{CloseReason, RecvError, Violation};
use ringpost::testing::fuzz::{RingMemory, SPARE_HINTS, give_hints, work};

/// The words that a step may read or write, besides five for each sleep.
const WORDS: u64 = 24;

struct Stage {
    memory: RingMemory,
    into: Vec<u8>,
    part: Vec<u8>,
}

thread_local! {
    static STAGE: RefCell<Stage> =
        RefCell::new(Stage { memory: RingMemory::new(), into: Vec::new(), part: Vec::new() });
}

/// A nearly valid header: its position is the consumer's or a little off.
fn near_header(memory: &RingMemory, before: u64, input: &mut Input<'_>) -> (u64, u64) {
    let (kind, off, lines) = (u64::from(input.byte()), input.byte(), u64::from(input.byte() % 4));
    let len = u64::from(input.word16());
    let len = if kind & 4 == 0 { len } else { memory.capacity() - before % memory.capacity() - 8 + len % 3 };
    let position = before + lines * 64;
    let line = (position / 64 + u64::from(off / 250)) % (1 << 30);
    (position, line << 34 | (kind & 3) << 32 | len & 0xffff_ffff)
}

fuzz_target!(|data: &[u8]| {
    STAGE.with_borrow_mut(|Stage { memory, into, part }| {
        let mut input = Input(data);
        memory.begin(u32::from(input.byte() % 6), input.start_line());
        let mut consumer = memory.consumer();
        let mut broken: Option<Violation> = None;
        let (began, mut steps, mut records) = (work(), 0, 0);
        while !input.is_empty() {
            let (before, begun) = (memory.head(), work());
            steps += 1;
            // The largest number of blocks that it may take.
            let (mut violation, mut blocks) = (None, 1);
            match input.byte() % 12 {
                0 | 1 => {
                    let (position, header) = near_header(memory, before, &mut input);
                    memory.set_header(position, header);
                }
                2 => {
                    let offset = usize::from(input.word16());
                    let count = usize::from(input.byte());
                    memory.set_bytes(offset, input.bytes(count));
                }
                3 => memory.set_header(before, input.word64()),
                4 => memory.set_words(input.word32(), input.word32(), input.word32()),
                5 => match consumer.try_recv(into) {
                    Ok(Some(len)) => assert!(len == into.len() && len <= consumer.max_block()),
                    Ok(None) => {}
                    Err(RecvError::Violation(found)) => violation = Some(found),
                    Err(error) => panic!("{error}"),
                },
                6 => {
                    let (offset, release) = (usize::from(input.word16()), input.byte() % 2 == 0);
                    match consumer.try_recv_ref() {
                        Ok(Some(incoming)) => {
                            let offset = offset % (incoming.len() + 1);
                            into.resize(incoming.len() - offset, 0);
                            incoming.read_at(offset, into);
                            part.resize((incoming.len() - offset) / 2, 0);
                            incoming.read_at(offset, part);
                            if release {
                                incoming.release();
                            }
                        }
                        Ok(None) => {}
                        Err(RecvError::Violation(found)) => violation = Some(found),
                        Err(error) => panic!("{error}"),
                    }
                }
                7 => match consumer.recv_timeout(into, Instant::now()) {
                    Ok(_) | Err(RecvError::TimedOut) => {}
                    Err(RecvError::Violation(found)) => violation = Some(found),
                    Err(error) => panic!("{error}"),
                },
                // Its next sleeps end without anything to receive.
                8 => give_hints(input.byte().into()),
                // During its next sleep a block arrives.
                9 => {
                    let (position, header) = near_header(memory, before, &mut input);
                    memory.meanwhile(move |memory| memory.set_header(position, header));
                }
                10 => {
                    let word = input.word32();
                    memory.meanwhile(move |memory| memory.set_words(word, word, word));
                }
                _ => {
                    let (mut drain, mut at) = (consumer.drain(), before);
                    let looks = u64::from(input.byte() % 6);
                    blocks = looks.max(1);
                    for _ in 0..looks {
                        let (position, header) = near_header(memory, at, &mut input);
                        memory.set_header(position, header);
                        match drain.try_recv(into) {
                            Ok(Some(len)) => at += (len as u64 + 8).div_ceil(64) * 64,
                            Ok(None) => {}
                            Err(RecvError::Violation(found)) => violation = violation.or(Some(found)),
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            }
            let moved = memory.head() - before;
            // At most a padding and a record for each block.
            assert!(moved < blocks * 2 * memory.capacity() && moved % 64 == 0);
            records += if moved > 0 { blocks } else { 0 };
            let done = work().since(begun);
            assert!(done.words <= WORDS * blocks + 5 * done.sleeps, "{done:?} in one step");
            // Reading in parts copies half of a block twice. A block of one line is copied with its whole
            // line.
            let most = consumer.max_block() as u64 * 3 / 2 + 64;
            assert!(done.bytes <= blocks * most, "{done:?} in one step");
            if broken.is_some() {
                assert_eq!(moved, 0, "a broken consumer consumes nothing");
            }
            broken = broken.or(violation);
        }
        // It may sleep once for each step and each record, and a few times more.
        assert!(work().since(began).sleeps <= SPARE_HINTS + records + steps, "it goes on sleeping");
        if let Some(violation) = broken {
            assert_eq!(consumer.try_recv(into), Err(RecvError::Violation(violation)));
            assert_eq!(consumer.closer().reason(), Some(CloseReason::FAULT));
        }
        assert!(memory.guards_hold());
    });
});
