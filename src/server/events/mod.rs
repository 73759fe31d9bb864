//! What the server reports to the program's `tracing` subscriber.

mod event;
mod limits;
mod queue;

pub(super) use event::{Event, Refused, TopicChange};
pub(super) use queue::Events;
