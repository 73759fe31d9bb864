//! The server: accepts clients, serves each with its own thread, and forwards their messages.

mod acceptor;
mod access;
mod admission;
mod answers;
mod broker;
mod builder;
mod connections;
mod control;
mod delivery;
mod departure;
mod enrolment;
mod error;
mod events;
mod figures;
#[cfg(fuzzing)]
pub(crate) mod fuzz;
mod handle;
#[cfg(any(feature = "internals", fuzzing, test))]
pub(crate) mod internals;
mod kicks;
mod lifecycle;
mod measured;
pub(crate) mod member;
#[cfg(feature = "metrics")]
mod metrics;
mod panics;
mod processes;
mod questions;
mod quotas;
mod relays;
mod roll;
mod shared;
mod stopper;
mod summary;
mod system_limits;
mod tap;
mod topics;
mod unread_answers;
mod uptime;
mod watch;
mod watched_calls;
mod worker;
mod worker_thread;
mod workers;

#[cfg(test)]
mod tests;

pub use access::{Access, AccessControl, AccessError, Act, Rule};
#[cfg(test)]
pub(crate) use admission::MOST_GREETING;
#[cfg(test)]
pub(crate) use broker::{AT_ONE_CLIENT, OF_ONE_USER};
pub use builder::ServerBuilder;
#[cfg(test)]
pub(crate) use connections::{GREETING_TIME, MOST_ASKS, OBSERVING_TIME};
pub use error::StartError;
pub use handle::Server;
#[cfg(feature = "metrics")]
pub use metrics::Metrics;
pub use stopper::Stopper;
pub use summary::ServerSummary;
#[cfg(test)]
pub(crate) use topics::{AT_ONE_PUBLISHER, OF_ONE_SUBSCRIBER, OWN_AT_ONE_CLIENT};
#[cfg(test)]
pub(crate) use worker::parse_send;
