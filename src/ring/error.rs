//! One error type for each operation of a ring.

use super::{CloseReason, Violation};

/// Why [`Producer::try_send`](super::Producer::try_send) or another attempt to write now failed.
///
/// # Examples
///
/// ```
/// use ringpost::ring::{self, TrySendError};
///
/// let (mut producer, _consumer) = ring::local(128)?;
/// assert_eq!(producer.try_send(&[0; 57]), Err(TrySendError::TooLarge { len: 57, max: 56 }));
/// producer.try_send(&[0; 56])?;
/// assert_eq!(producer.try_send(&[0; 56]), Err(TrySendError::Full));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrySendError {
    /// There is no room now.
    #[error("the ring is full")]
    Full,
    /// The block can never fit.
    #[error("a block of {len} bytes is larger than the maximum of {max}")]
    TooLarge {
        /// The block's length in bytes.
        len: usize,
        /// The most that this ring takes.
        max: usize,
    },
    /// The ring is closed; nothing can be written any more.
    #[error("disconnected: {0}")]
    Disconnected(CloseReason),
    /// The other side broke a rule; the channel was closed.
    #[error("the other side broke the protocol: {0}")]
    Violation(Violation),
}

/// Why [`Producer::send`](super::Producer::send) failed.
///
/// # Examples
///
/// ```
/// use ringpost::ring::{self, CloseReason, SendError};
///
/// let (mut producer, consumer) = ring::local(4096)?;
/// drop(consumer);
/// assert_eq!(producer.send(b"x"), Err(SendError::Disconnected(CloseReason::Peer)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The block can never fit.
    #[error("a block of {len} bytes is larger than the maximum of {max}")]
    TooLarge {
        /// The block's length in bytes.
        len: usize,
        /// The most that this ring takes.
        max: usize,
    },
    /// The ring is closed; nothing can be written any more.
    #[error("disconnected: {0}")]
    Disconnected(CloseReason),
    /// The other side broke a rule; the channel was closed.
    #[error("the other side broke the protocol: {0}")]
    Violation(Violation),
}

/// Why [`Producer::send_timeout`](super::Producer::send_timeout) or `send_deadline` failed.
///
/// # Examples
///
/// ```
/// use ringpost::ring::{self, SendTimeoutError};
/// use std::time::Instant;
///
/// let (mut producer, _consumer) = ring::local(128)?;
/// producer.send(b"fills it")?;
/// assert_eq!(producer.send_deadline(b"x", Instant::now()), Err(SendTimeoutError::TimedOut));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendTimeoutError {
    /// There was no room until the deadline; nothing was written.
    #[error("the ring stayed full until the deadline")]
    TimedOut,
    /// The block can never fit.
    #[error("a block of {len} bytes is larger than the maximum of {max}")]
    TooLarge {
        /// The block's length in bytes.
        len: usize,
        /// The most that this ring takes.
        max: usize,
    },
    /// The ring is closed; nothing can be written any more.
    #[error("disconnected: {0}")]
    Disconnected(CloseReason),
    /// The other side broke a rule; the channel was closed.
    #[error("the other side broke the protocol: {0}")]
    Violation(Violation),
}

impl SendTimeoutError {
    /// For waits without a deadline, which cannot time out.
    pub(crate) fn untimed(self) -> SendError {
        match self {
            // An untimed wait that ended early can only have been ended by a close.
            SendTimeoutError::TimedOut => SendError::Disconnected(CloseReason::Local),
            SendTimeoutError::TooLarge { len, max } => SendError::TooLarge { len, max },
            SendTimeoutError::Disconnected(reason) => SendError::Disconnected(reason),
            SendTimeoutError::Violation(violation) => SendError::Violation(violation),
        }
    }
}

/// Why [`Consumer::try_recv`](super::Consumer::try_recv) gave nothing.
///
/// # Examples
///
/// ```
/// use ringpost::ring::{self, CloseReason, TryRecvError};
///
/// let (producer, mut consumer) = ring::local(4096)?;
/// let mut block = Vec::new();
/// assert_eq!(consumer.try_recv(&mut block), Err(TryRecvError::Empty));
/// drop(producer);
/// assert_eq!(consumer.try_recv(&mut block), Err(TryRecvError::Disconnected(CloseReason::Peer)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TryRecvError {
    /// Nothing is there now.
    #[error("the ring is empty")]
    Empty,
    /// Nothing is there, and nothing will come: the ring was closed before.
    #[error("disconnected: {0}")]
    Disconnected(CloseReason),
    /// The other side broke a rule; the channel was closed.
    #[error("the other side broke the protocol: {0}")]
    Violation(Violation),
}

/// Why [`Consumer::recv`](super::Consumer::recv) gave nothing.
///
/// # Examples
///
/// ```
/// use ringpost::ring::{self, CloseReason, RecvError};
///
/// let (producer, mut consumer) = ring::local(4096)?;
/// drop(producer);
/// assert_eq!(consumer.recv(&mut Vec::new()), Err(RecvError::Disconnected(CloseReason::Peer)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// Nothing is there, and nothing will come: the ring was closed before.
    #[error("disconnected: {0}")]
    Disconnected(CloseReason),
    /// The other side broke a rule; the channel was closed.
    #[error("the other side broke the protocol: {0}")]
    Violation(Violation),
}

/// Why [`Consumer::recv_timeout`](super::Consumer::recv_timeout) or `recv_deadline` gave nothing.
///
/// # Examples
///
/// ```
/// use ringpost::ring::{self, RecvTimeoutError};
/// use std::time::Instant;
///
/// let (_producer, mut consumer) = ring::local(4096)?;
/// let nothing = consumer.recv_deadline(&mut Vec::new(), Instant::now());
/// assert_eq!(nothing, Err(RecvTimeoutError::TimedOut));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvTimeoutError {
    /// Nothing came until the deadline.
    #[error("nothing came until the deadline")]
    TimedOut,
    /// Nothing is there, and nothing will come: the ring was closed before.
    #[error("disconnected: {0}")]
    Disconnected(CloseReason),
    /// The other side broke a rule; the channel was closed.
    #[error("the other side broke the protocol: {0}")]
    Violation(Violation),
}

impl RecvTimeoutError {
    /// For waits without a deadline, which cannot time out.
    pub(crate) fn untimed(self) -> RecvError {
        match self {
            RecvTimeoutError::TimedOut => RecvError::Disconnected(CloseReason::Local),
            RecvTimeoutError::Disconnected(reason) => RecvError::Disconnected(reason),
            RecvTimeoutError::Violation(violation) => RecvError::Violation(violation),
        }
    }
}
