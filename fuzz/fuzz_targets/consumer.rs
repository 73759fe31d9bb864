//! A consumer over bytes that another process could write: headers, payload, futex words, at any time between its looks.
//!
//! It never panics, never reads outside the ring (every access is checked, and the words around are guarded), passes
//! at most one padding and one record in a look, and stays broken once it has found a broken rule.

#![no_main]

mod input;

use std::time::Instant;

use input::Input;
use libfuzzer_sys::fuzz_target;
use ringpost::ring::{CloseReason, RecvTimeoutError, TryRecvError, Violation, hostile};

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let memory = hostile::ring(u32::from(input.byte() % 6), input.start_line());
    let mut consumer = memory.consumer();
    let mut into = Vec::new();
    let mut broken: Option<Violation> = None;
    while !input.is_empty() {
        let before = memory.head();
        let mut violation = None;
        match input.byte() % 8 {
            // A header, nearly right: its position is the consumer's own or a little off.
            0 | 1 => {
                let (kind, off, lines) = (u64::from(input.byte()), input.byte(), u64::from(input.byte() % 4));
                let len = u64::from(input.word16());
                let len = if kind & 4 == 0 {
                    len
                } else {
                    memory.capacity() - before % memory.capacity() - 8 + len % 3
                };
                let position = before + lines * 64;
                let line = (position / 64 + u64::from(off / 250)) % (1 << 30);
                memory.set_header(position, line << 34 | (kind & 3) << 32 | len & 0xffff_ffff);
            }
            2 => {
                let offset = usize::from(input.word16());
                let count = usize::from(input.byte());
                memory.set_bytes(offset, input.bytes(count));
            }
            3 => memory.set_header(before, input.word64()),
            4 => memory.set_words(input.word32(), input.word32(), input.word32()),
            5 => match consumer.try_recv(&mut into) {
                Ok(len) => assert!(len == into.len() && len <= consumer.max_block()),
                Err(TryRecvError::Violation(found)) => violation = Some(found),
                Err(error) => assert_eq!(error, TryRecvError::Empty),
            },
            6 => {
                let (offset, release) = (usize::from(input.word16()), input.byte() % 2 == 0);
                match consumer.try_incoming() {
                    Ok(incoming) => {
                        let offset = offset % (incoming.len() + 1);
                        incoming.append_to(offset, &mut into);
                        let mut part = vec![0; (incoming.len() - offset) / 2];
                        incoming.read_at(offset, &mut part);
                        if release {
                            incoming.release();
                        }
                    }
                    Err(TryRecvError::Violation(found)) => violation = Some(found),
                    Err(error) => assert_eq!(error, TryRecvError::Empty),
                }
            }
            _ => match consumer.recv_deadline(&mut into, Instant::now()) {
                Ok(_) | Err(RecvTimeoutError::TimedOut) => {}
                Err(RecvTimeoutError::Violation(found)) => violation = Some(found),
                Err(error) => panic!("{error}"),
            },
        }
        let moved = memory.head() - before;
        // At most padding and a record behind it.
        assert!(moved < 2 * memory.capacity() && moved % 64 == 0);
        if broken.is_some() {
            assert_eq!(moved, 0, "a broken consumer consumes nothing");
        }
        broken = broken.or(violation);
    }
    if let Some(violation) = broken {
        assert_eq!(consumer.try_recv(&mut into), Err(TryRecvError::Violation(violation)));
        assert_eq!(consumer.closer().reason(), Some(CloseReason::ProtocolViolation));
    }
    assert!(memory.guards_hold());
});
