//! The writing end.

mod batch;
mod draft;
mod grant;
mod notify;
mod publish;
mod room;
mod send;
mod wait;

use std::fmt;

pub use batch::Batch;
pub(crate) use draft::Draft;
pub use grant::Grant;
pub(crate) use wait::{SPACE_SLICE, SpaceWord};

use super::layout::{self, LINE, ONE_LINE, Violation};
use super::wait::Waiting;
use super::{CloseReason, Closer, Ended, SPARE_HINTS, SendError, Setup};
use crate::shm::RingView;
use crate::shm::futex::Scope;

/// No position: those are multiples of a line.
const NOWHERE: u64 = u64::MAX;

/// The writing end of a ring. It may be moved to another thread, but there is only one.
///
/// Waits end when the ring is closed: by the other side, by [`Closer`], or because a rule was broken.
/// Dropping it closes a ring between threads, and a channel that is used by itself; what was committed can
/// still be received.
///
/// # Examples
///
/// ```
/// use std::thread;
///
/// let (mut producer, mut consumer) = ringpost::ring::local(4096)?;
/// let writer = thread::spawn(move || -> Result<(), ringpost::ring::SendError> {
///     for number in 0..1000_u32 {
///         producer.send(&number.to_le_bytes())?; // waits while the ring is full
///     }
///     Ok(())
/// });
/// let mut block = Vec::new();
/// for number in 0..1000_u32 {
///     consumer.recv(&mut block)?;
///     assert_eq!(block, number.to_le_bytes());
/// }
/// writer.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Producer {
    ring: RingView,
    max_block: usize,
    /// The longest block that is written as one line.
    one_line: usize,
    /// The committed tail: where the next record, or its padding, begins.
    position: u64,
    /// The committed tail when the consumer was last notified.
    notified: u64,
    /// The last head seen.
    head: u64,
    /// Whether there was no room when it was seen last.
    was_full: bool,
    /// A position whose header is known to be 0: stored by this end, and nothing written there since.
    /// [`NOWHERE`] if there is none. It is forgotten before anything is written there that may not be
    /// committed; once the tail has passed it, it says nothing.
    cleared: u64,
    /// Bytes of the last record: the next one is often as long.
    last_size: u64,
    broken: Option<Violation>,
    closer: Closer,
    scope: Scope,
    waiting: Waiting,
    hints: u64,
    closes_on_drop: Option<CloseReason>,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("capacity", &self.ring.capacity())
            .field("max_block", &self.max_block)
            .field("closed", &self.closer.reason())
            .finish_non_exhaustive()
    }
}

impl Producer {
    pub(crate) fn new(setup: &Setup) -> Producer {
        debug_assert!(setup.capacity.is_power_of_two() && setup.capacity >= layout::MIN_CAPACITY);
        debug_assert!(setup.max_block <= layout::largest_block(setup.capacity));
        Producer {
            ring: setup.view.ring(setup.control, setup.data, setup.capacity),
            max_block: setup.max_block,
            one_line: setup.max_block.min(ONE_LINE),
            position: setup.start,
            notified: setup.start,
            head: setup.start,
            was_full: false,
            cleared: NOWHERE,
            last_size: LINE as u64,
            broken: None,
            closer: setup.closer.clone(),
            scope: setup.scope,
            waiting: Waiting::new(setup.strategy),
            hints: SPARE_HINTS,
            closes_on_drop: setup.closes_on_drop,
        }
    }

    /// The largest block that can be sent, in bytes. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// let (producer, _consumer) = ringpost::ring::local(4096)?;
    /// assert_eq!(producer.max_block(), 2040); // half the ring less 8
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn max_block(&self) -> usize {
        self.max_block
    }

    /// Chooses how blocking operations of this end wait from now on. Does not block.
    #[cfg(test)]
    pub(crate) fn set_wait_strategy(&mut self, strategy: super::WaitStrategy) {
        self.waiting = Waiting::new(strategy);
    }

    /// A handle that closes the channel from any thread and ends this end's waits. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::ring::{CloseReason, SendError};
    ///
    /// let (mut producer, _consumer) = ringpost::ring::local(4096)?;
    /// producer.closer().close();
    /// assert_eq!(producer.try_send(b"x"), Err(SendError::Disconnected(CloseReason::LOCAL)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn closer(&self) -> Closer {
        self.closer.clone()
    }
}

impl Producer {
    /// The same as the public error. Apart from its callers, so that a batch stays small enough to be
    /// inlined.
    #[cold]
    #[inline(never)]
    pub(super) fn send_error(&self) -> SendError {
        self.closed().into()
    }

    #[cold]
    pub(super) fn closed(&self) -> Ended {
        match self.broken {
            Some(violation) => Ended::Fault(violation),
            None => Ended::Closed(self.closer.reason().unwrap_or(CloseReason::PEER)),
        }
    }

    #[cold]
    pub(super) fn poison(&mut self, violation: Violation) -> Violation {
        self.broken = Some(violation);
        self.closer.close_as(CloseReason::FAULT);
        violation
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        if let Some(reason) = self.closes_on_drop {
            self.closer.close_as(reason);
        }
    }
}
