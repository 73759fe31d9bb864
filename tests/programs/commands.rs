//! Tests of the commands of `ringpost` and of the server, in separate processes.

use crate::common::{Place, eventually};
use crate::program::*;
use base64::Engine;
use rustix::process::Signal;
use serde_json::Value;
use std::ffi::OsStr;

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
    // The listener ends after three messages.
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
        assert!(full.contains("is full"), "{full}");
        drop(listener);
        eventually("the name is free", || names(&place).is_empty());
        let (listener, next) = start_listener(&place, "name", &["--timeout", "60"]);
        assert_ne!(key, next);
        listener.signal(Signal::TERM);
        listener.end();
        // The program waited until the server confirmed that it left.
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
    let arguments = ["listen", "--as", "x", "--count", "1", "--timeout", "3", "--socket", socket];
    let ended = run(CLIENT, &arguments);
    assert!(ended.stderr.contains("0 of 1"), "{}", ended.stderr);
    assert_eq!(ended.status, Some(1));
    // Without `--count`, ending after the time-out is a success.
    run(CLIENT, &["listen", "--as", "x", "--timeout", "3", "--socket", socket]).well();
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
    assert_eq!(server_object["pid"], server.id());
    assert_eq!(server_object["max_clients"], 7);
    assert_eq!(server_object["ring_size"], 8192);
    assert_eq!(server_object["wait"], "park");
    let clients = listing["clients"].as_array().unwrap();
    assert_eq!(clients.len(), 1);
    assert_eq!(clients[0]["name"], "alice");
    assert_eq!(clients[0]["key"], key.as_str());
    assert_eq!(clients[0]["pid"], listener.id());
    assert_eq!(clients[0]["uid"], rustix::process::geteuid().as_raw());
    assert_eq!(clients[0]["state"], "live");
    eventually("the message is received", || ls(&place)["clients"][0]["received"] == 1);
    assert_eq!(clients[0]["delivered"], 1);
    assert_eq!((&clients[0]["serves"], &clients[0]["links"]), (&Value::Bool(false), &0.into()));
    let for_people = run(CLIENT, &["ls", "--socket", text(&place.path)]).well();
    let for_people = String::from_utf8(for_people).unwrap();
    assert!(for_people.contains("alice") && !for_people.contains(&key), "{for_people}");
    assert!(!for_people.contains("CALLEE"), "{for_people}");
    let mut serving = ringpost::Client::register(&place.path, "serving one").unwrap();
    let _serves = serving.listen().unwrap().serve(|_, _| Ok(())).unwrap();
    let mut calling = ringpost::Client::register(&place.path, "calling one").unwrap();
    let _link = calling.connect("serving one").unwrap();
    let for_people = run(CLIENT, &["ls", "--links", "--socket", text(&place.path)]).well();
    let for_people = String::from_utf8(for_people).unwrap();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<Vec<String>> = for_people.lines().map(words).collect();
    let at = lines.iter().position(|line| line[..] == ["CALLER", "CALLEE", "AGE"]).expect("links");
    assert_eq!(lines[at + 1][..4], ["calling", "one", "serving", "one"]);
    assert!(lines[..at].iter().any(|line| line.contains(&"serving".to_owned()) && line[0] == "serving"));
    let listing = run(CLIENT, &["ls", "--links", "--json", "--socket", text(&place.path)]).well();
    let listing: Value = serde_json::from_slice(&listing).unwrap();
    assert_eq!((&listing["links"][0]["caller"], &listing["links"][1]), (&"calling one".into(), &Value::Null));
}

#[test]
fn lines_of_the_client_are_sent() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let (mut bob, bob_key) = start_listener(&place, "bob b", &["--count", "2"]);
    let mut client = Program::start(CLIENT, &["--socket", text(&place.path), "client", "alice"]);
    client.write(format!("{bob_key} by key\n\"bob b\" by name\n").as_bytes());
    assert_eq!(bob.json_line()["payload"], "by key");
    assert_eq!(bob.json_line()["payload"], "by name");
    bob.end().well();
    run(CLIENT, &["send", "--as", "carol", "--to", "alice", "hello", "--socket", text(&place.path)]).well();
    let message = client.line();
    assert!(message.contains("carol") && message.contains("hello"), "{message}");
    let ended = client.end();
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert!(ended.stderr.starts_with("registered as alice, key "), "{}", ended.stderr);
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
fn a_listener_registers_again_if_it_is_told_to() {
    let place = Place::new();
    let socket = text(&place.path);
    let server = start_server(&place, &[]);
    let (mut listener, first) = start_listener(&place, "alice", &["--reconnect", "--count", "2"]);
    run(CLIENT, &["send", "--as", "bob", "--to", "alice", "one", "--socket", socket]).well();
    assert_eq!(listener.json_line()["payload"], "one");
    drop(server);
    let next = Program::start(SERVER, &["--socket", socket]);
    let again = listener.json_line();
    assert_eq!(again["registered"]["name"], "alice");
    assert_ne!(again["registered"]["key"], first);
    run(CLIENT, &["send", "--as", "bob", "--to", "alice", "two", "--socket", socket]).well();
    assert_eq!(listener.json_line()["payload"], "two");
    let ended = listener.end();
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("waiting for the next server"), "{}", ended.stderr);

    // A signal ends it while there is no server.
    let (listener, _) = start_listener(&place, "alice", &["--reconnect"]);
    next.signal(Signal::TERM);
    next.end().well();
    listener.signal(Signal::INT);
    let ended = listener.end();
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("did not confirm"), "{}", ended.stderr);

    // Another client has taken the name, and keeps it.
    let server = start_server(&place, &[]);
    let (listener, _) = start_listener(&place, "alice", &["--reconnect"]);
    listener.signal(Signal::STOP);
    drop(server);
    let _server = Program::start(SERVER, &["--socket", socket]);
    eventually("the next server answers", || {
        run(CLIENT, &["call", "--as", "other", "x", "--socket", socket]).status == Some(0)
    });
    let (_other, _) = start_listener(&place, "alice", &[]);
    listener.signal(Signal::CONT);
    let ended = listener.end();
    assert_eq!(ended.status, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("taken"), "{}", ended.stderr);
}

#[test]
fn the_demo_runs_and_cleans_up() {
    let place = Place::new();
    let demo = Program::start_with(CLIENT, &["demo"], |command| {
        command.env("TMPDIR", place.directory.path());
    });
    let ended = demo.end();
    let said = String::from_utf8(ended.well()).unwrap();
    for word in ["alice", "bob", "server", "p50", "p99", "over the link", "bare round trips"] {
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
