//! `ringpost-bench ready`.

use serde_json::Value;

use crate::{BESIDE, has, measure, rows};

/// The options of a quick `ready`.
pub const READY: [&str; 13] = [
    "ready",
    "--blocks",
    "2",
    "--count",
    "20",
    "--many",
    "3",
    "--seconds",
    "0.05",
    "--idle",
    "5",
    "--idle-seconds",
    "0.05",
];

#[test]
fn ready() {
    let object = measure(&READY);
    let apart = object["cpus"].as_u64().unwrap() > 1;
    let places = if apart { &["same", "across"][..] } else { &["same"] };
    for (path, ends) in [("/calls", &["caller", "client"][..]), ("/loops", &["link"])] {
        let rows = rows(&object, path);
        let found: Vec<_> =
            rows.iter().map(|row| (row["place"].as_str().unwrap(), row["by"].as_str().unwrap())).collect();
        let wanted: Vec<_> =
            places.iter().flat_map(|&place| ends.iter().map(move |&end| (place, end))).collect();
        assert_eq!(found, wanted);
        for row in rows {
            has(row, &BESIDE);
            has(row, &["/blocking/floor_ns/p50", "/blocking/ratio/p50", "/block_calls"]);
            // Where both ends share a CPU the response may be there before the end waits.
            let woken = |path| row.pointer(path).and_then(Value::as_f64).unwrap();
            assert!(woken("/wakes/per_call") >= woken("/wakes/fruitless_per_call"), "{row}");
            assert_eq!(row["serving"].is_object(), path == "/loops", "{row}");
        }
    }
    if apart {
        has(&object["kickable"], &["/link/ratio/p50", "/link/floor_ns/p50", "/server/ns/p50"]);
    }
    let idle = &object["idle"];
    assert_eq!(
        (&idle["clients"], &idle["threads"]),
        (&Value::from(5), &Value::from(1)),
        "the watcher: {idle}"
    );
    has(idle, &["/descriptors_per_client", "/server_descriptors_per_client", "/server_threads_per_client"]);
    assert!(idle["clients_cpu_ms"].is_number() && idle["fruitless"].is_number(), "{idle}");
    assert_eq!(object["tokio"], cfg!(feature = "tokio"));
    if !cfg!(feature = "tokio") {
        assert!(object["soon"].is_null() && rows(&object, "/futures").is_empty(), "{object}");
        return;
    }
    for row in rows(&object, "/futures") {
        has(row, &BESIDE);
        assert!(row["wakes"]["per_call"].is_number(), "{row}");
    }
    has(&object["many"], &["/per_second/p50", "/socket_per_second/p50", "/ratio/p50", "/clients"]);
    if apart {
        has(&object["soon"], &BESIDE);
    }
}

/// What is left out is said: these parts need another build.
#[test]
#[cfg(not(feature = "tokio"))]
fn parts_of_ready_with_tokio_are_left_out_of_a_build_without() {
    use crate::common::Place;
    use crate::common::program::Program;

    let place = Place::new();
    for (parts, said) in [("soon", true), ("idle,many", true), ("idle", false)] {
        let arguments = ["ready", "--parts", parts, "--idle", "2", "--idle-seconds", "0.01"];
        let ended = Program::spawn(&mut crate::bench(&place, &arguments)).end();
        assert_eq!(ended.status, Some(0), "{}", ended.stderr);
        assert_eq!(ended.stderr.contains("--features cli,tokio"), said, "{parts}: {}", ended.stderr);
    }
    assert!(place.is_clean());
}
