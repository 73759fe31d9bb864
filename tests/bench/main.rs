//! `ringpost-bench`: every measurement with tiny counts gives one JSON object with its fields and leaves
//! nothing behind, the report has all of its parts, and wrong values are refused. No times are asserted.

#![cfg(feature = "cli")]

#[path = "../common/mod.rs"]
mod common;

mod link;
mod ready;
mod tables;
mod topics;

use common::program::{BENCH, Program, command};
use common::{LIMIT, Place};
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process};
use serde_json::Value;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

fn bench(place: &Place, arguments: &[&str]) -> Command {
    let mut command = command(BENCH);
    command.args(arguments).env("TMPDIR", place.directory.path()).stdin(Stdio::null());
    command
}

/// The one object that a measurement prints.
fn measure(arguments: &[&str]) -> Value {
    let place = Place::new();
    let mut all = arguments.to_vec();
    all.push("--json");
    let ended = Program::spawn(&mut bench(&place, &all)).end();
    let errors = ended.stderr;
    assert_eq!(ended.status, Some(0), "{arguments:?}: {errors}");
    assert_eq!(ended.stdout.iter().filter(|&&byte| byte == b'\n').count(), 1, "one line: {arguments:?}");
    assert!(place.is_clean(), "{arguments:?} leaves something behind");
    let object: Value = serde_json::from_slice(&ended.stdout).unwrap();
    for field in ["/version", "/wait", "/cpus", "/too_few_cpus", "/kernel", "/blocks", "/command/1"] {
        assert!(object.pointer(field).is_some_and(|value| !value.is_null()), "{field}: {object}");
    }
    object
}

/// That each of these is a number, and more than nothing. Ratios and shares are rounded: beside a floor that
/// was held up, or if the measured work was, they can be nothing.
fn has(object: &Value, fields: &[&str]) {
    for field in fields {
        let value = object.pointer(field).and_then(Value::as_f64);
        let least = if field.contains("ratio") || field.contains("share") { 0.0 } else { f64::MIN_POSITIVE };
        assert!(value.is_some_and(|value| value >= least), "{field}: {object}");
    }
}

fn rows<'a>(object: &'a Value, path: &str) -> &'a Vec<Value> {
    object.pointer(path).and_then(Value::as_array).unwrap_or_else(|| panic!("{path}: {object}"))
}

const BESIDE: [&str; 6] =
    ["/floor_ns/p10", "/floor_ns/p50", "/ns/p50", "/ns/p90", "/ratio/p50", "/ratio/p90"];

#[test]
fn latency_at_a_rate() {
    let object = measure(&["latency", "--rate", "2000", "--count", "100", "--blocks", "2"]);
    has(&object, &["/rate_per_s", "/achieved_per_s", "/rtt_ns/p50", "/rtt_ns/p999", "/service_ns/p50"]);
    has(&object, &["/floor/rtt_ns/p50", "/floor/achieved_per_s", "/ratio_p50", "/ratio_p99", "/count"]);
    assert!(!rows(&object, "/distribution").is_empty() && !rows(&object, "/floor/distribution").is_empty());
    let time = |path: &str| object.pointer(path).and_then(Value::as_u64).unwrap();
    assert!(time("/rtt_ns/max") >= time("/service_ns/max"), "a call is due before it is made: {object}");
}

#[test]
fn latency_with_free_ends() {
    let object = measure(&[
        "latency", "--free", "--wait", "adaptive", "--count", "100", "--blocks", "2", "--size", "1K",
    ]);
    has(&object, &["/floor_ns/p50", "/call_ns/p50", "/ratio_p50", "/rtt_ns/p99"]);
    assert!(object["pin"].is_null() && object["size"] == 1024);
    // No round without a block.
    let rounds = rows(&object, "/rounds");
    assert_eq!(rounds.len(), 2);
    rounds.iter().for_each(|round| has(round, &["/floor_ns", "/call_ns", "/ratio"]));
}

#[test]
fn latency_with_a_control() {
    // More than one slice in one of two rounds.
    let object = measure(&[
        "latency",
        "--control",
        "--count",
        "50000",
        "--rounds",
        "2",
        "--blocks",
        "2",
        "--size",
        "8",
    ]);
    has(&object, &["/rtt_ns/p50", "/rtt_ns/p999"]);
    assert!(object["rtt_ns"]["p9999"].is_null(), "five calls are beyond it: {object}");
    let control = &object["control"];
    has(
        control,
        &["/slice_calls", "/calls_s", "/floor_s", "/clock_s", "/floor_rtt_ns/p50", "/less_stalls_ns/p50"],
    );
    let time = |path: &str| object.pointer(path).and_then(Value::as_u64).unwrap();
    assert!(time("/control/less_stalls_ns/max") <= time("/rtt_ns/max"), "{object}");
    assert!(!rows(control, "/floor_distribution").is_empty());
    let stalls = rows(control, "/stalls");
    let rates = |field: &str| stalls.iter().filter_map(|row| row[field].as_f64()).collect::<Vec<_>>();
    for field in ["calls_per_s", "floor_per_s", "client_clock_per_s"] {
        let mut rates = rates(field);
        assert_eq!(rates.len(), stalls.len(), "{field}: {object}");
        rates.reverse();
        assert!(rates.is_sorted(), "the longer, the seldomer: {object}");
    }
    // One CPU has one clock.
    assert_eq!(rates("server_clock_per_s").is_empty(), object["cpus"] == 1, "{object}");
}

#[test]
fn wakeup() {
    let object = measure(&["wakeup", "--count", "20", "--blocks", "2"]);
    let places = rows(&object, "/places");
    assert_eq!(places[0]["place"], "same");
    // One CPU has no other way.
    assert_eq!(places.len() == 2, object["cpus"].as_u64().unwrap() > 1, "{object}");
    for place in places {
        has(place, &BESIDE);
        has(place, &["/rtt_ns/p50"]);
    }
}

#[test]
fn wakeup_where_it_is_asked_for() {
    let cpu = first_cpu();
    let object = measure(&["wakeup", "--count", "10", "--blocks", "1", "--pin", &format!("{cpu},{cpu}")]);
    assert_eq!(rows(&object, "/places").len(), 1);
    assert_eq!(object["places"][0]["place"], "same");
}

fn first_cpu() -> usize {
    let set = rustix::thread::sched_getaffinity(None).unwrap();
    (0..rustix::thread::CpuSet::MAX_CPU).find(|&cpu| set.is_set(cpu)).unwrap()
}

#[test]
fn throughput() {
    let object = measure(&[
        "throughput",
        "--blocks",
        "2",
        "--count",
        "300",
        "--sizes",
        "0,56,4K",
        "--batches",
        "1,16",
        "--windows",
        "4,16",
    ]);
    let one_way = rows(&object, "/one_way");
    assert_eq!(one_way.len(), 3 * 2 * 2);
    for row in one_way {
        has(row, &BESIDE);
        has(row, &["/batch", "/per_second", "/bandwidth_share", "/block_messages"]);
    }
    let windows = rows(&object, "/pipelined");
    assert_eq!(windows.iter().map(|row| row["window"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 4, 16]);
    for row in windows {
        has(row, &BESIDE);
        has(row, &["/per_second", "/times_one_at_a_time/p50"]);
    }
}

#[test]
fn forward() {
    let object = measure(&["forward", "--count", "20", "--blocks", "2"]);
    has(&object, &BESIDE);
    has(&object, &["/futex/floor_ns/p50", "/futex/ratio/p50", "/rtt_ns/p50"]);
}

#[test]
fn clients() {
    let object = measure(&[
        "clients",
        "--blocks",
        "1",
        "--clients",
        "3,1,2",
        "--seconds",
        "0.05",
        "--idle",
        "10",
        "--idle-seconds",
        "0.05",
    ]);
    let loops = rows(&object, "/clients");
    assert_eq!(loops.iter().map(|row| row["clients"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    for row in loops {
        has(row, &["/socket_per_second/p50", "/to_two_clients/p50", "/per_second/p50", "/ratio/p50"]);
        let slowest = row.pointer("/slowest_to_mean/p50").and_then(Value::as_f64).unwrap();
        assert!((0.0..=1.0).contains(&slowest), "{row}");
    }
    let idle = &object["idle"];
    has(
        idle,
        &["/server/rss_kib", "/server_alone/rss_kib", "/active_p50_ns/p50", "/active_p50_alone_ns/p50"],
    );
    has(idle, &["/floor_ns/p50", "/effect"]);
    assert!(idle["server_cpu_ms"].is_number() && idle["beyond_rings_kib_per_client"].is_number(), "{idle}");
    assert_eq!(idle["clients"], 10);
}

#[test]
fn clients_without_idle_ones() {
    let object = measure(&["clients", "--blocks", "1", "--clients", "1", "--seconds", "0.05", "--idle", "0"]);
    assert!(object["idle"].is_null() && object["clients"][0]["to_two_clients"].is_null());
}

#[test]
fn gaps() {
    let object = measure(&["gaps", "--blocks", "2", "--count", "3", "--gaps", "10us,2ms"]);
    let gaps = rows(&object, "/gaps");
    assert_eq!(
        gaps.iter().map(|row| row["gap_ns"].as_u64().unwrap()).collect::<Vec<_>>(),
        [10_000, 2_000_000]
    );
    for gap in gaps {
        has(gap, &BESIDE);
        has(gap, &["/rtt_ns/p50", "/floor_rtt_ns/p50", "/block_requests"]);
        assert!(gap.pointer("/cpu/ns/p50").is_some_and(Value::is_number), "{gap}");
    }
}

#[test]
fn copy() {
    let object = measure(&["copy", "--blocks", "2", "--count", "3", "--sizes", "1M,0,64"]);
    let sizes = rows(&object, "/sizes");
    assert_eq!(sizes.iter().map(|row| row["size"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 64, 1 << 20]);
    for size in sizes {
        has(size, &BESIDE);
        assert!(size["ring_size"].as_u64().unwrap() > 2 * size["size"].as_u64().unwrap());
    }
}

#[test]
fn register() {
    let object = measure(&["register", "--blocks", "2", "--count", "5"]);
    has(&object, &BESIDE);
    has(&object, &["/per_second", "/floor_per_second"]);
}

#[test]
fn observe() {
    let object = measure(&["observe", "--blocks", "2", "--rounds", "2", "--clients", "3", "--looks", "2"]);
    for calls in rows(&object, "/calls") {
        for field in ["looked_at", "scraped", "verbose", "messages", "tapped"] {
            has(&calls[field], &BESIDE);
        }
        // The tap takes its copies after each block, and a block's fit into its ring. Some messages are in
        // the log.
        has(calls, &["/block_calls", "/received", "/logged"]);
    }
    // One CPU has no other way.
    assert_eq!(rows(&object, "/calls").len() == 2, object["cpus"].as_u64().unwrap() > 1, "{object}");
    for field in ["look", "scrape"] {
        has(&object[field], &["/clients", "/ns/p50"]);
        assert!(object[field]["server_cpu_ms"].is_number(), "{object}");
    }
}

#[test]
fn tables_for_people_have_the_floor_and_the_ratio() {
    let place = Place::new();
    for arguments in [
        &["latency", "--count", "100", "--blocks", "1"][..],
        &["latency", "--rate", "1000", "--count", "20", "--blocks", "1"],
        &["latency", "--control", "--count", "100", "--blocks", "1"],
        &["wakeup", "--count", "10", "--blocks", "1"],
        &["throughput", "--count", "100", "--blocks", "1", "--sizes", "56", "--windows", "4"],
        &["forward", "--count", "10", "--blocks", "1"],
        &[
            "clients",
            "--clients",
            "1",
            "--seconds",
            "0.02",
            "--blocks",
            "1",
            "--idle",
            "2",
            "--idle-seconds",
            "0.02",
        ],
        &["gaps", "--count", "2", "--blocks", "1", "--gaps", "10us"],
        &["copy", "--count", "2", "--blocks", "1", "--sizes", "64"],
        &["register", "--count", "2", "--blocks", "1"],
        &["observe", "--blocks", "1", "--clients", "2", "--looks", "1"],
        &link::LINK,
        &ready::READY,
        &topics::TOPICS,
    ] {
        let ended = Program::spawn(&mut bench(&place, arguments)).end();
        let text = String::from_utf8(ended.stdout).unwrap();
        let errors = ended.stderr;
        assert_eq!(ended.status, Some(0), "{arguments:?}: {errors}");
        assert!(text.contains("floor") && text.contains("ratio"), "{arguments:?}: {text}");
        assert!(
            text.contains("Linux") && !errors.contains('\r'),
            "no progress where nobody watches: {errors:?}"
        );
    }
    assert!(place.is_clean());
}

#[test]
fn wrong_values_are_status_2() {
    let place = Place::new();
    let socket = place.path.to_str().unwrap();
    for arguments in [
        &["latency", "--rate", "0"][..],
        &["latency", "--rate", "fast"],
        &["latency", "--blocks", "0"],
        &["latency", "--control", "--free"],
        &["latency", "--control", "--rate", "1000"],
        &["latency", "--size", "2G"],
        &["wakeup", "--wait", "spin"],
        &["wakeup", "--pin", "0,100000"],
        &["throughput", "--windows", "0"],
        &["throughput", "--between", "planets"],
        &["forward", "--size", "1G", "--blocks", "1", "--socket", socket],
        &["clients", "--clients", ""],
        &["clients", "--idle", "-1"],
        &["gaps", "--gaps", "10"],
        &["gaps", "--gaps", "1us,11s"],
        &["copy", "--sizes", "64,2G"],
        &["register", "--count", "0"],
        &["link", "--parts", "none"],
        &["link", "--idle", "0"],
        &["link", "--size", "2G"],
        &["ready", "--parts", "none"],
        &["ready", "--size", "0"],
        &["ready", "--size", "5K"],
        &["ready", "--wait", "spin"],
        &["ready", "--many", "0"],
        &["topics", "--parts", "none"],
        &["topics", "--subscriptions", "0"],
        &["topics", "--frame", "1"],
        &["topics", "--wait", "spin"],
        &["observe", "--looks", "0"],
        &["report"],
        &["report", "--out", socket, "--peers", "/nonexistent"],
        &["report", "--out", socket, "--earlier", "/nonexistent"],
        &["report", "--out", socket, "--only", "speed"],
        &["tables"],
        &["tables", "/nonexistent"],
        &["tables", socket, "--check"],
    ] {
        let ended = Program::spawn(&mut bench(&place, arguments)).end();
        assert_eq!(ended.status, Some(2), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stdout.is_empty() && !ended.stderr.is_empty(), "{arguments:?}");
    }
    assert!(place.is_clean());
}

#[test]
fn the_report_has_every_part() {
    let place = Place::new();
    let out = place.directory.path().join("a report");
    let peers = place.directory.path().join("peers-in.json");
    let entries = r#"{"entries": [{"peer": "a <peer>", "kind": "spinning", "size": 64, "summary": {"median": 9000.0, "p99": 10000.0}}]}"#;
    std::fs::write(&peers, entries).unwrap();
    let arguments = ["report", "--quick", "--out", out.to_str().unwrap(), "--peers", peers.to_str().unwrap()];
    let ended = Program::spawn(&mut bench(&place, &arguments)).end_within(LIMIT * 5);
    let errors = ended.stderr;
    assert_eq!(ended.status, Some(0), "{errors}");
    assert_eq!(ended.stdout, format!("{}\n", out.join("report.html").display()).into_bytes());
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    for id in [
        "machine",
        "summary",
        "latency",
        "wakeup",
        "gaps",
        "copy",
        "throughput",
        "forward",
        "clients",
        "register",
        "link",
        "ready",
        "topics",
        "observe",
        "peers",
        "method",
    ] {
        assert!(page.contains(&format!("<h2 id=\"{id}\">")), "no part {id}");
    }
    assert!(
        page.contains("@media (max-width")
            && page.matches("<div class=\"scroll\"").count() >= page.matches("<table>").count()
    );
    assert!(page.matches("<svg viewBox").count() >= 6 && page.contains("prefers-color-scheme: dark"));
    assert!(page.contains("@media print") && page.contains("a &lt;peer&gt;") && !page.contains("a <peer>"));
    for reach in ["http:", "https:", "//", "url(", "<script", "<link", "<img", "NaN", "measurement failed"] {
        assert!(!page.contains(reach), "{reach:?} in the page");
    }
    let parts = [
        "latency",
        "latency-free",
        "rate-10000",
        "rate-100000",
        "wakeup",
        "gaps",
        "copy",
        "throughput",
        "forward",
        "clients",
        "register",
        "link",
        "ready",
        "topics",
        "observe",
        "peers",
    ];
    for name in parts {
        let text = std::fs::read_to_string(out.join(format!("{name}.json"))).unwrap();
        let object: Value = serde_json::from_str(&text).unwrap();
        if let Some(command) = object.get("command").and_then(Value::as_array) {
            assert!(
                page.contains(&format!("ringpost-bench {}", command[2].as_str().unwrap())),
                "{name}: its command"
            );
        }
    }
    assert!(!page.contains("<h3>A call</h3>"), "a sentence for a document");
    tables::of_a_report(&place, &out.join("report.json"));
    std::fs::remove_file(&peers).unwrap();
    std::fs::remove_dir_all(&out).unwrap();
    assert!(place.is_clean(), "the report leaves something behind");
}

#[test]
fn a_report_of_some_keeps_what_an_earlier_one_has_of_the_others() {
    let place = Place::new();
    let out = place.directory.path().join("out");
    let arguments = [
        "report",
        "--quick",
        "--out",
        out.to_str().unwrap(),
        "--only",
        "register",
        "--earlier",
        tables::MEASURED,
    ];
    let ended = Program::spawn(&mut bench(&place, &arguments)).end_within(LIMIT * 5);
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    let read =
        |path: &std::path::Path| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let (new, old) = (read(&out.join("report.json")), read(tables::MEASURED.as_ref()));
    let (new, old) = (rows(&new, "/measurements"), rows(&old, "/measurements"));
    assert_eq!(new.len(), old.len());
    for (new, old) in new.iter().zip(old) {
        assert_eq!(new["name"], old["name"], "in the same order");
        assert_eq!(new == old, new["name"] != "register", "{}", new["name"]);
    }
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("two bare words between two processes"), "the page has the earlier ones, too");
}

#[test]
fn a_file_that_is_no_comparison_is_refused_before_anything_runs() {
    let place = Place::new();
    let peers = place.directory.path().join("peers.json");
    let out = place.directory.path().join("out");
    for text in ["", "[]", "{\"rows\": []}"] {
        std::fs::write(&peers, text).unwrap();
        let arguments = ["report", "--out", out.to_str().unwrap(), "--peers", peers.to_str().unwrap()];
        let ended = Program::spawn(&mut bench(&place, &arguments)).end();
        assert_eq!(ended.status, Some(2), "{text:?}");
        assert!(!out.exists());
    }
}

/// The processes that were started by others of this test's descent, as `ps` would tell.
fn children_of(pid: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(number) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let parent =
            stat.rsplit_once(')').and_then(|(_, fields)| fields.split_whitespace().nth(1)?.parse().ok());
        if parent == Some(pid.as_raw_nonzero().get()) {
            found.extend(Pid::from_raw(number));
        }
    }
    found
}

/// Whether it runs: neither gone, nor dead and only waiting to be counted.
fn runs(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let state = stat.ok().and_then(|stat| Some(stat.rsplit_once(')')?.1.trim_start().chars().next()));
    test_kill_process(pid).is_ok() && !matches!(state, None | Some(Some('Z' | 'X')))
}

fn eventually_some_children(pid: Pid, least: usize) -> Vec<Pid> {
    let mut found = Vec::new();
    common::eventually("its processes are there", || {
        found = children_of(pid);
        found.len() >= least
    });
    found
}

/// Long ones, each with how many processes it starts.
const LONG: [(&[&str], usize); 10] = [
    (&["latency", "--count", "1000000000"], 2),
    (&["latency", "--rate", "1", "--count", "1000"], 2),
    (&["gaps", "--gaps", "10s"], 2),
    (&["throughput", "--count", "10000000", "--sizes", "56"], 3),
    (&["clients", "--clients", "3", "--seconds", "1000"], 6),
    (&["forward", "--blocks", "100000"], 3),
    (&["ready", "--parts", "calls", "--blocks", "100000"], 3),
    (&["ready", "--parts", "loops", "--blocks", "100000"], 5),
    (&["topics", "--parts", "trips", "--blocks", "100000"], 3),
    (&["topics", "--parts", "sends", "--blocks", "100000"], 4),
];

#[test]
fn a_signal_ends_everything_at_once() {
    for (arguments, children) in LONG {
        for to_all in [false, true] {
            let place = Place::new();
            let mut command = bench(&place, arguments);
            let running = Program::spawn(command.process_group(0));
            let children = eventually_some_children(running.pid(), children);
            if to_all {
                // As a terminal's Ctrl-C.
                kill_process_group(running.pid(), Signal::INT).unwrap();
            } else {
                kill_process(running.pid(), Signal::TERM).unwrap();
            }
            let ended = running.end();
            let errors = ended.stderr;
            assert_eq!(ended.status, Some(1), "{arguments:?}: {errors}");
            assert!(errors.contains("ended by SIG") || to_all, "{arguments:?}: {errors}");
            assert!(!children.into_iter().any(runs), "{arguments:?}: a process is left");
            assert!(place.is_clean(), "{arguments:?} leaves something behind");
        }
    }
}

#[test]
fn no_process_outlives_one_that_is_killed() {
    for (arguments, children) in LONG {
        let place = Place::new();
        let running = Program::spawn(&mut bench(&place, arguments));
        let children = eventually_some_children(running.pid(), children);
        kill_process(running.pid(), Signal::KILL).unwrap();
        running.end();
        common::eventually("its processes have ended", || !children.iter().any(|&child| runs(child)));
    }
}
