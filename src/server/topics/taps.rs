//! `Taps`: the server's own topic of copies, as the acceptor sees it: who taps.
//!
//! The [tap](crate::server::tap) publishes. It does so only while somebody is here.

#![forbid(unsafe_code)]

use std::sync::Arc;

use super::own::OwnTopic;
use super::table::Id;
use crate::channel::ChannelError;
use crate::connect::TAP_TOPIC;
use crate::server::shared::Shared;
use crate::server::watch::Watched;

/// The size of its ring: so many bytes hold some ten thousand short records, or 32 of the longest.
const RING: usize = 4 << 20;

pub(super) struct Taps {
    shared: Arc<Shared>,
    pub(super) topic: OwnTopic,
}

impl Taps {
    /// Makes the topic. Its number must be one that no publication has.
    pub(super) fn new(shared: &Arc<Shared>, publication: Id) -> Result<Taps, ChannelError> {
        let (topic, writer) = OwnTopic::new(publication, TAP_TOPIC, RING)?;
        shared.tap.begin(writer);
        Ok(Taps { shared: Arc::clone(shared), topic })
    }

    /// From now on calls and messages are copied, at least so many bytes of each payload.
    pub(super) fn copy(&self, most: usize) {
        self.shared.tap.wants(most);
        self.shared.watch.set(Watched::TAPPED, true);
    }
}

/// Nobody taps any more.
impl Drop for Taps {
    fn drop(&mut self) {
        self.shared.watch.set(Watched::TAPPED, false);
        self.shared.tap.end();
    }
}
