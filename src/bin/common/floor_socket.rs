//! What the kernel's sockets make of the same work, by a partner process with no registry and no checks: an
//! echo with a thread for each connection, and a sealed memory file handed over to whoever connects.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use crate::testing::Segment;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, recvmsg, send, sendmsg, socket_with,
};

use super::child::die_with_parent;
use super::exit::{Failure, Outcome};
use super::out;

/// What the partner does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    Echo,
    HandOver,
}

/// What a registration sends and gets: about the size of the bus's own packets.
const PACKET: [u8; 64] = [7; 64];

/// The partner process: says `ready` once it can be connected to, and goes on until it is killed.
pub fn partner(mode: Mode, path: &Path, bytes: usize) -> Outcome {
    die_with_parent();
    let done = match mode {
        Mode::Echo => serve_echo(path, bytes),
        Mode::HandOver => serve_hand_over(path, bytes),
    };
    done.map_err(|error| Failure::failed(format!("the socket's partner process: {error}")))
}

fn ready() -> io::Result<()> {
    out::line("ready").map_err(|failure| io::Error::other(failure.to_string()))
}

fn serve_echo(path: &Path, bytes: usize) -> io::Result<()> {
    let listener = UnixListener::bind(path)?;
    ready()?;
    loop {
        let (mut stream, _) = listener.accept()?;
        std::thread::Builder::new().spawn(move || {
            let mut buffer = vec![0; bytes];
            // The end of a connection is the end of its thread.
            while stream.read_exact(&mut buffer).and_then(|()| stream.write_all(&buffer)).is_ok() {}
        })?;
    }
}

/// A client of the echo.
pub struct Echo {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Echo {
    /// Connects to a partner that echoes `bytes` at a time.
    pub fn connect(path: &Path, bytes: usize) -> Result<Echo, Failure> {
        let stream = UnixStream::connect(path)
            .map_err(|error| Failure::failed(format!("cannot connect to the echo by socket: {error}")))?;
        Ok(Echo { stream, buffer: vec![0; bytes] })
    }

    pub fn call(&mut self, request: &[u8]) -> Result<&[u8], Failure> {
        self.stream
            .write_all(request)
            .and_then(|()| self.stream.read_exact(&mut self.buffer))
            .map_err(|error| Failure::failed(format!("the echo by socket failed: {error}")))?;
        Ok(&self.buffer)
    }
}

fn packets() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

fn serve_hand_over(path: &Path, bytes: usize) -> io::Result<()> {
    let listener = packets()?;
    bind(&listener, &SocketAddrUnix::new(path)?)?;
    listen(&listener, 64)?;
    ready()?;
    let mut packet = PACKET;
    loop {
        let line = accept_with(&listener, SocketFlags::CLOEXEC)?;
        receive(&line, &mut packet)?;
        let (segment, descriptor) = Segment::create("ringpost-floor", bytes).map_err(io::Error::other)?;
        let rights = [descriptor.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&rights));
        sendmsg(&line, &[IoSlice::new(&PACKET)], &mut control, SendFlags::NOSIGNAL)?;
        drop(descriptor);
        // Until the other side has gone.
        receive(&line, &mut packet)?;
        drop(segment);
    }
}

/// The next packet and its descriptor, or nothing at the end.
fn receive(line: &OwnedFd, packet: &mut [u8]) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(line, &mut [IoSliceMut::new(packet)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut found = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            found = rights.into_iter().next().or(found);
        }
    }
    Ok(found)
}

/// One hand-over: connect, a packet each way, the memory file received, checked and mapped, and all of it
/// closed again.
pub fn hand_over(path: &Path) -> Result<(), Failure> {
    let run = || -> io::Result<()> {
        let line = packets()?;
        connect(&line, &SocketAddrUnix::new(path)?)?;
        send(&line, &PACKET, SendFlags::NOSIGNAL)?;
        let mut packet = PACKET;
        let descriptor = receive(&line, &mut packet)?
            .ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "no memory file came"))?;
        Segment::open(&descriptor).map_err(io::Error::other)?;
        Ok(())
    };
    run().map_err(|error| Failure::failed(format!("the hand-over by socket failed: {error}")))
}
