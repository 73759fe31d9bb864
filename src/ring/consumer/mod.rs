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
pub(crate) use wait::Awake;

use super::end::End;
use super::layout::Violation;
use super::stamps::OnWake;
use super::wait::Waiting;
use super::{Closer, Ended, Glance, Setup, WaitStrategy};

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
    end: End,
    /// The position from which the producer must be notified: a quarter of the ring after the last time, or
    /// at once.
    next_quarter: u64,
    /// How much may be taken before that.
    quarter: u64,
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.end.debug("Consumer", f)
    }
}

impl Consumer {
    pub(crate) fn new(setup: &Setup) -> Consumer {
        let quarter = setup.capacity as u64 / 4;
        Consumer { end: End::new(setup), next_quarter: setup.start, quarter }
    }

    /// From now on this is done with the duration of each wake from a sleep for a block, while somebody looks
    /// at the bus. Does nothing for a ring without [stamps](Setup::stamps).
    pub(crate) fn on_wake(&mut self, woken: OnWake) {
        if let Some(stamps) = &mut self.end.stamps {
            stamps.on_wake(woken);
        }
    }

    /// How many blocks were taken.
    pub(crate) fn taken(&self) -> u64 {
        self.end.progress
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
        self.end.max_block
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
        self.end.waiting = Waiting::new(strategy);
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
        self.end.closer.clone()
    }
}

impl Consumer {
    /// For threads that do not hold this end.
    pub(crate) fn glance(&self) -> Glance {
        Glance::of(&self.end)
    }

    /// For a layer above that found a block against its rules: poisons this end and closes the channel.
    pub(crate) fn reject(&mut self) {
        self.poison(Violation::Rejected);
    }

    #[cold]
    pub(super) fn poison(&mut self, violation: Violation) -> Ended {
        Ended::Fault(self.end.poison(violation))
    }
}
