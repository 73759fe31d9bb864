//! Topics: one client publishes samples, any number of others read them.

mod error;
mod feed;
mod notice;
mod part;
mod presence;
mod publication;
mod publish_options;
mod publisher;
mod renewal;
mod sample;
mod set;
mod subscribe_options;
mod subscriber;
mod subscription;
mod tap;
#[cfg(test)]
mod tests;
mod waits;

pub use error::{Overrun, PublishError, SampleError, SubscribeError};
pub use presence::{Change, Presence};
pub use publish_options::PublishOptions;
pub use publisher::{Eviction, Publisher, SampleGrant};
pub use sample::{OwnedSample, Sample, SampleView};
pub use subscribe_options::SubscribeOptions;
pub use subscriber::Subscriber;

pub(super) use part::Life;
pub(super) use publication::Publication;
pub(super) use set::Topics;
pub(super) use subscription::Subscription;
