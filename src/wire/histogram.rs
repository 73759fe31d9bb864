//! `Histogram`: counts of durations, in steps of a quarter of a power of two.

use std::fmt;
use std::time::Duration;

/// Counts of durations, from 64 ns to 69 s: how often each length occurred, rounded up by a quarter at most.
///
/// What is shorter counts with the shortest, and what is longer with the longest. [`Figures`](crate::Figures)
/// are made of them. Two looks at the same histogram give what happened between them: [`since`](Self::since).
///
/// # Examples
///
/// ```
/// use ringpost::{Client, Observer, Server};
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let _server = Server::builder(&path).start()?;
/// let mut alice = Client::register(&path, "alice")?;
/// let observer = Observer::connect(&path)?;
/// let before = observer.figures()?; // from now on the server measures
/// (0..100).try_for_each(|_| alice.call(b"ping").map(drop))?;
/// let after = observer.figures()?;
/// let service = after.clients[0].service.since(&before.clients[0].service);
/// if let Some(median) = service.percentile(50.0) {
///     println!("half of {} measured calls were served in {median:?} at most", service.count());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many durations are in each bucket. Empty if there are none.
    counts: Vec<u64>,
}

impl Histogram {
    /// Four buckets for each doubling, from 2^6 to 2^36 ns.
    pub(crate) const BUCKETS: usize = 4 * (36 - 6);

    /// The bucket of a duration in nanoseconds.
    #[inline]
    pub(crate) fn bucket(nanoseconds: u64) -> usize {
        let nanoseconds = nanoseconds.clamp(1 << 6, (1 << 36) - 1);
        let octave = nanoseconds.ilog2();
        // The two bits behind the first one.
        let quarter = (nanoseconds >> (octave - 2)) as usize & 3;
        4 * (octave as usize - 6) + quarter
    }

    /// The durations in a bucket are shorter than this.
    fn limit(bucket: usize) -> Duration {
        Duration::from_nanos((5 + bucket as u64 % 4) << (bucket / 4 + 4))
    }

    /// A histogram of these counts, one for each bucket. Counts beyond the last bucket are left out.
    pub(crate) fn of(counts: impl IntoIterator<Item = u64>) -> Histogram {
        let mut counts: Vec<u64> = counts.into_iter().take(Histogram::BUCKETS).collect();
        while counts.pop_if(|last| *last == 0).is_some() {}
        Histogram { counts }
    }

    /// How many durations were counted.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(ringpost::Histogram::default().count(), 0);
    /// ```
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The duration that so many percent of all do not exceed, rounded up to the end of its step: 50.0 gives
    /// the median, 100.0 the longest. `None` if there are none. A number below 0 counts as 0, one above 100
    /// as 100.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(ringpost::Histogram::default().percentile(99.0), None);
    /// ```
    pub fn percentile(&self, percent: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = Histogram::rank(percent, count);
        let mut seen = 0_u64;
        self.counts
            .iter()
            .position(|count| {
                seen = seen.saturating_add(*count);
                seen >= rank
            })
            .map(Histogram::limit)
    }

    /// How many of `count` durations are so many percent of them, rounded up. At least one.
    fn rank(percent: f64, count: u64) -> u64 {
        // Of the float just below: both the percent and the product are rounded, and what is rounded upwards
        // must not give a rank too many. (A float that is not a number becomes 0.)
        ((percent.next_down() * count as f64 / 100.0).ceil() as u64).clamp(1, count)
    }

    /// What was counted since an earlier look. A count that is smaller than then gives 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::Histogram;
    ///
    /// let (earlier, now) = (Histogram::default(), Histogram::default());
    /// assert_eq!(now.since(&earlier).count(), 0);
    /// ```
    #[must_use]
    pub fn since(&self, earlier: &Histogram) -> Histogram {
        let earlier = earlier.counts.iter().chain(std::iter::repeat(&0));
        Histogram::of(self.counts.iter().zip(earlier).map(|(now, then)| now.saturating_sub(*then)))
    }

    /// Adds the counts of another one, such as that of another client.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::Histogram;
    ///
    /// let mut all = Histogram::default();
    /// all.add(&Histogram::default());
    /// assert_eq!(all.count(), 0);
    /// ```
    pub fn add(&mut self, other: &Histogram) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (sum, more) in self.counts.iter_mut().zip(&other.counts) {
            *sum = sum.saturating_add(*more);
        }
    }

    /// The steps that hold durations, the shortest first: what those in a step are shorter than, and how many
    /// they are.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(ringpost::Histogram::default().buckets().next(), None);
    /// ```
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        self.filled().map(|(bucket, count)| (Histogram::limit(bucket), count))
    }

    /// The buckets that hold durations, with their numbers.
    pub(crate) fn filled(&self) -> impl Iterator<Item = (usize, u64)> {
        self.counts.iter().copied().enumerate().filter(|(_, count)| *count > 0)
    }
}

/// Its count, median and 99th percentile.
impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count())
            .field("p50", &self.percentile(50.0))
            .field("p99", &self.percentile(99.0))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn of(nanoseconds: &[u64]) -> Histogram {
        let mut counts = vec![0; Histogram::BUCKETS];
        nanoseconds.iter().for_each(|nanoseconds| counts[Histogram::bucket(*nanoseconds)] += 1);
        Histogram::of(counts)
    }

    #[test]
    fn buckets_are_quarters_of_powers_of_two() {
        let bucket = Histogram::bucket;
        assert_eq!([0, 63, 64, 79, 80, 95, 96, 127, 128].map(bucket), [0, 0, 0, 0, 1, 1, 2, 3, 4]);
        assert_eq!([(1 << 36) - 1, 1 << 36, u64::MAX].map(bucket), [Histogram::BUCKETS - 1; 3]);
        assert_eq!(Histogram::limit(0), Duration::from_nanos(80));
        assert_eq!(Histogram::limit(Histogram::BUCKETS - 1), Duration::from_nanos(1 << 36));
    }

    #[test]
    fn percentiles_are_those_of_the_ranks() {
        let counted = of(&[100, 100, 100, 1000]);
        let at = |percent| counted.percentile(percent).unwrap().as_nanos();
        assert_eq!([0.0, 50.0, 75.0, 75.1, 100.0, 1000.0].map(at), [112, 112, 112, 1024, 1024, 1024]);
        assert_eq!(at(f64::NAN), 112);
        assert_eq!(counted.buckets().map(|(_, count)| count).collect::<Vec<_>>(), [3, 1]);
        assert_eq!(of(&[]).percentile(50.0), None);
    }

    #[test]
    fn a_rank_is_not_rounded_up_twice() {
        for (count, hundredths) in (1..=500_u64).flat_map(|count| (0..=10_000_u64).map(move |of| (count, of)))
        {
            let rank = Histogram::rank(hundredths as f64 / 100.0, count);
            assert_eq!(rank, (hundredths * count).div_ceil(10_000).max(1), "{count} {hundredths}");
        }
        // 0.56 as a float, times 25, is more than 14.
        assert_eq!(
            [(56.0, 25), (99.99, 100_000_000)].map(|(percent, of)| Histogram::rank(percent, of)),
            [14, 99_990_000]
        );
    }

    #[test]
    fn hostile_counts_do_not_overflow() {
        let mut all = Histogram::of([u64::MAX; Histogram::BUCKETS + 9]);
        all.add(&all.clone());
        assert_eq!((all.count(), all.filled().count()), (u64::MAX, Histogram::BUCKETS));
        assert!(all.percentile(99.0).is_some() && all.percentile(100.0).is_some());
        assert_eq!(of(&[100]).since(&all), Histogram::default());
    }

    proptest! {
        #[test]
        fn a_percentile_is_at_most_a_quarter_too_long(mut times in vec(64..1_u64 << 36, 1..50), percent in 1..=100_usize) {
            let counted = of(&times).percentile(percent as f64).unwrap().as_nanos() as u64;
            times.sort_unstable();
            let true_one = times[(percent * times.len()).div_ceil(100) - 1];
            prop_assert!(true_one < counted && counted <= true_one + true_one / 4 + 1, "{true_one} {counted}");
        }

        #[test]
        fn a_difference_and_a_sum_undo_each_other(before in vec(any::<u64>(), 0..20), later in vec(any::<u64>(), 0..20)) {
            let (before, later) = (of(&before), of(&later));
            let mut both = before.clone();
            both.add(&later);
            prop_assert_eq!(both.since(&before), later);
            prop_assert_eq!(both.count(), before.count() + both.since(&before).count());
        }
    }
}
