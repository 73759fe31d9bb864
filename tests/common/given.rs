//! A socket that listens before its server does, as service managers make it.

use super::{LIMIT, eventually};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use std::os::fd::OwnedFd;
use std::path::Path;

pub fn listening(path: &Path, kind: SocketType) -> OwnedFd {
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    listen(&socket, 10).unwrap();
    socket
}

/// Waits until somebody has connected and was not accepted yet.
pub fn await_connection(socket: &OwnedFd) {
    let limit = Timespec { tv_sec: LIMIT.as_secs() as i64, tv_nsec: 0 };
    let mut looked = [PollFd::new(socket, PollFlags::IN)];
    eventually("somebody connects", || poll(&mut looked, Some(&limit)) == Ok(1));
}
