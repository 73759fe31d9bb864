//! Tests of what all programs have in common: exit status, stdout and stderr, and finding the socket.

use crate::common::{Place, await_server};
use crate::program::*;
use rustix::process::Signal;
use std::process::Command;

#[test]
fn version_and_help_are_data() {
    for program in [SERVER, CLIENT, BENCH] {
        let version = String::from_utf8(run(program, &["--version"]).well()).unwrap();
        assert!(version.trim_end().ends_with(env!("CARGO_PKG_VERSION")), "{version}");
        let help = String::from_utf8(run(program, &["--help"]).well()).unwrap();
        assert!(help.contains("--socket"), "{help}");
    }
}

#[test]
fn a_wrong_command_line_is_status_2() {
    let cases: &[(&str, &[&str])] = &[
        (CLIENT, &["nonsense"]),
        (CLIENT, &["--nonsense"]),
        (CLIENT, &["listen"]),
        (CLIENT, &["listen", "--as", " x"]),
        (CLIENT, &["listen", "--as", "x", "--count", "none"]),
        (CLIENT, &["send", "--as", "x", "message"]),
        (CLIENT, &["call", "--as", "x", "--timeout", "-3"]),
        (CLIENT, &["call", "--as", "x", "a", "b"]),
        (CLIENT, &["call", "--as", "x", "--to", " x", "a"]),
        (CLIENT, &["serve", "--as", "x"]),
        (CLIENT, &["serve", "--echo"]),
        (CLIENT, &["serve", "--as", "x", "--exec"]),
        (CLIENT, &["serve", "--as", "x", "--echo", "--exec", "cat"]),
        (SERVER, &["--max-clients", "0"]),
        (SERVER, &["--max-clients", "65537"]),
        (SERVER, &["--ring-size", "x"]),
        (SERVER, &["--wait", "sleep"]),
        (SERVER, &["--pin", "-1"]),
        (SERVER, &["--allow-user", "no such user"]),
        (SERVER, &["stray"]),
        (BENCH, &[]),
        (BENCH, &["latency", "--count", "0"]),
        (BENCH, &["latency", "--pin", "x"]),
    ];
    for (program, arguments) in cases {
        let ended = run(program, arguments);
        assert_eq!(ended.status, Some(2), "{program} {arguments:?}: {ended:?}");
        assert_eq!(ended.stdout, b"", "{arguments:?}");
        assert!(!ended.stderr.is_empty());
    }
}

#[test]
fn failures_are_status_1_and_one_line() {
    let place = Place::new();
    let socket = text(&place.path);
    for arguments in [
        &["ls", "--socket", socket][..],
        &["call", "--as", "x", "y", "--socket", socket],
        &["send", "--as", "x", "--to", "y", "z", "--socket", socket],
        &["listen", "--as", "x", "--socket", socket],
        &["call", "--as", "x", "--to", "y", "z", "--socket", socket],
        &["serve", "--as", "x", "--echo", "--socket", socket],
        &["client", "x", "--socket", socket],
        &["publish", "--as", "x", "--topic", "t", "--socket", socket],
        &["subscribe", "--as", "x", "t", "--socket", socket],
        &["watch", "--socket", socket],
        &["tap", "--socket", socket],
        &["status", "--socket", socket],
    ] {
        let why = run(CLIENT, arguments).failed();
        assert!(why.contains(socket) && why.contains("ringpost-server"), "says what to do: {why}");
    }
    let _server = start_server(&place, &["--ring-size", "4096"]);
    let (_alice, key) = start_listener(&place, "alice", &[]);
    let taken = run(CLIENT, &["call", "--as", "alice", "x", "--socket", socket]).failed();
    assert!(taken.contains("taken"), "{taken}");
    let unknown = run(CLIENT, &["send", "--as", "bob", "--to", "nobody", "x", "--socket", socket]).failed();
    assert!(unknown.contains("nobody"), "{unknown}");
    let stale = format!("{}{}", &key[..25], if key.ends_with('0') { '1' } else { '0' });
    run(CLIENT, &["send", "--as", "bob", "--to", &stale, "x", "--socket", socket]).failed();
    let large = "x".repeat(5000);
    let why = run(CLIENT, &["call", "--as", "bob", &large, "--socket", socket]).failed();
    assert!(why.contains("5000"), "{why}");
    let why = run(CLIENT, &["send", "--as", "bob", "--to", "alice", &large, "--socket", socket]).failed();
    assert!(why.contains("5000"), "{why}");
    assert_eq!(names(&place), ["alice"], "those that failed have left");
    let second = run(SERVER, &["--socket", socket]);
    assert_eq!(second.status, Some(1));
    assert!(second.stderr.contains("another server"), "{}", second.stderr);
    let nowhere = place.directory.path().join("missing/bus");
    assert_eq!(run(SERVER, &["--socket", text(&nowhere)]).status, Some(1));
}

#[test]
fn the_socket_is_found_in_all_ways() {
    let place = Place::new();
    let socket = text(&place.path);
    let _server = start_server(&place, &[]);
    for arguments in [
        &["--socket", socket, "call", "--as", "x", "hello"][..],
        &["call", "--socket", socket, "--as", "x", "hello"],
        &["call", "--as", "x", "hello", "--socket", socket],
    ] {
        assert_eq!(run(CLIENT, arguments).well(), b"hello");
    }
    let by_variable = Program::start_with(CLIENT, &["call", "--as", "x", "hello"], |command| {
        command.env("RINGPOST_SOCKET", socket);
    });
    assert_eq!(by_variable.end().well(), b"hello");
    // The option wins over the variable.
    let both = Program::start_with(CLIENT, &["--socket", socket, "call", "--as", "x", "hello"], |command| {
        command.env("RINGPOST_SOCKET", "/nowhere/at/all");
    });
    assert_eq!(both.end().well(), b"hello");
    // The default path, in a private directory.
    let runtime = Place::new();
    let in_runtime = |command: &mut Command| {
        command.env("XDG_RUNTIME_DIR", runtime.directory.path());
    };
    let default = Program::start_with(SERVER, &[], in_runtime);
    let path = runtime.directory.path().join("ringpost/bus.sock");
    await_server(&path);
    let call = Program::start_with(CLIENT, &["call", "--as", "x", "hello"], in_runtime);
    assert_eq!(call.end().well(), b"hello");
    default.signal(Signal::TERM);
    default.end().well();
    assert!(!path.exists());
}
