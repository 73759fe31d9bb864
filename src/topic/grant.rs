//! A sample written in place: `Grant`.

use std::io;

use super::writer::Writer;
use crate::ring::layout::HEADER;
use crate::testing::failpoints::failpoint;

/// Room for one sample. What was written becomes a sample with [`commit`](Self::commit). If it is dropped,
/// nothing is published, and what was written is overwritten with zeros: readers can read the whole ring, and
/// what was taken back is not for them. Either way what it would have overwritten is lost to slow readers.
///
/// Whoever got the [address](Self::address) may have written anywhere in the room. So then all of it that is
/// not published is overwritten, before anything is published behind it. (For what readers take for samples
/// that is not needed. Each commit stores the next 0 first, so no reader that is not lapped looks at a header
/// in there.)
///
/// In a forked child, whose grant is its parent's, it writes and publishes nothing.
#[derive(Debug)]
#[must_use = "a grant that is not committed publishes nothing"]
pub(crate) struct Grant<'a> {
    writer: &'a mut Writer,
    start: u64,
    len: usize,
    written: usize,
    /// Whether somebody has the address.
    is_exposed: bool,
}

impl<'a> Grant<'a> {
    pub(super) fn new(writer: &'a mut Writer, start: u64, len: usize) -> Grant<'a> {
        Grant { writer, start, len, written: 0, is_exposed: false }
    }

    /// How many more bytes can be written.
    pub(crate) fn remaining(&self) -> usize {
        self.len - self.written
    }

    /// The address of the first byte that is not written yet.
    pub(crate) fn address(&mut self) -> *mut u8 {
        self.is_exposed = true;
        self.writer.ring.address(self.start, HEADER + self.written, self.remaining())
    }

    /// So many bytes were written.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub(crate) fn advance(&mut self, bytes: usize) {
        let left = self.remaining();
        assert!(bytes <= left, "{bytes} bytes cannot have been written: the grant has room for {left} more");
        failpoint!("sample.granted", [topic], seldom);
        self.written += bytes;
    }

    /// Publishes what was written.
    pub(crate) fn commit(self) {
        if self.is_forked() {
            return;
        }
        if self.is_exposed {
            self.wipe(self.written, self.len);
        }
        self.writer.commit_at(self.start, self.written);
        self.writer.tell();
        std::mem::forget(self); // Its drop is for what is not committed.
    }

    fn is_forked(&self) -> bool {
        self.writer.audience.is_forked()
    }

    /// Overwrites these bytes of the room with zeros.
    fn wipe(&self, from: usize, to: usize) {
        const ZEROS: &[u8] = &[0; 4096];
        let mut at = from;
        while at < to {
            let piece = ZEROS.len().min(to - at);
            self.writer.ring.copy_in(self.start, HEADER + at, &ZEROS[..piece]);
            at += piece;
        }
    }
}

impl io::Write for Grant<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_forked() {
            return Err(io::Error::other("the grant is that of the process that forked this one"));
        }
        let fit = &bytes[..bytes.len().min(self.remaining())];
        self.writer.ring.copy_in(self.start, HEADER + self.written, fit);
        self.advance(fit.len());
        Ok(fit.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Grant<'_> {
    fn drop(&mut self) {
        if !self.is_forked() {
            self.wipe(0, if self.is_exposed { self.len } else { self.written });
        }
    }
}
