//! The table for people, and the object for programs.

use std::fmt::Write as _;
use std::io::Write as _;

use serde::Serialize;

use crate::failure::{OrFail, Outcome};
use crate::machine::Machine;
use crate::peers::{ALL, Kind};
use crate::result::Entry;

/// The versions that were built.
const LOCK: &str = include_str!("../Cargo.lock");

/// The version of a crate that this program was built with.
pub fn locked(name: &str) -> String {
    let wanted = format!("name = \"{name}\"");
    let mut lines = LOCK.lines().skip_while(|line| *line != wanted);
    let version = lines.nth(1).and_then(|line| line.strip_prefix("version = \""));
    version.map_or_else(|| "unknown".to_string(), |version| version.trim_end_matches('"').to_string())
}

#[derive(Serialize)]
struct Report<'a> {
    machine: &'a Machine,
    rounds: u32,
    milliseconds: u64,
    entries: &'a [Entry],
}

pub fn print(json: bool, machine: &Machine, rounds: u32, milliseconds: u64, entries: &[Entry]) -> Outcome {
    let text = if json {
        let report = Report { machine, rounds, milliseconds, entries };
        let mut text = serde_json::to_string(&report).or_fail("write the result")?;
        text.push('\n');
        text
    } else {
        table(machine, rounds, milliseconds, entries)
    };
    show(&text)
}

/// The names for `--only`.
pub fn list() -> Outcome {
    let mut text = String::new();
    for peer in ALL {
        let _ = writeln!(text, "{:<24}  {}", peer.name, peer.what);
    }
    show(&text)
}

fn show(text: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).or_fail("write to standard output")
}

fn table(machine: &Machine, rounds: u32, milliseconds: u64, entries: &[Entry]) -> String {
    let Machine { cpu, kernel, pins, same_core } = machine;
    let core = match same_core {
        Some(true) => ", two hyper-threads of one core: better times than two cores would give",
        _ => "",
    };
    let mut text = format!(
        "{cpu}, Linux {kernel}; client on CPU {}, server on CPU {}{core}\n\
         {rounds} rounds in turn, {milliseconds} ms for each peer in each; every response or message is compared whole\n",
        pins.client, pins.server
    );
    for kind in Kind::ALL {
        let of_kind = entries.iter().filter(|entry| entry.kind == kind);
        let mut sizes: Vec<(usize, u32)> = of_kind.map(|entry| (entry.size, entry.readers)).collect();
        sizes.sort_unstable();
        sizes.dedup();
        // The words of the floor have a size of their own, which is none of a message.
        sizes.retain(|&(size, _)| size > 8);
        for (size, readers) in sizes {
            section(&mut text, kind, size, readers, entries);
        }
    }
    text
}

fn section(text: &mut String, kind: Kind, size: usize, readers: u32, entries: &[Entry]) {
    let lines: Vec<&Entry> = entries
        .iter()
        .filter(|entry| {
            let beside = entry.size == size || Some(entry.peer) == kind.floor();
            (entry.kind == kind || Some(entry.peer) == kind.floor()) && beside && entry.readers == readers
        })
        .collect();
    let width = lines.iter().map(|entry| entry.peer.len()).max().unwrap_or(0);
    let tail = if matches!(kind, Kind::OneWay | Kind::Publish) { "p99 block" } else { "p99" };
    // In the column of the ratio, where there is none.
    let floor = match kind {
        Kind::Publish => "received",
        _ => kind.floor().map_or("", |_| "x floor"),
    };
    let readers = match (kind, readers) {
        (Kind::FanOut, 1) => ", 1 reader".to_string(),
        (Kind::FanOut, _) => format!(", {readers} readers"),
        _ => String::new(),
    };
    let _ = writeln!(text, "\n{} ({size} bytes{readers})", kind.title());
    let _ = writeln!(text, "  {:<width$}  {:>10}  {tail:>10}  {:>21}  {floor:>8}", "", "median", "rounds");
    for entry in lines {
        let _ = write!(text, "  {:<width$}", entry.peer);
        if let Some(summary) = entry.summary {
            let range = format!("{} to {}", time(summary.lowest), time(summary.highest));
            let received = summary.received.map(|part| format!("{:.1} %", part * 100.0));
            let ratio = summary.ratio.map(|ratio| format!("{ratio:.2}")).or(received).unwrap_or_default();
            let (median, p99) = (time(summary.median), time(summary.p99));
            let _ = write!(text, "  {median:>10}  {p99:>10}  {range:>21}  {ratio:>8}");
        }
        if let Some(why) = &entry.failure {
            let _ = write!(text, "  {why}");
        } else {
            let version = entry.version.as_ref().map_or(String::new(), |version| format!(" ({version})"));
            let _ = write!(text, "  {}{version}", entry.what);
        }
        text.push('\n');
    }
}

/// Nanoseconds with three digits and a unit.
fn time(nanoseconds: f64) -> String {
    let (value, unit) = match nanoseconds {
        ns if ns < 999.5 => (ns, "ns"),
        ns if ns < 999_500.0 => (ns / 1e3, "µs"),
        ns => (ns / 1e6, "ms"),
    };
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        for (nanoseconds, text) in [
            (7.25, "7.25 ns"),
            (9.999, "10.0 ns"),
            (105.2, "105 ns"),
            (999.7, "1.00 µs"),
            (12_345.0, "12.3 µs"),
            (999_900.0, "1.00 ms"),
            (1.5e9, "1500 ms"),
        ] {
            assert_eq!(time(nanoseconds), text);
        }
    }

    #[test]
    fn the_versions_are_those_that_were_built() {
        for name in ["iceoryx2", "ipc-channel", "rtrb", "crossbeam-channel", "crossbeam-queue", "ringpost"] {
            assert!(locked(name).contains('.'), "{name}: {}", locked(name));
        }
        assert_eq!(locked("no such crate"), "unknown");
    }
}
