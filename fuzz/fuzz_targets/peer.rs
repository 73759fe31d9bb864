//! The other end of a channel's ring, played by the target: honest where it is asked to be.

#![allow(dead_code, reason = "each target uses a part of it")]

use ringpost::hostile::Memory;

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

fn record_size(len: u64) -> u64 {
    (len + 8).next_multiple_of(LINE)
}

/// Writes blocks as an honest producer does, except that it asks nobody for room.
pub struct Writer {
    ring: usize,
    pub tail: u64,
}

impl Writer {
    pub fn new(ring: usize) -> Writer {
        Writer { ring, tail: 0 }
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
}

/// Reads blocks as an honest consumer does.
pub struct Reader {
    ring: usize,
    pub head: u64,
}

impl Reader {
    pub fn new(ring: usize) -> Reader {
        Reader { ring, head: 0 }
    }

    /// The next block, if there is one. What lies there must be what a producer that knows the rules writes.
    pub fn next(&mut self, memory: &Memory) -> Option<Vec<u8>> {
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
        let block = memory.bytes(self.ring, self.head + 8, len as usize);
        self.head += record_size(len);
        memory.set_head(self.ring, self.head);
        Some(block)
    }
}
