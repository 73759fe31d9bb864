//! Calls over a pair of rings: requests go one way, responses come back the other.
//!
//! A [`Requester`](requester::Requester) asks; [`exchange`] says when each side may leave out the fence that
//! a wake needs.

#![cfg_attr(loom, allow(dead_code, reason = "the layers above are not built for the models"))]

pub(crate) mod exchange;
#[cfg(not(loom))]
mod requester;

#[cfg(all(test, not(loom)))]
pub(crate) use requester::SLICE;
#[cfg(not(loom))]
pub(crate) use requester::{NoRoom, Requester};
