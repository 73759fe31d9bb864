//! Large samples in place: from the commit until a reader that spins has the view open, beside small ones.

use std::io::Write;
use std::sync::atomic::Ordering;

use ringpost::cli::exit::Failure;
use ringpost::cli::stats::{Beside, quantile};
use ringpost::{Publisher, WaitStrategy};
use serde::Serialize;

use super::partner::{FORTH, Partner, Role, Task};
use super::spinning::{plan, wait_for_readers};
use super::words::{SEEN, Words, now};
use crate::measurement::Session;

/// Bytes of the small sample.
const SMALL: usize = 48;

/// Of the large ones.
pub const SIZES: std::ops::RangeInclusive<usize> = SMALL..=128 << 20;

/// From the commit of a large sample until its view is open.
#[derive(Serialize)]
pub struct Frames {
    pub size: usize,
    pub small_size: usize,
    pub ring_size: usize,
    pub block_samples: u32,
    /// Compared with a small sample.
    #[serde(flatten)]
    pub blocks: Beside,
}

/// The ring for frames of this size: the largest sample takes a quarter, less its header.
fn ring_for(size: usize) -> usize {
    (4 * (size + 8)).next_power_of_two().max(16 << 20)
}

pub fn frames(session: &Session, size: usize, count: u32) -> Result<Frames, Failure> {
    session.with(plan(session), |setup| {
        let ring_size = ring_for(size);
        let options = Publisher::options().ring_size(ring_size).wait(WaitStrategy::Spin);
        let topic = format!("frames/{FORTH}");
        let mut publisher =
            options.publish(setup.client.caller(), topic.as_str()).map_err(Failure::failed)?;
        let closer = publisher.closer();
        setup.end_waits_on_signals(move || closer.close());
        let mut partner = Partner::start(setup, Role::Awake, "frames", 1)?;
        wait_for_readers(&publisher, 1)?;
        let frame = vec![7; size];
        // So that every page of the ring is there.
        for _ in 0..2 * ring_size / size.max(1) {
            block(&mut partner, &mut publisher, &frame, 1)?;
        }
        let (mut large, mut small) = (Vec::new(), Vec::new());
        for number in setup.blocks() {
            setup.begin(number, "large samples in place")?;
            large.push(block(&mut partner, &mut publisher, &frame, count)?);
            small.push(block(&mut partner, &mut publisher, &frame[..SMALL], count)?);
        }
        let blocks = Beside::of(&large, &small);
        Ok(Frames { size, small_size: SMALL, ring_size, block_samples: count, blocks })
    })
}

/// The median time from a commit to the open view.
fn block(
    partner: &mut Partner,
    publisher: &mut Publisher,
    sample: &[u8],
    count: u32,
) -> Result<f64, Failure> {
    let mut times = Vec::new();
    partner.turn(Task::View, u64::from(count), |words| {
        for _ in 0..count {
            times.push(once(publisher, words, sample)?);
        }
        Ok(())
    })?;
    Ok(quantile(&times, 0.5))
}

fn once(publisher: &mut Publisher, words: &Words, sample: &[u8]) -> Result<f64, Failure> {
    words.word64(SEEN).store(0, Ordering::Relaxed);
    let mut grant = publisher.grant(sample.len()).map_err(Failure::failed)?;
    grant.write_all(sample).map_err(Failure::failed)?;
    let committed = now();
    grant.commit();
    let seen = wait(words)?;
    Ok(seen.saturating_sub(committed) as f64)
}

/// When the view was open. The partner's end breaks the wait after a while.
fn wait(words: &Words) -> Result<u64, Failure> {
    for _ in 0..1_u64 << 34 {
        match words.word64(SEEN).load(Ordering::Acquire) {
            0 => std::hint::spin_loop(),
            seen => return Ok(seen),
        }
    }
    Err(lost())
}

#[cold]
fn lost() -> Failure {
    Failure::failed("the reader does not answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fits_into_a_quarter_of_its_ring() {
        assert_eq!(ring_for(4 << 20), 32 << 20);
        assert_eq!(ring_for((4 << 20) - 8), 16 << 20);
        assert_eq!(ring_for(48), 16 << 20);
    }
}
