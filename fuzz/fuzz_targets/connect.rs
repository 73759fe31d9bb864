//! Both ends of the connect channel against any datagrams, with and without descriptors: a server that is asked, and a client that
//! registers or observes.
//!
//! Neither panics; the server answers each question in the form of an answer and forgets who hangs up; the client takes no memory but a
//! sealed channel; and no descriptor is left behind.

#![no_main]

mod input;

use std::cell::RefCell;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use input::Input;
use libfuzzer_sys::fuzz_target;
use ringpost::CloseReason;
use ringpost::channel::{self, Geometry};
use ringpost::hostile::{Reception, observe_over, register_over};
use ringpost::shm::Segment;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, sendmsg,
    socket_with, socketpair,
};

struct Stage {
    reception: Reception,
    address: SocketAddrUnix,
    /// The lowest descriptor that is free while nothing goes on.
    lowest: Option<i32>,
}

thread_local! {
    static STAGE: RefCell<Stage> = RefCell::new(Stage::new());
}

impl Stage {
    fn new() -> Stage {
        let path = std::env::temp_dir().join(format!("ringpost-fuzz-{}", std::process::id()));
        let reception = Reception::open(&path);
        Stage { reception, address: SocketAddrUnix::new(&path).expect("a short path"), lowest: None }
    }
}

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);
const CLOEXEC: MemfdFlags = MemfdFlags::CLOEXEC.union(MemfdFlags::ALLOW_SEALING);
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// A datagram: right in its frame or in nothing.
fn datagram(input: &mut Input<'_>) -> Vec<u8> {
    let form = input.byte();
    let mut datagram = Vec::new();
    if form % 16 != 0 {
        datagram.extend_from_slice(b"RINGPOST");
        datagram.extend_from_slice(&(1 + u32::from(form / 240)).to_le_bytes());
        datagram.extend_from_slice(&u16::from(input.byte() % 12).to_le_bytes());
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

/// Memory of this length with these seals.
fn memory(len: u64, seals: SealFlags, flags: MemfdFlags) -> Option<OwnedFd> {
    let file = memfd_create("fuzz", flags).ok()?;
    ftruncate(&file, len).ok()?;
    fcntl_add_seals(&file, seals).ok()?;
    Some(file)
}

/// A descriptor, of any kind that somebody might send.
fn descriptor(input: &mut Input<'_>) -> Option<OwnedFd> {
    let geometry = Geometry::new(4096).expect("the smallest ring");
    const LEN: u64 = 4096 + 3 * 4096;
    match input.byte() % 12 {
        // As it should be; or so, but for some of its first bytes.
        0..4 => channel::create(&geometry, Default::default()).ok().map(|(_, descriptor)| descriptor),
        4 | 5 => {
            let (_, descriptor) = channel::create(&geometry, Default::default()).ok()?;
            let segment = Segment::open(&descriptor).ok()?;
            let at = usize::from(input.byte() % 32);
            let bytes = input.bytes(8);
            segment.copy_in(at, bytes);
            Some(descriptor)
        }
        6 => memory(LEN, SealFlags::from_bits_retain(u32::from(input.byte() % 16)), CLOEXEC),
        7 => memory(u64::from(input.word16()), SEALS, CLOEXEC),
        8 => memory(1 << 21, SEALS, CLOEXEC | MemfdFlags::HUGETLB),
        9 => File::open("/proc/self/exe").ok().map(OwnedFd::from),
        10 => std::io::pipe().ok().map(|(read, _)| read.into()),
        _ => rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).ok(),
    }
}

/// Sends a datagram with up to five descriptors. It may be refused: too long, or nobody reads.
fn say(socket: &OwnedFd, input: &mut Input<'_>) {
    let datagram = datagram(input);
    let descriptors: Vec<OwnedFd> = (0..input.byte() % 6).filter_map(|_| descriptor(input)).collect();
    let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(5))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let _ = sendmsg(socket, &[IoSlice::new(&datagram)], &mut control, flags);
}

/// Reads the answers that are there. Each has the form of one, and at most one descriptor, with an Ok.
fn hear(socket: &OwnedFd) {
    let mut bytes = [0; 20_000];
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
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
        assert!(descriptors.len() <= usize::from(!refused));
        for descriptor in &descriptors {
            channel::open(descriptor, Default::default()).expect("what a server sends is a channel");
        }
    }
}

/// Clients of a server that say what they like.
fn ask(stage: &mut Stage, input: &mut Input<'_>) {
    let mut sockets: Vec<OwnedFd> = Vec::new();
    while !input.is_empty() {
        match input.byte() % 8 {
            0 if sockets.len() < 5 => {
                let socket =
                    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None).expect("a socket");
                connect(&socket, &stage.address).expect("a server");
                say(&socket, input);
                sockets.push(socket);
            }
            1..4 if !sockets.is_empty() => {
                let one = usize::from(input.byte()) % sockets.len();
                say(&sockets[one], input);
            }
            4 | 5 => stage.reception.turn(),
            6 if !sockets.is_empty() => {
                let one = usize::from(input.byte()) % sockets.len();
                hear(&sockets[one]);
            }
            7 if !sockets.is_empty() => {
                let one = usize::from(input.byte()) % sockets.len();
                sockets.swap_remove(one);
            }
            _ => {}
        }
    }
    stage.reception.turn();
    sockets.iter().for_each(hear);
    drop(sockets);
    let limit = Instant::now() + Duration::from_secs(5);
    while !stage.reception.is_quiet() {
        assert!(Instant::now() < limit, "somebody is not forgotten");
        stage.reception.turn();
        std::thread::yield_now();
    }
}

/// A server that answers what it likes.
fn answer(input: &mut Input<'_>) {
    let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None).expect("sockets");
    let observes = input.byte() % 4 == 0;
    for _ in 0..=input.byte() % 3 {
        say(&far, input);
    }
    let silent = input.byte() % 16 == 0;
    // One that hangs up, unless it is to be waited for in vain.
    let _far = if silent { Some(far) } else { None };
    if observes {
        let observer = observe_over(near);
        let _ = observer.server();
        let _ = observer.list();
    } else {
        match register_over(near) {
            Ok(client) => {
                assert_eq!(client.limits().ring_size % 4096, 0);
                client.close_handle().close();
                assert_ne!(client.close_handle().reason(), Some(CloseReason::ProtocolViolation));
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    STAGE.with_borrow_mut(|stage| {
        let mut input = Input(data);
        if input.byte() % 3 == 0 {
            answer(&mut input);
        } else {
            ask(stage, &mut input);
        }
        let probe = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).expect("a descriptor");
        match stage.lowest {
            // The first client of the process starts its watcher, which keeps one.
            Some(lowest) if probe.as_raw_fd() <= lowest + 2 => {}
            Some(lowest) => panic!("descriptors are left behind: {} after {lowest}", probe.as_raw_fd()),
            None => stage.lowest = Some(probe.as_raw_fd()),
        }
    });
});
