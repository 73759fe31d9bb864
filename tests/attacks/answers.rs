//! Tests of answers that clients never read: their number is limited.
//!
//! Each unread answer holds a descriptor in flight, which the kernel charges to the server's user. If the
//! kernel refuses to send one, the client is told the reason.

use crate::ALONE;
use crate::common::raw::{Heard, REGISTER, VERSION, datagram, dial, hear, say as tell, try_say_with};
use crate::common::role::{Role, Stage, say, setting};
use crate::common::users::{is_root, leave_root};
use crate::common::{Bus, LIMIT, Place, eventually};
use ringpost::{Client, RegisterError, Server};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::Timespec;
use std::fs::{self, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::Instant;

/// The limit of unread answers to one user.
const MOST: usize = 64;

const OTHER: u32 = 65_533;

fn ask(bus: &Bus, name: &str) -> OwnedFd {
    let line = dial(bus.path());
    tell(&line, &datagram(VERSION, REGISTER, name.as_bytes()));
    line
}

/// Waits until there is an answer, without receiving it.
fn await_answer(line: &OwnedFd) {
    let limit = Timespec { tv_sec: LIMIT.as_secs() as i64, tv_nsec: 0 };
    assert_eq!(poll(&mut [PollFd::new(line, PollFlags::IN)], Some(&limit)), Ok(1));
}

/// Waits until this client is served. On a busy machine it may have waited for too long, and asks again.
fn is_served(bus: &Bus, name: &str, mut line: OwnedFd) -> OwnedFd {
    let until = Instant::now() + LIMIT;
    loop {
        match hear(&line) {
            Heard::Reply { status: 0, .. } => return line,
            Heard::Reply { status: 9, .. } if Instant::now() < until => line = ask(bus, name),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn unread_answers_are_few_whatever_became_of_their_clients() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let bus = Bus::start();
    let unread: Vec<OwnedFd> = (0..MOST)
        .map(|n| {
            let line = ask(&bus, &format!("mute {n}"));
            await_answer(&line);
            // The server disconnects this client, but its answer stays in flight.
            tell(&line, b"babble");
            line
        })
        .collect();
    eventually("all are thrown out", || bus.server.info().clients == 0);
    // The next client waits, and is finally told the reason.
    let late = ask(&bus, "late");
    let (status, why) = hear(&late).refusal();
    assert_eq!(status, 9, "{why}");
    assert!(why.contains("does not read") && why.contains("close their connections"), "{why}");
    // After one answer was read, the next client is served.
    let waiting = ask(&bus, "waiting");
    assert!(matches!(hear(&unread[0]), Heard::Reply { status: 0, descriptor: Some(_), .. }));
    let _served = is_served(&bus, "waiting", waiting);
    // After one client closed its connection, another one is served.
    let waiting = ask(&bus, "waiting too");
    drop(unread);
    let _served_too = is_served(&bus, "waiting too", waiting);
    for n in 0..20 {
        Client::register(bus.path(), format!("honest {n}")).unwrap();
    }
}

/// The server's user has too many descriptors in flight already, because of another program.
pub fn serve_poorly(stage: &Stage) {
    if is_root() {
        leave_root(OTHER, OTHER, &[]);
    }
    let limit = 128;
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum }).unwrap();
    let (one, _other) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let (file, _) = std::io::pipe().unwrap();
    let file = OwnedFd::from(file);
    while try_say_with(&one, b"x", &vec![&file; 64]).is_ok() {}
    let server = Server::builder(setting::<PathBuf>("PATH").unwrap()).start().unwrap();
    say("ready");
    stage.await_order("end");
    let summary = server.join_after_shutdown();
    say(format_args!("registered={} abandoned={}", summary.registered, summary.abandoned));
}

#[test]
fn a_server_that_may_send_no_descriptor_says_so() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let place = Place::new();
    if is_root() {
        // A directory in which only that user can put a socket.
        chown(place.directory.path(), Some(OTHER), Some(OTHER)).unwrap();
        fs::set_permissions(place.directory.path(), Permissions::from_mode(0o755)).unwrap();
    }
    let mut server = Role::start("poor server", &[("PATH", place.path.to_str().unwrap())]);
    server.hear("ready");
    for _ in 0..3 {
        match Client::register(&place.path, "alice") {
            Err(RegisterError::Refused(why)) => {
                assert!(why.contains("ulimit -n") && why.contains("not received"), "{why}");
            }
            // The kernel does not enforce the limit for this user.
            Ok(_) => eprintln!("skipped: this user may have any number of descriptors on their way"),
            Err(error) => panic!("{error:?}"),
        }
    }
    server.tell("end");
    println!("{}", server.hear(""));
    assert!(server.end().success());
}
