//! What the kernel offers: Unix sockets of both kinds, and a pipe each way. Ends that sleep do so in `read`;
//! ends that spin have descriptors that do not block, and read until something comes.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::io::{Errno, ioctl_fionbio, read, write};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept, bind, connect, listen, socket_with,
};

use super::{Kind, Peer, Play, SIZES, Version};
use crate::context::Context;
use crate::failure::{Failure, OrFail, Outcome};
use crate::measure::{Measured, measure};
use crate::work::{Work, answer_in_place};

const fn peer(name: &'static str, what: &'static str, kind: Kind, play: Play) -> Peer {
    Peer { name, kind, what, sizes: SIZES, version: Version::None, play }
}

const NONBLOCK: &str = "non-blocking reads, all the time";
const BLOCK: &str = "blocking reads";

pub static STREAM_SPIN: Peer = peer(
    "unix-stream-spin",
    NONBLOCK,
    Kind::Spinning,
    Play::Pair {
        server: |context| serve::<true>(context, stream_server),
        client: |context| call::<true>(context, stream_client),
    },
);

pub static STREAM: Peer = peer(
    "unix-stream",
    BLOCK,
    Kind::Blocking,
    Play::Pair {
        server: |context| serve::<false>(context, stream_server),
        client: |context| call::<false>(context, stream_client),
    },
);

pub static SEQPACKET_SPIN: Peer = peer(
    "unix-seqpacket-spin",
    NONBLOCK,
    Kind::Spinning,
    Play::Pair {
        server: |context| serve::<true>(context, packet_server),
        client: |context| call::<true>(context, packet_client),
    },
);

pub static SEQPACKET: Peer = peer(
    "unix-seqpacket",
    BLOCK,
    Kind::Blocking,
    Play::Pair {
        server: |context| serve::<false>(context, packet_server),
        client: |context| call::<false>(context, packet_client),
    },
);

pub static PIPE_SPIN: Peer = peer(
    "pipe-spin",
    NONBLOCK,
    Kind::Spinning,
    Play::Pair {
        server: |context| serve::<true>(context, pipe_server),
        client: |context| call::<true>(context, pipe_client),
    },
);

pub static PIPE: Peer = peer(
    "pipe",
    BLOCK,
    Kind::Blocking,
    Play::Pair {
        server: |context| serve::<false>(context, pipe_server),
        client: |context| call::<false>(context, pipe_client),
    },
);

pub static NAMED: Peer = Peer { name: "named-unix-stream", kind: Kind::Named, ..STREAM };

/// The descriptors of one end.
struct End<const SPIN: bool> {
    from: OwnedFd,
    /// None if it is the same.
    to: Option<OwnedFd>,
}

impl<const SPIN: bool> End<SPIN> {
    fn new((from, to): (OwnedFd, Option<OwnedFd>)) -> Outcome<Self> {
        for descriptor in [Some(&from), to.as_ref()].into_iter().flatten() {
            ioctl_fionbio(descriptor, SPIN).or_fail("choose whether reads block")?;
        }
        Ok(End { from, to })
    }

    /// Does `act`, on a part of the message, until all of it is through.
    #[inline]
    fn all(len: usize, mut act: impl FnMut(usize) -> rustix::io::Result<usize>) -> Outcome {
        let mut done = 0;
        while done < len {
            match act(done) {
                Ok(0) => return Err(Failure::new("the other end has ended")),
                Ok(more) => done += more,
                Err(Errno::AGAIN) if SPIN => std::hint::spin_loop(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Failure::new(format!("cannot read or write: {error}"))),
            }
        }
        Ok(())
    }

    #[inline]
    fn send(&self, message: &[u8]) -> Outcome {
        let to = self.to.as_ref().unwrap_or(&self.from);
        Self::all(message.len(), |done| write(to, &message[done..]))
    }

    #[inline]
    fn receive(&self, message: &mut [u8]) -> Outcome {
        Self::all(message.len(), |done| read(&self.from, &mut message[done..]))
    }
}

/// Both directions of one end.
type Open = fn(&Context) -> Outcome<(OwnedFd, Option<OwnedFd>)>;

fn serve<const SPIN: bool>(context: &Context, open: Open) -> Outcome {
    let end = End::<SPIN>::new(open(context)?)?;
    let mut message = vec![0; context.size];
    loop {
        end.receive(&mut message)?;
        let last = answer_in_place(&mut message)?;
        end.send(&message)?;
        if last {
            return Ok(());
        }
    }
}

fn call<const SPIN: bool>(context: &Context, open: Open) -> Outcome<Measured> {
    let end = End::<SPIN>::new(open(context)?)?;
    let mut response = vec![0; context.size];
    let ask = |work: &mut Work| {
        end.send(work.next())?;
        end.receive(&mut response)?;
        work.check(&response)
    };
    measure(ask, context.size, context.budget)
}

fn stream_server(context: &Context) -> Outcome<(OwnedFd, Option<OwnedFd>)> {
    let path = context.path("socket");
    let listener = UnixListener::bind(&path).or_fail("make a socket")?;
    context.ready(&path)?;
    let (connection, _) = listener.accept().or_fail("accept the client")?;
    Ok((connection.into(), None))
}

fn stream_client(context: &Context) -> Outcome<(OwnedFd, Option<OwnedFd>)> {
    Ok((UnixStream::connect(context.other()).or_fail("connect to the server")?.into(), None))
}

fn packet_socket() -> Outcome<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .or_fail("make a socket")
}

fn packet_server(context: &Context) -> Outcome<(OwnedFd, Option<OwnedFd>)> {
    let path = context.path("socket");
    let socket = packet_socket()?;
    bind(&socket, &SocketAddrUnix::new(&path).or_fail("use the path")?).or_fail("bind the socket")?;
    listen(&socket, 1).or_fail("listen")?;
    context.ready(&path)?;
    Ok((accept(&socket).or_fail("accept the client")?, None))
}

fn packet_client(context: &Context) -> Outcome<(OwnedFd, Option<OwnedFd>)> {
    let socket = packet_socket()?;
    let address = SocketAddrUnix::new(context.other()).or_fail("use the path")?;
    connect(&socket, &address).or_fail("connect to the server")?;
    Ok((socket, None))
}

/// Opening a named pipe waits until the other end does.
fn open_pipe(context: &Context, name: &str, flags: OFlags) -> Outcome<OwnedFd> {
    rustix::fs::open(context.path(name), flags | OFlags::CLOEXEC, Mode::empty()).or_fail("open a pipe")
}

fn pipe_server(context: &Context) -> Outcome<(OwnedFd, Option<OwnedFd>)> {
    for name in ["requests", "responses"] {
        mknodat(CWD, context.path(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .or_fail("make a pipe")?;
    }
    context.ready("")?;
    let requests = open_pipe(context, "requests", OFlags::RDONLY)?;
    Ok((requests, Some(open_pipe(context, "responses", OFlags::WRONLY)?)))
}

fn pipe_client(context: &Context) -> Outcome<(OwnedFd, Option<OwnedFd>)> {
    let requests = open_pipe(context, "requests", OFlags::WRONLY)?;
    Ok((open_pipe(context, "responses", OFlags::RDONLY)?, Some(requests)))
}
