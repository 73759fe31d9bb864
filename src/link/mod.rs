//! Calls over a pair of rings: requests go one way, responses come back the other.
//!
//! A [`Requester`] asks, a [`Responder`] serves, and [`exchange`] says when each may leave out the fence that
//! a wake needs. A [`Scheduler`] limits how many responders of a process run at once.

pub(crate) mod exchange;
pub(crate) mod observed;
mod requester;
mod responder;
mod scheduler;
mod service;
mod stop;

#[cfg(test)]
pub(crate) use requester::SLICE;
pub(crate) use requester::{NoRoom, Requester};
#[cfg(any(feature = "tokio", feature = "async-io"))]
pub(crate) use responder::Taken;
pub(crate) use responder::{DRAIN, End, Handler, Responder, dispose, is_post};
pub(crate) use scheduler::{Scheduler, Slot};
pub use service::{Request, Response, Service, ServiceError};
pub(crate) use stop::Stop;
