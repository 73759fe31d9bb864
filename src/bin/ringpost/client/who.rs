//! The table of `/who`, in as many columns as fit.

use ringpost::{ClientInfo, ClientState};
use unicode_width::UnicodeWidthStr;

use super::keybook::Keybook;
use ringpost::cli::out;

/// The columns, the dispensable ones last.
const HEADINGS: [&str; 8] = ["NAME", "KEY", "STATE", "PID", "UID", "CALLS", "SENT", "RECEIVED"];

/// So many columns are always shown.
const LEAST: usize = 2;

/// Names are shortened to no less than this.
const SHORTEST: usize = 8;

/// Formats the clients as a table that fits into so many columns, if that is possible. Without a limit it has
/// all of its columns.
pub fn table(mut clients: Vec<ClientInfo>, keys: &Keybook, columns: Option<usize>) -> String {
    clients.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    keys.add(clients.iter().map(|client| client.key));
    let rows: Vec<[String; 8]> = clients.iter().map(|client| row(client, keys)).collect();
    fit(rows, columns.unwrap_or(usize::MAX))
}

fn row(client: &ClientInfo, keys: &Keybook) -> [String; 8] {
    let counters = client.counters;
    [
        out::readable(client.name.as_bytes()),
        keys.short(client.key),
        match client.state {
            ClientState::Live if client.serves => "serving".to_owned(),
            state => state.to_string(),
        },
        client.pid.to_string(),
        client.uid.to_string(),
        counters.calls.to_string(),
        counters.sent.to_string(),
        counters.received.to_string(),
    ]
}

/// Leaves out columns until the rest fits, and then shortens the names.
fn fit(mut rows: Vec<[String; 8]>, columns: usize) -> String {
    let width = |rows: &[[String; 8]], column: usize| {
        let cells = rows.iter().map(|row| row[column].width());
        cells.chain([HEADINGS[column].len()]).max().unwrap_or(0)
    };
    let mut widths: [usize; 8] = std::array::from_fn(|column| width(&rows, column));
    let total = |widths: &[usize]| widths.iter().map(|width| width + 2).sum::<usize>() - 2;
    // The last column of a terminal stays free.
    let room = columns.saturating_sub(1);
    let mut shown = HEADINGS.len();
    while shown > LEAST && total(&widths[..shown]) > room {
        shown -= 1;
    }
    let excess = total(&widths[..shown]).saturating_sub(room);
    if excess > 0 {
        let most = widths[0].saturating_sub(excess).max(SHORTEST);
        rows.iter_mut().for_each(|row| shorten(&mut row[0], most));
        widths[0] = width(&rows, 0);
    }
    let headings = HEADINGS.map(str::to_owned);
    let mut text = String::new();
    for row in std::iter::once(&headings).chain(&rows) {
        let mut line = String::new();
        for (column, cell) in row[..shown].iter().enumerate() {
            let padding = " ".repeat(widths[column] - cell.width());
            let gap = if column == 0 { "" } else { "  " };
            // Numbers stand on the right.
            let (before, after) = if column < 3 { ("", padding.as_str()) } else { (padding.as_str(), "") };
            line.push_str(&format!("{gap}{before}{cell}{after}"));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Shortens a text to so many columns, the last of which then says so.
fn shorten(text: &mut String, most: usize) {
    if text.width() <= most {
        return;
    }
    while text.width() + 1 > most {
        text.pop();
    }
    text.push('\u{2026}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<[String; 8]> {
        [["a name of some length", "0040", "live", "4194304", "65534", "7", "12", "3"]]
            .map(|row| row.map(str::to_owned))
            .to_vec()
    }

    #[test]
    fn columns_are_left_out_and_names_shortened_until_the_table_fits() {
        let whole = fit(rows(), usize::MAX);
        assert_eq!(whole.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(), HEADINGS);
        for columns in 19..90 {
            let table = fit(rows(), columns);
            let widest = table.lines().map(|line| line.width()).max().unwrap();
            assert!(widest < columns, "{columns}:\n{table}");
            assert!(table.contains("KEY") && table.contains("0040"), "{columns}:\n{table}");
        }
        assert_eq!(fit(rows(), 80), whole);
        assert_eq!(fit(rows(), 20), "NAME           KEY\na name of so\u{2026}  0040\n");
        assert_eq!(fit(rows(), 1), "NAME      KEY\na name \u{2026}  0040\n");
    }
}
