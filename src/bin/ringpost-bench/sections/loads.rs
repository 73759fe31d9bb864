//! The report's sections about throughput, messages, many clients and registering.

use serde_json::Value;

use super::read::{
    MISSING, PERCENTILES, bandwidth, line, list, millions, number, numbers, paired, pairs, percentiles,
    points, ratio, row, size, spread, text, time, whole,
};
use crate::glance;
use crate::page::Page;
use crate::plot::{Axis, Plot, Scale};

fn count(label: &'static str, ticks: Vec<f64>) -> Axis {
    Axis { label, scale: Scale::Log, text: |value| format!("{value:.0}"), ticks }
}

fn amount(label: &'static str, scale: Scale) -> Axis {
    Axis { label, scale, text: |value| format!("{}", (value * 100.0).round() / 100.0), ticks: Vec::new() }
}

pub fn throughput(page: &mut Page, found: &Value) {
    page.text(
        "One way through a ring, without a server. The floor is a raw copy of as many cache lines through shared memory, in \
         pieces of at least 4 KiB.",
    );
    let one_way = |found: &Value| {
        row(
            &format!("{}, {}", size(found, "/size"), text(found, "/between")),
            [
                whole(found, "/batch"),
                time(found, "/floor_ns/p50"),
                time(found, "/ns/p50"),
                paired(found, ""),
                millions(found, "/per_second"),
                bandwidth(found, "/bytes_per_s"),
            ],
        )
    };
    page.table(
        &["one way", "batch", "floor p50", "block p50", "ratio", "per second", "payload"],
        &list(found, "/one_way").iter().map(one_way).collect::<Vec<_>>(),
    );
    page.text("Pipelined calls to the server. The floor is a bare shared-memory round trip.");
    let windows = list(found, "/pipelined");
    let plot = Plot {
        about: "Calls per second by the number of outstanding calls".into(),
        x: count("outstanding calls", numbers(windows, "/window")),
        y: amount("million calls per second", Scale::Linear),
        lines: vec![line("calls", points(windows, "/window", "/per_second", 1e6))],
    };
    page.figure("Calls per second by the number of outstanding calls", &plot.svg());
    let window = |found: &Value| {
        row(
            &whole(found, "/window"),
            [
                time(found, "/floor_ns/p50"),
                time(found, "/ns/p50"),
                millions(found, "/per_second"),
                ratio(found, "/times_one_at_a_time/p50"),
            ],
        )
    };
    page.table(
        &["outstanding", "floor p50", "per call", "per second", "times one at a time"],
        &windows.iter().map(window).collect::<Vec<_>>(),
    );
}

pub fn forward(page: &mut Page, found: &Value) {
    page.text(
        "Client A sends a message to client B through the server, and B sends it back, with adaptive waiting and not pinned. \
         The server acknowledges each message to its sender. The floors are two bare shared-memory round trips, and two \
         round trips of a raw futex pair, across two CPUs.",
    );
    let cells = |name: &str, path: &str, to: String| row(name, spread(found, path).into_iter().chain([to]));
    page.table(
        &["", "p10", "p50", "p90", "ratio"],
        &[
            cells("message and answer", "/ns", String::new()),
            cells("two bare round trips", "/floor_ns", paired(found, "")),
            cells("two round trips of a raw futex pair", "/futex/floor_ns", paired(found, "/futex")),
        ],
    );
    page.table(&PERCENTILES, &[percentiles("each message and answer", found, "/rtt_ns")]);
}

pub fn clients(page: &mut Page, found: &Value) {
    page.text(
        "Clients in separate processes that all call in a closed loop, with adaptive waiting. For comparison, the same \
         processes call an echo server over Unix stream sockets, with a thread for each.",
    );
    let rows = list(found, "/clients");
    let plot = Plot {
        about: "Calls per second of all clients by their number".into(),
        x: count("clients", numbers(rows, "/clients")),
        y: amount("thousand calls per second, all clients", Scale::Log),
        lines: vec![
            line("Ringpost", points(rows, "/clients", "/per_second/p50", 1e3)),
            line("Unix sockets", points(rows, "/clients", "/socket_per_second/p50", 1e3)),
        ],
    };
    page.figure("Calls per second of all clients by their number", &plot.svg());
    let cells = |found: &Value| {
        row(
            &whole(found, "/clients"),
            [
                whole(found, "/per_second/p50"),
                ratio(found, "/to_two_clients/p50"),
                ratio(found, "/slowest_to_mean/p50"),
                whole(found, "/socket_per_second/p50"),
                pairs(found, "/per_second/p50", "/socket_per_second/p50", "/ratio/p50"),
                ratio(found, "/socket_slowest_to_mean/p50"),
            ],
        )
    };
    page.table(
        &[
            "clients",
            "calls per second",
            "to 2 clients",
            "slowest/mean",
            "over sockets",
            "ratio",
            "slowest/mean over sockets",
        ],
        &rows.iter().map(cells).collect::<Vec<_>>(),
    );
    if let Some(idle) = found.get("idle").filter(|idle| idle.is_object()) {
        idle_clients(page, idle);
    }
}

fn idle_clients(page: &mut Page, idle: &Value) {
    page.heading(&format!("{} idle clients", whole(idle, "/clients")));
    let shown = |path: &str, unit: &str| match number(idle, path) {
        value if value.is_nan() => MISSING.to_string(),
        value => format!("{value:.2} {unit}"),
    };
    let each = |path: &str| [String::new(), shown(path, "KiB")];
    page.table(
        &["", "none", "with them"],
        &[
            row(
                &format!("server’s CPU time in {} s without a request", number(idle, "/seconds")),
                [shown("/server_cpu_alone_ms", "ms"), shown("/server_cpu_ms", "ms")],
            ),
            row("server’s memory per client", each("/rss_kib_per_client")),
            row("the same without used pages of rings and registry", each("/beyond_rings_kib_per_client")),
            row(
                "an active client’s call, p50",
                [time(idle, "/active_p50_alone_ns/p50"), time(idle, "/active_p50_ns/p50")],
            ),
            row("its floor", [time(idle, "/floor_alone_ns/p50"), time(idle, "/floor_ns/p50")]),
            row("call/floor with them, relative to none", [String::new(), ratio(idle, "/effect")]),
        ],
    );
}

pub fn register(page: &mut Page, found: &Value) {
    page.text(
        "One client after the other registers and unregisters. The floor is the kernel's part of that work: connect, send a \
         packet in each direction, receive and map a sealed memory file, and close everything.",
    );
    let cells = |name: &str, path: &str, rate: &str| {
        row(name, spread(found, path).into_iter().chain([whole(found, rate)]))
    };
    page.table(
        &["", "p10", "p50", "p90", "per second"],
        &[
            cells("floor", "/floor_ns", "/floor_per_second"),
            cells("register and unregister", "/ns", "/per_second"),
        ],
    );
    page.text(&format!("Ratio of the pairs: {}.", ratio(found, "/ratio/p50")));
}

pub fn observe(page: &mut Page, found: &Value) {
    page.text(
        "Calls to a server whose figures somebody looks at once a second, so that it takes times of its work, and calls to one \
         that is tapped, in turn with the same calls to a server that nobody observes. The tap takes its copies between the \
         blocks: somewhere it needs a CPU, too.",
    );
    page.content(glance::observed(found));
}
