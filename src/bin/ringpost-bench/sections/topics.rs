//! The report's section about topics.

use serde_json::Value;

use super::read::{row, tenths};
use crate::glance;
use crate::page::Page;

pub fn topics(page: &mut Page, found: &Value) {
    page.text(
        "One publishes, readers in another process receive; samples of 56 bytes. What does not keep up with the publisher \
         misses samples, so beside the time of a publication stands how much was received. Each figure is measured in turn \
         with the one beside it.",
    );
    page.content(glance::topics(found));
    let kib = |part: &str| format!("{} KiB", tenths(found, &format!("/memory/{part}")));
    let parts =
        ["kib_per_subscription", "publisher_kib", "subscriber_kib", "server_kib", "shared_kib", "kernel_kib"];
    page.table(
        &["memory of a subscription", "all", "publisher", "subscriber", "server", "shared", "kernel"],
        &[row("", parts.map(kib))],
    );
}
