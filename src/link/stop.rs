//! Why a wait on a link ended before it found what it was for.

use crate::ring::{self, Ended};
use crate::wire::{CloseReason, Violation};

/// As the ring's [`Stop`](ring::Stop), with the reasons and rules of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The deadline passed. Only a wait that has one says so.
    Deadline,
    /// The link is closed, and nothing is left on it.
    Closed(CloseReason),
    /// The other side broke a rule.
    Fault(Violation),
}

impl From<Ended> for Stop {
    fn from(ended: Ended) -> Stop {
        match ended {
            Ended::Closed(reason) => Stop::Closed(reason.into()),
            Ended::Fault(violation) => Stop::Fault(violation.into()),
        }
    }
}

impl From<ring::Stop> for Stop {
    fn from(stop: ring::Stop) -> Stop {
        match stop {
            ring::Stop::Deadline => Stop::Deadline,
            ring::Stop::Closed(reason) => Stop::Closed(reason.into()),
            ring::Stop::Fault(violation) => Stop::Fault(violation.into()),
        }
    }
}
