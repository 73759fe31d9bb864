//! Measures the same work with the kernel's sockets and a partner process without registry or checks.
//!
//! The partner either echoes, with a thread for each connection, or hands a sealed memory file to each
//! client.

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

/// The packet in each direction: about as large as those of a registration.
const PACKET: [u8; 64] = [7; 64];

/// The partner process: prints `ready` once it accepts connections, and runs until it is killed.
pub fn partner(mode: Mode, path: &Path, bytes: usize) -> Outcome {
    die_with_parent();
    let done = match mode {
        Mode::Echo => serve_echo(path, bytes),
        Mode::HandOver => serve_hand_over(path, bytes),
    };
    done.map_err(|error| Failure::failed(format!("the socket benchmark's partner process failed: {error}")))
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
            // The thread ends with its connection.
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
            .map_err(|error| Failure::failed(format!("cannot connect to the socket echo: {error}")))?;
        Ok(Echo { stream, buffer: vec![0; bytes] })
    }

    pub fn call(&mut self, request: &[u8]) -> Result<&[u8], Failure> {
        self.stream
            .write_all(request)
            .and_then(|()| self.stream.read_exact(&mut self.buffer))
            .map_err(|error| Failure::failed(format!("the socket echo failed: {error}")))?;
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
        // Wait until the client has closed the connection.
        receive(&line, &mut packet)?;
        drop(segment);
    }
}

/// Receives the next packet and its descriptor, if it has one.
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

/// Does one hand-over: connects, sends a packet, receives one with a memory file, checks and maps the file,
/// and closes everything.
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
    run().map_err(|error| Failure::failed(format!("the socket hand-over failed: {error}")))
}
