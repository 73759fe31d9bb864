//! The copy on x86_64: inline assembly, which the compiler takes for accesses to arbitrary memory.

use std::arch::asm;

/// Above this many bytes the processor's own string copy (`rep movsb`) is faster than 16-byte vectors.
const STRING_COPY_FROM: usize = 2048;

/// Whether the string copy would be slow: where the target begins up to 63 bytes behind the source, counted
/// within a page, each of its loads seems to depend on the store before it. Measured on an AMD EPYC: 20 times
/// slower at 1 to 31 bytes, 2 to 5 times at 33 to 63. A ring's records begin at every line of a page in turn,
/// so this affects one copy in 64, or, with blocks of whole pages, every copy.
fn string_copy_crawls(to: *const u8, from: *const u8) -> bool {
    const PAGE: usize = 4096;
    (1..64).contains(&(to.addr().wrapping_sub(from.addr()) % PAGE))
}

// One routine serves both directions: the assembly makes both the load and the store, so it does not matter
// which side is shared.
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

/// Asks the processor for the line at an address, in order to write it. A hint that is correct for any
/// address.
#[inline(always)]
pub(in crate::shm) fn prefetch_for_write(at: *const u8) {
    // SAFETY: a prefetch neither faults nor changes anything that a program can see.
    unsafe {
        asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
}

#[cfg(test)]
mod tests {
    use super::string_copy_crawls;

    /// In whichever page the two lie.
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
}
