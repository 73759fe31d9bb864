//! Publishing a block: its payload, the zero behind it, its header.

#[cfg(test)]
use super::NOWHERE;
use super::Producer;
use crate::ring::layout::{EMPTY, HEADER, LINE, data_header, padding_header, record_size};
use crate::ring::{Deadline, NotSent, SendError};
use crate::shm::backend::Ordering;
use crate::testing::failpoints::failpoint;

/// How far ahead lines are prefetched for single blocks of one line. The lines are still in the cache of the
/// consumer, which read them a lap ago, and a store to each would delay the stores after it. A stream of
/// single blocks takes 0.4 to 0.7 of the time; a call takes as long as without.
const LINES_AHEAD: u64 = 4 * LINE as u64;

/// How far ahead headers are set to 0 for blocks of several lines. A store to a line that the consumer's
/// processor fetches at that time, a few lines ahead of what the consumer reads, seems to make it fetch that
/// line anew, and the block's second line with it: too early, and so once more when the header was seen.
/// Among calls of other sizes, those of 64 and 128 bytes take 0.82 and 0.94 of the time.
const CLEARED_AHEAD: u64 = 8 * LINE as u64;

impl Producer {
    /// Writes one block made of parts, if there is room now; a header is its first eight bytes, as they lie
    /// in memory. The consumer sees it, but a parked one sleeps on until [`notify`](Self::notify).
    #[inline(always)]
    pub(crate) fn try_publish<const N: usize>(
        &mut self,
        header: Option<u64>,
        parts: &[&[u8]; N],
    ) -> Result<(), NotSent> {
        let len = length(header, parts);
        if !self.fits_line(len) {
            return self.publish_longer(len, header, parts);
        }
        let mut at = HEADER;
        if let Some(header) = header {
            self.end.ring.set_second_word(self.end.position, header);
            at += 8;
        }
        for &part in parts {
            self.end.ring.copy_into_line(self.end.position, at, part);
            at += part.len();
        }
        failpoint!("publish.line", [server, client, channel, link], always);
        self.commit_here(len, LINE as u64);
        Ok(())
    }

    /// The same for a block that needs several lines, padding, or a look at `head`, and for errors.
    #[inline(never)]
    pub(super) fn publish_longer<const N: usize>(
        &mut self,
        len: usize,
        header: Option<u64>,
        parts: &[&[u8]; N],
    ) -> Result<(), NotSent> {
        // `cleared` stays as it is: that position is after this record, or within it and not used again.
        let start = if self.fits_here(len) { self.end.position } else { self.try_place(len)? };
        self.write_parts(start, header, parts);
        failpoint!("publish.payload", [server, client, channel, link], always);
        self.commit_one(start, len);
        Ok(())
    }

    /// As [`try_publish`](Self::try_publish), but waits for room.
    #[inline]
    pub(crate) fn publish<const N: usize>(
        &mut self,
        header: Option<u64>,
        parts: &[&[u8]; N],
        deadline: Deadline,
    ) -> Result<(), SendError> {
        match self.try_publish(header, parts) {
            Err(NotSent::Full) => {
                let len = length(header, parts);
                let place = self.wait_for_place(len, deadline)?;
                self.write_parts(place, header, parts);
                self.commit_one(place, len);
                Ok(())
            }
            done => Ok(done?),
        }
    }

    #[inline(always)]
    pub(super) fn write_parts<const N: usize>(&self, start: u64, header: Option<u64>, parts: &[&[u8]; N]) {
        let mut at = HEADER;
        if let Some(header) = header {
            self.end.ring.set_second_word(start, header);
            at += 8;
        }
        for &part in parts {
            self.end.ring.copy_in(start, at, part);
            at += part.len();
        }
    }

    /// Makes the record at `start`, and the padding before it if there is any, visible.
    #[inline(always)]
    pub(super) fn commit_one(&mut self, start: u64, len: usize) {
        if start == self.end.position {
            self.commit_here(len, record_size(len));
        } else {
            self.commit_padded(start, len);
        }
    }

    /// Makes the record of this size at the committed tail visible.
    #[inline(always)]
    pub(super) fn commit_here(&mut self, len: usize, size: u64) {
        let next = self.end.position + size;
        if self.cleared != next {
            self.end.ring.header(next).store(EMPTY, Ordering::Relaxed);
            failpoint!("publish.zero", [server, client, channel, link], always);
        }
        self.end.ring.header(self.end.position).store(data_header(self.end.position, len), Ordering::Release);
        failpoint!("publish.header", [server, client, channel, link], always);
        self.end.position = next;
        self.last_size = size;
    }

    /// The padding's header is stored last, so nothing after it can be seen earlier.
    #[cold]
    pub(super) fn commit_padded(&mut self, start: u64, len: usize) {
        let next = start + record_size(len);
        self.end.ring.header(next).store(EMPTY, Ordering::Relaxed);
        failpoint!("publish.padded.zero", [server, client, channel, link], rarely);
        self.end.ring.header(start).store(data_header(start, len), Ordering::Relaxed);
        failpoint!("publish.padded.record", [server, client, channel, link], rarely);
        let padding = padding_header(self.end.position, start - self.end.position);
        self.end.ring.header(self.end.position).store(padding, Ordering::Release);
        failpoint!("publish.padded.header", [server, client, channel, link], rarely);
        self.end.position = next;
    }

    /// Stores the 0 that the next block of the same size needs after it, while nobody waits: fetching a line
    /// from the other end's cache takes long, and a header becomes visible only after every store before it.
    /// Call it after a publish and its fence, if there is one, because the fence would wait too.
    #[inline(always)]
    pub(crate) fn clear_ahead(&mut self) {
        let ahead = self.end.position + self.last_size;
        if self.cleared == ahead {
            return;
        }
        if self.last_size > LINE as u64 {
            self.clear_far_ahead();
        } else if ahead + LINE as u64 - self.head <= self.capacity() {
            self.end.ring.header(ahead).store(EMPTY, Ordering::Relaxed);
            failpoint!("publish.ahead", [server, client, channel, link], always);
            (self.cleared, self.cleared_to) = (ahead, ahead);
            self.end.ring.prefetch_for_write(self.end.position + LINES_AHEAD);
        }
    }

    /// The same for blocks of several lines, as far as [`CLEARED_AHEAD`]: nearly always one more 0.
    #[inline(never)]
    fn clear_far_ahead(&mut self) {
        let (position, size) = (self.end.position, self.last_size);
        let goes_on = self.cleared == position && self.cleared_step == size;
        let mut to = if goes_on { self.cleared_to } else { position };
        let room = self.head + self.capacity() - size - LINE as u64;
        let most = room.min(position + CLEARED_AHEAD - 1);
        while to <= most {
            to += size;
            self.end.ring.header(to).store(EMPTY, Ordering::Relaxed);
            failpoint!("publish.far_ahead", [server, client, channel, link], rarely);
        }
        if to > position {
            (self.cleared, self.cleared_to, self.cleared_step) = (position + size, to, size);
            self.prepare_lines();
        }
    }

    /// The positions that commits assume to be 0 already.
    #[cfg(test)]
    pub(in crate::ring) fn cleared(&self) -> impl Iterator<Item = u64> {
        let to = if self.cleared == NOWHERE { 0 } else { self.cleared_to };
        (self.cleared..=to).step_by(self.cleared_step as usize).filter(|&at| at > self.end.position)
    }

    #[inline(always)]
    fn prepare_lines(&self) {
        for line in 1..(self.last_size / LINE as u64).min(4) {
            self.end.ring.prefetch_for_write(self.end.position + line * LINE as u64);
        }
    }
}

/// The length of a block of these parts.
#[inline(always)]
fn length<const N: usize>(header: Option<u64>, parts: &[&[u8]; N]) -> usize {
    header.map_or(0, |_| 8) + parts.iter().map(|part| part.len()).sum::<usize>()
}
