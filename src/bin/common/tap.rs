//! The topic by which a client lets its links be tapped.

use crate::connect::link_tap_topic;
use crate::{Name, Topic, TopicError};

/// The topic under which the client with this name publishes copies of what it serves over links.
///
/// # Errors
///
/// The name has so many characters that no topic may have that the topic would be too long.
pub fn topic_of(name: &Name) -> Result<Topic, TopicError> {
    link_tap_topic(name)
}
