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
pub(crate) use wait::{ConsumerWords, SPACE_SLICE};

use super::end::End;
use super::layout::LINE;
use super::{CloseReason, Closer, Ended, Glance, SendError, Setup};

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
    end: End,
    /// The last head seen.
    head: u64,
    /// Whether there was no room at the last look at the head.
    was_full: bool,
    /// A position whose header is known to be 0: this end stored it and has written nothing there since.
    /// [`NOWHERE`] if there is none. It is reset before anything is written there that may not be committed.
    /// It means nothing once the tail has passed it.
    cleared: u64,
    /// The last of more such positions, which lie `cleared_step` apart.
    cleared_to: u64,
    cleared_step: u64,
    /// The size of the last record in bytes. The next one often has the same size.
    last_size: u64,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.end.debug("Producer", f)
    }
}

impl Producer {
    pub(crate) fn new(setup: &Setup) -> Producer {
        Producer {
            end: End::new(setup),
            head: setup.start,
            was_full: false,
            cleared: NOWHERE,
            cleared_to: NOWHERE,
            cleared_step: LINE as u64,
            last_size: LINE as u64,
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
        self.end.max_block
    }

    /// Chooses how blocking operations of this end wait from now on. Does not block.
    #[cfg(test)]
    pub(crate) fn set_wait_strategy(&mut self, strategy: super::WaitStrategy) {
        self.end.waiting = super::wait::Waiting::new(strategy);
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
        self.end.closer.clone()
    }
}

impl Producer {
    /// For threads that do not hold this end.
    pub(crate) fn glance(&self) -> Glance {
        Glance::of(&self.end)
    }

    /// [`closed`](Self::closed) as the public error. Not inlined, so that a batch stays small enough to be.
    #[cold]
    #[inline(never)]
    pub(super) fn send_error(&self) -> SendError {
        self.closed().into()
    }

    #[cold]
    pub(super) fn closed(&self) -> Ended {
        match self.end.broken {
            Some(violation) => Ended::Fault(violation),
            None => Ended::Closed(self.end.closer.reason().unwrap_or(CloseReason::PEER)),
        }
    }
}
