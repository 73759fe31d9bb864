//! The copy between private memory and memory that another process may write at the same time.
//!
//! A plain `memcpy` from such memory is a data race, which Rust gives no meaning. What we want is the meaning
//! of a copy of relaxed atomic bytes: each byte read is *some* byte that was stored there, and nothing more
//! is promised; order comes from the ring's headers. Rust has no such operation yet, so on x86_64 the
//! accesses are made by inline assembly, which the compiler must treat as reads or writes of arbitrary
//! memory: it can neither split, repeat, merge nor remove them, nor reason about the bytes. Elsewhere, and
//! where a tool needs to see each access (sanitizers, Miri), the copy is made of relaxed atomics. The fuzz
//! targets, where both sides are one thread, take a plain copy: the sanitizer sees that too, and it is quick
//! with every branch traced.
//!
//! All ways have the same contract and the same tests.

/// Above this many bytes the processor's own string copy (`rep movsb`) is faster than 16-byte vectors.
#[cfg(all(target_arch = "x86_64", not(any(miri, fuzzing, ringpost_atomic_copy))))]
const STRING_COPY_FROM: usize = 2048;

/// Whether the string copy would crawl: where the target lies a little behind the source within its page,
/// each of its loads seems to depend on the store before it. Measured on an AMD EPYC: 20 times slower at 1 to
/// 31 bytes, 2 to 5 times at 33 to 63. A ring's records begin at every line of a page in turn, so one copy in
/// 64 is such a one, or, with blocks of whole pages, each.
#[cfg(all(target_arch = "x86_64", not(any(miri, fuzzing, ringpost_atomic_copy))))]
fn string_copy_crawls(to: *const u8, from: *const u8) -> bool {
    const PAGE: usize = 4096;
    (1..64).contains(&(to.addr().wrapping_sub(from.addr()) % PAGE))
}

/// Copies `len` bytes from private to shared memory.
///
/// # Safety
///
/// `from` must be valid for reads of `len` bytes of ordinary memory, `shared` for writes of `len` bytes
/// inside a live mapping, and the two must not overlap.
#[inline(always)]
pub(super) unsafe fn copy_in(shared: *mut u8, from: *const u8, len: usize) {
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
pub(super) unsafe fn copy_out(to: *mut u8, shared: *const u8, len: usize) {
    // SAFETY: the caller's promise is the same as the one asked for.
    unsafe { imp::copy_out(to, shared, len) }
}

#[cfg(all(target_arch = "x86_64", not(any(miri, fuzzing, ringpost_atomic_copy))))]
mod imp {
    use super::{STRING_COPY_FROM, string_copy_crawls};
    use std::arch::asm;

    // One routine serves both directions: the assembly does both the load and the store, so it makes no
    // difference which side is shared.
    #[inline(always)]
    pub(super) unsafe fn copy_in(shared: *mut u8, from: *const u8, len: usize) {
        // SAFETY: passed on from the caller.
        unsafe { copy(shared, from, len) }
    }

    #[inline(always)]
    pub(super) unsafe fn copy_out(to: *mut u8, shared: *const u8, len: usize) {
        // SAFETY: passed on from the caller.
        unsafe { copy(to, shared, len) }
    }

    #[inline(always)]
    unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
        if len <= 64 {
            // SAFETY: passed on from the caller.
            unsafe { copy_pieces(to, from, 0, len) }
        } else {
            // SAFETY: passed on from the caller.
            unsafe { copy_long(to, from, len) }
        }
    }

    /// More than 64 bytes.
    #[inline(never)]
    unsafe fn copy_long(to: *mut u8, from: *const u8, len: usize) {
        if len > STRING_COPY_FROM && !string_copy_crawls(to, from) {
            // SAFETY: both ranges are valid for `len` bytes by the caller's promise, the direction flag is
            // clear as the ABI demands, and the instruction touches exactly those ranges.
            unsafe {
                asm!(
                    "rep movsb",
                    inout("rcx") len => _,
                    inout("rsi") from => _,
                    inout("rdi") to => _,
                    options(nostack, preserves_flags)
                );
            }
            return;
        }
        let mut at = 0;
        while at + 64 <= len {
            // SAFETY: these 64 bytes end at or before `len`, up to which the caller vouches for both sides.
            unsafe {
                copy_32(to, from, at);
                copy_32(to, from, at + 32);
            }
            at += 64;
        }
        // SAFETY: passed on from the caller; `at` is at most `len`.
        unsafe { copy_pieces(to, from, at, len) }
    }

    /// The bytes from `at` to `len`, at most 64, in pieces that do not overlap: a copy that was just made is
    /// often copied on at once, and a load that spans two recent stores cannot be served from the store
    /// buffer. Whether that matters here was not measured apart.
    #[inline(always)]
    unsafe fn copy_pieces(to: *mut u8, from: *const u8, mut at: usize, len: usize) {
        // Each piece is a binary digit of what is left, so together they are exactly that.
        let left = len - at;
        // SAFETY: each access begins at `at`, which counts what was copied, and has as many bytes as the
        // digit of `left` that it stands for; the digits above it are what `at` was advanced by. So
        // it ends at or before `len`.
        unsafe {
            if left & 64 != 0 {
                copy_32(to, from, at);
                copy_32(to, from, at + 32);
                at += 64;
            }
            if left & 32 != 0 {
                copy_32(to, from, at);
                at += 32;
            }
            if left & 16 != 0 {
                asm!(
                    "movdqu {a}, xmmword ptr [{from} + {at}]",
                    "movdqu xmmword ptr [{to} + {at}], {a}",
                    a = out(xmm_reg) _, from = in(reg) from, to = in(reg) to, at = in(reg) at,
                    options(nostack, preserves_flags)
                );
                at += 16;
            }
            if left & 15 == 0 {
                return;
            }
            if left & 8 != 0 {
                asm!(
                    "mov {a}, qword ptr [{from} + {at}]",
                    "mov qword ptr [{to} + {at}], {a}",
                    a = out(reg) _, from = in(reg) from, to = in(reg) to, at = in(reg) at,
                    options(nostack, preserves_flags)
                );
                at += 8;
            }
            if left & 4 != 0 {
                asm!(
                    "mov {a:e}, dword ptr [{from} + {at}]",
                    "mov dword ptr [{to} + {at}], {a:e}",
                    a = out(reg) _, from = in(reg) from, to = in(reg) to, at = in(reg) at,
                    options(nostack, preserves_flags)
                );
                at += 4;
            }
            if left & 2 != 0 {
                asm!(
                    "mov {a:x}, word ptr [{from} + {at}]",
                    "mov word ptr [{to} + {at}], {a:x}",
                    a = out(reg) _, from = in(reg) from, to = in(reg) to, at = in(reg) at,
                    options(nostack, preserves_flags)
                );
                at += 2;
            }
            if left & 1 != 0 {
                asm!(
                    "mov {a}, byte ptr [{from} + {at}]",
                    "mov byte ptr [{to} + {at}], {a}",
                    a = out(reg_byte) _, from = in(reg) from, to = in(reg) to, at = in(reg) at,
                    options(nostack, preserves_flags)
                );
            }
        }
    }

    /// 32 bytes from `at` on.
    #[inline(always)]
    unsafe fn copy_32(to: *mut u8, from: *const u8, at: usize) {
        // SAFETY: the caller vouches for these 32 bytes on both sides.
        unsafe {
            asm!(
                "movdqu {a}, xmmword ptr [{from} + {at}]",
                "movdqu {b}, xmmword ptr [{from} + {at} + 16]",
                "movdqu xmmword ptr [{to} + {at}], {a}",
                "movdqu xmmword ptr [{to} + {at} + 16], {b}",
                a = out(xmm_reg) _, b = out(xmm_reg) _, from = in(reg) from, to = in(reg) to, at = in(reg) at,
                options(nostack, preserves_flags)
            );
        }
    }
}

#[cfg(fuzzing)]
mod imp {
    pub(super) unsafe fn copy_in(shared: *mut u8, from: *const u8, len: usize) {
        // SAFETY: the ranges are valid by the caller's promise, and nobody else accesses them meanwhile: the
        // other side is a fuzz target on this thread, or has not been told of the ring yet.
        unsafe { shared.copy_from_nonoverlapping(from, len) }
    }

    pub(super) unsafe fn copy_out(to: *mut u8, shared: *const u8, len: usize) {
        // SAFETY: as in `copy_in`, with the roles changed.
        unsafe { to.copy_from_nonoverlapping(shared, len) }
    }
}

#[cfg(not(any(fuzzing, all(target_arch = "x86_64", not(any(miri, ringpost_atomic_copy))))))]
mod imp {
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
}

/// Asks the processor for the line at an address, in order to write it. A hint that is correct for any
/// address.
#[inline(always)]
pub(super) fn prefetch_for_write(at: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch neither faults nor changes anything that a program can see.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = at;
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

    /// In whichever page the two lie.
    #[cfg(all(target_arch = "x86_64", not(any(miri, fuzzing, ringpost_atomic_copy))))]
    #[test]
    fn a_string_copy_crawls_a_little_behind_its_source() {
        let from = 0x5000_0fc0;
        let crawls = |behind| {
            string_copy_crawls(
                std::ptr::without_provenance(from + behind),
                std::ptr::without_provenance(from),
            )
        };
        for pages in [0, 4096, 3 << 20] {
            assert!([1, 32, 63].iter().all(|behind| crawls(pages + behind)));
            assert!(![0, 64, 65, 2048, 4095].iter().any(|behind| crawls(pages + behind)));
        }
    }

    /// An access that is not aligned would be no atomic one, and traps on some processors.
    #[cfg(not(any(fuzzing, all(target_arch = "x86_64", not(any(miri, ringpost_atomic_copy))))))]
    #[test]
    fn words_are_aligned_on_the_shared_side() {
        for (address, len) in (64..80).flat_map(|address| (0..40).map(move |len| (address, len))) {
            let head = imp::unaligned_head(std::ptr::without_provenance(address), len);
            assert!(head < 8 && head <= len, "{address} {len}");
            assert!(head == len || (address + head).is_multiple_of(8), "{address} {len}");
        }
    }

    fn check(target: &[u8], start: usize, expected: &[u8], guard: u8) {
        let end = start + expected.len();
        assert_eq!(&target[start..end], expected);
        assert!(target[..start].iter().chain(&target[end..]).all(|&b| b == guard), "wrote outside its range");
    }
}
