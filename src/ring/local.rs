//! A ring between two threads of one process.

use std::io;

use super::layout::{CONSUMER_PARKED, CONTROL, MAX_CAPACITY, MIN_CAPACITY, PRODUCER_PARKED, largest_block};
use super::{Closer, Consumer, Peer, Producer, Setup, WaitStrategy};
use crate::os::remedy::on_memory;
use crate::shm::futex::Scope;
use crate::shm::{Segment, View};

/// A ring of `capacity` bytes between two threads: a power of two from 128 bytes to 1 GiB. Its largest block
/// has `capacity / 2 - 8` bytes. Waits are [adaptive](WaitStrategy::Adaptive). Dropping either end closes it.
/// Does not block.
///
/// # Errors
///
/// An error of the kind [`InvalidInput`](io::ErrorKind::InvalidInput) for any other capacity; the system's
/// error if there is no memory.
///
/// # Examples
///
/// ```
/// use ringpost::ring::{CloseReason, RecvError};
///
/// let (mut producer, mut consumer) = ringpost::ring::local(1 << 16)?;
/// producer.send(b"last words")?;
/// drop(producer);
/// let mut block = Vec::new();
/// assert_eq!(consumer.recv(&mut block), Ok(10)); // what was committed comes first
/// assert_eq!(consumer.recv(&mut block), Err(RecvError::Disconnected(CloseReason::PEER)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn local(capacity: usize) -> io::Result<(Producer, Consumer)> {
    local_with(capacity, WaitStrategy::Adaptive)
}

/// As [`local`], with the given way of waiting.
///
/// # Errors
///
/// Those of [`local`].
///
/// # Examples
///
/// ```
/// use ringpost::{WaitStrategy, ring};
///
/// let (_producer, _consumer) = ring::local_with(4096, WaitStrategy::Spin)?;
/// let error = ring::local_with(5000, WaitStrategy::Spin).unwrap_err(); // no power of two
/// assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn local_with(capacity: usize, strategy: WaitStrategy) -> io::Result<(Producer, Consumer)> {
    let setup = local_setup(capacity, strategy, 0)?;
    Ok((Producer::new(&setup), Consumer::new(&setup)))
}

/// The words of a local ring: control block, closed word, and the data from the next page on.
const CLOSED: usize = CONTROL;
const DATA: usize = 4096;

pub(crate) fn local_setup(capacity: usize, strategy: WaitStrategy, start: u64) -> io::Result<Setup> {
    if !capacity.is_power_of_two() || !(MIN_CAPACITY..=MAX_CAPACITY).contains(&capacity) {
        let text = format!(
            "a ring cannot have {capacity} bytes: use a power of two from {MIN_CAPACITY} to {MAX_CAPACITY}"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let view = View::new(Segment::anonymous(DATA + capacity).map_err(without_memory)?);
    view.word64(super::layout::HEAD).store(start, crate::shm::backend::Ordering::Relaxed);
    let parked = vec![CONSUMER_PARKED, PRODUCER_PARKED];
    // One closer for both ends: they trust each other, so the parked words suffice to end their waits.
    let closer = Closer::new(view.clone(), Scope::Private, parked, Some(CLOSED), Peer::Relied);
    Ok(Setup {
        view,
        control: 0,
        data: DATA,
        capacity,
        max_block: largest_block(capacity),
        scope: Scope::Private,
        closer,
        kick: Default::default(),
        strategy,
        closes_on_drop: Some(super::CloseReason::PEER),
        stamps: None,
        start,
    })
}

fn without_memory(error: io::Error) -> io::Error {
    let text = format!("cannot map memory for a ring: {error}{}", on_memory(&error));
    io::Error::new(error.kind(), text)
}
