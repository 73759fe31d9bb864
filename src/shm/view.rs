//! How rings see shared memory: words and copies at offsets, and nothing else.
//!
//! This is the mapped form; under loom `view_model.rs` takes its place with the same interface.

use std::ptr::NonNull;
use std::sync::Arc;

use super::{Segment, copy};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// A shared handle on a segment. Offsets are bytes from its start, and checked like a segment's; words lie at multiples of
/// their size.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// Start and length of the mapping, at hand for the hot paths.
    base: NonNull<u8>,
    len: usize,
    /// Where the last 64-bit word can begin.
    last_word: usize,
    /// Keeps the mapping alive.
    _segment: Arc<Segment>,
}

// SAFETY: a view is a pointer into a mapping that its `Arc` keeps alive, and it is accessed only by atomics and by copies that
// stand for atomics, which any number of threads may do at once.
unsafe impl Send for View {}
// SAFETY: as for `Send`.
unsafe impl Sync for View {}

impl View {
    pub(crate) fn new(segment: Segment) -> View {
        let segment = Arc::new(segment);
        let len = segment.len();
        // A segment has at least a page.
        View { base: segment.base(), len, last_word: len.saturating_sub(8), _segment: segment }
    }

    #[inline(always)]
    fn word64(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset.is_multiple_of(8));
        self.check_word(offset);
        // SAFETY: checked to lie inside the mapping, which lives as long as `self` does; its start is page-aligned and the
        // offset is rounded down to a multiple of 8, so the word is aligned. All access to it is atomic, or a copy as
        // described in `copy`.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(offset & !7).cast()) }
    }

    #[inline(always)]
    pub(crate) fn word32(&self, offset: usize) -> &AtomicU32 {
        debug_assert!(offset.is_multiple_of(4));
        self.check_word(offset);
        // SAFETY: as for `word64`, with multiples of 4.
        unsafe { AtomicU32::from_ptr(self.base.as_ptr().add(offset & !3).cast()) }
    }

    #[inline(always)]
    pub(crate) fn load64(&self, offset: usize, order: Ordering) -> u64 {
        self.word64(offset).load(order)
    }

    #[inline(always)]
    pub(crate) fn store64(&self, offset: usize, value: u64, order: Ordering) {
        self.word64(offset).store(value, order);
    }

    #[inline(always)]
    pub(crate) fn copy_in(&self, offset: usize, from: &[u8]) {
        self.check(offset, from.len());
        // SAFETY: the shared range was checked; `from` is a live slice, and no slice overlaps the mapping, to whose bytes
        // no reference is ever made.
        unsafe { copy::copy_in(self.base.as_ptr().add(offset), from.as_ptr(), from.len()) }
    }

    #[inline(always)]
    pub(crate) fn copy_out(&self, offset: usize, to: &mut [u8]) {
        self.check(offset, to.len());
        // SAFETY: as for `copy_in`, with the roles changed.
        unsafe { copy::copy_out(to.as_mut_ptr(), self.base.as_ptr().add(offset), to.len()) }
    }

    /// Copies `len` bytes out to the end of a vector, without filling them with zeros first.
    #[inline(always)]
    pub(crate) fn append_to(&self, offset: usize, len: usize, to: &mut Vec<u8>) {
        self.check(offset, len);
        to.reserve(len);
        let filled = to.len();
        // SAFETY: `reserve` made room for `len` bytes after `filled`; the shared range was checked; the copy
        // initialises exactly those bytes, which then belong to the vector.
        unsafe {
            copy::copy_out(to.as_mut_ptr().add(filled), self.base.as_ptr().add(offset), len);
            to.set_len(filled + len);
        }
    }

    /// Asks for a line that is about to be written, so that the store does not wait for it. Any offset is harmless.
    #[inline(always)]
    pub(crate) fn prefetch_for_write(&self, offset: usize) {
        copy::prefetch_for_write(self.base.as_ptr().wrapping_add(offset));
    }

    /// Eight bytes, rounded down to a word's start, for either size of word.
    #[inline(always)]
    fn check_word(&self, offset: usize) {
        if offset > self.last_word {
            super::segment::outside(offset, 8, self.len);
        }
    }

    #[inline(always)]
    fn check(&self, offset: usize, len: usize) {
        if len > self.len || offset > self.len - len {
            super::segment::outside(offset, len, self.len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_and_its_segment_show_the_same_bytes() {
        let (ours, fd) = Segment::create("test", 4096).unwrap();
        let view = View::new(Segment::open(fd).unwrap());
        view.copy_in(4090, b"012345");
        let mut read = [0; 6];
        ours.copy_out(4090, &mut read);
        assert_eq!(&read, b"012345");
        let mut grown = b"x".to_vec();
        view.append_to(4093, 3, &mut grown);
        assert_eq!(grown, b"x345");
        view.store64(64, 7, Ordering::Relaxed);
        assert_eq!(ours.word64(64).load(Ordering::Relaxed), 7);
        assert_eq!(view.load64(64, Ordering::Relaxed), 7);
    }

    #[test]
    fn whatever_lies_outside_is_a_programming_error() {
        let view = View::new(Segment::anonymous(4096).unwrap());
        let panics =
            |access: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(access)).is_err();
        assert!(panics(&|| view.copy_in(4096, b"x")));
        assert!(panics(&|| view.copy_in(usize::MAX, b"x")));
        assert!(panics(&|| view.copy_out(0, &mut [0; 4097])));
        assert!(panics(&|| view.append_to(4095, 2, &mut Vec::new())));
        assert!(panics(&|| view.append_to(1, usize::MAX, &mut Vec::new())));
        assert!(panics(&|| {
            view.word32(4096);
        }));
        assert!(panics(&|| {
            view.load64(4096, Ordering::Relaxed);
        }));
        view.copy_in(4096, b"");
    }
}
