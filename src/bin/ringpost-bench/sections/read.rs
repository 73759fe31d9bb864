//! Reads and formats values of the measurements' JSON objects. Missing values are shown as missing.

use serde_json::Value;

use crate::plot::{Axis, Line, Scale};
use crate::rows;
use ringpost::cli::args::readable_bytes;
use ringpost::cli::stats::nanoseconds;

/// Shown in place of a missing value.
pub const MISSING: &str = "–";

pub fn number(object: &Value, path: &str) -> f64 {
    object.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

fn shown(value: f64, show: impl FnOnce(f64) -> String) -> String {
    if value.is_nan() { MISSING.into() } else { show(value) }
}

pub fn time(object: &Value, path: &str) -> String {
    shown(number(object, path), nanoseconds)
}

pub fn ratio(object: &Value, path: &str) -> String {
    shown(number(object, path), rows::ratio)
}

/// Stands behind a ratio that is not the quotient of the two values beside it.
pub const PAIRS: char = '†';

/// The ratio of pairs of blocks, with a mark if it differs by more than a tenth from the quotient of the two
/// medians that stand beside it.
pub fn pairs(object: &Value, ours: &str, floor: &str, to: &str) -> String {
    let quotient = number(object, ours) / number(object, floor);
    let differs = (number(object, to) / quotient - 1.0).abs() > 0.1;
    let shown = ratio(object, to);
    if differs { format!("{shown} {PAIRS}") } else { shown }
}

/// The same for blocks of a measurement and of its floor.
pub fn paired(object: &Value, path: &str) -> String {
    let [ours, floor, to] = ["ns", "floor_ns", "ratio"].map(|field| format!("{path}/{field}/p50"));
    pairs(object, &ours, &floor, &to)
}

/// A rate in millions.
pub fn millions(object: &Value, path: &str) -> String {
    shown(number(object, path), |value| format!("{:.2} M", value / 1e6))
}

pub fn bandwidth(object: &Value, path: &str) -> String {
    shown(number(object, path), |value| format!("{:.2} GB/s", value / 1e9))
}

pub fn percent(object: &Value, path: &str) -> String {
    shown(number(object, path), |value| format!("{:.1} %", value * 100.0))
}

/// A number without a fraction.
pub fn whole(object: &Value, path: &str) -> String {
    shown(number(object, path), |value| ringpost::cli::stats::thousands(value.round() as u64))
}

/// A number as it is.
pub fn plain(object: &Value, path: &str) -> String {
    shown(number(object, path), |value| value.to_string())
}

/// A number with one digit of its fraction.
pub fn tenths(object: &Value, path: &str) -> String {
    shown(number(object, path), |value| format!("{value:.1}"))
}

pub fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or(MISSING)
}

pub fn list<'a>(object: &'a Value, path: &str) -> &'a [Value] {
    object.pointer(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub fn size(object: &Value, path: &str) -> String {
    shown(number(object, path), |value| readable_bytes(value as usize))
}

/// The values of one field in a list of objects.
pub fn numbers(rows: &[Value], path: &str) -> Vec<f64> {
    rows.iter().map(|row| number(row, path)).filter(|value| value.is_finite()).collect()
}

/// The points of a list of objects, where both values exist. The second value is divided by `unit`.
pub fn points(rows: &[Value], x: &str, y: &str, unit: f64) -> Vec<(f64, f64)> {
    let points = rows.iter().map(|row| (number(row, x), number(row, y) / unit));
    points.filter(|point| point.0.is_finite() && point.1.is_finite() && point.1 > 0.0).collect()
}

/// The points of a distribution.
pub fn distribution(object: &Value, path: &str) -> Vec<(f64, f64)> {
    points(list(object, path), "/0", "/1", 1.0)
}

pub fn line(name: &str, points: Vec<(f64, f64)>) -> Line {
    Line { name: name.into(), points }
}

/// An axis of times.
pub fn times(label: &'static str, ticks: Vec<f64>) -> Axis {
    Axis { label, scale: Scale::Log, text: short_time, ticks }
}

/// Formats a time without trailing zeros.
pub fn short_time(value: f64) -> String {
    let (value, unit) = match value {
        value if value < 1e3 => (value, "ns"),
        value if value < 1e6 => (value / 1e3, "µs"),
        value if value < 1e9 => (value / 1e6, "ms"),
        value => (value / 1e9, "s"),
    };
    format!("{} {unit}", (value * 100.0).round() / 100.0)
}

/// The three times of a spread.
pub fn spread(object: &Value, path: &str) -> [String; 3] {
    ["p10", "p50", "p90"].map(|field| time(object, &format!("{path}/{field}")))
}

/// A row of a table: its name, then the other cells.
pub fn row(name: &str, cells: impl IntoIterator<Item = String>) -> Vec<String> {
    std::iter::once(name.to_string()).chain(cells).collect()
}

/// The headings of a table of percentiles.
pub const PERCENTILES: [&str; 7] = ["", "min", "p50", "p90", "p99", "p99.9", "max"];

pub fn percentiles(name: &str, object: &Value, path: &str) -> Vec<String> {
    let fields = ["min", "p50", "p90", "p99", "p999", "max"];
    row(name, fields.map(|field| time(object, &format!("{path}/{field}"))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn missing_values_are_shown_as_missing() {
        let object = json!({"a": 1500, "rows": [{"x": 1, "y": 2}, {"x": 2}]});
        assert_eq!((time(&object, "/a"), time(&object, "/b")), ("1.50 µs".into(), MISSING.into()));
        assert_eq!(points(list(&object, "/rows"), "/x", "/y", 2.0), [(1.0, 1.0)]);
        assert_eq!(text(&object, "/a"), MISSING);
        assert_eq!(short_time(10_000.0), "10 µs");
    }

    #[test]
    fn one_value_is_rounded_to_one_text() {
        let object = json!({"a": 859.6, "b": 1_234_567.5});
        assert_eq!((time(&object, "/a"), whole(&object, "/a")), ("860 ns".into(), "860".into()));
        assert_eq!(whole(&object, "/b"), "1,234,568");
    }

    #[test]
    fn a_ratio_that_is_not_the_quotient_beside_it_has_a_mark() {
        let object = json!({"ns": 8_370, "floor": 8_130, "ratio": 1.89, "near": 1.1});
        assert_eq!(pairs(&object, "/ns", "/floor", "/ratio"), "1.89 †");
        assert_eq!(pairs(&object, "/ns", "/floor", "/near"), "1.10");
        assert_eq!(pairs(&object, "/ns", "/none", "/near"), "1.10", "nothing stands beside it");
        assert_eq!(pairs(&object, "/ns", "/floor", "/none"), MISSING);
    }
}
