#![allow(unsafe_code)]

//! The socket options that no safe wrapper offers, or not for all their values.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// `SO_PEERGROUPS` (Linux 4.13) and `SO_PEERPIDFD` (Linux 6.5), from the kernel's generic socket header.
const PEER_GROUPS: libc::c_int = 59;
const PEER_PIDFD: libc::c_int = 77;

/// `SO_PEERCRED`. The pid is 0 if the peer lives in a process namespace that this one does not see.
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    let mut found = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut bytes = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the pointer and `bytes` describe `found`, plain integers for any of whose values there is a meaning.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &mut bytes,
        )
    };
    if answer == 0 { Ok(found) } else { Err(io::Error::last_os_error()) }
}

/// The supplementary groups that the peer of a Unix socket had when it connected.
pub(crate) fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let room = groups.len() * size_of::<libc::gid_t>();
        let mut bytes = room as libc::socklen_t;
        // SAFETY: the pointer and `bytes` describe the vector's initialised memory; the kernel writes at most that
        // many bytes there and the length to `bytes`. The descriptor is open: it is borrowed.
        let answer = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                PEER_GROUPS,
                groups.as_mut_ptr().cast(),
                &mut bytes,
            )
        };
        let needed = bytes as usize / size_of::<libc::gid_t>();
        if answer == 0 {
            groups.truncate(needed);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || needed <= groups.len() {
            return Err(error);
        }
        groups.resize(needed, 0);
    }
}

/// A pidfd of the process that connected: unlike its number it is never another process's. An error where the kernel
/// does not know the option, or the process is gone.
pub(crate) fn peer_pidfd(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut fd: RawFd = -1;
    let mut bytes = size_of::<RawFd>() as libc::socklen_t;
    // SAFETY: the pointer and `bytes` describe `fd`, which the kernel fills with a descriptor.
    let answer = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, PEER_PIDFD, (&raw mut fd).cast(), &mut bytes)
    };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // SAFETY: the call succeeded and made this descriptor for us; nobody else knows it. It is close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_peer_in_this_process_has_this_process_s_groups() {
        let (here, _there) = UnixStream::pair().unwrap();
        let mut groups = peer_groups(here.as_fd()).unwrap();
        let mut own: Vec<u32> = rustix::process::getgroups().unwrap().iter().map(|g| g.as_raw()).collect();
        groups.sort_unstable();
        own.sort_unstable();
        assert_eq!(groups, own);
    }

    #[test]
    fn a_peer_s_pidfd_is_closed_on_exec() {
        let (here, _there) = UnixStream::pair().unwrap();
        if let Ok(fd) = peer_pidfd(here.as_fd()) {
            assert!(rustix::io::fcntl_getfd(&fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        }
    }
}
