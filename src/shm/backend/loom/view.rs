//! Modelled memory: an array of lines, each a header atomic, a futex word and a payload cell.
//!
//! In memory that is read while it may be overwritten, an access that is not ordered is no fault: there the
//! second 8 bytes of a line are an atomic, and the rest is left out.
//!
//! A copy that touches the first 8 bytes of a line goes through that line's header atomic, so that payload
//! bytes can pose as a header exactly as they can in mapped memory. The other 56 bytes are a cell in which
//! loom reports every access that is not ordered.

use loom::cell::UnsafeCell;

use super::{Arc, AtomicU32, AtomicU64, Ordering};
use crate::shm::{LINE, Segment};

struct Line {
    header: AtomicU64,
    /// 32-bit words have a place of their own: no line holds both a header and a futex word.
    word: AtomicU32,
    payload: Payload,
}

enum Payload {
    /// Every access is ordered.
    Ordered(UnsafeCell<[u8; LINE - 8]>),
    /// The first 8 bytes of it.
    Overwritten(AtomicU64),
}

// SAFETY: loom runs one thread at a time, and reports two accesses to a cell that are not ordered.
unsafe impl Send for Line {}
// SAFETY: as for `Send`.
unsafe impl Sync for Line {}

impl Payload {
    fn write(&self, at: usize, bytes: &[u8]) {
        match self {
            // SAFETY: loom checks that no other access to the cell is concurrent with this one.
            Payload::Ordered(cell) => cell.with_mut(|cell| unsafe {
                (&mut *cell)[at..at + bytes.len()].copy_from_slice(bytes);
            }),
            Payload::Overwritten(word) => {
                if let (0, Some(first)) = (at, bytes.first_chunk()) {
                    word.store(u64::from_le_bytes(*first), Ordering::Relaxed);
                }
            }
        }
    }

    fn read(&self, at: usize, bytes: &mut [u8]) {
        match self {
            // SAFETY: loom checks that no write to the cell is concurrent with this read.
            Payload::Ordered(cell) => cell.with(|cell| unsafe {
                bytes.copy_from_slice(&(&*cell)[at..at + bytes.len()]);
            }),
            Payload::Overwritten(word) => {
                bytes.fill(0);
                if let (0, Some(first)) = (at, bytes.first_chunk_mut()) {
                    *first = word.load(Ordering::Relaxed).to_le_bytes();
                }
            }
        }
    }
}

#[derive(Clone)]
pub(crate) struct View {
    lines: Arc<Vec<Line>>,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").finish_non_exhaustive()
    }
}

impl View {
    /// Modelled memory of the segment's length, with every byte 0.
    pub(crate) fn new(segment: Segment) -> View {
        View::of_len(segment.len())
    }

    pub(crate) fn of_len(len: usize) -> View {
        View::of(len, || Payload::Ordered(UnsafeCell::new([0; LINE - 8])))
    }

    /// Memory that is read while it may be overwritten.
    pub(crate) fn overwritten(len: usize) -> View {
        View::of(len, || Payload::Overwritten(AtomicU64::new(0)))
    }

    fn of(len: usize, payload: fn() -> Payload) -> View {
        let line = |_| Line { header: AtomicU64::new(0), word: AtomicU32::new(0), payload: payload() };
        View { lines: Arc::new((0..len / LINE).map(line).collect()) }
    }

    pub(crate) fn word64(&self, offset: usize) -> &AtomicU64 {
        assert_eq!(offset % LINE, 0, "in the models 64-bit words begin a line");
        &self.lines[offset / LINE].header
    }

    pub(crate) fn word32(&self, offset: usize) -> &AtomicU32 {
        &self.lines[offset / LINE].word
    }

    pub(crate) fn copy_in(&self, offset: usize, from: &[u8]) {
        for (at, part) in pieces(offset, from.len()) {
            let (line, within) = (&self.lines[at / LINE], at % LINE);
            let bytes = &from[part];
            if within < 8 {
                let mut word = line.header.load(Ordering::Relaxed).to_le_bytes();
                word[within..within + bytes.len()].copy_from_slice(bytes);
                line.header.store(u64::from_le_bytes(word), Ordering::Relaxed);
            } else {
                line.payload.write(within - 8, bytes);
            }
        }
    }

    pub(crate) fn copy_out(&self, offset: usize, to: &mut [u8]) {
        for (at, part) in pieces(offset, to.len()) {
            let (line, within) = (&self.lines[at / LINE], at % LINE);
            let bytes = &mut to[part];
            if within < 8 {
                let word = line.header.load(Ordering::Relaxed).to_le_bytes();
                bytes.copy_from_slice(&word[within..within + bytes.len()]);
            } else {
                line.payload.read(within - 8, bytes);
            }
        }
    }

    pub(crate) fn ring(&self, control: usize, data: usize, capacity: usize) -> RingView {
        RingView { view: self.clone(), control, data, capacity }
    }

    pub(crate) fn pin32(&self, offset: usize) -> Word32 {
        Word32 { view: self.clone(), offset }
    }
}

#[derive(Clone)]
pub(crate) struct Word32 {
    view: View,
    offset: usize,
}

impl std::ops::Deref for Word32 {
    type Target = AtomicU32;

    fn deref(&self) -> &AtomicU32 {
        self.view.word32(self.offset)
    }
}

#[derive(Clone)]
pub(crate) struct RingView {
    view: View,
    control: usize,
    data: usize,
    capacity: usize,
}

impl RingView {
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn word64<const AT: usize>(&self) -> &AtomicU64 {
        &self.view.lines[(self.control + AT) / LINE].header
    }

    pub(crate) fn word32<const AT: usize>(&self) -> &AtomicU32 {
        self.view.word32(self.control + AT)
    }

    pub(crate) fn header(&self, position: u64) -> &AtomicU64 {
        &self.view.lines[self.line(position) / LINE].header
    }

    pub(crate) fn second_word(&self, position: u64) -> [u8; 8] {
        let mut bytes = [0; 8];
        self.copy_out(position, 8, &mut bytes);
        bytes
    }

    pub(crate) fn set_second_word(&self, position: u64, value: u64) {
        self.copy_in(position, 8, &value.to_ne_bytes());
    }

    pub(crate) fn copy_in(&self, position: u64, at: usize, from: &[u8]) {
        self.view.copy_in(self.line(position) + at, from);
    }

    pub(crate) fn copy_out(&self, position: u64, at: usize, to: &mut [u8]) {
        self.view.copy_out(self.line(position) + at, to);
    }

    pub(crate) fn append_to(&self, position: u64, at: usize, len: usize, to: &mut Vec<u8>) {
        let filled = to.len();
        to.resize(filled + len, 0);
        self.copy_out(position, at, &mut to[filled..]);
    }

    pub(crate) fn copy_into_line(&self, position: u64, at: usize, from: &[u8]) {
        self.copy_in(position, at, from);
    }

    pub(crate) fn append_from_line(&self, position: u64, at: usize, len: usize, to: &mut Vec<u8>) {
        self.append_to(position, at, len, to);
    }

    pub(crate) fn address(&self, _position: u64, _at: usize, _len: usize) -> *mut u8 {
        unreachable!("modelled memory has no addresses")
    }

    pub(crate) fn prefetch_for_write(&self, _position: u64) {}

    /// Where the line at a position begins in the segment.
    fn line(&self, position: u64) -> usize {
        self.data + (position as usize & (self.capacity - LINE))
    }
}

/// Cuts a range at line starts and behind each line's first 8 bytes: (offset, range of the caller's bytes).
fn pieces(offset: usize, len: usize) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done;
        let until = if at % LINE < 8 { at / LINE * LINE + 8 } else { at / LINE * LINE + LINE };
        let end = (done + until - at).min(len);
        let piece = (at, done..end);
        done = end;
        Some(piece)
    })
}
