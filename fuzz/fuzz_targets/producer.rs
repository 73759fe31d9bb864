//! Fuzzes a producer whose consumer writes arbitrary `head`s and parked words, also while the producer
//! sleeps.
//!
//! The producer must never panic or write outside the ring, do no more work than its blocks need, reject
//! impossible heads, and stay broken after one.

#![no_main]

mod input;

use std::cell::RefCell;
use std::io::Write;
use std::time::Instant;

use input::{Input, near_head};
use libfuzzer_sys::fuzz_target;
use ringpost::ring::{CloseReason, Producer, SendError};
use ringpost::testing::fuzz::{RingMemory, give_hints, work};

thread_local! {
    static MEMORY: RefCell<RingMemory> = RefCell::new(RingMemory::new());
}

/// The words that a step may read or write, besides five for each sleep and three for each block.
const WORDS: u64 = 24;

static BLOCK: [u8; 4096] = [0x5a; 4096];

fn wait(producer: &mut Producer, len: usize) -> Result<(), SendError> {
    producer.send_timeout(&BLOCK[..len], Instant::now())
}

fuzz_target!(|data: &[u8]| {
    MEMORY.with_borrow_mut(|memory| {
        let mut input = Input(data);
        memory.begin(u32::from(input.byte() % 6), input.start_line());
        let mut producer = memory.producer();
        let capacity = memory.capacity();
        let mut broken = false;
        let mut waits = 0;
        let began = work();
        while !input.is_empty() {
            let max = producer.max_block() + 2;
            let (begun, mut blocks) = (work(), 1);
            let mut answer = Ok(());
            match input.byte() % 11 {
                0 => memory.set_head(input.word64()),
                1 | 2 => memory.set_head(near_head(memory.head(), input.byte(), input.byte())),
                3 => memory.set_words(input.word32(), input.word32(), input.word32()),
                4 => answer = producer.try_send(&BLOCK[..usize::from(input.word16()) % max]),
                5 => {
                    let (len, written) = (usize::from(input.word16()) % max, usize::from(input.word16()));
                    match producer.try_grant(len) {
                        Ok(mut grant) => {
                            let written = written % capacity as usize;
                            let fits = grant.write(&BLOCK[..written]).expect("never fails");
                            assert_eq!(fits, written.min(len));
                            if input.byte() % 3 > 0 {
                                grant.commit();
                            }
                        }
                        Err(error) => answer = Err(error),
                    }
                }
                6 => {
                    let mut batch = producer.batch();
                    for _ in 0..input.byte() % 8 {
                        blocks += 1;
                        answer = batch.push(&BLOCK[..usize::from(input.word16()) % max]);
                        if answer.is_err() {
                            break;
                        }
                    }
                    if input.byte() % 3 > 0 {
                        batch.commit();
                    }
                }
                7 => {
                    waits += 1;
                    answer = wait(&mut producer, usize::from(input.word16()) % max);
                }
                // Its next sleeps end without room.
                8 => give_hints(input.byte().into()),
                // Many waits without room.
                9 => {
                    for _ in 0..input.byte() % 80 {
                        if answer.is_ok() || answer == Err(SendError::TimedOut) {
                            waits += 1;
                            blocks += 1;
                            answer = wait(&mut producer, max - 2);
                        }
                    }
                }
                // Something happens during its next sleep.
                _ => {
                    let (what, lines, off) = (input.byte(), input.byte(), input.byte());
                    memory.meanwhile(move |memory| match what % 3 {
                        0 => memory.set_head(near_head(memory.head(), lines, off)),
                        1 => memory.set_head(u64::from(lines) << 56 | u64::from(off)),
                        _ => memory.set_words(lines.into(), off.into(), lines.into()),
                    });
                }
            }
            let done = work().since(begun);
            assert!(done.words <= WORDS + 5 * done.sleeps + 8 * blocks, "{done:?} for {blocks} blocks");
            // Copies stay within the ring. Room comes only from a head, at most twice, because one can arrive
            // during a sleep. Discarded bytes are written a second time, with zeros.
            assert!(done.bytes <= blocks * capacity && done.bytes <= 4 * capacity, "{done:?}");
            match answer {
                Ok(()) | Err(SendError::Full | SendError::TimedOut | SendError::TooLarge { .. }) => {}
                Err(SendError::Violation(_)) => broken = true,
                Err(error) => panic!("{error}"),
            }
        }
        let sleeps = work().since(began).sleeps;
        assert!(sleeps <= waits && waits <= data.len() as u64 * 80, "{sleeps} sleeps in {waits} waits");
        if broken {
            assert!(matches!(producer.try_send(&[]), Err(SendError::Violation(_))));
            assert_eq!(producer.closer().reason(), Some(CloseReason::FAULT));
        }
        assert!(memory.guards_hold());
    });
});
