//! The server: accepts clients, serves each by a thread of its own, forwards their messages.

mod acceptor;
mod admission;
mod answers;
mod builder;
mod delivery;
mod enrolment;
mod error;
mod events;
#[cfg(fuzzing)]
pub(crate) mod fuzz;
mod handle;
#[cfg(any(feature = "internals", fuzzing, test))]
pub(crate) mod internals;
pub(crate) mod member;
mod panics;
mod place;
mod processes;
mod quotas;
mod scheduler;
mod service;
mod shared;
mod stopper;
mod summary;
mod system_limits;
mod uptime;
mod worker;
mod workers;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use acceptor::{GREETING_TIME, MOST_ASKS, OBSERVING_TIME};
#[cfg(test)]
pub(crate) use admission::MOST_GREETING;
pub use builder::{DEFAULT_MAX_CLIENTS, DEFAULT_RING_SIZE, MOST_CLIENTS, ServerBuilder};
pub use error::StartError;
pub use handle::Server;
pub use service::{Request, Response, Service, ServiceError};
pub use stopper::Stopper;
pub use summary::ServerSummary;
#[cfg(test)]
pub(crate) use worker::{DRAIN, parse_send};
