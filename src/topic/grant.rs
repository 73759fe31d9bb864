//! A sample written in place: `Grant`.

use std::io;

use super::writer::Writer;
use crate::ring::layout::HEADER;
use crate::testing::failpoints::failpoint;

/// Room for one sample. What was written becomes a sample with [`commit`](Self::commit). If it is dropped,
/// nothing is published, and what was written is overwritten with zeros. Either way what it would have
/// overwritten is lost to slow readers.
#[derive(Debug)]
#[must_use = "a grant that is not committed publishes nothing"]
pub(crate) struct Grant<'a> {
    writer: &'a mut Writer,
    start: u64,
    len: usize,
    written: usize,
}

impl<'a> Grant<'a> {
    pub(super) fn new(writer: &'a mut Writer, start: u64, len: usize) -> Grant<'a> {
        Grant { writer, start, len, written: 0 }
    }

    /// How many more bytes can be written.
    pub(crate) fn remaining(&self) -> usize {
        self.len - self.written
    }

    /// Publishes what was written.
    pub(crate) fn commit(self) {
        self.writer.commit_at(self.start, self.written);
        self.writer.tell();
        std::mem::forget(self); // Its drop is for what is not committed.
    }
}

impl io::Write for Grant<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fit = &bytes[..bytes.len().min(self.remaining())];
        self.writer.ring.copy_in(self.start, HEADER + self.written, fit);
        failpoint!("sample.granted", [topic], seldom);
        self.written += fit.len();
        Ok(fit.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Grant<'_> {
    fn drop(&mut self) {
        const ZEROS: &[u8] = &[0; 4096];
        let mut at = 0;
        while at < self.written {
            let piece = ZEROS.len().min(self.written - at);
            self.writer.ring.copy_in(self.start, HEADER + at, &ZEROS[..piece]);
            at += piece;
        }
    }
}
