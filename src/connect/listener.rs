//! The server's end of the connect channel: the socket's place in the file system, and its lock.
//!
//! A lock file beside the socket tells whether a server is alive: the kernel drops the lock when its owner dies. Whoever holds it may remove a
//! socket that was left behind. The lock file itself may be removed by its holder, so after locking we make sure that what we
//! locked is still what the path names.
//!
//! The socket is bound under a temporary name, listens, and is then renamed: the path appears only when connections
//! are accepted.

#![forbid(unsafe_code)]

use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Gid, Mode, OFlags, chmodat, chownat, flock, fstat, openat,
    renameat, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, accept_with, bind, listen, shutdown, socket_with,
};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::accepted::Accepted;
use super::disposal::Disposal;
use super::path::address;
use crate::advice::on_place;
use crate::kill::kill_point;
use crate::sys::refuse_descriptors;

/// Why no server can listen at a path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Another server holds the path.
    #[error("another server is running at {0:?}: stop it, or choose another socket")]
    InUse(PathBuf),
    /// Something that is not a socket lies there.
    #[error("{0:?} exists and is not a socket: remove it, or choose another path")]
    NotASocket(PathBuf),
    /// The path ends without a name that a socket could have.
    #[error("{0:?} names no file: use a path that ends in a name for the socket")]
    NoFileName(PathBuf),
    /// The path is too long for a socket address.
    #[error("{0:?} is too long for a socket: use a path of at most 104 bytes")]
    TooLong(PathBuf),
    /// The socket cannot be given to the one group that is allowed.
    #[error(
        "cannot open the socket to group {group}, which this user is no member of: start the server as a member or \
         as root, or allow users in its place"
    )]
    ForeignGroup {
        /// The group.
        group: u32,
    },
    /// A system call failed.
    #[error("cannot {action} {path:?}: {source}{}", on_place(source))]
    System {
        /// What was being done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Tries to lock a lock file that keeps being replaced.
const LOCK_TRIES: u32 = 100;

/// A listening socket, its path and its lock.
#[derive(Debug)]
pub(crate) struct Listener {
    /// There until it is dropped.
    socket: Option<OwnedFd>,
    path: PathBuf,
    /// The socket's identity, so that only our own is ever removed.
    inode: (u64, u64),
    lock_path: PathBuf,
    lock: Option<OwnedFd>,
    /// Where the kernel lets strangers send descriptors: what closes them.
    disposal: Option<Disposal>,
}

impl Listener {
    /// Locks the path, removes a socket that a dead server left there, and listens. `mode` and `group` are the socket's.
    pub(crate) fn bind(path: &Path, mode: u32, group: Option<u32>) -> Result<Listener, ListenError> {
        // The files beside it would lie in the directory instead.
        if path.file_name().is_none() || path.as_os_str().as_bytes().ends_with(b"/") {
            return Err(ListenError::NoFileName(path.to_owned()));
        }
        let lock_path = beside(path, ".lock");
        let lock = lock(path, &lock_path)?;
        kill_point!("listen.locked");
        match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) if FileType::from_raw_mode(found.st_mode) != FileType::Socket => {
                remove(&lock_path);
                return Err(ListenError::NotASocket(path.to_owned()));
            }
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(system("look at", path)(errno)),
        }
        let temporary = beside(path, ".new");
        remove(&temporary);
        let made = listen_at(&temporary, path, mode, group);
        if made.is_err() {
            remove(&temporary);
            remove(&lock_path);
        }
        let (socket, inode, disposal) = made?;
        Ok(Listener {
            socket: Some(socket),
            path: path.to_owned(),
            inode,
            lock_path,
            lock: Some(lock),
            disposal,
        })
    }

    /// The next connection, without waiting.
    pub(crate) fn accept(&self) -> rustix::io::Result<Accepted> {
        let socket = accept_with(self.as_fd(), SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        Accepted::new(socket, self.disposal.clone())
    }

    /// Nobody can connect any more. Those who wait can still be accepted.
    pub(crate) fn shut(&self) {
        let _ = shutdown(self.as_fd(), Shutdown::Read);
    }

    /// Removes the socket, if it is still ours: nobody can connect any more, but the path stays locked.
    pub(crate) fn hide(&self) {
        if self.lock.is_some() && inode_of(&self.path) == Ok(self.inode) {
            remove(&self.path);
        }
    }

    /// Removes the socket and the lock file. Idempotent.
    pub(crate) fn remove(&mut self) {
        if self.lock.is_none() {
            return;
        }
        self.hide();
        kill_point!("listen.hidden");
        // While it is still locked, so that what is removed is what others may be waiting to lock.
        remove(&self.lock_path);
        kill_point!("listen.removed");
        self.lock = None;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.remove();
        // Its close would drop the connections that wait, with all that lies in them: see `accepted`.
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
            None => unreachable!("it is taken by the drop alone"),
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

fn remove(path: &Path) {
    let _ = unlinkat(CWD, path, AtFlags::empty());
}

fn inode_of(path: &Path) -> Result<(u64, u64), Errno> {
    statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).map(|found| (found.st_dev, found.st_ino))
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
        let locked = fstat(&file).map_err(system("look at", lock_path))?;
        if inode_of(lock_path) == Ok((locked.st_dev, locked.st_ino)) {
            return Ok(file);
        }
        // Its former holder removed it between our open and our lock: lock what the path names now.
    }
    Err(ListenError::InUse(path.to_owned()))
}

fn listen_at(
    temporary: &Path,
    path: &Path,
    mode: u32,
    group: Option<u32>,
) -> Result<(OwnedFd, (u64, u64), Option<Disposal>), ListenError> {
    let (address, _directory) = address(temporary).map_err(|errno| match errno {
        Errno::NAMETOOLONG => ListenError::TooLong(path.to_owned()),
        errno => system("create the socket", temporary)(errno),
    })?;
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .map_err(system("make a socket for", path))?;
    // Before anybody can connect: every connection inherits it.
    let disposal = refuse_descriptors(socket.as_fd()).err().map(|_| Disposal::default());
    // The file takes its mode from the socket, so it is never open to more than ourselves.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(system("set the mode of", path))?;
    bind(&socket, &address).map_err(system("create the socket", temporary))?;
    kill_point!("listen.bound");
    if let Some(group) = group {
        chownat(CWD, temporary, None, Some(Gid::from_raw(group)), AtFlags::SYMLINK_NOFOLLOW).map_err(
            |errno| match errno {
                Errno::PERM => ListenError::ForeignGroup { group },
                errno => system("set the group of", path)(errno),
            },
        )?;
    }
    chmodat(CWD, temporary, Mode::from_raw_mode(mode), AtFlags::empty())
        .map_err(system("set the mode of", path))?;
    listen(&socket, BACKLOG).map_err(system("listen at", path))?;
    kill_point!("listen.listening");
    let inode = inode_of(temporary).map_err(system("look at", path))?;
    renameat(CWD, temporary, CWD, path).map_err(system("create the socket", path))?;
    kill_point!("listen.renamed");
    Ok((socket, inode, disposal))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    #[test]
    fn one_server_a_path_and_nothing_left_behind() {
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

    #[test]
    fn places_that_cannot_be_are_named() {
        let scratch = tempfile::tempdir().unwrap();
        let long = scratch.path().join("x".repeat(120));
        let error = Listener::bind(&long, 0o600, None).unwrap_err();
        assert!(matches!(error, ListenError::TooLong(_)), "{error}");
        let nowhere = scratch.path().join("missing/bus");
        let error = Listener::bind(&nowhere, 0o600, None).unwrap_err();
        assert!(matches!(error, ListenError::System { .. }), "{error}");
    }
}
