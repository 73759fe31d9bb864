#![allow(unsafe_code)]

//! Who the peer of a Unix socket is: process, user, groups, and a descriptor of the process.
//!
//! `rustix` does not offer these, or not for all their values.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// `SO_PEERGROUPS` (Linux 4.13) and `SO_PEERPIDFD` (Linux 6.5), from the kernel's generic socket header.
const PEER_GROUPS: libc::c_int = 59;
const PEER_PIDFD: libc::c_int = 77;

/// `SO_PEERCRED`. The pid is 0 if the peer runs in a process namespace that this one cannot see.
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    let mut found = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut bytes = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the pointer and `bytes` describe `found`, which consists of integers, so any bytes are valid.
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
        // SAFETY: the pointer and `bytes` describe the vector's initialised memory; the kernel writes at most
        // that many bytes there and the length to `bytes`. The descriptor is open: it is borrowed.
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

/// A pidfd of the process that connected. Unlike its id, it never means another process. Fails if the kernel
/// does not know the option, or if the process is gone.
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
    // SAFETY: the call has made this descriptor, and nobody else owns it. It is close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::Gid;
    use rustix::thread::set_thread_groups;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_peer_in_this_process_is_this_process() {
        let (here, _there) = UnixStream::pair().unwrap();
        let found = peer_credentials(here.as_fd()).unwrap();
        assert_eq!(u32::try_from(found.pid), Ok(std::process::id()));
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        assert_eq!((found.uid, found.gid), (user.as_raw(), group.as_raw()));
    }

    #[test]
    fn a_peer_in_this_process_has_this_process_s_groups() {
        let (here, _there) = UnixStream::pair().unwrap();
        let mut groups = peer_groups(here.as_fd()).unwrap();
        let mut own: Vec<u32> = rustix::process::getgroups().unwrap().iter().map(|g| g.as_raw()).collect();
        groups.sort_unstable();
        own.sort_unstable();
        assert_eq!(groups, own);
    }

    /// Uses more groups than fit into the first attempt's buffer.
    #[test]
    fn all_of_many_groups_are_told() {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("skipped: only root can be a member of any group");
        }
        let many: Vec<u32> = (1..=1000).collect();
        let gids: Vec<Gid> = many.iter().map(|gid| Gid::from_raw(*gid)).collect();
        // Changes only the groups of this thread, which ends with the test.
        let found = std::thread::spawn(move || {
            set_thread_groups(&gids).unwrap();
            let (here, _there) = UnixStream::pair().unwrap();
            peer_groups(here.as_fd()).unwrap()
        });
        assert_eq!(found.join().unwrap(), many);
    }

    #[test]
    fn what_is_no_socket_has_no_peer() {
        let (pipe, _writer) = io::pipe().unwrap();
        let errors = [
            peer_credentials(pipe.as_fd()).map(|_| ()).unwrap_err(),
            peer_groups(pipe.as_fd()).map(|_| ()).unwrap_err(),
            peer_pidfd(pipe.as_fd()).map(|_| ()).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK), "{error}");
        }
    }

    #[test]
    fn a_peer_s_pidfd_is_the_peer_s_and_closed_on_exec() {
        let (here, _there) = UnixStream::pair().unwrap();
        match peer_pidfd(here.as_fd()) {
            Ok(fd) => {
                assert!(rustix::io::fcntl_getfd(&fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
                let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
                assert!(about.contains(&format!("\nPid:\t{}\n", std::process::id())), "{about}");
            }
            // Before Linux 6.5.
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOPROTOOPT), "{error}"),
        }
    }
}
