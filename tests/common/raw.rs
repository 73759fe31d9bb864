//! A hand-written client that can break every rule: it sends arbitrary datagrams and writes arbitrary words.
//!
//! It maps memory and wakes sleepers by the library's functions. `tests/protocol/client.rs` is another
//! client, which shares no code with the library and breaks no rule. Both follow `docs/PROTOCOL.md`.

use super::{LIMIT, eventually};
use ringpost::Key;
use ringpost::testing::{Segment, futex_wake};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, recvmsg, send, sendmsg, socket_with,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

pub const VERSION: u32 = 7;
pub const REGISTER: u16 = 1;
pub const LIST: u16 = 2;
pub const SERVER: u16 = 3;

/// A datagram of the connect channel.
pub fn datagram(version: u32, what: u16, body: &[u8]) -> Vec<u8> {
    let mut datagram = b"RINGPOST".to_vec();
    datagram.extend_from_slice(&version.to_le_bytes());
    datagram.extend_from_slice(&what.to_le_bytes());
    datagram.extend_from_slice(&[0; 2]);
    datagram.extend_from_slice(body);
    datagram
}

/// Connects without sending anything.
pub fn dial(path: &Path) -> OwnedFd {
    try_dial(path).unwrap()
}

/// Like [`dial`], but returns an error if nobody listens any more.
pub fn try_dial(path: &Path) -> rustix::io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(LIMIT))?;
    Ok(socket)
}

pub fn say(socket: &OwnedFd, datagram: &[u8]) {
    send(socket, datagram, SendFlags::NOSIGNAL).unwrap();
}

/// Sends a datagram with descriptors.
pub fn say_with(socket: &OwnedFd, datagram: &[u8], descriptors: &[&OwnedFd]) {
    try_say_with(socket, datagram, descriptors).unwrap();
}

/// Like [`say_with`], but returns an error if the other side is gone.
pub fn try_say_with(
    socket: &OwnedFd,
    datagram: &[u8],
    descriptors: &[&OwnedFd],
) -> rustix::io::Result<usize> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(256))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let borrowed: Vec<_> = descriptors.iter().map(|fd| fd.as_fd()).collect();
    assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)));
    sendmsg(socket, &[IoSlice::new(datagram)], &mut control, SendFlags::NOSIGNAL)
}

/// Listens at the path, in place of a server.
pub fn listen_at(path: &Path) -> OwnedFd {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    listen(&socket, 1).unwrap();
    socket
}

pub fn accept(socket: &OwnedFd) -> OwnedFd {
    accept_with(socket, SocketFlags::CLOEXEC).unwrap()
}

/// What was received on a connection.
#[derive(Debug)]
pub enum Heard {
    Reply {
        status: u16,
        body: Vec<u8>,
        descriptor: Option<OwnedFd>,
    },
    /// The connection ended.
    End,
}

impl Heard {
    /// The code and text of a refusal; anything else fails the test.
    pub fn refusal(self) -> (u16, String) {
        match self {
            Heard::Reply { status, body, .. } if status != 0 => (status, String::from_utf8(body).unwrap()),
            other => panic!("not a refusal: {other:?}"),
        }
    }
}

pub fn hear(socket: &OwnedFd) -> Heard {
    match hear_all(socket) {
        Some((status, body, descriptors)) => {
            Heard::Reply { status, body, descriptor: descriptors.into_iter().next() }
        }
        None => Heard::End,
    }
}

/// The status, body and descriptors of the next reply; `None` if the connection ended.
pub fn hear_all(socket: &OwnedFd) -> Option<(u16, Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; 1 << 17];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    loop {
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let buffers = &mut [IoSliceMut::new(&mut bytes)];
        let received = match recvmsg(socket, buffers, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) => received.bytes,
            // Reported once if the other side closed without reading everything. Its datagrams are still
            // there.
            Err(Errno::INTR | Errno::CONNRESET) => continue,
            Err(errno) => panic!("nothing was heard: {errno}"),
        };
        if received == 0 {
            return None;
        }
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        assert_eq!(&bytes[..8], b"RINGPOST");
        let status = u16::from_le_bytes([bytes[12], bytes[13]]);
        return Some((status, bytes[16..received].to_vec(), descriptors));
    }
}

/// The rings of a channel.
#[derive(Debug, Clone, Copy)]
pub enum Ring {
    Request,
    Response,
    Inbox,
}

pub const LINE: u64 = 64;
const CLOSED: usize = 128;
const CONTROLS: usize = 256;
const CONTROL: usize = 384;
const DATA: usize = 8192;

// The kinds of records.
pub const DATA_RECORD: u64 = 0b01;
pub const PADDING_RECORD: u64 = 0b10;

/// A record header.
pub fn header(position: u64, kind: u64, len: u64) -> u64 {
    (position / LINE) << 34 | kind << 32 | len
}

pub const CALL: u16 = 1;
pub const SEND: u16 = 2;
pub const LOOK_UP: u16 = 3;
pub const LIST_CLIENTS: u16 = 4;
pub const PING: u16 = 5;
pub const ARMS: u16 = 10;

/// A request block.
pub fn block(operation: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut block = operation.to_le_bytes().to_vec();
    block.extend_from_slice(&flags.to_le_bytes());
    block.extend_from_slice(&sequence.to_le_bytes());
    block.extend_from_slice(body);
    block
}

/// A client that registered correctly, and may break rules afterwards.
pub struct RawClient {
    pub line: OwnedFd,
    pub key: Key,
    pub secret: [u8; 16],
    pub segment: Segment,
    pub descriptor: OwnedFd,
    ring_size: u64,
    /// The positions of the next request and the next response.
    pub tail: u64,
    pub taken: u64,
    sequence: u32,
}

impl RawClient {
    pub fn register(path: &Path, name: &str) -> RawClient {
        RawClient::try_register(path, name).unwrap_or_else(|heard| panic!("not registered: {heard:?}"))
    }

    /// Registers. On failure returns the server's answer, or the end if nobody listens.
    pub fn try_register(path: &Path, name: &str) -> Result<RawClient, Heard> {
        let line = try_dial(path).map_err(|_| Heard::End)?;
        // If the server refuses at once, its end may already be closed, but its answer can be received.
        let _ = send(&line, &datagram(VERSION, REGISTER, name.as_bytes()), SendFlags::NOSIGNAL);
        let (key, descriptor) = match hear(&line) {
            Heard::Reply { status: 0, body, descriptor: Some(descriptor) } => (body, descriptor),
            other => return Err(other),
        };
        let segment = Segment::open(&descriptor).unwrap();
        let ring_size = segment.word64(16).load(Ordering::Relaxed);
        let secret = *key.last_chunk().unwrap();
        let key = Key::from_bytes(*key.first_chunk().unwrap());
        Ok(RawClient { line, key, secret, segment, descriptor, ring_size, tail: 0, taken: 0, sequence: 0 })
    }

    pub fn ring_size(&self) -> u64 {
        self.ring_size
    }

    fn control(ring: Ring) -> usize {
        CONTROLS + ring as usize * CONTROL
    }

    pub fn head(&self, ring: Ring) -> &AtomicU64 {
        self.segment.word64(Self::control(ring))
    }

    pub fn consumer_parked(&self, ring: Ring) -> &AtomicU32 {
        self.segment.word32(Self::control(ring) + 128)
    }

    /// Not 0 if the client has stopped receiving from this ring.
    pub fn given_up(&self, ring: Ring) -> &AtomicU32 {
        self.segment.word32(Self::control(ring) + 192)
    }

    pub fn producer_parked(&self, ring: Ring) -> &AtomicU32 {
        self.segment.word32(Self::control(ring) + 256)
    }

    /// Why the server closed the channel; 0 if it did not.
    pub fn closed(&self) -> u32 {
        self.segment.word32(CLOSED).load(Ordering::Acquire)
    }

    pub fn offset(&self, ring: Ring, position: u64) -> usize {
        DATA + (ring as u64 * self.ring_size + position % self.ring_size) as usize
    }

    pub fn record(&self, ring: Ring, position: u64) -> &AtomicU64 {
        self.segment.word64(self.offset(ring, position))
    }

    /// Stores a header, valid or not, at the place of the next request, and wakes the worker.
    pub fn put_header(&self, word: u64) {
        let next = self.record(Ring::Request, self.tail + LINE);
        next.store(0, Ordering::Relaxed);
        self.record(Ring::Request, self.tail).store(word, Ordering::Release);
        self.wake();
    }

    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        let parked = self.consumer_parked(Ring::Request);
        if parked.swap(0, Ordering::Relaxed) == 1 {
            futex_wake(parked, 1);
        }
    }

    /// Commits a valid block, with padding before it if it would pass the end. The caller must make sure that
    /// there is room.
    pub fn publish(&mut self, block: &[u8]) {
        let (padding, size) = self.place(block.len());
        let at = self.tail + padding;
        self.segment.copy_in(self.offset(Ring::Request, at) + 8, block);
        self.record(Ring::Request, at + size).store(0, Ordering::Relaxed);
        self.record(Ring::Request, at).store(header(at, DATA_RECORD, block.len() as u64), Ordering::Release);
        if padding > 0 {
            let word = header(self.tail, PADDING_RECORD, padding - 8);
            self.record(Ring::Request, self.tail).store(word, Ordering::Release);
        }
        self.tail = at + size;
        self.wake();
    }

    /// The bytes of padding before a block of this length, and of its record.
    fn place(&self, len: usize) -> (u64, u64) {
        let size = (len as u64 + 8).next_multiple_of(LINE);
        let rest = self.ring_size - self.tail % self.ring_size;
        (if size > rest { rest } else { 0 }, size)
    }

    /// Commits a request and returns its number.
    pub fn request(&mut self, operation: u16, flags: u16, body: &[u8]) -> u32 {
        let sequence = self.sequence;
        self.sequence += 1;
        self.publish(&block(operation, flags, sequence, body));
        sequence
    }

    /// Whether one more block of one line fits into the request ring.
    pub fn has_room(&self) -> bool {
        self.has_room_for(0)
    }

    /// Whether a request with that many bytes in its body fits into the request ring.
    pub fn has_room_for(&self, body: usize) -> bool {
        let (padding, size) = self.place(8 + body);
        let head = self.head(Ring::Request).load(Ordering::Acquire);
        (self.tail + padding + size + LINE).saturating_sub(head) <= self.ring_size
    }

    /// Makes requests and reads no answer, until both rings are full and the server waits for room.
    pub fn stop_the_worker(&mut self) {
        let mut stuck = 0;
        while stuck < 200 {
            if self.has_room_for(1000) {
                self.request(1, 0, &[7; 1000]);
                self.wake();
                stuck = 0;
            } else {
                std::thread::sleep(std::time::Duration::from_millis(1));
                stuck += 1;
            }
        }
    }

    /// Whether there is a record in the response ring.
    pub fn is_answered(&self) -> bool {
        self.record(Ring::Response, self.taken).load(Ordering::Acquire) != 0
    }

    /// Whether the worker has taken all requests out of the ring.
    pub fn all_taken(&self) -> bool {
        self.head(Ring::Request).load(Ordering::Acquire) == self.tail
    }

    /// Receives the next response: status, sequence number and body. `None` if the channel is closed and the
    /// ring is empty.
    pub fn response(&mut self) -> Option<(u16, u32, Vec<u8>)> {
        let mut closed = false;
        loop {
            let mut word = 0;
            eventually("a response comes", || {
                closed = self.closed() != 0;
                word = self.record(Ring::Response, self.taken).load(Ordering::Acquire);
                word != 0 || closed
            });
            if word == 0 {
                return None;
            }
            if word >> 32 & 3 == PADDING_RECORD {
                self.taken = self.taken.next_multiple_of(self.ring_size);
                continue;
            }
            let len = (word & 0xffff_ffff) as usize;
            let mut block = vec![0; len];
            self.segment.copy_out(self.offset(Ring::Response, self.taken) + 8, &mut block);
            self.taken += (len as u64 + 8).next_multiple_of(LINE);
            self.head(Ring::Response).store(self.taken, Ordering::Release);
            let status = u16::from_le_bytes([block[0], block[1]]);
            let sequence = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
            return Some((status, sequence, block.split_off(8)));
        }
    }
}
