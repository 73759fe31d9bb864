//! Tests of `ringpost status`: what it tells of a server, and that it fails without one.

use crate::common::users::{is_root, leave_root};
use crate::common::{Place, eventually};
use crate::program::*;
use ringpost::{Client, Observer};
use serde_json::Value;

fn status(place: &Place, more: &[&str]) -> Value {
    let output = run(CLIENT, &[&["status", "--json", "--socket", text(&place.path)], more].concat()).quiet();
    assert_eq!(output.iter().filter(|byte| **byte == b'\n').count(), 1);
    serde_json::from_slice(&output).unwrap()
}

#[test]
fn the_status_tells_what_a_server_is_and_did_and_fails_without_one() {
    let place = Place::new();
    let why = run(CLIENT, &["status", "--socket", text(&place.path)]).failed();
    assert!(why.contains("no server") && why.contains("--wait-for-server"), "{why}");
    let server = start_server(&place, &["--max-clients", "9", "--quota", "clients=3"]);
    let mut alice = Client::register(&place.path, "alice").unwrap();
    (0..5).for_each(|_| assert_eq!(alice.call(b"four").unwrap(), b"four"));
    alice.caller().ping().unwrap();
    eventually("the calls are counted", || status(&place, &[])["totals"]["calls"] == 5);
    let found = status(&place, &[]);
    assert_eq!((&found["clients"], &found["max_clients"]), (&1.into(), &9.into()));
    assert_eq!(found["pid"], server.id());
    assert_eq!((&found["totals"]["bytes_in"], &found["totals"]["registered"]), (&20.into(), &1.into()));
    assert_eq!((&found["quotas"]["clients"], &found["quotas"]["registrations"]), (&3.into(), &500.into()));
    let user = &found["users"][0];
    assert_eq!((&user["exempt"], &user["clients"]), (&true.into(), &1.into()), "{found}");
    assert!(found["uptime_seconds"].is_number() && found.get("rates").is_none());
    let rates = status(&place, &["--over", "0.05"])["rates"].clone();
    assert!(rates["seconds"].is_number() && rates["calls"] == 0.0, "{rates}");
    let shown = String::from_utf8(run(CLIENT, &["status", "--socket", text(&place.path)]).quiet()).unwrap();
    for part in [
        format!("server   process {} of user ", server.id()),
        "clients  1 of at most 9; 1 registered in all, 0 died".into(),
        "done     5 calls, 0 messages, 20 bytes in, 20 bytes out".into(),
        "each may have".into(),
        "(no limit)".into(),
    ] {
        assert!(shown.contains(&part), "{part:?} is not in\n{shown}");
    }
    // Others see what they themselves have.
    if is_root() {
        let path = place.path.clone();
        let seen = std::thread::spawn(move || {
            leave_root(65_533, 65_533, &[]);
            Observer::connect(&path).and_then(|observer| observer.figures())
        });
        assert!(seen.join().unwrap().is_err(), "who may not connect sees nothing");
    }
    assert_eq!(run(CLIENT, &["status", "--over", "0", "--socket", text(&place.path)]).status, Some(2));
}
