//! The client's end of the connect channel: connects, sends one request and receives the answer.

#![forbid(unsafe_code)]

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, connect, send, socket_with};
use rustix::time::Timespec;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use super::connection::{Connection, Descriptors};
use super::path::{address, trustworthy};
use super::{Ask, MOST_BYTES, MOST_DESCRIPTORS, Refusal, Reply, ReplyBody, peer_credentials};
use crate::testing::failpoints::failpoint;
use crate::wire::PROTOCOL_VERSION;

/// Why a request to a server failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("no server listens there")]
    NoServer(io::Error),
    #[error("the path is too long for a socket")]
    TooLong,
    #[error("not permitted: {0}")]
    NotPermitted(io::Error),
    #[error("the server runs as user {uid}, who is not to be trusted with this socket")]
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
    pub(crate) connection: Connection,
}

/// The body of a successful answer, and its descriptors: as many as the request may bring.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body: Vec<u8>,
    pub(crate) descriptors: Descriptors,
}

/// How long a refused connect is repeated. A starting server refuses for a moment: its socket is bound before
/// it listens and before others may access it.
const STARTING: Duration = Duration::from_millis(50);

/// The pause between these attempts.
const STARTING_PAUSE: Duration = Duration::from_millis(2);

/// Limits for the time-out of one connect. 0 would mean no time-out; after the longest, connect is repeated.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

impl Line {
    /// Connects, and checks the server's user. Blocks while the server's backlog is full; the kernel lets
    /// waiting clients in in their order.
    pub(crate) fn connect(path: &Path, deadline: Instant) -> Result<Line, DialError> {
        let (address, _directory) = address(path).map_err(|errno| match errno {
            Errno::NAMETOOLONG => DialError::TooLong,
            Errno::ACCESS | Errno::PERM => DialError::NotPermitted(errno.into()),
            errno => DialError::NoServer(errno.into()),
        })?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        failpoint!("dial.socket", [client, link], seldom);
        let began = Instant::now();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            set_socket_timeout(&socket, Timeout::Send, Some(left.clamp(SHORTEST_WAIT, LONGEST_WAIT)))?;
            match connect(&socket, &address) {
                Ok(()) => break,
                Err(Errno::CONNREFUSED | Errno::ACCESS)
                    if began.elapsed() < STARTING && Instant::now() < deadline =>
                {
                    std::thread::sleep(STARTING_PAUSE);
                }
                // Interrupted by a signal, or timed out.
                Err(Errno::INTR | Errno::AGAIN) => {
                    if Instant::now() >= deadline {
                        return Err(DialError::TimedOut);
                    }
                }
                Err(errno @ (Errno::NOENT | Errno::CONNREFUSED | Errno::NOTDIR | Errno::LOOP)) => {
                    return Err(DialError::NoServer(errno.into()));
                }
                // The path is a socket of another type.
                Err(Errno::PROTOTYPE) => return Err(DialError::NotRingpost),
                Err(errno @ (Errno::ACCESS | Errno::PERM)) => {
                    return Err(DialError::NotPermitted(errno.into()));
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        failpoint!("dial.connected", [client, link], seldom);
        let server = peer_credentials(&socket)?;
        let own = rustix::process::geteuid().as_raw();
        if !trustworthy(path, own, server.uid) {
            return Err(DialError::Untrusted { uid: server.uid });
        }
        Ok(Line { connection: Connection::of(socket)? })
    }

    /// For requests whose answers have no descriptor.
    pub(crate) fn refuse_descriptors(&self) {
        self.connection.refuse_descriptors();
    }

    /// Whether this process made the connection (not a parent of it), and its descriptor is still the same
    /// file.
    pub(crate) fn is_ours(&self) -> bool {
        self.connection.is_ours() && self.connection.has_its_number()
    }

    /// Whether another request may be sent: the connection is ours and open, and nothing unexpected has come.
    pub(crate) fn is_usable(&self) -> bool {
        self.is_ours() && matches!(self.connection.look(&mut [0]), Err(Errno::AGAIN))
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn ask(&self, ask: &Ask, deadline: Instant) -> Result<Answer, DialError> {
        self.send(ask)?;
        self.answer(ask, deadline)
    }

    /// Sends a request. Does not block.
    pub(crate) fn send(&self, ask: &Ask) -> Result<(), DialError> {
        // A server that refuses at once may have closed already. Its answer can still be received.
        match send(&self.connection, &ask.encode(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => {}
            // The server does not read.
            Err(Errno::AGAIN) => return Err(DialError::TimedOut),
            Err(errno) => return Err(errno.into()),
        }
        failpoint!("dial.asked", [client, link], seldom);
        Ok(())
    }

    /// Waits for the answer to the request that was sent last.
    pub(crate) fn answer(&self, ask: &Ask, deadline: Instant) -> Result<Answer, DialError> {
        let (datagram, descriptors) = self.receive(ask, deadline)?;
        failpoint!("dial.answered", [client, link], seldom);
        let reply = Reply::decode(&datagram).ok_or(DialError::NotRingpost)?;
        match reply.body {
            ReplyBody::Refused(refusal, why) if reply.version == PROTOCOL_VERSION => {
                Err(DialError::Refused(refusal, why))
            }
            _ if reply.version != PROTOCOL_VERSION => Err(DialError::Version { found: reply.version }),
            ReplyBody::Done(body) => Ok(Answer { body: body.to_vec(), descriptors }),
            ReplyBody::Refused(refusal, why) => Err(DialError::Refused(refusal, why)),
        }
    }

    /// Ends the connection without the answer that may still come. Nothing more can arrive, and nothing is
    /// left in the socket, of which a forked child may have a copy. Returns an answer that has arrived.
    pub(crate) fn give_up(&self) -> Option<Answer> {
        self.connection.end_receiving();
        let mut datagram = vec![0; MOST_BYTES];
        let (mut first, mut reset) = (None, false);
        loop {
            let seen = match self.connection.look(&mut datagram) {
                Ok(seen) if seen.bytes > 0 => seen,
                // Reported once, before an answer that the server sent before it closed.
                Err(Errno::CONNRESET) if !reset => {
                    reset = true;
                    continue;
                }
                _ => return first,
            };
            // The kernel would close what this process may not have, and that may take long. The drop of the
            // connection does so on another thread.
            let taken = !seen.cut && self.connection.take().is_ok();
            let reply = Reply::decode(&datagram[..seen.bytes]);
            if let Some(Reply { body: ReplyBody::Done(body), .. }) = reply {
                first = first.or(Some(Answer { body: body.to_vec(), descriptors: seen.descriptors }));
            }
            if !taken {
                return first;
            }
        }
    }

    fn receive(&self, ask: &Ask, deadline: Instant) -> Result<(Vec<u8>, Descriptors), DialError> {
        let mut datagram = vec![0; MOST_BYTES];
        let mut reset = false;
        loop {
            self.wait_readable(deadline)?;
            let seen = match self.connection.look(&mut datagram) {
                Ok(seen) => seen,
                Err(Errno::AGAIN | Errno::INTR) => continue,
                // Reported once, before an answer that the server sent before it closed.
                Err(Errno::CONNRESET) if !reset => {
                    reset = true;
                    continue;
                }
                Err(Errno::CONNRESET) => return Err(closed()),
                Err(errno) => return Err(errno.into()),
            };
            if seen.bytes == 0 {
                return Err(closed());
            }
            match (seen.descriptors.len(), seen.cut) {
                (found, false) if ask.may_bring(found) => {}
                // Some descriptors are missing, because this process may not have so many.
                (found, true) if found < MOST_DESCRIPTORS => return Err(Errno::MFILE.into()),
                _ => return Err(DialError::NotRingpost),
            }
            self.connection.take()?;
            datagram.truncate(seen.bytes);
            return Ok((datagram, seen.descriptors));
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
            match poll(&mut [PollFd::new(&self.connection, PollFlags::IN)], Some(&timeout)) {
                Ok(0) => return Err(DialError::TimedOut),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Keeps the connection as a lifeline: nothing more is sent on it.
    pub(crate) fn into_lifeline(self) -> Connection {
        self.connection.refuse_descriptors();
        self.connection
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

fn closed() -> DialError {
    DialError::NoServer(io::ErrorKind::ConnectionReset.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::{Proof, Role};
    use crate::wire::{Key, Name};
    use rustix::net::socketpair;
    use std::os::fd::OwnedFd;

    fn line() -> (Line, OwnedFd) {
        let (near, server) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        (Line { connection: Connection::of(near).unwrap() }, server)
    }

    /// The kernel reports that the server has not read all, and only then gives what it has sent.
    #[test]
    fn an_answer_of_a_server_that_did_not_read_all_is_received() {
        let name = Name::new("bob").unwrap();
        let proof = Proof::without_secret(Key::from_u128(1));
        let ask = Ask::Report { proof, links: vec![(Role::Caller, name)] };
        let answered = || {
            let (line, server) = line();
            line.send(&ask).unwrap();
            send(&server, &Reply::done(b"yes"), SendFlags::empty()).unwrap();
            drop(server);
            line
        };
        assert_eq!(answered().give_up().unwrap().body, b"yes");
        let soon = Instant::now() + Duration::from_secs(60);
        assert_eq!(answered().answer(&ask, soon).unwrap().body, b"yes");
        // It may close between a look and the next step.
        let (line, server) = line();
        line.send(&ask).unwrap();
        send(&server, &Reply::done(b"yes"), SendFlags::empty()).unwrap();
        assert!(line.connection.look(&mut [0; 64]).is_ok_and(|seen| seen.bytes > 0));
        drop(server);
        assert_eq!(line.connection.take(), Ok(()));
    }
}
