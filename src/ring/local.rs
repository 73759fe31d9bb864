//! A ring between two threads of one process.

use super::layout::{CONSUMER_PARKED, CONTROL, MAX_CAPACITY, MIN_CAPACITY, PRODUCER_PARKED, largest_block};
use super::{Closer, Consumer, Peer, Producer, Setup, WaitStrategy};
use crate::shm::futex::Scope;
use crate::shm::{Segment, SegmentError, View};

/// Why a ring could not be made.
///
/// # Examples
///
/// ```
/// use ringpost::ring::{self, RingError};
///
/// assert!(matches!(ring::local(100), Err(RingError::Capacity(100))));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// The capacity is not one that a ring can have.
    #[error("a ring cannot have {0} bytes: use a power of two from {MIN_CAPACITY} to {MAX_CAPACITY}")]
    Capacity(usize),
    /// There is no memory for it.
    #[error(transparent)]
    Memory(#[from] SegmentError),
}

/// A ring of `capacity` bytes between two threads: a power of two from 128 bytes to 1 GiB. Its largest block
/// has `capacity / 2 - 8` bytes. Waits are [adaptive](WaitStrategy::Adaptive). Dropping either end closes it.
/// Does not block.
///
/// # Errors
///
/// [`RingError::Capacity`], or [`RingError::Memory`] if there is none.
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
pub fn local(capacity: usize) -> Result<(Producer, Consumer), RingError> {
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
/// use ringpost::WaitStrategy;
/// use ringpost::ring::{self, RingError};
///
/// let (_producer, _consumer) = ring::local_with(4096, WaitStrategy::Spin)?;
/// assert!(matches!(ring::local_with(5000, WaitStrategy::Spin), Err(RingError::Capacity(5000))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn local_with(capacity: usize, strategy: WaitStrategy) -> Result<(Producer, Consumer), RingError> {
    let setup = local_setup(capacity, strategy, 0)?;
    Ok((Producer::new(&setup), Consumer::new(&setup)))
}

/// The words of a local ring: control block, closed word, and the data from the next page on.
const CLOSED: usize = CONTROL;
const DATA: usize = 4096;

pub(crate) fn local_setup(capacity: usize, strategy: WaitStrategy, start: u64) -> Result<Setup, RingError> {
    if !capacity.is_power_of_two() || !(MIN_CAPACITY..=MAX_CAPACITY).contains(&capacity) {
        return Err(RingError::Capacity(capacity));
    }
    let view = View::new(Segment::anonymous(DATA + capacity)?);
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
        strategy,
        closes_on_drop: Some(super::CloseReason::PEER),
        start,
    })
}
