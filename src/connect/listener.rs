//! `Listener`: the server's listening socket, which it makes at a path, or which it was given.
//!
//! The socket is bound at its final path, not renamed to it: cleaners of temporary files spare sockets that
//! `/proc/net/unix` lists. Mode and group are set before it listens. Until then it refuses connections, and
//! clients retry for a moment (`dial.rs`). [`Files`] looks after the socket's file and the lock file.
//!
//! A socket that was given listens already, and others may hold it, too: a service manager does, to keep
//! those who connect waiting from one server to the next. So its file is left alone, and the socket is
//! neither shut nor emptied at the end.

#![forbid(unsafe_code)]

use rustix::fs::{AtFlags, CWD, Gid, Mode, chmodat, chownat};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{
    AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, shutdown,
    socket_with,
};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::accepted::Accepted;
use super::disposal::Disposal;
use super::files::{Files, Inode, Lock, inode_of, remove_own, remove_stale_socket, system};
use super::path::address;
use super::socket_file::SocketFile;
use crate::os::descriptors::{self, close_if};
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
    /// The socket that was given cannot be served on.
    #[error("cannot serve on the socket that was given: {0}")]
    Unfit(String),
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

/// The longest path of a socket, in bytes: a little less than the kernel allows.
const LONGEST: usize = 104;

/// The longest last component of a longer path, which is reached through its directory.
const LONGEST_NAME: usize = 80;

/// A listening socket, and its files.
#[derive(Debug)]
pub(crate) struct Listener {
    /// `Some` until the drop.
    socket: Option<OwnedFd>,
    /// The socket's file, to notice if the descriptor number was closed and reused by other code.
    file: Option<Inode>,
    /// `None` if the socket was given: then its files are not ours.
    files: Option<Files>,
    /// `Some` if the kernel cannot refuse descriptors: closes those that clients send.
    disposal: Option<Disposal>,
}

impl Listener {
    /// Locks the path, removes a dead server's socket, and listens. The socket gets `mode` and `group`.
    pub(crate) fn bind(path: &Path, mode: u32, group: Option<u32>) -> Result<Listener, ListenError> {
        let lock = Lock::of(path)?;
        failpoint!("listen.locked", [server], starting);
        let (socket, inode, disposal) =
            match remove_stale_socket(path).and_then(|()| listen_at(path, mode, group)) {
                Ok(made) => made,
                Err(error) => {
                    lock.remove();
                    return Err(error);
                }
            };
        let file = descriptors::file(&socket);
        Ok(Listener {
            socket: Some(socket),
            file,
            files: Some(Files::new(path, inode, (mode, group), lock)),
            disposal,
        })
    }

    /// Takes a socket that listens already.
    pub(crate) fn given(socket: OwnedFd) -> Result<Listener, ListenError> {
        check(&socket)?;
        let cannot = |errno: Errno| ListenError::Unfit(format!("cannot change its settings: {errno}"));
        // Waiting in `accept` would hold up everyone, should another process be faster.
        ioctl_fionbio(&socket, true).map_err(cannot)?;
        // Only those who connect from now on inherit it. Those who did before may send descriptors.
        let _ = refuse_descriptors(socket.as_fd());
        let file = descriptors::file(&socket);
        Ok(Listener { socket: Some(socket), file, files: None, disposal: Some(Disposal::default()) })
    }

    /// Accepts the next connection. Does not wait.
    pub(crate) fn accept(&self) -> rustix::io::Result<Accepted> {
        let socket = accept_with(self.as_fd(), SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        Accepted::new(socket, self.disposal.clone())
    }

    /// The socket's file, whose mode and group can be changed. `None` if the socket was given.
    pub(crate) fn file(&self) -> Option<SocketFile> {
        self.files.as_ref().map(Files::socket)
    }

    /// The number of this user's connections that are still being closed, because they hold descriptors.
    pub(crate) fn closing_of(&self, uid: u32) -> usize {
        self.disposal.as_ref().map_or(0, |disposal| disposal.of_user(uid))
    }

    /// Stops new connections, and returns whether those that wait are ours to answer. On a socket that was
    /// given they are not: they wait for the next server.
    pub(crate) fn shut(&self) -> bool {
        let ours = self.files.is_some();
        if ours {
            let _ = shutdown(self.as_fd(), Shutdown::Read);
        }
        ours
    }

    /// Removes the socket's file if it is still ours. Nobody can connect any more, but the path stays locked.
    pub(crate) fn hide(&self) {
        if let Some(files) = &self.files {
            files.hide();
        }
    }

    /// Removes the socket and the lock file. Idempotent.
    pub(crate) fn remove(&mut self) {
        if let Some(files) = &mut self.files {
            files.remove();
        }
    }

    /// When [`keep_fresh`](Self::keep_fresh) has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.files.as_ref().map(Files::due)
    }

    /// If it is due, gives both files a new time and recreates the lock file if somebody removed it.
    pub(crate) fn keep_fresh(&mut self, now: Instant) {
        if let Some(files) = &mut self.files {
            files.keep_fresh(now);
        }
    }

    /// Gives the socket up after other code in the process closed its descriptors. Their numbers may have
    /// been reused, so they are not closed.
    pub(crate) fn abandon(&mut self) {
        self.hide();
        close_if(false, self.socket.take());
        if let Some(files) = self.files.take() {
            files.abandon();
        }
    }
}

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
        let is_empty = self.shut()
            && loop {
                match self.accept() {
                    Ok(_) | Err(Errno::INTR | Errno::CONNABORTED) => {}
                    Err(errno) => break errno == Errno::AGAIN,
                }
            };
        if let (false, Some(disposal), Some(socket)) = (is_empty, &self.disposal, self.socket.take()) {
            disposal.close(u32::MAX, socket, self.file);
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

/// Whether a socket that was given can be served on.
fn check(socket: &OwnedFd) -> Result<(), ListenError> {
    let unfit = |why: &str| Err(ListenError::Unfit(why.to_owned()));
    let kind = || Ok((socket_domain(socket)?, socket_type(socket)?, socket_acceptconn(socket)?));
    match kind() {
        Ok((AddressFamily::UNIX, SocketType::SEQPACKET, true)) => Ok(()),
        Ok((AddressFamily::UNIX, SocketType::SEQPACKET, false)) => {
            unfit("it does not listen: call listen before, or let the service manager do so (Accept=no)")
        }
        Ok(_) => unfit(
            "it must be a Unix socket of type SOCK_SEQPACKET (ListenSequentialPacket= in a socket unit)",
        ),
        Err(Errno::NOTSOCK) => unfit("it is not a socket"),
        Err(errno) => unfit(&format!("cannot find out its type: {errno}")),
    }
}

/// Makes a non-blocking `SOCK_SEQPACKET` socket.
pub(super) fn socket_for(path: &Path) -> Result<OwnedFd, ListenError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(system("make a socket for", path))
}

/// The socket's address, and a descriptor that must stay open while the address is used.
pub(super) fn address_of(path: &Path) -> Result<(SocketAddrUnix, Option<OwnedFd>), ListenError> {
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
mod tests;
