//! `ringpost-bench chaos` for half a minute: processes die by SIGKILL, and in a build with `--cfg ringpost_kill_points` (`.ci/run
//! chaos`) between any two stores, and no promise is broken; and a planted fault is noticed. No times are asserted.

#![cfg(feature = "cli")]

mod common;

use common::{Place, begin};
use serde_json::Value;
use std::process::{Command, Output, Stdio};

const BENCH: &str = env!("CARGO_BIN_EXE_ringpost-bench");

fn run(place: &Place, arguments: &[&str]) -> Output {
    let mut command = Command::new(BENCH);
    command.args(arguments).env_remove("RINGPOST_SOCKET").env("TMPDIR", place.directory.path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // It ends by itself; should it hang, the processes that it started end with it, and it with the test.
    begin(move || command.output().unwrap()).end("ringpost-bench does not end")
}

fn words(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

fn number(object: &Value, path: &str) -> u64 {
    object.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path}: {object}"))
}

#[test]
fn every_promise_is_kept() {
    let place = Place::new();
    let ended = run(&place, &["chaos", "--minutes", "0.35", "--seed", "1", "--clients", "8", "--json"]);
    assert_eq!(ended.status.code(), Some(0), "{}{}", words(&ended.stderr), words(&ended.stdout));
    let object: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(object["violation"], Value::Null);
    for field in ["/clients/killed", "/servers/killed", "/channels/killed", "/stops", "/quiet_rounds"] {
        assert!(number(&object, field) > 0, "{field}: {object}");
    }
    for field in ["/messages/acknowledged", "/messages/received", "/counts/calls", "/counts/registrations"] {
        assert!(number(&object, field) > 0, "{field}: {object}");
    }
    assert_eq!(object["kill_points_built_in"], cfg!(ringpost_kill_points));
    if cfg!(ringpost_kill_points) {
        for field in ["/clients/at_points", "/servers/at_points", "/channels/at_points"] {
            assert!(number(&object, field) > 0, "{field}: {object}");
        }
    }
    assert!(place.is_clean(), "it leaves something behind");
}

/// A harness that cannot fail shows nothing.
#[cfg(ringpost_kill_points)]
#[test]
fn a_planted_fault_is_noticed_and_comes_again() {
    // A name that is kept is missed by whoever wants it next, or, if nobody does, when all have gone.
    let kept = ["is not free", "are still registered"];
    for (fault, said) in [("lost:40", ["acknowledged"; 2]), ("twice:40", ["twice"; 2]), ("name:5", kept)] {
        let place = Place::new();
        let arguments = ["chaos", "--minutes", "0.5", "--seed", "1", "--clients", "8", "--fault", fault];
        let ended = run(&place, &arguments);
        let told = words(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{fault}: {told}{}", words(&ended.stdout));
        let last = told.lines().last().unwrap();
        let noticed = said.iter().any(|words| last.contains(words));
        assert!(last.contains("broke a promise") && noticed, "{fault}: {told}");
        assert!(told.contains("life") && told.lines().count() > 10, "no history: {told}");
        assert!(place.is_clean(), "it leaves something behind");

        // The command that it names.
        let again: Vec<&str> = last.rsplit_once("ringpost-bench ").unwrap().1.split(' ').collect();
        let again = run(&place, &[&again[..], &["--minutes", "0.5", "--fault", fault]].concat());
        assert_eq!(again.status.code(), Some(1), "{fault}: {}", words(&again.stderr));
    }
}

#[cfg(not(ringpost_kill_points))]
#[test]
fn a_fault_cannot_be_planted_in_what_ships() {
    let place = Place::new();
    let ended = run(&place, &["chaos", "--minutes", "0.1", "--fault", "lost:1"]);
    assert_eq!(ended.status.code(), Some(2));
    assert!(words(&ended.stderr).contains("--cfg ringpost_kill_points"));
}

#[test]
fn deaths_are_noticed_in_every_state() {
    let place = Place::new();
    let ended = run(&place, &["death", "--count", "2", "--json"]);
    assert_eq!(ended.status.code(), Some(0), "{}", words(&ended.stderr));
    let object: Value = serde_json::from_slice(&ended.stdout).unwrap();
    let states = object["states"].as_array().unwrap();
    let names: Vec<_> = states.iter().map(|row| row["state"].as_str().unwrap()).collect();
    assert_eq!(names, ["parked", "spinning", "burst", "registering", "unregistering", "inbox"]);
    for row in states {
        assert!(number(row, "/server_death_ns/p50") > 0 && number(row, "/client_death_ns/p99") > 0, "{row}");
    }
    assert!(place.is_clean(), "it leaves something behind");
    let ended = run(&place, &["death", "--count", "1", "--states", "parked,burst"]);
    assert_eq!(ended.status.code(), Some(0), "{}", words(&ended.stderr));
    assert!(words(&ended.stdout).lines().last().unwrap().starts_with("burst"));
}
