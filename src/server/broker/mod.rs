//! The broker: introduces clients to each other, so that they can call each other without the server.
//!
//! A client that wants to call asks CONNECT, and gets its side of a new link with the answer. The other side
//! waits at the callee's until that takes it: the server rings the callee's bell, and the callee asks TAKE.
//! The segment and the pipes are the link. After both sides were taken the server has no descriptor of it,
//! only a line in a [table](table).
//!
//! All of this belongs to the acceptor's thread. Other threads see only [`LinkMarks`].

mod introductions;
mod marks;
mod table;
#[cfg(test)]
mod tests;
mod waiting;

pub(super) use introductions::Broker;
pub(super) use marks::LinkMarks;
#[cfg(test)]
pub(crate) use waiting::{AT_ONE_CLIENT, OF_ONE_USER};
