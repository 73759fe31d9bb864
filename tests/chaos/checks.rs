//! What `cargo test` runs: chaos for half a minute, in which processes die by SIGKILL and, in a build with
//! `--cfg ringpost_failpoints` (`.ci/run chaos`), between any two stores, and no promise is broken; that a
//! injected fault is found; deaths in every state of a client; and the unit tests of the harness. No times
//! are asserted.

use std::process::{Command, ExitCode, Output, Stdio};

use libtest_mimic::{Arguments, Trial};
use serde_json::Value;

use crate::common::{LIMIT, Place, begin};
use crate::{census, content, failpoints, history, judge, linker, plan, random, topic_judge, topics};

macro_rules! trials {
    ($($check:path),+ $(,)?) => { vec![$(trial(stringify!($check), $check)),+] };
}

/// Runs the checks that the command line asks for. One that is not listed is found by the compiler as never
/// used.
pub fn run() -> ExitCode {
    let trials = trials![
        every_promise_is_kept,
        an_injected_fault_is_found,
        deaths_are_noticed_in_every_state,
        crate::tests::the_definitions_are_sound,
        crate::tests::wrong_values_are_refused,
        census::tests::this_process_holds_something,
        failpoints::tests::a_failpoint_says_who_passes_it_and_how_often,
        failpoints::tests::every_failpoint_has_a_name_of_its_own,
        content::tests::content_can_be_told_from_any_other,
        topics::content::tests::samples_can_be_told_from_any_other,
        topics::order::tests::gaps_are_accounted_for,
        topic_judge::tests::what_did_not_come_is_told,
        linker::content::tests::content_of_links_can_be_told_from_any_other,
        history::tests::what_is_written_is_read,
        judge::tests::what_is_right_is_counted,
        judge::tests::what_is_wrong_is_told,
        plan::tests::a_round_can_be_planned_again,
        random::tests::the_same_beginning_makes_the_same_choices,
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial(name: &str, check: fn()) -> Trial {
    Trial::test(name.trim_start_matches("crate::"), move || {
        check();
        Ok(())
    })
}

/// Runs this program as the harness.
fn harness(place: &Place, arguments: &[&str]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(arguments).env_remove("RINGPOST_SOCKET").env("TMPDIR", place.directory.path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // It ends by itself; should it hang, the processes that it started end with it, and it with the test.
    begin(move || command.output().unwrap()).end_within("the harness does not end", LIMIT * 6)
}

fn words(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

fn number(object: &Value, path: &str) -> u64 {
    object.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path}: {object}"))
}

fn every_promise_is_kept() {
    // On a busy machine not everything happens in so short a time: then it gets more.
    if !keeps_every_promise("0.35", false) {
        keeps_every_promise("3", true);
    }
}

/// Whether enough happened to show something. If it `must`, nothing else is taken.
fn keeps_every_promise(minutes: &str, must: bool) -> bool {
    let place = Place::new();
    let ended = harness(&place, &["--minutes", minutes, "--seed", "1", "--clients", "8", "--json"]);
    assert_eq!(ended.status.code(), Some(0), "{}{}", words(&ended.stderr), words(&ended.stdout));
    let object: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(object["violation"], Value::Null);
    assert_eq!(object["failpoints_built_in"], cfg!(ringpost_failpoints));
    assert!(place.is_clean(), "it leaves something behind");
    let lacking = what_must_happen().into_iter().find(|field| number(&object, field) == 0);
    assert!(!must || lacking.is_none(), "{lacking:?}: {object}");
    lacking.is_none()
}

/// What is counted, and must not be 0 at the end.
fn what_must_happen() -> Vec<&'static str> {
    let mut fields = vec![
        "/clients/killed",
        "/servers/killed",
        "/channels/killed",
        "/stops",
        "/quiet_rounds",
        "/counts/links/opened",
        "/counts/links/calls",
        "/counts/links/posts",
        "/counts/links/local",
        "/counts/links/peer",
        "/counts/links/died",
        "/counts/topics/published",
        "/counts/topics/subscribed",
        "/counts/topics/samples",
        "/counts/topics/watched",
        "/counts/topics/compared",
        "/messages/acknowledged",
        "/messages/received",
        "/counts/calls",
        "/counts/registrations",
    ];
    if cfg!(ringpost_failpoints) {
        fields.extend([
            "/clients/at_failpoints",
            "/links/at_failpoints",
            "/topics/at_failpoints",
            "/servers/at_failpoints",
            "/channels/at_failpoints",
        ]);
    }
    fields
}

/// It is found, and the command that is named with it finds it again: a harness that cannot fail shows
/// nothing.
#[cfg(ringpost_failpoints)]
fn an_injected_fault_is_found() {
    // A name that is kept is missed by whoever wants it next, or, if nobody does, when all have gone.
    let kept = ["is not free", "are still registered"].as_slice();
    // If there is room for one of the two only, its sender is told that there was none.
    let doubled = ["twice", "was told InboxFull"].as_slice();
    // Who waits for it hangs, misses a message, or finds something when its time is over.
    let missed = [
        "hangs",
        "not at an end",
        "do not come",
        "was not readable",
        "no response to a submitted",
        "all links were closed, and some go on",
        "whose last one is",
    ]
    .as_slice();
    let faults = [
        ("lost:40", ["acknowledged"].as_slice()),
        ("twice:40", doubled),
        ("name:5", kept),
        ("post:20", ["behind Posts"].as_slice()),
        ("bit:5", ["the server counts some"].as_slice()),
        ("kick:20", missed),
        // It may be the gap before the first sample of a publisher.
        ("gap:5", ["were missed", "begins only with"].as_slice()),
    ];
    for (fault, said) in faults {
        // On a busy machine few rounds fit into half a minute, and a fault that is rare may not show.
        let attempt = |seed: u32| {
            let place = Place::new();
            let seed = seed.to_string();
            let arguments = ["--minutes", "0.5", "--seed", &seed, "--clients", "8", "--fault", fault];
            let ended = harness(&place, &arguments);
            (ended.status.code() != Some(0)).then_some((place, ended))
        };
        let (place, ended) =
            (1..=3).find_map(attempt).unwrap_or_else(|| panic!("{fault}: not found with three seeds"));
        let told = words(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{fault}: {told}{}", words(&ended.stdout));
        let last = told.lines().last().unwrap();
        let noticed = said.iter().any(|words| last.contains(words));
        // The fault is named behind the history, of which a log may show the end only.
        assert!(
            last.contains("broke a promise") && noticed,
            "{told}\nthe fault {fault} shows as something else"
        );
        assert!(told.contains("life") && told.lines().count() > 10, "no history: {told}");
        assert!(place.is_clean(), "it leaves something behind");

        // The command that it names.
        let again: Vec<&str> = last.rsplit_once("-- ").unwrap().1.split(' ').collect();
        let arguments = [&again[..], &["--minutes", "0.5", "--fault", fault]].concat();
        let finds = |_| harness(&place, &arguments).status.code() == Some(1);
        assert!((0..3).any(finds), "{fault}: not found again by {again:?}");
    }
}

/// It is refused where the library has no failpoints.
#[cfg(not(ringpost_failpoints))]
fn an_injected_fault_is_found() {
    let place = Place::new();
    let ended = harness(&place, &["--minutes", "0.1", "--fault", "lost:1"]);
    assert_eq!(ended.status.code(), Some(2));
    assert!(words(&ended.stderr).contains("--cfg ringpost_failpoints"));
}

fn deaths_are_noticed_in_every_state() {
    let place = Place::new();
    let ended = harness(&place, &["--deaths", "2", "--json"]);
    assert_eq!(ended.status.code(), Some(0), "{}", words(&ended.stderr));
    let object: Value = serde_json::from_slice(&ended.stdout).unwrap();
    let states = object["states"].as_array().unwrap();
    let names: Vec<_> = states.iter().map(|row| row["state"].as_str().unwrap()).collect();
    assert_eq!(names, ["parked", "spinning", "burst", "registering", "unregistering", "inbox"]);
    for row in states {
        assert!(number(row, "/server_death_ns/p50") > 0 && number(row, "/client_death_ns/p99") > 0, "{row}");
    }
    assert!(place.is_clean(), "it leaves something behind");
    let ended = harness(&place, &["--deaths", "1", "--states", "parked,burst"]);
    assert_eq!(ended.status.code(), Some(0), "{}", words(&ended.stderr));
    assert!(words(&ended.stdout).lines().last().unwrap().starts_with("burst"));
}
