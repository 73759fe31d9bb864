//! Tests of the commands whose output on a terminal differs from that in a file.

use crate::common::{LIMIT, Place, begin};
use crate::program::*;
use ringpost::{Client, Server};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;

/// Runs `ringpost` with a terminal of so many columns as its standard output, and returns what that was
/// given.
fn on_terminal(columns: u16, arguments: &[&str]) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let flags = rustix::fs::OFlags::NOCTTY.bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(flags);
    let slave = options.open(OsStr::from_bytes(name.to_bytes())).unwrap();
    tcsetwinsize(&slave, Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let mut command = command(CLIENT);
    command.args(arguments).stdout(slave);
    let program = Program::spawn(&mut command);
    // Closes its copy of the terminal, so that the reader finds the end when the program has ended.
    drop(command);
    let mut output = File::from(master);
    let reader = begin(move || {
        let mut bytes = Vec::new();
        // The end of a terminal is an error of the other side.
        let _ = output.read_to_end(&mut bytes);
        bytes
    });
    program.end().quiet();
    String::from_utf8(reader.end("the terminal stays open")).unwrap().replace("\r\n", "\n")
}

#[test]
fn a_call_ends_its_line_on_a_terminal_only() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    for (request, shown) in [
        ("pong", "pong\n"),
        ("two\nlines\n", "two\nlines\n"),
        ("a\ttab", "a\ttab\n"),
        ("", ""),
        // Nobody who answers calls controls the caller's terminal.
        ("\x1b[2Jcleared", "\\u{1b}[2Jcleared\n"),
    ] {
        let line = ["call", "--as", "alice", request, "--socket", text(&place.path)];
        // Terminals expand tabs.
        let shown_here = on_terminal(80, &line);
        assert_eq!(shown_here.replace("a       tab", "a\ttab"), shown);
        assert_eq!(run(CLIENT, &line).quiet(), request.as_bytes());
    }
}

#[test]
fn a_list_fits_a_terminal_of_80_columns() {
    let place = Place::new();
    let server = Server::builder(&place.path).start().unwrap();
    let long = "a name that is longer than the room that there is for names";
    let mut alice = Client::register(&place.path, "alice").unwrap();
    let bob = Client::register(&place.path, "bob").unwrap();
    let mut other = Client::register(&place.path, long).unwrap();
    let topic = "a topic/".repeat(12) + "its end";
    let _topic = other.publish(&topic).unwrap();
    for _ in 0..3 {
        alice.send_timeout(bob.key(), b"unread", LIMIT).unwrap();
    }
    alice.call(&[0; 100_000]).unwrap();
    // What came before is counted when this is answered.
    alice.caller().statistics().unwrap();
    let listing = |width, more: &[&str]| {
        let line = [&["ls", "--socket", text(&place.path)], more].concat();
        if width == 0 {
            String::from_utf8(run(CLIENT, &line).quiet()).unwrap()
        } else {
            on_terminal(width, &line)
        }
    };
    let words = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };

    let shown = listing(80, &["--topics"]);
    // A topic that is too long has a line of its own.
    let too_long: Vec<&str> = shown.lines().filter(|line| line.chars().count() > 80).collect();
    assert_eq!(too_long, [topic.as_str()], "{shown}");
    let headings = words(&shown, "NAME");
    assert_eq!(headings[1..], ["STATE", "PID", "UID", "CALLS", "SENT", "RECEIVED", "UNREAD", "IN", "OUT"]);
    assert_eq!(words(&shown, "bob")[4..], ["0", "0", "0", "3", "0", "0"]);
    assert_eq!(words(&shown, "alice")[4..], ["1", "3", "0", "0", "97.6k", "97.6k"]);
    assert!(shown.lines().any(|line| line == long), "{shown}");
    assert!(shown.contains("3 of at most 1,024 clients; server pid"), "{shown}");
    assert!(shown.contains("limits for each other user"), "{shown}");

    // Who reads it by a program finds each client on one line.
    let piped = listing(0, &[]);
    assert_eq!(piped.lines().filter(|line| line.starts_with(long)).count(), 1);
    assert!(words(&piped, long).len() > 20);
    let with_keys = listing(80, &["--keys"]);
    assert!(with_keys.lines().all(|line| line.chars().count() <= 80), "{with_keys}");
    assert_eq!(words(&with_keys, "bob")[1], bob.key().to_string());
    assert!(!piped.contains(&bob.key().to_string()));
    server.shutdown();
}
