//! The caller's half of the handshake, against a server and a callee that the test plays block by block.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use tempfile::TempDir;

use super::*;
use crate::channel::LinkEnds;
use crate::client::{Client, Link};
use crate::connect::dial::Line;
use crate::{Server, WaitStrategy};

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
        let mut poll_fd = [PollFd::new(&self.callers, PollFlags::empty())];
        poll(&mut poll_fd, None).unwrap();
        assert!(poll_fd[0].revents().contains(PollFlags::ERR));
        self.ends.closer.reason().unwrap().into()
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
        let [segment, own, callers, _process] = answer.descriptors.exactly().unwrap();
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
