//! Fuzzes both ends of the connect channel with arbitrary datagrams, with and without descriptors.
//!
//! Neither end must panic or leak descriptors. The server must answer each request with a valid reply, and
//! forget clients that hang up, with all that waits for them. The client must accept only sealed channels and
//! links as memory, and only pipes and processes beside it. Clients that were registered ask for links and
//! topics, too, with their secret or another one. What they are given of a topic they can only read, unless
//! they publish it.

#![no_main]

mod input;

use std::cell::RefCell;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use input::Input;
use libfuzzer_sys::fuzz_target;
use ringpost::channel;
use ringpost::testing::Segment;
use ringpost::testing::fuzz::{
    FuzzAcceptor, Memory, bell_over, client_on, is_link, link_over, observe_over, register_over, take_over,
};
use ringpost::{Client, ClientFigures, ClientInfo, CloseReason, ConnectError};
use rustix::fs::{MemfdFlags, OFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, sendmsg,
    socket_with, socketpair,
};

struct Stage {
    acceptor: FuzzAcceptor,
    address: SocketAddrUnix,
    /// A client of the servers whose answers are arbitrary.
    client: Client,
    /// The lowest free descriptor number while idle.
    lowest: Option<i32>,
}

thread_local! {
    static STAGE: RefCell<Stage> = RefCell::new(Stage::new());
}

impl Stage {
    fn new() -> Stage {
        let path = std::env::temp_dir().join(format!("ringpost-fuzz-{}", std::process::id()));
        let acceptor = FuzzAcceptor::open(&path);
        let address = SocketAddrUnix::new(&path).expect("a short path");
        Stage { acceptor, address, client: client_on(&Memory::new()), lowest: None }
    }
}

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);
const CLOEXEC: MemfdFlags = MemfdFlags::CLOEXEC.union(MemfdFlags::ALLOW_SEALING);
const RING: u64 = 4096;
/// The size of a channel with such rings, in bytes.
const CHANNEL: u64 = 4096 + 3 * RING;
/// The size of a link with such rings, and where its responses are.
const LINK: u64 = 4096 + 2 * RING;
const RESPONSES: u64 = 4096 + RING;
/// The bytes at a channel's start that describe it.
const WORDS: usize = 32;
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// A datagram, with a valid frame or completely arbitrary.
fn datagram(input: &mut Input<'_>) -> Vec<u8> {
    let form = input.byte();
    let mut datagram = Vec::new();
    if form % 16 != 0 {
        datagram.extend_from_slice(b"RINGPOST");
        datagram.extend_from_slice(&(3 + u32::from(form / 240)).to_le_bytes());
        datagram.extend_from_slice(&u16::from(input.byte() % 20).to_le_bytes());
        datagram.extend_from_slice(&[0; 2]);
    }
    match form % 4 {
        0 => datagram.resize(datagram.len() + usize::from(input.word16()) % 20_000, b'd'),
        1 => datagram.extend_from_slice(input.bytes(16)),
        _ => {
            let len = usize::from(input.byte());
            datagram.extend_from_slice(input.bytes(len));
        }
    }
    datagram
}

/// Memory of this length and with these seals, which begins like a channel.
fn memory(len: u64, seals: SealFlags, flags: MemfdFlags) -> Option<OwnedFd> {
    let file = memfd_create("fuzz", flags).ok()?;
    let _ = rustix::io::pwrite(&file, &channel_words(), 0);
    ftruncate(&file, len).ok()?;
    fcntl_add_seals(&file, seals).ok()?;
    Some(file)
}

/// The first bytes of a channel's segment.
fn channel_words() -> [u8; WORDS] {
    let mut words = [0; WORDS];
    words[..8].copy_from_slice(b"RINGPOST");
    words[8..12].copy_from_slice(&2_u32.to_le_bytes());
    words[16..24].copy_from_slice(&RING.to_le_bytes());
    words[24..].copy_from_slice(&(RING / 2 - 8).to_le_bytes());
    words
}

/// A descriptor of some kind, and whether it is valid as a channel.
fn descriptor(input: &mut Input<'_>) -> Option<(OwnedFd, bool)> {
    Some(match input.byte() % 12 {
        // A valid channel; or one with some of its first bytes changed.
        0..4 => (channel::create(RING as usize, Default::default()).ok()?.1, true),
        4 | 5 => {
            let (_, descriptor) = channel::create(RING as usize, Default::default()).ok()?;
            let segment = Segment::open(&descriptor).ok()?;
            let at = usize::from(input.byte() % 32);
            let bytes = input.bytes(8);
            segment.copy_in(at, bytes);
            let mut words = [0; WORDS];
            segment.copy_out(0, &mut words);
            // Only the unused word and the largest block can differ in a channel of this length.
            let same = |range: std::ops::Range<usize>| words[range.clone()] == channel_words()[range];
            (descriptor, same(0..12) && same(16..24))
        }
        6 => {
            let seals = SealFlags::from_bits_retain(u32::from(input.byte() % 16));
            (memory(CHANNEL, seals, CLOEXEC)?, seals.contains(SEALS))
        }
        7 => {
            let len = u64::from(input.word16());
            (memory(len, SEALS, CLOEXEC)?, len == CHANNEL)
        }
        8 => (memory(1 << 21, SEALS, CLOEXEC | MemfdFlags::HUGETLB)?, false),
        9 => (File::open("/proc/self/exe").ok()?.into(), false),
        10 => (std::io::pipe().ok()?.0.into(), false),
        _ => (rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).ok()?, false),
    })
}

/// The names that clients have who call each other.
const NAMES: [&[u8]; 4] = [b"a", b"bb", b"ccc", b"nobody"];

/// A request to register under one of these names, or one that a client asks that was registered.
fn link_datagram(input: &mut Input<'_>, proofs: &[[u8; 32]]) -> Vec<u8> {
    let mut datagram = b"RINGPOST\x04\0\0\0".to_vec();
    let what = input.byte() % 9;
    let name = NAMES[usize::from(input.byte()) % NAMES.len()];
    let code = match what {
        0 | 1 => 1,
        2 | 3 => 4,
        what => u16::from(what) + 1,
    };
    datagram.extend_from_slice(&code.to_le_bytes());
    datagram.extend_from_slice(&[0; 2]);
    if code == 1 {
        datagram.extend_from_slice(name);
        return datagram;
    }
    if code == 8 {
        datagram.extend_from_slice(&u64::from(input.byte()).to_le_bytes());
        return datagram;
    }
    let own = proofs.get(usize::from(input.byte()) % proofs.len().max(1)).copied().unwrap_or([0; 32]);
    datagram.extend_from_slice(&own);
    match code {
        4 => {
            let ring_size = [0, 4096, 8192, 1 << 20, 77, u64::MAX][usize::from(input.byte()) % 6];
            datagram.extend_from_slice(&u64::to_le_bytes(ring_size));
            match input.byte() % 4 {
                0 if !proofs.is_empty() => {
                    datagram.push(1);
                    let other = proofs[usize::from(input.byte()) % proofs.len()];
                    datagram.extend_from_slice(&other[..16]);
                }
                _ => {
                    datagram.push(0);
                    datagram.extend_from_slice(name);
                }
            }
        }
        7 => {
            let count = u16::from(input.byte() % 9);
            datagram.extend_from_slice(&count.to_le_bytes());
            for _ in 0..count {
                let name = NAMES[usize::from(input.byte()) % NAMES.len()];
                datagram.extend_from_slice(&[input.byte() % 2, name.len() as u8]);
                datagram.extend_from_slice(name);
            }
        }
        9 => datagram.push(input.byte() % 3),
        _ => {}
    }
    // Seldom spoilt.
    if input.byte() % 16 == 0 {
        let at = usize::from(input.byte()) % datagram.len();
        datagram[at] = input.byte();
    }
    datagram
}

const TOPICS: [&[u8]; 6] = [b"a", b"a/b", b"x/y/z", b"@own/a", b"a//b", b""];
const PATTERNS: [&[u8]; 6] = [b"**", b"a/*", b"a", b"x/**/z", b"@ringpost/presence", b"**/*"];

/// A request about topics, of a client that was registered.
fn topic_datagram(input: &mut Input<'_>, known: &Known) -> Vec<u8> {
    let mut datagram = b"RINGPOST\x04\0\0\0".to_vec();
    let code = [10, 10, 11, 12, 12, 13, 14, 15, 15, 15, 16, 17][usize::from(input.byte()) % 12];
    datagram.extend_from_slice(&u16::to_le_bytes(code));
    datagram.extend_from_slice(&[0; 2]);
    let which = usize::from(input.byte());
    let id = known.ids.get(which / 8 % known.ids.len().max(1)).copied().unwrap_or(which as u64);
    if code == 16 {
        datagram.extend_from_slice(&id.to_le_bytes());
        return datagram;
    }
    let own = known.proofs.get(which % known.proofs.len().max(1)).copied().unwrap_or([0; 32]);
    datagram.extend_from_slice(&own);
    match code {
        10 => {
            let ring_size = [0, 4096, 4096, 65_536, 77, u64::MAX][usize::from(input.byte()) % 6];
            for number in [1, u64::from(input.byte()), ring_size] {
                datagram.extend_from_slice(&number.to_le_bytes());
            }
            let users = input.byte();
            datagram.extend_from_slice(&[users % 2, users / 64]);
            for user in 0..u32::from(users / 64) {
                datagram.extend_from_slice(&(user * u32::from(users / 2 % 2)).to_le_bytes());
            }
            datagram.extend_from_slice(TOPICS[usize::from(input.byte()) % TOPICS.len()]);
        }
        11 | 13 => datagram.extend_from_slice(&id.to_le_bytes()),
        12 => {
            datagram.extend_from_slice(&[input.byte() % 4, input.byte() % 5]);
            datagram.extend_from_slice(PATTERNS[usize::from(input.byte()) % PATTERNS.len()]);
        }
        17 => datagram.push(input.byte() % 5),
        _ => {}
    }
    // Seldom spoilt.
    if input.byte() % 16 == 15 {
        let at = usize::from(input.byte()) % datagram.len();
        datagram[at] = input.byte();
    }
    datagram
}

/// What the clients know: their proofs, and their channels.
#[derive(Default)]
struct Known {
    proofs: Vec<[u8; 32]>,
    channels: Vec<Segment>,
    /// Bells, pipes and sides of links and topics that are not closed yet.
    kept: Vec<OwnedFd>,
    /// Numbers of publications and subscriptions.
    ids: Vec<u64>,
    /// Memory of topics whose publisher has not sealed it.
    unsealed: Vec<OwnedFd>,
}

/// The words of a channel that say whether its client takes links, and which have ended.
const SERVING: usize = 2048;
const ENDED: usize = 2112;

impl Known {
    /// What an answer with descriptors brought: a channel, a bell, a pipe, or one side of a link.
    fn take(&mut self, body: &[u8], descriptors: Vec<OwnedFd>, input: &mut Input<'_>) {
        match (descriptors.len(), body.len()) {
            (0, 12) => self.ids.push(u64::from_le_bytes(body[..8].try_into().expect("8 bytes"))),
            (0, _) => {}
            // A topic's memory, for its publisher.
            (1, 16) => {
                self.ids.push(u64::from_le_bytes(body[..8].try_into().expect("8 bytes")));
                let [memory] = descriptors.try_into().expect("one descriptor");
                let seals = fcntl_get_seals(&memory).expect("memory") & !SealFlags::EXEC;
                assert_eq!(seals, SealFlags::SHRINK | SealFlags::GROW);
                self.unsealed.push(memory);
                return;
            }
            (3..=6, 74..) => check_source(body, &descriptors),
            (1..=4, 51..) => {
                assert_eq!(body[0], 2);
                assert_eq!(Segment::open(&descriptors[0]).expect("a page").len(), 4096);
                assert!(descriptors[1..].iter().all(is_pipe));
            }
            (1, 32) => {
                channel::open(&descriptors[0], Default::default()).expect("what a server sends is a channel");
                let segment = Segment::open(&descriptors[0]).expect("it is sealed");
                segment.word32(SERVING).store(u32::from(input.byte() % 8 != 0), Ordering::Relaxed);
                self.proofs.push(body.try_into().expect("32 bytes"));
                self.channels.push(segment);
                return;
            }
            (1, 0) => assert!(is_pipe(&descriptors[0]), "a bell"),
            (2, 0) => assert!(is_pipe(&descriptors[0]) && is_pipe(&descriptors[1]), "both ends of a pipe"),
            (5, 56..) => {
                let ring_size = u64::from_le_bytes(body[10..18].try_into().expect("8 bytes"));
                let segment = Segment::open(&descriptors[0]).expect("it is sealed");
                assert_eq!(segment.len() as u64, 4096 + 2 * ring_size);
                assert!(descriptors[1..4].iter().all(is_pipe) && !is_pipe(&descriptors[4]));
            }
            other => panic!("an answer of another form: {other:?}"),
        }
        if input.byte() % 2 == 0 {
            self.kept.extend(descriptors);
        }
    }

    /// Seals a topic's memory, as its publisher should, or not quite.
    fn seal(&mut self, input: &mut Input<'_>) {
        let Some(memory) = self.unsealed.pop() else { return };
        let seals = match input.byte() {
            0..200 => SealFlags::FUTURE_WRITE | SealFlags::SEAL,
            other => SealFlags::from_bits_retain(u32::from(other) % 64 & !SealFlags::EXEC.bits()),
        };
        let _ = fcntl_add_seals(&memory, seals);
        if input.byte() % 2 == 0 {
            self.kept.push(memory);
        }
    }

    /// Says something about links in a channel, or closes what was kept.
    fn act(&mut self, input: &mut Input<'_>) {
        if input.byte() % 4 == 0 {
            self.kept.clear();
        }
        if self.channels.is_empty() {
            return;
        }
        let channel = &self.channels[usize::from(input.byte()) % self.channels.len()];
        if input.byte() % 8 == 0 {
            channel.word32(SERVING).fetch_xor(1, Ordering::Relaxed);
        }
        let word = usize::from(input.byte() % 128) / (1 + 127 * usize::from(input.byte() % 2));
        channel.word32(ENDED + 4 * word).fetch_xor(input.word32(), Ordering::Relaxed);
    }
}

/// A part for a subscriber: it must not be able to write the publisher's memory.
fn check_source(body: &[u8], descriptors: &[OwnedFd]) {
    assert_eq!(body[0], 1);
    let ring_size = u64::from_le_bytes(body[33..41].try_into().expect("8 bytes"));
    let [segment, page, process, pipes @ ..] = descriptors else { panic!("three descriptors or more") };
    assert!(fcntl_get_seals(segment).is_ok_and(|found| found.contains(SEALS | SealFlags::FUTURE_WRITE)));
    assert!(rustix::fs::fcntl_getfl(segment).is_ok_and(|flags| flags & OFlags::RWMODE == OFlags::RDONLY));
    assert_eq!(rustix::fs::fstat(segment).map(|found| found.st_size as u64), Ok(4096 + ring_size));
    assert_eq!(Segment::open(page).expect("a page").len(), 4096);
    assert!(!is_pipe(process) && pipes.iter().all(is_pipe));
}

fn is_pipe(fd: &OwnedFd) -> bool {
    rustix::fs::fstat(fd)
        .is_ok_and(|found| rustix::fs::FileType::from_raw_mode(found.st_mode) == rustix::fs::FileType::Fifo)
}

/// Sends a datagram with up to five descriptors. `None` if it was not sent: it is too long, or nobody reads.
/// Else whether the first descriptor is valid as a channel.
fn say(socket: &OwnedFd, input: &mut Input<'_>) -> Option<bool> {
    let datagram = datagram(input);
    let descriptors: Vec<_> = (0..input.byte() % 6).filter_map(|_| descriptor(input)).collect();
    let channel = descriptors.first().is_some_and(|(_, channel)| *channel);
    let descriptors: Vec<_> = descriptors.into_iter().map(|(descriptor, _)| descriptor).collect();
    send(socket, &datagram, &descriptors).then_some(channel)
}

/// Sends a datagram with descriptors. Returns whether it was sent.
fn send(socket: &OwnedFd, datagram: &[u8], descriptors: &[OwnedFd]) -> bool {
    let borrowed: Vec<_> = descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(5))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(socket, &[IoSlice::new(datagram)], &mut control, flags).is_ok()
}

/// Reads the available answers. Each must be valid, and have descriptors only if it is Ok.
fn hear(socket: &OwnedFd, known: &mut Known, input: &mut Input<'_>) {
    let mut bytes = [0; 20_000];
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let buffers = &mut [IoSliceMut::new(&mut bytes)];
        let Ok(received) = recvmsg(socket, buffers, &mut control, RecvFlags::CMSG_CLOEXEC) else { return };
        if received.bytes == 0 {
            return;
        }
        assert!(received.bytes >= 16 && bytes.starts_with(b"RINGPOST"));
        let refused = bytes[12..14] != [0, 0];
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        assert!(!refused || descriptors.is_empty());
        known.take(&bytes[16..received.bytes], descriptors, input);
    }
}

fn say_plainly(socket: &OwnedFd, datagram: &[u8]) {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let _ = rustix::net::send(socket, datagram, flags);
}

/// Arbitrary clients of a server.
fn ask(stage: &mut Stage, input: &mut Input<'_>) {
    let mut sockets: Vec<OwnedFd> = Vec::new();
    let mut known = Known::default();
    while !input.is_empty() {
        match input.byte() % 16 {
            0 if sockets.len() < 5 => {
                let socket =
                    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None).expect("a socket");
                connect(&socket, &stage.address).expect("a server");
                let _ = say(&socket, input);
                sockets.push(socket);
            }
            1..4 if !sockets.is_empty() => {
                let one = usize::from(input.byte()) % sockets.len();
                let _ = say(&sockets[one], input);
            }
            4 | 5 => stage.acceptor.turn(),
            6 if !sockets.is_empty() => {
                let one = usize::from(input.byte()) % sockets.len();
                hear(&sockets[one], &mut known, input);
            }
            // A request about links, on a connection of its own or one that asked before.
            8 | 9 if sockets.len() < 9 => {
                let socket =
                    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None).expect("a socket");
                connect(&socket, &stage.address).expect("a server");
                sockets.push(socket);
                say_plainly(&sockets[sockets.len() - 1], &link_datagram(input, &known.proofs));
            }
            10 | 11 if !sockets.is_empty() => {
                let one = usize::from(input.byte()) % sockets.len();
                say_plainly(&sockets[one], &link_datagram(input, &known.proofs));
            }
            12 | 13 => {
                stage.acceptor.turn();
                for socket in &sockets {
                    hear(socket, &mut known, input);
                }
            }
            14 => known.act(input),
            // About topics: a request on a connection of its own, or what was granted is sealed.
            15 if input.byte() % 4 == 0 => known.seal(input),
            15 if sockets.len() < 9 => {
                let socket =
                    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None).expect("a socket");
                connect(&socket, &stage.address).expect("a server");
                say_plainly(&socket, &topic_datagram(input, &known));
                stage.acceptor.turn();
                hear(&socket, &mut known, input);
                sockets.push(socket);
            }
            7 if !sockets.is_empty() => {
                let one = usize::from(input.byte()) % sockets.len();
                sockets.swap_remove(one);
            }
            _ => {}
        }
    }
    stage.acceptor.turn();
    for socket in &sockets {
        hear(socket, &mut known, input);
    }
    drop((sockets, known));
    let limit = Instant::now() + Duration::from_secs(5);
    while !stage.acceptor.is_quiet() {
        assert!(Instant::now() < limit, "somebody is not forgotten");
        stage.acceptor.turn();
        std::thread::yield_now();
    }
}

/// A server with arbitrary answers.
fn answer(input: &mut Input<'_>) {
    let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None).expect("sockets");
    let observes = input.byte() % 4 == 0;
    // Only the first answer is to a registration.
    let said: Vec<bool> = (0..=input.byte() % 3).filter_map(|_| say(&far, input)).collect();
    let silent = input.byte() % 16 == 0;
    // The server hangs up, unless the client is to wait in vain.
    let _far = if silent { Some(far) } else { None };
    if observes {
        let observer = observe_over(near);
        let _ = observer.server();
        if let Ok(list) = observer.list() {
            assert!(list.is_sorted_by(|a, b| slot(a) < slot(b)), "each slot comes once");
        }
        if let Ok(figures) = observer.figures() {
            let of = |client: &ClientFigures| slot(&client.info);
            assert!(figures.clients.is_sorted_by(|a, b| of(a) < of(b)), "each slot comes once");
        }
    } else {
        match register_over(near) {
            Ok(client) => {
                assert_eq!(said.first(), Some(&true), "it took something that is not a sealed channel");
                assert_eq!(client.limits().ring_size as u64, RING);
                client.closer().close();
                assert_ne!(client.closer().reason(), Some(CloseReason::ProtocolViolation));
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// An introduction, of which one byte may be another one, or the last ones be missing.
fn introduction(input: &mut Input<'_>) -> Vec<u8> {
    let max_block = if input.byte() % 4 == 0 { 256 + u64::from(input.byte()) * 7 } else { RING / 2 - 8 };
    let mut body = [&7_u64.to_le_bytes()[..], &input.word16().to_le_bytes()].concat();
    body.extend_from_slice(&RING.to_le_bytes());
    body.extend_from_slice(&max_block.to_le_bytes());
    body.extend_from_slice(&[3; 16 + 3 * 4]);
    body.extend_from_slice(b"\x03bob");
    match input.byte() {
        at @ 0..58 => body[usize::from(at)] = input.byte(),
        at @ 58..70 => body.truncate(usize::from(at) - 12),
        _ => {}
    }
    body
}

/// Memory of a link, in which the other client has said hello and something else.
fn link_memory(input: &mut Input<'_>) -> Option<OwnedFd> {
    let file = memfd_create("fuzz", CLOEXEC).ok()?;
    let said = [12, [0, 13, 14, 99][usize::from(input.byte()) % 4]];
    for (line, status) in (0..).zip(said) {
        let header = line << 34 | 1 << 32 | 8;
        let record = [u64::to_le_bytes(header), u64::to_le_bytes(status)].concat();
        rustix::io::pwrite(&file, &record, RESPONSES + 64 * line).ok()?;
    }
    ftruncate(&file, LINK).ok()?;
    fcntl_add_seals(&file, SEALS).ok()?;
    Some(file)
}

/// The descriptors of an introduction: all are right, or else one is another one, some are missing, or one is
/// too many. Also the other client's ends of the pipes.
fn link_descriptors(input: &mut Input<'_>) -> Option<(Vec<OwnedFd>, bool, [OwnedFd; 2])> {
    use rustix::process::{PidfdFlags, getpid, pidfd_open};
    let ((own, far_own), (far, others)) = (std::io::pipe().ok()?, std::io::pipe().ok()?);
    let process = pidfd_open(getpid(), PidfdFlags::empty()).ok()?;
    let own_write = far_own.try_clone().ok()?;
    let mut all = vec![link_memory(input)?, own.into(), own_write.into(), others.into(), process];
    let wrong = input.byte();
    if wrong % 4 != 0 {
        return Some((all, true, [far_own.into(), far.into()]));
    }
    match usize::from(wrong / 4) % 7 {
        5 => all.truncate(usize::from(input.byte()) % 5),
        6 => all.push(descriptor(input)?.0),
        at => all[at] = descriptor(input)?.0,
    }
    // The read end of another pipe is as good.
    let right = wrong / 4 % 7 == 1 && is_pipe(&all[1]);
    Some((all, right, [far_own.into(), far.into()]))
}

/// A server with arbitrary answers to a client that asks about links.
fn answer_about_links(client: &mut Client, input: &mut Input<'_>) {
    let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None).expect("sockets");
    let form = input.byte();
    let (mut right, mut pipes) = (false, None);
    if form % 8 == 0 {
        let _ = say(&far, input);
    } else if let Some((descriptors, all, ends)) = link_descriptors(input) {
        let body = if form % 8 == 1 { Vec::new() } else { introduction(input) };
        let head = [&b"RINGPOST\x04\0\0\0"[..], &[0; 4]].concat();
        let sent = send(&far, &[head, body.clone()].concat(), &descriptors);
        right = sent && all && is_link(&body, &descriptors[0]);
        // The other client lives on, or has ended.
        pipes = Some(ends).filter(|_| form % 32 < 16);
    }
    // The server hangs up, unless the client is to wait in vain.
    let _far = Some(far).filter(|_| form % 16 == 7);
    match form / 32 % 4 {
        0 => assert!(!bell_over(client, near) || form % 8 < 2, "only an empty answer brings a bell"),
        1 => {
            if let Some(incoming) = take_over(client, near) {
                assert!(right, "it took something that is not a link");
                incoming.refuse("enough");
            }
        }
        _ => match link_over(client, near) {
            Ok(link) => {
                assert!(right, "it took something that is not a link");
                assert_eq!(link.limits().ring_size as u64, RING);
            }
            Err(ConnectError::Refused(text)) => assert!(right && !text.is_empty()),
            Err(error) => assert!(!error.to_string().is_empty()),
        },
    }
    drop(pipes);
}

/// The descriptors that the process's watcher keeps: an epoll instance and a pair of sockets.
const OF_THE_WATCHER: i32 = 3;

/// The lowest free descriptor number.
fn free_descriptor() -> i32 {
    let probe = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).expect("a descriptor");
    probe.as_raw_fd()
}

fuzz_target!(|data: &[u8]| {
    STAGE.with_borrow_mut(|stage| {
        let mut input = Input(data);
        match input.byte() {
            240.. => answer_about_links(&mut stage.client, &mut input),
            form if form % 3 == 0 => answer(&mut input),
            _ => ask(stage, &mut input),
        }
        let Some(lowest) = stage.lowest else {
            stage.lowest = Some(free_descriptor());
            return;
        };
        // Some descriptors are closed on other threads, and the server only checks now and then whether
        // answers were received. So wait for both.
        let limit = Instant::now() + Duration::from_secs(5);
        while free_descriptor() > lowest + OF_THE_WATCHER {
            assert!(
                Instant::now() < limit,
                "descriptors are left behind: {} after {lowest}",
                free_descriptor()
            );
            stage.acceptor.turn();
            std::thread::yield_now();
        }
    });
});

/// The slot of a client's key: its last two bytes.
fn slot(client: &ClientInfo) -> u16 {
    (u128::from_le_bytes(client.key.to_bytes()) >> 112) as u16
}
