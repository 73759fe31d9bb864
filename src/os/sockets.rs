#![allow(unsafe_code)]

//! Options and states of Unix sockets for which `rustix` has no safe call.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `SO_PASSRIGHTS` (Linux 6.16), from the kernel's generic socket header.
const PASS_RIGHTS: libc::c_int = 83;

/// From now on nobody can send descriptors to this Unix socket, nor to those that it will accept: the sender
/// gets `EPERM`. An error where the kernel does not know the option.
pub(crate) fn refuse_descriptors(socket: BorrowedFd<'_>) -> io::Result<()> {
    let pass: libc::c_int = 0;
    // SAFETY: the pointer and the length are those of a plain integer, which the kernel only reads. The
    // descriptor is open: it is borrowed.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            PASS_RIGHTS,
            (&raw const pass).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How much of what was sent on this Unix socket the other side has neither received nor lost by closing
/// (`SIOCOUTQ`). It has no unit: 0 is nothing.
pub(crate) fn unreceived(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut amount: libc::c_int = 0;
    // SAFETY: the request stores an integer where the pointer points, and does nothing else. The descriptor
    // is open: it is borrowed.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut amount) };
    if answer == 0 { Ok(amount.unsigned_abs()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_was_not_received_is_told_until_it_is_received_or_lost() {
        use std::io::{Read, Write};
        let (mut here, mut there) = UnixStream::pair().unwrap();
        assert_eq!(unreceived(here.as_fd()).unwrap(), 0);
        here.write_all(b"x").unwrap();
        assert!(unreceived(here.as_fd()).unwrap() > 0);
        there.read_exact(&mut [0]).unwrap();
        assert_eq!(unreceived(here.as_fd()).unwrap(), 0);
        here.write_all(b"y").unwrap();
        drop(there);
        assert_eq!(unreceived(here.as_fd()).unwrap(), 0);
    }
}
