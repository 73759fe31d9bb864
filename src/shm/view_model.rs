//! The shared memory of the loom models: an array of lines, each a header atomic, a futex word and a payload cell.
//!
//! A copy that touches the first 8 bytes of a line goes through that line's header atomic, so that payload bytes can
//! pose as a header exactly as they can in mapped memory; the other 56 bytes are a cell in which loom reports
//! every access that is not ordered.

use loom::cell::UnsafeCell;

use crate::sync::{Arc, AtomicU32, AtomicU64, Ordering};

const LINE: usize = 64;

struct Line {
    header: AtomicU64,
    /// 32-bit words have a place of their own: no line holds both a header and a futex word.
    word: AtomicU32,
    payload: UnsafeCell<[u8; LINE - 8]>,
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
    pub(crate) fn model(len: usize) -> View {
        let line = |_| Line {
            header: AtomicU64::new(0),
            word: AtomicU32::new(0),
            payload: UnsafeCell::new([0; LINE - 8]),
        };
        View { lines: Arc::new((0..len / LINE).map(line).collect()) }
    }

    pub(crate) fn load64(&self, offset: usize, order: Ordering) -> u64 {
        assert_eq!(offset % LINE, 0, "in the models 64-bit words begin a line");
        self.lines[offset / LINE].header.load(order)
    }

    pub(crate) fn store64(&self, offset: usize, value: u64, order: Ordering) {
        assert_eq!(offset % LINE, 0, "in the models 64-bit words begin a line");
        self.lines[offset / LINE].header.store(value, order);
    }

    pub(crate) fn prefetch_for_write(&self, _offset: usize) {}

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
                // SAFETY: loom checks that no other access to the cell is concurrent with this one.
                line.payload.with_mut(|cell| unsafe {
                    (&mut *cell)[within - 8..within - 8 + bytes.len()].copy_from_slice(bytes);
                });
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
                // SAFETY: loom checks that no write to the cell is concurrent with this read.
                line.payload.with(|cell| unsafe {
                    bytes.copy_from_slice(&(&*cell)[within - 8..within - 8 + bytes.len()]);
                });
            }
        }
    }

    pub(crate) fn append_to(&self, offset: usize, len: usize, to: &mut Vec<u8>) {
        let filled = to.len();
        to.resize(filled + len, 0);
        self.copy_out(offset, &mut to[filled..]);
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
