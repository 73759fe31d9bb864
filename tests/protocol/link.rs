//! Links of the independent client, written from `docs/PROTOCOL.md` alone.
//!
//! If the other side breaks a rule, this panics and names the rule.

use super::client::{
    CONNECT, Client, Connection, LISTEN, Memory, Reply, Ring, TAKE, sleep, u16_at, u32_at, u64_at, wake,
};
use super::event_loop::Pipe;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::Timespec;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Longer than anything in these tests takes.
pub const LIMIT: Duration = Duration::from_secs(60);

/// How long the other side's hello may take.
const HELLO_TIME: Duration = Duration::from_secs(5);

const HELLO: u16 = 8;
pub const CALL: u16 = 1;
pub const POST: u16 = 9;

pub const OK: u16 = 0;
const SAYS_HELLO: u16 = 12;
pub const REFUSED: u16 = 13;
pub const BUSY: u16 = 14;

/// A block of a link.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    pub code: u16,
    pub flags: u16,
    pub sequence: u32,
    pub body: Vec<u8>,
}

/// How a link ended: the reason that the other side stored, or 5 if it died.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended(pub u32);

/// One side of a link.
pub struct Link {
    pub index: u16,
    pub peer_key: [u8; 16],
    pub peer_name: String,
    /// Process, user and group.
    pub peer: [u32; 3],
    pub largest: usize,
    memory: Arc<Memory>,
    sends: Ring,
    receives: Ring,
    /// This side's pipe, of which the other side watches the reading end.
    own: Pipe,
    /// Whether it waits there.
    arms: bool,
    others: Arc<OwnedFd>,
    process: OwnedFd,
}

/// Asks for a link to a client of that name, with rings of that size.
pub fn connect(path: &Path, client: &Client, ring_size: u64, name: &str) -> Result<Link, Reply> {
    let body = [&client.proof[..], &ring_size.to_le_bytes(), &[0], name.as_bytes()].concat();
    match Connection::to(path).ask(CONNECT, &body) {
        Reply::Done { body, descriptors } => Ok(Link::open(&body, descriptors, 0)),
        other => Err(other),
    }
}

/// Says that the client takes links, and returns its bell.
pub fn listen(path: &Path, client: &Client) -> OwnedFd {
    client.set_serving(true);
    match Connection::to(path).ask(LISTEN, &client.proof) {
        Reply::Done { body, mut descriptors } => {
            assert!(body.is_empty() && descriptors.len() == 1);
            descriptors.remove(0)
        }
        other => panic!("{other:?}"),
    }
}

/// Waits for the bell, and takes a link.
pub fn take(path: &Path, client: &Client, bell: &OwnedFd) -> Link {
    loop {
        assert!(is_ready(bell, PollFlags::IN, LIMIT), "the bell does not ring");
        while matches!(rustix::io::read(bell, &mut [0; 16]), Ok(1..)) {}
        match Connection::to(path).ask(TAKE, &client.proof) {
            Reply::Done { body, .. } if body.is_empty() => {}
            Reply::Done { body, descriptors } => return Link::open(&body, descriptors, 1),
            other => panic!("{other:?}"),
        }
    }
}

pub fn is_ready(fd: impl AsFd, flags: PollFlags, within: Duration) -> bool {
    let within = Timespec::try_from(within).unwrap();
    poll(&mut [PollFd::new(&fd, flags)], Some(&within)).unwrap() > 0
}

impl Link {
    /// Opens what came with an introduction. The caller, side 0, sends in ring 0; the callee, side 1, in ring
    /// 1.
    fn open(body: &[u8], descriptors: Vec<OwnedFd>, side: usize) -> Link {
        let [segment, own, own_write, others, process] = descriptors.try_into().expect("five descriptors");
        let (size, largest) = (u64_at(body, 10), u64_at(body, 18) as usize);
        assert!(size.is_power_of_two() && (4096..=1 << 30).contains(&size));
        assert!((256..=size as usize / 2 - 8).contains(&largest));
        let memory = Memory::open(&segment, |_| 4096 + 2 * size);
        assert_eq!(
            rustix::io::read(&own, &mut [0]),
            Err(Errno::AGAIN),
            "the pipe neither blocks nor has anything"
        );
        assert_eq!(body.len(), 55 + usize::from(body[54]));
        let (own, others) = (Pipe::new(own, own_write), Arc::new(others));
        let ring = |number| Ring::of(&memory, 4096, number, size, largest).kicks(&others);
        Link {
            index: u16_at(body, 8),
            peer_key: body[26..42].try_into().unwrap(),
            peer_name: String::from_utf8(body[55..].to_vec()).unwrap(),
            peer: [42, 46, 50].map(|at| u32_at(body, at)),
            largest,
            sends: ring(side),
            receives: ring(1 - side),
            memory,
            own,
            arms: false,
            others,
            process,
        }
    }

    /// Sends a block, as soon as there is room.
    pub fn send(&mut self, code: u16, sequence: u32, body: &[u8]) {
        self.send_with(0, code, sequence, body);
    }

    fn send_with(&mut self, flags: u16, code: u16, sequence: u32, body: &[u8]) {
        let header = [code.to_le_bytes(), flags.to_le_bytes()].concat();
        let block = [&header[..], &sequence.to_le_bytes(), body].concat();
        let deadline = Instant::now() + LIMIT;
        while !self.sends.publish(&block) {
            assert!(Instant::now() < deadline, "no room");
            std::thread::yield_now();
        }
    }

    /// The next block, or the link's end behind all that was committed before.
    pub fn receive(&mut self) -> Result<Block, Ended> {
        self.receive_until(Instant::now() + LIMIT).expect("nothing comes")
    }

    /// `None` if nothing has come by then.
    fn receive_until(&mut self, deadline: Instant) -> Option<Result<Block, Ended>> {
        loop {
            if let Some(block) = self.receives.take() {
                assert!(block.len() >= 8, "a header");
                let (code, flags, sequence) = (u16_at(&block, 0), u16_at(&block, 2), u32_at(&block, 4));
                return Some(Ok(Block { code, flags, sequence, body: block[8..].to_vec() }));
            }
            let closed = match self.closed() {
                0 if self.is_alone() => self.closed().max(5),
                closed => closed,
            };
            if closed != 0 {
                if self.receives.is_empty() {
                    return Some(Err(Ended(closed)));
                }
            } else if Instant::now() >= deadline {
                return None;
            } else if self.arms {
                let Link { receives, memory, .. } = &*self;
                let is_closed = || memory.word32(128).load(Ordering::Acquire) != 0;
                self.own.wait(&[receives.consumer_parked()], || !receives.is_empty() || is_closed());
            } else {
                // For at most 50 ms: this client has no thread that watches the other side.
                sleep(self.receives.consumer_parked(), || !self.receives.is_empty() || self.closed() != 0);
            }
        }
    }

    fn closed(&self) -> u32 {
        self.memory.word32(128).load(Ordering::Acquire)
    }

    /// Whether the other side has closed its pipe, or its process has ended.
    fn is_alone(&self) -> bool {
        is_ready(&*self.others, PollFlags::empty(), Duration::ZERO)
            || is_ready(&self.process, PollFlags::IN, Duration::ZERO)
    }

    /// From its next block on, which is its hello or its OK, this side waits in an event loop.
    pub fn arms(&mut self) {
        self.arms = true;
    }

    /// Says hello and waits for the other's, as the caller; then for whether the callee accepts: its status
    /// and text.
    pub fn begin_calls(&mut self) -> (u16, String) {
        self.send_with(self.arms.into(), HELLO, 0, b"");
        let hello = self.receive_until(Instant::now() + HELLO_TIME).expect("no hello").unwrap();
        assert_eq!(hello, Block { code: SAYS_HELLO, flags: 0, sequence: 0, body: Vec::new() });
        let answer = self.receive().unwrap();
        assert!(
            answer.sequence == 0 && answer.flags <= u16::from(answer.code == OK),
            "the flags of a decision"
        );
        (answer.code, String::from_utf8(answer.body).unwrap())
    }

    /// Says hello and waits for the other's, as the callee; then answers.
    pub fn answer(&mut self, status: u16, text: &str) {
        self.send(SAYS_HELLO, 0, b"");
        // Before the flag is sent, this side may not wait in an event loop.
        let arms = std::mem::take(&mut self.arms);
        let hello = self.receive_until(Instant::now() + HELLO_TIME).expect("no hello").unwrap();
        assert!(hello.flags <= 1, "the flags of a hello");
        assert_eq!(hello, Block { code: HELLO, flags: hello.flags, sequence: 0, body: Vec::new() });
        self.arms = arms;
        self.send_with(u16::from(arms && status == OK), status, 0, text.as_bytes());
    }

    /// A call and its response: status and body.
    pub fn call(&mut self, sequence: u32, body: &[u8]) -> (u16, Vec<u8>) {
        self.send(CALL, sequence, body);
        let response = self.receive().unwrap();
        assert_eq!((response.sequence, response.flags), (sequence, 0), "the rule of responses");
        (response.code, response.body)
    }

    /// Ends the link for this reason.
    pub fn close(self, client: &Client, reason: u32) {
        let _ = self.memory.word32(128).compare_exchange(0, reason, Ordering::SeqCst, Ordering::SeqCst);
        for number in 0..2 {
            for word in [128, 256] {
                wake(self.memory.word32(256 + number * 384 + word), Some(&self.others));
            }
        }
        client.end_link(self.index);
    }
}
