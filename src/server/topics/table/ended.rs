//! Publications that have ended and stay for those who have not taken them, and what is dropped in time.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Instant;

use super::{Id, Publication, State, Table};
use crate::os::descriptors::Ours;
use crate::wire::Key;

/// How many publications of one user stay in the table after they have ended.
const LINGERING: usize = 64;

impl Table {
    /// The process of a client that has ended another publication, if that is still there.
    pub(in crate::server::topics) fn process_of(&self, key: Key) -> Option<Arc<Ours>> {
        self.ended.iter().find_map(|id| match self.publications.get(id) {
            Some(Publication { publisher, state: State::Ended { process, .. }, .. })
                if publisher.key == key =>
            {
                Some(Arc::clone(process))
            }
            _ => None,
        })
    }

    /// One more publication of a user is to stay: drops the oldest if there are too many.
    pub(super) fn make_room_for_ended(&mut self, uid: u32) {
        let is_its = |id: &&Id| self.publications.get(id).is_some_and(|ended| ended.publisher.uid == uid);
        let its: Vec<Id> = self.ended.iter().filter(is_its).copied().collect();
        if its.len() >= LINGERING {
            self.drop_publication(its[0]);
        }
    }

    /// Drops the publications that have ended, of one user or of all, because something needs their place.
    /// Returns whether there were any.
    pub(in crate::server::topics) fn drop_ended(&mut self, uid: Option<u32>) -> bool {
        let is_its = |id: &&Id| {
            self.publications.get(id).is_some_and(|ended| uid.is_none_or(|uid| ended.publisher.uid == uid))
        };
        let its: Vec<Id> = self.ended.iter().filter(is_its).copied().collect();
        its.iter().for_each(|id| self.drop_publication(*id));
        !its.is_empty()
    }

    /// Drops an offer, or a publication that has ended.
    pub(super) fn drop_publication(&mut self, id: Id) {
        let Some(publication) = self.publications.remove(&id) else { return };
        if let Some(published) = publication.published() {
            self.log.remove(&published);
        }
        self.ended.retain(|ended| *ended != id);
        let key = publication.publisher.key;
        if let Some(client) = self.clients.get_mut(&key) {
            client.publications.remove(&id);
            self.forget_if_idle(key);
        }
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(in crate::server::topics) fn due(&mut self) -> Option<Instant> {
        while let Some((due, id)) = self.due.front() {
            if self.publications.get(id).is_some_and(|publication| publication.due == Some(*due)) {
                return Some(*due);
            }
            self.due.pop_front();
        }
        None
    }

    /// Drops offers that were not sealed in time, and publications that have ended and were there for long
    /// enough. Returns how many.
    pub(in crate::server::topics) fn expire(&mut self, now: Instant) -> usize {
        let mut expired = 0;
        while self.due().is_some_and(|due| due <= now) {
            let Some((_, id)) = self.due.pop_front() else { break };
            self.drop_publication(id);
            expired += 1;
        }
        expired
    }
}
