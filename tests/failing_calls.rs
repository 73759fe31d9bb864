//! Tests of system calls that fail locally, by a filter or for lack of memory: the peer must not be blamed.
//!
//! Such a failure says nothing about the peer, which must not count as dead or as breaking the protocol.

mod common;

use common::filter::Refused;
use common::raw::{RawClient, say as tell};
use common::role::{self, Role, Stage, say, setting};
use common::server::{as_set, start_server};
use common::{Bus, Place, becomes, begin, eventually};
use ringpost::{Client, RegisterError};
use rustix::io::Errno;
use std::path::PathBuf;
use std::time::Duration;

#[test]
fn role() {
    let Some((role, stage)) = role::role() else { return };
    match role.as_str() {
        "server" => may_not_receive(&stage),
        "parent" => leaves_a_child(&stage),
        other => panic!("no role {other:?}"),
    }
}

fn skipped() {
    eprintln!("skipped: no filter can be set here, so no system call can be refused");
}

// ---- receiving

/// The role of a server that cannot receive from a certain time on.
fn may_not_receive(stage: &Stage) {
    let server = as_set().start().unwrap();
    say("ready");
    stage.await_order("refuse");
    let errno = Errno::from_raw_os_error(setting("ERRNO").unwrap());
    say(if Refused::call(libc::SYS_recvfrom).everywhere(errno) { "refused" } else { "skipped" });
    while stage.order() == "count" {
        say(format_args!("clients {}", server.info().clients));
    }
}

#[test]
fn a_server_that_cannot_receive_ends_no_client() {
    for errno in [Errno::NOMEM, Errno::PERM, Errno::NOBUFS, Errno::INVAL] {
        let place = Place::new();
        let number = errno.raw_os_error().to_string();
        let mut server = start_server(&place, &[("ERRNO", &number)]);
        let mut alice = Client::register(&place.path, "alice").unwrap();
        let talker = RawClient::register(&place.path, "talker");
        server.tell("refuse");
        if server.hear("") == "skipped" {
            return skipped();
        }
        // Gives the server a datagram to receive.
        tell(&talker.line, b"x");
        // A client that asks is told that the server failed. After that the server has tried to receive the
        // datagram.
        match Client::builder(&place.path).timeout(Duration::from_secs(20)).register("bob") {
            Err(RegisterError::Refused(why)) => assert!(why.contains("could not receive"), "{why}"),
            other => panic!("{errno}: {other:?}"),
        }
        assert_eq!(count(&mut server), 2, "{errno}");
        assert_eq!(alice.call(b"x").unwrap(), b"x");
        assert_eq!(talker.closed(), 0);
        // The end of a connection is still noticed.
        drop(talker);
        eventually("the end is noticed", || count(&mut server) == 1);
        drop(alice);
        eventually("the other end is noticed", || count(&mut server) == 0);
    }
}

fn count(server: &mut Role) -> u32 {
    server.tell("count");
    server.hear("clients").parse().unwrap()
}

// ---- looking after processes

/// The role of a client whose child process holds its connection.
fn leaves_a_child(stage: &Stage) {
    let client = RawClient::register(&setting::<PathBuf>("PATH").unwrap(), "parent");
    rustix::io::fcntl_setfd(&client.line, rustix::io::FdFlags::empty()).unwrap();
    // The child ends when the test closes the pipe of the orders.
    let mut child = std::process::Command::new("cat")
        .stdin(std::process::Stdio::inherit())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    say("child");
    // The test kills this process here.
    let _ = stage.order();
    let _ = child.wait();
}

/// Without pidfds, the server checks now and then whether a process lives. A filter returns the errors that
/// otherwise mean a dead process.
#[test]
fn a_process_that_cannot_be_looked_after_is_not_dead() {
    const PEER_PIDFD: u32 = 77;
    for errno in [Errno::SRCH, Errno::INVAL, Errno::NODATA, Errno::PERM] {
        let directed = begin(move || {
            if !(Refused::call(libc::SYS_getsockopt).with(2, PEER_PIDFD).here(errno)
                && Refused::call(libc::SYS_pidfd_open).here(Errno::PERM))
            {
                return skipped();
            }
            let bus = Bus::start();
            let path = bus.place.path.clone();
            let mut alice = Client::register(&path, "alice").unwrap();
            let mut parent = Role::start("parent", &[("PATH", path.to_str().unwrap())]);
            parent.hear("child");
            assert_eq!(bus.server.info().clients, 2);
            parent.kill();
            // The check that finds this client dead checks both clients.
            becomes("the death is seen", || bus.server.info().clients, &1);
            assert_eq!(alice.call(b"x").unwrap(), b"x", "{errno}");
        });
        directed.end("the server looks after its clients");
    }
}

// ---- answers

/// If the server cannot find out whether answers were received, it does not count them as unread.
#[test]
fn answers_that_cannot_be_looked_after_were_not_left_unread() {
    let directed = begin(|| {
        if !Refused::call(libc::SYS_ioctl).with(1, libc::TIOCOUTQ as u32).here(Errno::PERM) {
            return skipped();
        }
        let place = Place::new();
        let _server = ringpost::Server::builder(&place.path).ring_size(4096).start().unwrap();
        // More than the limit of unread answers.
        for number in 0..300 {
            Client::register(&place.path, format!("client {number}")).unwrap();
        }
    });
    directed.end("everybody registers");
}

// ---- a client's own

/// The server sent a valid channel, but this process may not inspect it.
#[test]
fn a_channel_that_cannot_be_inspected_is_not_a_wrong_one() {
    const F_GET_SEALS: u32 = 1034;
    let calls = [
        Refused::call(libc::SYS_fcntl).with(1, F_GET_SEALS),
        Refused::call(libc::SYS_fstatfs),
        Refused::call(libc::SYS_mmap).with(3, libc::MAP_SHARED as u32),
    ];
    for (call, errno) in calls.into_iter().flat_map(|call| [(call, Errno::PERM), (call, Errno::NOMEM)]) {
        let bus = Bus::start();
        let path = bus.place.path.clone();
        let error = begin(move || call.here(errno).then(|| Client::register(&path, "alice").unwrap_err()));
        let Some(error) = error.end("the registration") else { return skipped() };
        let text = error.to_string();
        let own = std::io::Error::from(errno).to_string();
        assert!(text.contains("cannot ") && text.contains(&own), "{call:?}: {text}");
        assert!(!text.contains("memory file, but") && !text.contains("not a "), "{call:?}: {text}");
        becomes("it is forgotten", || bus.server.info().clients, &0);
    }
}
