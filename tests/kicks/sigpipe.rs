//! A process that kicks while its peer ends: a write into a pipe that nobody reads raises SIGPIPE, by which
//! a process ends unless it asked for something else.
//!
//! Rust programs ask for that before `main`; programs in other languages do not. There is no binding for
//! another language yet, so a process of this test program stands in for a program in C: it gives SIGPIPE its
//! default back, which is all that is different. It kicks on its own thread, where no signal is blocked.
//!
//! Its peer is a hand-written end of a link. It says without pause that it waits in an event loop, and then
//! closes the reading end of its pipe, as its death would. So the next kick, a few microseconds later, has no
//! reader, and the watcher learns of the end later.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ringpost::testing::Segment;
use ringpost::{CallError, Client, CloseReason, Link, Ready};
use rustix::event::PollFlags;
use rustix::io::Errno;

use super::common::by_epoll::ByEpoll;
use super::common::filter::Refused;
use super::common::raw::RawClient;
use super::common::raw_links::is_ready;
use super::common::role::{Role, Stage, say, setting};
use super::common::{Bus, LIMIT, eventually};
use super::raw::{CALL, HELLO, OK, RawLink, STATUS_HELLO};

/// What the system allows to who kicks.
const WAYS: [&str; 3] = ["all", "signals", "no pwritev2"];

/// `RWF_NOSIGNAL`, alone and with `RWF_NOWAIT`.
const QUIETLY: [u32; 2] = [0x100, 0x108];

const ROUNDS: usize = 6;

// ---- the process that kicks

/// Resets the signal, and refuses what this kernel is to have not.
fn prepare() -> bool {
    // SAFETY: sets the default, which runs no code of this process.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let way: String = setting("WAY").unwrap();
    let pwritev2 = Refused::call(libc::SYS_pwritev2);
    match way.as_str() {
        // A kernel before 6.18.
        "signals" => QUIETLY.into_iter().all(|flags| pwritev2.with(5, flags).everywhere(Errno::OPNOTSUPP)),
        "no pwritev2" => pwritev2.everywhere(Errno::NOSYS),
        _ => true,
    }
}

/// Blocks the signal in this thread, and raises it: from now on it is pending.
fn make_pending() {
    // SAFETY: a set of one signal, which is valid; the calls change this thread's mask and send it a signal
    // that is blocked.
    unsafe {
        let mut only: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&raw mut only, libc::SIGPIPE);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const only, std::ptr::null_mut());
        libc::pthread_kill(libc::pthread_self(), libc::SIGPIPE);
    }
}

fn is_pending() -> bool {
    // SAFETY: `sigpending` fills the set, which is then read.
    unsafe {
        let mut pending: libc::sigset_t = std::mem::zeroed();
        libc::sigpending(&raw mut pending);
        libc::sigismember(&raw const pending, libc::SIGPIPE) == 1
    }
}

/// What both sides of a link do: kick until the other side has ended, again and again.
fn kick_until_the_end(mut round: impl FnMut() -> CloseReason) {
    if !prepare() {
        return say("skipped");
    }
    let pending = setting::<String>("PENDING").is_some();
    if pending {
        make_pending();
    }
    say("ready");
    for _ in 0..ROUNDS {
        let ended = round();
        assert!(matches!(ended, CloseReason::Peer | CloseReason::Died), "{ended}");
        assert_eq!(is_pending(), pending);
    }
    say("lives");
}

/// The role of a caller, which posts without pause.
pub fn call(_stage: &Stage) {
    let mut alice = Client::register(setting::<PathBuf>("PATH").unwrap(), "alice").unwrap();
    kick_until_the_end(|| {
        let mut link = connected(&mut alice);
        loop {
            if let Err(error) = link.post(b"") {
                return reason(&error);
            }
        }
    });
}

fn connected(client: &mut Client) -> Link {
    let mut link = None;
    eventually("it listens", || {
        link = client.connect("raw").ok();
        link.is_some()
    });
    link.unwrap()
}

fn reason(error: &CallError) -> CloseReason {
    match error {
        CallError::Disconnected(reason) | CallError::NotSent(reason) => *reason,
        error => panic!("{error}"),
    }
}

/// The role of a callee, which serves calls that come without pause.
pub fn serve(_stage: &Stage) {
    let mut bob = Client::register(setting::<PathBuf>("PATH").unwrap(), "bob").unwrap();
    let mut listener = bob.listen().unwrap();
    kick_until_the_end(|| {
        let mut responder = listener.accept().unwrap().accept().unwrap();
        responder.serve(|request, response| response.write(request.payload())).unwrap()
    });
}

/// The role of a client that waits in an event loop, until it is killed.
pub fn wait(_stage: &Stage) {
    let mut carol = Client::register(setting::<PathBuf>("PATH").unwrap(), "carol").unwrap();
    let mut listener = carol.listen().unwrap();
    say("listens");
    let mut responder = listener.accept().unwrap().arms().accept().unwrap();
    let by = ByEpoll::of(&mut responder, false).unwrap();
    let _ = by.until(&mut responder, None, |responder| {
        responder.serve_ready(|request, response| response.write(request.payload())).unwrap()
    });
}

// ---- the end by hand

/// Says without pause that it waits in an event loop, and goes on with what it does, until it closes the
/// reading end of its pipe.
fn vanish_while_kicked(mut link: RawLink, mut step: impl FnMut(&mut RawLink)) {
    let gone = AtomicBool::new(false);
    let words = Segment::open(&link.side.segment).unwrap();
    // For room in the ring in which it sends, and for data in the other one.
    let own: [usize; 2] = if link.calls() { [256 + 256, 640 + 128] } else { [640 + 256, 256 + 128] };
    thread::scope(|scope| {
        scope.spawn(|| {
            while !gone.load(Ordering::Relaxed) {
                own.iter().for_each(|word| words.word32(*word).store(2, Ordering::Relaxed));
            }
        });
        let mut kicked = 0;
        while kicked < 20 {
            step(&mut link);
            kicked += rustix::io::read(&link.side.own, &mut [0; 256]).unwrap_or(0);
        }
        let nothing: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        drop(std::mem::replace(&mut link.side.own, nothing));
        // The other side goes on, until it has noticed.
        while link.closed() == 0 {
            step(&mut link);
        }
        gone.store(true, Ordering::Relaxed);
    });
}

fn start(role: &str, bus: &Bus, way: &str, pending: bool) -> Option<Role> {
    let path = bus.path().to_str().unwrap();
    let mut settings = vec![("PATH", path), ("WAY", way)];
    if pending {
        settings.push(("PENDING", "yes"));
    }
    let mut role = Role::start(role, &settings);
    match role.hear("").as_str() {
        "skipped" => {
            println!("skipped: no filter can be set here, so that the kernel has what it has");
            None
        }
        said => {
            assert_eq!(said, "ready");
            Some(role)
        }
    }
}

fn lives(mut role: Role) {
    role.hear("lives");
    assert!(role.end().success(), "killed by a signal?");
}

fn a_caller_survives(pending: bool) {
    for way in WAYS {
        let bus = Bus::with(|builder| builder.ring_size(4096));
        let raw = RawClient::register(bus.path(), "raw");
        let bell = raw.listen(bus.path());
        let Some(caller) = start("calls", &bus, way, pending) else { continue };
        for _ in 0..ROUNDS {
            let mut side = None;
            eventually("somebody calls", || {
                let _ = is_ready(&bell, PollFlags::IN, Duration::from_millis(1));
                side = raw.take(bus.path());
                side.is_some()
            });
            let side = side.unwrap();
            let index = side.index;
            let mut link = RawLink::open(side, false);
            link.send(STATUS_HELLO, 0, &[]);
            link.send(OK, 0, &[]);
            vanish_while_kicked(link, |link| {
                let _ = link.next();
            });
            raw.flip(index);
        }
        lives(caller);
    }
}

#[test]
fn a_caller_whose_callee_ends_lives() {
    a_caller_survives(false);
}

#[test]
fn a_signal_that_was_pending_before_stays_so() {
    a_caller_survives(true);
}

#[test]
fn a_callee_whose_caller_ends_lives() {
    for way in WAYS {
        let bus = Bus::with(|builder| builder.ring_size(4096));
        let raw = RawClient::register(bus.path(), "raw");
        let Some(callee) = start("serves", &bus, way, false) else { continue };
        for _ in 0..ROUNDS {
            let side = raw.connect(bus.path(), "bob").unwrap();
            let index = side.index;
            let mut link = RawLink::open(side, true);
            link.send(HELLO, 0, &[]);
            for wanted in [STATUS_HELLO, OK] {
                eventually("it accepts", || link.next().is_some_and(|(code, ..)| code == wanted));
            }
            let mut number = 0;
            vanish_while_kicked(link, |link| {
                while link.next().is_some() {}
                if link.has_room_for(8) {
                    link.send(CALL, number, &[1; 8]);
                    number += 1;
                }
            });
            raw.flip(index);
        }
        lives(callee);
    }
}

/// The whole of it, with a process that is killed while it waits.
#[test]
fn a_process_that_is_killed_while_it_waits_kills_nobody() {
    let bus = Bus::start();
    for round in 0..10 {
        let mut carol = Role::start("waits", &[("PATH", bus.path().to_str().unwrap())]);
        carol.hear("listens");
        let mut dave = bus.client(&format!("dave {round}"));
        let mut link = Link::options().arms().connect(dave.caller(), "carol").unwrap();
        let by = ByEpoll::of(&mut link, round % 2 == 0).unwrap();
        for number in 0..50_u32 {
            link.submit(&number.to_le_bytes()).unwrap();
            let answer = by.until(&mut link, Some(std::time::Instant::now() + LIMIT), |link| {
                link.try_response().unwrap().map(|reply| reply.to_vec())
            });
            assert_eq!(answer.unwrap(), number.to_le_bytes());
        }
        assert!(link.arm().unwrap());
        carol.kill();
        assert!(by.wait(Some(std::time::Instant::now() + LIMIT)), "its end is told by the pipe");
        let error = loop {
            match link.post(b"") {
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(reason(&error), CloseReason::Died);
        eventually("the name is free", || {
            bus.server.clients().unwrap().iter().all(|client| client.name != "carol")
        });
    }
}
