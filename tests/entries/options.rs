//! Tests of wrong command lines: unknown, missing, invalid or conflicting options give status 2 and one line.

use crate::assert_mentions;
use crate::common::program::{BENCH, CLIENT, SERVER, run};
use crate::run::place;

/// A command line, and words of the error.
type Case = (&'static [&'static str], &'static [&'static str]);

const SECONDS: &str = "a number of seconds from 0.001 to 31536000";
const RATE: &str = "a number of samples a second from 0.001 to 1000000000";
const BYTES: &str = "give a number of bytes, such as 65536, 64K or 1M";

fn refuse(program: &str, cases: &[Case]) {
    let (place, socket) = place();
    for (line, words) in cases {
        let mut line = line.to_vec();
        // Uses a private socket, in case one of these is accepted.
        if !line.contains(&"--socket") && !words.contains(&"--socket PATH") {
            line.extend(["--socket", &socket]);
        }
        let why = run(program, &line).refused(2);
        assert_mentions(&why, words);
    }
    assert!(place.is_clean());
}

#[test]
fn of_the_client() {
    refuse(
        CLIENT,
        &[
            (&["nonsense"], &["nonsense", "--help"]),
            (&["liste", "--as", "x"], &["listen"]),
            (&["--nonsense"], &["--nonsense", "--help"]),
            (&["ls", "--jsno"], &["--json"]),
            (&["listen"], &["--as <NAME>", "Usage: ringpost listen"]),
            (&["send", "--as", "x", "z"], &["--to <KEY|NAME>"]),
            (&["call", "y"], &["--as <NAME>"]),
            (&["call", "--as"], &["--as <NAME>", "a value is required"]),
            (&["call", "--as", "x", "--as", "y", "z"], &["--as <NAME>", "multiple times"]),
            (&["call", "--as", "x", "y", "z"], &["'z'"]),
            (&["call", "--as", "x", "--timeout", "0", "y"], &["--timeout", SECONDS]),
            (&["call", "--as", "x", "--timeout", "-1", "y"], &["-1"]),
            (&["call", "--as", "x", "--timeout", "5s", "y"], &[SECONDS]),
            (&["call", "--as", "x", "--timeout", "NaN", "y"], &[SECONDS]),
            (&["call", "--as", "x", "--timeout", "1e300", "y"], &[SECONDS]),
            (&["listen", "--as", "x", "--count", "0"], &["--count", "1.."]),
            (&["listen", "--as", "x", "--count", "-1"], &["-1"]),
            (&["listen", "--as", "x", "--count", "99999999999999999999"], &["--count", "too large"]),
            (&["listen", "--as", "x", "--timeout", ""], &["--timeout"]),
            (&["--socket", "", "ls"], &["--socket <PATH>", "a value is required"]),
            (&["ls", "stray"], &["'stray'", "see 'ringpost ls --help'"]),
            (&["ls", "--wait-for-server=x"], &["--wait-for-server", SECONDS]),
            (&["ls", "--wait-for-server", "2"], &["'2'"]),
            (&["client", "x", "--as", "y"], &["--as <NAME>", "cannot be used"]),
            (&["publish", "--as", "x"], &["--topic <TOPIC>"]),
            (&["publish", "--topic", "t"], &["--as <NAME>"]),
            (&["publish", "--as", "x", "--topic", ""], &["at least one character"]),
            (&["publish", "--as", "x", "--topic", "t/*"], &["'*'", "byte 2"]),
            (&["publish", "--as", "x", "--topic", "/t"], &["remove the slash", "byte 0"]),
            (&["publish", "--as", "x", "--topic", "t", "text"], &["'text'"]),
            (&["publish", "--as", "x", "--topic", "t", "--rate", "0"], &["--rate", RATE]),
            (&["publish", "--as", "x", "--topic", "t", "--rate", "-1"], &["--rate", RATE]),
            (&["publish", "--as", "x", "--topic", "t", "--rate", "NaN"], &["--rate", RATE]),
            (&["publish", "--as", "x", "--topic", "t", "--count", "0"], &["--count", "1.."]),
            (&["publish", "--as", "x", "--topic", "t", "--reliable", "0"], &["--reliable", SECONDS]),
            (&["publish", "--as", "x", "--topic", "t", "--ring-size", "x"], &["--ring-size", BYTES]),
            (&["publish", "--as", "x", "--topic", "t", "--user", "no such user"], &["--user", "/etc/passwd"]),
            (&["subscribe", "--as", "x"], &["<PATTERN>"]),
            (&["subscribe", "--as", "x", "a*"], &["'*'", "whole levels"]),
            (&["subscribe", "--as", "x", "t", "u"], &["'u'"]),
            (&["subscribe", "--as", "x", "t", "--policy", "quick"], &["lossy, latest, reliable"]),
            (&["subscribe", "--as", "x", "t", "--history", "-1"], &["--history", "-1"]),
            (&["watch", "--as", " x"], &["trim it"]),
            (&["watch", "--count", "0"], &["--count", "1.."]),
        ],
    );
}

#[test]
fn of_the_server() {
    refuse(
        SERVER,
        &[
            (&["stray"], &["'stray'", "--help"]),
            (&["--max-clients", "0"], &["--max-clients", "1 to 65536"]),
            (&["--max-clients", "65537"], &["1 to 65536"]),
            (&["--max-clients", "many"], &["1 to 65536"]),
            (&["--ring-size", "x"], &["--ring-size", BYTES]),
            (&["--ring-size", "-1"], &["-1"]),
            (&["--ring-size", "1.5K"], &[BYTES]),
            (&["--ring-size", "99999999999999999999"], &[BYTES]),
            (&["--ring-size", "5000"], &["5000", "a power of two from 4096 to 1073741824"]),
            (&["--ring-size", "2K"], &["from 4096"]),
            (&["--ring-size", "2G"], &["to 1073741824"]),
            (&["--max-block", "255"], &["use 256 to 131064"]),
            // Conflicting options.
            (&["--ring-size", "4K", "--max-block", "4K"], &["4096", "use 256 to 2040, or larger rings"]),
            (&["--allow-user", "0"], &["--socket PATH", "only its owner can access"]),
            (&["--allow-group", "0"], &["--socket PATH"]),
            (&["--wait", "sleep"], &["--wait", "spin", "adaptive", "park"]),
            (&["--pin", "-1"], &["-1"]),
            (&["--pin", "99999"], &["--pin 99999", "may use"]),
            (&["--pin", "x"], &["--pin"]),
            (&["--allow-user", "no such user"], &["/etc/passwd", "a number"]),
            (&["--allow-user", "4294967295"], &["a number from 0 to 4294967294"]),
            (&["--allow-group", "no such group"], &["/etc/group", "a number"]),
            (&["--socket", ""], &["--socket <PATH>"]),
        ],
    );
}

#[test]
fn of_the_bench() {
    refuse(
        BENCH,
        &[
            (&["nonsense"], &["nonsense"]),
            (&["latency", "--count", "0"], &["--count"]),
            (&["latency", "--size", "x"], &["--size"]),
            (&["latency", "--rounds", "0"], &["--rounds", "1..=1000"]),
            (&["latency", "--rounds", "2", "--rate", "9"], &["--rounds <N>", "cannot be used"]),
            (&["latency", "--pin", "x"], &["--pin"]),
            (&["latency", "--pin", "0,99999"], &["--pin 0,99999", "may use"]),
            (&["latency", "--wait", "sleep"], &["--wait"]),
            // Two spinning ends cannot share a CPU.
            (&["latency", "--wait", "spin", "--pin", "0,0"], &["--wait adaptive or park"]),
        ],
    );
    assert_mentions(
        &run(BENCH, &[] as &[&str]).refused(2),
        &["a command is missing", "ringpost-bench --help"],
    );
}

/// Control characters of the command line are escaped in errors.
#[test]
fn nothing_typed_steers_the_terminal_or_breaks_the_line() {
    for line in [
        &["call", "--as", "x", "--timeout", "\x1b[2J\n5", "y"][..],
        &["no\nsense"],
        &["listen", "--as", "a\r\nb"],
        &["--\x1b]0;title\x07"],
    ] {
        run(CLIENT, line).refused(2);
    }
    let why = run(CLIENT, &["ls", "--socket", "/no\nwhere/\x1b[2J"]).refused(1);
    assert_mentions(&why, &["no server", "\\u{1b}"]);
}

/// A negative number is an invalid value: the error says which values are valid, not how to pass it as an
/// argument.
#[test]
fn that_are_negative() {
    let seconds: &[&str] = &["--timeout <SECONDS>", "a time must be positive", SECONDS];
    refuse(
        CLIENT,
        &[
            (&["call", "--as", "x", "--timeout", "-1", "y"], seconds),
            (&["call", "--as", "x", "--timeout=-1", "y"], seconds),
            (&["send", "--as", "x", "--to", "z", "--timeout", "-0.5"], seconds),
            (&["listen", "--as", "x", "--timeout", "-1e3"], seconds),
            (&["listen", "--as", "x", "--count", "-1"], &["--count <N>", "'-1'", "invalid digit"]),
        ],
    );
    refuse(
        SERVER,
        &[
            (&["--max-clients", "-1"], &["--max-clients <N>", "1 to 65536"]),
            (&["--ring-size", "-1"], &["--ring-size <BYTES>", BYTES]),
            (&["--max-block", "-5"], &["--max-block <BYTES>", BYTES]),
        ],
    );
    for (program, line) in
        [(CLIENT, &["call", "--as", "x", "--timeout", "-1"][..]), (SERVER, &["--pin", "-1"])]
    {
        let why = run(program, line).refused(2);
        assert!(!why.contains("tip") && !why.contains("-- -"), "{why}");
    }
}
