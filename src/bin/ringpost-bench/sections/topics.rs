//! The report's section about topics.

use serde_json::Value;

use super::read::{MISSING, fine_time, number, percent, ratio, row, size, whole};
use crate::page::Page;

pub fn topics(page: &mut Page, found: &Value) {
    page.text(
        "One publishes, readers in another process receive; samples of 56 bytes. What does not keep up with the publisher \
         misses samples, so beside the time of a publication stands how much was received. Each figure is measured in turn \
         with the one beside it.",
    );
    let mut rows = Vec::new();
    for (part, what, beside) in [
        ("publish", "published to a reader that spins", "ring of one reader, one at a time"),
        ("trips", "there and back over two topics, spinning", "bare shared-memory round trip"),
        ("cost", "published with many subscriptions that never sleep", "with one"),
        ("wakes", "until the last of many that sleep has a sample", "as many bare futex wakes"),
        ("sends", "the same", "as many acknowledged sends"),
        ("frames", "a large sample in place, from the commit to the open view", "a small sample"),
        ("malicious/publisher", "published beside a malicious subscriber", "without it"),
        ("malicious/others", "there and back beside a malicious subscriber", "without it"),
    ] {
        let path = format!("/{part}");
        let Some(found) = found.pointer(&path).filter(|found| found.is_object()) else { continue };
        rows.push(row(
            what,
            [
                fine_time(found, "/ns/p50"),
                beside.into(),
                fine_time(found, "/floor_ns/p50"),
                ratio(found, "/ratio/p50"),
            ],
        ));
    }
    page.table(&["", "p50", "beside it", "p50", "ratio"], &rows);
    page.text(&format!(
        "Received by the reader that spins: {}. Many subscriptions are {}, sleepers {} and {}, a large sample has {}. With \
         as many subscriptions that may sleep and do not now a publication takes {} more than with one that never sleeps.",
        percent(found, "/publish/received/p50"),
        whole(found, "/cost/subscriptions"),
        whole(found, "/wakes/subscribers"),
        whole(found, "/sends/subscribers"),
        size(found, "/frames/size"),
        fine_time(found, "/cost/may_sleep_more_ns/p50"),
    ));
    let parts = ["publisher", "subscriber", "server", "shared", "kernel"];
    let kib = |path: &str| match number(found, path) {
        value if value.is_nan() => MISSING.into(),
        value => format!("{value:.1} KiB"),
    };
    let cells = parts.map(|part| kib(&format!("/memory/{part}_kib")));
    let all = kib("/memory/kib_per_subscription");
    page.table(
        &["memory of a subscription", "all", "publisher", "subscriber", "server", "shared", "kernel"],
        &[row("", std::iter::once(all).chain(cells))],
    );
}
