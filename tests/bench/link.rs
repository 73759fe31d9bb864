//! `ringpost-bench link`.

use serde_json::Value;

use crate::{BESIDE, has, measure, rows};

/// The options of a quick `link`.
pub const LINK: [&str; 19] = [
    "link",
    "--blocks",
    "2",
    "--count",
    "200",
    "--sizes",
    "0,4K",
    "--windows",
    "4,1",
    "--opens",
    "3",
    "--busy",
    "3",
    "--seconds",
    "0.05",
    "--idle",
    "5",
    "--idle-seconds",
    "0.05",
];

#[test]
fn link() {
    let object = measure(&LINK);
    let apart = object["cpus"].as_u64().unwrap() > 1;
    let calls = rows(&object, "/calls");
    let modes: Vec<_> =
        calls.iter().map(|row| (row["place"].as_str().unwrap(), row["wait"].as_str().unwrap())).collect();
    let same = [("same", "adaptive"), ("same", "park")];
    assert_eq!(modes[modes.len() - 2..], same);
    if apart {
        assert_eq!(modes[..3], [("across", "spin"), ("across", "adaptive"), ("across", "park")]);
    }
    for row in calls {
        has(row, &BESIDE);
        has(row, &["/server/ratio/p50", "/server/floor_ns/p50", "/server_to_floor/p50", "/rtt_ns/p50"]);
        assert_eq!(row["two_words"].is_null(), row["floor"] == "words", "{row}");
    }
    for (path, field, wanted) in [("/sizes", "size", [0, 4096]), ("/windows", "window", [1, 4])] {
        let rows = rows(&object, path);
        assert_eq!(rows.iter().map(|row| row[field].as_u64().unwrap()).collect::<Vec<_>>(), wanted);
        for row in rows {
            has(row, &BESIDE);
            has(row, &["/server/ratio/p50", "/block_calls"]);
        }
    }
    for part in ["posts", "open"] {
        has(&object[part], &BESIDE);
        has(&object[part], &["/per_second"]);
    }
    has(&object["busy"], &["/per_second/p50", "/server_per_second/p50", "/ratio/p50"]);
    let idle = &object["idle"];
    has(idle, &["/caller_descriptors_per_link", "/serving_descriptors_per_link"]);
    for field in
        ["server_descriptors", "server_threads", "caller_cpu_ms", "serving_cpu_ms", "kernel_kib_per_link"]
    {
        assert!(idle[field].is_number(), "{field}: {idle}");
    }
    assert_eq!((&object["busy"]["links"], &idle["links"]), (&Value::from(3), &Value::from(5)));
}

#[test]
fn parts_of_link() {
    let object = measure(&["link", "--parts", "open", "--opens", "2", "--blocks", "1"]);
    has(&object["open"], &BESIDE);
    assert!(rows(&object, "/calls").is_empty() && object["idle"].is_null(), "{object}");
}
