//! Calls to the server, and messages, at a glance.

use super::Content;
use crate::results::Results;
use crate::sections::read::{list, millions, number, pairs, ratio, row, short_time, size, text, time};
use ringpost::cli::stats::nanoseconds;
use serde_json::Value;

/// The medians of a measurement, its floor's, and the ratio.
pub const BESIDE: [&str; 3] = ["/ns/p50", "/floor_ns/p50", "/ratio/p50"];

/// A row: what was measured, its time, what is beside it with its time, and the ratio. Nothing without a
/// ratio.
pub fn beside(what: &str, found: &Value, paths: [&str; 3], other: &str) -> Option<Vec<String>> {
    let [ours, floor, to] = paths;
    if number(found, to).is_nan() {
        return None;
    }
    let other = match number(found, floor) {
        value if value.is_nan() => other.to_string(),
        value => format!("{other}: {}", nanoseconds(value)),
    };
    Some(row(what, [time(found, ours), other, pairs(found, ours, floor, to)]))
}

/// Whether a size is shown: others are in the page's section by size.
pub fn is_shown(found: &Value) -> bool {
    const SIZES: [f64; 6] = [64.0, 1024.0, 4096.0, 65_536.0, 1_048_576.0, 4_194_304.0];
    SIZES.contains(&number(found, "/size"))
}

pub const HEADINGS: [&str; 4] = ["", "measured", "beside it", "ratio"];

/// Where both ends are, from an object's `place`.
pub fn place(found: &Value) -> &'static str {
    if text(found, "/place") == "same" { "one CPU" } else { "two CPUs" }
}

pub fn sentence(results: &Results) -> Option<Content> {
    let found = results.found("latency")?;
    let (ratio, floor) = (number(found, "/ratio_p50"), number(found, "/floor_ns/p50"));
    // Two digits: the host decides about the rest.
    let floor = (floor / 10.0).round() * 10.0;
    let times = format!("{ratio:.1}");
    (ratio > 0.0 && floor > 0.0).then(|| {
        Content::Text(format!(
            "A {}-byte call through the server and back, with both ends polling, takes {times} times as long as its floor: two \
             bare words that two processes pass to and fro, about {} on the machine that we measured.",
            number(found, "/size"),
            nanoseconds(floor),
        ))
    })
}

pub fn rounds(results: &Results) -> Option<Content> {
    let found = results.found("latency")?;
    let rounds = list(found, "/rounds");
    let cells = |name: &str, all: String, each: fn(&Value) -> String| {
        row(name, std::iter::once(all).chain(rounds.iter().map(each)))
    };
    let headings: Vec<String> = ["medians".to_string(), "all".to_string()]
        .into_iter()
        .chain((1..=rounds.len()).map(|number| format!("round {number}")))
        .collect();
    let rows = vec![
        cells("floor: two bare words between two processes", time(found, "/floor_ns/p50"), |round| {
            time(round, "/floor_ns")
        }),
        cells("call through the server", time(found, "/call_ns/p50"), |round| time(round, "/call_ns")),
        cells("ratio of the two, median of pairs", ratio(found, "/ratio_p50"), |round| {
            ratio(round, "/ratio")
        }),
    ];
    Some(Content::Table { headings, rows })
}

pub fn calls(results: &Results) -> Option<Content> {
    let mut rows = Vec::new();
    let words = "two bare words";
    let call = ["/call_ns/p50", "/floor_ns/p50", "/ratio_p50"];
    for (name, what) in [
        ("latency", "48 B, both ends spinning, each on a CPU of its own"),
        ("latency-free", "48 B, the default way of waiting, on any CPU"),
    ] {
        rows.extend(results.found(name).and_then(|found| beside(what, found, call, words)));
    }
    let list_of = |name: &str, path| results.found(name).map_or(&[][..], |found| list(found, path));
    for found in list_of("wakeup", "/places") {
        rows.extend(beside(
            &format!("between ends that sleep, {}", place(found)),
            found,
            BESIDE,
            "a futex pair",
        ));
    }
    for found in list_of("gaps", "/gaps") {
        let what =
            format!("after {} of nothing, the default way of waiting", short_time(number(found, "/gap_ns")));
        rows.extend(beside(&what, found, BESIDE, "a futex pair after as long"));
    }
    for found in list_of("copy", "/sizes").iter().filter(|found| is_shown(found)) {
        let what = format!("{}, both ends spinning", size(found, "/size"));
        rows.extend(beside(&what, found, BESIDE, "a raw copy there and back"));
    }
    let windows = list_of("throughput", "/pipelined");
    if let Some(found) = windows.iter().max_by(|a, b| number(a, "/window").total_cmp(&number(b, "/window"))) {
        let what = format!("each of {} that are outstanding", number(found, "/window"));
        rows.extend(beside(&what, found, BESIDE, words));
    }
    if let Some(found) = results.found("forward") {
        let futex = ["/ns/p50", "/futex/floor_ns/p50", "/futex/ratio/p50"];
        let what = "a message to another client and one back, the default way of waiting";
        rows.extend(beside(what, found, futex, "twice a futex pair"));
    }
    if let Some(found) = results.found("register") {
        rows.extend(beside("registering and unregistering", found, BESIDE, "the kernel’s part of it"));
    }
    let many = list_of("clients", "/clients");
    if let Some(found) = many.iter().max_by(|a, b| number(a, "/clients").total_cmp(&number(b, "/clients"))) {
        rows.push(row(
            &format!("{} clients that all call, a second", number(found, "/clients")),
            [
                millions(found, "/per_second/p50"),
                format!("over Unix sockets: {}", millions(found, "/socket_per_second/p50")),
                pairs(found, "/per_second/p50", "/socket_per_second/p50", "/ratio/p50"),
            ],
        ));
    }
    Content::table(&HEADINGS, rows)
}
