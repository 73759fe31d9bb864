//! The program as its users run it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const PEERS: &str = env!("CARGO_BIN_EXE_peers");

/// The program, with a private directory for whatever it and its children make.
fn peers(dir: &Path) -> Command {
    let mut command = Command::new(PEERS);
    command.env("TMPDIR", dir);
    command
}

fn json(command: &mut Command) -> Value {
    let output = command.arg("--json").output().expect("peers runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn entries(report: &Value) -> &[Value] {
    report["entries"].as_array().expect("entries")
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).expect("the directory").next().is_none()
}

#[test]
fn every_peer_does_the_work_or_says_what_is_missing() {
    let dir = tempfile::tempdir().expect("a directory");
    let report = json(peers(dir.path()).args(["--quick", "--rounds", "1", "--milliseconds", "10"]));
    let list = peers(dir.path()).arg("--list").output().expect("peers runs");
    let names = String::from_utf8(list.stdout).expect("UTF-8");
    for name in names.lines().filter_map(|line| line.split_whitespace().next()) {
        assert!(entries(&report).iter().any(|entry| entry["peer"] == name), "{name}");
    }
    for entry in entries(&report) {
        match entry["failure"].as_str() {
            None => {
                let summary = &entry["summary"];
                let (median, p99) = (summary["median"].as_f64(), summary["p99"].as_f64());
                assert!(median > Some(0.0) && p99 > Some(0.0), "{entry}");
                assert_eq!(entry["rounds"].as_array().map(Vec::len), Some(1), "{entry}");
            }
            Some(why) => {
                assert!(why.contains("is not installed") || why.contains("takes two CPUs"), "{entry}")
            }
        }
    }
    assert!(is_empty(dir.path()), "nothing is left behind");
}

#[test]
fn a_missing_server_is_a_line_that_says_how_to_install_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let report = json(
        peers(dir.path()).args(["--quick", "--only", "redis", "--only", "dbus"]).env("PATH", dir.path()),
    );
    assert_eq!(entries(&report).len(), 4);
    for entry in entries(&report) {
        assert!(entry["failure"].as_str().is_some_and(|why| why.contains("apt-get install")), "{entry}");
        assert!(entry["summary"].is_null());
    }
}

#[test]
fn a_table_for_people_has_a_line_for_each() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = peers(dir.path())
        .args(["--rounds", "2", "--milliseconds", "10", "--only", "pipe"])
        .output()
        .expect("peers runs");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    for line in ["  floor ", "  pipe-spin ", "  floor-futex ", "  pipe "] {
        assert_eq!(text.matches(line).count(), 2, "{line} once for each size in\n{text}");
    }
    assert!(text.contains("2 rounds in turn, 10 ms"), "{text}");
}

#[test]
fn an_unknown_name_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = peers(dir.path()).args(["--only", "carrier-pigeon"]).output().expect("peers runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--list"));
}

/// A run that takes long, and the processes that it has started.
fn long_run(dir: &Path) -> (Child, Vec<u32>) {
    let child = peers(dir)
        .args(["--rounds", "1", "--milliseconds", "60000", "--only", "unix-stream"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("peers runs");
    let mut children = Vec::new();
    until("a server and a client", || {
        children = children_of(child.id());
        children.len() == 2
    });
    (child, children)
}

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !reached() {
        assert!(Instant::now() < deadline, "no {what} within a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process's state and parent, as the kernel tells them.
fn stat(pid: u32) -> Option<(String, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_string(), fields.next()?.parse().ok()?))
}

fn children_of(parent: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| stat(pid).is_some_and(|(state, of)| of == parent && state != "Z")).collect()
}

/// A zombie is gone but for its number.
fn is_gone(pid: u32) -> bool {
    stat(pid).is_none_or(|(state, _)| state == "Z")
}

#[test]
fn no_process_outlives_a_run_that_is_killed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut child, children) = long_run(dir.path());
    child.kill().expect("killed");
    child.wait().expect("its end");
    until("end of the children", || children.iter().all(|&pid| is_gone(pid)));
}

#[test]
fn an_interrupted_run_says_so_and_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut child, children) = long_run(dir.path());
    // As a terminal does: to the program and its children.
    for pid in children.iter().chain([&child.id()]) {
        let sent = Command::new("kill").args(["-s", "INT", &pid.to_string()]).status().expect("kill runs");
        assert!(sent.success() || is_gone(*pid));
    }
    assert_eq!(child.wait().expect("its end").code(), Some(1));
    let lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("interrupted")));
    assert!(children.iter().all(|&pid| is_gone(pid)));
    assert!(is_empty(dir.path()));
}
