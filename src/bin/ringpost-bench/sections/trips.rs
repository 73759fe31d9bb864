//! The report's sections about single round trips.

use serde_json::Value;

use super::read::{
    PERCENTILES, bandwidth, line, list, number, numbers, paired, percent, percentiles, points, ratio, row,
    short_time, size, spread, time, times, whole,
};
use crate::glance;
use crate::page::Page;
use crate::plot::{Axis, Plot, Scale};
use ringpost::cli::args::readable_bytes;

pub fn closed(page: &mut Page, found: &Value) {
    page.table(
        &["timed in blocks", "p10", "p50", "p90"],
        &[
            row("floor", spread(found, "/floor_ns")),
            row("call", spread(found, "/call_ns")),
            row("ratio", ["/ratio_p10", "/ratio_p50", "/ratio_p90"].map(|path| ratio(found, path))),
        ],
    );
    page.table(&PERCENTILES, &[percentiles("each call", found, "/rtt_ns")]);
}

pub fn paced(page: &mut Page, found: &Value) {
    page.table(
        &PERCENTILES,
        &[
            percentiles("floor, from when due", found, "/floor/rtt_ns"),
            percentiles("call, from when due", found, "/rtt_ns"),
            percentiles("call, from when made", found, "/service_ns"),
        ],
    );
    page.text(&format!(
        "{} calls per second were made. {} were due before the previous one had ended. Ratio to the floor: {} (p50), \
         {} (p99).",
        whole(found, "/achieved_per_s"),
        percent(found, "/late"),
        ratio(found, "/ratio_p50"),
        ratio(found, "/ratio_p99"),
    ));
}

pub fn wakeup(page: &mut Page, found: &Value) {
    page.text(
        "Both ends sleep without spinning first. The floor is a raw futex pair: two processes that store a word, wake the \
         other and sleep.",
    );
    let cells = |place: &Value| {
        row(
            glance::place(place),
            [
                time(place, "/floor_ns/p50"),
                time(place, "/ns/p50"),
                paired(place, ""),
                time(place, "/rtt_ns/p99"),
                time(place, "/rtt_ns/max"),
            ],
        )
    };
    let rows: Vec<_> = list(found, "/places").iter().map(cells).collect();
    page.table(&["", "floor p50", "call p50", "ratio", "call p99", "call max"], &rows);
}

pub fn gaps(page: &mut Page, found: &Value) {
    page.text(
        "The first call after an idle gap, with adaptive waiting. The floor is a raw futex pair after the same gap. CPU time \
         is that of both processes per request, without the client's wait for the gap to end.",
    );
    let rows = list(found, "/gaps");
    for (caption, label, ours, floor) in [
        ("Round trip by the idle time before it", "round trip, p50", "/ns/p50", "/floor_ns/p50"),
        (
            "CPU time of a request by the idle time before it",
            "CPU time of both ends",
            "/cpu/ns/p50",
            "/cpu/floor_ns/p50",
        ),
    ] {
        let plot = Plot {
            about: caption.into(),
            x: times("idle time before the call", numbers(rows, "/gap_ns")),
            y: times(label, Vec::new()),
            lines: vec![
                line("call", points(rows, "/gap_ns", ours, 1.0)),
                line("raw futex pair", points(rows, "/gap_ns", floor, 1.0)),
            ],
        };
        page.figure(caption, &plot.svg());
    }
    let cells = |gap: &Value| {
        row(
            &short_time(number(gap, "/gap_ns")),
            [
                time(gap, "/floor_ns/p50"),
                time(gap, "/ns/p50"),
                paired(gap, ""),
                time(gap, "/rtt_ns/p99"),
                time(gap, "/cpu/floor_ns/p50"),
                time(gap, "/cpu/ns/p50"),
                paired(gap, "/cpu"),
            ],
        )
    };
    page.table(
        &["gap", "floor p50", "call p50", "ratio", "call p99", "floor’s CPU", "call’s CPU", "ratio"],
        &rows.iter().map(cells).collect::<Vec<_>>(),
    );
}

pub fn copy(page: &mut Page, found: &Value) {
    page.text(
        "Request and response have the same size. The floor copies as many bytes in and out at both ends, through buffers as \
         large as the rings.",
    );
    let rows = list(found, "/sizes");
    // Size 0 has no place on a logarithmic axis.
    let filled: Vec<Value> = rows.iter().filter(|row| number(row, "/size") > 0.0).cloned().collect();
    let plot = Plot {
        about: "Round trip by size".into(),
        x: Axis {
            label: "size of request and of response",
            scale: Scale::Log,
            text: |value| readable_bytes(value as usize),
            ticks: numbers(&filled, "/size"),
        },
        y: times("round trip, p50", Vec::new()),
        lines: vec![
            line("call", points(&filled, "/size", "/ns/p50", 1.0)),
            line("raw copy", points(&filled, "/size", "/floor_ns/p50", 1.0)),
        ],
    };
    page.figure("Round trip by size", &plot.svg());
    let cells = |found: &Value| {
        row(
            &size(found, "/size"),
            [
                time(found, "/floor_ns/p50"),
                time(found, "/ns/p50"),
                paired(found, ""),
                bandwidth(found, "/bytes_per_s"),
            ],
        )
    };
    page.table(
        &["size", "floor p50", "call p50", "ratio", "payload both ways"],
        &rows.iter().map(cells).collect::<Vec<_>>(),
    );
}
