//! An independent client, written from `docs/PROTOCOL.md` alone. It shares no code with the library (a test
//! checks that).
//!
//! If the server breaks a rule, this client panics and names the rule.

#![allow(unsafe_code, reason = "words in memory that is shared with the server")]

use memmap2::MmapRaw;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, recvmsg, send, socket_with,
};
use rustix::thread::futex;
use std::cell::Cell;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

const MAGIC: [u8; 8] = *b"RINGPOST";
pub const PROTOCOL: u32 = 7;
const LAYOUT: u32 = 3;

/// Codes of requests on the socket.
pub const REGISTER: u16 = 1;
pub const LIST: u16 = 2;
pub const SERVER: u16 = 3;
pub const CONNECT: u16 = 4;
pub const LISTEN: u16 = 5;
pub const TAKE: u16 = 6;
pub const REPORT: u16 = 7;
pub const LINKS: u16 = 8;

/// Longer than anything in these tests takes.
const LIMIT: Duration = Duration::from_secs(60);

/// The longest sleep before the connection is checked.
const SLICE: Duration = Duration::from_millis(50);

const LINE: u64 = 64;
const DATA: u64 = 1;
const PADDING: u64 = 2;

pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

// ---- the socket

/// A connection to a server.
pub struct Connection(OwnedFd);

/// A reply of the server, or the end of the connection.
#[derive(Debug)]
pub enum Reply {
    Done { body: Vec<u8>, descriptors: Vec<OwnedFd> },
    Refused { code: u16, version: u32, text: String },
    End,
}

impl Reply {
    pub fn body(self) -> Vec<u8> {
        match self {
            Reply::Done { body, .. } => body,
            other => panic!("{other:?}"),
        }
    }

    pub fn refusal(self) -> u16 {
        match self {
            Reply::Refused { code, version, text } => {
                assert!(version == PROTOCOL && !text.is_empty());
                code
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A request as a datagram.
pub fn datagram(version: u32, code: u16, body: &[u8]) -> Vec<u8> {
    [&MAGIC[..], &version.to_le_bytes(), &code.to_le_bytes(), &[0; 2], body].concat()
}

impl Connection {
    pub fn to(path: &Path) -> Connection {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        Connection(socket)
    }

    /// A server that refuses at once may have closed the connection already; its reply can still be received.
    pub fn send(&self, datagram: &[u8]) {
        match send(&self.0, datagram, SendFlags::NOSIGNAL) {
            Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => {}
            Err(errno) => panic!("{errno}"),
        }
    }

    pub fn ask(&self, code: u16, body: &[u8]) -> Reply {
        self.send(&datagram(PROTOCOL, code, body));
        self.receive()
    }

    pub fn receive(&self) -> Reply {
        let mut bytes = vec![0; 16_384];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(5))];
        let mut resets = 0;
        let (length, descriptors) = loop {
            assert!(self.is_readable(LIMIT), "no reply");
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let buffers = &mut [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.0, buffers, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => {
                    let rights = |message| match message {
                        RecvAncillaryMessage::ScmRights(rights) => rights.collect::<Vec<_>>(),
                        _ => Vec::new(),
                    };
                    break (received.bytes, control.drain().flat_map(rights).collect());
                }
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) if resets == 0 => resets += 1,
                Err(Errno::CONNRESET) => return Reply::End,
                Err(errno) => panic!("{errno}"),
            }
        };
        if length == 0 {
            return Reply::End;
        }
        assert!(length >= 16 && bytes[..8] == MAGIC, "not a reply");
        let body = bytes[16..length].to_vec();
        match u16_at(&bytes, 12) {
            0 => Reply::Done { body, descriptors },
            code => {
                let version = u32_at(&bytes, 8);
                Reply::Refused { code, version, text: String::from_utf8(body).unwrap() }
            }
        }
    }

    /// Whether something (or the end) can be received within that time.
    pub fn is_readable(&self, within: Duration) -> bool {
        let within = rustix::time::Timespec::try_from(within).unwrap();
        matches!(poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&within)), Ok(1))
    }

    /// Whether the server closed it. Nothing else comes after a registration.
    fn is_over(&self) -> bool {
        self.is_readable(Duration::ZERO) && matches!(self.receive(), Reply::End)
    }

    /// Waits for the end.
    pub fn ends(&self) {
        assert!(matches!(self.receive(), Reply::End));
    }
}

// ---- shared memory

pub struct Memory(MmapRaw);

impl Memory {
    /// Maps a memory file, if it is sealed as it should be and has that length.
    pub fn open(descriptor: &OwnedFd, length: impl FnOnce(&Memory) -> u64) -> Arc<Memory> {
        let needed = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        assert!(fcntl_get_seals(descriptor).unwrap().contains(needed), "not sealed");
        let memory = Memory(MmapRaw::map_raw(descriptor).unwrap());
        assert_eq!(fstat(descriptor).unwrap().st_size as u64, length(&memory));
        Arc::new(memory)
    }

    /// The address of an object of that size and alignment.
    fn address(&self, at: usize, size: usize) -> *mut u8 {
        assert!(at.is_multiple_of(size) && at + size <= self.0.len());
        self.0.as_mut_ptr().wrapping_add(at)
    }

    fn word64(&self, at: usize) -> &AtomicU64 {
        // SAFETY: the address is aligned, in memory that is mapped for as long as `self` lives and only
        // accessed by atomics here.
        unsafe { AtomicU64::from_ptr(self.address(at, 8).cast()) }
    }

    pub fn word32(&self, at: usize) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { AtomicU32::from_ptr(self.address(at, 4).cast()) }
    }

    fn byte(&self, at: usize) -> &AtomicU8 {
        // SAFETY: as above.
        unsafe { AtomicU8::from_ptr(self.address(at, 1)) }
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        for (place, byte) in bytes.iter().enumerate() {
            self.byte(at + place).store(*byte, Ordering::Relaxed);
        }
    }

    fn read(&self, at: usize, length: usize) -> Vec<u8> {
        (at..at + length).map(|at| self.byte(at).load(Ordering::Relaxed)).collect()
    }
}

/// One end of a ring.
pub struct Ring {
    memory: Arc<Memory>,
    control: usize,
    data: usize,
    size: u64,
    largest: usize,
    position: u64,
    /// As a consumer: how many blocks were taken.
    taken: u64,
    /// As a producer: the last head seen.
    head: Cell<u64>,
    /// The other side's pipe, if that may wait in an event loop.
    pipe: Option<Arc<OwnedFd>>,
}

impl Ring {
    /// The ring of that number in a channel or a link with rings of that size, whose data begin at `data`.
    pub fn of(memory: &Arc<Memory>, data: usize, number: usize, size: u64, largest: usize) -> Ring {
        Ring {
            memory: Arc::clone(memory),
            control: 256 + number * 384,
            data: data + number * size as usize,
            size,
            largest,
            position: 0,
            taken: 0,
            head: Cell::new(0),
            pipe: None,
        }
    }

    /// The other side may wait for this pipe.
    pub fn kicks(self, pipe: &Arc<OwnedFd>) -> Ring {
        Ring { pipe: Some(Arc::clone(pipe)), ..self }
    }

    fn at(&self, position: u64) -> usize {
        self.data + (position % self.size) as usize
    }

    fn header(&self, position: u64) -> &AtomicU64 {
        self.memory.word64(self.at(position))
    }

    fn head_word(&self) -> &AtomicU64 {
        self.memory.word64(self.control)
    }

    pub fn consumer_parked(&self) -> &AtomicU32 {
        self.memory.word32(self.control + 128)
    }

    pub fn producer_parked(&self) -> &AtomicU32 {
        self.memory.word32(self.control + 256)
    }

    /// Bytes of padding before a block of that length, and of its record.
    fn place(&self, length: usize) -> (u64, u64) {
        let record = (8 + length as u64).next_multiple_of(LINE);
        let rest = self.size - self.position % self.size;
        (if record > rest { rest } else { 0 }, record)
    }

    pub fn has_room(&self, length: usize) -> bool {
        let (padding, record) = self.place(length);
        let head = self.head_word().load(Ordering::Acquire);
        let known = self.head.replace(head);
        assert!(head.is_multiple_of(LINE) && (known..=self.position).contains(&head), "the rule of head");
        self.position + padding + record + LINE - head <= self.size
    }

    /// Publishes a block if there is room.
    pub fn publish(&mut self, block: &[u8]) -> bool {
        assert!(block.len() <= self.largest);
        if !self.has_room(block.len()) {
            return false;
        }
        let (padding, record) = self.place(block.len());
        let start = self.position + padding;
        let header =
            |position: u64, kind: u64, length: u64| length | kind << 32 | (position / LINE % (1 << 30)) << 34;
        self.memory.write(self.at(start) + 8, block);
        self.header(start + record).store(0, Ordering::Relaxed);
        let data = header(start, DATA, block.len() as u64);
        if padding == 0 {
            self.header(start).store(data, Ordering::Release);
        } else {
            self.header(start).store(data, Ordering::Relaxed);
            let padding = header(self.position, PADDING, padding - 8);
            self.header(self.position).store(padding, Ordering::Release);
        }
        self.position = start + record;
        wake(self.consumer_parked(), self.pipe.as_deref());
        true
    }

    pub fn is_empty(&self) -> bool {
        self.header(self.position).load(Ordering::Acquire) == 0
    }

    /// Takes a block if there is one.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        let header = self.header(self.position).load(Ordering::Acquire);
        if header == 0 {
            return None;
        }
        let (length, kind, line) = (header & 0xffff_ffff, header >> 32 & 3, header >> 34);
        assert_eq!(line, self.position / LINE % (1 << 30), "the rule of the line");
        let rest = self.size - self.position % self.size;
        if kind == PADDING {
            assert!(rest < self.size && length + 8 == rest, "the rule of padding");
            self.position += rest;
            return self.take();
        }
        assert_eq!(kind, DATA, "the rule of kinds");
        let record = (8 + length).next_multiple_of(LINE);
        assert!(length as usize <= self.largest && record <= rest, "the rules of data");
        let block = self.memory.read(self.at(self.position) + 8, length as usize);
        self.position += record;
        self.taken += 1;
        self.head_word().store(self.position, Ordering::Release);
        wake(self.producer_parked(), self.pipe.as_deref());
        Some(block)
    }
}

/// Wakes who sleeps on a word, or waits for a pipe.
pub fn wake(parked: &AtomicU32, pipe: Option<&OwnedFd>) {
    fence(Ordering::SeqCst);
    if parked.load(Ordering::Relaxed) == 0 {
        return;
    }
    match (parked.swap(0, Ordering::Relaxed), pipe) {
        (1, _) => _ = futex::wake(parked, futex::Flags::empty(), 1).unwrap(),
        // A full pipe is readable, and nobody reads a closed one.
        (2, Some(pipe)) => _ = rustix::io::write(pipe, &[1]),
        _ => {}
    }
}

/// Sleeps on a parked word, unless the condition already holds.
pub fn sleep(parked: &AtomicU32, is_there: impl FnOnce() -> bool) {
    parked.store(1, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    if !is_there() {
        let slice = rustix::time::Timespec::try_from(SLICE).unwrap();
        // The caller checks again, whatever the result.
        let _ = futex::wait(parked, futex::Flags::empty(), 1, Some(&slice));
    }
    parked.store(0, Ordering::Relaxed);
}

// ---- the client

pub const CALL: u16 = 1;
pub const SEND: u16 = 2;
pub const LOOK_UP: u16 = 3;
pub const LIST_CLIENTS: u16 = 4;
pub const PING: u16 = 5;
pub const STATISTICS: u16 = 6;
pub const UNREGISTER: u16 = 7;

/// The flag of a SEND that waits.
pub const WAITS: u16 = 1;

/// The reason for which the channel was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed(pub u32);

/// A message from another client.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    pub count: u32,
    pub key: [u8; 16],
    pub name: String,
    pub payload: Vec<u8>,
}

pub struct Client {
    pub connection: Connection,
    pub key: [u8; 16],
    /// Key and secret, for other connections.
    pub proof: [u8; 32],
    /// Bytes of the largest block, header included.
    pub largest: usize,
    memory: Arc<Memory>,
    pub requests: Ring,
    pub responses: Ring,
    pub inbox: Ring,
    /// The next request's number, and that of the next response.
    next: u32,
    expected: u32,
}

impl Client {
    pub fn register(path: &Path, name: &str) -> Result<Client, Reply> {
        Client::register_on(Connection::to(path), name)
    }

    pub fn register_on(connection: Connection, name: &str) -> Result<Client, Reply> {
        let (body, descriptors) = match connection.ask(REGISTER, name.as_bytes()) {
            Reply::Done { body, descriptors } => (body, descriptors),
            other => return Err(other),
        };
        let [descriptor] = &descriptors[..] else { panic!("one descriptor") };
        let memory = Memory::open(descriptor, |memory| 8192 + 3 * u64_at(&memory.read(0, 32), 16));
        let header = memory.read(0, 32);
        let (size, largest) = (u64_at(&header, 16), u64_at(&header, 24));
        assert!(header[..8] == MAGIC && u32_at(&header, 8) == LAYOUT);
        assert!(size.is_power_of_two() && (4096..=1 << 30).contains(&size));
        assert!((256..=size / 2 - 8).contains(&largest));
        let largest = largest as usize;
        let ring = |number: usize| Ring::of(&memory, 8192, number, size, largest);
        Ok(Client {
            connection,
            key: body[..16].try_into().unwrap(),
            proof: body.try_into().unwrap(),
            largest,
            requests: ring(0),
            responses: ring(1),
            inbox: ring(2),
            memory,
            next: 0,
            expected: 0,
        })
    }

    /// Says whether this client takes links.
    pub fn set_serving(&self, serves: bool) {
        self.memory.word32(2048).store(serves.into(), Ordering::Relaxed);
    }

    /// Says that the link with that index has ended.
    pub fn end_link(&self, index: u16) {
        let word = self.memory.word32(2112 + usize::from(index) / 32 * 4);
        word.fetch_xor(1 << (index % 32), Ordering::Relaxed);
    }

    /// 0, or why the server closed the channel.
    pub fn closed(&self) -> u32 {
        self.memory.word32(128).load(Ordering::Acquire)
    }

    /// Publishes a request if there is room; its number.
    pub fn try_request(&mut self, operation: u16, flags: u16, body: &[u8]) -> Option<u32> {
        let number = self.next;
        let header = [operation.to_le_bytes(), flags.to_le_bytes()].concat();
        let block = [&header[..], &number.to_le_bytes(), body].concat();
        self.requests.publish(&block).then(|| {
            self.next = number.wrapping_add(1);
            number
        })
    }

    /// Publishes a request. Sleeps while there is no room and nothing is to be received.
    pub fn request(&mut self, operation: u16, flags: u16, body: &[u8], taken: &mut Vec<Response>) -> u32 {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(number) = self.try_request(operation, flags, body) {
                return number;
            }
            while let Some(response) = self.try_response() {
                taken.push(response);
            }
            assert!(Instant::now() < deadline && self.closed() == 0, "no room");
            let (requests, responses) = (&self.requests, &self.responses);
            sleep(requests.producer_parked(), || requests.has_room(8 + body.len()) || !responses.is_empty());
        }
    }

    pub fn try_response(&mut self) -> Option<Response> {
        let block = self.responses.take()?;
        assert!(self.expected != self.next, "a response to nothing");
        let response =
            Response { status: u16_at(&block, 0), number: u32_at(&block, 4), body: block[8..].to_vec() };
        assert_eq!(response.number, self.expected, "the rule of responses");
        assert!(response.status <= 11, "an unknown status");
        self.expected = self.expected.wrapping_add(1);
        Some(response)
    }

    pub fn response(&mut self) -> Result<Response, Closed> {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(response) = self.try_response() {
                return Ok(response);
            }
            self.wait(|client| &client.responses, deadline)?;
        }
    }

    /// One request, one response: its status and body.
    pub fn ask(&mut self, operation: u16, flags: u16, body: &[u8]) -> (u16, Vec<u8>) {
        let number = self.request(operation, flags, body, &mut Vec::new());
        let response = self.response().unwrap();
        assert_eq!(response.number, number);
        (response.status, response.body)
    }

    pub fn try_receive(&mut self) -> Option<Message> {
        let block = self.inbox.take()?;
        self.inbox.memory.word64(self.inbox.control + 8).store(self.inbox.taken, Ordering::Relaxed);
        let name = 8 + 16..8 + 16 + usize::from(u16_at(&block, 2));
        assert_eq!(u16_at(&block, 0), 0x100, "not a message");
        Some(Message {
            count: u32_at(&block, 4),
            key: block[8..24].try_into().unwrap(),
            name: String::from_utf8(block[name.clone()].to_vec()).unwrap(),
            payload: block[name.end..].to_vec(),
        })
    }

    pub fn receive(&mut self) -> Result<Message, Closed> {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(message) = self.try_receive() {
                return Ok(message);
            }
            self.wait(|client| &client.inbox, deadline)?;
        }
    }

    /// Sleeps until a block may be there. What was committed before a close comes first.
    fn wait(&self, ring: impl Fn(&Client) -> &Ring, deadline: Instant) -> Result<(), Closed> {
        assert!(Instant::now() < deadline, "nothing comes");
        let ring = ring(self);
        let closed = match self.closed() {
            0 if self.connection.is_over() => self.closed().max(5),
            0 => {
                sleep(ring.consumer_parked(), || !ring.is_empty() || self.closed() != 0);
                return Ok(());
            }
            closed => closed,
        };
        if ring.is_empty() { Err(Closed(closed)) } else { Ok(()) }
    }
}

/// A response of the server.
#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub number: u32,
    pub body: Vec<u8>,
}
