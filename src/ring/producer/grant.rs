//! A block written in place: `Grant`.

use std::io;

use super::{NOWHERE, Producer};
use crate::ring::layout::HEADER;
use crate::ring::{Deadline, SendError};
use crate::testing::failpoints::failpoint;

impl Producer {
    /// Room for one block of up to `len` bytes, to be written in place, if it is there now. Does not block.
    ///
    /// # Errors
    ///
    /// Those of [`try_send`](Self::try_send).
    ///
    /// # Examples
    ///
    /// See [`Grant`].
    #[inline]
    pub fn try_grant(&mut self, len: usize) -> Result<Grant<'_>, SendError> {
        let start = self.try_place(len)?;
        Ok(self.granted(start, len))
    }

    /// Room for one block of up to `len` bytes, to be written in place. Blocks until there is room or the
    /// ring is closed.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send).
    ///
    /// # Examples
    ///
    /// See [`Grant`].
    pub fn grant(&mut self, len: usize) -> Result<Grant<'_>, SendError> {
        self.grant_until(len, Deadline::NEVER)
    }

    pub(crate) fn grant_until(&mut self, len: usize, deadline: Deadline) -> Result<Grant<'_>, SendError> {
        self.check_len(len)?;
        let start = match self.look_for_place(len)? {
            Some(start) => start,
            None => self.wait_for_place(len, deadline)?,
        };
        Ok(self.granted(start, len))
    }

    fn granted(&mut self, start: u64, len: usize) -> Grant<'_> {
        self.cleared = NOWHERE;
        Grant { start, len, written: 0, producer: self }
    }

    /// Overwrites everything from the committed tail to `end` with zeros, except the header at the tail,
    /// which was not stored.
    #[cold]
    #[inline(never)]
    pub(super) fn overwrite_until(&self, end: u64) {
        let (start, len) = (self.end.position, end - self.end.position);
        if len > 0 {
            let until_end = len.min(self.capacity() - self.offset(start));
            self.overwrite(start, HEADER, until_end as usize - HEADER);
            self.overwrite(start + until_end, 0, (len - until_end) as usize);
        }
    }

    /// Overwrites `len` bytes with zeros that were written and not committed. `from` counts from the start of
    /// the line at `start`.
    #[cold]
    #[inline(never)]
    pub(super) fn overwrite(&self, start: u64, from: usize, len: usize) {
        const ZEROS: &[u8] = &[0; 4096];
        let end = from + len;
        let mut at = from;
        while at < end {
            let piece = ZEROS.len().min(end - at);
            self.end.ring.copy_in(start, at, &ZEROS[..piece]);
            at += piece;
        }
    }
}

/// Room for one block, written in place through [`io::Write`]: [`Producer::grant`]. It becomes visible with
/// [`commit`](Self::commit). If it is dropped, nothing is sent, and what was written is overwritten with
/// zeros. Before that the other side can read it in the ring's memory; if the grant is leaked
/// ([`std::mem::forget`]), it stays readable. A write of more than the room is cut to the room, as by any
/// full writer.
///
/// # Examples
///
/// ```
/// use std::io::Write;
///
/// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
/// let mut grant = producer.grant(4)?;
/// assert_eq!(grant.write(b"abcdef")?, 4);
/// grant.commit();
/// let mut block = Vec::new();
/// consumer.recv(&mut block)?;
/// assert_eq!(block, b"abcd");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a grant that is not committed sends nothing"]
pub struct Grant<'a> {
    producer: &'a mut Producer,
    /// Where the record begins; padding lies before it if this is not the committed tail.
    start: u64,
    len: usize,
    written: usize,
}

impl Grant<'_> {
    /// How many more bytes can be written. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::Write;
    ///
    /// let (mut producer, _consumer) = ringpost::ring::local(4096)?;
    /// let mut grant = producer.grant(10)?;
    /// grant.write_all(b"abc")?;
    /// assert_eq!(grant.remaining(), 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn remaining(&self) -> usize {
        self.len - self.written
    }

    /// How many bytes were written. Does not block.
    #[cfg(test)]
    pub(crate) fn written(&self) -> usize {
        self.written
    }

    /// Makes what was written visible as one block, and wakes the reader. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
    /// producer.grant(10)?.commit(); // a block of no bytes
    /// assert_eq!(consumer.try_recv(&mut Vec::new()), Ok(Some(0)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn commit(self) {
        self.producer.commit_one(self.start, self.written);
        self.producer.notify();
        std::mem::forget(self); // Its drop is for what is not committed.
    }
}

impl Drop for Grant<'_> {
    /// Overwrites what was written: the other side can read the ring's memory.
    #[inline(always)]
    fn drop(&mut self) {
        self.producer.overwrite(self.start, HEADER, self.written);
    }
}

impl io::Write for Grant<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fit = &bytes[..bytes.len().min(self.remaining())];
        self.producer.end.ring.copy_in(self.start, HEADER + self.written, fit);
        failpoint!("grant.written", [channel], always);
        self.written += fit.len();
        Ok(fit.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
