#![allow(unsafe_code)]

//! Options and states of Unix sockets for which `rustix` has no safe call.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `SO_PASSRIGHTS` (Linux 6.16), from the kernel's generic socket header.
const PASS_RIGHTS: libc::c_int = 83;

/// Makes this Unix socket, and those that it accepts, refuse descriptors from now on: the sender gets
/// `EPERM`. Fails if the kernel does not know the option.
pub(crate) fn refuse_descriptors(socket: BorrowedFd<'_>) -> io::Result<()> {
    let pass: libc::c_int = 0;
    // SAFETY: pointer and length describe an integer, which the kernel only reads. The descriptor is
    // borrowed, so it is open.
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

/// The amount sent on this Unix socket that the other side has neither received nor dropped by closing
/// (`SIOCOUTQ`). Only 0 has a meaning: nothing.
pub(crate) fn unreceived(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut amount: libc::c_int = 0;
    // SAFETY: the request only stores an integer at the pointer. The descriptor is borrowed, so it is open.
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
