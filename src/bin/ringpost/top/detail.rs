//! The picture of one client in detail.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::bus::{Bus, Client, Count, Ring, Times};
use super::draw::{Palette, bar};
use super::table::{Cell, percent, rate, shown, time_text};
use ringpost::cli::stats::thousands;

/// The widths of the names of figures, and of the numbers behind them.
const NAME: usize = 21;
const NUMBER: usize = 19;

/// All that is known of the client with this key.
pub fn lines(bus: &Bus, key: &str, palette: Palette) -> Vec<Line<'static>> {
    let Some(client) = bus.clients.iter().find(|client| client.key == key) else {
        return vec![
            Line::default(),
            Line::styled("This client is not registered any more.", palette.strong()),
        ];
    };
    let mut lines = about(client, palette);
    lines.push(heading(&["", "TOTAL", "PER SECOND"], palette));
    lines.extend([
        count("calls", client.calls, 1000),
        count("messages sent", client.sent, 1000),
        count("messages received", client.received, 1000),
        count("bytes in", client.bytes_in, 1024),
        count("bytes out", client.bytes_out, 1024),
        count("samples published", client.published, 1000),
        count("samples taken", client.taken, 1000),
        missed(client.missed, palette),
    ]);
    lines.push(heading(&["", "FULL", "BYTES"], palette));
    lines.extend([
        ring("requests", client.requests, palette),
        ring("responses", client.responses, palette),
        ring("inbox", client.inbox, palette),
    ]);
    let mut head = heading(&[""], palette);
    for name in ["COUNT", "P50", "P90", "P99", "MAX"] {
        head.push_span(Span::styled(format!("{name:>9}"), palette.strong()));
    }
    lines.push(head);
    lines.extend([
        times("service", client.service),
        times("worker's wakes", client.wake),
        times("own wakes, it says", client.own_wake),
        times("own service, it says", client.link_service),
    ]);
    lines.extend(others(bus, client, palette));
    lines
}

fn about(client: &Client, palette: Palette) -> Vec<Line<'static>> {
    let Client { key, pid, uid, gid, state, unread, waiting_senders, .. } = client;
    let cpu = client.cpu_percent.map_or("-".into(), percent);
    vec![
        Line::from(vec![
            Span::styled(shown(&client.name), palette.title()),
            Span::raw(format!("  {state}  key {key}  pid {pid}  user {uid}  group {gid}")),
        ]),
        Line::raw(format!(
            "unread messages {unread}  senders that wait {waiting_senders}  its worker's cpu {cpu}  links {}",
            client.links
        )),
    ]
}

fn heading(texts: &[&str], palette: Palette) -> Line<'static> {
    let text: String = texts
        .iter()
        .enumerate()
        .map(|(at, text)| if at == 0 { format!("{text:<NAME$}") } else { format!("{text:>NUMBER$}") })
        .collect();
    Line::styled(text, palette.strong())
}

fn count(name: &str, count: Count, thousand: u64) -> Line<'static> {
    let rate = count.per_second.map_or("-".into(), |value| rate(value, thousand));
    Line::raw(format!("{name:<NAME$}{:>NUMBER$}{rate:>NUMBER$}", thousands(count.total)))
}

fn missed(missed: Count, palette: Palette) -> Line<'static> {
    let happens = missed.per_second.is_some_and(|rate| rate > 0.0);
    count("samples missed", missed, 1000).style(if happens { palette.bad() } else { Style::new() })
}

fn ring(name: &str, ring: Ring, palette: Palette) -> Line<'static> {
    Line::from(vec![
        Span::raw(format!("{name:<NAME$}  ")),
        Span::styled(bar(ring, 12), palette.fill(ring.fraction())),
        Span::raw(format!(" {:>5}", Cell::Ring(ring).text())),
        Span::raw(format!("{:>30}", format!("{} of {}", thousands(ring.used), thousands(ring.size)))),
    ])
}

fn times(name: &str, times: Times) -> Line<'static> {
    let at = |time: Option<u64>| time.map_or("-".into(), time_text);
    let texts = [times.p50_ns, times.p90_ns, times.p99_ns, times.max_ns].map(at);
    let columns: String = texts.iter().map(|text| format!("{text:>9}")).collect();
    Line::raw(format!("{name:<NAME$}{:>9}{columns}", Cell::Number(times.count).text()))
}

/// Its links and topics, one a line.
fn others(bus: &Bus, client: &Client, palette: Palette) -> Vec<Line<'static>> {
    let per_second = |count: Count| count.per_second.map_or("-".into(), |value| rate(value, 1000));
    let links = bus.links.iter().filter(|link| link.caller == client.name || link.callee == client.name).map(
        |link| {
            let rate = per_second(link.requests);
            format!("{} calls {}: {rate}/s", shown(&link.caller), shown(&link.callee))
        },
    );
    let topics = bus.topics.iter().filter(|topic| topic.publisher == client.name).map(|topic| {
        let rate = per_second(topic.samples);
        format!("publishes {}: {rate}/s to {} subscriptions", shown(&topic.topic), topic.subscriptions)
    });
    let mut lines: Vec<Line> = links.chain(topics).map(Line::raw).collect();
    if !lines.is_empty() {
        lines.insert(0, Line::styled("LINKS AND TOPICS", palette.strong()));
    }
    lines
}
