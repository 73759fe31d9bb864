//! `ringpost-bench topics`.

use crate::{BESIDE, has, measure};

/// The options of a quick `topics`.
pub const TOPICS: [&str; 15] = [
    "topics",
    "--blocks",
    "2",
    "--count",
    "1000",
    "--subscriptions",
    "3",
    "--inboxes",
    "2",
    "--few",
    "2",
    "--frame",
    "64K",
    "--held",
    "4",
];

#[test]
fn topics() {
    let object = measure(&TOPICS);
    let apart = object["cpus"].as_u64().unwrap() > 1;
    let spinning = ["/publish", "/trips", "/frames", "/malicious/publisher", "/malicious/others"];
    for path in spinning.into_iter().filter(|_| apart).chain(["/cost", "/wakes", "/sends"]) {
        has(object.pointer(path).unwrap_or_else(|| panic!("{path}: {object}")), &BESIDE);
    }
    if apart {
        // Beside each lossy figure stands how much of it was received.
        let received = object.pointer("/publish/received/p50").unwrap().as_f64().unwrap();
        assert!(received > 0.0 && received <= 1.0, "{object}");
        has(&object["frames"], &["/size", "/small_size", "/ring_size", "/block_samples"]);
    }
    for (path, wanted) in [
        ("/size", 56),
        ("/cost/subscriptions", 3),
        ("/wakes/subscribers", 3),
        ("/sends/subscribers", 2),
        ("/memory/subscriptions", 4),
    ] {
        assert_eq!(object.pointer(path).unwrap(), wanted, "{path}: {object}");
    }
    has(&object["sends"], &["/bare/floor_ns/p50", "/bare/ratio/p50"]);
    has(&object["cost"], &["/may_sleep_ns/p50"]);
    for field in ["publisher_kib", "subscriber_kib", "server_kib", "shared_kib", "kernel_kib", "free_kib"] {
        assert!(object["memory"][field].is_number(), "{field}: {object}");
    }
}

#[test]
fn parts_of_topics() {
    let object =
        measure(&["topics", "--parts", "wakes", "--subscriptions", "2", "--few", "1", "--blocks", "1"]);
    has(&object["wakes"], &BESIDE);
    assert!(object["publish"].is_null() && object["memory"].is_null(), "{object}");
}
