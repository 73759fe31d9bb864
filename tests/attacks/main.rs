//! Tests of attacks by clients on a server while well-behaved clients work, and by a server on a client.
//!
//! The server survives, well-behaved clients lose nothing, the attacker is disconnected and costs nothing
//! more, whatever it continues to do, and a shutdown during attacks ends in time.
//!
//! Slices of attack and of well-behaved work with equal load alternate every quarter of a second, for a
//! second per attack (`RINGPOST_ATTACK_SECONDS` for more; see tests/README.md). The latencies of the
//! well-behaved client in both, and their ratio, are printed but not asserted.

#[path = "../common/mod.rs"]
mod common;

mod answers;
mod attacker;
mod descriptors;
mod hogs;
mod introductions;
mod kinds;
mod links;
mod malicious_server;
mod topics;
mod well_behaved;

use common::proc::{Holdings, own_threads};
use common::role::{self, Role, numbers};
use common::{Bus, LIMIT, Place, becomes, begin, eventually, within_limit};
use ringpost::{Client, RecvError, SendError, WaitStrategy};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use well_behaved::{Honest, median};

const RING: u64 = 4096;
const SLICE: Duration = Duration::from_millis(250);

/// The CPUs of the server and its two well-behaved clients.
const THREADS: [&str; 4] = ["rp-acceptor", "rp-caller", "rp-receiver", "rp-watcher"];

/// Makes attacks run one at a time, because there are few CPUs.
static ALONE: Mutex<()> = Mutex::new(());

fn seconds() -> u64 {
    std::env::var("RINGPOST_ATTACK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

#[test]
fn role() {
    let Some((role, stage)) = role::role() else { return };
    match role.as_str() {
        "attacker" => attacker::attacker(&stage),
        "false server" => malicious_server::serve_falsely(),
        "link attacker" => links::attacker::attack(&stage),
        "topic attacker" => topics::attacker::attack(&stage),
        "server" => descriptors::serve(&stage),
        "hog" => hogs::hog(&stage),
        "introducer" => introductions::attack_others(&stage),
        "poor server" => answers::serve_poorly(&stage),
        other => panic!("no role {other:?}"),
    }
}

fn start_attacker(path: &Path, attack: &str) -> Role {
    let mut attacker = Role::start("attacker", &[("PATH", path.to_str().unwrap()), ("ATTACK", attack)]);
    attacker.hear("ready");
    attacker
}

/// Whether this attack breaks a rule.
#[derive(Clone, Copy, PartialEq)]
enum Breaks {
    Always,
    Sometimes,
    Never,
}

fn withstand(attack: &str, breaks: Breaks) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // For attacks on sleeping, the workers always sleep.
    let wait = if attack == "futex" { WaitStrategy::Park } else { WaitStrategy::Adaptive };
    let bus = Bus::with(|b| b.ring_size(RING as usize).wait(wait));
    let honest = Honest::start(&bus);
    // A new thread first has the name of the thread that started it.
    becomes("the workers have their names", own_threads, &THREADS.map(str::to_owned).to_vec());
    let held = || (own_threads(), Holdings::now().channels);
    let before = held();
    let mut attacker = start_attacker(bus.path(), attack);

    let mut attacked = Turns::default();
    let mut behaved = Turns::default();
    for pair in 0..seconds() * 4 {
        let mut halves = [("attack", &mut attacked), ("behave", &mut behaved)];
        // The order changes from pair to pair. Good behaviour uses the load of the last attack.
        if pair % 2 == 1 {
            halves.reverse();
        }
        for (what, turns) in halves {
            honest.next_slice();
            attacker.tell(&format!("{what} {}", SLICE.as_millis()));
            turns.add(&attacker.hear(""));
        }
    }
    if breaks == Breaks::Never {
        assert_eq!(attacked.closed, 0, "thrown out though it broke no rule");
    }

    // A client that broke a rule is disconnected, and has no thread and no memory in the server any more,
    // whatever it does with its own copies.
    if breaks == Breaks::Always {
        attacker.tell(&format!("outlast {}", attacker::TIME_TO_BE_NOTICED.as_millis()));
        attacker.hear_within("thrown out", LIMIT * 2);
        becomes("nothing is left of the attacker", held, &before);
        honest.goes_on();
        assert_eq!(held(), before);
        assert_eq!(bus.server.info().clients, 2);
        attacker.tell("enough");
        attacker.hear("raged");
    }

    // Shut down during attacks.
    attacker.tell("attack 600000");
    eventually("the attacker is there", || bus.server.info().clients == 3);
    let medians = honest.end();
    let summary = within_limit("the shutdown", move || bus.server.join_after_shutdown());
    drop(attacker);
    assert_eq!(summary.abandoned, 0);
    assert!(summary.violations >= attacked.closed);

    let [bad, good, ratio] = compare(&medians[1..]);
    println!(
        "{attack}: honest p50 {bad} ns, {good} ns beside good behaviour, ratio {:.2}; thrown out {} times; load {attacked}, {behaved}",
        f64::from(ratio) / 1000.0,
        attacked.closed
    );
}

/// The total load of one kind of slice.
#[derive(Default)]
struct Turns {
    registered: u64,
    connections: u64,
    requests: u64,
    busy: u64,
    closed: u64,
}

impl Turns {
    fn add(&mut self, said: &str) {
        let said = numbers(said);
        self.registered += said["registered"];
        self.connections += said["connections"];
        self.requests += said["requests"];
        self.busy += said["busy"];
        self.closed += said["closed"];
    }
}

impl std::fmt::Display for Turns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Turns { registered, connections, requests, busy, .. } = self;
        let busy = busy / 1000;
        write!(
            f,
            "{registered} registrations {connections} connections {requests} requests {busy} ms of a CPU"
        )
    }
}

/// The medians over all slices of attack and of good behaviour, and of the pairs' ratios (times 1,000).
fn compare(turns: &[u32]) -> [u32; 3] {
    let pairs: Vec<[u32; 2]> =
        turns.chunks_exact(2).map(|pair| [pair[0], pair[1]]).filter(|pair| !pair.contains(&0)).collect();
    let of = |pick: fn(&[u32; 2]) -> u32| median(&mut pairs.iter().map(pick).collect::<Vec<_>>());
    let ratio = |pair: &[u32; 2]| (u64::from(pair[0]) * 1000 / u64::from(pair[1])) as u32;
    [of(|pair| pair[0]), of(|pair| pair[1]), of(ratio)]
}

#[test]
fn every_word_rewritten() {
    withstand("noise", Breaks::Always);
}

#[test]
fn payloads_rewritten_during_the_copy() {
    withstand("torn", Breaks::Never);
}

#[test]
fn double_fetches_baited() {
    withstand("fetch", Breaks::Sometimes);
}

#[test]
fn futexes_spoilt() {
    withstand("futex", Breaks::Always);
}

#[test]
fn holes_punched() {
    withstand("holes", Breaks::Sometimes);
}

#[test]
fn responses_never_read() {
    withstand("mute", Breaks::Never);
}

#[test]
fn a_flood_of_requests() {
    withstand("flood", Breaks::Never);
}

#[test]
fn clients_that_leave_in_mid_block() {
    withstand("cut", Breaks::Never);
}

#[test]
fn descriptors_where_none_belong() {
    withstand("babble", Breaks::Always);
}

#[test]
fn pipes_abused() {
    withstand("kicks", Breaks::Never);
}

#[test]
fn a_flood_of_introductions() {
    withstand("attack", Breaks::Never);
}

/// Whatever a malicious server writes, each operation with a deadline returns with an answer or an error.
#[test]
fn a_client_of_a_malicious_server() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let place = Place::new();
    let mut server = Role::start("false server", &[("PATH", place.path.to_str().unwrap())]);
    server.hear("ready");
    let path = place.path.clone();
    let time = Duration::from_secs(seconds());
    let until = Instant::now() + time;
    let attacked = begin(move || {
        let (mut registered, mut violations) = (0_u64, 0_u64);
        while Instant::now() < until || violations == 0 && Instant::now() < until + LIMIT / 2 {
            let Ok(mut client) = Client::register(&path, "alice") else { continue };
            registered += 1;
            for _ in 0..20 {
                let short = Duration::from_millis(2);
                let called = client.call_timeout(b"question", short).map(|reply| reply.len());
                violations += u64::from(matches!(called, Err(ringpost::CallError::Violation(_))));
                let sent = client.send_timeout(client.key(), b"message", short);
                violations += u64::from(matches!(sent, Err(SendError::Violation(_))));
                let received = client.recv_timeout(short).map(|message| message.payload().len());
                violations += u64::from(matches!(received, Err(RecvError::Violation(_))));
            }
        }
        (registered, violations)
    });
    let (registered, violations) = attacked.end_within("the hostile server's client", LIMIT + time);
    println!("a hostile server: registered {registered} times, {violations} violations");
    assert!(registered > 0 && violations > 0, "registered {registered}, violations {violations}");
}
