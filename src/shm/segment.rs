//! Sealed shared-memory segments: made on one side, checked and mapped on the other.
//!
//! A segment is a memory file: it has no name, so nobody can take it in advance, and nothing remains after a
//! crash. Its maker sizes it, maps it and then seals it against shrinking, growing and further sealing *in
//! one call*, so that no holder of the descriptor can ever make an access fault (`SIGBUS`) by changing the
//! size. The receiver of a descriptor checks the seals and the file system before mapping. A hole punched by
//! the other side reads as zero.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::SealFlags;
use rustix::io::Errno;

use super::backend;
use crate::os::memfd::{self, Found};
use crate::os::remedy::on_memory;
use crate::testing::failpoints::failpoint;

/// A mapping of memory that other processes may map and write as well.
///
/// All access is by atomic words or by copies, at byte offsets that are checked against the length: an offset
/// outside, or a word's offset that is not a multiple of its size, is a programming error and panics.
#[derive(Debug)]
pub struct Segment {
    map: MmapRaw,
}

/// Why a segment could not be made or mapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// A system call failed.
    #[error("shared memory: cannot {action}: {source}{}", on_memory(source))]
    System {
        /// What was being done.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The descriptor is not a memfd, or lies on a file system whose pages can vanish.
    #[error("the descriptor received is not a sealable memory file, so it cannot be a segment")]
    NotMemory,
    /// The descriptor could still be resized by whoever else holds it.
    #[error("the memory received is not sealed against resizing (seals {found:#x}, needed {needed:#x})")]
    NotSealed {
        /// The seals present.
        found: u32,
        /// The seals needed.
        needed: u32,
    },
    /// The length cannot be mapped.
    #[error("a segment of {len} bytes cannot be mapped")]
    BadLength {
        /// The length asked for or found.
        len: u64,
    },
}

fn system(action: &'static str) -> impl FnOnce(Errno) -> SegmentError {
    move |errno| SegmentError::System { action, source: errno.into() }
}

impl Segment {
    /// Makes a sealed segment of `len` zero bytes and maps it. The descriptor is for the other side; it is
    /// closed on exec and is of no further use here once sent. Does not block.
    ///
    /// `name` is seen only under `/proc/PID` (`maps`, `fd`), for people.
    ///
    /// # Errors
    ///
    /// [`SegmentError::BadLength`] for 0 bytes or more than can be, [`SegmentError::System`] if there is no
    /// memory or descriptor.
    pub fn create(name: &str, len: usize) -> Result<(Segment, OwnedFd), SegmentError> {
        let bytes = u64::try_from(len).unwrap_or(u64::MAX);
        if len == 0 || i64::try_from(len).is_err() {
            return Err(SegmentError::BadLength { len: bytes });
        }
        let fd = memfd::create(name).map_err(system("create a memory file"))?;
        failpoint!("segment.created", [server], seldom);
        memfd::resize(&fd, bytes).map_err(system("size a memory file"))?;
        failpoint!("segment.sized", [server], seldom);
        let segment = Segment::map(&fd, len)?;
        failpoint!("segment.mapped", [server], seldom);
        memfd::seal(&fd).map_err(system("seal a memory file"))?;
        failpoint!("segment.sealed", [server], seldom);
        Ok((segment, fd))
    }

    /// Checks a received descriptor and maps it: it must be a memory file, not of huge pages, sealed against
    /// resizing and against lifting that seal. The descriptor is not needed afterwards. Does not block.
    ///
    /// # Errors
    ///
    /// [`SegmentError::NotMemory`], [`SegmentError::NotSealed`], [`SegmentError::BadLength`], or
    /// [`SegmentError::System`].
    pub fn open(fd: impl AsFd) -> Result<Segment, SegmentError> {
        let len = sealed_len(&fd, memfd::NEEDED)?;
        Segment::map(&fd, len)
    }

    /// Makes memory that another process is to map and write: of `len` zero bytes, sealed against resizing
    /// and not against more seals. It is not mapped here. Does not block.
    ///
    /// # Errors
    ///
    /// As for [`create`](Self::create).
    pub(crate) fn make_for_a_writer(name: &str, len: usize) -> Result<OwnedFd, SegmentError> {
        let bytes = u64::try_from(len).unwrap_or(u64::MAX);
        if len == 0 || i64::try_from(len).is_err() {
            return Err(SegmentError::BadLength { len: bytes });
        }
        let fd = memfd::create(name).map_err(system("create a memory file"))?;
        memfd::resize(&fd, bytes).map_err(system("size a memory file"))?;
        memfd::add_seals(&fd, memfd::SIZED).map_err(system("seal a memory file"))?;
        Ok(fd)
    }

    /// Maps what [`make_for_a_writer`](Self::make_for_a_writer) made, and then seals it: nobody else can map
    /// it for writing, or write it by a descriptor, any more. Does not block.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub(crate) fn open_as_the_writer(fd: impl AsFd) -> Result<Segment, SegmentError> {
        let len = sealed_len(&fd, memfd::SIZED)?;
        let segment = Segment::map(&fd, len)?;
        failpoint!("topic.mapped", [topic], seldom);
        memfd::add_seals(&fd, memfd::READ_ONLY).map_err(system("seal a memory file"))?;
        failpoint!("topic.sealed", [topic], seldom);
        Ok(segment)
    }

    /// Checks that the writer has sealed the memory, and opens the descriptor anew for those who may only
    /// read. The one that could be written is closed. Does not block.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub(crate) fn for_readers(fd: OwnedFd) -> Result<OwnedFd, SegmentError> {
        sealed_len(&fd, memfd::READ_ONLY)?;
        memfd::open_read_only(&fd).map_err(system("open a memory file for reading"))
    }

    /// Checks a received descriptor as [`open`](Self::open) does, and that only its writer can write the
    /// memory, and maps it for reading. Only loads and copies out of it are allowed; a store ends the
    /// process. Does not block.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub(crate) fn open_to_read(fd: impl AsFd) -> Result<Segment, SegmentError> {
        use std::os::fd::AsRawFd;
        let len = sealed_len(&fd, memfd::READ_ONLY)?;
        let map = MmapOptions::new()
            .len(len)
            .map_raw_read_only(fd.as_fd().as_raw_fd())
            .map_err(|source| SegmentError::System { action: "map a memory file", source })?;
        Ok(Segment { map })
    }

    /// Memory of this process alone with the same interface, for rings between its threads. Does not block.
    ///
    /// # Errors
    ///
    /// The system's: there is no memory, or the length is 0 or more than can be.
    pub fn anonymous(len: usize) -> io::Result<Segment> {
        if len == 0 || i64::try_from(len).is_err() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Segment { map: MmapOptions::new().len(len).map_anon()?.into() })
    }

    fn map(fd: &impl AsFd, len: usize) -> Result<Segment, SegmentError> {
        use std::os::fd::AsRawFd;
        let map = MmapOptions::new()
            .len(len)
            .map_raw(fd.as_fd().as_raw_fd())
            .map_err(|source| SegmentError::System { action: "map a memory file", source })?;
        Ok(Segment { map })
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Never true: a segment has at least one byte.
    #[cfg(any(test, feature = "cli", feature = "internals", fuzzing))]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The 32-bit word at a byte offset. Does not block.
    ///
    /// # Panics
    ///
    /// If the word does not lie inside, or `offset` is not a multiple of 4.
    #[inline]
    pub fn word32(&self, offset: usize) -> &AtomicU32 {
        self.check(offset, 4, 4);
        // SAFETY: checked to lie inside the mapping, which is page-aligned (so the word is aligned) and lives
        // as long as `self`. Every access to it from this side is atomic or a copy as described in
        // `copy`, and an atomic makes sense of whatever the other side stores.
        unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().add(offset).cast()) }
    }

    /// The 64-bit word at a byte offset. Does not block.
    ///
    /// # Panics
    ///
    /// If the word does not lie inside, or `offset` is not a multiple of 8.
    #[inline]
    pub fn word64(&self, offset: usize) -> &AtomicU64 {
        self.check(offset, 8, 8);
        // SAFETY: as for `word32`.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(offset).cast()) }
    }

    /// Copies bytes into the segment. Does not block.
    ///
    /// # Panics
    ///
    /// If they do not fit at `offset`.
    #[inline]
    pub fn copy_in(&self, offset: usize, from: &[u8]) {
        self.check(offset, from.len(), 1);
        // SAFETY: the shared range was checked; `from` is a live slice, and no slice overlaps the mapping, to
        // which no reference is ever made.
        unsafe { backend::copy_in(self.map.as_mut_ptr().add(offset), from.as_ptr(), from.len()) }
    }

    /// Copies bytes out of the segment. What they mean must be decided on the copy. Does not block.
    ///
    /// # Panics
    ///
    /// If `offset + to.len()` lies outside.
    #[inline]
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) {
        self.check(offset, to.len(), 1);
        // SAFETY: as for `copy_in`, with the roles changed.
        unsafe { backend::copy_out(to.as_mut_ptr(), self.map.as_ptr().add(offset), to.len()) }
    }

    /// The address of the mapping, for the registry's mutex.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// The address of `len` bytes that lie inside, for a view.
    ///
    /// # Panics
    ///
    /// If they do not.
    pub(super) fn start_of(&self, offset: usize, len: usize) -> NonNull<u8> {
        self.check(offset, len, 1);
        // SAFETY: just checked to lie inside the mapping.
        let start = unsafe { self.map.as_mut_ptr().add(offset) };
        NonNull::new(start).expect("a mapping is never at address 0")
    }

    #[inline(always)]
    fn check(&self, offset: usize, len: usize, align: usize) {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.map.len());
        if !inside || !offset.is_multiple_of(align) {
            outside(offset, len, self.map.len());
        }
    }
}

/// The length of a memory file that has these seals, which fix it.
fn sealed_len(fd: &impl AsFd, needed: SealFlags) -> Result<usize, SegmentError> {
    match memfd::inspect(fd, needed).map_err(system("inspect a descriptor"))? {
        Found::NotMemory => Err(SegmentError::NotMemory),
        Found::NotSealed(found) => {
            Err(SegmentError::NotSealed { found: found.bits(), needed: needed.bits() })
        }
        Found::Sealed(size) => match usize::try_from(size) {
            Ok(len) if len > 0 => Ok(len),
            _ => Err(SegmentError::BadLength { len: size.unsigned_abs() }),
        },
    }
}

#[cold]
#[inline(never)]
pub(super) fn outside(offset: usize, len: usize, end: usize) -> ! {
    panic!("{len} bytes at offset {offset} do not lie, aligned, in a segment of {end} bytes");
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, fcntl_add_seals, ftruncate, memfd_create};
    use std::fs::File;
    use std::sync::atomic::Ordering;

    #[test]
    fn both_mappings_show_the_same_bytes() {
        let (ours, fd) = Segment::create("test", 10_000).unwrap();
        let theirs = Segment::open(&fd).unwrap();
        assert_eq!((theirs.len(), theirs.is_empty()), (10_000, false));
        ours.copy_in(9_990, b"0123456789");
        let mut read = [0; 10];
        theirs.copy_out(9_990, &mut read);
        assert_eq!(&read, b"0123456789");
        theirs.word32(4).store(5, Ordering::Relaxed);
        assert_eq!(ours.word32(4).load(Ordering::Relaxed), 5);
    }

    #[test]
    fn the_size_and_the_seals_are_fixed() {
        let (_ours, fd) = Segment::create("test", 4096).unwrap();
        assert_eq!(ftruncate(&fd, 1), Err(Errno::PERM));
        assert_eq!(ftruncate(&fd, 8192), Err(Errno::PERM));
        assert_eq!(fcntl_add_seals(&fd, SealFlags::WRITE), Err(Errno::PERM));
    }

    #[test]
    fn what_is_not_a_sealed_memory_file_is_refused() {
        let unsealed = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&unsealed, 4096).unwrap();
        assert!(matches!(Segment::open(&unsealed), Err(SegmentError::NotSealed { .. })));
        // Sealed against resizing, but the seals could be added to.
        fcntl_add_seals(&unsealed, SealFlags::SHRINK | SealFlags::GROW).unwrap();
        assert!(matches!(Segment::open(&unsealed), Err(SegmentError::NotSealed { .. })));
        let (read, _write) = std::io::pipe().unwrap();
        assert!(matches!(Segment::open(&read), Err(SegmentError::NotMemory)));
        let file = File::open("/proc/self/exe").unwrap();
        assert!(matches!(Segment::open(&file), Err(SegmentError::NotMemory)));
        // Of huge pages, sealed as it should be. Not every kernel has them.
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB;
        if let Ok(huge) = memfd_create("test", flags) {
            ftruncate(&huge, 1 << 30).unwrap();
            memfd::seal(&huge).unwrap();
            assert!(matches!(Segment::open(&huge), Err(SegmentError::NotMemory)));
        }
        let empty = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        memfd::seal(&empty).unwrap();
        assert!(matches!(Segment::open(&empty), Err(SegmentError::BadLength { len: 0 })));
    }

    #[test]
    fn a_segment_is_not_inherited_by_exec() {
        let (_ours, fd) = Segment::create("test", 4096).unwrap();
        let flags = rustix::io::fcntl_getfd(&fd).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn lengths_that_cannot_be_are_errors() {
        assert!(matches!(Segment::create("test", 0), Err(SegmentError::BadLength { len: 0 })));
        assert!(Segment::anonymous(0).is_err());
        assert!(matches!(Segment::create("test", usize::MAX), Err(SegmentError::BadLength { .. })));
        assert!(Segment::create("test", 1 << 62).is_err());
    }

    #[test]
    #[should_panic(expected = "do not lie, aligned")]
    fn a_word_that_is_not_aligned_is_a_programming_error() {
        let segment = Segment::anonymous(4096).unwrap();
        let _ = segment.word64(12);
    }

    #[test]
    fn a_word_outside_is_a_programming_error() {
        let segment = Segment::anonymous(4096).unwrap();
        let panics =
            |access: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(access)).is_err();
        for offset in [4096, 4100, 1 << 40, usize::MAX - 7] {
            assert!(
                panics(&|| {
                    segment.word64(offset & !7);
                }),
                "{offset}"
            );
            assert!(
                panics(&|| {
                    segment.word32(offset & !3);
                }),
                "{offset}"
            );
            assert!(panics(&|| segment.copy_in(offset, b"x")), "{offset}");
            assert!(panics(&|| segment.copy_out(offset, &mut [0])), "{offset}");
        }
        assert!(panics(&|| segment.copy_in(4090, b"1234567")));
        segment.copy_in(4090, b"123456");
        segment.copy_in(4096, b"");
        assert!(panics(&|| segment.copy_in(4097, b"")));
    }
}
