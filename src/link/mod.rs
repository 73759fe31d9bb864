//! Calls over a pair of rings: requests go one way, responses come back the other.
//!
//! A [`Requester`](requester::Requester) asks; [`exchange`] says when each side may leave out the fence that
//! a wake needs.

pub(crate) mod exchange;
mod requester;

#[cfg(test)]
pub(crate) use requester::SLICE;
pub(crate) use requester::{NoRoom, Requester};
