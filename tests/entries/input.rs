//! Tests of standard input that does not end: `--timeout` includes reading it, and without one a note is
//! printed.

use crate::common::program::{CLIENT, command, finish};
use crate::common::{Bus, begin};
use crate::{assert_mentions, run};
use std::io::{self, BufRead, BufReader, Read, Write};

#[test]
fn a_time_out_counts_for_reading_too() {
    let bus = Bus::start();
    let _bob = bus.client("bob");
    for line in [
        &["call", "--as", "a", "--timeout", "0.3"][..],
        &["send", "--as", "a", "--to", "bob", "--timeout", "0.3"],
    ] {
        // The writing end stays open until the program has ended.
        let (reader, writer) = io::pipe().unwrap();
        let mut command = command(CLIENT);
        command.args(line).arg("--socket").arg(bus.path()).stdin(reader);
        let why = finish(command, b"").failed();
        assert_mentions(&why, &["standard input", "did not end in time", "--timeout", "an argument"]);
        drop(writer);
    }
}

/// Without `--timeout`, a note says what the program waits for, and late input is used.
#[test]
fn without_a_time_out_input_may_take_long() {
    let bus = Bus::start();
    let mut command = command(CLIENT);
    command.args(["call", "--as", "a", "--socket"]).arg(bus.path());
    let mut child = command.spawn().unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let said = begin(move || {
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        (line, errors)
    });
    let (line, _errors) = said.end("what is awaited is not said");
    assert_mentions(&line, &["ringpost: waiting for the end of standard input"]);
    child.stdin.take().unwrap().write_all(b"at last").unwrap();
    let mut output = child.stdout.take().unwrap();
    let answer = begin(move || {
        let mut answer = Vec::new();
        output.read_to_end(&mut answer).unwrap();
        answer
    });
    assert_eq!(answer.end("the call"), b"at last");
    assert!(child.wait().unwrap().success());
}

/// Available or empty input is used at once.
#[test]
fn input_that_ends_is_used_with_a_time_out() {
    let bus = Bus::start();
    let mut command = command(CLIENT);
    command.args(["call", "--as", "a", "--timeout", "30", "--socket"]).arg(bus.path());
    assert_eq!(finish(command, b"from a pipe").quiet(), b"from a pipe");
    assert_eq!(run::ringpost(bus.path(), &["call", "--as", "a", "--timeout", "30"]).quiet(), b"");
}
