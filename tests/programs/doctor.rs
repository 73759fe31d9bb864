//! Tests of `ringpost doctor`: with a server, a dead one and none, for people and for programs.

use crate::common::Place;
use crate::common::users::is_root;
use crate::program::*;
use rustix::process::Signal;
use serde_json::Value;
use std::os::unix::process::CommandExt;

/// What the doctor finds, as JSON. Its exit status must be that of its verdict.
fn doctor(place: &Place) -> Value {
    let ended = run(CLIENT, &["doctor", "--json", "--socket", text(&place.path)]);
    assert_eq!(ended.stderr, "", "{ended:?}");
    let report: Value = serde_json::from_slice(&ended.stdout).unwrap();
    let status = match report["verdict"].as_str().unwrap() {
        "ok" | "unknown" => 0,
        "warning" => 1,
        "problem" => 2,
        other => panic!("{other}"),
    };
    assert_eq!(ended.status, Some(status), "{report}");
    report
}

/// The finding of a check; there may be one.
fn finding<'a>(report: &'a Value, check: &str) -> &'a Value {
    let all = report["findings"].as_array().unwrap();
    all.iter().find(|finding| finding["check"] == check).unwrap_or(&Value::Null)
}

#[test]
fn the_doctor_finds_a_server_a_dead_one_and_none() {
    let place = Place::new();
    let none = doctor(&place);
    assert_eq!(finding(&none, "socket")["verdict"], "ok", "{none}");
    assert!(
        finding(&none, "open files")["found"].as_str().unwrap().starts_with("a server started from here")
    );
    for check in ["threads", "mappings", "CPUs", "CPU quota", "clock", "system calls", "user namespace"] {
        assert!(finding(&none, check)["found"].is_string(), "{check}: {none}");
    }
    assert!(place.is_clean(), "it changes nothing");

    let server = start_server(&place, &["--max-clients", "7"]);
    let there = doctor(&place);
    let found = finding(&there, "socket")["found"].as_str().unwrap();
    assert!(found.contains(&format!("process {}", server.id())), "{found}");
    // What is looked at is the server's process, whose limits everybody may read.
    assert!(
        finding(&there, "open files")["found"].as_str().unwrap().starts_with("the server may"),
        "{there}"
    );
    assert_eq!(finding(&there, "clients")["found"], "0 of at most 7");

    server.signal(Signal::KILL);
    drop(server.end());
    let dead = doctor(&place);
    let socket = finding(&dead, "socket");
    assert_eq!(socket["verdict"], "warning");
    assert!(socket["mend"].as_str().unwrap().starts_with("ringpost-server --socket "), "{socket}");
    let text = run(CLIENT, &["doctor", "--socket", text(&place.path)]);
    let (status, text) = (text.status, String::from_utf8(text.stdout).unwrap());
    assert!(matches!(status, Some(1 | 2)), "{text}");
    assert!(text.contains("\n         mend: ringpost-server --socket "), "{text}");
    let last = text.lines().last().unwrap();
    assert!(last.contains(" ok"), "the last line counts: {last}");
}

#[test]
fn the_doctor_names_a_limit_of_its_own_process_and_a_missing_directory() {
    let place = Place::new();
    let script = "ulimit -n 150 && exec \"$0\" doctor --json --socket \"$1\"";
    let ended = run("sh", &["-c", script, CLIENT, text(&place.path)]);
    let report: Value = serde_json::from_slice(&ended.stdout).unwrap();
    let files = finding(&report, "open files");
    assert_eq!(files["verdict"], "warning", "{report}");
    assert!(files["mend"].as_str().unwrap().contains("ulimit -n 1124"), "{files}");

    let nowhere = place.directory.path().join("missing/bus");
    let ended = run(CLIENT, &["doctor", "--socket", text(&nowhere)]);
    assert_eq!(ended.status, Some(2), "{ended:?}");
    assert!(String::from_utf8(ended.stdout).unwrap().contains("mend: mkdir -m 700 "));
}

/// The socket of a server that does not let a user in.
#[test]
fn the_doctor_says_who_is_not_let_in() {
    if !is_root() {
        return eprintln!("skipped: only root can become another user");
    }
    let place = Place::new();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(place.directory.path(), open).unwrap();
    let _server = start_server(&place, &[]);
    let ended = Program::try_start_with(CLIENT, &["doctor", "--socket", text(&place.path)], |command| {
        command.uid(65_533).gid(65_533);
    });
    let Ok(ended) = ended else { return eprintln!("skipped: another user cannot run the program") };
    let ended = ended.end();
    let text = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(ended.status, Some(2), "{text}");
    assert!(text.contains("not permitted") && text.contains("--allow-user"), "{text}");
}
