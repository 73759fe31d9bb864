//! Records a server's figures with the `metrics` facade.
//!
//! **What is counted stays bounded.** A recorder keeps a value for each name and labels that it was ever
//! given. So the figures of the server have no other labels than users, of which there are few; those of
//! clients, links and topics, whose names are chosen by strangers, are recorded only by who asks for them,
//! and never of more than a thousand.
//!
//! **Counts of durations never fall.** Each client has its own histogram, which ends with the client. So what
//! each has measured since the last recording is added to a total of the server.

mod durations;
mod each;
mod handle;
mod whole;

#[cfg(all(test, feature = "cli"))]
mod tests;

pub use handle::Metrics;
pub(super) use handle::Recorded;
