//! What `ringpost ls` prints for people: tables, and what is told about the server.

use ringpost::{ClientInfo, ClientState, LinkInfo, Quotas, ServerInfo, TopicInfo};

use super::{uptime, users};
use ringpost::cli::args::{readable_bytes, readable_time};
use ringpost::cli::out;
use ringpost::cli::stats::{short, thousands};

/// The width of text that is not written to a terminal.
const WIDTH: usize = 80;

/// Formats clients as a table of what they have done, or of their keys. The terminal's `width` is `None` if
/// the text is for a file or another program.
pub fn clients(clients: &[ClientInfo], keys: bool, width: Option<usize>) -> String {
    let headings = ["NAME", "KEY", "STATE", "PID", "UID", "CALLS", "SENT", "RECEIVED", "UNREAD", "IN", "OUT"];
    // A key takes a third of a usual line.
    let columns = (0..headings.len()).filter(|&column| if keys { column < 5 } else { column != 1 });
    let row = |client: &ClientInfo| {
        let counters = client.counters;
        let cells = [
            out::readable(client.name.as_bytes()),
            client.key.to_string(),
            match client.state {
                ClientState::Live if client.serves => "serving".to_owned(),
                state => state.to_string(),
            },
            client.pid.to_string(),
            client.uid.to_string(),
            short(counters.calls, 1000),
            short(counters.sent, 1000),
            short(counters.received, 1000),
            short(counters.delivered.saturating_sub(counters.received), 1000),
            short(counters.bytes_in, 1024),
            short(counters.bytes_out, 1024),
        ];
        columns.clone().map(|column| cells[column].clone()).collect()
    };
    let rows: Vec<Vec<String>> = clients.iter().map(row).collect();
    let headings: Vec<&str> = columns.clone().map(|column| headings[column]).collect();
    table(&headings, &rows, Columns { names: 1, left: if keys { 3 } else { 2 } }, width)
}

/// Formats links as a table.
pub fn links(links: &[LinkInfo], width: Option<usize>) -> String {
    let row = |link: &LinkInfo| {
        let [caller, callee] = [link.caller, link.callee].map(|name| out::readable(name.as_bytes()));
        vec![caller, callee, readable_time(link.age)]
    };
    let rows: Vec<Vec<String>> = links.iter().map(row).collect();
    table(&["CALLER", "CALLEE", "AGE"], &rows, Columns { names: 2, left: 3 }, width)
}

/// Formats topics as a table.
pub fn topics(topics: &[TopicInfo], width: Option<usize>) -> String {
    let row = |topic: &TopicInfo| {
        vec![
            out::readable(topic.topic.as_str().as_bytes()),
            out::readable(topic.publisher.as_bytes()),
            readable_time(topic.age),
            topic.subscriptions.to_string(),
            readable_bytes(topic.ring_size),
        ]
    };
    let rows: Vec<Vec<String>> = topics.iter().map(row).collect();
    let columns = Columns { names: 2, left: 3 };
    table(&["TOPIC", "PUBLISHER", "AGE", "SUBSCRIPTIONS", "RING"], &rows, columns, width)
}

/// The lines about the server, and about what each user may have.
pub fn server(server: &ServerInfo, clients: &[ClientInfo], width: Option<usize>) -> String {
    let about = format!(
        "{} of at most {} clients; server pid {}, ringpost {}, up {}, waits {}, rings of {}, blocks up to {}",
        thousands(clients.len() as u64),
        thousands(server.max_clients.into()),
        server.pid,
        out::readable(server.version.as_bytes()),
        readable_time(uptime(server)),
        server.wait,
        readable_bytes(server.ring_size),
        readable_bytes(server.max_block),
    );
    let width = width.unwrap_or(WIDTH).min(WIDTH);
    let mut text = wrapped(&about, width);
    if let Some(quotas) = server.quotas {
        text.push_str(&wrapped(&limits(quotas, clients), width));
    }
    text
}

fn limits(quotas: Quotas, clients: &[ClientInfo]) -> String {
    let Quotas { asking, clients: most, ring_bytes, spinning, registrations, .. } = quotas;
    let Quotas { links, topics, subscriptions, .. } = quotas;
    let used: Vec<String> =
        users(clients).iter().map(|(uid, clients)| format!("; user {uid} has {clients}")).collect();
    format!(
        "limits for each other user: {most} clients, {links} links, {topics} topics, {subscriptions} subscriptions, {} of \
         rings, {asking} unregistered connections, {spinning} spinning workers, {registrations} registrations per \
         second{}",
        readable_bytes(usize::try_from(ring_bytes).unwrap_or(usize::MAX)),
        used.concat(),
    )
}

/// Which columns of a table are treated in a special way.
struct Columns {
    /// How many of the first ones hold names, which may be longer than there is room for.
    names: usize,
    /// How many of the first ones are left-aligned; the others are right-aligned.
    left: usize,
}

/// Formats a table with columns two spaces apart. Where names make the table wider than the `width`, the
/// longer ones have lines of their own, so that a row fits a terminal and no name is cut.
fn table(headings: &[&str], rows: &[Vec<String>], columns: Columns, width: Option<usize>) -> String {
    let Columns { names, left } = columns;
    let len = |cell: &str| cell.chars().count();
    let widest = |column: usize, most: usize| {
        let cells = rows.iter().map(|row| len(&row[column])).filter(|cell| *cell <= most);
        cells.chain([len(headings[column])]).max().unwrap_or(0)
    };
    let mut widths: Vec<usize> = (0..headings.len()).map(|column| widest(column, usize::MAX)).collect();
    let others = widths[names..].iter().sum::<usize>() + 2 * (headings.len() - 1);
    let wanted = widths[..names].iter().sum::<usize>() + others;
    // A terminal that is too narrow for the other columns cannot be helped.
    if let Some(width) = width.filter(|width| wanted > *width && others < *width) {
        let room = (width - others) / names;
        (0..names).for_each(|column| widths[column] = widest(column, room));
    }
    let mut text = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let (mut row, mut end) = (String::new(), 0);
        for (column, (cell, &width)) in cells.zip(&widths).enumerate() {
            let gap = if column == 0 { "" } else { "  " };
            end += gap.len() + width;
            if len(cell) > width {
                row.push_str(&format!("{gap}{cell}\n{:end$}", ""));
            } else if column < left {
                row.push_str(&format!("{gap}{cell:<width$}"));
            } else {
                row.push_str(&format!("{gap}{cell:>width$}"));
            }
        }
        text.push_str(row.trim_end());
        text.push('\n');
    };
    line(&mut headings.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    text
}

/// Breaks a line behind commas and semicolons, so that its parts fit the width. Later parts are indented.
fn wrapped(text: &str, width: usize) -> String {
    let (mut lines, mut line) = (String::new(), String::new());
    for part in text.replace(", ", ",\n").replace("; ", ";\n").lines() {
        if line.is_empty() {
            line.push_str(part);
        } else if line.chars().count() + 1 + part.chars().count() <= width {
            line = line + " " + part;
        } else {
            lines = lines + &line + "\n";
            line = String::from("  ") + part;
        }
    }
    lines + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(|&cell| cell.to_owned()).collect()).collect()
    }

    #[test]
    fn columns_are_aligned_and_lines_end_without_spaces() {
        let rows = rows(&[&["\u{e9}", "K", "live", "1"], &["longer", "K", "l", "123"]]);
        assert_eq!(
            table(&["NAME", "KEY", "STATE", "N"], &rows, Columns { names: 1, left: 3 }, None),
            "NAME    KEY  STATE    N\n\u{e9}       K    live     1\nlonger  K    l      123\n"
        );
        assert_eq!(table(&["A", "B"], &[], Columns { names: 1, left: 2 }, Some(80)), "A  B\n");
    }

    #[test]
    fn a_name_that_is_too_long_has_a_line_of_its_own() {
        let rows = rows(&[&["short", "x", "1"], &["much longer", "y", "123"], &["z", "long as well", "7"]]);
        let table = |names, width| table(&["NAME", "B", "N"], &rows, Columns { names, left: 2 }, Some(width));
        assert_eq!(
            table(1, 25),
            "NAME   B               N\nshort  x               1\nmuch longer\n       y             123\n\
             z      long as well    7\n"
        );
        assert_eq!(
            table(2, 20),
            "NAME   B    N\nshort  x    1\nmuch longer\n       y  123\nz      long as well\n            7\n"
        );
        assert_eq!(table(2, 30), table(2, 1000));
        assert_eq!(table(1, 3), table(1, 1000));
    }

    #[test]
    fn long_lines_are_broken_behind_their_parts() {
        assert_eq!(wrapped("one, two; three, four", 12), "one, two;\n  three,\n  four\n");
        assert_eq!(wrapped("one of 1,024, two", 80), "one of 1,024, two\n");
        assert_eq!(wrapped("one of 1,024, two", 1), "one of 1,024,\n  two\n");
    }
}
