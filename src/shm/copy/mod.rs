//! The copy between private memory and memory that another process may write at the same time.
//!
//! A plain `memcpy` from such memory is a data race, which Rust gives no meaning. What we want is a copy of
//! relaxed atomic bytes: each byte read is *some* byte that was stored there, and nothing more is promised;
//! order comes from the ring's headers. Rust has no such operation yet. On x86_64 the accesses are therefore
//! made by inline assembly (`assembly`), which the compiler must treat as reads or writes of arbitrary
//! memory: it can neither split, repeat, merge nor remove them, nor assume anything about the bytes.
//! Elsewhere, and where a tool must see each access (Miri, sanitizers), relaxed atomics make the copy
//! (`atomic`). Both have the same contract and the same tests.

#[cfg_attr(all(target_arch = "x86_64", not(any(miri, ringpost_atomic_copy))), path = "assembly.rs")]
#[cfg_attr(not(all(target_arch = "x86_64", not(any(miri, ringpost_atomic_copy)))), path = "atomic.rs")]
mod imp;

pub(super) use imp::prefetch_for_write;

/// Copies `len` bytes from private to shared memory.
///
/// # Safety
///
/// `from` must be valid for reads of `len` bytes of ordinary memory, `shared` for writes of `len` bytes
/// inside a live mapping, and the two must not overlap.
#[inline(always)]
pub(crate) unsafe fn copy_in(shared: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the caller's promise is the same as the one asked for.
    unsafe { imp::copy_in(shared, from, len) }
}

/// Copies `len` bytes from shared to private memory. The private bytes may be uninitialised before; they are
/// initialised after.
///
/// # Safety
///
/// `to` must be valid for writes of `len` bytes of ordinary memory, `shared` for reads of `len` bytes inside
/// a live mapping, and the two must not overlap.
#[inline(always)]
pub(crate) unsafe fn copy_out(to: *mut u8, shared: *const u8, len: usize) {
    // SAFETY: the caller's promise is the same as the one asked for.
    unsafe { imp::copy_out(to, shared, len) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every length around each change of method, at every alignment of either side, with a guard on both
    /// sides.
    #[test]
    fn copies_exactly_the_bytes_asked_for() {
        const GUARD: u8 = 0xEE;
        let lengths = (0..=200).chain([255, 256, 257, 1000, 2047, 2048, 2049, 2064, 5000, 65_536]);
        for len in lengths {
            let source: Vec<u8> = (0..len + 64).map(|i| (i * 31 + len) as u8).collect();
            for offset in [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31] {
                let mut target = vec![GUARD; len + 96];
                let expected = &source[offset..offset + len];
                // SAFETY: both vectors are larger than offset + len, and distinct.
                unsafe { copy_in(target.as_mut_ptr().add(32 - offset), source.as_ptr().add(offset), len) };
                check(&target, 32 - offset, expected, GUARD);
                let mut target = vec![GUARD; len + 96];
                // SAFETY: as above.
                unsafe { copy_out(target.as_mut_ptr().add(32 - offset), source.as_ptr().add(offset), len) };
                check(&target, 32 - offset, expected, GUARD);
            }
        }
    }

    fn check(target: &[u8], start: usize, expected: &[u8], guard: u8) {
        let end = start + expected.len();
        assert_eq!(&target[start..end], expected);
        assert!(target[..start].iter().chain(&target[end..]).all(|&b| b == guard), "wrote outside its range");
    }
}
