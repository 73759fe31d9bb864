//! `Files`: the file of a server's socket and the lock file beside it.
//!
//! The lock file shows whether a server is alive: the kernel drops the lock when its owner dies. The owner of
//! the lock may remove a socket that a dead server left behind. An owner removes the lock file when it ends;
//! so after locking we check that the path still names the file we locked.
//!
//! Anyone who may write to the directory can remove the lock file, as cleaners of temporary files do. So
//! before a socket is replaced, we connect to it: unless the kernel refuses the connection, a server is
//! listening. Files are checked before they are removed at the end, because by then they may be another
//! server's. Cleaners also go by age, so both files get a new time now and then ([`Files::keep_fresh`]).

#![forbid(unsafe_code)]

use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, flock, fstat,
    futimens, openat, statat, unlinkat, utimensat,
};
use rustix::io::Errno;
use rustix::net::connect;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::listener::{ListenError, address_of, socket_for};
use super::socket_file::SocketFile;
use crate::os::descriptors::Ours;
use crate::testing::failpoints::failpoint;

/// How often to try to lock a lock file that keeps being replaced.
const LOCK_TRIES: u32 = 100;

/// How often to try to lock the abandoned lock file, until it counts as another server's.
const ABANDONED_TRIES: u32 = 25;

/// How often the files get a new time and the lock file is checked. Cleaners remove files after days.
const FRESHEN: Duration = Duration::from_secs(600);

/// A file's device and inode number. No other file can have the same ones while this file is open.
pub(super) type Inode = (u64, u64);

/// The lock of a path, and its file.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    file: Ours,
}

impl Lock {
    /// Locks the path of a socket.
    pub(super) fn of(socket: &Path) -> Result<Lock, ListenError> {
        // Else the lock file would be inside that directory.
        if socket.file_name().is_none() || socket.as_os_str().as_bytes().ends_with(b"/") {
            return Err(ListenError::NoFileName(socket.to_owned()));
        }
        let mut path = OsString::from(socket);
        path.push(".lock");
        let path = PathBuf::from(path);
        let file = Ours::new(lock(socket, &path)?);
        Ok(Lock { path, file })
    }

    /// Removes the lock file if it is still ours, and unlocks.
    pub(super) fn remove(self) {
        // Must happen while it is locked: afterwards another server may have locked it.
        remove_own(&self.path, inode_of_fd(&self.file));
    }
}

/// The files of a socket that was made here.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    /// The file at the path, so that we never remove another server's.
    inode: Inode,
    /// The mode and the group that it was given.
    open_to: (u32, Option<u32>),
    lock: Option<Lock>,
    /// When the files are to get a new time.
    due: Instant,
}

impl Files {
    pub(super) fn new(path: &Path, inode: Inode, open_to: (u32, Option<u32>), lock: Lock) -> Files {
        Files { path: path.to_owned(), inode, open_to, lock: Some(lock), due: Instant::now() + FRESHEN }
    }

    /// The socket's file, whose mode and group can be changed.
    pub(super) fn socket(&self) -> SocketFile {
        SocketFile::new(&self.path, self.inode, self.open_to)
    }

    /// Removes the socket's file if it is still ours.
    pub(super) fn hide(&self) {
        if self.lock.is_some() {
            remove_own(&self.path, Ok(self.inode));
        }
    }

    /// Removes both files. Idempotent.
    pub(super) fn remove(&mut self) {
        self.hide();
        let Some(lock) = self.lock.take() else { return };
        failpoint!("listen.hidden", [server], stopping);
        lock.remove();
        failpoint!("listen.removed", [server], stopping);
    }

    #[cfg(test)]
    pub(super) fn inode(&self) -> Inode {
        self.inode
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// If it is due, gives both files a new time and recreates the lock file if somebody removed it.
    pub(super) fn keep_fresh(&mut self, now: Instant) {
        if now < self.due {
            return;
        }
        self.due = now + FRESHEN;
        let Some(lock) = &self.lock else { return };
        if inode_of(&self.path) != Ok(self.inode) {
            // The socket was removed or replaced, so the lock file is no longer ours either.
            return;
        }
        let touch = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: touch, last_modification: touch };
        let _ = utimensat(CWD, &self.path, &times, AtFlags::SYMLINK_NOFOLLOW);
        if inode_of(&lock.path) == inode_of_fd(&lock.file) {
            let _ = futimens(&lock.file, &times);
        } else if let Ok(lock) = Lock::of(&self.path) {
            // If another server holds the new lock file, it will find that this one is alive, and give up.
            self.lock = Some(lock);
        }
    }

    /// Removes the lock file if nobody has locked it since other code in the process closed its descriptor.
    /// The number may have been reused, so it is not closed.
    pub(super) fn abandon(self) {
        std::mem::forget(self.lock);
        // The code that closes the descriptors may not have closed the lock's yet, so try again.
        for _ in 0..ABANDONED_TRIES {
            if let Ok(lock) = Lock::of(&self.path) {
                return lock.remove();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

pub(super) fn system(action: &'static str, path: &Path) -> impl FnOnce(Errno) -> ListenError {
    let path = path.to_owned();
    move |errno| ListenError::System { action, path, source: errno.into() }
}

pub(super) fn inode_of(path: &Path) -> Result<Inode, Errno> {
    statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).map(|found| (found.st_dev, found.st_ino))
}

fn inode_of_fd(file: impl AsFd) -> Result<Inode, Errno> {
    fstat(file).map(|found| (found.st_dev, found.st_ino))
}

/// Removes the file at the path if it is this one.
pub(super) fn remove_own(path: &Path, inode: Result<Inode, Errno>) {
    if inode.is_ok() && inode_of(path) == inode {
        let _ = unlinkat(CWD, path, AtFlags::empty());
    }
}

/// Removes a socket that a dead server left at the path. Holding the lock is no proof that the server is
/// dead, because its lock file may have been removed; so this tries to connect.
pub(super) fn remove_stale_socket(path: &Path) -> Result<(), ListenError> {
    let found = match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(system("look at", path)(errno)),
    };
    if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
        return Err(ListenError::NotASocket(path.to_owned()));
    }
    let ((address, _directory), probe) = (address_of(path)?, socket_for(path)?);
    loop {
        match connect(&probe, &address) {
            Err(Errno::INTR) => {}
            // Nobody listens.
            Err(Errno::CONNREFUSED) => break,
            Err(Errno::NOENT) => return Ok(()),
            // A server listens; its backlog is full (it may be stopped); or the socket has another type.
            Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => return Err(ListenError::InUse(path.to_owned())),
            // This user may not connect, and so may not remove the socket.
            Err(errno) => return Err(system("create the socket", path)(errno)),
        }
    }
    if inode_of(path) == Ok((found.st_dev, found.st_ino)) {
        match unlinkat(CWD, path, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(system("create the socket", path)(errno)),
        }
    }
    failpoint!("listen.cleared", [server], rarely);
    Ok(())
}

fn lock(path: &Path, lock_path: &Path) -> Result<OwnedFd, ListenError> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    for _ in 0..LOCK_TRIES {
        let file = openat(CWD, lock_path, flags, Mode::RUSR | Mode::WUSR)
            .map_err(system("create the lock file", lock_path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::AGAIN) => return Err(ListenError::InUse(path.to_owned())),
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(system("lock", lock_path)(errno)),
        }
        if inode_of(lock_path) == Ok(inode_of_fd(&file).map_err(system("look at", lock_path))?) {
            return Ok(file);
        }
        // The former owner removed the file after we opened it: lock the one at the path now.
    }
    Err(ListenError::InUse(path.to_owned()))
}
