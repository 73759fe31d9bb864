//! What a report has found at a glance: the short tables and sentences that its page and the documents share.

mod calls;
mod peers;
mod rest;
mod results;

pub use calls::place;
pub use rest::{observed, topics};

use crate::results::Results;
use crate::sections::read::PAIRS;

/// A table or a sentence.
#[derive(Debug, PartialEq)]
pub enum Content {
    Table {
        headings: Vec<String>,
        rows: Vec<Vec<String>>,
    },
    /// Text for the middle of a paragraph.
    Text(String),
    /// What a picture shows, in words.
    Picture(String),
}

impl Content {
    /// A table; none without a row.
    fn table(headings: &[&str], rows: Vec<Vec<String>>) -> Option<Content> {
        let headings = headings.iter().map(ToString::to_string).collect();
        (!rows.is_empty()).then_some(Content::Table { headings, rows })
    }
}

/// One of them.
pub struct Part {
    /// Its name in the marks of the documents.
    pub name: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// The measurements that it is made of; none for the comparison with other systems.
    pub of: &'static [&'static str],
    /// Whether the page has it.
    pub on_page: bool,
    /// Makes it, if there are its figures.
    pub make: fn(&Results) -> Option<Content>,
}

impl Part {
    const fn new(
        name: &'static str,
        title: &'static str,
        of: &'static [&'static str],
        make: fn(&Results) -> Option<Content>,
    ) -> Part {
        Part { name, title, of, on_page: true, make }
    }

    /// For the documents only.
    const fn off_page(self) -> Part {
        Part { on_page: false, ..self }
    }

    /// When and with what it was measured.
    pub fn measured(&self, results: &Results) -> String {
        let ran = || self.of.iter().filter_map(|name| results.ran(name));
        let dates = || ran().filter_map(|ran| ran.began.split(' ').next());
        let (Some(first), Some(last)) = (dates().min(), dates().max()) else { return String::new() };
        let days = if first == last { format!("on {first}") } else { format!("from {first} to {last}") };
        match ran().count() {
            1 => {
                let command = ran().next().map_or("", |ran| ran.command.trim_end_matches(" --json"));
                format!("Measured {days} by `{command}`.")
            }
            _ => format!("Measured {days}."),
        }
    }
}

/// All of them, in the order of the page.
pub const PARTS: [Part; 15] = [
    Part::new("call", "A call", &["latency"], calls::sentence).off_page(),
    Part::new(
        "rounds",
        "A call of 48 bytes, both ends spinning, each on a CPU of its own",
        &["latency"],
        calls::rounds,
    ),
    Part::new(
        "calls",
        "Calls to the server, and messages",
        &[
            "latency",
            "latency-free",
            "wakeup",
            "gaps",
            "copy",
            "throughput",
            "forward",
            "register",
            "clients",
        ],
        calls::calls,
    ),
    Part::new("links", "Calls from client to client over a link", &["link"], rest::links),
    Part::new("links-idle", "Links that are idle", &["link"], rest::links_idle),
    Part::new("ready", "Ends that wait in event loops", &["ready"], rest::ready),
    Part::new("ready-idle", "Clients that are armed and idle", &["ready"], rest::ready_idle),
    Part::new("topics", "Topics", &["topics"], rest::all_topics),
    Part::new("observe", "Being observed", &["observe"], rest::all_observed),
    Part::new("polling", "Other systems: there and back", &[], peers::polling),
    Part::new("brokers", "Other systems: through a broker", &[], peers::brokers),
    Part::new("named", "Other systems: a method call by name", &[], peers::named),
    Part::new("picture", "The picture in words", &[], peers::picture).off_page(),
    Part::new("machine", "The machine", &[], results::machine).off_page(),
    Part::new(
        "results",
        "The results and what was aimed at",
        &[
            "latency",
            "wakeup",
            "gaps",
            "copy",
            "throughput",
            "clients",
            "register",
            "forward",
            "link",
            "topics",
        ],
        results::results,
    )
    .off_page(),
];

/// What a ratio with a mark means.
pub fn explained() -> String {
    format!(
        "{PAIRS} The median of the ratios of the pairs of blocks, which is not the quotient of the two medians beside it: the \
         speed of the machine changed from block to block, and for both halves of a pair alike."
    )
}

/// Whether a table has a ratio with a mark.
pub fn has_marks(rows: &[Vec<String>]) -> bool {
    rows.iter().flatten().any(|cell| cell.ends_with(PAIRS))
}
