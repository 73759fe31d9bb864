//! Mapped memory as rings see it: words and copies at offsets, and nothing else.

use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::{CONTROL, LINE, Segment, backend, copy};

/// A shared handle on a segment, whose offsets are bytes from its start.
#[derive(Debug, Clone)]
pub(crate) struct View(pub(super) Arc<Segment>);

impl Deref for View {
    type Target = Segment;

    #[inline(always)]
    fn deref(&self) -> &Segment {
        &self.0
    }
}

impl View {
    pub(crate) fn new(segment: Segment) -> View {
        View(Arc::new(segment))
    }

    /// The part of a ring: its control block and its lines.
    ///
    /// # Panics
    ///
    /// If they do not lie inside the segment, or the capacity is not a power of two of at least one line.
    pub(crate) fn ring(&self, control: usize, data: usize, capacity: usize) -> RingView {
        assert!(capacity.is_power_of_two() && capacity >= LINE, "a ring has a power of two of lines");
        assert!(control.is_multiple_of(LINE) && data.is_multiple_of(LINE), "rings lie on lines");
        RingView {
            control: self.0.start_of(control, CONTROL),
            data: self.0.start_of(data, capacity),
            capacity,
            mask: capacity - LINE,
            _segment: Arc::clone(&self.0),
        }
    }

    /// A word whose offset was checked once.
    pub(crate) fn pin32(&self, offset: usize) -> Word32 {
        Word32 { word: NonNull::from(self.word32(offset)), _segment: Arc::clone(&self.0) }
    }
}

/// One word of a segment, which it keeps alive.
#[derive(Clone)]
pub(crate) struct Word32 {
    word: NonNull<AtomicU32>,
    _segment: Arc<Segment>,
}

// SAFETY: a pointer to an atomic word of a mapping that the `Arc` keeps alive; any number of threads may use
// it at once.
unsafe impl Send for Word32 {}
// SAFETY: as for `Send`.
unsafe impl Sync for Word32 {}

impl Deref for Word32 {
    type Target = AtomicU32;

    #[inline(always)]
    fn deref(&self) -> &AtomicU32 {
        // SAFETY: the pointer came from a checked reference into the mapping, which the `Arc` keeps alive.
        unsafe { self.word.as_ref() }
    }
}

/// A ring's part of a segment, for the hot paths. Its bounds are checked once, offsets in the control block
/// are constants, and every position is masked to a line of the ring.
#[derive(Clone)]
pub(crate) struct RingView {
    control: NonNull<u8>,
    data: NonNull<u8>,
    /// A power of two of at least one line.
    capacity: usize,
    /// `capacity - LINE`: masks a position to the offset of its line.
    mask: usize,
    /// Keeps the mapping alive.
    _segment: Arc<Segment>,
}

// SAFETY: pointers into a mapping that the `Arc` keeps alive, which is accessed only by atomics and by copies
// that stand for atomics: any number of threads may do that at once.
unsafe impl Send for RingView {}
// SAFETY: as for `Send`.
unsafe impl Sync for RingView {}

impl RingView {
    #[inline(always)]
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The 64-bit word at this offset of the control block.
    #[inline(always)]
    pub(crate) fn word64<const AT: usize>(&self) -> &AtomicU64 {
        const { assert!(AT.is_multiple_of(8) && AT + 8 <= CONTROL) };
        backend::count_word();
        // SAFETY: inside the control block, which lies inside the mapping, and aligned like it. All access to
        // the word is atomic, or a copy as described in `copy`.
        unsafe { AtomicU64::from_ptr(self.control.as_ptr().add(AT).cast()) }
    }

    /// The 32-bit word at this offset of the control block.
    #[inline(always)]
    pub(crate) fn word32<const AT: usize>(&self) -> &AtomicU32 {
        const { assert!(AT.is_multiple_of(4) && AT + 4 <= CONTROL) };
        backend::count_word();
        // SAFETY: as for `word64`.
        unsafe { AtomicU32::from_ptr(self.control.as_ptr().add(AT).cast()) }
    }

    /// The header of the line at a position.
    #[inline(always)]
    pub(crate) fn header(&self, position: u64) -> &AtomicU64 {
        backend::count_word();
        // SAFETY: `line` is the start of one of the ring's lines, which lie inside the mapping and are
        // aligned. All access to the word is atomic, or a copy as described in `copy`.
        unsafe { AtomicU64::from_ptr(self.data.as_ptr().add(self.line(position)).cast()) }
    }

    /// The eight bytes behind the header of the line at a position.
    #[inline(always)]
    pub(crate) fn second_word(&self, position: u64) -> [u8; 8] {
        backend::count_word();
        // SAFETY: as for `header`, one word further in the same line.
        let word = unsafe { AtomicU64::from_ptr(self.data.as_ptr().add(self.line(position) + 8).cast()) };
        word.load(Ordering::Relaxed).to_ne_bytes()
    }

    /// Sets the eight bytes behind the header of the line at a position.
    #[inline(always)]
    pub(crate) fn set_second_word(&self, position: u64, value: u64) {
        backend::count_word();
        // SAFETY: as for `second_word`.
        let word = unsafe { AtomicU64::from_ptr(self.data.as_ptr().add(self.line(position) + 8).cast()) };
        word.store(value, Ordering::Relaxed);
    }

    /// Copies into the bytes that begin `at` bytes behind the start of the line at a position.
    #[inline(always)]
    pub(crate) fn copy_in(&self, position: u64, at: usize, from: &[u8]) {
        let offset = self.check(position, at, from.len());
        // SAFETY: the shared range was checked; `from` is a live slice, and no slice overlaps the mapping, to
        // whose bytes no reference is ever made.
        unsafe { backend::copy_in(self.data.as_ptr().add(offset), from.as_ptr(), from.len()) }
    }

    /// Copies out the bytes that begin `at` bytes behind the start of the line at a position.
    #[inline(always)]
    pub(crate) fn copy_out(&self, position: u64, at: usize, to: &mut [u8]) {
        let offset = self.check(position, at, to.len());
        // SAFETY: as for `copy_in`, with the roles changed.
        unsafe { backend::copy_out(to.as_mut_ptr(), self.data.as_ptr().add(offset), to.len()) }
    }

    /// Copies `len` bytes out to the end of a vector, without filling them with zeros first.
    #[inline(always)]
    pub(crate) fn append_to(&self, position: u64, at: usize, len: usize, to: &mut Vec<u8>) {
        let offset = self.check(position, at, len);
        to.reserve(len);
        let filled = to.len();
        // SAFETY: `reserve` made room for `len` bytes after `filled`; the shared range was checked; the copy
        // initialises exactly those bytes, which then belong to the vector.
        unsafe {
            backend::copy_out(to.as_mut_ptr().add(filled), self.data.as_ptr().add(offset), len);
            to.set_len(filled + len);
        }
    }

    /// Copies into one line: the bytes that begin `at` bytes behind its start.
    #[inline(always)]
    pub(crate) fn copy_into_line(&self, position: u64, at: usize, from: &[u8]) {
        if at > LINE || from.len() > LINE - at {
            super::segment::outside(at, from.len(), LINE);
        }
        backend::count_bytes(from.len());
        // SAFETY: the range was checked to lie in the line, which lies inside the mapping; `from` as for
        // `copy_in`.
        unsafe {
            backend::copy_in(self.data.as_ptr().add(self.line(position) + at), from.as_ptr(), from.len())
        }
    }

    /// Copies the first `len` bytes behind byte `at` of one line out to the end of a vector. All that lies
    /// behind `at` is copied, which is quicker where `at` is a constant, but only `len` bytes of it
    /// become the vector's.
    #[inline(always)]
    pub(crate) fn append_from_line(&self, position: u64, at: usize, len: usize, to: &mut Vec<u8>) {
        if at > LINE || len > LINE - at {
            super::segment::outside(at, len, LINE);
        }
        let whole = LINE - at;
        backend::count_bytes(whole);
        to.reserve(whole);
        let filled = to.len();
        // SAFETY: `reserve` made room for the `whole` bytes after `filled`, of which the copy initialises all
        // and the first `len` then belong to the vector; the line lies inside the mapping.
        unsafe {
            let line = self.data.as_ptr().add(self.line(position));
            backend::copy_out(to.as_mut_ptr().add(filled), line.add(at), whole);
            to.set_len(filled + len);
        }
    }

    /// The address of the `len` bytes that begin `at` bytes behind the start of the line at a position. What
    /// is read and written there is its user's care, and no slice of it is ever made here.
    pub(crate) fn address(&self, position: u64, at: usize, len: usize) -> *mut u8 {
        self.data.as_ptr().wrapping_add(self.check(position, at, len))
    }

    /// Asks for a line that is about to be written, so that the store does not wait for it.
    #[inline(always)]
    pub(crate) fn prefetch_for_write(&self, position: u64) {
        copy::prefetch_for_write(self.data.as_ptr().wrapping_add(self.line(position)));
    }

    /// The offset in the ring of the line at a position. It is less than the capacity for every position.
    #[inline(always)]
    fn line(&self, position: u64) -> usize {
        position as usize & self.mask
    }

    #[inline(always)]
    fn check(&self, position: u64, at: usize, len: usize) -> usize {
        let line = self.line(position);
        let room = self.capacity - line;
        if at > room || len > room - at {
            super::segment::outside(line.saturating_add(at), len, self.capacity);
        }
        backend::count_bytes(len);
        line + at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_has_its_words_and_its_lines_and_no_more() {
        let view = View::new(Segment::anonymous(8192).unwrap());
        let ring = view.ring(512, 4096, 256);
        assert_eq!(ring.capacity(), 256);
        ring.word64::<8>().store(1, Ordering::Relaxed);
        assert_eq!(view.word64(520).load(Ordering::Relaxed), 1);
        ring.word32::<12>().store(2, Ordering::Relaxed);
        assert_eq!(view.word32(524).load(Ordering::Relaxed), 2);
        assert_eq!(view.pin32(524).load(Ordering::Relaxed), 2);
        // Any position is one of its lines.
        for (position, offset) in [(0, 0), (64, 64), (127, 64), (256, 0), (u64::MAX, 192)] {
            ring.header(position).store(position.wrapping_add(3), Ordering::Relaxed);
            assert_eq!(view.word64(4096 + offset).load(Ordering::Relaxed), position.wrapping_add(3));
        }
        ring.copy_in(320, 8, b"012345");
        let mut read = [0; 6];
        view.copy_out(4096 + 64 + 8, &mut read);
        assert_eq!(&read, b"012345");
        let mut grown = b"x".to_vec();
        ring.append_to(64, 11, 3, &mut grown);
        assert_eq!(grown, b"x345");
        ring.copy_out(64, 8, &mut read);
        assert_eq!(&read, b"012345");
        ring.copy_into_line(320, 62, b"!?");
        ring.copy_into_line(320, 64, b"");
        grown.clear();
        ring.append_from_line(64, 8, 6, &mut grown);
        ring.append_from_line(64, 62, 2, &mut grown);
        ring.append_from_line(64, 64, 0, &mut grown);
        assert_eq!(grown, b"012345!?");
        // No byte behind the line is copied, not even to be left out: room is made for what is.
        let mut grown = Vec::new();
        ring.append_from_line(64, 8, 6, &mut grown);
        assert!(grown.capacity() <= LINE, "{}", grown.capacity());
        // An address is that of the bytes, and of no byte outside.
        assert_eq!(ring.address(64, 8, 6), view.as_ptr().wrapping_add(4096 + 64 + 8));
        assert_eq!(ring.address(320, 0, 192), view.as_ptr().wrapping_add(4096 + 64));
        ring.set_second_word(448, 0x0102_0304_0506_0708);
        assert_eq!(view.word64(4096 + 192 + 8).load(Ordering::Relaxed), 0x0102_0304_0506_0708);
        assert_eq!(ring.second_word(192), 0x0102_0304_0506_0708_u64.to_ne_bytes());
        let panics =
            |access: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(access)).is_err();
        assert!(panics(&|| ring.copy_into_line(0, 63, b"!?")));
        assert!(panics(&|| ring.copy_into_line(0, 65, b"")));
        assert!(panics(&|| ring.append_from_line(0, 8, 57, &mut Vec::new())));
        assert!(panics(&|| ring.append_from_line(0, 65, 0, &mut Vec::new())));
        ring.copy_in(192, 64, b"");
        assert!(panics(&|| ring.copy_in(192, 64, b"x")));
        assert!(panics(&|| ring.copy_in(192, 65, b"")));
        assert!(panics(&|| ring.copy_in(192, 128, b"x")));
        assert!(panics(&|| ring.copy_in(192, usize::MAX, b"x")));
        assert!(panics(&|| ring.copy_out(0, 8, &mut [0; 249])));
        assert!(panics(&|| {
            ring.address(64, 8, 185);
        }));
        assert!(panics(&|| ring.append_to(128, 127, 2, &mut Vec::new())));
        assert!(panics(&|| ring.append_to(0, 1, usize::MAX, &mut Vec::new())));
        for (control, data, capacity) in [
            (8192, 0, 64),
            (8192 - 320, 0, 64),
            (0, 8192, 64),
            (0, 4096, 8192),
            (0, 0, 96),
            (8, 0, 64),
            (0, 8, 64),
        ] {
            assert!(panics(&|| {
                view.ring(control, data, capacity);
            }));
        }
    }
}
