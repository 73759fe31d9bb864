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
