//! Memory files: created, resized and sealed here, or received from another process and inspected.

#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, fstatfs, ftruncate, memfd_create,
};
use rustix::io::Errno;

use super::signals::without_sigxfsz;

/// The seals without which another holder of the descriptor could resize the file, or add seals to it.
pub(crate) const NEEDED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// `f_type` of hugetlbfs, whose pages can be reserved late and then fault.
const HUGETLBFS_MAGIC: i64 = 0x9584_58f6;

/// `MFD_NOEXEC_SEAL` (Linux 6.3): never executable, and sealed so.
const NOEXEC_SEAL: MemfdFlags = MemfdFlags::from_bits_retain(0x0008);

/// What a received descriptor is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A memory file with all needed seals, of this many bytes.
    Sealed(i64),
    /// A memory file with these seals, of which some are missing.
    NotSealed(SealFlags),
    /// Something else, or a memory file of huge pages.
    NotMemory,
}

/// Creates an empty memory file that is closed on exec. Its name is seen only under `/proc/PID`.
pub(crate) fn create(name: &str) -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Before Linux 6.3 the unknown flag is refused with EINVAL.
    match memfd_create(name, flags | NOEXEC_SEAL) {
        Err(Errno::INVAL) => memfd_create(name, flags),
        made => made,
    }
}

/// Sets the length. The limit of file sizes holds for memory files too; the signal that it raises is held
/// back, so that the call fails and nothing else happens.
pub(crate) fn resize(fd: &OwnedFd, bytes: u64) -> Result<(), Errno> {
    without_sigxfsz(|| ftruncate(fd, bytes))
}

/// Seals against resizing and against further seals.
pub(crate) fn seal(fd: &OwnedFd) -> Result<(), Errno> {
    fcntl_add_seals(fd, NEEDED)
}

/// What a received descriptor is. The length of a sealed file cannot change any more.
pub(crate) fn inspect(fd: impl AsFd) -> Result<Found, Errno> {
    let fd = fd.as_fd();
    let seals = match fcntl_get_seals(fd) {
        // Only memory files have seals. `BADF` is the answer for a descriptor that only names a file
        // (`O_PATH`).
        Err(Errno::INVAL | Errno::BADF) => return Ok(Found::NotMemory),
        seals => seals?,
    };
    let kind = fstatfs(fd)?.f_type;
    #[allow(clippy::unnecessary_cast, reason = "the field's type differs by architecture")]
    if kind as i64 == HUGETLBFS_MAGIC {
        return Ok(Found::NotMemory);
    }
    if !seals.contains(NEEDED) {
        return Ok(Found::NotSealed(seals));
    }
    Ok(Found::Sealed(fstat(fd)?.st_size))
}
