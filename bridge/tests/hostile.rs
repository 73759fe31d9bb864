//! A node that means harm, and one with more clients than may appear.

mod common;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::{Bus, LONG, Pair, Poser, bridge, endpoint};
use ringpost::Change;
use serde_json::json;

/// Clients that come and go as fast as a program can say so: the server's registrations are bounded, and so
/// is the log.
#[test]
fn names_that_come_and_go_all_the_time_cost_little() {
    const MOST: u128 = 20;
    let (a, at) = (Bus::start(), endpoint("tcp"));
    let mut bridge_a = bridge("a", "b", &a, &["--listen", &at, "--max-clients", "20"], &["**"]);
    bridge_a.says("joined the server");
    let mut alice = a.client("alice");
    let mut presence = alice.presence().unwrap();
    let (began, poser) = (Instant::now(), Poser::connect(&at, json!({})));
    poser.connects();
    poser.claims("b");
    let name = |number: u128| format!("c{}", number % (MOST - 1));
    let mut last = 0;
    while began.elapsed() < Duration::from_secs(3) {
        poser.shows("b", &name(last), last);
        last += 1;
        if last >= MOST {
            poser.hides("b", &name(last - MOST), last - MOST);
        }
    }
    poser.shows("b", "last", last);
    let mut appeared = 0;
    loop {
        if let Change::Appeared(peer) = presence.recv_timeout(LONG).unwrap() {
            appeared += 1;
            if peer.name == "last@b" {
                break;
            }
        }
    }
    let most = MOST + 1 + began.elapsed().as_millis() / 10;
    println!("{last} came, {appeared} of {most} registrations");
    assert!(last > 2 * most, "that was no flood: {last}");
    assert!(appeared <= most, "{appeared} registrations, {most} may be");
}

/// A node that comes and goes in the same way: it is asked by one task at a time, and the log does not grow
/// with it.
#[test]
fn a_node_that_comes_and_goes_all_the_time_is_told_of_in_a_few_lines() {
    let (a, at) = (Bus::start(), endpoint("tcp"));
    let mut bridge_a = bridge("a", "b", &a, &["--listen", &at], &["**"]);
    bridge_a.says("joined the server");
    let poser = Poser::connect(&at, json!({}));
    poser.connects();
    let asked = poser.offers_to_answer_for("b");
    for _ in 0..2000 {
        poser.claims("b");
        poser.leaves("b");
    }
    poser.claims("b");
    poser.shows("b", "last", 1);
    a.client("alice").wait_for("last@b", LONG).unwrap();
    let before = asked.load(Ordering::Relaxed);
    bridge_a.says("more lines like: node b is here");
    let asked = asked.load(Ordering::Relaxed) - before;
    println!("{} lines, and {asked} questions since", bridge_a.lines());
    assert!(bridge_a.lines() < 1000, "{} lines", bridge_a.lines());
    assert!(asked < 100, "{asked} questions for one claim");
}

#[test]
fn a_client_that_did_not_appear_does_when_there_is_room() {
    let mut pair = Pair::of(Bus::start(), Bus::start(), &["**"], &["--max-clients", "2"]);
    let (mut alice, bob) = pair.clients();
    let carol = pair.b.client("carol");
    alice.wait_for("carol@b", LONG).unwrap();
    let mut others = ["dave", "erin", "frank"].map(|name| pair.b.client(name));
    pair.bridge_a.says("of b there are some that do not appear");
    drop(carol);
    drop(bob);
    let mut there = || {
        let names = alice.list().unwrap().into_iter().map(|client| client.name.to_string());
        names.filter(|name| name.ends_with("@b") && name != "bridge@b").count()
    };
    let deadline = Instant::now() + LONG;
    while there() < 2 {
        assert!(Instant::now() < deadline, "nobody takes the free places");
        std::thread::sleep(Duration::from_millis(10));
    }
    others[0].caller().ping().unwrap();
    drop(others);
    let _last = pair.b.client("last");
    alice.wait_for("last@b", LONG).unwrap();
}
