//! Topics: who publishes and who subscribes, and what each side gets so that samples need no server.
//!
//! A client that wants to publish asks PUBLISH, and gets the topic's segment. It maps and seals the segment
//! and says PUBLISHED. Then the server opens the segment anew, for reading only: that is what subscribers
//! get. A client that subscribes learns by its bell that a publisher has come, and asks PART. The server
//! makes a page for the two, gives it to the subscriber, and leaves it for the publisher, which it rings as
//! well.
//!
//! The server writes nothing into a segment or a page, but for those of its own topics: of
//! [registrations](presence), and of [copies](taps) of calls and messages. It keeps the descriptor of each
//! topic's segment, so that later subscribers get it, and of a page until the publisher has taken it. All of
//! this belongs to the acceptor's thread.

mod lifecycle;
mod own;
mod presence;
mod publishing;
mod queues;
mod stand_in;
mod subscribing;
mod table;
mod taps;
#[cfg(test)]
mod tests;

pub(super) use lifecycle::Topics;
#[cfg(test)]
pub(crate) use own::AT_ONE_CLIENT as OWN_AT_ONE_CLIENT;
#[cfg(test)]
pub(crate) use queues::{AT_ONE_PUBLISHER, OF_ONE_SUBSCRIBER};
