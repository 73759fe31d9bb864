//! Tests of the server's log: both formats, rotated files, the summary, and a full disk.

use crate::common::{Place, eventually};
use crate::program::*;
use rustix::process::{Resource, Rlimit, Signal, prlimit};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The documented events: their levels and fields, from the help.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let help = String::from_utf8(run(SERVER, &["--help"]).well()).unwrap();
    let table = help.split("The events, their levels, meanings and fields:").nth(1).expect("no table");
    let mut events = BTreeMap::new();
    let mut last = String::new();
    for line in table.lines().filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace().map(str::to_owned);
        if line.starts_with("   ") {
            let (_, fields): &mut (String, BTreeSet<String>) = events.get_mut(&last).unwrap();
            fields.extend(words);
        } else {
            last = words.next().unwrap();
            events.insert(last.clone(), (words.next().unwrap(), BTreeSet::new()));
        }
    }
    assert!(events.len() > 10, "{events:?}");
    events
}

/// Causes every event that clients can cause.
fn scenario(place: &Place) {
    let socket = text(&place.path);
    let (listener, key) = start_listener(place, "b o b", &[]);
    run(CLIENT, &["send", "--as", "alice", "--to", "b o b", "hello", "--socket", socket]).well();
    run(CLIENT, &["call", "--as", "b o b", "x", "--socket", socket]).failed();
    run(CLIENT, &["call", "--as", "alice", "four", "--socket", socket]).well();
    let (mortal, _) = start_listener(place, "mortal", &[]);
    drop(mortal);
    eventually("its death is noticed", || names(place) == ["b o b"]);
    listener.signal(Signal::TERM);
    listener.end().well();
    run(CLIENT, &["send", "--as", "alice", "--to", &key, "late", "--socket", socket]).failed();
}

fn event<'a>(events: &'a [Value], name: &str) -> &'a Value {
    events.iter().find(|event| event["event"] == name).unwrap_or_else(|| panic!("no {name}: {events:?}"))
}

fn parse(log: &str) -> Vec<Value> {
    log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"))).collect()
}

/// Ends the server, and returns what it wrote to stderr.
fn stop(server: Program) -> String {
    server.signal(Signal::TERM);
    let ended = server.end();
    assert_eq!((ended.status, &ended.stdout[..]), (Some(0), &b""[..]), "{}", ended.stderr);
    ended.stderr
}

#[test]
fn each_line_of_json_is_one_documented_event() {
    let documented = documented();
    let place = Place::new();
    let server = start_server(&place, &["-v", "--log-format", "json"]);
    let pid = server.id();
    scenario(&place);
    let events = parse(&stop(server));
    for event in &events {
        let fields: BTreeSet<&str> = event.as_object().unwrap().keys().map(String::as_str).collect();
        let (level, allowed) = &documented[event["event"].as_str().unwrap()];
        assert_eq!(event["level"], level.as_str(), "{event}");
        assert!(event["time"].as_str().unwrap().ends_with('Z'), "{event}");
        for field in &fields {
            let known = ["time", "level", "event"].contains(field) || allowed.contains(*field);
            assert!(known || *field == "message" && level != "info", "{field} is not documented: {event}");
        }
        // For these events, all fields are present.
        if !["refused", "dropped"].contains(&event["event"].as_str().unwrap()) {
            assert!(
                allowed.iter().all(|field| fields.contains(field.as_str())),
                "{event} lacks one of {allowed:?}"
            );
        }
    }
    let first = event(&events, "listening");
    assert_eq!((&first["socket"], &first["pid"]), (&Value::from(text(&place.path)), &Value::from(pid)));
    let message = event(&events, "message");
    assert_eq!((&message["from"], &message["to"]), (&"alice".into(), &"b o b".into()));
    assert_eq!((&message["bytes"], &message["outcome"]), (&5.into(), &"ok".into()));
    assert_eq!(message["from_key"].as_str().unwrap().len(), 26);
    let outcomes: Vec<_> = events.iter().filter_map(|event| event["outcome"].as_str()).collect();
    assert_eq!(outcomes, ["ok", "not_found"]);
    assert_eq!(event(&events, "refused")["reason"], "name_taken");
    assert_eq!(event(&events, "death")["name"], "mortal");
    assert_eq!(events.iter().filter(|event| event["event"] == "unregister").count(), 4);
    let last = events.last().unwrap();
    assert_eq!(last["event"], "stopped");
    for (field, sum) in [
        ("clients", 5),
        ("calls", 1),
        ("messages", 1),
        ("bytes_in", 9),
        ("bytes_out", 4),
        ("refused", 1),
        ("violations", 0),
        ("abandoned", 0),
    ] {
        assert_eq!(last[field], sum, "{field}: {last}");
    }
    assert_eq!(last["signal"], "SIGTERM");
    assert!(last["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0));
}

#[test]
fn each_line_of_text_says_the_same_in_words_and_fields() {
    let documented = documented();
    let place = Place::new();
    let server = start_server(&place, &["-v"]);
    scenario(&place);
    let log = stop(server);
    let mut lines = log.lines();
    assert_eq!(lines.next(), Some(&*format!("listening on {}", text(&place.path))));
    for line in lines {
        let mut words = line.split_whitespace();
        let (time, level, event) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        assert!(time.ends_with('Z'), "{line}");
        let (documented, fields) = &documented[event];
        assert_eq!(&level.to_lowercase(), documented, "{line}");
        for field in fields.iter().filter(|_| event != "refused") {
            assert!(line.contains(&format!(" {field}=")), "{field}: {line}");
        }
        assert_eq!(line.contains(" message=\""), level == "WARN", "{line}");
        assert!(!line.contains('\x1b'), "colours without a terminal: {line}");
    }
    // Values are quoted only if needed.
    assert!(log.contains(" from=alice from_key=0") && log.contains(" to=\"b o b\" to_key=0"), "{log}");
    assert!(log.contains(" outcome=ok\n") && log.contains(" outcome=not_found\n"), "{log}");
    assert!(log.contains(" stopped signal=SIGTERM clients=5 calls=1 messages=1 bytes_in=9"), "{log}");
}

#[test]
fn a_log_file_takes_the_log_and_stderr_the_summary() {
    let place = Place::new();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("log");
    for round in 1..=2 {
        let server = start_server(&place, &["--log-format", "json", "--log-file", text(&file)]);
        run(CLIENT, &["call", "--as", "alice", "four", "--socket", text(&place.path)]).well();
        let stderr = stop(server);
        let lines: Vec<_> = stderr.lines().collect();
        assert_eq!(lines[0], format!("listening on {}", text(&place.path)));
        assert!(lines[1].starts_with("stopped by SIGTERM after "), "{stderr}");
        assert!(
            lines[1].contains(": 1 client, 1 call, 0 messages, 4 bytes in, 4 bytes out, 0 refusals"),
            "{stderr}"
        );
        assert_eq!(lines.len(), 2);
        // A second server appends to the file.
        let events = parse(&fs::read_to_string(&file).unwrap());
        assert_eq!(events.len(), round * 4);
        event(&events, "listening");
        assert_eq!(events[3]["event"], "stopped");
    }
}

/// The log files of a directory: PATH.2, PATH.1, PATH.
fn log_files(path: &Path) -> Vec<String> {
    let numbered = |number: u32| format!("{}.{number}", text(path));
    let count = (1..).take_while(|number| Path::new(&numbered(*number)).exists()).count() as u32;
    let mut files: Vec<String> =
        (1..=count).rev().map(|number| fs::read_to_string(numbered(number)).unwrap()).collect();
    files.push(fs::read_to_string(path).unwrap());
    files
}

#[test]
fn a_log_file_is_rotated_by_size_and_no_line_is_lost() {
    let place = Place::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let options = ["-v", "--log-file", text(&path), "--log-rotate", "4K"];
    let server = start_server(&place, &options);
    let lines = "alice hello\n".repeat(100);
    run_with(CLIENT, &["--socket", text(&place.path), "client", "alice"], lines.as_bytes()).well();
    stop(server);
    let files = log_files(&path);
    assert!((4..8).contains(&files.len()), "{}", files.len());
    assert!(files.iter().all(|file| file.len() <= 4096 && file.ends_with('\n')));
    let all = files.concat();
    assert_eq!(all.matches(" message from=alice").count(), 100);
    assert_eq!(all.lines().count(), 104);
    assert!(all.lines().all(|line| line.starts_with("20")));

    // Only as many files as requested are kept.
    let server = start_server(&place, &[&options[..], &["--log-keep", "2"]].concat());
    run_with(CLIENT, &["--socket", text(&place.path), "client", "alice"], lines.as_bytes()).well();
    stop(server);
    let kept: String = log_files(&path)[log_files(&path).len() - 3..].concat();
    assert!(kept.ends_with('\n') && kept.contains(" stopped "));
}

#[test]
fn a_log_file_is_rotated_when_the_day_has_changed() {
    let place = Place::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    fs::write(&path, "of another day\n").unwrap();
    let before = SystemTime::now() - Duration::from_secs(2 * 86_400);
    fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
    let server = start_server(&place, &["--log-file", text(&path), "--log-rotate", "daily"]);
    stop(server);
    let files = log_files(&path);
    assert_eq!(files.len(), 2);
    assert_eq!(files[0], "of another day\n");
    assert!(files[1].contains(" listening ") && files[1].contains(" stopped "));
}

#[test]
fn a_log_that_cannot_be_is_refused() {
    let place = Place::new();
    let directory = tempfile::tempdir().unwrap();
    let socket = text(&place.path);
    let file = directory.path().join("log");
    let file = text(&file);
    for wrong in [
        &["--log-rotate", "daily"][..],
        &["--log-rotate", "1M"],
        &["--log-keep", "3"],
        &["--log-file", file, "--log-keep", "3"],
        &["--log-file", file, "--log-rotate", "10"],
        &["--log-file", file, "--log-rotate", "weekly"],
        &["--log-file", file, "--log-rotate", "daily", "--log-rotate", "1M"],
        &["--log-file", file, "--log-rotate", "daily", "--log-keep", "0"],
        &["--log-file", ""],
        &["--log-file", socket],
        &["--log-format", "xml"],
    ] {
        let ended = run(SERVER, &[&["--socket", socket], wrong].concat());
        assert_eq!(ended.status, Some(2), "{wrong:?}: {ended:?}");
        assert!(ended.stderr.contains("--log"), "{}", ended.stderr);
    }
    for impossible in ["/missing/directory/log", "/dev/null", text(directory.path())] {
        let why = run(SERVER, &["--socket", socket, "--log-file", impossible]).failed();
        assert!(why.contains(impossible) && why.contains("--log-file"), "{why}");
    }
    assert!(place.is_clean(), "nothing has been started");
}

#[test]
fn a_disk_that_fills_up_does_not_end_the_server() {
    let place = Place::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let server = start_server(&place, &["-v", "--log-file", text(&path)]);
    let pid = server.pid();
    let mut alice = Program::start(CLIENT, &["--socket", text(&place.path), "client", "alice"]);
    let mut talk = |number: u32| {
        alice.write(format!("alice {number}\n").as_bytes());
        assert!(alice.line().ends_with(&format!("): {number}")));
    };
    talk(0);
    eventually("the message is in the log", || fs::read_to_string(&path).unwrap().contains(" message "));
    // Fill the disk.
    let size = fs::metadata(&path).unwrap().len();
    let old =
        prlimit(Some(pid), Resource::Fsize, Rlimit { current: Some(size + 10), maximum: None }).unwrap();
    for number in 1..=20 {
        talk(number);
    }
    eventually("the file is full", || fs::metadata(&path).unwrap().len() == size + 10);
    prlimit(Some(pid), Resource::Fsize, old).unwrap();
    talk(21);
    eventually("the loss is reported", || fs::read_to_string(&path).unwrap().contains(" dropped lines="));
    alice.end().well();
    stop(server);
    let log = fs::read_to_string(&path).unwrap();
    let report = log.lines().find(|line| line.contains(" dropped ")).unwrap();
    let lost: usize = report.split("total=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(report.contains("error=\"File too large"), "{report}");
    // Every line is complete, and the missing ones were counted.
    let whole = log
        .lines()
        .filter(|line| line.contains(" message from=alice") && line.ends_with("outcome=ok"))
        .count();
    assert_eq!(whole + lost, 22, "{log}");
    assert!(log.contains(" unregister ") && log.contains(" stopped "));
}

/// Clients send invalid datagrams as fast as they can. All events that are left out are counted, and those of
/// another user are still logged.
#[test]
fn nobody_can_fill_the_log() {
    use crate::common::raw;
    use crate::common::users::{is_root, leave_root};
    use std::os::unix::fs::PermissionsExt;
    const FLOOD: usize = 3000;
    let place = Place::new();
    fs::set_permissions(place.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let server = start_server(&place, &["--log-format", "json", "--allow-user", "65531"]);
    let junk = || {
        let socket = raw::dial(&place.path);
        raw::say(&socket, b"junk");
        raw::hear(&socket);
    };
    (0..FLOOD).for_each(|_| junk());
    if is_root() {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                leave_root(65_532, 65_532, &[]);
                let socket = raw::dial(&place.path);
                raw::hear(&socket);
            });
        });
    }
    let events = parse(&stop(server));
    let of = |name: &str| events.iter().filter(|event| event["event"] == name).collect::<Vec<_>>();
    let own = rustix::process::geteuid().as_raw();
    let refused = of("refused").iter().filter(|event| event["uid"] == own).count();
    let counted: u64 = of("left_out").iter().map(|event| event["events"].as_u64().unwrap()).sum();
    assert!(of("left_out").iter().all(|event| event["of"] == "refused" && event["uid"] == own));
    assert_eq!(refused as u64 + counted, FLOOD as u64);
    assert!((100..1000).contains(&refused), "{refused}");
    if is_root() {
        assert!(of("refused").iter().any(|event| event["uid"] == 65_532), "{:?}", of("refused"));
    }
}
