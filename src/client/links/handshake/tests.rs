//! The caller's half of the handshake, against a server and a callee that the test plays block by block.

use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
use tempfile::TempDir;

use super::*;
use crate::Server;
use crate::WaitStrategy;
use crate::channel::{Geometry, LinkEnds, Side, open_link};
use crate::client::links::end::LinkEnd;
use crate::client::session::Place;
use crate::client::{CallError, Client, Link};
use crate::connect::connection::Connection;
use crate::connect::dial::Line;
use crate::connect::{Reply, Role};
use crate::wire::{
    BLOCK_HEADER, BlockHeader, CloseReason, HELLO_TIME, Key, LONGEST_REFUSAL, Name, Operation, Peer, Status,
    Violation,
};

const LONG: Duration = Duration::from_secs(60);

/// A server, a client that calls, and one whose part the test plays.
struct Bus {
    alice: Client,
    bob: Client,
    bell: OwnedFd,
    _server: Server,
    _directory: TempDir,
}

/// The callee's part of a link.
struct Callee {
    ends: LinkEnds,
    /// What shows the caller that the callee is there, and the other way round.
    own: OwnedFd,
    callers: OwnedFd,
}

impl Callee {
    /// The next request: operation, number and body.
    fn hear(&mut self) -> (Option<Operation>, u32, Vec<u8>) {
        let found = self.ends.consumer.find(&mut LONG.into()).unwrap();
        let block = self.ends.consumer.take(found);
        let header = BlockHeader::of(&block).unwrap();
        let mut body = Vec::new();
        block.append_to(BLOCK_HEADER, &mut body);
        block.release();
        (Operation::from_code(header.code.get()), header.sequence.get(), body)
    }

    fn say(&mut self, status: Status, sequence: u32, body: &[u8]) {
        let header = BlockHeader::new(status as u16, 0, sequence).to_word();
        self.ends.producer.try_publish(Some(header), &[body]).unwrap();
        self.ends.producer.notify();
    }

    /// Waits until the caller has given its end up, and returns the reason that it told.
    fn end(self) -> CloseReason {
        self.await_hang_up();
        self.ends.closer.reason().unwrap().into()
    }

    fn await_hang_up(&self) {
        let mut poll_fd = [PollFd::new(&self.callers, PollFlags::empty())];
        poll(&mut poll_fd, None).unwrap();
        assert!(poll_fd[0].revents().contains(PollFlags::ERR));
    }
}

impl Bus {
    fn new() -> Bus {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bus");
        let server = Server::builder(&path).start().unwrap();
        let [alice, mut bob] = ["alice", "bob"].map(|name| Client::register(&path, name).unwrap());
        let answer = ask(&mut bob, Ask::Listen);
        bob.caller.session().words.set_serving(true);
        let bell = answer.descriptors.only().unwrap();
        Bus { alice, bob, bell, _server: server, _directory: directory }
    }

    /// The alice of this bus connects to bob on another thread.
    fn connecting(&mut self, options: LinkOptions) -> JoinHandle<(Result<Link, ConnectError>, Client)> {
        let path = self.alice.caller.session().links.place.path.clone();
        let alice = std::mem::replace(&mut self.alice, Client::register(path, "carol").unwrap());
        thread::spawn(move || {
            let mut alice = alice;
            (options.connect(alice.caller(), "bob"), alice)
        })
    }

    /// What bob takes after his bell has rung.
    fn take(&mut self) -> Callee {
        poll(&mut [PollFd::new(&self.bell, PollFlags::IN)], None).unwrap();
        assert_eq!(rustix::io::read(&self.bell, &mut [0]), Ok(1));
        let answer = ask(&mut self.bob, Ask::Take);
        let introduction = Introduction::decode(&answer.body).unwrap();
        assert_eq!(introduction.peer.name.as_str(), "alice");
        let geometry = Geometry::new(introduction.ring_size).unwrap();
        let [segment, own, _own_kick, callers, _process] = answer.descriptors.exactly().unwrap();
        let ends = open_link(segment, &geometry, WaitStrategy::Park, Side::Callee).unwrap();
        Callee { ends, own, callers }
    }

    /// What the caller is told after the callee said this.
    fn told(&mut self, say: impl FnOnce(&mut Callee)) -> (ConnectError, CloseReason) {
        let connecting = self.connecting(Link::options().timeout(LONG));
        let mut callee = self.take();
        assert_eq!(callee.hear(), (Some(Operation::Hello), 0, vec![]));
        say(&mut callee);
        let (told, alice) = connecting.join().unwrap();
        self.alice = alice;
        (told.unwrap_err(), callee.end())
    }

    /// How many links the server notes for the caller.
    fn links(&mut self) -> u32 {
        let list = self.bob.list().unwrap();
        list.iter().find(|info| info.name.as_str() == "alice").unwrap().links
    }
}

fn ask(client: &mut Client, what: impl Fn(crate::connect::Proof) -> Ask) -> Answer {
    let session = client.caller.session();
    let until = Instant::now() + LONG;
    Line::connect(&session.links.place.path, until).unwrap().ask(&what(session.proof()), until).unwrap()
}

#[test]
fn an_accepted_caller_calls() {
    let mut bus = Bus::new();
    let connecting = bus.connecting(Link::options());
    let mut callee = bus.take();
    callee.say(Status::Hello, 0, b"");
    callee.say(Status::Ok, 0, b"");
    let (link, _alice) = connecting.join().unwrap();
    let mut link = link.unwrap();
    assert_eq!((link.peer().name.as_str(), link.peer().key), ("bob", bus.bob.key()));
    assert_eq!(bus.links(), 1);
    let callee = thread::spawn(move || {
        let heard = [(); 3].map(|()| callee.hear());
        callee.say(Status::Ok, 0, b"pong");
        (heard, callee)
    });
    link.post(b"first").unwrap();
    assert_eq!(link.call(b"ping").unwrap(), b"pong");
    let (heard, callee) = callee.join().unwrap();
    let posted = (Some(Operation::Post), 0, b"first".to_vec());
    let called = (Some(Operation::Call), 0, b"ping".to_vec());
    assert_eq!(heard, [(Some(Operation::Hello), 0, vec![]), posted, called]);
    drop(link);
    assert_eq!(callee.end(), CloseReason::Peer);
}

#[test]
fn a_refusal_is_told_with_its_text_and_leaves_nothing() {
    let mut bus = Bus::new();
    let mut refuse = |text: &[u8]| {
        let (told, closed) = bus.told(|callee| {
            callee.say(Status::Hello, 0, b"");
            callee.say(Status::Refused, 0, text);
            // What was said before a close is heard.
            callee.ends.closer.close_as(CloseReason::Local);
        });
        assert_eq!(closed, CloseReason::Local);
        let ConnectError::Refused(text) = told else { panic!("{told}") };
        text
    };
    assert_eq!(refuse(b"not \x1b[31mtoday"), "not [31mtoday");
    assert_eq!(refuse(b""), "it gave no reason");
    assert_eq!(refuse(&[b'x'; 9000]).len(), LONGEST_REFUSAL);
    let (told, _) = bus.told(|callee| {
        callee.say(Status::Hello, 0, b"");
        callee.say(Status::Busy, 0, b"");
    });
    assert!(matches!(told, ConnectError::Busy(_)), "{told}");
    assert_eq!(bus.links(), 0);
}

/// The callee need not wait for the caller's hello before it refuses.
#[test]
fn a_refusal_before_the_callers_hello_is_heard() {
    let (geometry, [ends, callees]) = both();
    let (own, callers) = rustix::pipe::pipe().unwrap();
    let mut callee = Callee { ends: callees, own, callers };
    callee.say(Status::Hello, 0, b"");
    callee.say(Status::Refused, 0, b"no");
    callee.ends.closer.close_as(CloseReason::Local);
    let end = unwatched(&ends);
    let mut greeting = Greeting::over(ends, geometry, end, None, Instant::now() + HELLO_TIME).unwrap();
    assert!(matches!(greeting.look(), Err(ConnectError::Refused(why)) if why == "no"));
    let told = greeting.look();
    assert!(matches!(told, Err(ConnectError::Gone(CloseReason::Peer))), "{told:?}");
}

/// Both sides of a link of which no server knows.
fn both() -> (Geometry, [LinkEnds; 2]) {
    let geometry = Geometry::new(4096).unwrap();
    let segment = crate::channel::create_link(&geometry).unwrap();
    let ends = [Side::Caller, Side::Callee]
        .map(|side| open_link(&segment, &geometry, WaitStrategy::Park, side).unwrap());
    (geometry, ends)
}

fn unwatched(ends: &LinkEnds) -> LinkEnd {
    let place =
        Place { path: "unused".into(), wait: WaitStrategy::Park, timeout: Duration::ZERO, relay: false };
    let peer = Peer { name: Name::new("bob").unwrap(), key: Key::from_u128(7), pid: 1, uid: 2, gid: 3 };
    LinkEnd::unwatched(&crate::client::links::Links::new(place), Role::Caller, peer, ends.closer.clone())
}

/// Who looks and does not wait finds the same.
#[test]
fn a_caller_that_only_looks_hears_what_came() {
    let (geometry, [ends, callees]) = both();
    let (own, callers) = rustix::pipe::pipe().unwrap();
    let mut callee = Callee { ends: callees, own, callers };
    let end = unwatched(&ends);
    let mut greeting = Greeting::over(ends, geometry, end, None, Instant::now() + HELLO_TIME).unwrap();
    assert_eq!(callee.hear(), (Some(Operation::Hello), 0, vec![]));
    assert!(!greeting.look().unwrap());
    callee.say(Status::Hello, 0, b"");
    assert!(!greeting.look().unwrap());
    callee.say(Status::Ok, 0, b"");
    assert!(greeting.look().unwrap());
    let mut link = greeting.into_link();
    link.post(b"first").unwrap();
    assert_eq!(callee.hear(), (Some(Operation::Post), 0, b"first".to_vec()));
}

#[test]
fn a_caller_that_only_looks_gives_a_silent_callee_up() {
    let (geometry, [ends, callees]) = both();
    let end = unwatched(&ends);
    let mut greeting = Greeting::over(ends, geometry, end, None, Instant::now()).unwrap();
    assert!(greeting.look().is_err_and(|error| error.is_timeout()));
    drop(greeting);
    assert_eq!(callees.closer.reason().map(CloseReason::from), Some(CloseReason::Peer));
}

/// A connect for an event loop, of which each step is awaited here.
#[test]
fn a_connect_goes_on_when_its_descriptors_are_readable() {
    let mut bus = Bus::new();
    let mut connecting =
        Connecting::begin(bus.alice.caller(), "bob".parse().unwrap(), Link::options()).unwrap();
    poll(&mut [PollFd::new(&connecting, PollFlags::IN)], None).unwrap();
    let mut greeting = connecting.look().unwrap().unwrap();
    let mut callee = bus.take();
    assert_eq!(callee.hear(), (Some(Operation::Hello), 0, vec![]));
    assert!(!greeting.look().unwrap());
    callee.say(Status::Hello, 0, b"");
    callee.say(Status::Ok, 0, b"");
    assert!(greeting.look().unwrap());
    drop(greeting.into_link());
    assert_eq!((callee.end(), bus.links()), (CloseReason::Peer, 0));
    // Nobody heeds this answer.
    let connecting = Connecting::begin(bus.alice.caller(), "bob".parse().unwrap(), Link::options()).unwrap();
    poll(&mut [PollFd::new(&connecting, PollFlags::IN)], None).unwrap();
    assert_eq!(bus.links(), 1);
    drop(connecting);
    bus.take().await_hang_up();
    assert_eq!(bus.links(), 0);
    let nobody = Connecting::begin(bus.alice.caller(), "carol".parse().unwrap(), Link::options());
    let mut nobody = nobody.unwrap();
    poll(&mut [PollFd::new(&nobody, PollFlags::IN)], None).unwrap();
    assert!(matches!(nobody.look(), Err(ConnectError::NotFound)));
}

#[test]
fn a_callee_that_breaks_the_handshake_is_left() {
    let mut bus = Bus::new();
    let cases: [&dyn Fn(&mut Callee); 7] = [
        &|callee| callee.say(Status::Ok, 0, b""),
        &|callee| callee.say(Status::Hello, 1, b""),
        &|callee| callee.ends.producer.send(b"short").unwrap(),
        &|callee| callee.ends.producer.send(&[0xff; 8]).unwrap(),
        &|callee| (0..2).for_each(|_| callee.say(Status::Hello, 0, b"")),
        &|callee| {
            callee.say(Status::Hello, 0, b"");
            callee.say(Status::Ok, 1, b"");
        },
        &|callee| {
            callee.say(Status::Hello, 0, b"");
            callee.say(Status::ServiceFailed, 0, b"no");
        },
    ];
    for (number, say) in cases.into_iter().enumerate() {
        let (told, closed) = bus.told(say);
        let ConnectError::Violation(violation) = told else { panic!("{number}: {told}") };
        assert_eq!((violation, closed), (Violation::MalformedBlock, CloseReason::ProtocolViolation));
    }
    assert_eq!(bus.links(), 0);
}

/// The statuses of the handshake are no answer to a call.
#[test]
fn a_callee_that_greets_again_is_left() {
    for status in [Status::Hello, Status::Refused, Status::Busy] {
        let mut bus = Bus::new();
        let connecting = bus.connecting(Link::options());
        let mut callee = bus.take();
        callee.say(Status::Hello, 0, b"");
        callee.say(Status::Ok, 0, b"");
        let (link, _alice) = connecting.join().unwrap();
        callee.say(status, 0, b"");
        let mut link = link.unwrap();
        assert_eq!(link.call(b"ping"), Err(CallError::Violation(Violation::MalformedBlock)));
        drop(link);
        assert_eq!(callee.end(), CloseReason::ProtocolViolation);
    }
}

#[test]
fn a_callee_that_goes_away_is_gone() {
    let mut bus = Bus::new();
    let leave: [&dyn Fn(&mut Callee); 3] = [
        &|callee| callee.ends.closer.close_as(CloseReason::Unregistered),
        &|callee| {
            callee.say(Status::Hello, 0, b"");
            callee.ends.closer.close_as(CloseReason::Unregistered);
        },
        // As the kernel does when it dies.
        &|callee| drop(std::mem::replace(&mut callee.own, callee.callers.try_clone().unwrap())),
    ];
    for (leave, reason) in
        leave.into_iter().zip([CloseReason::Unregistered, CloseReason::Unregistered, CloseReason::Died])
    {
        let (told, closed) = bus.told(leave);
        assert!(matches!(told, ConnectError::Gone(found) if found == reason), "{told}");
        assert_eq!(closed, reason);
    }
    assert_eq!(bus.links(), 0);
}

#[test]
fn a_caller_gives_up_at_its_deadline() {
    let mut bus = Bus::new();
    for greets in [false, true] {
        let connecting = bus.connecting(Link::options().timeout(Duration::from_secs(2)));
        let mut callee = bus.take();
        if greets {
            callee.say(Status::Hello, 0, b"");
        }
        let (told, alice) = connecting.join().unwrap();
        assert!(told.unwrap_err().is_timeout());
        assert_eq!(callee.end(), CloseReason::Peer);
        bus.alice = alice;
    }
    // Nobody took this one.
    let (told, alice) = bus.connecting(Link::options().timeout(Duration::from_millis(20))).join().unwrap();
    assert!(told.unwrap_err().is_timeout());
    bus.alice = alice;
    assert_eq!(bus.links(), 0);
}

#[test]
fn a_closer_ends_the_wait_for_a_callee() {
    let mut bus = Bus::new();
    let closer = bus.alice.closer();
    let connecting = bus.connecting(Link::options().timeout(LONG));
    let callee = bus.take();
    closer.close();
    let (told, mut alice) = connecting.join().unwrap();
    assert!(matches!(told, Err(ConnectError::Gone(CloseReason::Local))));
    assert_eq!(callee.end(), CloseReason::Peer);
    let told = alice.connect("bob").unwrap_err();
    assert!(matches!(told, ConnectError::ServerGone(CloseReason::Local)) && told.is_disconnected());
}

#[test]
fn rings_that_cannot_be_are_not_asked_for() {
    let mut bus = Bus::new();
    for size in [0, 2048, 5000, 1 << 31] {
        let told = Link::options().ring_size(size).connect(bus.alice.caller(), "bob").unwrap_err();
        assert!(matches!(told, ConnectError::Channel(_)), "{told}");
    }
    let mut nothing = [0];
    rustix::io::ioctl_fionbio(&bus.bell, true).unwrap();
    assert_eq!(rustix::io::read(&bus.bell, &mut nothing), Err(rustix::io::Errno::AGAIN));
}

#[test]
fn an_answer_that_comes_too_late_is_given_up_and_noted() {
    let bus = Bus::new();
    let (near, server) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let line = Line { connection: Connection::of(near).unwrap() };
    let session = bus.alice.caller.session();
    let (key, name) = (bus.bob.key(), *bus.bob.name());
    let peer = Peer { name, key, pid: 1, uid: 2, gid: 3 };
    let introduction = Introduction { id: 1, index: 77, ring_size: 4096, max_block: 2040, peer };
    send(&server, &Reply::done(&introduction.encode()), SendFlags::empty()).unwrap();
    send(&server, &Reply::refused(Refusal::Full, ""), SendFlags::empty()).unwrap();
    let before = session.words.bit(77);
    note_unused(session, &line.give_up().unwrap());
    assert_ne!(session.words.bit(77), before);
    assert!(line.give_up().is_none());
    let late = send(&server, b"more", SendFlags::NOSIGNAL);
    assert_eq!(late, Err(rustix::io::Errno::PIPE));
}
