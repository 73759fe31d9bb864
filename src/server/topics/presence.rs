//! `Presence`: the server's own topic of registrations.
//!
//! The acceptor publishes what the [roll](crate::server::roll) has noted. A subscriber that is lapped asks
//! for the list anew.

#![forbid(unsafe_code)]

use super::own::OwnTopic;
use super::table::Id;
use crate::channel::ChannelError;
use crate::connect::topics::{PRESENCE_TOPIC, PresenceSample};
use crate::testing::failpoints::failpoint;
use crate::topic::Writer;

/// The size of its ring: so many bytes hold some two thousand changes.
const RING: usize = 256 << 10;

pub(super) struct Presence {
    pub(super) topic: OwnTopic,
    writer: Writer,
}

impl Presence {
    /// Makes the topic. Its number must be one that no publication has.
    pub(super) fn new(publication: Id) -> Result<Presence, ChannelError> {
        let (topic, writer) = OwnTopic::new(publication, PRESENCE_TOPIC, RING)?;
        Ok(Presence { topic, writer })
    }

    pub(super) fn publish(&mut self, changes: &[PresenceSample]) {
        for change in changes {
            // It waits for nobody, so it cannot be full; and a change is shorter than the largest sample.
            let _ = self.writer.try_send(&change.encode());
            failpoint!("presence.published", [server], seldom);
        }
        // What is kept for those who have left goes now, not with the next change.
        let _ = self.writer.heed_changes();
        self.topic.forget_evictions();
    }
}
