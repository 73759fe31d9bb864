//! A block written in place whose length is not known when it is begun: `Draft`.

use super::{NOWHERE, Producer};
use crate::ring::NotSent;
use crate::ring::layout::{HEADER, LINE, ONE_LINE};
use crate::testing::failpoints::failpoint;

/// A block begun in place by [`Producer::begin`]: where its record begins, and how many bytes may be written.
#[derive(Debug)]
pub(crate) struct Draft {
    start: u64,
    room: usize,
    /// What was cleared ahead when the draft grew beyond one line.
    cleared: u64,
}

impl Draft {
    #[inline(always)]
    pub(crate) fn room(&self) -> usize {
        self.room
    }
}

impl Producer {
    /// Begins a block in place, whose length is not known yet: at first only the first line of it, or `least`
    /// bytes.
    #[inline(always)]
    pub(crate) fn begin(&mut self, least: usize) -> Result<Draft, NotSent> {
        if self.fits_line(least) {
            return Ok(Draft { start: self.end.position, room: self.end.one_line, cleared: NOWHERE });
        }
        let start = self.try_place(least)?;
        self.cleared = NOWHERE;
        Ok(Draft { start, room: least, cleared: NOWHERE })
    }

    /// Makes room for `len` bytes in a draft, or for as many as lie free in one piece.
    #[inline(never)]
    pub(crate) fn extend(&mut self, draft: &mut Draft, len: usize) {
        // The draft may overwrite the line that was cleared ahead. The commit restores `cleared`.
        if self.cleared != NOWHERE {
            draft.cleared = std::mem::replace(&mut self.cleared, NOWHERE);
        }
        let mut room = self.free_behind(draft.start);
        if room < len && self.refresh_head().is_ok() {
            room = self.free_behind(draft.start);
        }
        failpoint!("draft.extended", [server, link], rarely);
        draft.room = room.max(draft.room);
    }

    /// Overwrites the first `len` bytes of an abandoned draft with zeros: the other side can read the ring's
    /// memory.
    pub(crate) fn take_back(&mut self, draft: &Draft, len: usize) {
        debug_assert!(len <= draft.room, "no more is taken back than was written");
        self.overwrite(draft.start, HEADER, len);
        failpoint!("draft.overwritten", [server, link], rarely);
    }

    /// Writes into a draft behind its first `at` bytes, within its room.
    #[inline(always)]
    pub(crate) fn write(&mut self, draft: &Draft, at: usize, bytes: &[u8]) {
        debug_assert!(at <= draft.room && bytes.len() <= draft.room - at, "no room");
        self.end.ring.copy_in(draft.start, HEADER + at, bytes);
        failpoint!("draft.written", [server, link], always);
    }

    /// Writes the first eight bytes of a draft of at least that length.
    #[inline(always)]
    pub(crate) fn write_first_word(&mut self, draft: &Draft, word: u64) {
        debug_assert!(draft.room >= 8);
        self.end.ring.set_second_word(draft.start, word);
        failpoint!("draft.header", [server, link], always);
    }

    /// Copies back what was written behind the first `from` bytes. The other side may have changed it
    /// meanwhile.
    pub(crate) fn read_back(&self, draft: &Draft, bytes: std::ops::Range<usize>, into: &mut Vec<u8>) {
        self.end.ring.append_to(draft.start, HEADER + bytes.start, bytes.len(), into);
    }

    /// Commits the first `len` bytes of a draft; the caller sends the wake. Nothing else may have been
    /// published since the draft was begun.
    #[inline(always)]
    pub(crate) fn commit_draft(&mut self, draft: &Draft, len: usize) {
        debug_assert!(len <= draft.room, "a draft is committed within its room");
        if draft.start == self.end.position && len <= ONE_LINE {
            self.commit_here(len, LINE as u64);
        } else {
            // What the draft overwrote lies within this record, where no commit needs a 0 again, or was
            // zeroed by `take_back`.
            self.cleared = draft.cleared;
            self.commit_one(draft.start, len);
        }
    }
}
