//! The tables of `ringpost-bench link` for people.

use ringpost::cli::args::readable_bytes;
use ringpost::cli::stats::{Beside, nanoseconds, thousands};
use ringpost::cli::table::Table;

use super::Links;
use super::ends::{Opened, Posts};
use super::many::{Busy, Idle};
use super::trips::Calls;
use crate::measurement::{About, Figures};
use crate::rows::{percentiles, ratio};

impl Figures for Links {
    fn text(&self, about: &About) -> String {
        let size = readable_bytes(self.size);
        let mut text = about.heading(&format!("Calls of {size} from client to client over a link"));
        if !self.calls.is_empty() {
            text.push_str(&calls(&self.calls));
        }
        if !self.sizes.is_empty() {
            let rows = self.sizes.iter().map(|row| (readable_bytes(row.size), &row.blocks, &row.server));
            let about = "\nBy size; floor: as many bytes copied in and out at both ends";
            text.push_str(&format!("{about}\n{}", beside("size", rows)));
        }
        if !self.windows.is_empty() {
            let rows = self.windows.iter().map(|row| (row.window.to_string(), &row.blocks, &row.server));
            let about = "\nSeveral outstanding, time per call; floor: a bare shared-memory round trip";
            text.push_str(&format!("{about}\n{}", beside("outstanding", rows)));
        }
        text.extend(self.posts.as_ref().map(posts));
        text.extend(self.open.as_ref().map(open));
        text.extend(self.busy.as_ref().map(busy));
        text.extend(self.idle.as_ref().map(idle));
        text
    }
}

fn calls(rows: &[Calls]) -> String {
    let name = |row: &Calls| match row.place {
        "same" => format!("{}, one CPU", row.wait),
        _ => format!("{}, two CPUs", row.wait),
    };
    let mut table =
        Table::new("| floor p50 | server p50 | link p50 | link/floor | server/floor | link/server");
    for row in rows {
        table.row([
            name(row),
            nanoseconds(row.blocks.floor_ns.p50),
            nanoseconds(row.server.floor_ns.p50),
            nanoseconds(row.blocks.ns.p50),
            ratio(row.blocks.ratio.p50),
            ratio(row.server_to_floor.p50),
            ratio(row.server.ratio.p50),
        ]);
    }
    let asleep: Vec<String> = rows
        .iter()
        .filter_map(|row| Some((name(row), row.two_words.as_ref()?)))
        .map(|(name, two)| format!("{name}: {}", ratio(two.ratio.p50)))
        .collect();
    let two_words = match asleep.is_empty() {
        true => String::new(),
        false => format!("Ratio to a futex pair that sleeps on two words: {}\n", asleep.join("; ")),
    };
    format!(
        "\nFloor: a bare shared-memory round trip, or a raw futex pair where both ends sleep. Server: the same call to the \
         server's service\n{}{two_words}\nEach call over the link timed\n{}",
        table.text(),
        percentiles("", rows.iter().map(|row| (name(row), row.rtt_ns))),
    )
}

fn beside<'a>(what: &str, rows: impl Iterator<Item = (String, &'a Beside, &'a Beside)>) -> String {
    let mut table =
        Table::new(&format!("{what} | floor p50 | server p50 | link p50 | link/floor | link/server ratio"));
    for (name, floor, server) in rows {
        table.row([
            name,
            nanoseconds(floor.floor_ns.p50),
            nanoseconds(server.floor_ns.p50),
            nanoseconds(floor.ns.p50),
            ratio(floor.ratio.p50),
            ratio(server.ratio.p50),
        ]);
    }
    table.text()
}

fn posts(posts: &Posts) -> String {
    format!(
        "\nPosts of {}: {} each, {:.2} M per second; ratio to the floor, a raw copy one way of as many cache lines: {}\n",
        readable_bytes(posts.size),
        nanoseconds(posts.blocks.ns.p50),
        posts.per_second / 1e6,
        ratio(posts.blocks.ratio.p50),
    )
}

fn open(open: &Opened) -> String {
    format!(
        "\nOpening and closing a link: {}, {} per second; ratio to registering and unregistering ({}): {}\n",
        nanoseconds(open.blocks.ns.p50),
        thousands(open.per_second.round() as u64),
        nanoseconds(open.blocks.floor_ns.p50),
        ratio(open.blocks.ratio.p50),
    )
}

fn busy(busy: &Busy) -> String {
    let mut table = Table::new(&format!("{} clients that all call | calls/s | slowest/mean", busy.links));
    for (name, rate, slowest) in [
        ("one other client, over links", busy.per_second, busy.slowest_to_mean),
        ("the server", busy.server_per_second, busy.server_slowest_to_mean),
    ] {
        table.row([name.into(), format!("{:.0} k", rate.p50 / 1e3), ratio(slowest.p50)]);
    }
    format!(
        "\n{}ratio: {}; the server's CPU time while they call over links: {} ms per second\n",
        table.text(),
        ratio(busy.ratio.p50),
        busy.server_cpu_ms_per_s,
    )
}

fn idle(idle: &Idle) -> String {
    let mut table = Table::new(&format!("{} idle links | caller | who serves | server", idle.links));
    let kib = |value: Option<f64>| value.map_or("unknown".into(), |kib| format!("{kib:.1} KiB"));
    let number = |value: Option<f64>| value.map_or("unknown".into(), |number| format!("{number:.1}"));
    let whole = |value: Option<i64>| value.map_or("unknown".into(), |number| number.to_string());
    table.row([format!("CPU time in {} s", idle.seconds)].into_iter().chain(
        [idle.caller_cpu_ms, idle.serving_cpu_ms, idle.server_cpu_ms].map(|ms| format!("{ms:.2} ms")),
    ));
    table.row([
        "memory for each, beyond used pages of its rings".into(),
        kib(idle.caller_kib_per_link),
        kib(idle.serving_kib_per_link),
    ]);
    table.row([
        "descriptors for each".into(),
        number(idle.caller_descriptors_per_link),
        number(idle.serving_descriptors_per_link),
    ]);
    table.row([
        "more descriptors for all".into(),
        String::new(),
        String::new(),
        whole(idle.server_descriptors),
    ]);
    table.row(["more threads for all".into(), String::new(), String::new(), whole(idle.server_threads)]);
    format!(
        "\n{}Used pages of a link's rings: {}; the kernel's own memory for each link: {}\n",
        table.text(),
        kib(idle.rings_kib_per_link),
        kib(idle.kernel_kib_per_link),
    )
}
