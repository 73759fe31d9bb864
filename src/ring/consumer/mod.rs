//! The reading end.

mod block;
mod drain;
mod look;
mod receive;
mod release;
mod wait;

use std::fmt;

pub use block::Block;
pub use drain::Drain;
pub(crate) use look::Found;

use super::layout::{self, ONE_LINE, Violation};
use super::wait::Waiting;
use super::{CloseReason, Closer, Ended, SPARE_HINTS, Setup, WaitStrategy};
use crate::shm::RingView;
use crate::shm::futex::Scope;

/// The reading end of a ring. It may be moved to another thread, but there is only one.
///
/// What was committed before the ring was closed is received first. Dropping it closes a ring between
/// threads, and a channel that is used by itself.
///
/// # Examples
///
/// ```
/// use ringpost::ring::RecvError;
///
/// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
/// let reader = std::thread::spawn(move || {
///     let (mut block, mut sum) = (Vec::new(), 0);
///     loop {
///         match consumer.recv(&mut block) {
///             Ok(_) => sum += u32::from(block[0]),
///             Err(RecvError::Disconnected(_)) => return Ok(sum),
///             Err(error) => return Err(error),
///         }
///     }
/// });
/// for number in 1..=100 {
///     producer.send(&[number])?;
/// }
/// drop(producer); // the end
/// assert_eq!(reader.join().unwrap(), Ok(5050));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Consumer {
    ring: RingView,
    max_block: usize,
    /// The longest block that comes as one line.
    one_line: usize,
    /// Where the next record begins. What lies before was taken, and given back but for what a drain
    /// withholds; then it is owed, too.
    position: u64,
    broken: Option<Violation>,
    /// What was taken when the producer was last notified; all of it was given back then.
    notified: u64,
    /// From this position on a fence is due, whatever else happens: the next quarter of the ring.
    next_quarter: u64,
    closer: Closer,
    scope: Scope,
    waiting: Waiting,
    hints: u64,
    closes_on_drop: Option<CloseReason>,
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("capacity", &self.ring.capacity())
            .field("max_block", &self.max_block)
            .field("closed", &self.closer.reason())
            .finish_non_exhaustive()
    }
}

impl Consumer {
    pub(crate) fn new(setup: &Setup) -> Consumer {
        debug_assert!(setup.capacity.is_power_of_two() && setup.capacity >= layout::MIN_CAPACITY);
        debug_assert!(setup.max_block <= layout::largest_block(setup.capacity));
        Consumer {
            ring: setup.view.ring(setup.control, setup.data, setup.capacity),
            max_block: setup.max_block,
            one_line: setup.max_block.min(ONE_LINE),
            position: setup.start,
            broken: None,
            notified: setup.start,
            next_quarter: setup.start,
            closer: setup.closer.clone(),
            scope: setup.scope,
            waiting: Waiting::new(setup.strategy),
            hints: SPARE_HINTS,
            closes_on_drop: setup.closes_on_drop,
        }
    }

    /// The largest block that can arrive, in bytes. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// let (_producer, consumer) = ringpost::ring::local(4096)?;
    /// assert_eq!(consumer.max_block(), 2040);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn max_block(&self) -> usize {
        self.max_block
    }

    /// Chooses how blocking operations of this end wait from now on. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::WaitStrategy;
    ///
    /// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
    /// consumer.set_wait_strategy(WaitStrategy::Park);
    /// # producer.try_send(b"x")?;
    /// # consumer.recv(&mut Vec::new())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_wait_strategy(&mut self, strategy: WaitStrategy) {
        self.waiting = Waiting::new(strategy);
    }

    /// A handle that closes the channel from any thread and ends this end's waits. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::ring::CloseReason;
    /// use ringpost::ring::RecvError;
    ///
    /// let (_producer, mut consumer) = ringpost::ring::local(4096)?;
    /// let closer = consumer.closer();
    /// let reader = std::thread::spawn(move || consumer.recv(&mut Vec::new()));
    /// closer.close();
    /// assert_eq!(reader.join().unwrap(), Err(RecvError::Disconnected(CloseReason::LOCAL)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn closer(&self) -> Closer {
        self.closer.clone()
    }
}

impl Consumer {
    /// For a layer above that found a block against its rules: poisons this end and closes the channel.
    pub(crate) fn reject(&mut self) {
        self.poison(Violation::Rejected);
    }

    #[cold]
    pub(super) fn poison(&mut self, violation: Violation) -> Ended {
        self.broken = Some(violation);
        self.closer.close_as(CloseReason::FAULT);
        Ended::Fault(violation)
    }

    #[inline(always)]
    pub(super) fn capacity(&self) -> u64 {
        self.ring.capacity() as u64
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if let Some(reason) = self.closes_on_drop {
            self.closer.close_as(reason);
        }
    }
}
