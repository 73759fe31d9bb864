//! Ends that wait in an event loop: every way to wait, each end of a client and of a link, room, ends, forks,
//! and rounds in which the other side writes at any moment.

#![allow(unsafe_code, reason = "there is no safe fork, select or closing of all descriptors")]

#[path = "../common/mod.rs"]
mod common;

mod ends;
mod processes;
mod room;
mod rounds;
mod serving;
mod topics;
mod turns;
mod ways;

use common::role::{self, Stage, say, setting};
use common::{Bus, LIMIT};
use ringpost::{Client, Link, Readiness, Ready, Request, Responder, Response, ServiceError};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

/// Runs the role of a child process of this test program; does nothing in the main process.
#[test]
fn role() {
    let Some((role, stage)) = role::role() else { return };
    match role.as_str() {
        "server" => common::server::serve(common::server::as_set(), &stage),
        "forks" => processes::use_in_a_child(),
        "cut off" => processes::close_all_descriptors(),
        "serves" => serve_in_a_loop(),
        "links" => link_to_bob(&stage),
        "sends" => rounds::send_at_any_moment(),
        "answers" => rounds::answer_samples(),
        "forks with topics" => processes::use_topics_in_a_child(),
        "cut off with topics" => processes::close_all_descriptors_of_topics(),
        other => panic!("no role {other:?}"),
    }
}

fn register(name: &str) -> Client {
    Client::register(setting::<PathBuf>("PATH").unwrap(), name).unwrap()
}

/// The role of bob, who serves one link in an event loop until it ends.
fn serve_in_a_loop() {
    let mut bob = register("bob");
    let mut listener = bob.listen().unwrap();
    say("serves");
    let mut responder = listener.accept().unwrap().arms().accept().unwrap();
    let mut waiter = Waiter::new(Way::Level, &responder.readiness().unwrap());
    let end = loop {
        if let Some(end) = responder.serve_ready(echo).unwrap() {
            break end;
        }
        rounds::dally();
        if responder.arm().unwrap() {
            waiter.wait();
        }
    };
    say(format_args!("ended {end:?}"));
}

/// The role of alice, who calls bob once.
fn link_to_bob(stage: &Stage) {
    let mut alice = register("alice");
    let mut link = alice.connect("bob").unwrap();
    assert_eq!(link.call(b"x").unwrap(), b"x");
    say("called");
    stage.await_order("never");
}

fn echo(request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
    response.write(request.payload())
}

/// How an event loop waits.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// `epoll`, level- or edge-triggered, also of an instance within another one.
    Level,
    Edge,
    Nested,
    NestedEdge,
    Poll,
    Select,
}

impl Way {
    const ALL: [Way; 6] = [Way::Level, Way::Edge, Way::Nested, Way::NestedEdge, Way::Poll, Way::Select];
}

/// Waits for one descriptor.
struct Waiter {
    way: Way,
    fd: RawFd,
    outer: OwnedFd,
    _inner: OwnedFd,
}

fn instance_with(fd: BorrowedFd<'_>, flags: EventFlags) -> OwnedFd {
    let epoll = epoll::create(CreateFlags::CLOEXEC).unwrap();
    epoll::add(&epoll, fd, EventData::new_u64(7), flags).unwrap();
    epoll
}

impl Waiter {
    fn new(way: Way, readiness: &Readiness) -> Waiter {
        let inner = instance_with(readiness.as_fd(), EventFlags::IN);
        let outer = match way {
            Way::Edge => instance_with(readiness.as_fd(), EventFlags::IN | EventFlags::ET),
            Way::Nested => instance_with(inner.as_fd(), EventFlags::IN),
            Way::NestedEdge => instance_with(inner.as_fd(), EventFlags::IN | EventFlags::ET),
            Way::Level | Way::Poll | Way::Select => instance_with(readiness.as_fd(), EventFlags::IN),
        };
        Waiter { way, fd: readiness.as_raw_fd(), outer, _inner: inner }
    }

    /// Waits until the descriptor is readable.
    fn wait(&mut self) {
        assert!(self.is_readable_within(LIMIT), "{:?}: a readiness was missed", self.way);
    }

    fn is_readable(&mut self) -> bool {
        self.is_readable_within(Duration::ZERO)
    }

    fn is_readable_within(&mut self, limit: Duration) -> bool {
        let timeout = Timespec::try_from(limit).unwrap();
        // SAFETY: the owner of the readiness keeps it longer than this waiter.
        let fd = unsafe { BorrowedFd::borrow_raw(self.fd) };
        match self.way {
            // A set has no room for larger numbers.
            Way::Select if (self.fd as usize) < libc::FD_SETSIZE => select(self.fd, limit),
            Way::Poll | Way::Select => {
                poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).unwrap() > 0
            }
            _ => {
                let mut space = [MaybeUninit::<epoll::Event>::uninit(); 4];
                let (events, _) = epoll::wait(&self.outer, &mut space, Some(&timeout)).unwrap();
                !events.is_empty()
            }
        }
    }
}

fn select(fd: RawFd, limit: Duration) -> bool {
    let mut timeout = libc::timeval { tv_sec: limit.as_secs().cast_signed(), tv_usec: 0 };
    let mut set = MaybeUninit::<libc::fd_set>::zeroed();
    // SAFETY: the set is zeroed, which is an empty one; the number is smaller than its size, and both
    // structures outlive the call.
    let found = unsafe {
        libc::FD_SET(fd, set.as_mut_ptr());
        libc::select(fd + 1, set.as_mut_ptr(), std::ptr::null_mut(), std::ptr::null_mut(), &raw mut timeout)
    };
    found > 0
}

/// Waits as an event loop does until a look finds something.
fn wait_for<E: Ready, T>(end: &mut E, waiter: &mut Waiter, mut look: impl FnMut(&mut E) -> Option<T>) -> T {
    loop {
        if let Some(found) = look(end) {
            return found;
        }
        if end.arm().unwrap() {
            waiter.wait();
        }
    }
}

/// Arms an end for which nothing is there, until nothing makes its descriptor readable: the kick that belongs
/// to what was found before may come late.
fn arm<E: Ready>(end: &mut E, waiter: &mut Waiter) {
    for _ in 0..10 {
        if end.arm().unwrap() && !waiter.is_readable() {
            return;
        }
    }
    panic!("{:?}: something is there again and again", waiter.way);
}

/// Two clients with a link, both ends of which may wait in an event loop.
struct Linked {
    link: Link,
    responder: Responder,
    rest: (Client, Client, Bus),
}

impl Linked {
    fn new() -> Linked {
        let bus = Bus::start();
        let [alice, mut bob] = ["alice", "bob"].map(|name| bus.client(name));
        let mut listener = bob.listen().unwrap();
        let connecting = common::begin(move || {
            let mut alice = alice;
            let link = Link::options().ring_size(4096).arms().connect(alice.caller(), "bob").unwrap();
            (alice, link)
        });
        let responder = listener.accept().unwrap().arms().accept().unwrap();
        let (alice, link) = connecting.end("a link is opened");
        Linked { link, responder, rest: (alice, bob, bus) }
    }
}

/// Bob serves one link, by turns in an event loop and asleep, until it ends.
fn serve_in_background(bob: Client) -> common::Begun<()> {
    let (tell, told) = std::sync::mpsc::channel();
    let serving = common::begin(move || {
        let mut bob = bob;
        let mut listener = bob.listen().unwrap();
        tell.send(()).unwrap();
        let mut responder = listener.accept().unwrap().arms().accept().unwrap();
        let readiness = responder.readiness().unwrap();
        let mut waiter = Waiter::new(Way::Edge, &readiness);
        while responder.serve_ready(echo).unwrap().is_none() {
            rounds::dally();
            if responder.arm().unwrap() {
                waiter.wait();
            }
        }
    });
    told.recv().unwrap();
    serving
}
