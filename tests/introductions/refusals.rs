//! Tests of refusals: each says which rule or limit it was and what to do.

use super::common::eventually;
use super::common::raw::RawClient;
use super::common::raw::dial;
use super::common::raw_bus::refused;
use super::common::raw_links::*;
use super::common::role::{Role, Stage, say};
use super::{ALICES, BOBS, Bus, Taker, as_user};
use rustix::net::{SendFlags, send};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a client can ask with this proof.
fn asks_of(proof: &[u8]) -> [(u16, Vec<u8>); 5] {
    let connect = [proof, &[0; 9], b"bob"].concat();
    [
        (CONNECT, connect),
        (LISTEN, proof.to_vec()),
        (TAKE, proof.to_vec()),
        (REPORT, [proof, &[0; 2]].concat()),
        (KICK, [proof, &[0]].concat()),
    ]
}

const UNPROVEN: [&str; 2] = ["no client with this key and secret", "register first"];

/// The role of another process that knows a client's secret.
pub fn ask_with_anothers_proof(stage: &Stage) {
    let path: PathBuf = super::common::role::setting("PATH").unwrap();
    let hex = stage.order();
    let proof: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    for (what, body) in asks_of(&proof) {
        refused(ask(&path, what, &body), NOT_REGISTERED, &UNPROVEN);
    }
    say("refused");
}

#[test]
fn only_the_process_and_user_that_registered_may_ask_and_only_with_the_secret() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    let bell = bob.listen(bus.path());
    let began = Instant::now();
    let _caller = alice.connect(bus.path(), "bob").unwrap();
    let proof = bob.proof();
    for bit in [0, 127, 128, 255] {
        let mut other = proof.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        for (what, body) in asks_of(&other) {
            refused(ask(bus.path(), what, &body), NOT_REGISTERED, &UNPROVEN);
        }
    }
    let hex: String = proof.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut asker = Role::start("asker", &[("PATH", bus.path().to_str().unwrap())]);
    asker.tell(&hex);
    asker.hear("refused");
    as_user(ALICES, || {
        for (what, body) in asks_of(&proof) {
            refused(ask(bus.path(), what, &body), NOT_REGISTERED, &UNPROVEN);
        }
    });
    let taken = bob.take(bus.path());
    // The server itself drops what nobody takes for five seconds.
    let in_time = began.elapsed() < Duration::from_secs(5);
    assert!(taken.is_some() || !in_time, "somebody else has taken it");
    drop(bell);
    let proof = bob.proof();
    drop(bob);
    eventually("bob is gone", || matches!(ask(bus.path(), TAKE, &proof), Err((NOT_REGISTERED, _))));
}

#[test]
fn whoever_is_not_there_or_does_not_listen_is_not_called() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    let connect = || alice.connect(bus.path(), "bob");
    refused(
        alice.connect(bus.path(), "carol"),
        NOT_FOUND,
        &["\"carol\"", "wait until it registers", "ringpost ls"],
    );
    let body = alice.connect_body_with(0, 1, &[7; 16]);
    refused(ask(bus.path(), CONNECT, &body), NOT_FOUND, &["no client has the key", "not given again"]);
    let silent = ["\"bob\"", "takes no links", "Client::listen"];
    refused(connect(), NOT_SERVING, &silent);
    bob.set_serving(true);
    refused(connect(), NOT_SERVING, &silent);
    let bell = bob.listen(bus.path());
    connect().unwrap();
    bob.set_serving(false);
    refused(connect(), NOT_SERVING, &silent);
    bob.set_serving(true);
    connect().unwrap();
    drop(bell);
    // A process that another test starts may have a copy of it for a moment.
    eventually("the bell is closed", || {
        drop(bob.take(bus.path()));
        connect().is_err()
    });
    refused(connect(), NOT_SERVING, &silent);
    assert!(!bus.listed("bob").serves);
    let _bell = bob.listen(bus.path());
    connect().unwrap();
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    let _bell = bob.listen(bus.path());
    for ring_size in [1, 2048, 5000, 1 << 31, u64::MAX] {
        let body = alice.connect_body_with(ring_size, 0, b"bob");
        refused(ask(bus.path(), CONNECT, &body), UNKNOWN, &["ring size", "power of two"]);
    }
    for (kind, to) in [(2, &b"bob"[..]), (1, b"bob"), (1, &[0; 17])] {
        refused(ask(bus.path(), CONNECT, &alice.connect_body_with(0, kind, to)), UNKNOWN, &["does not know"]);
    }
    for what in [LISTEN, TAKE, REPORT, KICK] {
        refused(ask(bus.path(), what, &alice.proof()[..31]), UNKNOWN, &["does not know"]);
    }
    refused(ask(bus.path(), LINKS, &[0; 7]), UNKNOWN, &["does not know"]);
}

#[test]
fn the_backlog_of_a_client_is_limited_for_each_user_and_in_all() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    let _bell = bob.listen(bus.path());
    let fill = |client: &RawClient, count: usize| {
        (0..count).for_each(|_| drop(client.connect(bus.path(), "bob").unwrap()));
    };
    fill(&alice, 64);
    let full = ["64 links of user", "\"bob\"", "try again when it has taken some"];
    refused(alice.connect(bus.path(), "bob"), BACKLOG, &full);
    bob.take(bus.path()).unwrap();
    fill(&alice, 1);
    refused(alice.connect(bus.path(), "bob"), BACKLOG, &full);
    let others = as_user(ALICES, || {
        let other = bus.register("other");
        fill(&other, 64);
        refused(other.connect(bus.path(), "bob"), BACKLOG, &["128 links wait", "\"bob\"", "try again"]);
    });
    if others.is_some() {
        as_user(BOBS, || {
            let third = bus.register("third");
            refused(third.connect(bus.path(), "bob"), BACKLOG, &["128 links wait"]);
            let carol = bus.register("carol");
            let _bell = carol.listen(bus.path());
            third.connect(bus.path(), "carol").unwrap();
        });
    }
}

#[test]
fn a_user_s_links_are_limited_in_all_and_at_one_client() {
    let bus = Bus::start(&[("LINKS", "3")]);
    let (bob, carol) = (Arc::new(bus.register("bob")), bus.register("carol"));
    let _bells = [bob.listen(bus.path()), carol.listen(bus.path())];
    let taker = Taker::of(&bob, &bus);
    as_user(ALICES, || {
        let alice = bus.register("alice");
        let connect = |to: &str| alice.connect(bus.path(), to);
        let mut open: Vec<Side> = (0..3).map(|_| connect("bob").unwrap()).collect();
        let taken: Vec<Side> = (0..3).map(|_| taker.take().unwrap()).collect();
        let words = ["user 65532 has 3 links", "its quota", "--quota links=N"];
        refused(connect("carol"), QUOTA, &words);
        // It says that one has ended. So it may have another, but not at a client that does not agree.
        let ended = open.remove(0);
        alice.flip(ended.index);
        refused(connect("bob"), QUOTA, &["user 65532 has 3 links to client \"bob\"", "--quota links=N"]);
        open.push(connect("carol").unwrap());
        refused(connect("carol"), QUOTA, &words);
        bob.flip(taken[0].index);
        alice.flip(open[0].index);
        open.push(connect("bob").unwrap());
        refused(connect("bob"), QUOTA, &words);
    });
    // The server's own user has no quota.
    let root = bus.register("root");
    (0..5).for_each(|_| drop(root.connect(bus.path(), "carol").unwrap()));
}

#[test]
fn bytes_of_links_count_as_those_of_clients_and_new_links_as_registrations() {
    let bus = Bus::start(&[("BYTES", "65536"), ("PACE", "20")]);
    let bob = Arc::new(bus.register("bob"));
    let _bell = bob.listen(bus.path());
    let taker = Taker::of(&bob, &bus);
    as_user(ALICES, || {
        let alice = bus.register("alice");
        let body = alice.connect_body_with(1 << 15, 0, b"bob");
        refused(
            ask(bus.path(), CONNECT, &body),
            QUOTA,
            &["of 65536 bytes", "69632", "ring-bytes=BYTES", "ring_size"],
        );
        let connect = || {
            let side = alice.connect(bus.path(), "bob")?;
            alice.flip(side.index);
            bob.flip(taker.take().unwrap().index);
            Ok(side)
        };
        let over = (0..1000).find_map(|_| connect().err());
        refused::<()>(
            Err(over.expect("too many a second")),
            BUSY,
            &["20 registrations, links, topics or subscriptions a second", "registrations=N"],
        );
    });
}

#[test]
fn a_client_has_places_for_4096_links() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    let _bell = bob.listen(bus.path());
    let mut last = None;
    for _ in 0..4096 {
        let caller = alice.connect(bus.path(), "bob").unwrap();
        last = Some((caller, bob.take(bus.path()).unwrap()));
    }
    refused(alice.connect(bus.path(), "bob"), QUOTA, &["client \"alice\" has 4096 links", "close some"]);
    let carol = bus.register("carol");
    refused(carol.connect(bus.path(), "bob"), QUOTA, &["client \"bob\" has 4096 links"]);
    let (caller, callee) = last.unwrap();
    alice.flip(caller.index);
    bob.flip(callee.index);
    carol.connect(bus.path(), "bob").unwrap();
    refused(alice.connect(bus.path(), "bob"), QUOTA, &["client \"bob\" has 4096 links"]);
    assert_eq!((bus.listed("alice").links, bus.listed("carol").links), (4095, 1));
}

/// Descriptors that are sent and not read use up the allowance of the server's user.
#[test]
fn whoever_does_not_read_its_answers_waits_and_nobody_else() {
    let bus = Bus::start(&[]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    let _bell = bob.listen(bus.path());
    let unread = |client: &RawClient, path: &Path| {
        let line = dial(path);
        let body = client.connect_body("bob");
        let datagram = super::common::raw::datagram(super::common::raw::VERSION, CONNECT, &body);
        send(&line, &datagram, SendFlags::NOSIGNAL).unwrap();
        line
    };
    // The 13th answer would bring its user beyond 64 descriptors.
    let mut lines: Vec<_> = (0..13).map(|_| unread(&alice, bus.path())).collect();
    let waits = lines.pop().unwrap();
    let (status, why, _) = super::common::raw::hear_all(&waits).unwrap();
    let why = String::from_utf8(why).unwrap();
    refused::<()>(Err((status, why)), BUSY, &["64 descriptors that it does not read"]);
    as_user(ALICES, || {
        let other = bus.register("other");
        drop(other.connect(bus.path(), "bob").unwrap());
    });
    lines.pop();
    drop(alice.connect(bus.path(), "bob").unwrap());
}

#[test]
fn a_server_without_descriptors_says_so_and_serves_on() {
    let bus = Bus::start(&[("FILES", "64")]);
    let (alice, bob) = (bus.register("alice"), bus.register("bob"));
    let _bell = bob.listen(bus.path());
    let idle: Vec<_> = (0..28).map(|_| dial(bus.path())).collect();
    super::common::eventually("there are too few descriptors for a link", || {
        match alice.connect(bus.path(), "bob") {
            Ok(_) => false,
            Err((code, why)) => {
                assert!(matches!(code, NO_RESOURCES | BUSY), "{code}: {why}");
                assert!(why.contains("ulimit -n"), "{why}");
                true
            }
        }
    });
    drop(idle);
    super::common::eventually("there are enough again", || {
        bob.take(bus.path());
        alice.connect(bus.path(), "bob").is_ok()
    });
}
