//! Formats the tables and cells that several measurements print.

use ringpost::cli::stats::{Spread, Summary, nanoseconds};
use ringpost::cli::table::Table;

/// A table of percentiles, a row for each summary.
pub fn percentiles<N: Into<String>>(heading: &str, rows: impl IntoIterator<Item = (N, Summary)>) -> String {
    let mut table = Table::new(&format!("{heading} | min | p50 | p90 | p99 | p99.9 | max"));
    for (name, Summary { min, p50, p90, p99, p999, max }) in rows {
        let times = [min, p50, p90, p99, p999, max].map(|time| nanoseconds(time as f64));
        table.row(std::iter::once(name.into()).chain(times));
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

/// A ratio.
pub fn ratio(value: f64) -> String {
    format!("{value:.2}")
}
