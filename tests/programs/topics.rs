//! Tests of `publish`, `subscribe`, `watch` and `ls --topics`, in separate processes.

use crate::common::{Place, eventually, proc};
use crate::program::*;
use crate::terminal::{left_well, registered};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::process::Stdio;

/// Starts a subscription with `--json`, and returns it when it is in force.
fn start_subscriber(place: &Place, name: &str, pattern: &str, more: &[&str]) -> Program {
    let arguments = ["subscribe", "--socket", text(&place.path), "--json", "--as", name, pattern];
    let mut subscriber = Program::start(CLIENT, &[&arguments[..], more].concat());
    assert_eq!(subscriber.json_line()["registered"]["name"], name);
    subscriber
}

fn publisher_line<'a>(place: &'a Place, name: &'a str, topic: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["publish", "--socket", text(&place.path), "--as", name, "--topic", topic], more].concat()
}

/// Starts a publisher, and waits until its topic is there.
fn start_publisher(place: &Place, name: &str, topic: &str, more: &[&str]) -> Program {
    let publisher = Program::start(CLIENT, &publisher_line(place, name, topic, more));
    eventually("the topic is there", || topics(place).iter().any(|found| found["publisher"] == name));
    publisher
}

/// Publishes this input, and returns how that ended.
fn publish(place: &Place, name: &str, topic: &str, more: &[&str], input: &[u8]) -> Ended {
    run_with(CLIENT, &publisher_line(place, name, topic, more), input)
}

/// What `ls --topics --json` lists.
fn topics(place: &Place) -> Vec<Value> {
    let listing = run(CLIENT, &["ls", "--topics", "--json", "--socket", text(&place.path)]).well();
    let listing: Value = serde_json::from_slice(&listing).unwrap();
    listing["topics"].as_array().unwrap().clone()
}

/// Waits until so many subscriptions read the topic of this client.
fn is_read_by(place: &Place, publisher: &str, subscriptions: u32) {
    eventually("the subscriptions have joined", || {
        topics(place)
            .iter()
            .any(|topic| topic["publisher"] == publisher && topic["subscriptions"] == subscriptions)
    });
}

#[test]
fn each_line_is_a_sample_and_reaches_whoever_subscribed_before() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let mut all = start_subscriber(&place, "all", "**", &["--count", "5", "--timeout", "60"]);
    let mut prices = start_subscriber(&place, "prices", "prices/*", &["--count", "3", "--timeout", "60"]);
    let ended = publish(&place, "alice", "prices/AAPL", &[], b"181.20\n\xff\xfe\n181.25 without a line end");
    assert!(ended.stderr.contains("registered as alice, key "), "{}", ended.stderr);
    assert!(ended.stderr.contains("published 3 samples"), "{}", ended.stderr);
    assert_eq!(ended.well(), b"");
    publish(&place, "bob", "weather/K\u{f6}ln/rain", &[], "\nh\u{e9}\u{1b}[2J\n".as_bytes()).well();
    for subscriber in [&mut all, &mut prices] {
        for (sequence, payload) in [
            (1, ("payload", "181.20")),
            (2, ("payload_base64", "//4=")),
            (3, ("payload", "181.25 without a line end")),
        ] {
            let sample = subscriber.json_line();
            assert_eq!(sample["publisher"]["key"].as_str().unwrap().len(), 26);
            assert_eq!(sample["publisher"]["name"], "alice");
            let expected = json!({
                "topic": "prices/AAPL",
                "publisher": sample["publisher"],
                "sequence": sequence,
                "missed": 0,
                payload.0: payload.1,
            });
            assert_eq!(sample, expected);
        }
    }
    for (sequence, payload) in [(1, ""), (2, "h\u{e9}\u{1b}[2J")] {
        let sample = all.json_line();
        assert_eq!(
            (&sample["topic"], &sample["sequence"]),
            (&json!("weather/K\u{f6}ln/rain"), &json!(sequence))
        );
        assert_eq!(sample["payload"], payload);
    }
    all.end().well();
    prices.end().well();
    assert_eq!(names(&place), [] as [&str; 0]);
}

#[test]
fn people_get_lines_that_cannot_spoil_the_terminal() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let line = ["subscribe", "--socket", text(&place.path), "--as", "bob", "my house/*", "--count", "2"];
    let errors = place.directory.path().join("errors");
    let said = || std::fs::read_to_string(&errors).unwrap();
    let subscriber = Program::start_with(CLIENT, &line, |command| {
        command.stderr(std::fs::File::create(&errors).unwrap());
    });
    eventually("it has subscribed", || said().contains("nobody publishes my house/* now"));
    let wait = ["--subscribers", "1"];
    publish(&place, "al ice", "my house/door", &wait, "open\n\x1b[2J\u{202e}\n".as_bytes()).well();
    let ended = subscriber.end();
    assert!(said().contains("registered as bob, key "), "{}", said());
    assert!(!said().contains("missed"), "{}", said());
    let shown = String::from_utf8(ended.well()).unwrap();
    assert_eq!(shown, "my house/door al ice 1: open\nmy house/door al ice 2: \\u{1b}[2J\\u{202e}\n");
}

#[test]
fn only_the_users_that_are_named_may_subscribe() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let own = rustix::process::geteuid().as_raw();
    let [own, other] = [own, own + 1].map(|user| user.to_string());
    let _closed = start_publisher(&place, "closed", "t", &["--user", &other]);
    let mut open = start_publisher(&place, "open", "t", &["--user", &other, "--user", &own]);
    let mut subscriber = start_subscriber(&place, "subscriber", "t", &["--count", "1"]);
    is_read_by(&place, "open", 1);
    open.write(b"to whom it may concern\n");
    assert_eq!(subscriber.json_line()["publisher"]["name"], "open");
    subscriber.end().well();
    let subscriber = start_subscriber(&place, "subscriber", "t", &[]);
    is_read_by(&place, "open", 1);
    // Both publishers were there when it subscribed.
    is_read_by(&place, "closed", 0);
    drop(subscriber);
}

#[test]
fn a_block_is_one_sample_and_lines_come_at_a_rate_and_up_to_a_number() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let mut subscriber = start_subscriber(&place, "bob", "**", &["--count", "6"]);
    publish(&place, "alice", "block", &["--block", "--count", "2"], b"two\nlines\n").well();
    for sequence in 1..=2 {
        let sample = subscriber.json_line();
        assert_eq!((&sample["payload"], &sample["sequence"]), (&json!("two\nlines\n"), &json!(sequence)));
    }
    publish(&place, "alice", "empty", &["--block"], b"").well();
    assert_eq!(subscriber.json_line()["payload"], "");
    publish(&place, "alice", "nothing", &[], b"").well();
    // It ends after two lines although its input goes on.
    let mut counting = start_publisher(&place, "alice", "lines", &["--count", "2", "--rate", "200"]);
    counting.write(b"a\nb\nc\n");
    eventually("it has ended", || counting.is_over());
    let ended = counting.end();
    assert!(ended.stderr.contains("published 2 samples"), "{}", ended.stderr);
    ended.well();
    publish(&place, "carol", "last", &["--rate", "0.001"], b"the first is not late").well();
    for payload in ["a", "b", "the first is not late"] {
        assert_eq!(subscriber.json_line()["payload"], payload);
    }
    subscriber.end().well();
}

#[test]
fn what_was_published_is_read_from_the_history() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let mut publisher = start_publisher(&place, "alice", "t", &[]);
    publisher.write(b"0\n1\n2\n3\n4\n");
    eventually("all are published", || {
        let line = ["subscribe", "--as", "x", "t", "--history", "9", "--json", "--timeout", "3"];
        let ended = run(CLIENT, &[&line[..], &["--socket", text(&place.path)]].concat());
        String::from_utf8(ended.well()).unwrap().lines().count() == 6
    });
    let mut last = start_subscriber(&place, "last", "t", &["--history", "2", "--count", "3"]);
    let mut now = start_subscriber(&place, "now", "t", &["--count", "1"]);
    publisher.write(b"5\n");
    for payload in ["3", "4", "5"] {
        assert_eq!(last.json_line()["payload"], payload);
    }
    let sample = now.json_line();
    assert_eq!(
        (&sample["payload"], &sample["missed"], &sample["sequence"]),
        (&json!("5"), &json!(0), &json!(6))
    );
    last.end().well();
    now.end().well();
    publisher.end().well();
}

#[test]
fn whoever_is_slow_is_told_what_it_missed() {
    let place = Place::new();
    let _server = start_server(&place, &["--ring-size", "4096"]);
    let mut subscriber = start_subscriber(&place, "slow", "t", &[]);
    let line = ["subscribe", "--socket", text(&place.path), "--as", "person", "t", "--policy", "latest"];
    let mut person = Program::start(CLIENT, &line);
    let mut publisher = start_publisher(&place, "alice", "t", &["--subscribers", "2"]);
    publisher.write(b"first\n");
    assert_eq!(subscriber.json_line()["payload"], "first");
    is_read_by(&place, "alice", 2);
    subscriber.signal(Signal::STOP);
    person.signal(Signal::STOP);
    let mut lines = String::new();
    for number in 1..=10_000 {
        lines.push_str(&format!("number {number}\n"));
    }
    publisher.write(lines.as_bytes());
    let ended = publisher.end();
    assert!(ended.stderr.contains("published 10,001 samples"), "{}", ended.stderr);
    ended.well();
    subscriber.signal(Signal::CONT);
    person.signal(Signal::CONT);
    let mut next = 2;
    while next <= 10_001 {
        let sample = subscriber.json_line();
        next += sample["missed"].as_u64().unwrap();
        assert_eq!(sample["sequence"], next);
        assert_eq!(sample["payload"], format!("number {}", next - 1));
        next += 1;
    }
    // The person has the last one, too.
    while person.line() != "t alice 10001: number 10000" {}
    subscriber.signal(Signal::TERM);
    let ended = subscriber.end();
    assert!(!ended.stderr.contains("missed"), "the objects say it: {}", ended.stderr);
    ended.well();
    person.signal(Signal::INT);
    let ended = person.end();
    assert!(ended.stderr.contains("missed ") && ended.stderr.contains(" of alice on t"), "{}", ended.stderr);
    let shown = String::from_utf8(ended.well()).unwrap();
    assert_eq!(shown.lines().last(), Some("t alice 10001: number 10000"), "{shown}");
}

#[test]
fn reliable_subscribers_get_everything_or_are_evicted() {
    let place = Place::new();
    let _server = start_server(&place, &["--ring-size", "4096"]);
    let reliable = ["--policy", "reliable"];
    let mut good = start_subscriber(&place, "good", "t", &[&reliable[..], &["--count", "5000"]].concat());
    let mut publisher = start_publisher(&place, "alice", "t", &["--reliable", "30", "--subscribers", "1"]);
    let mut lines = String::new();
    for number in 0..5000 {
        lines.push_str(&format!("number {number}\n"));
    }
    publisher.write(lines.as_bytes());
    for number in 0..5000 {
        let sample = good.json_line();
        assert_eq!((&sample["sequence"], &sample["missed"]), (&json!(number + 1), &json!(0)));
    }
    good.end().well();
    publisher.end().well();

    // One that does not read for longer than the budget is told so, and so is the publisher.
    let mut bad = start_subscriber(&place, "bad", "t", &reliable);
    let mut publisher = start_publisher(&place, "alice", "t", &["--reliable", "0.05", "--subscribers", "1"]);
    publisher.write(b"number 0\n");
    assert_eq!(bad.json_line()["payload"], "number 0");
    bad.signal(Signal::STOP);
    publisher.write(lines.as_bytes());
    let ended = publisher.end();
    assert!(ended.stderr.contains("published 5,001 samples"), "{}", ended.stderr);
    assert!(ended.stderr.contains("evicted bad ("), "{}", ended.stderr);
    ended.well();
    bad.signal(Signal::CONT);
    eventually("it knows", || names(&place) == ["bad"]);
    // Publishers that come later are read again.
    publish(&place, "carol", "t", &["--reliable", "30", "--subscribers", "1"], b"from carol\n").well();
    while bad.json_line()["payload"] != "from carol" {}
    bad.signal(Signal::TERM);
    let ended = bad.end();
    assert_eq!(ended.status, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("alice") && ended.stderr.contains("evict"), "{}", ended.stderr);

    // Not everybody offers it.
    let _publisher = start_publisher(&place, "lossy one", "t", &[]);
    let line = ["subscribe", "--socket", text(&place.path), "--as", "x", "t"];
    let why = run(CLIENT, &[&line[..], &reliable].concat()).failed();
    assert!(why.contains("lossy one") && why.contains("--reliable"), "{why}");
}

#[test]
fn too_few_samples_are_a_failure_and_others_end_well() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let line = ["subscribe", "--socket", text(&place.path), "--as", "x", "t", "--timeout", "3"];
    run(CLIENT, &line).well();
    let ended = run(CLIENT, &[&line[..], &["--count", "2"]].concat());
    assert!(ended.stderr.contains("0 of 2 samples arrived before the time-out"), "{}", ended.stderr);
    assert_eq!(ended.status, Some(1));
    for signal in [Signal::INT, Signal::TERM] {
        let subscriber = start_subscriber(&place, "bob", "t", &[]);
        // One waits for a line, one for the next sample's time, one for a subscription.
        let waiting = start_publisher(&place, "alice", "t", &[]);
        let mut pacing = start_publisher(&place, "carol", "t", &["--rate", "0.01"]);
        pacing.write(b"now\nlater\nlater\n");
        let alone = start_publisher(&place, "dave", "lonely", &["--subscribers", "1"]);
        let watch = Program::start(CLIENT, &["watch", "--as", "eve", "--socket", text(&place.path)]);
        eventually("all are there", || names(&place).len() == 5);
        for program in [&waiting, &pacing, &alone, &subscriber, &watch] {
            program.signal(signal);
        }
        for program in [waiting, pacing, alone, subscriber, watch] {
            program.end().well();
        }
        assert_eq!(names(&place), [] as [&str; 0]);
        assert_eq!(topics(&place), [] as [Value; 0]);
    }
}

#[test]
fn a_publisher_that_waits_for_a_reliable_subscriber_ends_on_a_signal() {
    let place = Place::new();
    let _server = start_server(&place, &["--ring-size", "4096"]);
    let stalled = start_subscriber(&place, "stalled", "t", &["--policy", "reliable"]);
    let mut publisher = start_publisher(&place, "alice", "t", &["--reliable", "600", "--subscribers", "1"]);
    is_read_by(&place, "alice", 1);
    stalled.signal(Signal::STOP);
    let stands = |(_, state): &(String, char)| *state == 'T';
    eventually("it has stopped", || proc::threads(&stalled.id().to_string()).iter().all(stands));
    publisher = publisher.feed(&b"line\n".repeat(100_000));
    let mut other = start_subscriber(&place, "lossy one", "t", &["--history", "1", "--count", "1"]);
    // A ring of 64 lines is full of samples that the stalled one has not read.
    assert!(other.json_line()["sequence"].as_u64().unwrap() <= 64);
    other.end().well();
    publisher.signal(Signal::TERM);
    let ended = publisher.end();
    assert!(ended.stderr.contains("published "), "{}", ended.stderr);
    assert!(!ended.stderr.contains("evicted"), "{}", ended.stderr);
    ended.well();
    stalled.signal(Signal::CONT);
    stalled.signal(Signal::TERM);
    stalled.end().well();
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let (reader, writer) = std::io::pipe().unwrap();
    let line = ["subscribe", "--socket", text(&place.path), "--as", "bob", "t"];
    let subscriber = Program::start_with(CLIENT, &line, |command| {
        command.stdout(Stdio::from(writer));
    });
    eventually("it is registered", || names(&place) == ["bob"]);
    // It does not wait for a sample to find that.
    drop(reader);
    let ended = subscriber.end();
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("pipe"), "{}", ended.stderr);
    assert_eq!(names(&place), [] as [&str; 0]);
}

#[test]
fn what_cannot_be_published_is_said_and_the_rest_goes_on() {
    let place = Place::new();
    let _server = start_server(&place, &["--ring-size", "4096"]);
    let mut subscriber = start_subscriber(&place, "bob", "**", &["--count", "3"]);
    let large = "x".repeat(5000);
    let ended = publish(&place, "alice", "t", &[], format!("one\n{large}\nthree\n").as_bytes());
    assert_eq!(ended.status, Some(1));
    assert!(ended.stderr.contains("sample 2: ") && ended.stderr.contains("5000"), "{}", ended.stderr);
    assert!(ended.stderr.contains("1 of 3 samples could not be published"), "{}", ended.stderr);
    for payload in ["one", "three"] {
        assert_eq!(subscriber.json_line()["payload"], payload);
    }
    // A larger ring takes it.
    publish(&place, "alice", "t", &["--ring-size", "64K"], large.as_bytes()).well();
    assert_eq!(subscriber.json_line()["payload"], large);
    subscriber.end().well();
    let ended = publish(&place, "alice", "t", &["--block"], large.as_bytes());
    assert_eq!(ended.status, Some(1), "{}", ended.stderr);
    for size in ["5000", "2G"] {
        let why = publish(&place, "alice", "t", &["--ring-size", size], b"x").failed();
        assert!(why.contains("power of two"), "{why}");
    }
    assert_eq!(names(&place), [] as [&str; 0], "those that failed have left");
}

#[test]
fn ls_shows_topics_with_their_publishers() {
    let place = Place::new();
    let _server = start_server(&place, &["--ring-size", "8192"]);
    assert!(ls(&place).get("topics").is_none());
    assert_eq!(topics(&place), [] as [Value; 0]);
    let _bob = start_subscriber(&place, "bob", "prices/*", &[]);
    let alice = start_publisher(&place, "alice", "prices/AAPL", &["--ring-size", "16K"]);
    let _carol = start_publisher(&place, "carol", "weather", &[]);
    is_read_by(&place, "alice", 1);
    let found = topics(&place);
    assert!(found.iter().all(|topic| topic["age_seconds"].as_f64().unwrap() < 3600.0));
    let mut found: Vec<_> = found
        .iter()
        .map(|topic| ["topic", "publisher", "subscriptions", "ring_size"].map(|of| topic[of].clone()))
        .collect();
    found.sort_by_key(|topic| topic[0].to_string());
    let row = |topic, publisher, subscriptions, size| {
        [json!(topic), json!(publisher), json!(subscriptions), json!(size)]
    };
    assert_eq!(found, [row("prices/AAPL", "alice", 1, 16384), row("weather", "carol", 0, 8192)]);
    let for_people = run(CLIENT, &["ls", "--topics", "--socket", text(&place.path)]).well();
    let for_people = String::from_utf8(for_people).unwrap();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<Vec<String>> = for_people.lines().map(words).collect();
    let headings = ["TOPIC", "PUBLISHER", "AGE", "SUBSCRIPTIONS", "RING"];
    let at = lines.iter().position(|line| line[..] == headings).expect("topics");
    assert_eq!(lines[at + 1][..2], ["prices/AAPL", "alice"]);
    assert_eq!(lines[at + 1][4..], ["1", "16", "KiB"]);
    assert_eq!(lines[at + 2][..2], ["weather", "carol"]);
    // A topic ends with its publisher, however that ends.
    drop(alice);
    eventually("it is gone", || topics(&place).len() == 1);
}

#[test]
fn watch_tells_who_is_there_and_who_comes_and_goes() {
    let place = Place::new();
    let server = start_server(&place, &[]);
    let (alice, key) = start_listener(&place, "alice", &[]);
    let line = ["watch", "--json", "--count", "4", "--socket", text(&place.path)];
    let mut watch = Program::start(CLIENT, &line);
    let client = json!({
        "name": "alice",
        "key": key,
        "pid": alice.id(),
        "uid": rustix::process::geteuid().as_raw(),
    });
    assert_eq!(watch.json_line(), json!({"change": "present", "client": client}));
    let (bob, _) = start_listener(&place, "b ob", &[]);
    let appeared = watch.json_line();
    assert_eq!((&appeared["change"], &appeared["client"]["name"]), (&json!("appeared"), &json!("b ob")));
    assert_eq!(appeared["client"]["pid"], bob.id());
    drop(alice);
    let vanished = watch.json_line();
    assert_eq!((&vanished["change"], &vanished["client"]), (&json!("vanished"), &client));
    assert_eq!(vanished["reason"], "died");
    bob.signal(Signal::TERM);
    bob.end().well();
    let vanished = watch.json_line();
    assert_eq!(vanished["client"], appeared["client"]);
    assert_eq!(vanished["reason"], "unregistered");
    let (_carol, key) = start_listener(&place, "carol", &[]);
    assert_eq!(watch.json_line()["client"]["key"], key.as_str());
    watch.end().well();

    // For people; and the server's end is said.
    let mut watch = Program::start(CLIENT, &["watch", "--as", "eve", "--socket", text(&place.path)]);
    let line = watch.line();
    assert!(line.starts_with(&format!("present carol ({key}), process ")), "{line}");
    let why = run(CLIENT, &["watch", "--as", "eve", "--socket", text(&place.path)]).failed();
    assert!(why.contains("taken"), "{why}");
    server.signal(Signal::TERM);
    let ended = watch.end();
    assert_eq!(ended.status, Some(1));
    assert!(ended.stderr.contains("shut down"), "{}", ended.stderr);
    let few = ["watch", "--count", "1", "--timeout", "3", "--socket", text(&place.path)];
    let _server = start_server(&place, &[]);
    let why = run(CLIENT, &few).failed();
    assert!(why.contains("0 of 1 changes"), "{why}");
}

#[test]
fn a_server_that_ends_ends_topics_unless_they_are_to_go_on() {
    let place = Place::new();
    let server = start_server(&place, &[]);
    let again = ["--reconnect"];
    let mut subscriber = start_subscriber(&place, "bob", "t", &again);
    let once = start_subscriber(&place, "carol", "t", &[]);
    let publishing_once = start_publisher(&place, "dave", "t", &[]);
    let mut publisher = start_publisher(&place, "alice", "t", &["--reconnect", "--subscribers", "2"]);
    publisher.write(b"one\n");
    assert_eq!(subscriber.json_line()["payload"], "one");
    let line = ["watch", "--reconnect", "--json", "--socket", text(&place.path)];
    let mut watch = Program::start(CLIENT, &line);
    for _ in ["alice", "bob", "carol", "dave"] {
        assert_eq!(watch.json_line()["change"], "present");
    }
    drop(server);
    for program in [once, publishing_once] {
        let ended = program.end();
        assert_eq!(ended.status, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains("the server died: start it again"), "{}", ended.stderr);
    }
    // Those who know each other go on without it.
    publisher.write(b"two\n");
    assert_eq!(subscriber.json_line()["payload"], "two");
    let _server = Program::start(SERVER, &["--socket", text(&place.path)]);
    assert_eq!(subscriber.json_line()["registered"]["name"], "bob");
    eventually("the topic is published anew", || {
        ringpost::Observer::connect(&place.path).is_ok() && topics(&place).len() == 1
    });
    is_read_by(&place, "alice", 1);
    publisher.write(b"three\n");
    let sample = subscriber.json_line();
    let parts = (&sample["payload"], &sample["sequence"], &sample["missed"]);
    assert_eq!(parts, (&json!("three"), &json!(3), &json!(0)), "the sequence goes on");
    // All vanish, and the two that go on appear under other keys.
    for _ in ["alice", "bob", "carol", "dave"] {
        let change = watch.json_line();
        assert_eq!((&change["change"], &change["reason"]), (&json!("vanished"), &json!("server ended")));
    }
    let mut back = [watch.json_line(), watch.json_line()].map(|change| {
        let name = change["client"]["name"].as_str().unwrap().to_owned();
        (change["change"].as_str().unwrap().to_owned(), name)
    });
    back.sort();
    assert_eq!(back, ["alice", "bob"].map(|name| ("appeared".to_owned(), name.to_owned())));
    watch.signal(Signal::TERM);
    watch.end().well();
    publisher.end().well();
    subscriber.signal(Signal::TERM);
    subscriber.end().well();
}

#[test]
fn a_person_publishes_and_sees_samples_above_the_line_that_is_typed() {
    let place = Place::new();
    let _server = start_server(&place, &[]);
    let mut bob = start_subscriber(&place, "bob", "my house/*", &[]);
    let mut tty = registered(&place, "alice");
    for (line, answer) in [
        ("/sub **", "subscribed to **, which nobody publishes now"),
        ("/sub **", "! ** is shown already; /unsub ** ends that"),
    ] {
        tty.press(&format!("{line}\r"));
        tty.until(answer, |screen| screen.current() == ">" && screen.shows_above(answer));
    }
    // Her own samples are shown to her, too.
    tty.press("/pub \"my house/door\" is open\r");
    tty.until("the sample", |screen| screen.shows_above("my house/door alice 1: is open"));
    tty.line_is(">");
    let sample = bob.json_line();
    assert_eq!((&sample["topic"], &sample["payload"]), (&json!("my house/door"), &json!("is open")));
    // The topic stays published, and is completed.
    tty.press("/pub my\tis\x16\tshut\r");
    assert_eq!(bob.json_line()["sequence"], 2);
    tty.until("the sample", |screen| screen.shows_above("my house/door alice 2: is\\tshut"));
    assert_eq!(topics(&place).len(), 1);
    tty.line_is(">");
    tty.press("bob half a li");
    tty.line_is("> bob half a li");
    publish(&place, "carol", "t", &["--subscribers", "1"], b"\x1b[2J\n").well();
    tty.until("the sample stands above the line", |screen| {
        screen.current() == "> bob half a li" && screen.shows_above("t carol 1: \\u{1b}[2J")
    });
    tty.press("\x15/unsub **\r");
    tty.line_is(">");
    publish(&place, "carol", "t", &[], b"unseen\n").well();
    tty.press("/sub t\r");
    tty.until("it is subscribed to", |screen| {
        screen.shows_above("subscribed to t, which nobody publishes now")
    });
    tty.line_is(">");
    tty.press("/unsub **\r");
    tty.shows("this is not subscribed to; what is: t");
    assert!(!tty.text().contains("unseen"), "{}", tty.text());
    // A message is shown although a topic floods the screen, for as long as the flood lasts.
    let for_ever = ["--block", "--count", "18446744073709551615"];
    let _flood = Program::start(CLIENT, &publisher_line(&place, "carol", "t", &for_ever)).feed(b"flood");
    tty.shows(": flood");
    run(CLIENT, &["send", "--socket", text(&place.path), "--as", "dave", "--to", "alice", "still seen"])
        .well();
    tty.shows("): still seen");
    tty.press("/quit\r");
    left_well(&place, tty, "alice");
    assert_eq!(topics(&place).len(), 1, "hers has ended");
}
