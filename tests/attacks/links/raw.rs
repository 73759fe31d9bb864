//! One end of a link, written by hand: it can break every rule.

use crate::common::raw::{DATA_RECORD, LINE, PADDING_RECORD, RawClient, block, header};
use crate::common::raw_links::Side;
use ringpost::testing::{Segment, futex_wake};
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

pub const HELLO: u16 = 8;
pub const POST: u16 = 9;
pub const CALL: u16 = 1;

pub const OK: u16 = 0;
pub const STATUS_HELLO: u16 = 12;
pub const REFUSED: u16 = 13;

/// What a closed word says of one who broke a rule.
pub const VIOLATION: u32 = 6;

const CLOSED: usize = 128;
const CONTROLS: usize = 256;
const CONTROL: usize = 384;
const DATA: usize = 4096;

/// The ring of requests, and the ring of responses.
pub const RINGS: [usize; 2] = [0, 1];

pub struct RawLink {
    pub side: Side,
    pub segment: Segment,
    pub ring_size: u64,
    /// The ring in which this end sends; the other one is the peer's.
    sends: usize,
    tail: u64,
    taken: u64,
    pub sequence: u32,
    /// Whether it kicks an end that waits in an event loop.
    pub kicks: bool,
}

impl RawLink {
    /// The caller's or the callee's end.
    pub fn open(side: Side, calls: bool) -> RawLink {
        let segment = Segment::open(&side.segment).unwrap();
        let ring_size = side.ring_size;
        let (sends, kicks) = (usize::from(!calls), true);
        RawLink { side, segment, ring_size, sends, tail: 0, taken: 0, sequence: 0, kicks }
    }

    pub fn head(&self, ring: usize) -> &AtomicU64 {
        self.segment.word64(CONTROLS + ring * CONTROL)
    }

    /// The words on which both ends sleep.
    pub fn parked(&self) -> [&AtomicU32; 4] {
        [(0, 128), (0, 256), (1, 128), (1, 256)]
            .map(|(ring, word)| self.segment.word32(CONTROLS + ring * CONTROL + word))
    }

    pub fn offset(&self, ring: usize, position: u64) -> usize {
        DATA + (ring as u64 * self.ring_size + position % self.ring_size) as usize
    }

    fn record(&self, ring: usize, position: u64) -> &AtomicU64 {
        self.segment.word64(self.offset(ring, position))
    }

    pub fn closed(&self) -> u32 {
        self.segment.word32(CLOSED).load(Ordering::Acquire)
    }

    /// Closes it, and wakes whoever sleeps.
    pub fn close(&self, reason: u32) {
        self.segment.word32(CLOSED).store(reason, Ordering::Release);
        self.wake();
    }

    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        for word in self.parked() {
            match word.swap(0, Ordering::Relaxed) {
                1 => futex_wake(word, u32::MAX >> 1),
                2 if self.kicks => self.kick(1),
                _ => {}
            }
        }
    }

    /// Writes so many bytes into the other side's pipe, each by itself, if there is room.
    pub fn kick(&self, times: usize) {
        let others = &self.side.others;
        // It must not wait itself, if it has made the end one that does.
        if rustix::fs::fcntl_getfl(others).is_ok_and(|flags| flags.contains(OFlags::NONBLOCK)) {
            (0..times).for_each(|_| _ = rustix::io::write(others, &[1]));
        }
    }

    /// Whether it is the caller's end.
    pub fn calls(&self) -> bool {
        self.sends == 0
    }

    /// The bytes of padding before a block with this body, and of its record.
    fn place(&self, body: usize) -> (u64, u64) {
        let size = (body as u64 + 16).next_multiple_of(LINE);
        let rest = self.ring_size - self.tail % self.ring_size;
        (if size > rest { rest } else { 0 }, size)
    }

    /// Whether a block with that many bytes in its body fits into the ring in which this end sends.
    pub fn has_room_for(&self, body: usize) -> bool {
        let (padding, size) = self.place(body);
        let head = self.head(self.sends).load(Ordering::Acquire);
        (self.tail + padding + size + LINE).saturating_sub(head) <= self.ring_size
    }

    /// Commits a block. There must be room.
    pub fn send(&mut self, code: u16, sequence: u32, body: &[u8]) {
        let block = block(code, 0, sequence, body);
        let (padding, size) = self.place(body.len());
        let (ring, at) = (self.sends, self.tail + padding);
        self.segment.copy_in(self.offset(ring, at) + 8, &block);
        self.record(ring, at + size).store(0, Ordering::Relaxed);
        self.record(ring, at).store(header(at, DATA_RECORD, block.len() as u64), Ordering::Release);
        if padding > 0 {
            let word = header(self.tail, PADDING_RECORD, padding - 8);
            self.record(ring, self.tail).store(word, Ordering::Release);
        }
        self.tail = at + size;
        self.wake();
    }

    /// Whether the other end has not taken all that was sent.
    pub fn is_behind(&self) -> bool {
        self.head(self.sends).load(Ordering::Acquire) != self.tail
    }

    /// Calls, and returns the number of the call.
    pub fn call(&mut self, body: &[u8]) -> u32 {
        let sequence = self.sequence;
        self.sequence += 1;
        self.send(CALL, sequence, body);
        sequence
    }

    /// Stores a header, valid or not, where the next block would begin, and wakes the other end.
    pub fn put_header(&self, len: u64) {
        self.record(self.sends, self.tail).store(header(self.tail, DATA_RECORD, len), Ordering::Release);
        self.wake();
    }

    /// The next block of the other end, if there is one: code, number and body. What makes no sense is
    /// `None`.
    pub fn next(&mut self) -> Option<(u16, u32, Vec<u8>)> {
        let ring = 1 - self.sends;
        let mut word = self.record(ring, self.taken).load(Ordering::Acquire);
        if word >> 32 & 3 == PADDING_RECORD {
            self.taken = self.taken.next_multiple_of(self.ring_size);
            word = self.record(ring, self.taken).load(Ordering::Acquire);
        }
        let len = (word & 0xffff_ffff) as usize;
        if word == 0 || len < 8 || len as u64 > self.ring_size / 2 {
            return None;
        }
        let mut block = vec![0; len];
        self.segment.copy_out(self.offset(ring, self.taken) + 8, &mut block);
        self.taken += (len as u64 + 8).next_multiple_of(LINE);
        self.head(ring).store(self.taken, Ordering::Release);
        self.wake();
        let code = u16::from_le_bytes([block[0], block[1]]);
        let sequence = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
        Some((code, sequence, block.split_off(8)))
    }

    /// Punches a hole into its memory.
    pub fn punch(&self, page: usize, pages: usize) {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let at = page as u64 * 4096;
        fallocate(&self.side.segment, hole, at, pages as u64 * 4096).expect("a hole can be punched");
    }

    pub fn pages(&self) -> usize {
        self.segment.len() / 4096
    }

    /// Drops all that ends the link, says so to the server, and keeps the memory.
    pub fn let_go(self, client: &RawClient) -> Kept {
        client.flip(self.side.index);
        Kept { segment: self.segment, ring_size: self.ring_size }
    }
}

/// The memory of a link that has ended.
pub struct Kept {
    pub segment: Segment,
    pub ring_size: u64,
}
