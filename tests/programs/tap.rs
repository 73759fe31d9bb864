//! Tests of `tap` and `serve --tappable`, in separate processes.

use crate::common::{Place, begin, eventually};
use crate::program::*;
use ringpost::Client;
use rustix::process::Signal;
use serde_json::{Value, json};

/// Starts `ringpost tap --json`, and returns it when it is in force.
fn start_tap(place: &Place, more: &[&str]) -> Program {
    let arguments = ["tap", "--socket", text(&place.path), "--json"];
    let mut tap = Program::start(CLIENT, &[&arguments[..], more].concat());
    assert!(tap.json_line()["registered"]["name"].as_str().unwrap().starts_with("tap "));
    tap
}

/// Starts a tap that prints for people, does something until it has ended, and returns what it has printed,
/// in the order of the lines' texts.
fn shown(place: &Place, more: &[&str], mut act: impl FnMut()) -> Vec<String> {
    let arguments = ["tap", "--socket", text(&place.path), "--timeout", "60"];
    let mut tap = Program::start(CLIENT, &[&arguments[..], more].concat());
    eventually("it has seen enough", || {
        act();
        tap.is_over()
    });
    let lines = String::from_utf8(tap.end().well()).unwrap();
    let mut lines: Vec<String> = lines.lines().map(without_times).collect();
    lines.sort();
    lines
}

/// A line without its time of day, and with `T` for how long it took.
fn without_times(line: &str) -> String {
    if line.starts_with(' ') {
        return line.to_owned();
    }
    let (clock, rest) = line.split_at(15);
    assert!(clock.bytes().all(|byte| byte.is_ascii_digit() || b":.".contains(&byte)), "{line}");
    let mut words: Vec<&str> = rest.trim_start().split(' ').collect();
    if let Some(unit) = words.iter().position(|word| ["ns", "µs", "ms", "s"].contains(word)) {
        words.splice(unit - 1..=unit, ["T"]);
    }
    words.join(" ")
}

fn register(place: &Place, name: &str) -> Client {
    Client::register(&place.path, name).unwrap()
}

#[test]
fn programs_get_one_object_for_each_call_and_message() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let mut tap = start_tap(&place, &["--count", "3"]);
    let [mut alice, bob] = ["alice", "bob"].map(|name| register(&place, name));
    alice.call(b"ping").unwrap();
    alice.send(bob.key(), b"\xff").unwrap();
    let gone = bob.key();
    bob.unregister().unwrap();
    alice.send(gone, b"").unwrap_err();
    let from = json!({
        "name": "alice", "key": alice.key().to_string(), "pid": std::process::id(),
        "uid": rustix::process::geteuid().as_raw(),
    });
    let mut next = || {
        let mut object = tap.json_line();
        let time = object["time"].take();
        assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
        assert!(object["nanoseconds"].take().is_u64());
        object
    };
    let expected = json!({
        "kind": "call", "time": null, "from": from, "outcome": "ok", "nanoseconds": null, "missed": 0,
        "bytes": 4, "payload": "ping", "response_bytes": 4, "response": "ping",
    });
    assert_eq!(next(), expected);
    let expected = json!({
        "kind": "message", "time": null, "from": from, "to": { "name": "bob", "key": gone.to_string() },
        "outcome": "ok", "nanoseconds": null, "missed": 0, "bytes": 1, "payload_base64": "/w==",
    });
    assert_eq!(next(), expected);
    let expected = json!({
        "kind": "message", "time": null, "from": from, "to": { "key": gone.to_string() },
        "outcome": "not found", "nanoseconds": null, "missed": 0, "bytes": 0, "payload": "",
    });
    assert_eq!(next(), expected);
    tap.end().well();
}

#[test]
fn people_get_lines_that_cannot_spoil_the_terminal() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let [mut alice, mut bob] = ["al ice", "bob"].map(|name| register(&place, name));
    let hostile = "open\n\x1b[2J\u{202e}".as_bytes();
    let lines = shown(&place, &["--count", "2", "--snap", "8"], || {
        alice.call(b"0123456789").unwrap();
        alice.send(bob.key(), hostile).unwrap();
        // There must be room for the next one, however often this is done.
        while bob.try_recv().unwrap().is_some() {}
    });
    let expected = [
        "call al ice ok T 10 > 10 bytes: 01234567… > 01234567…",
        "message al ice > bob ok T 12 bytes: open\\n\\u{1b}[2…",
    ];
    assert_eq!(lines, expected);
    let options = ["--count", "1", "--payload", "hex"];
    let lines = shown(&place, &options, || {
        alice.send(bob.key(), hostile).unwrap();
        while bob.try_recv().unwrap().is_some() {}
    });
    let expected = [
        "  > 0000  6f 70 65 6e 0a 1b 5b 32 4a e2 80 ae              open..[2J...",
        "message al ice > bob ok T 12 bytes",
    ];
    assert_eq!(lines, expected);
    let options = ["--count", "1", "--payload", "none"];
    let lines = shown(&place, &options, || assert_eq!(alice.call(b"x").unwrap(), b"x"));
    assert_eq!(lines, ["call al ice ok T 1 > 1 byte"]);
}

#[test]
fn only_what_is_asked_for_is_shown() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let [mut alice, mut bob, carol] = ["alice", "bob", "carol"].map(|name| register(&place, name));
    let alices = alice.key().to_string();
    let options: [&[&str]; 5] = [
        &["--from", "alice"],
        &["--from", &alices, "--calls"],
        &["--to", "carol"],
        &["--messages", "--from", "bob"],
        &["--calls"],
    ];
    let mut taps = options.map(|more| start_tap(&place, &[&["--timeout", "60"][..], more].concat()));
    for client in [&mut alice, &mut bob] {
        client.call(b"call").unwrap();
        client.send(carol.key(), b"message").unwrap();
    }
    alice.send(bob.key(), b"last").unwrap();
    bob.send(bob.key(), b"last").unwrap();
    bob.send(carol.key(), b"last").unwrap();
    bob.call(b"last").unwrap();
    alice.call(b"last").unwrap();
    let expected = [
        "call:call message:message message:last call:last",
        "call:call call:last",
        "message:message message:message message:last",
        "message:message message:last message:last",
        "call:call call:call call:last call:last",
    ];
    for (tap, expected) in taps.iter_mut().zip(expected) {
        for expected in expected.split(' ') {
            let object = tap.json_line();
            let text = |key: &str| object[key].as_str().unwrap().to_owned();
            assert_eq!(format!("{}:{}", text("kind"), text("payload")), expected);
        }
        tap.signal(Signal::TERM);
    }
    for tap in taps {
        tap.end().well();
    }
}

#[test]
fn topics_are_shown_as_they_are_to_any_subscriber() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let mut alice = register(&place, "alice");
    let mut prices = alice.publish("prices/AAPL").unwrap();
    let mut tap = start_tap(&place, &["--topic", "prices/*", "--count", "2", "--snap", "3"]);
    prices.send(b"181.20").unwrap();
    let mut sample = tap.json_line();
    assert!(sample["time"].take().is_string());
    let expected = json!({
        "kind": "sample", "time": null, "from": sample["from"], "topic": "prices/AAPL", "sequence": 1,
        "missed": 0, "bytes": 6, "payload": "181",
    });
    assert_eq!((&sample, &sample["from"]["name"]), (&expected, &json!("alice")));
    prices.send(b"x").unwrap();
    assert_eq!(tap.json_line()["sequence"], 2);
    tap.end().well();
}

#[test]
fn links_are_shown_if_their_owner_allows_it() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let _serving = start_serving(&place, "calc", &["--echo", "--tappable"]);
    let _closed = start_serving(&place, "closed", &["--echo"]);
    let mut tap = start_tap(&place, &["--link", "calc"]);
    let call =
        || run(CLIENT, &["call", "--socket", text(&place.path), "--as", "alice", "--to", "calc", "1+1"]);
    // Who serves may hear a moment later that somebody taps.
    let hearing = begin(move || (tap.json_line(), tap));
    while !hearing.is_over() {
        assert_eq!(call().well(), b"1+1");
    }
    let (object, _tap) = hearing.end("the tap");
    let expected: [(&str, Value); 5] = [
        ("kind", "call".into()),
        ("payload", "1+1".into()),
        ("response", "1+1".into()),
        ("outcome", "ok".into()),
        ("missed", 0.into()),
    ];
    for (key, expected) in expected {
        assert_eq!(object[key], expected, "{object}");
    }
    assert_eq!((&object["from"]["name"], &object["to"]["name"]), (&json!("alice"), &json!("calc")));
    let tapping = |name: &str| run(CLIENT, &["tap", "--socket", text(&place.path), "--link", name]).failed();
    assert!(tapping("closed").contains("serve --tappable"), "{}", tapping("closed"));
    assert!(tapping("nobody").contains("no client is called nobody"), "{}", tapping("nobody"));
    // Whoever publishes there under another name is not believed.
    let mut eve = register(&place, "eve");
    let mut forged = eve.publish("@ringpost/tap/closed").unwrap();
    forged.send(b"forged").unwrap();
    assert!(tapping("closed").contains("serve --tappable"), "{}", tapping("closed"));
}

#[test]
fn what_was_missed_is_counted() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let mut tap = start_tap(&place, &["--snap", "60000", "--timeout", "60"]);
    let mut alice = register(&place, "alice");
    alice.call(b"first").unwrap();
    assert_eq!(tap.json_line()["payload"], "first");
    tap.signal(Signal::STOP);
    let payload = vec![b'x'; 20_000];
    for _ in 0..300 {
        alice.call(&payload).unwrap();
    }
    alice.call(b"last").unwrap();
    tap.signal(Signal::CONT);
    let (mut came, mut missed) = (0, 0);
    loop {
        let object = tap.json_line();
        missed += object["missed"].as_u64().unwrap();
        if object["payload"] == "last" {
            break;
        }
        came += 1;
    }
    assert!(missed > 100, "{missed}");
    assert_eq!(came + missed, 300);
    tap.signal(Signal::INT);
    tap.end().well();
}

#[test]
fn it_ends_like_every_command() {
    let place = Place::new();
    let server = start_server(&place, &[]);
    let line = ["tap", "--socket", text(&place.path), "--timeout", "3", "--count", "3"];
    let ended = run(CLIENT, &line);
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("0 of 3 calls and messages arrived before the time-out"), "{ended:?}");
    run(CLIENT, &line[..5]).well();
    let tap = start_tap(&place, &[]);
    server.signal(Signal::TERM);
    let ended = tap.end();
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("the server shut down: start it again"), "{}", ended.stderr);
    server.end().well();
}
