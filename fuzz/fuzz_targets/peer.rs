//! The simulated other end of a channel's rings: writes and reads valid blocks, or tampers with any word.

#![allow(dead_code, reason = "each target uses a part of it")]

use crate::input::{Input, near_head};
use ringpost::testing::fuzz::{INBOX, Memory, REQUESTS, RESPONSES, give_hints};

pub const RING: u64 = 4096;
pub const LINE: u64 = 64;

const DATA: u64 = 0b01;
const PADDING: u64 = 0b10;

/// A record header.
pub fn header(position: u64, kind: u64, len: u64) -> u64 {
    position / LINE % (1 << 30) << 34 | (kind & 3) << 32 | len & 0xffff_ffff
}

/// A request, response or message block.
pub fn block(code: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut block = Vec::with_capacity(8 + body.len());
    block.extend_from_slice(&code.to_le_bytes());
    block.extend_from_slice(&flags.to_le_bytes());
    block.extend_from_slice(&sequence.to_le_bytes());
    block.extend_from_slice(body);
    block
}

/// The size of the record of a block of this length.
pub fn record_size(len: u64) -> u64 {
    (len + 8).next_multiple_of(LINE)
}

/// Overwrites a word or some bytes of a channel with an arbitrary or nearly valid value. `tails` are the
/// rings that the peer writes, and the positions up to which it has written them.
pub fn tamper(memory: &Memory, tails: &[(usize, u64)], input: &mut Input<'_>) {
    let ring = usize::from(input.byte() % 3);
    match input.byte() % 9 {
        0 => {
            let (kind, off, len) =
                (u64::from(input.byte()), u64::from(input.byte()), u64::from(input.word16()));
            let rings = tails.len() as u64;
            let (ring, tail) = tails[(off % rings) as usize];
            let position = tail + off / rings % 4 * LINE;
            memory.set_header(ring, position, header(position + off / 250 * LINE, kind, len));
        }
        1 => memory.set_header(ring, u64::from(input.word16()), input.word64()),
        2 => {
            let (at, len) = (u64::from(input.word16()), usize::from(input.byte()));
            memory.set_bytes(ring, at, input.bytes(len));
        }
        3 => memory.set_head(ring, input.word64()),
        4 => memory.set_head(ring, near_head(memory.head(ring), input.byte(), input.byte())),
        5 => memory.set_parked(ring, input.word32(), input.word32()),
        6 => memory.set_closed(input.word32()),
        // The end's next sleeps end without anything to do.
        7 => give_hints(input.byte().into()),
        // Something happens during its next sleep.
        _ => {
            let (what, value) = (input.byte(), input.byte());
            let (ring, tail) = tails[usize::from(what) / 4 % tails.len()];
            let word = header(tail, u64::from(value), u64::from(value));
            memory.meanwhile(move |memory| match what % 4 {
                0 => memory.set_header(ring, tail, word),
                1 => [REQUESTS, RESPONSES, INBOX]
                    .into_iter()
                    .for_each(|ring| memory.set_head(ring, near_head(memory.head(ring), value, value))),
                2 => memory.set_closed(value.into()),
                _ => (0..3).for_each(|ring| memory.set_parked(ring, value.into(), value.into())),
            });
        }
    }
}

/// Writes valid blocks like a producer, but without checking for room.
#[derive(Clone)]
pub struct Writer {
    ring: usize,
    pub tail: u64,
}

impl Writer {
    pub fn new(ring: usize) -> Writer {
        Writer { ring, tail: 0 }
    }

    /// The ring, and the position up to which it is written.
    pub fn end(&self) -> (usize, u64) {
        (self.ring, self.tail)
    }

    pub fn put(&mut self, memory: &Memory, block: &[u8]) {
        let size = record_size(block.len() as u64);
        let until_end = RING - self.tail % RING;
        let start = if size <= until_end { self.tail } else { self.tail + until_end };
        memory.set_bytes(self.ring, start + 8, block);
        memory.set_header(self.ring, start + size, 0);
        memory.set_header(self.ring, start, header(start, DATA, block.len() as u64));
        if start != self.tail {
            memory.set_header(self.ring, self.tail, header(self.tail, PADDING, until_end - 8));
        }
        self.tail = start + size;
    }

    /// Writes a block while the other end sleeps the next time. What is written later lies behind it.
    pub fn put_later(&mut self, memory: &Memory, block: Vec<u8>) {
        let mut then = self.clone();
        let size = record_size(block.len() as u64);
        let until_end = RING - self.tail % RING;
        self.tail += if size <= until_end { size } else { until_end + size };
        memory.meanwhile(move |memory| then.put(memory, &block));
    }
}

/// Reads blocks like a consumer.
pub struct Reader {
    ring: usize,
    pub head: u64,
    block: Vec<u8>,
}

impl Reader {
    pub fn new(ring: usize) -> Reader {
        Reader { ring, head: 0, block: Vec::new() }
    }

    /// The next block, if there is one. It must be a valid one.
    pub fn next(&mut self, memory: &Memory) -> Option<&[u8]> {
        let mut word = memory.header(self.ring, self.head);
        if word != 0 && word >> 32 & 3 == PADDING {
            let rest = RING - self.head % RING;
            assert!(rest < RING, "padding where none can be");
            assert_eq!(word, header(self.head, PADDING, rest - 8));
            self.head += rest;
            word = memory.header(self.ring, self.head);
        }
        if word == 0 {
            memory.set_head(self.ring, self.head);
            return None;
        }
        let len = word & 0xffff_ffff;
        assert_eq!(word, header(self.head, DATA, len));
        assert!(len as usize <= memory.max_block(), "a block beyond the maximum");
        assert!(self.head % RING + record_size(len) <= RING, "a record beyond the end");
        memory.read(self.ring, self.head + 8, len as usize, &mut self.block);
        self.head += record_size(len);
        memory.set_head(self.ring, self.head);
        Some(&self.block)
    }
}
