//! What is at the consumer's position: a block, padding, the end, a broken rule or nothing.

use super::Consumer;
use crate::ring::layout::{self, EMPTY, Header, LINE, ONE_LINE, record_size};
use crate::ring::{CloseReason, Ended};
use crate::shm::backend::Ordering;
use crate::testing::failpoints::failpoint;

/// A committed block that was found at `start`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(super) start: u64,
    pub(super) len: usize,
}

impl Found {
    /// The size of its record in bytes.
    #[inline(always)]
    pub(super) fn size(self) -> u64 {
        if self.len <= ONE_LINE { LINE as u64 } else { record_size(self.len) }
    }
}

impl Consumer {
    /// Finds a block that keeps every rule in a header that was loaded here, which is nearly always what is
    /// there. In any other case the caller calls `look`, which checks everything itself.
    #[inline(always)]
    pub(super) fn look_quickly(&self, word: u64) -> Option<Found> {
        let len = (word & 0xffff_ffff) as usize;
        // A poisoned consumer has closed its channel, and in a forked child it reads as closed: `look`
        // handles both.
        if word >> 32 != layout::data_mark(self.end.position) || self.end.closer.is_closed_here() {
            return None;
        }
        // A single line lies within the ring wherever it begins.
        let sound = len <= self.end.one_line || self.is_sound(len);
        sound.then_some(Found { start: self.end.position, len })
    }

    #[inline(never)]
    pub(super) fn is_sound(&self, len: usize) -> bool {
        let offset = self.end.position & (self.end.capacity() - 1);
        len <= self.end.max_block && offset + record_size(len) <= self.end.capacity()
    }

    /// A block; `None` if there is nothing now.
    pub(super) fn look(&mut self) -> Result<Option<Found>, Ended> {
        match self.load_header() {
            EMPTY if self.end.closer.is_closed() => self.look_after_close(),
            EMPTY => Ok(None),
            word => self.examine(word),
        }
    }

    #[inline(always)]
    pub(super) fn load_header(&self) -> u64 {
        // Acquire: whoever sees the header sees the payload, and the zero behind it.
        self.end.ring.header(self.end.position).load(Ordering::Acquire)
    }

    /// Closed was seen first; only a look after that can show that nothing is left.
    #[cold]
    fn look_after_close(&mut self) -> Result<Option<Found>, Ended> {
        let Some(reason) = self.end.closer.reason() else { return Ok(None) };
        if let Some(violation) = self.end.broken {
            return Err(Ended::Fault(violation));
        }
        match self.load_header() {
            EMPTY => Err(Ended::Closed(reason)),
            word => self.examine(word),
        }
    }

    fn examine(&mut self, word: u64) -> Result<Option<Found>, Ended> {
        if self.end.closer.is_forked() {
            // What is in the ring belongs to its parent, which goes on reading.
            return Err(Ended::Closed(CloseReason::FORKED));
        }
        if let Some(violation) = self.end.broken {
            return Err(Ended::Fault(violation));
        }
        match layout::check(word, self.end.position, self.end.ring.capacity(), self.end.max_block) {
            Ok(Header::Data(len)) => Ok(Some(Found { start: self.end.position, len })),
            Ok(Header::Padding) => self.skip_padding(),
            Err(violation) => Err(self.poison(violation)),
        }
    }

    #[cold]
    fn skip_padding(&mut self) -> Result<Option<Found>, Ended> {
        self.end.position += self.end.capacity() - (self.end.position & (self.end.capacity() - 1));
        self.give_back();
        failpoint!("consume.padding", [server, client, link], always);
        self.settle();
        // At offset 0 there is no padding, so this does not go on for ever.
        self.look()
    }
}
