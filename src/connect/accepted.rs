//! The server's end of one connection. Through it the server's thread never receives, drops or closes a
//! descriptor that the other side sent.
//!
//! That is a rule because the last close of a descriptor lasts as long as its sender likes: a TCP socket that
//! lingers, or a memory file of some gigabytes, would stop the thread that serves members, deaths and
//! shutdown for all.
//!
//! Since Linux 6.16 a listening socket can refuse descriptors for every connection that it will accept
//! (`SO_PASSRIGHTS`): their sender gets `EPERM`, and nothing more is to be done. On older kernels a
//! connection here has a [`Disposal`], and these steps keep the rule:
//!
//! - *Receiving.* A receive without room for descriptors drops those that came along. So the first datagram
//!   is looked at before (`MSG_PEEK`): the kernel says by `MSG_CTRUNC` whether there are any, and drops only
//!   references that it made for this look; the datagram in the queue holds its own. A datagram with
//!   descriptors is never received. It breaks the protocol, and with it the connection ends. Datagrams come
//!   in order and nobody else receives here, so what was looked at is what is received next.
//! - *Closing.* The close of a socket drops what lies in its queue. So the queue is ended first (`SHUT_RD`:
//!   whoever still sends gets `EPIPE`), and emptied then, datagram by datagram, until one has descriptors. If
//!   none has, the socket is closed at once, and else on a thread of the [`Disposal`]. A datagram without
//!   bytes looks like an end, so each look asks for credentials, which every datagram has and an end has not.
//!   When in doubt, the disposal closes it. This happens in [`Accepted`]'s drop, so that no path leads around
//!   it, not even a panic's.
//! - *Connections that were not accepted yet* lie in the listener's queue, and would be closed with it. So
//!   the [listener](super::Listener) does the same: it ends its queue, accepts all that waits, and closes
//!   each as above.
//!
//! No other system call of the server's drops another's descriptors: `send` works on the other side's queue,
//! `shutdown` and the looks at options and credentials on none.
//!
//! So threads that listen to strangers are not needed: to look is enough. What the disposal holds is bounded:
//! it counts as connections that have not asked (see `server::admission`), and each socket that cannot be
//! closed at once holds a descriptor that the kernel counts as in flight on the account of its sender, up to
//! that user's limit of open files.

#![forbid(unsafe_code)]

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    Shutdown, recv, recvmsg, send, sendmsg, shutdown,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::credentials::{Credentials, peer_credentials};
use super::disposal::Disposal;
use crate::os::descriptors;
use crate::os::sockets;

/// A connection that was accepted. Dropping it ends it for the other side at once.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// There until it is dropped.
    socket: Option<OwnedFd>,
    /// Which file it is, so that its number is not closed when it is another's.
    file: Option<(u64, u64)>,
    who: Credentials,
    /// Where descriptors may come over it.
    disposal: Option<Disposal>,
}

/// What came over a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    Nothing,
    /// A datagram of so many bytes; of more than there was room for, its beginning.
    Datagram(usize),
    /// A datagram with descriptors, which was left where it is.
    Descriptors,
    /// This process could not look, which says nothing about the other side.
    Failed(Errno),
    /// The connection ended. A datagram without bytes counts as that, too.
    End,
}

/// On a process that cannot be told.
const UNKNOWN: Credentials = Credentials { pid: 0, uid: u32::MAX, gid: u32::MAX };

impl Accepted {
    /// Takes over a connection. It has a disposal if its listener does not refuse descriptors. Fails if the
    /// kernel does not say who the other side is.
    pub(super) fn new(socket: OwnedFd, disposal: Option<Disposal>) -> rustix::io::Result<Accepted> {
        let who = peer_credentials(&socket);
        let file = descriptors::file(&socket);
        let accepted =
            Accepted { socket: Some(socket), file, who: *who.as_ref().unwrap_or(&UNKNOWN), disposal };
        match who {
            Ok(_) => Ok(accepted),
            Err(_) => Err(Errno::CONNABORTED),
        }
    }

    #[cfg(test)]
    pub(crate) fn for_test(socket: OwnedFd, uid: u32) -> Accepted {
        let file = descriptors::file(&socket);
        Accepted { socket: Some(socket), file, who: Credentials { uid, ..UNKNOWN }, disposal: None }
    }

    pub(crate) fn who(&self) -> Credentials {
        self.who
    }

    fn socket(&self) -> &OwnedFd {
        match &self.socket {
            Some(socket) => socket,
            None => unreachable!("it is taken by the drop alone"),
        }
    }

    /// What is there now. Does not wait.
    pub(crate) fn hear(&self, datagram: &mut [u8]) -> Heard {
        if self.disposal.is_some() {
            // Nothing is received before a look at it has succeeded.
            match self.look_past_reset() {
                Ok(flags) if flags.contains(ReturnFlags::CTRUNC) => return Heard::Descriptors,
                Ok(_) => {}
                Err(errno) => return self.heard_by(errno),
            }
        }
        match recv(self.socket(), datagram, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
            Ok((_, 0)) => Heard::End,
            Ok((_, whole)) => Heard::Datagram(whole),
            Err(errno) => self.heard_by(errno),
        }
    }

    /// What an error of a receive says. Only few come from the other side; whatever else it is, `poll` tells
    /// whether that is gone.
    fn heard_by(&self, errno: Errno) -> Heard {
        match errno {
            Errno::AGAIN | Errno::INTR => Heard::Nothing,
            Errno::CONNRESET | Errno::PIPE | Errno::NOTCONN => Heard::End,
            _ if self.has_ended() => Heard::End,
            errno => Heard::Failed(errno),
        }
    }

    /// Whether the other side has closed its end, as far as can be told without receiving anything.
    fn has_ended(&self) -> bool {
        let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut looked = [PollFd::new(self.socket(), PollFlags::RDHUP)];
        poll(&mut looked, Some(&now)).is_ok()
            && looked[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP)
    }

    /// A look behind the news that the other side has reset the connection, which is told once, ahead of all
    /// else.
    fn look_past_reset(&self) -> rustix::io::Result<ReturnFlags> {
        match self.look() {
            Err(Errno::CONNRESET) => self.look(),
            looked => looked,
        }
    }

    /// Looks at the first datagram and leaves it there. `CTRUNC` says that it has something alongside.
    fn look(&self) -> rustix::io::Result<ReturnFlags> {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let mut byte = [0];
        let mut nothing = RecvAncillaryBuffer::default();
        Ok(recvmsg(self.socket(), &mut [IoSliceMut::new(&mut byte)], &mut nothing, flags)?.flags)
    }

    /// Sends a datagram, if there is room for it. Does not wait.
    pub(crate) fn send(&self, datagram: &[u8]) -> rustix::io::Result<usize> {
        send(self.socket(), datagram, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
    }

    /// The same with a descriptor of ours.
    pub(crate) fn send_with(&self, datagram: &[u8], descriptor: &OwnedFd) -> rustix::io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [descriptor.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(self.socket(), &[IoSlice::new(datagram)], &mut control, flags)
    }

    /// Whether the other side has received all that was sent, or closed its end. If that cannot be found out,
    /// it is not held against the other side.
    pub(crate) fn is_all_taken(&self) -> bool {
        sockets::unreceived(self.as_fd()).map_or(true, |amount| amount == 0)
    }

    /// Ends the connection for the other side, which may still read what was sent.
    pub(crate) fn end(&self) {
        let _ = shutdown(self.socket(), Shutdown::Both);
    }

    /// Takes the lowest number for its descriptor that is free.
    pub(crate) fn renumber(&mut self) {
        // What is closed here is not the last of it.
        if let Ok(lower) = fcntl_dupfd_cloexec(self.socket(), 0) {
            self.socket = Some(lower);
        }
    }

    /// Receives what lies in its queue, which is ended, as long as no descriptors come along. Whether the
    /// queue is surely empty now.
    fn empty(&self) -> bool {
        if set_socket_passcred(self.socket(), true).is_err() {
            return false;
        }
        for _ in 0..MOST_QUEUED {
            match self.first() {
                First::Nothing => return true,
                First::Plain if self.drop_first() => {}
                _ => return false,
            }
        }
        false
    }

    /// What is first in its queue, which is ended, once datagrams come with their sender.
    fn first(&self) -> First {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        for _ in 0..2 {
            let mut sender = RecvAncillaryBuffer::new(&mut space);
            match recvmsg(self.socket(), &mut [IoSliceMut::new(&mut [0])], &mut sender, flags) {
                // There is room for the sender and for nothing else.
                Ok(found) if found.flags.contains(ReturnFlags::CTRUNC) => return First::Unsure,
                Ok(_) if sender.drain().next().is_some() => return First::Plain,
                Ok(_) | Err(Errno::AGAIN) => return First::Nothing,
                // Told once, ahead of all else.
                Err(Errno::CONNRESET) => {}
                Err(_) => return First::Unsure,
            }
        }
        First::Unsure
    }

    /// Receives a datagram that came without descriptors.
    fn drop_first(&self) -> bool {
        recv(self.socket(), &mut [0; 1], RecvFlags::DONTWAIT).is_ok()
    }
}

/// What is first in the queue of a connection that is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Nothing,
    /// A datagram without descriptors.
    Plain,
    /// One with descriptors, or it cannot be told.
    Unsure,
}

/// More datagrams than a sender has room for in its buffer.
const MOST_QUEUED: usize = 1024;

impl AsFd for Accepted {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        if self.file.is_none() || descriptors::file(self.socket()) != self.file {
            return descriptors::close_if(false, self.socket.take());
        }
        // A forked process may hold it, too: then its close would not be an end.
        let ended = shutdown(self.socket(), Shutdown::Both);
        let Some(disposal) = &self.disposal else { return };
        // Without a connection there is nothing that could be ended, nor anything that could come.
        let has_ended = matches!(ended, Ok(()) | Err(Errno::NOTCONN));
        if has_ended && self.empty() {
            return;
        }
        if let Some(socket) = self.socket.take() {
            disposal.close(self.who.uid, socket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::os::fd::AsRawFd;

    fn pair() -> (Accepted, OwnedFd, Disposal) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (here, there) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let disposal = Disposal::default();
        (Accepted::new(here, Some(disposal.clone())).unwrap(), there, disposal)
    }

    fn say(socket: &OwnedFd, datagram: &[u8]) {
        send(socket, datagram, SendFlags::NOSIGNAL).unwrap();
    }

    fn say_with_descriptor(socket: &OwnedFd, datagram: &[u8]) {
        let (reader, _writer) = std::io::pipe().unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [reader.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(socket, &[IoSlice::new(datagram)], &mut control, SendFlags::NOSIGNAL).unwrap();
    }

    /// As a program does that uses fixed numbers.
    #[test]
    fn a_number_that_is_another_s_by_now_is_left_alone() {
        let (mut accepted, _there, _) = pair();
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        rustix::io::dup2(&near, accepted.socket.as_mut().unwrap()).unwrap();
        let number = accepted.as_fd().as_raw_fd();
        drop(accepted);
        assert_eq!(rustix::io::write(&near, b"x"), Ok(1), "it was ended");
        let link = |number| std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
        assert_eq!(link(number), link(near.as_raw_fd()), "it was closed");
        drop(far);
    }

    #[test]
    fn what_has_descriptors_is_not_received() {
        for datagram in [&b"x"[..], b""] {
            let (here, there, _) = pair();
            let mut space = [0; 8];
            assert_eq!(here.hear(&mut space), Heard::Nothing);
            say(&there, b"first");
            say_with_descriptor(&there, datagram);
            assert_eq!(here.hear(&mut space), Heard::Datagram(5));
            for _ in 0..3 {
                assert_eq!(here.hear(&mut space), Heard::Descriptors);
            }
        }
        let (here, there, _) = pair();
        say(&there, &[1; 20]);
        assert_eq!(here.hear(&mut [0; 8]), Heard::Datagram(20));
        drop(there);
        assert_eq!(here.hear(&mut [0; 8]), Heard::End);
    }

    /// The news of a reset comes ahead of what lies there, and hides it from the first look.
    #[test]
    fn what_has_descriptors_is_not_received_after_a_reset_either() {
        let (here, there, _) = pair();
        here.send(b"unread").unwrap();
        say_with_descriptor(&there, b"x");
        drop(there);
        assert_eq!(here.hear(&mut [0; 8]), Heard::Descriptors);
    }

    #[test]
    fn only_what_has_no_descriptors_is_closed_on_this_thread() {
        type Deed = fn(&OwnedFd);
        let plain: [Deed; 4] = [
            |_| {},
            |there| say(there, b"x"),
            |there| say(there, b""),
            |there| (0..100).for_each(|number| say(there, &b"xx"[..number % 3])),
        ];
        let others: [Deed; 4] = [
            |there| say_with_descriptor(there, b""),
            |there| (0..3).for_each(|_| say_with_descriptor(there, b"x")),
            |there| {
                say(there, b"");
                say(there, b"x");
                say_with_descriptor(there, b"");
            },
            |there| {
                say_with_descriptor(there, b"x");
                say(there, b"x");
            },
        ];
        let all = plain.map(|deed| (deed, true)).into_iter().chain(others.map(|deed| (deed, false)));
        for ((deed, empty), leaves) in all.flat_map(|case| [(case, false), (case, true)]) {
            let (here, there, _) = pair();
            deed(&there);
            let there = (!leaves).then_some(there);
            shutdown(&here, Shutdown::Both).unwrap();
            assert_eq!(here.empty(), empty, "leaves: {leaves}");
            if let Some(there) = there {
                assert_eq!(send(&there, b"x", SendFlags::NOSIGNAL), Err(Errno::PIPE));
            }
        }
        // The other side did not take everything either, and has reset the connection.
        let (here, there, disposal) = pair();
        here.send(b"y").unwrap();
        say(&there, b"");
        drop(there);
        shutdown(&here, Shutdown::Both).unwrap();
        assert!(here.empty());
        drop(here);
        assert_eq!(disposal.of_user(rustix::process::geteuid().as_raw()), 0);
    }

    /// The other side sees the end, wherever the socket is closed.
    #[test]
    fn a_drop_is_an_end() {
        for with_descriptor in [false, true] {
            let (here, there, disposal) = pair();
            if with_descriptor {
                say_with_descriptor(&there, b"x");
            }
            drop(here);
            let heard = recv(&there, &mut [0; 1], RecvFlags::DONTWAIT).map(|(_, whole)| whole);
            assert!(matches!(heard, Ok(0) | Err(Errno::CONNRESET)), "{heard:?}");
            while disposal.of_user(rustix::process::geteuid().as_raw()) > 0 {
                std::thread::yield_now();
            }
        }
    }
}
