//! The client's end of the connect channel: connect, ask once, receive the answer.

#![forbid(unsafe_code)]

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, SocketFlags,
    SocketType, connect, recvmsg, send, socket_with,
};
use rustix::time::Timespec;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use super::path::{address, trustworthy};
use super::{Ask, MOST_BYTES, Refusal, Reply, ReplyBody, peer_credentials};
use crate::kill::kill_point;
use crate::protocol::PROTOCOL_VERSION;

/// Why a server could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("no server there")]
    NoServer(io::Error),
    #[error("the path is too long for a socket")]
    TooLong,
    #[error("not permitted: {0}")]
    NotPermitted(io::Error),
    #[error("the server runs as user {uid}, whom this socket does not vouch for")]
    Untrusted { uid: u32 },
    #[error("no answer in time")]
    TimedOut,
    #[error("the other side is not a ringpost server")]
    NotRingpost,
    #[error("the server speaks version {found}")]
    Version { found: u32 },
    #[error("refused: {1}")]
    Refused(Refusal, String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Errno> for DialError {
    fn from(errno: Errno) -> DialError {
        DialError::Io(errno.into())
    }
}

/// A connection to a server whose credentials were checked.
#[derive(Debug)]
pub(crate) struct Line {
    socket: OwnedFd,
}

/// The body of a positive answer, and the descriptor that came with it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body: Vec<u8>,
    pub(crate) descriptor: Option<OwnedFd>,
}

/// A server that is just starting refuses for a moment: its socket has its name before it listens, and before it is open to others.
const STARTING: Duration = Duration::from_millis(50);

/// How long to wait before trying again when the server's backlog is full.
const FULL_BACKLOG: Duration = Duration::from_millis(2);

impl Line {
    /// Connects, and asks who is there.
    pub(crate) fn connect(path: &Path, deadline: Instant) -> Result<Line, DialError> {
        let (address, _directory) = address(path).map_err(|errno| match errno {
            Errno::NAMETOOLONG => DialError::TooLong,
            Errno::ACCESS | Errno::PERM => DialError::NotPermitted(errno.into()),
            errno => DialError::NoServer(errno.into()),
        })?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        kill_point!("dial.socket");
        let began = Instant::now();
        loop {
            match connect(&socket, &address) {
                Ok(()) => break,
                Err(Errno::CONNREFUSED | Errno::ACCESS)
                    if began.elapsed() < STARTING && Instant::now() < deadline =>
                {
                    std::thread::sleep(FULL_BACKLOG);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if Instant::now() >= deadline {
                        return Err(DialError::TimedOut);
                    }
                    std::thread::sleep(FULL_BACKLOG);
                }
                Err(errno @ (Errno::NOENT | Errno::CONNREFUSED | Errno::NOTDIR | Errno::LOOP)) => {
                    return Err(DialError::NoServer(errno.into()));
                }
                // A socket of another type lies there.
                Err(Errno::PROTOTYPE) => return Err(DialError::NotRingpost),
                Err(errno @ (Errno::ACCESS | Errno::PERM)) => {
                    return Err(DialError::NotPermitted(errno.into()));
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        kill_point!("dial.connected");
        let server = peer_credentials(&socket)?;
        let own = rustix::process::geteuid().as_raw();
        if !trustworthy(path, own, server.uid) {
            return Err(DialError::Untrusted { uid: server.uid });
        }
        Ok(Line { socket })
    }

    /// On a socket that is connected, to whom it may be.
    #[cfg(fuzzing)]
    pub(crate) fn on(socket: OwnedFd) -> Line {
        Line { socket }
    }

    /// One request, one answer.
    pub(crate) fn ask(&self, ask: &Ask, deadline: Instant) -> Result<Answer, DialError> {
        // A server that refuses at once may have closed already; its answer is there to be read all the same.
        match send(&self.socket, &ask.encode(), SendFlags::NOSIGNAL) {
            Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => {}
            Err(errno) => return Err(errno.into()),
        }
        kill_point!("dial.asked");
        let (datagram, descriptor) = self.receive(deadline)?;
        kill_point!("dial.answered");
        let reply = Reply::decode(&datagram).ok_or(DialError::NotRingpost)?;
        match reply.body {
            ReplyBody::Refused(refusal, why) if reply.version == PROTOCOL_VERSION => {
                Err(DialError::Refused(refusal, why))
            }
            _ if reply.version != PROTOCOL_VERSION => Err(DialError::Version { found: reply.version }),
            ReplyBody::Done(body) => Ok(Answer { body: body.to_vec(), descriptor }),
            ReplyBody::Refused(refusal, why) => Err(DialError::Refused(refusal, why)),
        }
    }

    fn receive(&self, deadline: Instant) -> Result<(Vec<u8>, Option<OwnedFd>), DialError> {
        let mut datagram = vec![0; MOST_BYTES];
        // Room for a few descriptors: what a strange server sends too many of is received and closed, not leaked.
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let (mut reset, mut truncated) = (false, false);
        loop {
            self.wait_readable(deadline)?;
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let buffers = &mut [IoSliceMut::new(&mut datagram)];
            let received = match recvmsg(&self.socket, buffers, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => {
                    truncated = received.flags.contains(ReturnFlags::CTRUNC);
                    received.bytes
                }
                Err(Errno::AGAIN | Errno::INTR) => continue,
                // Told once, ahead of an answer that was sent before the server closed.
                Err(Errno::CONNRESET) if !reset => {
                    reset = true;
                    continue;
                }
                Err(Errno::CONNRESET) => 0,
                Err(errno) => return Err(errno.into()),
            };
            if received == 0 {
                return Err(DialError::NoServer(io::ErrorKind::ConnectionReset.into()));
            }
            let mut descriptors = Vec::new();
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    descriptors.extend(rights);
                }
            }
            if descriptors.is_empty() && truncated {
                // It was sent, but this process may not have another one.
                return Err(Errno::MFILE.into());
            }
            datagram.truncate(received);
            return Ok((datagram, descriptors.into_iter().next()));
        }
    }

    fn wait_readable(&self, deadline: Instant) -> Result<(), DialError> {
        loop {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return Err(DialError::TimedOut);
            };
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&timeout)) {
                Ok(0) => return Err(DialError::TimedOut),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Keeps the connection as a lifeline.
    pub(crate) fn into_lifeline(self) -> OwnedFd {
        self.socket
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
