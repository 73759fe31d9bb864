//! `Connection`: a client's connection to a server, which an untrusted server cannot make block.
//!
//! Datagrams and their descriptors stay in the connection until they are received, and the last close of a
//! descriptor takes as long as its sender chose ([`disposal`](super::disposal)). So the thread that uses the
//! connection never drops a datagram with descriptors nor closes the last copy of one:
//!
//! - [`look`](Connection::look) peeks: it leaves the datagram in place and returns copies of the descriptors.
//! - [`take`](Connection::take) removes a datagram only if it has no descriptors, or those expected while
//!   copies of them are held.
//! - A connection that is not empty is closed on another thread. An empty one that can receive nothing more
//!   is closed at once.

#![forbid(unsafe_code)]

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, RecvMsg, ReturnFlags, Shutdown, recvmsg, shutdown,
};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;

use super::disposal::close_elsewhere;
use crate::os::descriptors;
use crate::os::sockets;
use crate::shm::PerProcess;

/// The kernel passes at most so many at once (`SCM_MAX_FD`).
const MOST_DESCRIPTORS: usize = 253;

/// Has another address in a forked child, which tells the child from its parent.
static PROCESS: PerProcess<u8> = PerProcess::new();

/// A connection that is closed when dropped. Dropping it in a forked child does not end the parent's.
#[derive(Debug)]
pub(crate) struct Connection {
    /// `Some` until the drop.
    socket: Option<OwnedFd>,
    process: &'static u8,
    /// The socket's file, to notice if the descriptor number was closed and reused by other code.
    file: Option<(u64, u64)>,
}

/// The first datagram in a connection.
#[derive(Debug)]
pub(super) struct Seen {
    /// Its length in bytes; 0 at the end of the connection.
    pub(super) bytes: usize,
    pub(super) descriptors: Descriptors,
    /// The datagram has more descriptors than this process may open.
    pub(super) cut: bool,
}

/// Descriptors that a server sent. Those not taken are closed on another thread: in a FUSE file system even a
/// close that is not the last one may take long.
#[derive(Debug, Default)]
pub(crate) struct Descriptors(Vec<OwnedFd>);

impl Descriptors {
    #[cfg(test)]
    pub(crate) fn of(descriptors: impl IntoIterator<Item = OwnedFd>) -> Descriptors {
        Descriptors(descriptors.into_iter().collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn first(&self) -> Option<&OwnedFd> {
        self.0.first()
    }

    /// Returns the descriptor if there is exactly one; the caller closes it.
    pub(crate) fn only(mut self) -> Option<OwnedFd> {
        if self.len() == 1 { self.0.pop() } else { None }
    }

    /// Returns the first descriptor, if it is what it should be; the caller closes it.
    pub(crate) fn next_if<T>(&mut self, check: impl FnOnce(&OwnedFd) -> Option<T>) -> Option<(OwnedFd, T)> {
        let checked = check(self.0.first()?)?;
        Some((self.0.remove(0), checked))
    }

    /// Returns the descriptors, in the order in which they were sent, if there are exactly so many; the
    /// caller closes them.
    pub(crate) fn exactly<const N: usize>(mut self) -> Option<[OwnedFd; N]> {
        if self.len() != N {
            return None;
        }
        std::mem::take(&mut self.0).try_into().ok()
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        self.0.drain(..).for_each(close_elsewhere);
    }
}

impl Connection {
    /// Makes a connection from a connected socket.
    pub(crate) fn of(socket: OwnedFd) -> io::Result<Connection> {
        let file = descriptors::file(&socket);
        Ok(Connection { process: PROCESS.get_or_make(|| Ok(0))?, socket: Some(socket), file })
    }

    /// Whether this process made it, and not a process that this one was forked from.
    pub(super) fn is_ours(&self) -> bool {
        PROCESS.get().is_some_and(|ours| ptr::eq(ours, self.process))
    }

    /// Whether the descriptor number is still that of this socket: other code may have closed it.
    pub(crate) fn has_its_number(&self) -> bool {
        self.file.is_some() && descriptors::file(self) == self.file
    }

    /// Makes the kernel refuse descriptors from now on, if it can (Linux 6.16).
    pub(super) fn refuse_descriptors(&self) {
        let _ = sockets::refuse_descriptors(self.as_fd());
    }

    /// Peeks at the first datagram. Does not block.
    pub(super) fn look(&self, into: &mut [u8]) -> rustix::io::Result<Seen> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let seen = receive(self.as_fd(), into, &mut control, RecvFlags::PEEK)?;
        let mut descriptors = Descriptors::default();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.0.extend(rights);
            }
        }
        Ok(Seen { bytes: seen.bytes, descriptors, cut: seen.flags.contains(ReturnFlags::CTRUNC) })
    }

    /// Removes the first datagram, after a [`look`](Self::look). Its descriptors are dropped, so the caller
    /// must hold copies of them.
    pub(super) fn take(&self) -> rustix::io::Result<()> {
        let take =
            || receive(self.as_fd(), &mut [0], &mut RecvAncillaryBuffer::default(), RecvFlags::empty());
        let taken = match take() {
            // The other side has closed since the look, and not read everything. That is told once.
            Err(Errno::CONNRESET) => take(),
            taken => taken,
        };
        taken.map(drop)
    }

    /// Makes sure that nothing more arrives. Does nothing in a forked child.
    pub(super) fn end_receiving(&self) {
        if self.is_ours() && self.has_its_number() {
            let _ = shutdown(self, Shutdown::Read);
        }
    }

    /// Ends the connection for both sides, even if a forked child holds it too. The descriptor stays open.
    /// Async-signal-safe: it makes two system calls and leaves `errno` unchanged.
    pub(crate) fn hang_up(&self) {
        if self.has_its_number() {
            let _ = shutdown(self, Shutdown::Both);
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_ref().expect("only the drop takes it").as_fd()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let ours = self.is_ours();
        let has_its_number = self.has_its_number();
        let Some(socket) = self.socket.take() else { return };
        if !has_its_number {
            return descriptors::close_if(false, Some(socket));
        }
        // Nothing can arrive from now on. A forked child must not do this to its parent's connection.
        if ours {
            let _ = shutdown(&socket, Shutdown::Read);
        }
        if is_empty(socket.as_fd()) {
            drop(socket);
        } else {
            close_elsewhere(socket);
        }
    }
}

/// Whether a connection has no datagram. An empty datagram differs from the end of the connection: every
/// datagram has a sender with an address.
fn is_empty(socket: BorrowedFd<'_>) -> bool {
    loop {
        match receive(socket, &mut [0], &mut RecvAncillaryBuffer::default(), RecvFlags::PEEK) {
            Ok(seen) => {
                let cut = seen.flags.contains(ReturnFlags::CTRUNC);
                return seen.bytes == 0 && seen.address.is_none() && !cut;
            }
            Err(Errno::AGAIN) => return true,
            // `ECONNRESET` (the server closed before it read everything) is reported once, before datagrams.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Err(_) => return false,
        }
    }
}

fn receive(
    socket: BorrowedFd<'_>,
    into: &mut [u8],
    control: &mut RecvAncillaryBuffer<'_>,
    how: RecvFlags,
) -> rustix::io::Result<RecvMsg> {
    let flags = how | RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    recvmsg(socket, &mut [IoSliceMut::new(into)], control, flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
        SocketType, accept, bind, connect, listen, sendmsg, socket_with,
    };
    use std::io::{IoSlice, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    /// Longer than any test.
    const LINGER: Duration = Duration::from_secs(60);

    fn seqpacket() -> OwnedFd {
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    /// A client's end and the server's.
    fn connected() -> (Connection, OwnedFd) {
        let directory = tempfile::tempdir().unwrap();
        let address = SocketAddrUnix::new(&*directory.path().join("bus")).unwrap();
        let (listener, client) = (seqpacket(), seqpacket());
        bind(&listener, &address).unwrap();
        listen(&listener, 1).unwrap();
        connect(&client, &address).unwrap();
        (Connection::of(client).unwrap(), accept(&listener).unwrap())
    }

    fn send_with(
        socket: &OwnedFd,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> rustix::io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(descriptors.is_empty() || control.push(SendAncillaryMessage::ScmRights(descriptors)));
        sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::empty())
    }

    /// A socket whose last close lasts until its other end is closed.
    fn lingering() -> (OwnedFd, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (other, _) = listener.accept().unwrap();
        rustix::net::sockopt::set_socket_send_buffer_size(&socket, 1 << 16).unwrap();
        socket.set_nonblocking(true).unwrap();
        while socket.write(&[0; 1 << 16]).is_ok() {}
        rustix::net::sockopt::set_socket_linger(&socket, Some(LINGER)).unwrap();
        (socket.into(), other)
    }

    #[test]
    fn descriptors_of_a_server_are_closed_on_another_thread() {
        type Case = (Option<&'static [u8]>, &'static [u8], usize);
        let cases: [Case; 3] = [(None, b"x", 1), (Some(b""), b"", 1), (Some(b"y"), b"x", 3)];
        for (before, bytes, copies) in cases {
            let (client, server) = connected();
            if let Some(before) = before {
                send_with(&server, before, &[]).unwrap();
            }
            let (socket, other) = lingering();
            send_with(&server, bytes, &vec![socket.as_fd(); copies]).unwrap();
            drop((socket, server));
            let began = Instant::now();
            if before.is_none() {
                let seen = client.look(&mut [0; 8]).unwrap();
                assert_eq!((seen.bytes, seen.descriptors.len(), seen.cut), (bytes.len(), copies, false));
            }
            drop(client);
            assert!(began.elapsed() < LINGER / 2, "it was closed here: {before:?}");
            drop(other);
        }
    }

    #[test]
    fn an_expected_descriptor_is_received() {
        let (client, server) = connected();
        assert_eq!(client.look(&mut [0; 8]).unwrap_err(), Errno::AGAIN);
        let (mut reader, writer) = io::pipe().unwrap();
        send_with(&server, b"take it", &[writer.as_fd()]).unwrap();
        drop(writer);
        let mut datagram = [0; 16];
        for _ in 0..2 {
            let seen = client.look(&mut datagram).unwrap();
            assert_eq!((&datagram[..seen.bytes], seen.descriptors.len()), (&b"take it"[..], 1));
        }
        let descriptor = client.look(&mut datagram).unwrap().descriptors.only().unwrap();
        client.take().unwrap();
        assert!(is_empty(client.as_fd()));
        std::fs::File::from(descriptor).write_all(b"through it").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through it", "and no copy is left open");
    }

    #[test]
    fn several_descriptors_come_whole_and_in_order() {
        let (client, server) = connected();
        let pipes = [(); 4].map(|()| io::pipe().unwrap());
        let readers = pipes.each_ref().map(|(reader, _)| reader.as_fd());
        send_with(&server, b"x", &readers).unwrap();
        let look = || client.look(&mut [0; 8]).unwrap().descriptors;
        assert!(look().exactly::<3>().is_none() && look().exactly::<5>().is_none());
        let found = look().exactly::<4>().unwrap();
        assert_eq!(found.map(|fd| descriptors::file(&fd)), readers.map(descriptors::file));
    }

    #[test]
    fn an_empty_datagram_is_not_taken_for_the_end() {
        let (client, server) = connected();
        assert!(is_empty(client.as_fd()));
        send_with(&server, b"", &[]).unwrap();
        assert!(!is_empty(client.as_fd()));
        client.take().unwrap();
        assert!(is_empty(client.as_fd()));
        drop(server);
        assert!(is_empty(client.as_fd()));
        assert_eq!(client.look(&mut [0]).unwrap().bytes, 0);
    }

    #[test]
    fn descriptors_are_refused_if_the_kernel_can() {
        let (client, server) = connected();
        client.refuse_descriptors();
        match send_with(&server, b"x", &[server.as_fd()]) {
            Err(errno) => assert_eq!(errno, Errno::PERM),
            Ok(_) => eprintln!("skipped: this kernel cannot refuse descriptors"),
        }
    }
}
