//! A sample read in place: `InPlace`.

use std::fmt;

use super::reader::{Reader, Taken};
use crate::ring::layout::{HEADER, record_size};

/// The publisher overwrote the sample while it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overwritten;

/// A sample that lies in the publisher's memory, and may be overwritten there at any time. Each copy out of
/// it is checked. It counts as taken when this is dropped.
pub(crate) struct InPlace<'a> {
    reader: &'a mut Reader,
    len: usize,
    pub(crate) taken: Taken,
    is_left: bool,
}

impl<'a> InPlace<'a> {
    pub(super) fn new(reader: &'a mut Reader, len: usize) -> InPlace<'a> {
        let taken = reader.at_hand();
        InPlace { reader, len, taken, is_left: false }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Copies the bytes from `at` on. If it was overwritten, the buffer holds anything.
    ///
    /// # Panics
    ///
    /// If they do not lie in the sample.
    pub(crate) fn copy_out(&self, at: usize, to: &mut [u8]) -> Result<(), Overwritten> {
        assert!(at <= self.len && to.len() <= self.len - at, "the bytes lie in the sample");
        self.reader.copy_out(HEADER + at, to);
        self.check()
    }

    /// Where its bytes are. Its publisher may overwrite them at any time.
    pub(crate) fn address(&self) -> *const u8 {
        self.reader.address(HEADER, self.len)
    }

    /// It does not count as taken when this is dropped, and nobody is told of it.
    pub(crate) fn leave(&mut self) {
        self.is_left = true;
    }

    /// Whether all that was read so far was the sample.
    pub(crate) fn check(&self) -> Result<(), Overwritten> {
        if self.reader.is_lapped() { Err(Overwritten) } else { Ok(()) }
    }
}

impl fmt::Debug for InPlace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InPlace").field("len", &self.len).field("taken", &self.taken).finish_non_exhaustive()
    }
}

impl Drop for InPlace<'_> {
    fn drop(&mut self) {
        if !self.is_left {
            self.reader.taken(record_size(self.len));
        }
    }
}
