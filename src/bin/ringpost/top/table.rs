//! The tables of clients, links and topics: their columns, and which of them fit, are filtered and come
//! first.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::time::Duration;

use clap::ValueEnum;
use unicode_width::UnicodeWidthStr;

use super::bus::{Bus, Client, Link, Ring, Topic};
use ringpost::cli::args::{readable_bytes, readable_time};
use ringpost::cli::out;
use ringpost::cli::stats::short;

/// Which table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum View {
    #[default]
    Clients,
    Links,
    Topics,
}

/// By what rows are ordered. What a table does not have orders it by name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, ValueEnum)]
pub enum Sort {
    /// By name
    #[default]
    Name,
    /// By calls a second
    Calls,
    /// By messages a second, sent and received
    Messages,
    /// By samples a second, published and taken
    Samples,
    /// By bytes a second, in and out
    Bytes,
    /// By how full the inbox is
    Inbox,
    /// By how full the fuller ring of requests and responses is
    Ring,
    /// By senders that wait for room in the inbox
    Waiting,
    /// By samples that were missed a second
    Lost,
    /// By service time
    Service,
    /// By wake latency
    Wake,
    /// By the worker's share of a processor
    Cpu,
    /// By age, the youngest first
    Age,
}

/// A column of a table.
#[derive(Debug)]
pub struct Column {
    pub heading: &'static str,
    /// At least; what holds names gets more where there is room.
    pub width: u16,
    /// Where there is no room for all, those with the highest rank are left out first.
    rank: u8,
    pub names: bool,
    pub sort: Option<Sort>,
}

const fn names(heading: &'static str, width: u16, sort: Option<Sort>) -> Column {
    Column { heading, width, rank: 0, names: true, sort }
}

const fn column(heading: &'static str, width: u16, rank: u8, sort: Option<Sort>) -> Column {
    Column { heading, width, rank, names: false, sort }
}

const CLIENTS: [Column; 17] = [
    names("NAME", 14, Some(Sort::Name)),
    column("PID", 7, 15, None),
    column("UID", 5, 16, None),
    column("CALLS/s", 7, 1, Some(Sort::Calls)),
    column("MSGS/s", 6, 2, Some(Sort::Messages)),
    column("SMPL/s", 6, 3, Some(Sort::Samples)),
    column("BYTES/s", 7, 4, Some(Sort::Bytes)),
    column("INBOX", 5, 5, Some(Sort::Inbox)),
    column("RINGS", 5, 12, Some(Sort::Ring)),
    column("WAIT", 4, 9, Some(Sort::Waiting)),
    column("LOST/s", 6, 8, Some(Sort::Lost)),
    column("SVC50", 5, 13, None),
    column("SVC99", 5, 6, Some(Sort::Service)),
    column("WAKE50", 6, 14, None),
    column("WAKE99", 6, 10, Some(Sort::Wake)),
    column("CPU", 4, 7, Some(Sort::Cpu)),
    column("LINKS", 5, 17, None),
];

const LINKS: [Column; 9] = [
    names("CALLER", 10, Some(Sort::Name)),
    names("CALLEE", 10, None),
    column("CALLS/s", 7, 1, Some(Sort::Calls)),
    column("OPEN", 5, 6, Some(Sort::Waiting)),
    column("OUT/s", 5, 2, Some(Sort::Bytes)),
    column("IN/s", 5, 3, None),
    column("SVC50", 5, 7, None),
    column("SVC99", 5, 4, Some(Sort::Service)),
    column("AGE", 12, 5, Some(Sort::Age)),
];

const TOPICS: [Column; 7] = [
    names("TOPIC", 16, Some(Sort::Name)),
    names("PUBLISHER", 10, None),
    column("SMPL/s", 6, 1, Some(Sort::Samples)),
    column("BYTES/s", 7, 2, Some(Sort::Bytes)),
    column("SUBS", 4, 3, None),
    column("RING", 8, 5, None),
    column("AGE", 12, 4, Some(Sort::Age)),
];

/// What stands in a column of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Text(String),
    Rate(Option<f64>),
    Bytes(Option<f64>),
    Number(u64),
    Size(u64),
    Ring(Ring),
    /// In nanoseconds.
    Time(Option<u64>),
    Percent(Option<f64>),
    Seconds(f64),
}

/// A row of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What it stands for, at this look and at the next ones.
    pub id: Id,
    /// The client that it is about: itself, the callee, or the publisher.
    pub client: String,
    /// One for each column.
    pub cells: Vec<Cell>,
}

/// A client's key, or two names and how many rows before it have the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Id {
    Key(String),
    Names(String, String, usize),
}

impl View {
    pub const ALL: [View; 3] = [View::Clients, View::Links, View::Topics];

    pub fn title(self) -> &'static str {
        match self {
            View::Clients => "Clients",
            View::Links => "Links",
            View::Topics => "Topics",
        }
    }

    pub fn columns(self) -> &'static [Column] {
        match self {
            View::Clients => &CLIENTS,
            View::Links => &LINKS,
            View::Topics => &TOPICS,
        }
    }

    pub fn len(self, bus: &Bus) -> usize {
        match self {
            View::Clients => bus.clients.len(),
            View::Links => bus.links.len(),
            View::Topics => bus.topics.len(),
        }
    }

    /// The rows that pass the filter, in this order.
    pub fn rows(self, bus: &Bus, filter: &str, sort: Sort, reverse: bool) -> Vec<Row> {
        let mut seen = HashMap::new();
        let mut names = |one: &str, other: &str| {
            let before: &mut usize = seen.entry((one.to_owned(), other.to_owned())).or_default();
            *before += 1;
            Id::Names(one.to_owned(), other.to_owned(), *before - 1)
        };
        let mut rows: Vec<Row> = match self {
            View::Clients => bus
                .clients
                .iter()
                .filter(|client| client.passes(filter))
                .map(|client| Row {
                    id: Id::Key(client.key.clone()),
                    client: client.name.clone(),
                    cells: client_cells(client),
                })
                .collect(),
            View::Links => bus
                .links
                .iter()
                .filter(|link| link.passes(filter))
                .map(|link| Row {
                    id: names(&link.caller, &link.callee),
                    client: link.callee.clone(),
                    cells: link_cells(link),
                })
                .collect(),
            View::Topics => bus
                .topics
                .iter()
                .filter(|topic| topic.passes(filter))
                .map(|topic| Row {
                    id: names(&topic.topic, &topic.publisher),
                    client: topic.publisher.clone(),
                    cells: topic_cells(topic),
                })
                .collect(),
        };
        let column = self.sorted_by(sort);
        let by_name = column == 0;
        // The largest first, but names and ages from the smallest on.
        let rising = by_name || matches!(self.columns()[column].sort, Some(Sort::Age));
        rows.sort_by(|a, b| {
            let order = a.cells[column].compare(&b.cells[column]);
            let order = if rising { order } else { order.reverse() };
            let order = if reverse { order.reverse() } else { order };
            // Rows that are equal do not change places from look to look.
            order.then_with(|| a.cells[0].compare(&b.cells[0])).then_with(|| a.cells[1].compare(&b.cells[1]))
        });
        rows
    }

    /// The column that orders the rows.
    pub fn sorted_by(self, sort: Sort) -> usize {
        self.columns().iter().position(|column| column.sort == Some(sort)).unwrap_or(0)
    }

    /// The columns that fit, with their widths: those of names as wide as they need if there is room.
    pub fn fitting(self, rows: &[Row], room: u16) -> Vec<(usize, u16)> {
        let columns = self.columns();
        let mut by_rank: Vec<usize> = (0..columns.len()).collect();
        by_rank.sort_by_key(|&at| columns[at].rank);
        let (mut chosen, mut used) = (Vec::new(), 0);
        for at in by_rank {
            let wanted = columns[at].width + u16::from(!chosen.is_empty());
            // The first one is shown in any case.
            if used + wanted > room && !chosen.is_empty() {
                break;
            }
            used += wanted;
            chosen.push(at);
        }
        chosen.sort_unstable();
        let mut left = room.saturating_sub(used);
        let mut widths: Vec<(usize, u16)> = chosen.iter().map(|&at| (at, columns[at].width)).collect();
        for (at, width) in &mut widths {
            if columns[*at].names {
                let longest = rows.iter().map(|row| row.cells[*at].text().width()).max().unwrap_or(0);
                let more = u16::try_from(longest).unwrap_or(u16::MAX).saturating_sub(*width).min(left);
                *width += more;
                left -= more;
            }
        }
        // On a terminal that is too narrow for one column it is cut off.
        widths.iter_mut().for_each(|(_, width)| *width = (*width).min(room));
        widths
    }
}

fn client_cells(client: &Client) -> Vec<Cell> {
    let fuller = if client.requests.fraction() > client.responses.fraction() {
        client.requests
    } else {
        client.responses
    };
    vec![
        Cell::Text(shown(&client.name)),
        Cell::Number(client.pid.into()),
        Cell::Number(client.uid.into()),
        Cell::Rate(client.calls.per_second),
        Cell::Rate(client.sent.plus(client.received).per_second),
        Cell::Rate(client.published.plus(client.taken).per_second),
        Cell::Bytes(client.bytes_in.plus(client.bytes_out).per_second),
        Cell::Ring(client.inbox),
        Cell::Ring(fuller),
        Cell::Number(client.waiting_senders.into()),
        Cell::Rate(client.missed.per_second),
        Cell::Time(client.service.p50_ns),
        Cell::Time(client.service.p99_ns),
        Cell::Time(client.wake.p50_ns),
        Cell::Time(client.wake.p99_ns),
        Cell::Percent(client.cpu_percent),
        Cell::Number(client.links.into()),
    ]
}

fn link_cells(link: &Link) -> Vec<Cell> {
    vec![
        Cell::Text(shown(&link.caller)),
        Cell::Text(shown(&link.callee)),
        Cell::Rate(link.requests.per_second),
        Cell::Number(link.requests.total.saturating_sub(link.served.total)),
        Cell::Bytes(link.bytes_out.per_second),
        Cell::Bytes(link.bytes_in.per_second),
        Cell::Time(link.service.p50_ns),
        Cell::Time(link.service.p99_ns),
        Cell::Seconds(link.age_seconds),
    ]
}

fn topic_cells(topic: &Topic) -> Vec<Cell> {
    vec![
        Cell::Text(shown(&topic.topic)),
        Cell::Text(shown(&topic.publisher)),
        Cell::Rate(topic.samples.per_second),
        Cell::Bytes(topic.bytes.per_second),
        Cell::Number(topic.subscriptions.into()),
        Cell::Size(topic.ring_size),
        Cell::Seconds(topic.age_seconds),
    ]
}

/// A name that others chose, without anything that controls a terminal.
pub fn shown(name: &str) -> String {
    out::readable(name.as_bytes())
}

impl Cell {
    /// In as many characters as its column has. A rate that is not known yet is `-`.
    pub fn text(&self) -> String {
        match self {
            Cell::Text(text) => text.clone(),
            Cell::Rate(rate) => or_dash(*rate, |rate| self::rate(rate, 1000)),
            Cell::Bytes(rate) => or_dash(*rate, |rate| self::rate(rate, 1024)),
            Cell::Number(number) => short(*number, 1000),
            Cell::Size(bytes) => readable_bytes(usize::try_from(*bytes).unwrap_or(usize::MAX)),
            Cell::Ring(ring) => percent(ring.fraction() * 100.0),
            Cell::Time(time) => or_dash(*time, time_text),
            Cell::Percent(share) => or_dash(*share, percent),
            Cell::Seconds(seconds) => readable_time(Duration::from_secs_f64(seconds.clamp(0.0, 1e15))),
        }
    }

    fn compare(&self, other: &Cell) -> Ordering {
        match (self, other) {
            (Cell::Text(one), Cell::Text(other)) => one.cmp(other),
            _ => self.value().total_cmp(&other.value()),
        }
    }

    /// What is not known is less than all else.
    fn value(&self) -> f64 {
        match self {
            Cell::Text(_) => 0.0,
            Cell::Rate(value) | Cell::Bytes(value) | Cell::Percent(value) => value.unwrap_or(-1.0),
            Cell::Number(value) | Cell::Size(value) => *value as f64,
            Cell::Time(value) => value.map_or(-1.0, |value| value as f64),
            Cell::Ring(ring) => ring.fraction(),
            Cell::Seconds(value) => *value,
        }
    }
}

fn or_dash<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), text)
}

/// A number a second in five characters at most: `0`, `0.3`, `9.9`, `123`, `4.56M`.
pub fn rate(rate: f64, thousand: u64) -> String {
    if rate <= 0.0 {
        "0".to_owned()
    } else if rate < 0.1 {
        "<0.1".to_owned()
    } else if rate < 9.95 {
        format!("{rate:.1}")
    } else {
        short(rate.round() as u64, thousand)
    }
}

/// Nanoseconds in five characters at most: `850ns`, `1.2µs`, `12ms`.
pub fn time_text(nanoseconds: u64) -> String {
    let value = nanoseconds as f64;
    let (value, unit) = match nanoseconds {
        0..1_000 => return format!("{nanoseconds}ns"),
        // What would be rounded up to four digits belongs to the next unit.
        1_000..999_500 => (value / 1e3, "µs"),
        999_500..999_500_000 => (value / 1e6, "ms"),
        _ => (value / 1e9, "s"),
    };
    if value < 9.95 { format!("{value:.1}{unit}") } else { format!("{value:.0}{unit}") }
}

/// A share in four characters: `0%`, `0.4%`, `35%`, `100%`.
pub fn percent(share: f64) -> String {
    if share <= 0.0 {
        "0%".to_owned()
    } else if share < 9.95 {
        format!("{:.1}%", share.max(0.1))
    } else {
        format!("{share:.0}%")
    }
}

impl Bus {
    /// Leaves out what does not pass the filter.
    pub fn keep(&mut self, filter: &str) {
        self.clients.retain(|client| client.passes(filter));
        self.links.retain(|link| link.passes(filter));
        self.topics.retain(|topic| topic.passes(filter));
    }
}

impl Client {
    fn passes(&self, filter: &str) -> bool {
        matches(filter, &self.name)
    }
}

impl Link {
    fn passes(&self, filter: &str) -> bool {
        matches(filter, &self.caller) || matches(filter, &self.callee)
    }
}

impl Topic {
    fn passes(&self, filter: &str) -> bool {
        matches(filter, &self.topic) || matches(filter, &self.publisher)
    }
}

/// Whether a name contains the parts of the pattern that are between its `*`, one behind the other. Upper and
/// lower case are the same.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_lowercase(), name.to_lowercase());
    let mut rest = name.as_str();
    pattern.split('*').all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::super::bus::Count;
    use super::*;

    fn client(name: &str, calls: f64) -> Client {
        let calls = Count { total: 1, per_second: Some(calls) };
        Client { name: name.into(), key: format!("KEY {name}"), calls, ..Client::default() }
    }

    fn order(bus: &Bus, filter: &str, sort: Sort, reverse: bool) -> Vec<String> {
        View::Clients.rows(bus, filter, sort, reverse).into_iter().map(|row| row.client).collect()
    }

    #[test]
    fn rows_are_filtered_and_ordered() {
        let clients =
            vec![client("bob", 5.0), client("alice", 0.0), client("Carol", 70.0), client("al", 5.0)];
        let bus = Bus { clients, ..Bus::default() };
        assert_eq!(order(&bus, "", Sort::Name, false), ["Carol", "al", "alice", "bob"]);
        assert_eq!(order(&bus, "", Sort::Name, true), ["bob", "alice", "al", "Carol"]);
        assert_eq!(order(&bus, "", Sort::Calls, false), ["Carol", "al", "bob", "alice"]);
        assert_eq!(order(&bus, "", Sort::Calls, true), ["alice", "al", "bob", "Carol"]);
        assert_eq!(order(&bus, "AL", Sort::Calls, false), ["al", "alice"]);
        assert_eq!(order(&bus, "c*l", Sort::Name, false), ["Carol"]);
        assert_eq!(order(&bus, "x", Sort::Name, false), [""; 0]);
        // Clients have no age.
        assert_eq!(order(&bus, "", Sort::Age, false), order(&bus, "", Sort::Name, false));
    }

    #[test]
    fn what_is_not_known_yet_comes_last() {
        let mut new = client("a", 0.0);
        new.calls.per_second = None;
        let bus = Bus { clients: vec![new, client("b", 0.0)], ..Bus::default() };
        assert_eq!(order(&bus, "", Sort::Calls, false), ["b", "a"]);
    }

    #[test]
    fn links_of_the_same_clients_are_different_rows() {
        let link = |caller: &str| Link { caller: caller.into(), callee: "bob".into(), ..Link::default() };
        let bus = Bus { links: vec![link("a"), link("b"), link("a")], ..Bus::default() };
        let rows = View::Links.rows(&bus, "", Sort::Name, false);
        let ids: Vec<&Id> = rows.iter().map(|row| &row.id).collect();
        assert!(ids[0] != ids[1] && ids[1] != ids[2]);
        assert_eq!(View::Links.rows(&bus, "bob", Sort::Name, false).len(), 3, "either name is looked at");
    }

    #[test]
    fn columns_are_left_out_until_the_rest_fits() {
        for view in View::ALL {
            for room in 0..=300 {
                let fitting = view.fitting(&[], room);
                let used: u16 =
                    fitting.iter().map(|(_, width)| width).sum::<u16>() + fitting.len() as u16 - 1;
                assert!(used <= room, "{view:?} {room}: {used}");
                assert_eq!(fitting[0].0, 0, "the name is always there");
            }
            assert_eq!(view.fitting(&[], 300).len(), view.columns().len());
        }
        let headings: Vec<&str> =
            View::Clients.fitting(&[], 80).iter().map(|(at, _)| CLIENTS[*at].heading).collect();
        let wanted = [
            "NAME", "CALLS/s", "MSGS/s", "SMPL/s", "BYTES/s", "INBOX", "WAIT", "LOST/s", "SVC99", "WAKE99",
            "CPU",
        ];
        assert_eq!(headings, wanted);
    }

    #[test]
    fn names_get_the_room_that_is_left() {
        let bus = Bus { clients: vec![client(&"x".repeat(40), 0.0)], ..Bus::default() };
        let rows = View::Clients.rows(&bus, "", Sort::Name, false);
        assert_eq!(View::Clients.fitting(&rows, 80)[0].1, 14);
        assert_eq!(View::Clients.fitting(&rows, 300)[0].1, 40);
    }

    #[test]
    fn each_row_has_a_cell_for_each_column() {
        assert_eq!(client_cells(&Client::default()).len(), CLIENTS.len());
        assert_eq!(link_cells(&Link::default()).len(), LINKS.len());
        assert_eq!(topic_cells(&Topic::default()).len(), TOPICS.len());
    }

    #[test]
    fn numbers_fit_their_columns() {
        for (value, text) in [
            (0.0, "0"),
            (0.01, "<0.1"),
            (0.31, "0.3"),
            (9.94, "9.9"),
            (9.96, "10"),
            (99_999.4, "99999"),
            (1e5, "100k"),
        ] {
            assert_eq!(rate(value, 1000), text);
        }
        for (value, text) in [
            (0, "0ns"),
            (999, "999ns"),
            (1_000, "1.0µs"),
            (9_949, "9.9µs"),
            (9_951, "10µs"),
            (999_499, "999µs"),
            (999_500, "1.0ms"),
            (999_500_000, "1.0s"),
            (68_719_476_736, "69s"),
        ] {
            assert_eq!(time_text(value), text);
            assert!(text.chars().count() <= 5);
        }
        for (value, text) in [(0.0, "0%"), (0.01, "0.1%"), (9.94, "9.9%"), (9.96, "10%"), (100.0, "100%")] {
            assert_eq!(percent(value), text);
        }
        let most = [f64::MAX, f64::INFINITY, f64::NAN].map(|value| rate(value, 1024));
        assert!(most.iter().all(|text| text.chars().count() <= 5), "{most:?}");
        assert_eq!(Cell::Seconds(f64::MAX).text(), Cell::Seconds(1e15).text());
    }

    #[test]
    fn a_hostile_name_is_escaped() {
        let bus = Bus { clients: vec![client("a\x1b[2Jb\u{202e}", 1.0)], ..Bus::default() };
        let rows = View::Clients.rows(&bus, "", Sort::Name, false);
        assert_eq!(rows[0].cells[0].text(), "a\\u{1b}[2Jb\\u{202e}");
    }

    #[test]
    fn patterns_are_parts_in_their_order() {
        for (pattern, name, fits) in [
            ("", "alice", true),
            ("*", "", true),
            ("LIC", "alice", true),
            ("a*e", "alice", true),
            ("e*a", "alice", false),
            ("prices/*/last", "prices/AAPL/last", true),
            ("aa", "a", false),
            ("É", "é", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }
}
