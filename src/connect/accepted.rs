//! `Accepted`: the server's end of one connection, safe against descriptors that the client sends.
//!
//! The server's main thread must never receive, drop or close a descriptor that a client sent. The sender
//! decides how long the last close of a descriptor takes: a lingering TCP socket, or a memory file of some
//! gigabytes, would block the thread that serves registrations, deaths and shutdown for everyone.
//!
//! Since Linux 6.16 a listening socket can refuse descriptors for all connections it accepts
//! (`SO_PASSRIGHTS`): the sender gets `EPERM`, and nothing else is needed. On older kernels each connection
//! has a [`Disposal`], and these steps keep the rule:
//!
//! - *Receiving.* A receive without room for descriptors drops those in the datagram. So the first datagram
//!   is peeked at before (`MSG_PEEK`). The kernel reports by `MSG_CTRUNC` whether it has descriptors, and
//!   drops only the references it made for this peek; the datagram in the queue keeps its own. A datagram
//!   with descriptors is never received: it breaks the protocol, so the connection ends. Datagrams arrive in
//!   order and nobody else receives here, so the datagram peeked at is the one received next.
//! - *Closing.* Closing a socket drops what is in its queue. So the queue is shut down first (`SHUT_RD`:
//!   later senders get `EPIPE`) and then emptied, datagram by datagram, until one has descriptors. If none
//!   has, the socket is closed at once, else on a thread of the [`Disposal`]. An empty datagram looks like
//!   the end of the connection, so each peek asks for credentials, which every datagram has and the end has
//!   not. When in doubt, the disposal closes the socket. All this happens in [`Accepted`]'s drop, so that no
//!   path, not even a panic, avoids it.
//! - *Connections not yet accepted* are in the listener's queue and would be closed with it. So the
//!   [listener](super::Listener) shuts its queue down, accepts all waiting connections, and closes each as
//!   above.
//!
//! No other system call of the server drops a client's descriptors: `send` works on the client's queue;
//! `shutdown`, `getsockopt` and the like work on none.
//!
//! What the disposal holds is bounded. Its sockets count as connections that have not registered (see
//! `server::admission`). And each socket that cannot be closed at once holds a descriptor in flight, which
//! the kernel charges to its sender, up to that user's limit of open files.

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
use super::greeting::MOST_DESCRIPTORS;
use crate::os::descriptors;
use crate::os::sockets;

/// An accepted connection. Dropping it ends it for the client at once.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// `Some` until the drop.
    socket: Option<OwnedFd>,
    /// The socket's file, to notice if the descriptor number was closed and reused by other code.
    file: Option<(u64, u64)>,
    who: Credentials,
    /// `Some` if the kernel cannot refuse descriptors.
    disposal: Option<Disposal>,
}

/// The result of an attempt to receive a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    Nothing,
    /// A datagram of this length. If the buffer was shorter, it holds the beginning.
    Datagram(usize),
    /// The next datagram has descriptors, so it was not received.
    Descriptors,
    /// The receive failed in this process, which says nothing about the client.
    Failed(Errno),
    /// The connection ended. An empty datagram counts as that, too.
    End,
}

/// The credentials of an unknown process.
const UNKNOWN: Credentials = Credentials { pid: 0, uid: u32::MAX, gid: u32::MAX };

impl Accepted {
    /// Takes over an accepted socket. Needs a disposal if the listener cannot refuse descriptors. Fails if
    /// the kernel does not tell who the client is.
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
            None => unreachable!("only the drop takes it"),
        }
    }

    /// Receives the next datagram if there is one. Does not wait.
    pub(crate) fn hear(&self, datagram: &mut [u8]) -> Heard {
        if self.disposal.is_some() {
            // Never receive a datagram without having peeked at it.
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

    /// What an error of a receive means. Few errors come from the client; for the others, `poll` tells
    /// whether the client is gone.
    fn heard_by(&self, errno: Errno) -> Heard {
        match errno {
            Errno::AGAIN | Errno::INTR => Heard::Nothing,
            Errno::CONNRESET | Errno::PIPE | Errno::NOTCONN => Heard::End,
            _ if self.has_ended() => Heard::End,
            errno => Heard::Failed(errno),
        }
    }

    /// Whether the client has closed its end. Receives nothing.
    fn has_ended(&self) -> bool {
        let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut looked = [PollFd::new(self.socket(), PollFlags::RDHUP)];
        poll(&mut looked, Some(&now)).is_ok()
            && looked[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP)
    }

    /// Like [`look`](Self::look), but past `ECONNRESET`, which the kernel reports once, before any datagram.
    fn look_past_reset(&self) -> rustix::io::Result<ReturnFlags> {
        match self.look() {
            Err(Errno::CONNRESET) => self.look(),
            looked => looked,
        }
    }

    /// Peeks at the first datagram. The flag `CTRUNC` says that it has descriptors.
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

    /// Like [`send`](Self::send), with descriptors of this process, at most as many as come with one
    /// answer.
    pub(crate) fn send_with(
        &self,
        datagram: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> rustix::io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(Errno::INVAL);
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(self.socket(), &[IoSlice::new(datagram)], &mut control, flags)
    }

    /// Whether the client has received everything that was sent, or closed its end. If the kernel does not
    /// tell, the client gets the benefit of the doubt.
    pub(crate) fn is_all_taken(&self) -> bool {
        sockets::unreceived(self.as_fd()).map_or(true, |amount| amount == 0)
    }

    /// Ends the connection for the client, which may still read what was sent.
    pub(crate) fn end(&self) {
        let _ = shutdown(self.socket(), Shutdown::Both);
    }

    /// Moves the socket to the lowest free descriptor number.
    pub(crate) fn renumber(&mut self) {
        // This closes the old number, but not the last descriptor of the socket.
        if let Ok(lower) = fcntl_dupfd_cloexec(self.socket(), 0) {
            self.socket = Some(lower);
        }
    }

    /// Empties the queue, which must be shut down, up to the first datagram with descriptors. Returns whether
    /// the queue is certainly empty now.
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

    /// Peeks at the first datagram of the queue, which must be shut down and have `SO_PASSCRED` set.
    fn first(&self) -> First {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        for _ in 0..2 {
            let mut sender = RecvAncillaryBuffer::new(&mut space);
            match recvmsg(self.socket(), &mut [IoSliceMut::new(&mut [0])], &mut sender, flags) {
                // The buffer has room for credentials only, so there are descriptors, too.
                Ok(found) if found.flags.contains(ReturnFlags::CTRUNC) => return First::Unsure,
                Ok(_) if sender.drain().next().is_some() => return First::Plain,
                Ok(_) | Err(Errno::AGAIN) => return First::Nothing,
                // Reported once, before any datagram.
                Err(Errno::CONNRESET) => {}
                Err(_) => return First::Unsure,
            }
        }
        First::Unsure
    }

    /// Receives and drops a datagram without descriptors.
    fn drop_first(&self) -> bool {
        recv(self.socket(), &mut [0; 1], RecvFlags::DONTWAIT).is_ok()
    }
}

/// What is at the front of the queue of a connection that is being closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Nothing,
    /// A datagram without descriptors.
    Plain,
    /// A datagram with descriptors, or the kernel did not tell.
    Unsure,
}

/// More datagrams than fit into a sender's buffer.
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
        // A forked child may hold the socket too, so closing it here would not end the connection.
        let ended = shutdown(self.socket(), Shutdown::Both);
        let Some(disposal) = &self.disposal else { return };
        // `ENOTCONN`: there is no connection, so nothing can arrive either.
        let has_ended = matches!(ended, Ok(()) | Err(Errno::NOTCONN));
        if has_ended && self.empty() {
            return;
        }
        if let Some(socket) = self.socket.take() {
            disposal.close(self.who.uid, socket, self.file);
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

    /// Programs that use fixed descriptor numbers do this.
    #[test]
    fn a_descriptor_number_that_was_reused_is_not_closed() {
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
    fn datagrams_with_descriptors_are_not_received() {
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

    /// The kernel reports the reset first, which hides the datagram from the first peek.
    #[test]
    fn datagrams_with_descriptors_are_not_received_after_a_reset() {
        let (here, there, _) = pair();
        here.send(b"unread").unwrap();
        say_with_descriptor(&there, b"x");
        drop(there);
        assert_eq!(here.hear(&mut [0; 8]), Heard::Descriptors);
    }

    #[test]
    fn only_a_queue_without_descriptors_is_emptied_on_this_thread() {
        type Action = fn(&OwnedFd);
        let plain: [Action; 4] = [
            |_| {},
            |there| say(there, b"x"),
            |there| say(there, b""),
            |there| (0..100).for_each(|number| say(there, &b"xx"[..number % 3])),
        ];
        let others: [Action; 4] = [
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
        let all = plain.map(|act| (act, true)).into_iter().chain(others.map(|act| (act, false)));
        for ((act, empty), leaves) in all.flat_map(|case| [(case, false), (case, true)]) {
            let (here, there, _) = pair();
            act(&there);
            let there = (!leaves).then_some(there);
            shutdown(&here, Shutdown::Both).unwrap();
            assert_eq!(here.empty(), empty, "leaves: {leaves}");
            if let Some(there) = there {
                assert_eq!(send(&there, b"x", SendFlags::NOSIGNAL), Err(Errno::PIPE));
            }
        }
        // The client closed without receiving everything, which resets the connection.
        let (here, there, disposal) = pair();
        here.send(b"y").unwrap();
        say(&there, b"");
        drop(there);
        shutdown(&here, Shutdown::Both).unwrap();
        assert!(here.empty());
        drop(here);
        assert_eq!(disposal.of_user(rustix::process::geteuid().as_raw()), 0);
    }

    /// On whichever thread the socket is closed, the client sees the end.
    #[test]
    fn a_drop_ends_the_connection() {
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
