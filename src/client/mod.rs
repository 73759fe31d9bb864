//! The client: registers, calls, sends, receives, unregisters.

mod arming;
mod ask;
#[cfg(any(test, feature = "tokio", feature = "async-io"))]
mod asked;
mod asking;
mod backoff;
mod builder;
mod caller;
mod calls;
mod closer;
mod error;
mod event;
#[cfg(fuzzing)]
pub(crate) mod fuzz;
mod handle;
mod inbox;
#[cfg(feature = "internals")]
pub(crate) mod internals;
mod limits;
mod links;
mod messages;
mod observer;
mod questions;
mod readiness_error;
mod reconnect;
mod relay;
mod session;
mod topics;
mod wait_for;
mod watcher;

pub use backoff::Reconnect;
pub use builder::ClientBuilder;
pub use caller::Caller;
pub use closer::Closer;
pub use error::{CallError, ControlError, RecvError, RegisterError, SendError};
pub use event::{ReconnectError, ReconnectEvent};
pub use handle::Client;
pub use inbox::{Inbox, Message};
pub use limits::Limits;
pub use links::{
    AcceptError, ConnectError, Incoming, Link, LinkOptions, Listener, Responder, ServeError, ServeHandle,
};
pub use observer::Observer;
pub use readiness_error::ReadinessError;
pub use relay::Ticket;
#[cfg(any(feature = "tokio", feature = "async-io", test))]
pub(crate) use relay::confirmation;
pub use topics::{
    Change, Eviction, Overrun, OwnedSample, Presence, PublishError, PublishOptions, Publisher, Sample,
    SampleError, SampleGrant, SampleView, SubscribeError, SubscribeOptions, Subscriber,
};

#[cfg(any(feature = "tokio", feature = "async-io"))]
pub use ask::Calls;
#[cfg(any(feature = "tokio", feature = "async-io"))]
pub(crate) use links::{Connecting, Given, Greeting, Listening, Next};
