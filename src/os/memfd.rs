//! Memory files: created, resized and sealed here, or received from another process and inspected.

#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{
    MemfdFlags, Mode, OFlags, SealFlags, fchmod, fcntl_add_seals, fcntl_get_seals, fstat, fstatfs, ftruncate,
    memfd_create, open,
};
use rustix::io::Errno;

use super::lacks::Lack;
use super::signals::without_sigxfsz;

/// The seals without which another holder of the descriptor could resize the file, or add seals to it.
pub(crate) const NEEDED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// The seals of memory whose maker has not mapped it yet: nobody can resize it.
pub(crate) const SIZED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// The seals of memory that only those can write who had mapped it before.
pub(crate) const READ_ONLY: SealFlags = NEEDED.union(SealFlags::FUTURE_WRITE);

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
    match memfd_create(name, flags | NOEXEC_SEAL) {
        // No fault of the flag.
        Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => Err(errno),
        // Before Linux 6.3 the unknown flag is refused with EINVAL; a filter may refuse it with any error.
        Err(errno) => memfd_create(name, flags).inspect(|_| Lack::NoexecSeal.note(&errno.into())),
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

/// Adds seals.
pub(crate) fn add_seals(fd: impl AsFd, seals: SealFlags) -> Result<(), Errno> {
    fcntl_add_seals(fd, seals)
}

/// Opens a memory file of this process anew, for reading only. Its mode then allows its owner no more than
/// that, so nobody can open it for writing by its place in `/proc`. (Its owner can change the mode back; what
/// the seals forbid stays forbidden.)
pub(crate) fn open_read_only(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
    fchmod(fd, Mode::RUSR)?;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// What a received descriptor is, if it needs these seals. With them its length cannot change any more.
pub(crate) fn inspect(fd: impl AsFd, needed: SealFlags) -> Result<Found, Errno> {
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
    if !seals.contains(needed) {
        return Ok(Found::NotSealed(seals));
    }
    Ok(Found::Sealed(fstat(fd)?.st_size))
}
