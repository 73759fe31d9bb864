//! Links: direct channels between two clients, one of which calls and the other serves.

mod end;
mod error;
mod handshake;
mod incoming;
mod intake;
mod link;
mod listener;
mod options;
mod pipes;
#[cfg(test)]
mod property;
mod responder;
mod serve;
mod serving_error;
mod set;
mod takes;
mod tap;

pub use error::ConnectError;
pub use incoming::Incoming;
pub use link::Link;
pub use listener::Listener;
pub use options::LinkOptions;
pub use responder::Responder;
pub use serve::ServeHandle;
pub use serving_error::{AcceptError, ServeError};

#[cfg(any(feature = "tokio", feature = "async-io"))]
pub(crate) use handshake::Connecting;
#[cfg(any(fuzzing, feature = "tokio", feature = "async-io"))]
pub(crate) use handshake::Greeting;
#[cfg(any(feature = "tokio", feature = "async-io"))]
pub(crate) use listener::Listening;
#[cfg(any(feature = "tokio", feature = "async-io"))]
pub(crate) use responder::{Given, Next};

pub(super) use end::{LinkEnd, OpenLink};
#[cfg(fuzzing)]
pub(super) use handshake::connect_over;
#[cfg(any(test, feature = "tokio", feature = "async-io"))]
pub(super) use handshake::note_unused;
pub(super) use intake::{Bell, Intake};
pub(super) use pipes::{PeerDescriptors, is_pipe_end, is_process};
pub(super) use set::Links;
#[cfg(fuzzing)]
pub(super) use takes::taken;
pub(super) use takes::{Taker, Takes};
