//! `Listener`: the server's listening socket, its file and its lock file.
//!
//! A lock file beside the socket shows whether a server is alive: the kernel drops the lock when its owner
//! dies. The owner of the lock may remove a socket that a dead server left behind. An owner removes the lock
//! file when it ends; so after locking we check that the path still names the file we locked.
//!
//! Anyone who may write to the directory can remove the lock file, as cleaners of temporary files do. So
//! before a socket is replaced, we connect to it: unless the kernel refuses the connection, a server is
//! listening. Files are checked before they are removed at the end, because by then they may be another
//! server's.
//!
//! The socket is bound at its final path, not renamed to it: cleaners spare sockets that `/proc/net/unix`
//! lists. Mode and group are set before it listens. Until then it refuses connections, and clients retry for
//! a moment (`dial.rs`). Cleaners also go by age, so both files get a new time now and then
//! ([`Listener::keep_fresh`]).

#![forbid(unsafe_code)]

use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, chmodat,
    chownat, flock, fstat, futimens, openat, statat, unlinkat, utimensat,
};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    shutdown, socket_with,
};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::accepted::Accepted;
use super::disposal::Disposal;
use super::path::address;
use super::socket_file::SocketFile;
use crate::os::descriptors::{self, Ours, close_if};
use crate::os::remedy::on_place;
use crate::os::sockets::refuse_descriptors;
use crate::testing::failpoints::failpoint;

/// Why a server cannot listen at a path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Another server uses the path.
    #[error("another server is running at {0:?}: stop it, or choose another socket")]
    InUse(PathBuf),
    /// The path exists and is not a socket.
    #[error("{0:?} exists and is not a socket: remove it, or choose another path")]
    NotASocket(PathBuf),
    /// The path does not end with a file name.
    #[error("{0:?} does not end with a file name: add a name for the socket")]
    NoFileName(PathBuf),
    /// The path is too long for a socket address.
    #[error("{0:?} is too long for a socket: use a path of at most 104 bytes")]
    TooLong(PathBuf),
    /// The socket cannot be given to the only group that is allowed.
    #[error(
        "cannot give the socket to group {group}, because this user is not a member: start the server as a member or \
         as root, or allow users instead"
    )]
    ForeignGroup {
        /// The group.
        group: u32,
    },
    /// A system call failed.
    #[error("cannot {action} {path:?}: {source}{}", on_place(source))]
    System {
        /// What was attempted: a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The most connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// How often to try to lock a lock file that keeps being replaced.
const LOCK_TRIES: u32 = 100;

/// The longest path of a socket, in bytes: a little less than the kernel allows.
const LONGEST: usize = 104;

/// The longest last component of a longer path, which is reached through its directory.
const LONGEST_NAME: usize = 80;

/// How often the files get a new time and the lock file is checked. Cleaners remove files after days.
const FRESHEN: Duration = Duration::from_secs(600);

/// A file's device and inode number. No other file can have the same ones while this file is open.
type Inode = (u64, u64);

/// A listening socket, its path and its lock.
#[derive(Debug)]
pub(crate) struct Listener {
    /// `Some` until the drop.
    socket: Option<OwnedFd>,
    /// The socket's file, to notice if the descriptor number was closed and reused by other code.
    file: Option<Inode>,
    path: PathBuf,
    /// The file at the path, so that we never remove another server's.
    inode: Inode,
    /// The mode and the group that it was given.
    open_to: (u32, Option<u32>),
    lock_path: PathBuf,
    lock: Option<Ours>,
    /// `Some` if the kernel cannot refuse descriptors: closes those that clients send.
    disposal: Option<Disposal>,
    /// When the files are to get a new time.
    due: Instant,
}

impl Listener {
    /// Locks the path, removes a dead server's socket, and listens. The socket gets `mode` and `group`.
    pub(crate) fn bind(path: &Path, mode: u32, group: Option<u32>) -> Result<Listener, ListenError> {
        // Else the lock file would be inside that directory.
        if path.file_name().is_none() || path.as_os_str().as_bytes().ends_with(b"/") {
            return Err(ListenError::NoFileName(path.to_owned()));
        }
        let lock_path = beside(path, ".lock");
        let lock = Ours::new(lock(path, &lock_path)?);
        failpoint!("listen.locked", [server], starting);
        let made = remove_stale_socket(path).and_then(|()| listen_at(path, mode, group));
        if made.is_err() {
            remove_own(&lock_path, inode_of_fd(&lock));
        }
        let (socket, inode, disposal) = made?;
        Ok(Listener {
            file: descriptors::file(&socket),
            socket: Some(socket),
            path: path.to_owned(),
            inode,
            open_to: (mode, group),
            lock_path,
            lock: Some(lock),
            disposal,
            due: Instant::now() + FRESHEN,
        })
    }

    /// Accepts the next connection. Does not wait.
    pub(crate) fn accept(&self) -> rustix::io::Result<Accepted> {
        let socket = accept_with(self.as_fd(), SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        Accepted::new(socket, self.disposal.clone())
    }

    /// The socket's file, whose mode and group can be changed.
    pub(crate) fn file(&self) -> Option<SocketFile> {
        Some(SocketFile::new(&self.path, self.inode, self.open_to))
    }

    /// The number of this user's connections that are still being closed, because they hold descriptors.
    pub(crate) fn closing_of(&self, uid: u32) -> usize {
        self.disposal.as_ref().map_or(0, |disposal| disposal.of_user(uid))
    }

    /// Stops new connections. Those that wait can still be accepted.
    pub(crate) fn shut(&self) {
        let _ = shutdown(self.as_fd(), Shutdown::Read);
    }

    /// Removes the socket's file if it is still ours. Nobody can connect any more, but the path stays locked.
    pub(crate) fn hide(&self) {
        if self.lock.is_some() {
            remove_own(&self.path, Ok(self.inode));
        }
    }

    /// Removes the socket and the lock file. Idempotent.
    pub(crate) fn remove(&mut self) {
        self.hide();
        let Some(lock) = self.lock.take() else { return };
        failpoint!("listen.hidden", [server], stopping);
        // Must happen while it is locked: afterwards another server may have locked it.
        remove_own(&self.lock_path, inode_of_fd(&lock));
        failpoint!("listen.removed", [server], stopping);
    }

    /// When [`keep_fresh`](Self::keep_fresh) has something to do.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// If it is due, gives both files a new time and recreates the lock file if somebody removed it.
    pub(crate) fn keep_fresh(&mut self, now: Instant) {
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
        if inode_of(&self.lock_path) == inode_of_fd(lock) {
            let _ = futimens(lock, &times);
        } else if let Ok(lock) = self::lock(&self.path, &self.lock_path) {
            // If another server holds the new lock file, it will find that this one is alive, and give up.
            self.lock = Some(Ours::new(lock));
        }
    }
}

impl Listener {
    /// Gives the socket up after other code in the process closed its descriptors. Their numbers may have
    /// been reused, so they are not closed. Removes the socket's file if it is still ours, and the lock
    /// file if nobody has locked it since.
    pub(crate) fn abandon(&mut self) {
        self.hide();
        close_if(false, self.socket.take());
        std::mem::forget(self.lock.take());
        // The code that closes the descriptors may not have closed the lock's yet, so try again.
        for _ in 0..ABANDONED_TRIES {
            if let Ok(locked) = lock(&self.path, &self.lock_path) {
                return remove_own(&self.lock_path, inode_of_fd(&locked));
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}

/// How often to try to lock the abandoned lock file, until it counts as another server's.
const ABANDONED_TRIES: u32 = 25;

impl Drop for Listener {
    fn drop(&mut self) {
        if self.socket.is_none() {
            return;
        }
        self.remove();
        if self.file.is_none() || descriptors::file(self.as_fd()) != self.file {
            return close_if(false, self.socket.take());
        }
        // Closing the socket would close the waiting connections with all their descriptors: see `accepted`.
        self.shut();
        let is_empty = loop {
            match self.accept() {
                Ok(_) | Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(errno) => break errno == Errno::AGAIN,
            }
        };
        if let (false, Some(disposal), Some(socket)) = (is_empty, &self.disposal, self.socket.take()) {
            disposal.close(u32::MAX, socket);
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Some(socket) => socket.as_fd(),
            None => unreachable!("only the drop takes it"),
        }
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn system(action: &'static str, path: &Path) -> impl FnOnce(Errno) -> ListenError {
    let path = path.to_owned();
    move |errno| ListenError::System { action, path, source: errno.into() }
}

fn inode_of(path: &Path) -> Result<Inode, Errno> {
    statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).map(|found| (found.st_dev, found.st_ino))
}

fn inode_of_fd(file: impl AsFd) -> Result<Inode, Errno> {
    fstat(file).map(|found| (found.st_dev, found.st_ino))
}

/// Removes the file at the path if it is this one.
fn remove_own(path: &Path, inode: Result<Inode, Errno>) {
    if inode.is_ok() && inode_of(path) == inode {
        let _ = unlinkat(CWD, path, AtFlags::empty());
    }
}

/// Makes a non-blocking `SOCK_SEQPACKET` socket.
fn socket_for(path: &Path) -> Result<OwnedFd, ListenError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(system("make a socket for", path))
}

/// The socket's address, and a descriptor that must stay open while the address is used.
fn address_of(path: &Path) -> Result<(SocketAddrUnix, Option<OwnedFd>), ListenError> {
    let too_long = || ListenError::TooLong(path.to_owned());
    let bytes = |text: Option<&std::ffi::OsStr>| text.map_or(0, |text| text.len());
    if bytes(Some(path.as_os_str())) > LONGEST && bytes(path.file_name()) > LONGEST_NAME {
        return Err(too_long());
    }
    address(path).map_err(|errno| match errno {
        Errno::NAMETOOLONG => too_long(),
        errno => system("create the socket", path)(errno),
    })
}

/// Removes a socket that a dead server left at the path. Holding the lock is no proof that the server is
/// dead, because its lock file may have been removed; so this tries to connect.
fn remove_stale_socket(path: &Path) -> Result<(), ListenError> {
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

fn listen_at(
    path: &Path,
    mode: u32,
    group: Option<u32>,
) -> Result<(OwnedFd, Inode, Option<Disposal>), ListenError> {
    let ((address, _directory), socket) = (address_of(path)?, socket_for(path)?);
    // Must come before anyone can connect: connections inherit it.
    let disposal = refuse_descriptors(socket.as_fd()).err().map(|_| Disposal::default());
    // The file gets the socket's mode, less the umask. Nobody can connect before `listen`.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode)).map_err(system("set the mode of", path))?;
    bind(&socket, &address).map_err(|errno| match errno {
        // Another server without our lock was faster.
        Errno::ADDRINUSE => ListenError::InUse(path.to_owned()),
        errno => system("create the socket", path)(errno),
    })?;
    let inode = inode_of(path);
    failpoint!("listen.bound", [server], starting);
    let listening = open_to(path, mode, group).and_then(|()| {
        failpoint!("listen.opened", [server], starting);
        listen(&socket, BACKLOG).map_err(system("listen at", path))
    });
    failpoint!("listen.listening", [server], starting);
    match (listening, inode) {
        (Ok(()), Ok(inode)) => Ok((socket, inode, disposal)),
        (Err(error), inode) => {
            remove_own(path, inode);
            Err(error)
        }
        (Ok(()), Err(errno)) => Err(system("look at", path)(errno)),
    }
}

fn open_to(path: &Path, mode: u32, group: Option<u32>) -> Result<(), ListenError> {
    if let Some(group) = group {
        let gid = Some(Gid::from_raw(group));
        chownat(CWD, path, None, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| match errno {
            Errno::PERM => ListenError::ForeignGroup { group },
            errno => system("set the group of", path)(errno),
        })?;
    }
    chmodat(CWD, path, Mode::from_raw_mode(mode), AtFlags::empty()).map_err(system("set the mode of", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_path_has_one_server_and_no_files_remain() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("bus");
        let first = Listener::bind(&path, 0o600, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(Listener::bind(&path, 0o600, None), Err(ListenError::InUse(_))));
        drop(first);
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
        Listener::bind(&path, 0o666, None).unwrap();
    }

    #[test]
    fn a_stale_socket_is_replaced_and_anything_else_is_kept() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("bus");
        drop(UnixListener::bind(&path).unwrap());
        fs::write(scratch.path().join("bus.lock"), "").unwrap();
        drop(Listener::bind(&path, 0o600, None).unwrap());
        fs::write(&path, "precious").unwrap();
        assert!(matches!(Listener::bind(&path, 0o600, None), Err(ListenError::NotASocket(_))));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_our_own_socket_is_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("bus");
        let ours = Listener::bind(&path, 0o600, None).unwrap();
        fs::remove_file(&path).unwrap();
        let _theirs = UnixListener::bind(&path).unwrap();
        drop(ours);
        assert!(path.exists());
    }

    fn lock_of(path: &Path) -> PathBuf {
        beside(path, ".lock")
    }

    fn names(directory: &Path) -> usize {
        fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn the_kernel_knows_the_path() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("bus");
        let _listener = Listener::bind(&path, 0o600, None).unwrap();
        let sockets = fs::read_to_string("/proc/net/unix").unwrap();
        let shown = path.to_str().unwrap();
        assert!(sockets.lines().any(|line| line.ends_with(&format!(" {shown}"))), "{sockets}");
    }

    /// A cleaner of temporary files may remove a living server's lock file.
    #[test]
    fn a_living_server_keeps_its_path_without_its_lock_file() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("bus");
        let mut first = Listener::bind(&path, 0o600, None).unwrap();
        let in_use = || matches!(Listener::bind(&path, 0o600, None), Err(ListenError::InUse(_)));
        fs::remove_file(lock_of(&path)).unwrap();
        assert!(in_use() && inode_of(&path) == Ok(first.inode));
        assert_eq!(names(scratch.path()), 1, "the one that was refused left nothing");
        // With a full backlog, like that of a stopped server.
        let address = SocketAddrUnix::new(&path).unwrap();
        let mut waiting = Vec::new();
        loop {
            let socket = socket_for(&path).unwrap();
            match connect(&socket, &address) {
                Ok(()) => waiting.push(socket),
                Err(errno) => break assert_eq!(errno, Errno::AGAIN),
            }
        }
        assert!(in_use() && inode_of(&path) == Ok(first.inode));
        // The lock file is recreated when it is due.
        first.keep_fresh(Instant::now());
        assert!(!lock_of(&path).exists(), "it is not time yet");
        first.keep_fresh(first.due());
        assert!(lock_of(&path).exists() && in_use());
        drop(first);
        assert_eq!(names(scratch.path()), 0);
    }

    #[test]
    fn another_server_s_files_are_not_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("bus");
        let mut first = Listener::bind(&path, 0o600, None).unwrap();
        // Both files are removed, and a second server takes the path.
        fs::remove_file(&path).unwrap();
        fs::remove_file(lock_of(&path)).unwrap();
        let second = Listener::bind(&path, 0o600, None).unwrap();
        first.keep_fresh(first.due());
        drop(first);
        assert_eq!((inode_of(&path), names(scratch.path())), (Ok(second.inode), 2));
        assert!(matches!(Listener::bind(&path, 0o600, None), Err(ListenError::InUse(_))));
        drop(second);
        assert_eq!(names(scratch.path()), 0);
    }

    #[test]
    fn both_files_get_a_new_time() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("bus");
        let mut listener = Listener::bind(&path, 0o600, None).unwrap();
        let old = Timespec { tv_sec: 1_000_000, tv_nsec: 0 };
        let age = |path: &Path| fs::symlink_metadata(path).unwrap().modified().unwrap().elapsed().unwrap();
        let files = [path.clone(), lock_of(&path)];
        for file in &files {
            let times = Timestamps { last_access: old, last_modification: old };
            utimensat(CWD, file, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            assert!(age(file) > Duration::from_secs(1_000_000));
        }
        listener.keep_fresh(listener.due());
        for file in &files {
            assert!(age(file) < Duration::from_secs(1_000));
        }
    }

    #[test]
    fn a_socket_on_which_others_listen_is_kept() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("bus");
        let _theirs = UnixListener::bind(&path).unwrap();
        assert!(matches!(Listener::bind(&path, 0o600, None), Err(ListenError::InUse(_))));
        assert_eq!(names(scratch.path()), 1);
        // A bound socket that does not listen is replaced.
        let stale = scratch.path().join("stale");
        let socket = socket_for(&stale).unwrap();
        bind(&socket, &SocketAddrUnix::new(&stale).unwrap()).unwrap();
        Listener::bind(&stale, 0o600, None).unwrap();
    }

    #[test]
    fn when_servers_race_for_a_stale_path_one_wins() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("bus");
        for _ in 0..50 {
            drop(UnixListener::bind(&path).unwrap());
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let path = path.clone();
                    std::thread::spawn(move || Listener::bind(&path, 0o600, None))
                })
                .collect();
            let all: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            assert_eq!(all.iter().filter(|one| one.is_ok()).count(), 1, "{all:?}");
            assert!(all.iter().all(|one| matches!(one, Ok(_) | Err(ListenError::InUse(_)))), "{all:?}");
            drop(all);
            assert_eq!(names(scratch.path()), 0);
        }
    }

    #[test]
    fn impossible_paths_are_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let long = scratch.path().join("x".repeat(120));
        let error = Listener::bind(&long, 0o600, None).unwrap_err();
        assert!(matches!(error, ListenError::TooLong(_)), "{error}");
        let nowhere = scratch.path().join("missing/bus");
        let error = Listener::bind(&nowhere, 0o600, None).unwrap_err();
        assert!(matches!(error, ListenError::System { .. }), "{error}");
    }
}
