//! Tests that signals end the server: repeated ones, and if nobody reads its standard error.

use crate::common::raw::RawClient;
use crate::common::{LIMIT, Place, eventually, registered};
use crate::program::*;
use ringpost::Client;
use rustix::io::Errno;
use rustix::process::Signal;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

fn pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    (reader.into(), writer.into())
}

/// The two ends of a full pipe.
fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = pipe();
    fill(&writer);
    (reader, writer)
}

fn fill(writer: &OwnedFd) {
    let flags = rustix::fs::fcntl_getfl(writer).unwrap();
    rustix::fs::fcntl_setfl(writer, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    for size in [4096, 1] {
        while rustix::io::write(writer, &vec![b'x'; size]) != Err(Errno::AGAIN) {}
    }
    rustix::fs::fcntl_setfl(writer, flags).unwrap();
}

fn start(place: &Place, stderr: &OwnedFd, options: &[&str]) -> Program {
    let line = [&["--socket", text(&place.path)], options].concat();
    let stderr = stderr.try_clone().unwrap();
    Program::start_with(SERVER, &line, |command| {
        command.stderr(Stdio::from(stderr));
    })
}

/// Signals the process and then its group, like `timeout`.
#[test]
fn a_signal_that_is_repeated_at_once_is_the_same_request() {
    for _ in 0..20 {
        let place = Place::new();
        let server = start_server(&place, &[]);
        let mut alice = Client::register(&place.path, "alice").unwrap();
        for signal in [Signal::TERM, Signal::TERM, Signal::INT, Signal::TERM] {
            // It may have ended already.
            let _ = rustix::process::kill_process(server.pid(), signal);
        }
        assert!(alice.recv().is_err());
        let ended = server.end();
        assert_eq!(ended.status, Some(0), "{}", ended.stderr);
        assert!(place.is_clean());
    }
}

/// A server whose shutdown takes a while, because a client does not read its answers.
#[test]
fn a_signal_that_is_repeated_later_ends_the_server_at_once_and_leaves_nothing() {
    let place = Place::new();
    let mut server = start_server(&place, &["--ring-size", "4K"]);
    let mut mute = RawClient::register(&place.path, "mute");
    mute.stop_the_worker();
    let began = Instant::now();
    // Repeat the signal until one comes more than a second after the first.
    let status = loop {
        server.signal(Signal::TERM);
        std::thread::sleep(Duration::from_millis(50));
        if server.is_over() {
            break server.end().status;
        }
        assert!(began.elapsed() < LIMIT);
    };
    assert_eq!(status, None, "the signal ended it");
    assert!(began.elapsed() >= Duration::from_millis(900), "not before");
    assert!(place.is_clean());
}

#[test]
fn nobody_reads_standard_error_from_the_start() {
    for options in [&[][..], &["-v"], &["--log-format", "json"], &["--log-file", "log"]] {
        let place = Place::new();
        let log = place.directory.path().join("log");
        let options: Vec<&str> = options.iter().map(|&o| if o == "log" { text(&log) } else { o }).collect();
        let (_reader, writer) = full_pipe();
        let server = start(&place, &writer, &options);
        eventually("it serves", || Client::register(&place.path, "probe").is_ok());
        let mut alice = Client::register(&place.path, "alice").unwrap();
        let own = alice.key();
        for _ in 0..100 {
            alice.send(own, b"x").unwrap();
            alice.recv().unwrap();
        }
        server.signal(Signal::TERM);
        assert!(alice.recv().is_err());
        assert_eq!(server.end().status, Some(0), "{options:?}");
        let _ = std::fs::remove_file(&log);
        assert!(place.is_clean());
        // A server that cannot start ends, too.
        let server = start(&Place::new(), &writer, &["--ring-size", "5000"]);
        assert_eq!(server.end().status, Some(2));
    }
}

#[test]
fn nobody_reads_standard_error_later() {
    let place = Place::new();
    let (_reader, writer) = pipe();
    let server = start(&place, &writer, &["-v"]);
    eventually("it serves", || Client::register(&place.path, "probe").is_ok());
    let mut alice = Client::register(&place.path, "alice").unwrap();
    fill(&writer);
    let own = alice.key();
    for _ in 0..20_000 {
        alice.send(own, b"x").unwrap();
        alice.recv().unwrap();
    }
    assert_eq!(registered(&place.path), 1);
    server.signal(Signal::TERM);
    assert_eq!(server.end().status, Some(0));
    assert!(place.is_clean());
}
