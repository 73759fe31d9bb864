//! Why an operation of a ring ended without a result: one public error for sending and one for receiving, and
//! the two forms that are used inside.

use super::{CloseReason, Violation};

/// Why a block was not sent.
///
/// # Examples
///
/// ```
/// use ringpost::ring::{self, CloseReason, SendError};
/// use std::time::Duration;
///
/// let (mut producer, consumer) = ring::local(128)?; // room for one line and the zeroed one behind it
/// assert_eq!(producer.send(&[0; 57]), Err(SendError::TooLarge { len: 57, max: 56 }));
/// producer.send(&[0; 56])?;
/// assert_eq!(producer.try_send(b"second"), Err(SendError::Full));
/// assert_eq!(producer.send_timeout(b"second", Duration::from_millis(5)), Err(SendError::TimedOut));
/// drop(consumer);
/// assert_eq!(producer.send(b"second"), Err(SendError::Disconnected(CloseReason::PEER)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// There is no room now. Only operations that do not wait say so.
    #[error("the ring is full")]
    Full,
    /// There was no room until the deadline.
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

/// Why no block was received.
///
/// # Examples
///
/// ```
/// use ringpost::ring::{self, CloseReason, RecvError};
/// use std::time::Duration;
///
/// let (producer, mut consumer) = ring::local(4096)?;
/// let mut block = Vec::new();
/// assert_eq!(consumer.try_recv(&mut block), Ok(None)); // nothing yet is no error
/// assert_eq!(consumer.recv_timeout(&mut block, Duration::from_millis(5)), Err(RecvError::TimedOut));
/// drop(producer);
/// assert_eq!(consumer.recv(&mut block), Err(RecvError::Disconnected(CloseReason::PEER)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// Nothing came until the deadline.
    #[error("nothing came until the deadline")]
    TimedOut,
    /// Nothing is there, and nothing will come: the ring is closed.
    #[error("disconnected: {0}")]
    Disconnected(CloseReason),
    /// The other side broke a rule; the channel was closed.
    #[error("the other side broke the protocol: {0}")]
    Violation(Violation),
}

/// Why a ring has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It is closed. For a consumer: and nothing is left in it.
    Closed(CloseReason),
    /// The other side broke a rule.
    Fault(Violation),
}

/// Why a wait ended without a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The deadline passed. Only a wait that has one says so.
    Deadline,
    /// See [`Ended`].
    Closed(CloseReason),
    /// See [`Ended`].
    Fault(Violation),
}

/// Why an attempt to write a block, or to begin one, did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotSent {
    Full,
    TooLarge {
        len: usize,
        max: usize,
    },
    /// See [`Ended`].
    Closed(CloseReason),
    /// See [`Ended`].
    Fault(Violation),
}

/// Converts an [`Ended`] to the variants of each error.
macro_rules! from_ended {
    ($($error:ident: $closed:ident, $fault:ident;)*) => {$(
        impl From<Ended> for $error {
            fn from(ended: Ended) -> $error {
                match ended {
                    Ended::Closed(reason) => $error::$closed(reason),
                    Ended::Fault(violation) => $error::$fault(violation),
                }
            }
        }
    )*};
}

from_ended! {
    Stop: Closed, Fault;
    NotSent: Closed, Fault;
    SendError: Disconnected, Violation;
    RecvError: Disconnected, Violation;
}

impl From<Stop> for RecvError {
    fn from(stop: Stop) -> RecvError {
        match stop {
            Stop::Deadline => RecvError::TimedOut,
            Stop::Closed(reason) => RecvError::Disconnected(reason),
            Stop::Fault(violation) => RecvError::Violation(violation),
        }
    }
}

impl From<Stop> for SendError {
    fn from(stop: Stop) -> SendError {
        match stop {
            Stop::Deadline => SendError::TimedOut,
            Stop::Closed(reason) => SendError::Disconnected(reason),
            Stop::Fault(violation) => SendError::Violation(violation),
        }
    }
}

impl From<NotSent> for SendError {
    fn from(error: NotSent) -> SendError {
        match error {
            NotSent::Full => SendError::Full,
            NotSent::TooLarge { len, max } => SendError::TooLarge { len, max },
            NotSent::Closed(reason) => SendError::Disconnected(reason),
            NotSent::Fault(violation) => SendError::Violation(violation),
        }
    }
}
