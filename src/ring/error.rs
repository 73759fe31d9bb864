//! One error type for each operation of a ring.

use super::{CloseReason, Violation};

/// Why [`Producer::try_send`](super::Producer::try_send) or another attempt to write now failed.
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
