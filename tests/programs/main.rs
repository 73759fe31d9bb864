//! The programs as people and scripts use them: their contract, and the seed scenario by separate programs.

#![cfg(feature = "cli")]

mod common;

use base64::Engine;
use common::{Begun, LIMIT, Place, begin, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

const SERVER: &str = env!("CARGO_BIN_EXE_ringpost-server");
const CLIENT: &str = env!("CARGO_BIN_EXE_ringpost");
const BENCH: &str = env!("CARGO_BIN_EXE_ringpost-bench");

// ---- running programs

/// A program that runs. It is killed by its own id when this is dropped.
struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    stdout: Option<Begun<Vec<u8>>>,
    stderr: Option<Begun<String>>,
}

/// How a program ended.
#[derive(Debug)]
struct Ended {
    status: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

impl Program {
    fn start(program: &str, arguments: &[&str]) -> Program {
        Program::start_with(program, arguments, |_| {})
    }

    fn start_with(program: &str, arguments: &[&str], set: impl FnOnce(&mut Command)) -> Program {
        let mut command = Command::new(program);
        command.args(arguments).env_remove("RINGPOST_SOCKET").env_remove("XDG_RUNTIME_DIR");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        set(&mut command);
        let mut child = command.spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let stdout = begin(move || {
            let mut all = Vec::new();
            loop {
                let before = all.len();
                if output.read_until(b'\n', &mut all).unwrap() == 0 {
                    return all;
                }
                let line = String::from_utf8_lossy(&all[before..]).trim_end_matches('\n').to_owned();
                let _ = sender.send(line);
            }
        });
        let mut errors = child.stderr.take().unwrap();
        let stderr = begin(move || {
            let mut all = String::new();
            errors.read_to_string(&mut all).unwrap();
            all
        });
        let stdin = child.stdin.take();
        Program { child, stdin, lines, stdout: Some(stdout), stderr: Some(stderr) }
    }

    /// The next line on its standard output.
    fn line(&mut self) -> String {
        self.lines.recv_timeout(LIMIT).expect("no line came")
    }

    fn json_line(&mut self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), signal).unwrap();
    }

    /// Ends its input and waits for its end.
    fn end(mut self) -> Ended {
        drop(self.stdin.take());
        let deadline = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.code();
            }
            assert!(Instant::now() < deadline, "the program does not end");
            std::thread::sleep(Duration::from_millis(1));
        };
        let stdout = self.stdout.take().unwrap().end("standard output stays open");
        let stderr = self.stderr.take().unwrap().end("standard error stays open");
        Ended { status, stdout, stderr }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(program: &str, arguments: &[&str]) -> Ended {
    Program::start(program, arguments).end()
}

fn run_with(program: &str, arguments: &[&str], input: &[u8]) -> Ended {
    let mut program = Program::start(program, arguments);
    program.write(input);
    program.end()
}

impl Ended {
    /// It went well and wrote this to its standard output.
    fn well(self) -> Vec<u8> {
        assert_eq!(self.status, Some(0), "{}", self.stderr);
        self.stdout
    }

    /// It failed, and one line says why.
    fn failed(self) -> String {
        assert_eq!(self.status, Some(1), "{self:?}");
        assert_eq!(self.stdout, b"", "data of a failure: {self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{:?}", self.stderr);
        self.stderr
    }
}

fn start_server(place: &Place, more: &[&str]) -> Program {
    let mut arguments = vec!["--socket", text(&place.path)];
    arguments.extend_from_slice(more);
    let server = Program::start(SERVER, &arguments);
    eventually("the socket appears", || place.path.exists());
    server
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A listener with `--json`, and its key.
fn start_listener(place: &Place, name: &str, more: &[&str]) -> (Program, String) {
    let mut arguments = vec!["listen", "--socket", text(&place.path), "--json", "--as", name];
    arguments.extend_from_slice(more);
    let mut listener = Program::start(CLIENT, &arguments);
    let registered = listener.json_line();
    assert_eq!(registered["registered"]["name"], name);
    let key = registered["registered"]["key"].as_str().unwrap().to_owned();
    assert_eq!(key.len(), 26);
    (listener, key)
}

fn ls(place: &Place) -> Value {
    let output = run(CLIENT, &["ls", "--json", "--socket", text(&place.path)]).well();
    assert_eq!(output.iter().filter(|byte| **byte == b'\n').count(), 1);
    serde_json::from_slice(&output).unwrap()
}

fn names(place: &Place) -> Vec<String> {
    let clients = ls(place)["clients"].clone();
    let name = |client: &Value| client["name"].as_str().unwrap().to_owned();
    let mut names: Vec<String> = clients.as_array().unwrap().iter().map(name).collect();
    names.sort();
    names
}

// ---- the contract

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
        &["client", "x", "--socket", socket],
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
    // The option goes before the variable.
    let both = Program::start_with(CLIENT, &["--socket", socket, "call", "--as", "x", "hello"], |command| {
        command.env("RINGPOST_SOCKET", "/nowhere/at/all");
    });
    assert_eq!(both.end().well(), b"hello");
    // The default, in a directory that is ours alone.
    let runtime = Place::new();
    let in_runtime = |command: &mut Command| {
        command.env("XDG_RUNTIME_DIR", runtime.directory.path());
    };
    let default = Program::start_with(SERVER, &[], in_runtime);
    let path = runtime.directory.path().join("ringpost/bus.sock");
    eventually("the socket appears", || path.exists());
    let call = Program::start_with(CLIENT, &["call", "--as", "x", "hello"], in_runtime);
    assert_eq!(call.end().well(), b"hello");
    default.signal(Signal::TERM);
    default.end().well();
    assert!(!path.exists());
}

// ---- what they do

#[test]
fn the_seed_scenario() {
    let place = Place::new();
    let socket = text(&place.path);
    let server = start_server(&place, &[]);
    let (mut bob, bob_key) = start_listener(&place, "bob", &["--count", "3", "--timeout", "60"]);
    let (alice, alice_key) = start_listener(&place, "alice", &[]);
    assert_ne!(alice_key, bob_key);
    assert_eq!(names(&place), ["alice", "bob"]);
    let taken = run(CLIENT, &["listen", "--as", "bob", "--socket", socket]).failed();
    assert!(taken.contains("taken"), "{taken}");

    // By key, by name, and from standard input.
    run(CLIENT, &["send", "--as", "carol", "--to", &bob_key, "by key", "--socket", socket]).well();
    run(CLIENT, &["send", "--as", "carol", "--to", "bob", "by name: ü", "--socket", socket]).well();
    let binary: Vec<u8> = (0..=255).collect();
    run_with(
        CLIENT,
        &["send", "--as", "carol", "--to", &bob_key.to_lowercase(), "--socket", socket],
        &binary,
    )
    .well();
    for expected in ["by key", "by name: ü"] {
        let message = bob.json_line();
        assert_eq!(message["from"]["name"], "carol");
        assert_eq!(message["from"]["key"].as_str().unwrap().len(), 26);
        assert_eq!(message["payload"], expected);
        assert!(message.get("payload_base64").is_none());
    }
    let message = bob.json_line();
    assert!(message.get("payload").is_none());
    let encoded = message["payload_base64"].as_str().unwrap();
    assert_eq!(base64::engine::general_purpose::STANDARD.decode(encoded).unwrap(), binary);
    // Three were wanted.
    bob.end().well();
    assert_eq!(names(&place), ["alice"]);
    let stale =
        run(CLIENT, &["send", "--as", "carol", "--to", &bob_key, "late", "--socket", socket]).failed();
    assert!(stale.contains("key"), "{stale}");

    alice.signal(Signal::INT);
    let ended = alice.end();
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(names(&place), [] as [&str; 0]);
    server.signal(Signal::TERM);
    server.end().well();
    assert!(place.is_clean());
}

#[test]
fn names_are_free_after_exit_and_kill() {
    let place = Place::new();
    let _server = start_server(&place, &["--max-clients", "1"]);
    for _ in 0..3 {
        let (listener, key) = start_listener(&place, "name", &[]);
        let full = run(CLIENT, &["call", "--as", "other", "x", "--socket", text(&place.path)]).failed();
        assert!(full.contains("no room"), "{full}");
        drop(listener);
        eventually("the name is free", || names(&place).is_empty());
        let (listener, next) = start_listener(&place, "name", &["--timeout", "60"]);
        assert_ne!(key, next);
        listener.signal(Signal::TERM);
        listener.end();
        // Its last word to the server was awaited.
        assert_eq!(names(&place), [] as [&str; 0]);
    }
}

#[test]
fn a_call_is_byte_exact() {
    let place = Place::new();
    let socket = text(&place.path);
    let _server = start_server(&place, &["--ring-size", "1M"]);
    let everything: Vec<u8> = (0..500_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for request in [&b""[..], b"\n", b"no line end", b"\0\xff\xfe\r\n", &everything] {
        let called = run_with(CLIENT, &["call", "--as", "x", "--socket", socket], request);
        assert!(called.well() == request, "{} bytes", request.len());
    }
    assert_eq!(run(CLIENT, &["call", "--as", "x", "", "--socket", socket]).well(), b"");
    let quiet = run(CLIENT, &["call", "--as", "x", "hello", "--socket", socket]);
    assert_eq!((quiet.stderr.as_str(), &quiet.stdout[..]), ("", &b"hello"[..]));
}

#[test]
fn listening_that_brings_too_little_fails() {
    let place = Place::new();
    let socket = text(&place.path);
    let _server = start_server(&place, &[]);
    let arguments = ["listen", "--as", "x", "--count", "1", "--timeout", "0.1", "--socket", socket];
    let why = run(CLIENT, &arguments).stderr;
    assert!(why.contains("0 of 1"), "{why}");
    assert_eq!(run(CLIENT, &arguments).status, Some(1));
    // Without a number, the time is all that was asked for.
    run(CLIENT, &["listen", "--as", "x", "--timeout", "0.1", "--socket", socket]).well();
    assert_eq!(names(&place), [] as [&str; 0]);
}

#[test]
fn ls_shows_the_server_and_its_clients_and_not_itself() {
    let place = Place::new();
    let server = start_server(&place, &["--max-clients", "7", "--ring-size", "8K", "--wait", "park"]);
    let empty = ls(&place);
    assert_eq!(empty["clients"], Value::Array(vec![]));
    let (listener, key) = start_listener(&place, "alice", &[]);
    run(CLIENT, &["send", "--as", "bob", "--to", "alice", "hello", "--socket", text(&place.path)]).well();
    let listing = ls(&place);
    let server_object = &listing["server"];
    assert_eq!(server_object["pid"], server.child.id());
    assert_eq!(server_object["max_clients"], 7);
    assert_eq!(server_object["ring_size"], 8192);
    assert_eq!(server_object["wait"], "park");
    let clients = listing["clients"].as_array().unwrap();
    assert_eq!(clients.len(), 1);
    assert_eq!(clients[0]["name"], "alice");
    assert_eq!(clients[0]["key"], key.as_str());
    assert_eq!(clients[0]["pid"], listener.child.id());
    assert_eq!(clients[0]["uid"], rustix::process::geteuid().as_raw());
    assert_eq!(clients[0]["state"], "live");
    assert_eq!(clients[0]["received"], 1);
    let for_people = run(CLIENT, &["ls", "--socket", text(&place.path)]).well();
    let for_people = String::from_utf8(for_people).unwrap();
    assert!(for_people.contains("alice") && for_people.contains(&key), "{for_people}");
}

#[test]
fn lines_of_the_client_are_sent() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let (mut bob, bob_key) = start_listener(&place, "bob b", &["--count", "2"]);
    let mut client = Program::start(CLIENT, &["--socket", text(&place.path), "client", "alice"]);
    let registered = client.line();
    assert!(registered.contains("alice"), "{registered}");
    client.write(format!("{bob_key} by key\n\"bob b\" by name\n").as_bytes());
    assert_eq!(bob.json_line()["payload"], "by key");
    assert_eq!(bob.json_line()["payload"], "by name");
    bob.end().well();
    run(CLIENT, &["send", "--as", "carol", "--to", "alice", "hello", "--socket", text(&place.path)]).well();
    let message = client.line();
    assert!(message.contains("carol") && message.contains("hello"), "{message}");
    let ended = client.end();
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(names(&place), [] as [&str; 0]);
}

#[test]
fn the_server_ends_well_on_either_signal_and_tells_its_clients() {
    for signal in [Signal::TERM, Signal::INT] {
        let place = Place::new();
        let server = start_server(&place, &["-v"]);
        let (listener, _) = start_listener(&place, "alice", &[]);
        run(CLIENT, &["send", "--as", "bob", "--to", "alice", "x", "--socket", text(&place.path)]).well();
        run(CLIENT, &["call", "--as", "alice", "x", "--socket", text(&place.path)]).failed();
        let (mortal, _) = start_listener(&place, "mortal", &[]);
        drop(mortal);
        eventually("its death is noticed", || names(&place) == ["alice"]);
        server.signal(signal);
        let ended = server.end();
        assert_eq!((ended.status, &ended.stdout[..]), (Some(0), &b""[..]), "{}", ended.stderr);
        for event in ["register", "unregister", "death", "refused", "message"] {
            assert!(ended.stderr.contains(event), "{event} is not in the log:\n{}", ended.stderr);
        }
        let listener = listener.end();
        assert_eq!(listener.status, Some(1));
        assert!(listener.stderr.contains("shut down"), "{}", listener.stderr);
        assert!(place.is_clean());
    }
}

#[test]
fn a_killed_server_is_noticed_and_replaced() {
    let place = Place::new();
    let server = start_server(&place, &[]);
    let (listener, _) = start_listener(&place, "alice", &[]);
    drop(server);
    let ended = listener.end();
    assert_eq!(ended.status, Some(1));
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    let next = Program::start(SERVER, &["--socket", text(&place.path)]);
    eventually("the new server answers", || {
        run(CLIENT, &["call", "--as", "alice", "x", "--socket", text(&place.path)]).status == Some(0)
    });
    next.signal(Signal::TERM);
    next.end().well();
    assert!(place.is_clean());
}

#[test]
fn the_demo_runs_and_cleans_up() {
    let place = Place::new();
    let demo = Program::start_with(CLIENT, &["demo"], |command| {
        command.env("TMPDIR", place.directory.path());
    });
    let ended = demo.end();
    let said = String::from_utf8(ended.well()).unwrap();
    for word in ["alice", "bob", "server", "p50", "p99"] {
        assert!(said.contains(word), "{word} is not in the transcript:\n{said}");
    }
    assert!(place.is_clean(), "the demo leaves something behind");
}

#[test]
fn the_bench_prints_one_object() {
    let place = Place::new();
    let bench =
        Program::start_with(BENCH, &["latency", "--json", "--count", "2000", "--size", "48"], |command| {
            command.env::<_, &OsStr>("TMPDIR", place.directory.path().as_os_str());
        });
    let output = bench.end().well();
    let object: Value = serde_json::from_slice(&output).unwrap();
    for path in [
        "/floor_ns/p50",
        "/call_ns/p50",
        "/ratio_p50",
        "/rtt_ns/min",
        "/rtt_ns/p50",
        "/rtt_ns/p90",
        "/rtt_ns/p99",
        "/rtt_ns/p999",
        "/rtt_ns/max",
        "/clock_ns",
    ] {
        let value = object.pointer(path).and_then(Value::as_f64);
        assert!(value.is_some_and(|value| value > 0.0), "{path}: {object}");
    }
    assert_eq!((&object["size"], &object["count"]), (&Value::from(48), &Value::from(2000)));
    let rtt = |which: &str| object["rtt_ns"][which].as_f64().unwrap();
    let ranks = ["min", "p50", "p90", "p99", "p999", "max"].map(rtt);
    assert!(ranks.is_sorted(), "{ranks:?}");
    assert!(place.is_clean(), "the bench leaves something behind");
}
