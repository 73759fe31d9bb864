//! The parts about many messages and many clients.

use serde_json::Value;

use super::read::{
    MISSING, PERCENTILES, bandwidth, fine_time, line, list, millions, number, numbers, percentiles, points,
    ratio, row, size, spread, text, time, whole,
};
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
        "One way through a ring without a server. The floor is a raw copy through shared memory of as many cache lines, in \
         pieces of 4 KiB at least.",
    );
    let one_way = |found: &Value| {
        row(
            &format!("{}, {}", size(found, "/size"), text(found, "/between")),
            [
                whole(found, "/batch"),
                fine_time(found, "/floor_ns/p50"),
                fine_time(found, "/ns/p50"),
                ratio(found, "/ratio/p50"),
                millions(found, "/per_second"),
                bandwidth(found, "/bytes_per_s"),
            ],
        )
    };
    page.table(
        &["one way", "at once", "floor p50", "block p50", "ratio", "per second", "payload"],
        &list(found, "/one_way").iter().map(one_way).collect::<Vec<_>>(),
    );
    page.text("Calls through the server, several on their way at once. The floor is one round trip of two bare words.");
    let windows = list(found, "/pipelined");
    let plot = Plot {
        about: "Calls a second by how many are on their way".into(),
        x: count("calls on their way at once", numbers(windows, "/window")),
        y: amount("calls a second, millions", Scale::Linear),
        lines: vec![line("calls", points(windows, "/window", "/per_second", 1e6))],
    };
    page.figure("Calls a second by how many are on their way", &plot.svg());
    let window = |found: &Value| {
        row(
            &whole(found, "/window"),
            [
                time(found, "/floor_ns/p50"),
                fine_time(found, "/ns/p50"),
                millions(found, "/per_second"),
                ratio(found, "/times_one_at_a_time/p50"),
            ],
        )
    };
    page.table(
        &["at once", "floor p50", "a call", "per second", "times one at a time"],
        &windows.iter().map(window).collect::<Vec<_>>(),
    );
}

pub fn forward(page: &mut Page, found: &Value) {
    page.text(
        "A sends a message to B by the server, B sends it back; adaptive waiting, not pinned. Each message is acknowledged to \
         its sender. The floors are two round trips of two bare words, and two of a raw futex pair, across two CPUs.",
    );
    let cells = |name: &str, path: &str, to: String| row(name, spread(found, path).into_iter().chain([to]));
    page.table(
        &["", "p10", "p50", "p90", "ratio"],
        &[
            cells("there and back", "/ns", String::new()),
            cells("twice two bare words", "/floor_ns", ratio(found, "/ratio/p50")),
            cells("twice a raw futex pair", "/futex/floor_ns", ratio(found, "/futex/ratio/p50")),
        ],
    );
    page.table(&PERCENTILES, &[percentiles("each there and back", found, "/rtt_ns")]);
}

pub fn clients(page: &mut Page, found: &Value) {
    page.text(
        "Clients that all call in a closed loop, each a process of its own, with adaptive waiting. Beside it the same \
         processes over Unix stream sockets to a server with a thread for each that only echoes.",
    );
    let rows = list(found, "/clients");
    let plot = Plot {
        about: "Calls a second of all clients by their number".into(),
        x: count("clients", numbers(rows, "/clients")),
        y: amount("calls a second of all, thousands", Scale::Log),
        lines: vec![
            line("Ringpost", points(rows, "/clients", "/per_second/p50", 1e3)),
            line("Unix sockets", points(rows, "/clients", "/socket_per_second/p50", 1e3)),
        ],
    };
    page.figure("Calls a second of all clients by their number", &plot.svg());
    let cells = |found: &Value| {
        row(
            &whole(found, "/clients"),
            [
                whole(found, "/per_second/p50"),
                ratio(found, "/to_two_clients/p50"),
                ratio(found, "/slowest_to_mean/p50"),
                whole(found, "/socket_per_second/p50"),
                ratio(found, "/ratio/p50"),
                ratio(found, "/socket_slowest_to_mean/p50"),
            ],
        )
    };
    page.table(
        &[
            "clients",
            "calls a second",
            "to 2 clients",
            "slowest to mean",
            "by sockets",
            "ratio",
            "their slowest",
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
            row("server’s memory for each", each("/rss_kib_per_client")),
            row("without touched pages of rings and registry", each("/beyond_rings_kib_per_client")),
            row(
                "an active client’s call, p50",
                [time(idle, "/active_p50_alone_ns/p50"), time(idle, "/active_p50_ns/p50")],
            ),
            row("the floor beside it", [time(idle, "/floor_alone_ns/p50"), time(idle, "/floor_ns/p50")]),
            row("its calls to the floor, to those alone", [String::new(), ratio(idle, "/effect")]),
        ],
    );
}

pub fn register(page: &mut Page, found: &Value) {
    page.text(
        "A name registered and given up, one after another. The floor is what the kernel needs for it: connect, a packet \
         each way, a sealed memory file received and mapped, all closed again.",
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
