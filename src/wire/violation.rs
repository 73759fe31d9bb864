//! A rule that the other side of a client's channel broke.

use crate::ring;

/// A rule that the other side broke: of the ring, of the protocol on it, or of the connection. The channel is
/// closed; nothing else notices.
///
/// # Examples
///
/// ```
/// use ringpost::{Violation, ring};
///
/// let broken = Violation::from(ring::Violation::HeaderPosition);
/// assert_eq!(broken, Violation::Ring(ring::Violation::HeaderPosition));
/// assert_eq!(broken.to_string(), "a record header does not belong to its position");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A rule of the ring.
    #[error(transparent)]
    Ring(ring::Violation),
    /// A block too short for its header or its operation, or one that contradicts itself.
    #[error("a block does not have the form of its operation")]
    MalformedBlock,
    /// A response to no request, or in the wrong order.
    #[error("a response does not belong to the request it should answer")]
    ResponseOrder,
    /// Something was sent on the connection after registration, where nothing may be.
    #[error("data on the connection after registration")]
    Babble,
}

impl From<ring::Violation> for Violation {
    fn from(violation: ring::Violation) -> Violation {
        match violation {
            ring::Violation::Rejected => Violation::MalformedBlock,
            broken => Violation::Ring(broken),
        }
    }
}
