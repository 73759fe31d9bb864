//! Other systems at a glance.

use serde_json::Value;

use super::Content;
use crate::picture;
use crate::results::Results;
use crate::rows::ratio;
use crate::sections::read::{MISSING, list, number, row, text, time};

/// The bytes of the messages.
const SIZE: f64 = 64.0;

/// The median of a system in one kind of work.
fn median(peers: &Value, kind: &str, name: &str) -> f64 {
    let found = list(peers, "/entries").iter().find(|entry| {
        text(entry, "/peer") == name && text(entry, "/kind") == kind && number(entry, "/size") == SIZE
    });
    found.map_or(f64::NAN, |found| number(found, "/summary/median"))
}

fn shown(nanoseconds: f64) -> String {
    time(&Value::from(nanoseconds), "")
}

/// Round trips between two processes: systems, with those of their names that poll and those that may sleep.
pub fn polling(results: &Results) -> Option<Content> {
    let peers = results.peers.as_ref()?;
    let rows = [
        ("Ringpost, a call through the server", "ringpost-spin", &["ringpost-adaptive", "ringpost-park"][..]),
        ("iceoryx2, request and response", "iceoryx2-spin", &["iceoryx2-event"]),
        ("pipes", "pipe-spin", &["pipe"]),
        ("Unix sockets, stream", "unix-stream-spin", &["unix-stream"]),
        ("ipc-channel", "ipc-channel-spin", &["ipc-channel"]),
    ];
    let rows = rows.into_iter().filter_map(|(what, polls, sleep)| {
        let poll = median(peers, "spinning", polls);
        let sleep: Vec<String> = sleep
            .iter()
            .map(|name| (name.rsplit('-').next(), median(peers, "blocking", name)))
            .filter(|(_, median)| !median.is_nan())
            .map(|(way, median)| match way {
                Some(way @ ("adaptive" | "park")) => format!("{} ({way})", shown(median)),
                _ => shown(median),
            })
            .collect();
        let sleep = if sleep.is_empty() { MISSING.into() } else { sleep.join(", ") };
        (!poll.is_nan()).then(|| row(what, [shown(poll), sleep]))
    });
    Content::table(
        &["64 bytes there and back, two processes", "both ends polling", "ends that may sleep"],
        rows.collect(),
    )
}

pub fn brokers(results: &Results) -> Option<Content> {
    let peers = results.peers.as_ref()?;
    let rows = [
        ("Ringpost, two acknowledged sends by key", "ringpost-forward-adaptive"),
        ("D-Bus, a method call and its return", "dbus"),
        ("Redis, two PUBLISH over a Unix socket", "redis"),
    ];
    let rows = rows.into_iter().filter_map(|(what, name)| {
        let median = median(peers, "forwarding", name);
        (!median.is_nan()).then(|| row(what, [shown(median)]))
    });
    Content::table(&["64 bytes from A through a broker to B, and back", "median"], rows.collect())
}

pub fn named(results: &Results) -> Option<Content> {
    let peers = results.peers.as_ref()?;
    let ours = median(peers, "named", "named-ringpost-link");
    let rows = [
        ("Ringpost, a link", "named-ringpost-link"),
        ("iceoryx2, polled", "named-iceoryx2-spin"),
        ("iceoryx2, waiting for events", "named-iceoryx2-event"),
        ("a Unix socket", "named-unix-stream"),
        ("D-Bus", "named-dbus"),
        ("Redis", "named-redis"),
    ];
    let rows = rows.into_iter().filter_map(|(what, name)| {
        let median = median(peers, "named", name);
        let times = if ours.is_nan() { MISSING.into() } else { ratio(median / ours) };
        (!median.is_nan()).then(|| row(what, [shown(median), times]))
    });
    Content::table(
        &["64 bytes, a method call by name from client to client", "median", "times as long as Ringpost"],
        rows.collect(),
    )
}

pub fn picture(results: &Results) -> Option<Content> {
    picture::described(results.peers.as_ref()?).map(Content::Picture)
}
