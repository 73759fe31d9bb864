//! What the server and its clients say of topics: publications, subscriptions, parts, pages of topics, and
//! who is present.
//!
//! `docs/PROTOCOL.md` describes them byte by byte.

mod part;
mod presence;
mod request;
mod topic_info;

pub(crate) use part::{Joined, Part, Source};
pub(crate) use presence::{OWN_PUBLISHER, PRESENCE_TOPIC, PresenceSample};
pub(crate) use request::{Granted, MOST_USERS, Publish, Subscribe, Subscribed, Waits};
pub use topic_info::TopicInfo;
pub(crate) use topic_info::{decode_topics, encode_topics, topics_per_page};
pub(super) use topic_info::{push_topic, take_topic};
