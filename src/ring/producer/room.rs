//! Where the next block goes, and whether there is room for it.

use super::Producer;
use crate::ring::layout::{GIVEN_UP, HEAD, HEADER, LINE, Violation, record_size};
use crate::ring::{Ended, NotSent};
use crate::shm::backend::{Ordering, spin_hint};

/// A producer that finds the ring full is faster than the consumer, and each look at `head` takes away the
/// line that the consumer stores to after each block. So repeated looks are some `pause`s apart: one for this
/// many lines of the ring, and at most [`MOST_PAUSES`] (about 1.2 µs; a consumer takes 15 µs for 1,024
/// lines). A stream into a full ring takes 0.4 to 0.8 of the time.
const LINES_PER_PAUSE: u64 = 16;

const MOST_PAUSES: u64 = 64;

/// Why there is no place for a record now. Small, so that a batch keeps the result in registers.
pub(super) enum NoPlace {
    Full,
    Fault(Violation),
}

impl Producer {
    #[inline(always)]
    pub(in crate::ring) fn capacity(&self) -> u64 {
        self.end.capacity()
    }

    #[inline(always)]
    pub(super) fn offset(&self, position: u64) -> u64 {
        position & (self.capacity() - 1)
    }

    /// Whether a block of one line fits at the committed tail by the last head seen, and the ring is open.
    /// That is so nearly always. In any other case the caller calls `try_place`, which checks everything
    /// itself.
    #[inline(always)]
    pub(super) fn fits_line(&self, len: usize) -> bool {
        let end = self.end.position + 2 * LINE as u64; // with the zeroed line
        len <= self.end.one_line && end - self.head <= self.capacity() && !self.end.closer.is_closed()
    }

    /// The same for a block of any length.
    #[inline(always)]
    pub(super) fn fits_here(&self, len: usize) -> bool {
        len <= self.end.max_block
            && self.offset(self.end.position) + record_size(len) <= self.capacity()
            && self.end.position + record_size(len) + LINE as u64 - self.head <= self.capacity()
            && !self.end.closer.is_closed()
    }

    /// Where a block of `len` bytes goes now.
    #[inline(never)]
    pub(super) fn try_place(&mut self, len: usize) -> Result<u64, NotSent> {
        self.check_len(len)?;
        self.look_for_place(len)?.ok_or(NotSent::Full)
    }

    #[inline(always)]
    pub(in crate::ring) fn check_len(&self, len: usize) -> Result<(), NotSent> {
        let max = self.end.max_block;
        if len > max { Err(NotSent::TooLarge { len, max }) } else { Ok(()) }
    }

    /// The same for a block that is not too large; `None` if the ring is full.
    pub(super) fn look_for_place(&mut self, len: usize) -> Result<Option<u64>, Ended> {
        if self.end.closer.is_closed() {
            return Err(self.closed());
        }
        match self.place(self.end.position, len) {
            Ok(start) => Ok(Some(start)),
            Err(NoPlace::Full) => Ok(None),
            Err(NoPlace::Fault(violation)) => Err(Ended::Fault(violation)),
        }
    }

    /// Where a record of `len` bytes goes if the ring is written up to `at`: there, or behind padding at the
    /// start of the ring. The record, its padding and the zeroed line behind it are free.
    #[inline(always)]
    pub(super) fn place(&mut self, at: u64, len: usize) -> Result<u64, NoPlace> {
        let size = record_size(len);
        let padding = self.padding(at, size);
        let end = at + padding + size + LINE as u64;
        if end - self.head > self.capacity() {
            if self.was_full {
                (0..self.pauses()).for_each(|_| spin_hint());
            }
            self.refresh_head().map_err(NoPlace::Fault)?;
            self.was_full = end - self.head > self.capacity();
            if self.was_full {
                return Err(NoPlace::Full);
            }
        }
        Ok(at + padding)
    }

    /// How many pauses to make between two looks at a full ring.
    pub(super) fn pauses(&self) -> u64 {
        (self.capacity() / (LINE as u64 * LINES_PER_PAUSE)).min(MOST_PAUSES)
    }

    /// The padding in bytes that a record of this size needs before it, so as not to wrap.
    #[inline(always)]
    pub(super) fn padding(&self, at: u64, size: u64) -> u64 {
        let until_end = self.capacity() - self.offset(at);
        if size <= until_end { 0 } else { until_end }
    }

    /// The tail after a block of `len` bytes that is written at tail `at`.
    pub(in crate::ring) fn end_of(&self, at: u64, len: usize) -> u64 {
        at + self.padding(at, record_size(len)) + record_size(len)
    }

    /// Whether such a block has room by the last head seen.
    pub(in crate::ring) fn fits(&self, at: u64, len: usize) -> bool {
        self.end_of(at, len) + LINE as u64 - self.head <= self.capacity()
    }

    /// Whether a block of `len` bytes has room now.
    ///
    /// # Errors
    ///
    /// Those of an attempt to write it, except `Full`.
    pub(in crate::ring) fn has_room(&mut self, len: usize) -> Result<bool, NotSent> {
        self.check_len(len)?;
        if self.end.closer.is_closed() {
            return Err(self.closed().into());
        }
        self.refresh_head().map_err(NotSent::Fault)?;
        Ok(self.fits(self.end.position, len))
    }

    /// Whether the consumer has given up the ring: see [`Consumer::give_up`](super::Consumer::give_up).
    /// Relaxed: it carries no data.
    #[inline(always)]
    pub(in crate::ring) fn is_given_up(&self) -> bool {
        self.end.ring.word32::<GIVEN_UP>().load(Ordering::Relaxed) != 0
    }

    /// The committed tail.
    pub(crate) fn position(&self) -> u64 {
        self.end.position
    }

    /// How many payload bytes a record at `start` can have without wrapping, within what is known to be free.
    #[inline]
    pub(super) fn free_behind(&self, start: u64) -> usize {
        let until_end = self.capacity() - self.offset(start);
        let free = (self.head + self.capacity()).saturating_sub(start + LINE as u64);
        (until_end.min(free) as usize).saturating_sub(HEADER).min(self.end.max_block)
    }

    /// Loads and checks `head`, the only position that the consumer publishes.
    pub(super) fn refresh_head(&mut self) -> Result<(), Violation> {
        // Acquire: the consumer's reads of what it released happen before our writes there.
        let head = self.end.ring.word64::<HEAD>().load(Ordering::Acquire);
        let whole_lines = head.is_multiple_of(LINE as u64);
        if !whole_lines || head < self.head || head > self.end.position {
            return Err(self.end.poison(Violation::Head));
        }
        if head != self.head {
            self.end.progress += 1;
        }
        self.head = head;
        Ok(())
    }

    /// The last head seen.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }
}
