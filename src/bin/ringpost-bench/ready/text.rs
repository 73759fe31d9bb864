//! The tables of `ringpost-bench ready` for people.

use ringpost::cli::args::readable_bytes;
use ringpost::cli::stats::nanoseconds;
use ringpost::cli::table::Table;

use super::asleep::Calls;
use super::idle::Idle;
use super::kickable::Kickable;
use super::wait::Wakes;
use super::{Futures, Loops, Many, Soon};
use crate::measurement::{About, Figures};
use crate::rows::ratio;

impl Figures for Loops {
    fn text(&self, about: &About) -> String {
        let size = readable_bytes(self.size);
        let mut text = about.heading(&format!("Calls of {size} of ends that wait in event loops"));
        if !self.calls.is_empty() {
            text.push_str("\nA client in epoll, a server that sleeps on a futex");
            text.push_str(&calls(&self.calls));
        }
        if !self.loops.is_empty() {
            text.push_str("\nOver a link, both ends in epoll");
            text.push_str(&calls(&self.loops));
        }
        text.extend(self.soon.as_ref().map(soon));
        if !self.futures.is_empty() {
            text.push_str(&futures(&self.futures));
        }
        text.extend(self.many.as_ref().map(many));
        text.extend(self.idle.as_ref().map(idle));
        text.extend(self.kickable.as_ref().map(kickable));
        text
    }
}

fn place(place: &str) -> &'static str {
    if place == "same" { "one CPU" } else { "two CPUs" }
}

/// The cells of the columns `wakes`, `fruitless` and `kicks`.
fn wakes(wakes: &Wakes) -> [String; 3] {
    let number = |value: f64| format!("{value:.3}");
    [
        number(wakes.per_call),
        number(wakes.fruitless_per_call),
        wakes.kicks_per_call.map_or("unknown".into(), number),
    ]
}

fn calls(rows: &[Calls]) -> String {
    let mut table = Table::new(
        "| floor p50 | blocking p50 | call p50 | ratio to floor | to blocking | wakes | fruitless | kicks",
    );
    for row in rows {
        let cells = [
            format!("{}, {}", row.by, place(row.place)),
            nanoseconds(row.blocks.floor_ns.p50),
            nanoseconds(row.blocking.floor_ns.p50),
            nanoseconds(row.blocks.ns.p50),
            ratio(row.blocks.ratio.p50),
            ratio(row.blocking.ratio.p50),
        ];
        table.row(cells.into_iter().chain(wakes(&row.wakes)));
        if let Some(serving) = &row.serving {
            let name = format!("who serves, {}", place(row.place));
            table.row(std::iter::once(name).chain([(); 5].map(|()| String::new())).chain(wakes(serving)));
        }
    }
    format!(
        "; floor: two processes over pipes and epoll; wakes, those of them that led nowhere, and kicks are per call\n{}",
        table.text()
    )
}

fn soon(soon: &Soon) -> String {
    let [_, fruitless, _] = wakes(&soon.wakes);
    format!(
        "\nA tokio client, a server that spins: {}; ratio to a blocking adaptive call ({}): {}; fruitless wakes per call: {}\n",
        nanoseconds(soon.blocks.ns.p50),
        nanoseconds(soon.blocks.floor_ns.p50),
        ratio(soon.blocks.ratio.p50),
        fruitless,
    )
}

fn futures(rows: &[Futures]) -> String {
    let mut table = Table::new("| socket p50 | call p50 | ratio | wakes | fruitless | kicks");
    for row in rows {
        let cells = [
            place(row.place).into(),
            nanoseconds(row.blocks.floor_ns.p50),
            nanoseconds(row.blocks.ns.p50),
            ratio(row.blocks.ratio.p50),
        ];
        table.row(cells.into_iter().chain(wakes(&row.wakes)));
    }
    format!(
        "\nA tokio client, a server that sleeps on a futex; floor: an echo over a Unix socket, with tokio at both ends\n{}",
        table.text()
    )
}

fn many(many: &Many) -> String {
    let mut table =
        Table::new(&format!("{} tokio clients that all call | calls/s | slowest/mean", many.clients));
    for (name, rate, slowest) in [
        ("a server", many.per_second, many.slowest_to_mean),
        ("over Unix sockets", many.socket_per_second, many.socket_slowest_to_mean),
    ] {
        table.row([name.into(), format!("{:.0} k", rate.p50 / 1e3), ratio(slowest.p50)]);
    }
    let [woken, fruitless, kicks] = wakes(&many.wakes);
    format!(
        "\n{}ratio: {}; per call: {woken} wakes, {fruitless} that led nowhere, {kicks} kicks\n",
        table.text(),
        ratio(many.ratio.p50),
    )
}

fn idle(idle: &Idle) -> String {
    let mut table = Table::new(&format!("{} armed clients, idle | clients | server", idle.clients));
    let number = |value: Option<f64>| value.map_or("unknown".into(), |value| format!("{value:.2}"));
    table.row(
        [format!("CPU time in {} s", idle.seconds)]
            .into_iter()
            .chain([idle.clients_cpu_ms, idle.server_cpu_ms].map(|ms| format!("{ms:.2} ms"))),
    );
    let cells = [idle.descriptors_per_client, idle.server_descriptors_per_client].map(number);
    table.row(["descriptors for each".into()].into_iter().chain(cells));
    table.row([
        "threads: beside its own; for each".into(),
        idle.threads.map_or("unknown".into(), |threads| threads.to_string()),
        number(idle.server_threads_per_client),
    ]);
    format!("\n{}wakes for nothing: {}\n", table.text(), idle.fruitless)
}

fn kickable(kickable: &Kickable) -> String {
    let mut table = Table::new("Spinning, never armed | may not be armed p50 | may be armed p50 | ratio");
    for (name, beside) in [("a call over a link", &kickable.link), ("a call to the server", &kickable.server)]
    {
        table.row([
            name.into(),
            nanoseconds(beside.floor_ns.p50),
            nanoseconds(beside.ns.p50),
            ratio(beside.ratio.p50),
        ]);
    }
    format!("\n{}", table.text())
}
