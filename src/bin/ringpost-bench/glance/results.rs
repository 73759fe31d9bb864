//! The results beside what was aimed at, and the machine that they are of.

use serde_json::Value;

use super::Content;
use super::calls::place;
use crate::results::Results;
use crate::sections::read::{list, number, ratio, row, text, whole};

pub fn machine(results: &Results) -> Option<Content> {
    let machine = &results.machine;
    let host = if machine.virtual_machine { ", a virtual machine" } else { "" };
    Some(Content::Text(format!(
        "Ringpost {} on {} with {} CPUs{host}, {}.",
        results.version,
        machine.cpu,
        machine.cpus.split(' ').next().unwrap_or_default(),
        machine.kernel,
    )))
}

/// Finds the row of a list whose field has this value.
fn with<'a>(rows: &'a [Value], field: &str, value: f64) -> Option<&'a Value> {
    rows.iter().find(|row| number(row, field) == value)
}

pub fn results(results: &Results) -> Option<Content> {
    let mut rows = Vec::new();
    let mut add = |what: &str, from: &str, measured: Option<String>, aim: &str| {
        rows.extend(measured.map(|measured| row(what, [from.into(), measured, aim.into()])));
    };
    let of = |name: &str, path: &str| {
        results.found(name).filter(|found| !number(found, path).is_nan()).map(|found| ratio(found, path))
    };
    let list_of = |name: &str, path| results.found(name).map_or(&[][..], |found| list(found, path));

    add(
        "call of 48 bytes, spinning, pinned, to the floor",
        "`latency`: `ratio_p50`",
        of("latency", "/ratio_p50"),
        "1.20",
    );
    let sizes = list_of("copy", "/sizes");
    for (bytes, name, aim) in [
        (64.0, "64 bytes", "1.30"),
        (4096.0, "4 KiB", "1.15"),
        (65_536.0, "64 KiB", "1.15"),
        (1_048_576.0, "1 MiB", "1.10"),
    ] {
        let found = with(sizes, "/size", bytes).map(|found| ratio(found, "/ratio/p50"));
        add(&format!("call of {name}, to the raw copy"), "`copy`: `ratio.p50`", found, aim);
    }
    let adaptive = of("latency", "/ratio_p50").and_then(|_| {
        let by = |name| results.found(name).map_or(f64::NAN, |found| number(found, "/ratio_p50"));
        Some(by("latency-free") / by("latency")).filter(|times| times.is_finite())
    });
    let from = "`ratio_p50` of `latency --wait adaptive --free` by that of `latency`";
    add(
        "adaptive, not pinned, to spinning, pinned",
        from,
        adaptive.map(|times| format!("{times:.2}")),
        "1.3",
    );
    for found in list_of("wakeup", "/places") {
        let what = format!("sleeping, {}, to the futex pair", place(found));
        add(&what, "`wakeup`: `ratio.p50`", Some(ratio(found, "/ratio/p50")), "1.15");
    }
    let gap = with(list_of("gaps", "/gaps"), "/gap_ns", 1e6);
    add(
        "after 1 ms of nothing, to the futex pair; CPU time",
        "`gaps`: `ratio.p50`; `cpu.ratio.p50`",
        gap.map(|found| format!("{}; {}", ratio(found, "/ratio/p50"), ratio(found, "/cpu/ratio/p50"))),
        "1.15; 2.0",
    );
    let window = with(list_of("throughput", "/pipelined"), "/window", 64.0);
    add(
        "64 calls outstanding: times the calls a second of one at a time",
        "`throughput`: `times_one_at_a_time.p50`",
        window.map(|found| ratio(found, "/times_one_at_a_time/p50")),
        "≥ 2.5",
    );
    let one_way = list_of("throughput", "/one_way");
    let share = |batch: f64| {
        let found = one_way.iter().find(|row| {
            number(row, "/size") == 4096.0
                && text(row, "/between") == "processes"
                && number(row, "/batch") == batch
        });
        found.map(|found| ratio(found, "/bandwidth_share"))
    };
    let shares = share(1.0).map(|one| match share(16.0) {
        Some(batch) => format!("{one}; in batches {batch}"),
        None => one,
    });
    add(
        "one way, 4 KiB between processes, to the raw copy's bandwidth",
        "`throughput`: `bandwidth_share`",
        shares,
        "≥ 0.9",
    );
    let idle = results.found("clients").and_then(|found| found.get("idle")).filter(|idle| idle.is_object());
    add(
        &format!(
            "{} idle clients: server's CPU in {} s; memory for each beyond rings; effect",
            idle.map_or(String::new(), |idle| whole(idle, "/clients")),
            idle.map_or(0.0, |idle| number(idle, "/seconds")),
        ),
        "`clients`: `server_cpu_ms`; `beyond_rings_kib_per_client`; `effect`",
        idle.map(|idle| {
            format!(
                "{:.2} ms; {:.1} KiB; {}",
                number(idle, "/server_cpu_ms"),
                number(idle, "/beyond_rings_kib_per_client"),
                ratio(idle, "/effect")
            )
        }),
        "10 ms; 48 KiB; 1.05",
    );
    let many = with(list_of("clients", "/clients"), "/clients", 64.0);
    add(
        "64 clients that all call: to 2 clients; slowest to mean; to sockets",
        "`clients`: `to_two_clients.p50`; `slowest_to_mean.p50`; `ratio.p50`",
        many.map(|found| {
            ["/to_two_clients/p50", "/slowest_to_mean/p50", "/ratio/p50"]
                .map(|path| ratio(found, path))
                .join("; ")
        }),
        "≥ 0.8; ≥ 0.5; ≥ 1.8",
    );
    let registered = results.found("register").map(|found| whole(found, "/per_second"));
    add("register and unregister, per second", "`register`: `per_second`", registered, "≥ 2,000");
    Content::table(&["what", "from", "measured", "aim: at most, or at least (≥)"], rows)
}
