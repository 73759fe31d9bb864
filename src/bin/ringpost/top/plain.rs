//! What `ringpost top` prints where there is no terminal: tables, or with `--json` one object a look.

use std::time::Duration;

use jiff::ZonedDateTime;

use super::bus::{Bus, Count};
use super::draw::aligned;
use super::state::State;
use super::table::{View, percent, rate};
use ringpost::cli::args::readable_time;
use ringpost::cli::stats::thousands;

/// One look as text. The terminal's `width` is `None` if the text is for a file or another program.
pub fn text(state: &State, width: Option<usize>) -> String {
    let mut text = summary(&state.bus);
    for view in View::ALL {
        let rows = view.rows(&state.bus, &state.filter, state.sort, state.reverse);
        if rows.is_empty() {
            continue;
        }
        let columns = view.columns();
        let room = width.map_or(u16::MAX, |width| u16::try_from(width).unwrap_or(u16::MAX));
        let fitting = view.fitting(&rows, room);
        let mut line = |cells: &mut dyn Iterator<Item = String>| {
            let cells: Vec<String> = cells
                .zip(&fitting)
                .map(|(cell, &(at, width))| aligned(&cell, width, columns[at].names))
                .collect();
            text.push_str(cells.join(" ").trim_end());
            text.push('\n');
        };
        line(&mut fitting.iter().map(|&(at, _)| columns[at].heading.to_owned()));
        for row in &rows {
            line(&mut fitting.iter().map(|&(at, _)| row.cells[at].text()));
        }
    }
    text
}

/// The line about the server, with the time of the look.
fn summary(bus: &Bus) -> String {
    let server = &bus.server;
    let per_second =
        |count: Count, thousand| count.per_second.map_or("-".into(), |value| rate(value, thousand));
    format!(
        "{} up {}, {} clients, calls {}/s, messages {}/s, in {}/s, out {}/s, cpu {}, died {}, violations {}, refused {}\n",
        ZonedDateTime::now().strftime("%H:%M:%S"),
        readable_time(Duration::from_secs_f64(bus.uptime_seconds.clamp(0.0, 1e15))),
        thousands(server.clients.into()),
        per_second(server.calls, 1000),
        per_second(server.messages, 1000),
        per_second(server.bytes_in, 1024),
        per_second(server.bytes_out, 1024),
        server.cpu_percent.map_or("-".into(), percent),
        thousands(server.died.total),
        thousands(server.violations.total),
        thousands(server.refused.total),
    )
}
