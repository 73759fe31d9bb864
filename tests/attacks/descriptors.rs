//! Tests of descriptors whose close takes long, sent to the server by anyone who can connect.
//!
//! These are lingering sockets and memory files that take long to free. At whatever point of a connection
//! they are sent, they do not block the server's thread: others register, are listed and leave, and a
//! shutdown ends. This is tested with kernels that can refuse descriptors, and with those that cannot
//! (simulated by a filter).
//!
//! A lingering socket blocks the thread that closes it until the test closes the socket's other end. As the
//! server's thread continues meanwhile, it cannot be the one that closes it.

use crate::ALONE;
use crate::common::filter::refuse_to_refuse_descriptors;
use crate::common::proc::own_threads;
use crate::common::raw::{
    Heard, LIST, REGISTER, RawClient, SERVER, VERSION, datagram, dial, hear, say as tell,
};
use crate::common::raw::{try_dial, try_say_with};
use crate::common::role::{Role, Stage, say, setting};
use crate::common::{Bus, Place, eventually, within_limit};
use ringpost::{Client, Observer, Server};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_linger, set_socket_send_buffer_size};
use rustix::process::{Pid, Signal, kill_process};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};

/// More than a test may last.
const LINGER: Duration = Duration::from_secs(600);

const FILE: u64 = 256 << 20;

/// How long a server waits for a question.
const GREETING: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Lingering,
    BigFile,
}

/// A descriptor, and the other end for which its close waits.
struct TestDescriptor {
    descriptor: OwnedFd,
    other_end: Option<TcpStream>,
}

impl Kind {
    fn make(self) -> TestDescriptor {
        match self {
            Kind::Lingering => {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (other, _) = listener.accept().unwrap();
                set_socket_send_buffer_size(&socket, 1 << 16).unwrap();
                socket.set_nonblocking(true).unwrap();
                while socket.write(&[0; 1 << 16]).is_ok_and(|sent| sent > 0) {}
                set_socket_linger(&socket, Some(LINGER)).unwrap();
                TestDescriptor { descriptor: socket.into(), other_end: Some(other) }
            }
            Kind::BigFile => {
                let file = memfd_create("big", MemfdFlags::CLOEXEC).unwrap();
                ftruncate(&file, FILE).unwrap();
                fallocate(&file, FallocateFlags::empty(), 0, FILE).unwrap();
                TestDescriptor { descriptor: file, other_end: None }
            }
        }
    }
}

/// The point in a connection's life at which the descriptor is sent.
const POSITIONS: [&str; 9] = [
    "at once",
    "unasked",
    "after an answer",
    "with REGISTER",
    "without bytes",
    "in the second datagram",
    "behind a question",
    "on a lifeline",
    "many times",
];

/// What the sender keeps open after it has sent a descriptor.
struct Sent {
    /// Whether the kernel accepted the descriptor.
    taken: bool,
    _line: OwnedFd,
    other_end: Option<TcpStream>,
}

/// Sends the descriptor so that the server makes its last close. If the server closed it before this process
/// did, this process made the last close; then it is sent again.
fn attack(path: &Path, position: &str, kind: Kind) -> Sent {
    loop {
        let (mut sent, descriptor) = attack_once(path, position, kind);
        let closed = thread::spawn(move || drop(descriptor));
        let patience = Instant::now() + Duration::from_millis(200);
        while !closed.is_finished() && Instant::now() < patience {
            thread::yield_now();
        }
        if closed.is_finished() {
            return sent;
        }
        drop(sent.other_end.take());
        closed.join().unwrap();
    }
}

fn attack_once(path: &Path, position: &str, kind: Kind) -> (Sent, OwnedFd) {
    let TestDescriptor { descriptor, other_end } = kind.make();
    let say_with = |line: &OwnedFd, bytes: &[u8]| try_say_with(line, bytes, &[&descriptor]);
    let server = datagram(VERSION, SERVER, b"");
    let began = Instant::now();
    let answered = || {
        let line = dial(path);
        tell(&line, &server);
        assert!(matches!(hear(&line), Heard::Reply { status: 0, .. }));
        line
    };
    let (line, sent) = match position {
        "at once" => {
            let line = dial(path);
            let sent = say_with(&line, b"junk");
            (line, sent)
        }
        "unasked" => {
            let line = dial(path);
            drop(answered()); // which was accepted later
            let sent = say_with(&line, b"junk");
            (line, sent)
        }
        "after an answer" => {
            let line = answered();
            let sent = say_with(&line, &server);
            (line, sent)
        }
        "with REGISTER" => {
            let line = dial(path);
            let sent = say_with(&line, &datagram(VERSION, REGISTER, b"sender"));
            (line, sent)
        }
        "without bytes" => {
            let line = dial(path);
            let sent = say_with(&line, b"");
            (line, sent)
        }
        // The server refuses the first datagram, and closes the connection with the second one in its queue.
        "in the second datagram" | "behind a question" => {
            let line = dial(path);
            let first =
                if position == "behind a question" { datagram(VERSION, LIST, &[0; 4]) } else { vec![0] };
            let _ = rustix::net::send(&line, &first, rustix::net::SendFlags::NOSIGNAL);
            let sent = say_with(&line, b"junk");
            (line, sent)
        }
        "on a lifeline" => {
            let RawClient { line, .. } = RawClient::register(path, "talker");
            let sent = say_with(&line, b"psst");
            (line, sent)
        }
        "many times" => {
            let line = dial(path);
            let sent =
                (0..8).map(|_| say_with(&line, b"junk")).find(Result::is_ok).unwrap_or(Err(Errno::PERM));
            (line, sent)
        }
        other => panic!("no position {other}"),
    };
    match sent {
        Ok(_) | Err(Errno::PERM) => {}
        // The server may have closed the connection already: this case has a race.
        Err(Errno::PIPE | Errno::CONNRESET) if position == "in the second datagram" => {}
        // This process was held up, and the server took it for one that says nothing.
        Err(Errno::PIPE | Errno::CONNRESET) if began.elapsed() >= GREETING => {
            drop(other_end);
            return attack_once(path, position, kind);
        }
        Err(errno) => panic!("{position}: {errno}"),
    }
    let sent = Sent { taken: sent.is_ok(), _line: line, other_end };
    if !sent.taken && kind == Kind::Lingering {
        set_socket_linger(&descriptor, None).unwrap();
    }
    (sent, descriptor)
}

/// Uses the server as other clients do, and returns the longest time that took.
fn others_go_on(path: &Path, server: &Server) -> Duration {
    let mut longest = Duration::ZERO;
    let mut timed = |began: Instant| longest = longest.max(began.elapsed());
    let began = Instant::now();
    let mut client = Client::register(path, "honest").unwrap();
    timed(began);
    client.caller().ping().unwrap();
    let began = Instant::now();
    assert!(Observer::connect(path).unwrap().list().unwrap().iter().any(|c| c.name.as_str() == "honest"));
    timed(began);
    let began = Instant::now();
    drop(client);
    eventually("a client that went is forgotten", || {
        !server.clients().unwrap().iter().any(|c| c.name.as_str() == "honest")
    });
    timed(began);
    longest
}

/// Starts a server on this kernel, or on a simulated one before Linux 6.16.
fn start(old_kernel: bool) -> Option<Bus> {
    if !old_kernel {
        return Some(Bus::start());
    }
    let started = thread::spawn(|| refuse_to_refuse_descriptors().then(Bus::start)).join().unwrap();
    if started.is_none() {
        eprintln!("skipped: no filter of system calls can be had here");
    }
    started
}

fn closing_threads() -> usize {
    own_threads().iter().filter(|name| *name == "rp-disposal").count()
}

fn withstand(old_kernel: bool) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // Those of a test before this one end when they have nothing to close for a while.
    eventually("nobody closes descriptors any more", || closing_threads() == 0);
    let Some(bus) = start(old_kernel) else { return };
    for kind in [Kind::Lingering, Kind::BigFile] {
        let mut kept = Vec::new();
        for position in POSITIONS {
            let sent = attack(bus.path(), position, kind);
            assert!(!old_kernel || sent.taken || position == "in the second datagram", "{position}");
            let path = bus.path().to_owned();
            let longest = thread::scope(|s| {
                let others = s.spawn(|| others_go_on(&path, &bus.server));
                eventually("others go on", || others.is_finished());
                others.join().unwrap()
            });
            println!("{kind:?} {position}: taken {}, others waited {longest:?} at most", sent.taken);
            kept.push(sent);
        }
        let taken = kept.iter().filter(|sent| sent.taken).count();
        // Each descriptor is still being closed, because its other end is open: so not by the server's
        // thread.
        if kind == Kind::Lingering && taken > 0 {
            eventually("threads of their own close them", || closing_threads() == 2);
        } else if taken == 0 {
            assert_eq!(closing_threads(), 0);
        }
        if kind == Kind::Lingering && old_kernel {
            let other_ends: Vec<_> = kept.iter_mut().map(|sent| sent.other_end.take()).collect();
            drop(other_ends);
            eventually("their threads end", || closing_threads() == 0);
        }
    }
    // And the shutdown.
    let sent = attack(bus.path(), "at once", Kind::Lingering);
    let began = Instant::now();
    within_limit("the shutdown", move || bus.server.join_after_shutdown());
    println!("shutdown: {:?}", began.elapsed());
    drop(sent);
}

#[test]
fn descriptors_that_take_long_to_close() {
    withstand(false);
}

#[test]
fn descriptors_that_take_long_to_close_on_an_older_kernel() {
    withstand(true);
}

/// The role of a server in a separate process, on a simulated kernel before Linux 6.16.
pub fn serve(stage: &Stage) {
    if !refuse_to_refuse_descriptors() {
        return say("skipped");
    }
    let server = Server::builder(setting::<PathBuf>("PATH").unwrap()).start().unwrap();
    say("ready");
    stage.await_order("stop");
    let began = Instant::now();
    server.join_after_shutdown();
    say(format_args!("stopped {}", began.elapsed().as_millis()));
}

/// A shutdown closes connections that were never accepted, with the descriptors in their queues.
#[test]
fn descriptors_that_wait_in_the_backlog_at_the_shutdown() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let place = Place::new();
    let mut server = Role::start("server", &[("PATH", place.path.to_str().unwrap())]);
    if server.hear("") == "skipped" {
        return eprintln!("skipped: no filter of system calls can be had here");
    }
    let signal =
        |server: &Role, signal| kill_process(Pid::from_raw(server.pid() as i32).unwrap(), signal).unwrap();
    signal(&server, Signal::STOP);
    // More than the server accepts before it checks whether it must stop.
    let kind = Kind::Lingering.make();
    let lines: Vec<_> = (0..200)
        .map(|_| {
            let line = try_dial(&place.path).unwrap();
            try_say_with(&line, b"junk", &[&kind.descriptor]).unwrap();
            line
        })
        .collect();
    // From here on the server makes the last close.
    let TestDescriptor { descriptor, other_end } = kind;
    drop(descriptor);
    server.tell("stop");
    signal(&server, Signal::CONT);
    println!("shutdown with a full backlog: {} ms", server.hear("stopped"));
    drop((lines, other_end));
    assert!(server.end().success());
}
