//! The report's section about other systems.

use serde_json::Value;

use super::read::{MISSING, list, number, ratio, row, text, time};
use crate::page::Page;
use crate::plot::{Bar, bars};
use ringpost::cli::args::readable_bytes;

/// The size of a floor's messages.
const WORD: u64 = 8;

/// Adds a table for each kind of measurement and each size, with the fastest system first.
pub fn peers(page: &mut Page, peers: &Value) {
    page.section("peers", "Other systems");
    page.text(
        "The same work with other systems, in interleaved rounds on the same CPUs, measured by benches/peers. The bars have a \
         logarithmic scale.",
    );
    let entries = list(peers, "/entries");
    let part = |entry: &Value| (text(entry, "/kind").to_string(), number(entry, "/size") as u64);
    let mut parts: Vec<(String, u64)> = Vec::new();
    for found in entries.iter().map(part) {
        if !parts.contains(&found) {
            parts.push(found);
        }
    }
    // Floors are shown with every size of their kind, not in a table of their own.
    let stands_alone = |(kind, bytes): &(String, u64)| {
        *bytes > WORD || !parts.iter().any(|(other, bytes)| other == kind && *bytes > WORD)
    };
    for (kind, bytes) in parts.iter().filter(|part| stands_alone(part)) {
        let of = |entry: &&Value| {
            let (other, size) = part(entry);
            other == *kind && (size == *bytes || size <= WORD)
        };
        let mut these: Vec<&Value> = entries.iter().filter(of).collect();
        these.sort_by(|a, b| number(a, "/summary/median").total_cmp(&number(b, "/summary/median")));
        let heading = format!("{}, {}", title(kind), readable_bytes(*bytes as usize));
        page.heading(&heading);
        let bar = |entry: &&Value| Bar {
            name: text(entry, "/peer").into(),
            value: number(entry, "/summary/median"),
            text: format!("{}, p99 {}", time(entry, "/summary/median"), time(entry, "/summary/p99")),
            ours: text(entry, "/peer").to_lowercase().contains("ringpost"),
        };
        page.figure("Medians over the rounds", &bars(&heading, &these.iter().map(bar).collect::<Vec<_>>()));
        let cells = |entry: &&Value| {
            row(
                text(entry, "/peer"),
                [
                    time(entry, "/summary/median"),
                    time(entry, "/summary/p99"),
                    ratio(entry, "/summary/ratio"),
                    about(entry).into(),
                ],
            )
        };
        page.table(
            &["", "median", "p99", "to the floor", "version"],
            &these.iter().map(cells).collect::<Vec<_>>(),
        );
    }
}

/// The version, or why there are no figures.
fn about(entry: &Value) -> &str {
    match entry.get("failure").and_then(Value::as_str) {
        Some(why) => why,
        None => entry.get("version").and_then(Value::as_str).unwrap_or(MISSING),
    }
}

fn title(kind: &str) -> &str {
    match kind {
        "spinning" => "Round trip, both ends spinning",
        "blocking" => "Round trip, ends that may sleep",
        "forwarding" => "From client to client and back through a broker",
        "named" => "A method call by name from client to client",
        "one-way" => "One way",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn peers_are_grouped_and_those_that_failed_say_why() {
        let object = json!({"entries": [
            {"peer": "words", "kind": "spinning", "size": 8, "summary": {"median": 100.0, "p99": 110.0}},
            {"peer": "pipes", "kind": "spinning", "size": 64, "summary": {"median": 9000.0, "p99": 1e4}},
            {"peer": "ringpost", "kind": "spinning", "size": 64, "summary": {"median": 150.0, "p99": 200.0, "ratio": 1.4}},
            {"peer": "d-bus", "kind": "blocking", "size": 64, "summary": null, "failure": "install <it>"},
        ]});
        let mut page = Page::new();
        peers(&mut page, &object);
        let html = page.finish("", "");
        assert!(html.contains("both ends spinning, 64 B") && html.contains("may sleep, 64 B"));
        assert!(html.contains("100 ns") && !html.contains("spinning, 8 B"), "a floor is among the others");
        assert!(html.contains("install &lt;it&gt;"));
        assert!(html.find("150 ns") < html.find("9.00 µs"), "the fastest first");
    }
}
