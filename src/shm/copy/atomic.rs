//! The copy by relaxed atomics: for processors other than x86_64, and where a tool must see each access.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// How many bytes go singly before the shared side is aligned for 8-byte accesses.
pub(super) fn unaligned_head(shared: *const u8, len: usize) -> usize {
    shared.align_offset(8).min(len)
}

pub(super) unsafe fn copy_in(shared: *mut u8, from: *const u8, len: usize) {
    let head = unaligned_head(shared, len);
    let words_end = head + (len - head) / 8 * 8;
    // SAFETY: every access lies within the first `len` bytes of either range, which the caller vouches
    // for; 8-byte accesses start at `head`, where the shared side is aligned; the private side is
    // read unaligned.
    unsafe {
        for at in (0..head).chain(words_end..len) {
            AtomicU8::from_ptr(shared.add(at)).store(from.add(at).read(), Relaxed);
        }
        for at in (head..words_end).step_by(8) {
            let word = from.add(at).cast::<u64>().read_unaligned();
            AtomicU64::from_ptr(shared.add(at).cast()).store(word, Relaxed);
        }
    }
}

pub(super) unsafe fn copy_out(to: *mut u8, shared: *const u8, len: usize) {
    let head = unaligned_head(shared, len);
    let words_end = head + (len - head) / 8 * 8;
    let shared = shared.cast_mut();
    // SAFETY: as in `copy_in`, with the roles changed.
    unsafe {
        for at in (0..head).chain(words_end..len) {
            to.add(at).write(AtomicU8::from_ptr(shared.add(at)).load(Relaxed));
        }
        for at in (head..words_end).step_by(8) {
            let word = AtomicU64::from_ptr(shared.add(at).cast()).load(Relaxed);
            to.add(at).cast::<u64>().write_unaligned(word);
        }
    }
}

/// Does nothing: there is no prefetch that every target has.
#[inline(always)]
pub(in crate::shm) fn prefetch_for_write(_at: *const u8) {}

#[cfg(test)]
mod tests {
    /// An access that is not aligned would be no atomic one, and traps on some processors.
    #[test]
    fn words_are_aligned_on_the_shared_side() {
        for (address, len) in (64..80).flat_map(|address| (0..40).map(move |len| (address, len))) {
            let head = super::unaligned_head(std::ptr::without_provenance(address), len);
            assert!(head < 8 && head <= len, "{address} {len}");
            assert!(head == len || (address + head).is_multiple_of(8), "{address} {len}");
        }
    }
}
