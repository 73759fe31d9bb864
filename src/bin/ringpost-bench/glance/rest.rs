//! Links, event loops and topics at a glance.

use serde_json::Value;

use super::Content;
use super::calls::{BESIDE, HEADINGS, beside, is_shown, place};
use crate::results::Results;
use crate::sections::read::{
    MISSING, list, millions, number, paired, pairs, percent, plain, row, size, tenths, text, time, whole,
};
use ringpost::cli::stats::nanoseconds;

pub fn links(results: &Results) -> Option<Content> {
    let found = results.found("link")?;
    // Compared with a floor, and with the same work through the server.
    let cells = |what: &str, found: &Value, floor: &str| {
        let floor = match number(found, "/floor_ns/p50") {
            value if value.is_nan() => floor.to_string(),
            value => format!("{floor}: {}", nanoseconds(value)),
        };
        row(
            what,
            [
                time(found, "/ns/p50"),
                floor,
                paired(found, ""),
                time(found, "/server/floor_ns/p50"),
                paired(found, "/server"),
            ],
        )
    };
    let mut rows = Vec::new();
    for found in list(found, "/calls") {
        let floor = if text(found, "/floor") == "words" { "two bare words" } else { "a futex pair" };
        rows.push(cells(&format!("{}, {}", waiting(found), place(found)), found, floor));
    }
    for found in list(found, "/sizes").iter().filter(|found| is_shown(found)) {
        rows.push(cells(&format!("{}, spinning", size(found, "/size")), found, "a raw copy there and back"));
    }
    let windows = list(found, "/windows");
    if let Some(found) = windows.iter().max_by(|a, b| number(a, "/window").total_cmp(&number(b, "/window"))) {
        rows.push(cells(
            &format!("each of {} that are outstanding", number(found, "/window")),
            found,
            "two bare words",
        ));
    }
    if let Some(found) = found.get("posts").filter(|posts| posts.is_object()) {
        rows.push(cells("a post, which gets no response", found, "a raw copy one way"));
    }
    let or_none =
        |object: &'_ Value, field: &str| object.get(field).filter(|found| found.is_object()).cloned();
    if let Some(found) = or_none(found, "open") {
        rows.push(row(
            "opening and closing, beside registering and unregistering",
            [
                time(&found, "/ns/p50"),
                MISSING.into(),
                MISSING.into(),
                time(&found, "/floor_ns/p50"),
                paired(&found, ""),
            ],
        ));
    }
    if let Some(found) = or_none(found, "busy") {
        rows.push(row(
            &format!("calls a second of {} clients that all call", whole(&found, "/links")),
            [
                millions(&found, "/per_second/p50"),
                MISSING.into(),
                MISSING.into(),
                millions(&found, "/server_per_second/p50"),
                pairs(&found, "/per_second/p50", "/server_per_second/p50", "/ratio/p50"),
            ],
        ));
    }
    let size = size(found, "/size");
    Content::table(&[&size, "over a link", "floor", "ratio", "to the server", "ratio"], rows)
}

fn waiting(found: &Value) -> &str {
    match text(found, "/wait") {
        "spin" => "spinning",
        "adaptive" => "the default way of waiting",
        "park" => "both ends sleep",
        other => other,
    }
}

pub fn links_idle(results: &Results) -> Option<Content> {
    let found = results.found("link")?;
    let parts =
        ["caller", "serving", "kernel"].map(|part| number(found, &format!("/idle/{part}_kib_per_link")));
    let sum: f64 = parts.iter().sum();
    let cpu: f64 = ["caller", "serving", "server"]
        .iter()
        .map(|part| number(found, &format!("/idle/{part}_cpu_ms")))
        .sum();
    if sum.is_nan() || cpu.is_nan() {
        return None;
    }
    Some(Content::Text(format!(
        "While {} links are busy the server uses {} ms of a CPU in a second. {} idle links use {cpu:.2} ms of CPU in {} seconds in all \
         three processes; the server has {} and {} more than with one link. A link takes {sum:.0} KiB beside \
         the used pages of its rings: {} in the caller, {} where it is served (most of it the thread), {} in the kernel.",
        whole(found, "/busy/links"),
        plain(found, "/busy/server_cpu_ms_per_s"),
        whole(found, "/idle/links"),
        plain(found, "/idle/seconds"),
        some(found, "/idle/server_threads", "thread"),
        some(found, "/idle/server_descriptors", "descriptor"),
        tenths(found, "/idle/caller_kib_per_link"),
        tenths(found, "/idle/serving_kib_per_link"),
        tenths(found, "/idle/kernel_kib_per_link"),
    )))
}

/// So many of a thing.
fn some(found: &Value, path: &str, thing: &str) -> String {
    match number(found, path) {
        0.0 => format!("no {thing}"),
        1.0 => format!("one {thing}"),
        _ => format!("{} {thing}s", whole(found, path)),
    }
}

pub fn ready(results: &Results) -> Option<Content> {
    let found = results.found("ready")?;
    let mut rows = Vec::new();
    for path in ["/calls", "/loops"] {
        for found in list(found, path) {
            let what = match text(found, "/by") {
                "caller" => "call, client asleep in epoll, server parked",
                "client" => "the same by a whole client’s descriptor",
                _ => "call over a link, both ends asleep in epoll",
            };
            let what = format!("{what}; {}", place(found));
            rows.extend(beside(&what, found, BESIDE, "two processes over pipes and epoll"));
        }
    }
    if let Some(soon) = found.get("soon") {
        let what = "call of a tokio client, spinning server";
        rows.extend(beside(what, soon, BESIDE, "a blocking adaptive call"));
    }
    for found in list(found, "/futures") {
        let what = format!("call of a tokio client, parked server; {}", place(found));
        rows.extend(beside(&what, found, BESIDE, "an echo over a Unix socket, tokio at both ends"));
    }
    if let Some(many) = found.get("many").filter(|many| many.is_object()) {
        rows.push(row(
            &format!("calls a second of {} tokio clients of one process", whole(many, "/clients")),
            [
                millions(many, "/per_second/p50"),
                format!("as many such sockets: {}", millions(many, "/socket_per_second/p50")),
                pairs(many, "/per_second/p50", "/socket_per_second/p50", "/ratio/p50"),
            ],
        ));
    }
    for (field, what) in [
        ("link", "spinning call over a link whose ends may be armed"),
        ("server", "spinning call to the server of a client that may be armed"),
    ] {
        if let Some(found) = found.pointer(&format!("/kickable/{field}")) {
            rows.extend(beside(what, found, BESIDE, "if they may not"));
        }
    }
    let size = size(found, "/size");
    Content::table(&[&size, HEADINGS[1], HEADINGS[2], HEADINGS[3]], rows)
}

pub fn ready_idle(results: &Results) -> Option<Content> {
    let idle = results.found("ready")?.get("idle").filter(|idle| idle.is_object())?;
    Some(Content::Text(format!(
        "{} armed idle clients in one process: {} ms of its CPU in {} seconds, and {} ms of the server’s; {} beside its own; \
         {} descriptors for each client there, {} in the server; {} for nothing.",
        whole(idle, "/clients"),
        plain(idle, "/clients_cpu_ms"),
        plain(idle, "/seconds"),
        plain(idle, "/server_cpu_ms"),
        some(idle, "/threads", "thread"),
        plain(idle, "/descriptors_per_client"),
        plain(idle, "/server_descriptors_per_client"),
        some(idle, "/fruitless", "wake-up"),
    )))
}

pub fn all_topics(results: &Results) -> Option<Content> {
    topics(results.found("topics")?)
}

/// What the measurement of topics has found.
pub fn topics(found: &Value) -> Option<Content> {
    let mut rows = Vec::new();
    let mut add = |path: &str, what: &dyn Fn(&Value) -> String, other: &dyn Fn(&Value) -> String| {
        if let Some(found) = found.pointer(path).filter(|found| found.is_object()) {
            rows.extend(beside(&what(found), found, BESIDE, &other(found)));
        }
    };
    let received = percent(found, "/publish/received/p50");
    let subscribers = |found: &Value| whole(found, "/subscribers");
    add("/publish", &|_| format!("published to a reader that spins; {received} received"), &|_| {
        "the ring of one reader, one at a time".into()
    });
    add("/trips", &|_| "there and back over two topics, spinning".into(), &|_| "two bare words".into());
    add(
        "/cost",
        &|found| format!("published with {} subscriptions that never sleep", whole(found, "/subscriptions")),
        &|_| "with one".into(),
    );
    add(
        "/wakes",
        &|found| format!("until the last of {} parked subscribers has a sample", subscribers(found)),
        &|found| format!("{} futex wakes", subscribers(found)),
    );
    add(
        "/sends",
        &|found| format!("until the last of {} parked subscribers has it", subscribers(found)),
        &|found| format!("{} acknowledged sends", subscribers(found)),
    );
    add(
        "/frames",
        &|found| format!("{} in place, from the commit to the open view", size(found, "/size")),
        &|found| size(found, "/small_size"),
    );
    add("/malicious/publisher", &|_| "published beside a malicious subscriber".into(), &|_| {
        "without it".into()
    });
    add("/malicious/others", &|_| "there and back beside a malicious subscriber".into(), &|_| {
        "without it".into()
    });
    let more = number(found, "/cost/may_sleep_more_ns/p50");
    if !more.is_nan() {
        let subscriptions = whole(found, "/cost/subscriptions");
        rows.push(row(
            &format!("published with {subscriptions} that may sleep and do not now"),
            [
                time(found, "/cost/may_sleep_ns/p50"),
                format!("with one that never sleeps: {} less", nanoseconds(more)),
                MISSING.into(),
            ],
        ));
    }
    rows.push(row(
        "memory of a subscription, the kernel’s included",
        [format!("{} KiB", tenths(found, "/memory/kib_per_subscription")), MISSING.into(), MISSING.into()],
    ));
    Content::table(&HEADINGS, rows)
}

pub fn all_observed(results: &Results) -> Option<Content> {
    observed(results.found("observe")?)
}

/// What it costs to be observed.
pub fn observed(found: &Value) -> Option<Content> {
    let mut rows = Vec::new();
    for calls in list(found, "/calls") {
        let how = format!("{}, {}", waiting(calls), place(calls));
        for (field, what) in [
            ("looked_at", "call to a server whose figures are looked at".to_string()),
            ("scraped", "call to a server whose metrics are scraped".to_string()),
            ("verbose", "call to a server that logs messages (`-v`)".to_string()),
            (
                "messages",
                format!(
                    "message to oneself, of a server that logs it; {} in the log",
                    percent(calls, "/logged")
                ),
            ),
            ("tapped", format!("call to a server that is tapped; {} received", percent(calls, "/received"))),
        ] {
            if let Some(blocks) = calls.get(field) {
                rows.extend(beside(&format!("{what}; {how}"), blocks, BESIDE, "to one that is not observed"));
            }
        }
    }
    for (field, what) in [("look", "a look at the figures"), ("scrape", "a scrape of the metrics")] {
        let Some(look) = found.get(field) else { continue };
        rows.push(row(
            &format!("{what} of {} clients", whole(look, "/clients")),
            [
                time(look, "/ns/p50"),
                format!("the server’s CPU time: {} ms", plain(look, "/server_cpu_ms")),
                MISSING.into(),
            ],
        ));
    }
    let size = size(found, "/size");
    Content::table(&[&size, HEADINGS[1], HEADINGS[2], HEADINGS[3]], rows)
}
