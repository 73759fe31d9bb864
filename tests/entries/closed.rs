//! Tests of output that cannot be written: a closed pipe is a normal end, and a full disk an error.

use crate::common::program::{BENCH, CLIENT, Program, SERVER, command, finish};
use crate::common::{Bus, LIMIT, Place, await_server, eventually};
use crate::{assert_mentions, skipped};
use rustix::process::Signal;
use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Command, Stdio};

/// A pipe whose reading end is closed.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn client(socket: &Path, line: &[&str]) -> Command {
    let mut command = command(CLIENT);
    command.args(line).arg("--socket").arg(socket);
    command
}

#[test]
fn a_closed_pipe_ends_everything_cleanly() {
    let bus = Bus::start();
    let present = bus.client("present");
    for line in [
        &["ls"][..],
        &["ls", "--json"],
        &["call", "--as", "x", "y"],
        &["listen", "--as", "x", "--json"],
        &["subscribe", "--as", "x", "**", "--json"],
        &["watch"],
    ] {
        let mut command = client(bus.path(), line);
        command.stdout(closed_pipe());
        finish(command, b"").quiet();
    }
    drop(present);
    // Its own message cannot be printed.
    let mut named = client(bus.path(), &["client", "x"]);
    named.stdout(closed_pipe());
    assert_eq!(finish(named, b"x to myself\n").well(), b"");
    // Those that wait for something to print do not wait for it when nobody would read it.
    for line in [&["listen", "--as", "x"][..], &["subscribe", "--as", "x", "**"], &["watch", "--as", "x"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = client(bus.path(), line);
        command.stdout(writer);
        let program = Program::spawn(&mut command);
        // The command has a copy of the pipe's end.
        drop(command);
        let mut alice = bus.client("alice");
        alice.wait_for("x", LIMIT).unwrap();
        drop(reader);
        assert_eq!(program.end().status, Some(0), "{line:?}");
        eventually("all have left", || alice.list().unwrap().len() == 1);
    }
    for program in [SERVER, CLIENT, BENCH] {
        for line in ["--help", "--version"] {
            let mut command = command(program);
            command.arg(line).stdout(closed_pipe());
            finish(command, b"").quiet();
        }
    }
}

#[test]
fn a_full_disk_is_a_failure() {
    let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else {
        return skipped("there is no /dev/full here");
    };
    let bus = Bus::start();
    let words = ["cannot write to standard output", "No space left"];
    for line in [&["ls"][..], &["call", "--as", "x", "y"], &["listen", "--as", "x", "--json"]] {
        let mut command = client(bus.path(), line);
        command.stdout(full.try_clone().unwrap());
        assert_mentions(&finish(command, b"").refused(1), &words);
    }
    // Its own message cannot be printed.
    let mut named = client(bus.path(), &["client", "x"]);
    named.stdout(full);
    let ended = finish(named, b"x to myself\n");
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert_mentions(ended.stderr.split_inclusive('\n').next_back().unwrap(), &words);
    eventually("all have left", || bus.server.info().clients == 0);
}

/// If the error cannot be written either, the exit status still reports the failure.
#[test]
fn a_closed_standard_error_changes_nothing_else() {
    let place = Place::new();
    for (line, status) in [(&["ls"][..], 1), (&["nonsense"], 2)] {
        let mut command = client(&place.path, line);
        command.stderr(closed_pipe());
        assert_eq!(finish(command, b"").status, Some(status));
    }
    let mut server = command(SERVER);
    server.arg("--socket").arg(&place.path).arg("--verbose").stderr(closed_pipe());
    let server = Program::spawn(&mut server);
    await_server(&place.path);
    let mut alice = ringpost::Client::register(&place.path, "alice").unwrap();
    for _ in 0..100 {
        alice.send(alice.key(), b"x").unwrap();
    }
    drop(alice);
    server.signal(Signal::TERM);
    assert_eq!(server.end().quiet(), b"");
    assert!(place.is_clean());
}
