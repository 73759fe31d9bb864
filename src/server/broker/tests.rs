//! Tests of introductions with a whole server, by clients that ask what they like.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use crate::channel::{self, Geometry, Guest, Side};
use crate::connect::dial::{DialError, Line};
use crate::connect::{
    Ask, Introduction, LinkInfo, Proof, Refusal, Reply, Role, Secret, decode_indices, decode_links,
};
use crate::ring::WaitStrategy;
use crate::server::Server;
use crate::wire::{Address, CloseReason, Key, Name};

/// Longer than any test.
const LIMIT: Duration = Duration::from_secs(60);

struct Bus {
    server: Server,
    path: PathBuf,
    _scratch: tempfile::TempDir,
}

impl Bus {
    fn new() -> Bus {
        Bus::with(|quotas| quotas.links = 1024)
    }

    fn with(set: impl FnOnce(&mut crate::Quotas)) -> Bus {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("bus");
        let mut quotas = crate::Quotas::default();
        set(&mut quotas);
        let server = Server::builder(&path).quotas(quotas).ring_size(4096).start().unwrap();
        Bus { server, path, _scratch: scratch }
    }

    fn register(&self, name: &str) -> Raw {
        Raw::register(&self.path, name)
    }
}

/// A registered client that asks by hand.
struct Raw {
    path: PathBuf,
    proof: Proof,
    name: Name,
    guest: Guest,
    lifeline: Line,
    bell: Option<OwnedFd>,
}

/// One side of a link, as it was introduced.
#[derive(Debug)]
struct Taken {
    introduction: Introduction,
    segment: OwnedFd,
    own: OwnedFd,
    others: OwnedFd,
    process: OwnedFd,
}

fn deadline() -> Instant {
    Instant::now() + LIMIT
}

fn ask(path: &Path, ask: &Ask) -> Result<crate::connect::dial::Answer, DialError> {
    Line::connect(path, deadline()).unwrap().ask(ask, deadline())
}

/// The refusal of a request, and its text.
fn refused<T: std::fmt::Debug>(answer: Result<T, DialError>) -> (Refusal, String) {
    match answer.unwrap_err() {
        DialError::Refused(refusal, why) => (refusal, why),
        other => panic!("{other:?}"),
    }
}

impl Raw {
    fn register(path: &Path, name: &str) -> Raw {
        let name = Name::new(name).unwrap();
        let lifeline = Line::connect(path, deadline()).unwrap();
        let answer = lifeline.ask(&Ask::Register(name), deadline()).unwrap();
        let proof = Reply::registration(&answer.body).unwrap();
        let guest =
            channel::open_for_client(answer.descriptors.first().unwrap(), WaitStrategy::Park).unwrap();
        Raw { path: path.to_owned(), proof, name, guest, lifeline, bell: None }
    }

    fn serving(bus: &Bus, name: &str) -> Raw {
        let mut client = bus.register(name);
        client.listen();
        client
    }

    fn listen(&mut self) {
        self.guest.links.set_serving(true);
        let answer = ask(&self.path, &Ask::Listen(self.proof)).unwrap();
        assert!(answer.body.is_empty());
        self.bell = Some(answer.descriptors.only().unwrap());
    }

    fn connect(&self, to: &str) -> Result<Taken, DialError> {
        self.connect_with(0, Name::new(to).unwrap().into())
    }

    fn connect_with(&self, ring_size: u64, to: Address) -> Result<Taken, DialError> {
        let answer = ask(&self.path, &Ask::Connect { proof: self.proof, ring_size, to })?;
        Ok(Taken::from(answer))
    }

    fn take(&self) -> Option<Taken> {
        let answer = ask(&self.path, &Ask::Take(self.proof)).unwrap();
        if answer.body.is_empty() { None } else { Some(Taken::from(answer)) }
    }

    /// Whether the bell rings within a time. Then it is silent again.
    fn hears(&self, within: Duration) -> bool {
        let bell = self.bell.as_ref().unwrap();
        let rings = is_ready(bell, PollFlags::IN, within);
        while rustix::io::read(bell, &mut [0; 64]).is_ok_and(|read| read > 0) {}
        rings
    }

    /// How many links the server counts for this client, and whether it serves.
    fn listed(&self, bus: &Bus) -> (u32, bool) {
        let all = bus.server.clients().unwrap();
        let own = all.iter().find(|client| client.name == self.name).unwrap();
        (own.links, own.serves)
    }

    fn flip(&self, taken: &Taken) {
        self.guest.links.flip(taken.introduction.index);
    }
}

impl Taken {
    fn from(answer: crate::connect::dial::Answer) -> Taken {
        let introduction = Introduction::decode(&answer.body).unwrap();
        let [segment, own, others, process] = answer.descriptors.exactly().unwrap();
        Taken { introduction, segment, own, others, process }
    }

    /// Whether the other side has no end of this side's pipe any more.
    fn is_cut_off(&self, within: Duration) -> bool {
        is_ready(&self.others, PollFlags::empty(), within)
    }

    fn geometry(&self) -> Geometry {
        let Introduction { ring_size, max_block, .. } = self.introduction;
        Geometry::new(ring_size).unwrap().with_max_block(max_block).unwrap()
    }
}

fn is_ready(fd: impl AsFd, flags: PollFlags, within: Duration) -> bool {
    let within = rustix::time::Timespec::try_from(within).unwrap();
    poll(&mut [PollFd::new(&fd, flags)], Some(&within)).unwrap() > 0
}

/// Descriptors of this process, in which server and clients live.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = deadline();
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

fn links(bus: &Bus) -> Vec<LinkInfo> {
    let (mut links, mut from) = (Vec::new(), 0);
    loop {
        let body = ask(&bus.path, &Ask::Links { from }).unwrap().body;
        let (page, next) = decode_links(&body, from).unwrap();
        links.extend(page);
        match next {
            Some(next) => from = next,
            None => return links,
        }
    }
}

#[test]
fn both_sides_of_a_link_get_what_belongs_together() {
    let bus = Bus::new();
    let (alice, bob) = (bus.register("alice"), Raw::serving(&bus, "bob"));
    for (ring_size, to) in [(0, Address::Name(bob.name)), (8192, Address::Key(bob.proof.key))] {
        assert!(bob.take().is_none() && !bob.hears(Duration::ZERO));
        let caller = alice.connect_with(ring_size, to).unwrap();
        assert!(bob.hears(LIMIT));
        let callee = bob.take().unwrap();
        assert!(bob.take().is_none());
        let (one, other) = (&caller.introduction, &callee.introduction);
        assert_eq!((one.id, one.ring_size, one.max_block), (other.id, other.ring_size, other.max_block));
        assert_eq!(one.ring_size as u64, ring_size.max(4096));
        assert_eq!(
            (one.peer.key, one.peer.name, one.peer.pid),
            (bob.proof.key, bob.name, std::process::id())
        );
        assert_eq!((other.peer.key, other.peer.name), (alice.proof.key, alice.name));
        // The rings are one memory, and each end of a pipe belongs to the other's end.
        let open = |taken: &Taken, side| {
            channel::open_link(&taken.segment, &taken.geometry(), WaitStrategy::Park, side).unwrap()
        };
        let (mut calls, mut serves) = (open(&caller, Side::Caller), open(&callee, Side::Callee));
        calls.producer.send(b"hello").unwrap();
        let mut block = Vec::new();
        serves.consumer.recv(&mut block).unwrap();
        assert_eq!(block, b"hello");
        for (from, to) in [(&caller, &callee), (&callee, &caller)] {
            assert_eq!(rustix::io::write(&from.others, b"x"), Ok(1));
            assert_eq!(rustix::io::read(&to.own, &mut [0; 4]), Ok(1));
            assert_eq!(rustix::io::read(&to.own, &mut [0; 4]), Err(rustix::io::Errno::AGAIN));
            assert_eq!(rustix::pipe::fcntl_getpipe_size(&from.own), Ok(4096));
            assert!(!is_ready(&from.process, PollFlags::IN, Duration::ZERO), "this process lives");
            assert!(!from.is_cut_off(Duration::ZERO));
        }
        drop(callee);
        assert!(caller.is_cut_off(LIMIT), "the server keeps no end of the pipes");
    }
}
