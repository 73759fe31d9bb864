//! A producer against a consumer that writes any `head` and any parked word at any time.
//!
//! It never panics, never writes outside the ring, believes no impossible head, and stays broken once it met one.

#![no_main]

mod input;

use std::io::Write;
use std::time::Instant;

use input::Input;
use libfuzzer_sys::fuzz_target;
use ringpost::ring::{CloseReason, SendTimeoutError, TrySendError, hostile};

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let memory = hostile::ring(u32::from(input.byte() % 6), input.start_line());
    let mut producer = memory.producer();
    let block = vec![0x5a; memory.capacity() as usize];
    let mut broken = false;
    while !input.is_empty() {
        let max = producer.max_block() + 2;
        let mut answer = Ok(());
        match input.byte() % 8 {
            0 => memory.set_head(input.word64()),
            // A head, nearly right.
            1 | 2 => {
                let lines = u64::from(input.byte());
                let off = u64::from(input.byte() / 250);
                memory.set_head(memory.head().wrapping_add(lines % 80 * 64).wrapping_add(off));
            }
            3 => memory.set_words(input.word32(), input.word32(), input.word32()),
            4 => answer = producer.try_send(&block[..usize::from(input.word16()) % max]),
            5 => {
                let (len, written) = (usize::from(input.word16()) % max, usize::from(input.word16()));
                match producer.try_grant(len) {
                    Ok(mut grant) => {
                        let written = written % block.len();
                        let fits = grant.write(&block[..written]).expect("never fails");
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
                    answer = batch.push(&block[..usize::from(input.word16()) % max]);
                    if answer.is_err() {
                        break;
                    }
                }
                if input.byte() % 3 > 0 {
                    batch.commit();
                }
            }
            _ => {
                let len = usize::from(input.word16()) % max;
                answer = producer.send_deadline(&block[..len], Instant::now()).map_err(|error| match error {
                    SendTimeoutError::TimedOut => TrySendError::Full,
                    SendTimeoutError::TooLarge { len, max } => TrySendError::TooLarge { len, max },
                    SendTimeoutError::Violation(violation) => TrySendError::Violation(violation),
                    other => panic!("{other}"),
                });
            }
        }
        match answer {
            Ok(()) | Err(TrySendError::Full | TrySendError::TooLarge { .. }) => {}
            Err(TrySendError::Violation(_)) => broken = true,
            Err(error) => panic!("{error}"),
        }
    }
    if broken {
        assert!(matches!(producer.try_send(&[]), Err(TrySendError::Violation(_))));
        assert_eq!(producer.closer().reason(), Some(CloseReason::ProtocolViolation));
    }
    assert!(memory.guards_hold());
});
