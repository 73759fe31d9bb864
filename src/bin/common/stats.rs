//! Statistics of measured times: percentiles, ratios, the clock's cost, and formatting.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Collects the times of single operations, in nanoseconds.
pub struct Times {
    histogram: Histogram<u64>,
    least: u64,
    most: u64,
}

/// The percentiles of [`Times`], in nanoseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    pub min: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    /// `None` if fewer than ten of the times lie beyond it; the same for the next.
    #[serde(default)]
    pub p9999: Option<u64>,
    #[serde(default)]
    pub p99999: Option<u64>,
    pub max: u64,
}

/// Fewer times than this say nothing about a percentile that they lie beyond.
const BEYOND: u64 = 10;

/// An operation that took so many nanoseconds longer than its median was stalled.
const STALL: u64 = 1_000;

impl Default for Times {
    /// Makes room for times of up to a minute with three digits of precision.
    fn default() -> Times {
        let histogram =
            Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are a valid constant");
        Times { histogram, least: u64::MAX, most: 0 }
    }
}

impl Times {
    pub fn new() -> Times {
        Times::default()
    }

    pub fn record(&mut self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.least = self.least.min(nanoseconds);
        self.most = self.most.max(nanoseconds);
        self.histogram.saturating_record(nanoseconds);
    }

    /// The percentiles. Minimum and maximum are exact; the others are rounded to the histogram's buckets, but
    /// kept between those two.
    pub fn summary(&self) -> Summary {
        if self.histogram.is_empty() {
            return Summary::default();
        }
        self.summary_of(self.most, |quantile| self.at(quantile))
    }

    fn at(&self, quantile: f64) -> u64 {
        self.histogram.value_at_quantile(quantile).clamp(self.least, self.most)
    }

    fn summary_of(&self, max: u64, at: impl Fn(f64) -> u64) -> Summary {
        let count = self.histogram.len();
        Summary {
            min: self.least,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: (count / 10_000 >= BEYOND).then(|| at(0.9999)),
            p99999: (count / 100_000 >= BEYOND).then(|| at(0.99999)),
            max,
        }
    }

    /// How many times are longer than the median by more than this.
    pub fn longer_by(&self, nanoseconds: u64) -> u64 {
        if self.histogram.is_empty() {
            return 0;
        }
        self.histogram.count_between(self.at(0.5).saturating_add(nanoseconds + 1), u64::MAX)
    }

    /// The percentiles of these times without the stalls that also occur without the measured work. `control`
    /// are the times of operations that were made in turn with these, and `share` is the time that these
    /// took, divided by the time that those took.
    ///
    /// For each time from the longest on: how many are at least so long, less the stalls of the control that
    /// would make one of these so long, times `share`. The percentile is where more than the allowed number
    /// are left. A stall is counted from [`STALL`] on, so that the usual variation of the control takes
    /// nothing away.
    pub fn without_stalls_of(&self, control: &Times, share: f64) -> Summary {
        if self.histogram.is_empty() || control.histogram.is_empty() {
            return self.summary();
        }
        let median = self.at(0.5);
        let from_longest = |times: &Times| {
            let counts =
                times.histogram.iter_recorded().map(|at| (at.value_iterated_to(), at.count_at_value()));
            let mut longest: Vec<(u64, u64)> = counts.collect();
            longest.reverse();
            let mut sum = 0;
            longest.iter_mut().for_each(|(_, count)| {
                sum += *count;
                *count = sum;
            });
            longest
        };
        let (ours, stalls) = (from_longest(self), from_longest(control));
        let stalled = |time: u64| {
            let least = control.at(0.5) + time.saturating_sub(median).max(STALL);
            let place = stalls.partition_point(|&(time, _)| time >= least);
            place.checked_sub(1).map_or(0, |place| stalls[place].1)
        };
        let left: Vec<(u64, f64)> =
            ours.iter().map(|&(time, count)| (time, count as f64 - stalled(time) as f64 * share)).collect();
        let first = |allowed: f64| {
            let place = left.iter().find(|(_, left)| *left > allowed);
            place.map_or(self.least, |(time, _)| (*time).clamp(self.least, self.most))
        };
        let count = self.histogram.len() as f64;
        // Both are values of the histogram's buckets, but not always the same end of one.
        self.summary_of(first(0.5), |quantile| first((1.0 - quantile) * count).min(self.at(quantile)))
    }
}

impl Times {
    /// The distribution, as pairs of a fraction and the time which that fraction does not exceed. The points
    /// get denser towards 1, up to the last fraction that this number of times can resolve.
    pub fn distribution(&self) -> Vec<(f64, u64)> {
        const STEPS: [f64; 9] = [1.0, 0.8, 0.63, 0.5, 0.4, 0.315, 0.25, 0.2, 0.15];
        let count = self.histogram.len() as f64;
        let mut points = Vec::new();
        let mut tail = 1.0;
        while tail * count >= 1.0 {
            for step in STEPS {
                let rest = tail * step;
                if rest * count >= 1.0 {
                    let at = ((1.0 - rest) * 1e9).round() / 1e9;
                    points.push((at, self.at(at)));
                }
            }
            tail /= 10.0;
        }
        points
    }
}

/// The quantile `at` of `values`, interpolated between neighbours; 0 if there are no values.
pub fn quantile(values: &[f64], at: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let position = at.clamp(0.0, 1.0) * last as f64;
    let below = sorted[position.floor() as usize];
    let above = sorted[position.ceil() as usize];
    below + (above - below) * position.fract()
}

/// The 10th, 50th and 90th percentiles of some values.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Spread {
    pub p10: f64,
    pub p50: f64,
    pub p90: f64,
}

impl Spread {
    pub fn of(values: &[f64]) -> Spread {
        Spread {
            p10: tenths(quantile(values, 0.1)),
            p50: tenths(quantile(values, 0.5)),
            p90: tenths(quantile(values, 0.9)),
        }
    }
}

impl Spread {
    /// Like [`of`](Self::of), for ratios: rounded to a thousandth.
    pub fn of_ratios(values: &[f64]) -> Spread {
        let at = |at| thousandths(quantile(values, at));
        Spread { p10: at(0.1), p50: at(0.5), p90: at(0.9) }
    }
}

/// Rounds a ratio to a thousandth.
pub fn thousandths(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// The ratio of each value of `ours` to the value of `theirs` that was measured next to it.
pub fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect()
}

/// Blocks of a measurement and of its floor, measured alternately: nanoseconds, and the ratio of each pair.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Beside {
    pub floor_ns: Spread,
    pub ns: Spread,
    pub ratio: Spread,
}

impl Beside {
    pub fn of(ours: &[f64], floor: &[f64]) -> Beside {
        Beside {
            floor_ns: Spread::of(floor),
            ns: Spread::of(ours),
            ratio: Spread::of_ratios(&ratios(ours, floor)),
        }
    }
}

/// Rounds a time to a tenth of a nanosecond; more digits would be noise.
pub fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Properties of the clock: the smallest step between two readings and the cost of one, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    pub resolution: u64,
    pub cost: f64,
}

/// Measures `Instant`. The cost is the median of several runs, because a run may be interrupted.
pub fn clock() -> Clock {
    const READS: u32 = 1_000;
    let mut resolution = u64::MAX;
    let mut run = || {
        let start = Instant::now();
        let mut last = start;
        for _ in 0..READS {
            let now = Instant::now();
            let step = u64::try_from((now - last).as_nanos()).unwrap_or(u64::MAX);
            if step > 0 {
                resolution = resolution.min(step);
            }
            last = now;
        }
        (last - start).as_nanos() as f64 / f64::from(READS)
    };
    let runs: Vec<f64> = (0..21).map(|_| run()).collect();
    Clock { resolution, cost: tenths(quantile(&runs, 0.5)) }
}

/// Formats a time in nanoseconds with a suitable unit and three digits: `8.9 ns`, `441 ns`, `5.28 µs`. No
/// time is measured to less than a tenth of a nanosecond.
pub fn nanoseconds(value: f64) -> String {
    let (value, unit) = match value {
        ns if ns < 99.95 && ns.fract() != 0.0 => return format!("{ns:.1} ns"),
        ns if ns < 999.5 => return format!("{ns:.0} ns"),
        ns if ns < 999_500.0 => (ns / 1e3, "µs"),
        ns if ns < 999_500_000.0 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {unit}")
}

/// Formats a number with commas between the thousands: `100,000`.
pub fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number in five characters at most: `99999`, `123k`, `4.56M`. From 100,000 on it is rounded down.
pub fn short(number: u64, thousand: u64) -> String {
    if number < 100_000 {
        return number.to_string();
    }
    let units = (1..).map(|power| thousand.saturating_pow(power)).zip(["k", "M", "G", "T", "P", "E"]);
    let Some((unit, name)) = units.into_iter().find(|(unit, _)| number / unit < 1000) else {
        return number.to_string();
    };
    let (whole, rest) = (number / unit, u128::from(number % unit));
    let hundredths = rest * 100 / u128::from(unit);
    match whole {
        0..10 => format!("{whole}.{hundredths:02}{name}"),
        10..100 => format!("{whole}.{}{name}", hundredths / 10),
        _ => format!("{whole}{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_lie_between_minimum_and_maximum() {
        let mut times = Times::new();
        assert_eq!(times.summary().max, 0);
        for nanoseconds in 1..=1_000 {
            times.record(Duration::from_nanos(nanoseconds));
        }
        times.record(Duration::from_secs(3600));
        let summary = times.summary();
        assert_eq!((summary.min, summary.p50, summary.p90), (1, 501, 901));
        assert_eq!(summary.max, 3_600_000_000_000);
        assert!(summary.p99 <= summary.p999 && summary.p999 <= summary.max);
    }

    #[test]
    fn a_percentile_has_ten_times_beyond_it() {
        let mut times = Times::new();
        for _ in 0..99_999 {
            times.record(Duration::from_nanos(7));
        }
        assert_eq!(times.summary().p9999, None);
        times.record(Duration::from_nanos(7));
        assert_eq!((times.summary().p9999, times.summary().p99999), (Some(7), None));
    }

    /// A hundred thousand times with these stalls among them: how many, and how long.
    fn stalled(usual: u64, stalls: &[(u64, u64)]) -> Times {
        let mut times = Times::new();
        let all: u64 = stalls.iter().map(|stall| stall.0).sum();
        (0..100_000 - all).for_each(|_| times.record(Duration::from_nanos(usual)));
        for &(count, long) in stalls {
            (0..count).for_each(|_| times.record(Duration::from_nanos(usual + long)));
        }
        times
    }

    #[test]
    fn stalls_of_the_control_are_taken_away_by_their_length_and_rate() {
        // As many stalls of 50 us as the control has in the same time, and 200 of 8 us that it has not.
        let calls = stalled(100, &[(300, 50_000), (200, 8_000)]);
        assert_eq!((calls.longer_by(1_000), calls.longer_by(10_000)), (500, 300));
        let [none, half, all] = [0, 150, 300].map(|count| {
            let control = stalled(60, &[(count, 50_000)]);
            let without = calls.without_stalls_of(&control, 1.0);
            assert_eq!((without.p50, without.p99), (100, 100));
            (without.p999, without.p9999.unwrap(), without.max)
        });
        let near = |times: (u64, u64, u64), long: [u64; 3]| {
            let times = [times.0, times.1, times.2];
            let near = |(time, long): (u64, u64)| time.abs_diff(long + 100) <= long / 500;
            assert!(times.into_iter().zip(long).all(near), "{times:?}, not {long:?}");
        };
        near(none, [50_000; 3]);
        near(half, [50_000; 3]);
        near(all, [8_000; 3]);
        // Half as many in half of the time are as many.
        let halved = calls.without_stalls_of(&stalled(60, &[(150, 50_000)]), 2.0);
        near((halved.p999, halved.p9999.unwrap(), halved.max), [8_000; 3]);
        // What varies by less than a stall takes nothing away.
        let varies = calls.without_stalls_of(&stalled(60, &[(40_000, 900)]), 1.0);
        near((varies.p999, varies.p9999.unwrap(), varies.max), [50_000; 3]);
    }

    #[test]
    fn a_distribution_rises_up_to_the_last_fraction_it_can_resolve() {
        let mut times = Times::new();
        assert_eq!(times.distribution(), []);
        for nanoseconds in 1..=1_000 {
            times.record(Duration::from_nanos(nanoseconds));
        }
        let points = times.distribution();
        assert!(points.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{points:?}");
        assert_eq!(points[0], (0.0, 1));
        assert_eq!(points.last().unwrap().0, 0.999);
    }

    #[test]
    fn ratios_are_those_of_pairs() {
        let beside = Beside::of(&[2.0, 30.0, 4.0], &[1.0, 10.0, 4.0]);
        assert_eq!((beside.ns.p50, beside.floor_ns.p50, beside.ratio.p50), (4.0, 4.0, 2.0));
    }

    #[test]
    fn quantiles_are_interpolated_between_neighbours() {
        assert_eq!(quantile(&[], 0.5), 0.0);
        assert_eq!(quantile(&[7.0], 0.9), 7.0);
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(quantile(&[1.0, 2.0], 0.5), 1.5);
        assert_eq!(quantile(&[0.0, 10.0], 0.1), 1.0);
    }

    #[test]
    fn times_and_numbers_are_readable() {
        for (value, text) in [
            (0.0, "0 ns"),
            (8.9, "8.9 ns"),
            (98.0, "98 ns"),
            (99.96, "100 ns"),
            (859.6, "860 ns"),
            (999.5, "1.00 µs"),
            (2_610.0, "2.61 µs"),
            (9_996.0, "10.0 µs"),
            (209_400.0, "209 µs"),
            (999_600.0, "1.00 ms"),
            (1_200_000.0, "1.20 ms"),
            (2e9, "2.00 s"),
        ] {
            assert_eq!(nanoseconds(value), text);
        }
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_000), "1,000");
        assert_eq!(thousands(100_000), "100,000");
        assert_eq!(thousands(1_234_567), "1,234,567");
    }

    #[test]
    fn numbers_have_five_characters_at_most() {
        for (number, thousand, text) in [
            (0, 1000, "0"),
            (99_999, 1000, "99999"),
            (100_000, 1000, "100k"),
            (999_999, 1000, "999k"),
            (1_000_000, 1000, "1.00M"),
            (45_678_901, 1000, "45.6M"),
            (100_000, 1024, "97.6k"),
            (1 << 20, 1024, "1.00M"),
            (u64::MAX, 1000, "18.4E"),
            (u64::MAX, 1024, "15.9E"),
        ] {
            assert_eq!(short(number, thousand), text);
        }
    }

    #[test]
    fn the_clock_has_a_resolution() {
        let clock = clock();
        assert!(clock.resolution > 0 && clock.resolution < 1_000_000_000, "{clock:?}");
        assert!(clock.cost > 0.0);
    }
}
