//! Formats the tables and cells that several measurements print.

use ringpost::cli::stats::{Spread, Summary, nanoseconds};
use ringpost::cli::table::Table;

/// A table of percentiles, a row for each summary. The last two are shown if all rows have them.
pub fn percentiles<N: Into<String>>(heading: &str, rows: impl IntoIterator<Item = (N, Summary)>) -> String {
    let rows: Vec<(N, Summary)> = rows.into_iter().collect();
    let shown = |of: fn(&Summary) -> Option<u64>| rows.iter().all(|(_, summary)| of(summary).is_some());
    let more = [shown(|summary| summary.p9999), shown(|summary| summary.p99999)];
    let headings = [" | p99.99", " | p99.999"].iter().zip(more).filter(|(_, shown)| *shown);
    let headings: String = headings.map(|(heading, _)| *heading).collect();
    let mut table = Table::new(&format!("{heading} | min | p50 | p90 | p99 | p99.9{headings} | max"));
    for (name, Summary { min, p50, p90, p99, p999, p9999, p99999, max }) in rows {
        let usual = [min, p50, p90, p99, p999].map(Some);
        let rare = [p9999, p99999].into_iter().zip(more).filter(|(_, shown)| *shown).map(|(time, _)| time);
        let times = usual.into_iter().chain(rare).chain([Some(max)]).flatten();
        table.row(std::iter::once(name.into()).chain(times.map(|time| nanoseconds(time as f64))));
    }
    table.text()
}

/// A name and the three times of a spread.
pub fn spread(name: &str, Spread { p10, p50, p90 }: Spread) -> [String; 4] {
    [name.into(), nanoseconds(p10), nanoseconds(p50), nanoseconds(p90)]
}

/// The three ratios of a spread.
pub fn ratios(Spread { p10, p50, p90 }: Spread) -> [String; 3] {
    [p10, p50, p90].map(ratio)
}

/// A ratio, with three digits and no more than three behind the point.
pub fn ratio(value: f64) -> String {
    let digits = match value {
        small if small < 0.095 => 3,
        usual if usual < 9.995 => 2,
        large => usize::from(large < 99.95),
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_have_three_digits() {
        assert_eq!(
            [0.0054, 0.1, 1.204, 9.996, 50.8, 386.7].map(ratio),
            ["0.005", "0.10", "1.20", "10.0", "50.8", "387"]
        );
    }
}
