//! Timing one peer for one round.
//!
//! First the peer is warmed up, which also tells how long a call takes about. Then blocks of calls with no
//! reading of the clock inside, and as many calls timed one by one, take turns. The median of the blocks'
//! means is the figure for a call. The 99th percentile is that of the single calls; there the reading of the
//! clock is part of each time.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::failure::Outcome;
use crate::work::Work;

/// The asking end of a peer.
pub trait Asker {
    /// One request, its complete response, and the check of its bytes.
    fn ask(&mut self, work: &mut Work) -> Outcome;
}

impl<F: FnMut(&mut Work) -> Outcome> Asker for F {
    #[inline(always)]
    fn ask(&mut self, work: &mut Work) -> Outcome {
        self(work)
    }
}

/// How long a block takes, about.
const BLOCK: Duration = Duration::from_millis(1);

/// Calls in a block.
const CALLS: std::ops::RangeInclusive<u64> = 5..=2000;

/// One round of one peer, in nanoseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    /// The median of the blocks' means.
    pub median: f64,
    /// Of the calls timed one by one, or of the blocks if nothing can be timed alone.
    pub p99: f64,
    /// Calls or messages that were timed.
    pub count: u64,
    /// The part that was received, where messages may be missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<f64>,
}

/// Times calls for about `budget` after a quarter of it to warm up, then tells the server to end.
pub fn measure(mut asker: impl Asker, size: usize, budget: Duration) -> Outcome<Measured> {
    let work = &mut Work::new(size);
    let measured = time(&mut asker, work, budget)?;
    work.finish();
    asker.ask(work)?;
    Ok(measured)
}

/// As [`measure`], with a server that goes on.
pub fn time(asker: &mut impl Asker, work: &mut Work, budget: Duration) -> Outcome<Measured> {
    let start = Instant::now();
    let mut warm = 0_u32;
    while start.elapsed() < budget / 4 || warm < 5 {
        asker.ask(work)?;
        warm += 1;
    }
    let each = (start.elapsed() / warm).max(Duration::from_nanos(1));
    let calls = (BLOCK.as_nanos() / each.as_nanos()) as u64;
    let calls = calls.clamp(*CALLS.start(), *CALLS.end());

    let (mut blocks, mut singles) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while start.elapsed() < budget || blocks.is_empty() {
        let began = Instant::now();
        for _ in 0..calls {
            asker.ask(work)?;
        }
        blocks.push(began.elapsed().as_nanos() as f64 / calls as f64);
        for _ in 0..calls {
            let began = Instant::now();
            asker.ask(work)?;
            singles.push(began.elapsed().as_nanos() as f64);
        }
    }
    let count = blocks.len() as u64 * calls + singles.len() as u64;
    let (median, p99) = (quantile(&mut blocks, 0.5), quantile(&mut singles, 0.99));
    Ok(Measured { median, p99, count, received: None })
}

/// The value below which this part of the values lies; the mean of the two in the middle for an even median.
pub fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        len if part == 0.5 => (values[(len - 1) / 2] + values[len / 2]) / 2.0,
        len => values[((len as f64 * part).ceil() as usize).clamp(1, len) - 1],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::answer_in_place;

    #[test]
    fn quantiles_are_of_the_sorted_values() {
        assert_eq!(quantile(&mut [3.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(quantile(&mut [4.0, 1.0, 2.0, 3.0], 0.5), 2.5);
        let mut hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(quantile(&mut hundred, 0.99), 99.0);
        assert_eq!(quantile(&mut [7.0], 0.99), 7.0);
        assert!(quantile(&mut [], 0.99).is_nan());
    }

    #[test]
    fn the_last_call_ends_the_server() {
        let mut ended = false;
        let asker = |work: &mut Work| {
            let mut message = work.next().to_vec();
            assert!(!ended, "nothing is asked of a server that has ended");
            ended = answer_in_place(&mut message)?;
            work.check(&message)
        };
        let measured = measure(asker, 64, Duration::from_millis(1)).expect("a measurement");
        assert!(ended && measured.median > 0.0 && measured.p99 > 0.0 && measured.count >= 10);
    }

    #[test]
    fn a_wrong_response_is_a_failure() {
        let echo = |work: &mut Work| {
            let message = work.next().to_vec();
            work.check(&message)
        };
        assert!(measure(echo, 64, Duration::from_millis(1)).is_err());
    }
}
