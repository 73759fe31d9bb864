//! A registered client as the server's threads know it, and the table of all of them.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::access::Who;
use super::broker::LinkMarks;
use super::connections::ConnectionId;
use super::delivery::Inbox;
use super::measured::Measured;
use super::quotas::Share;
use super::relays::Relay;
use crate::channel::{FiguresPage, Kicks};
use crate::connect::Secret;
use crate::registry::CounterCells;
use crate::ring::Closer;
use crate::wire::{Key, Peer};

/// A registered client.
pub(crate) struct Member {
    pub(super) peer: Peer,
    pub(super) inbox: Inbox,
    /// Closes the whole channel.
    pub(super) closer: Closer,
    /// Ends only the intake of requests: what was committed is still answered.
    pub(super) intake: Closer,
    pub(super) counters: CounterCells,
    /// The acceptor's number for its connection.
    connection: ConnectionId,
    retired: AtomicBool,
    /// Its share of its user's quotas.
    pub(super) share: Share,
    /// What only the client knows besides. `None` if it has no connection, in tests.
    secret: Option<Secret>,
    /// The groups of its user besides that of `peer`.
    groups: Box<[u32]>,
    /// What it says about its links.
    pub(super) links: LinkMarks,
    /// By which its ends are woken in an event loop, once it has asked for that.
    pub(super) kicks: Kicks,
    /// What its worker counts and measures.
    pub(super) measured: Measured,
    /// What it says about itself. `None` in tests.
    pub(super) page: Option<FiguresPage>,
    /// Set for a relay.
    pub(super) relay: Option<Relay>,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Member {
    pub(super) fn new(
        peer: Peer,
        inbox: Inbox,
        closers: (Closer, Closer),
        counters: CounterCells,
        connection: ConnectionId,
    ) -> Member {
        let (closer, intake) = closers;
        let (retired, share) = (AtomicBool::new(false), Share::default());
        let (secret, groups, links, kicks) = (None, Box::default(), LinkMarks::default(), Kicks::default());
        Member {
            peer,
            inbox,
            closer,
            intake,
            counters,
            connection,
            retired,
            share,
            secret,
            groups,
            links,
            kicks,
            measured: Measured::default(),
            page: None,
            relay: None,
        }
    }

    pub(super) fn with(self, secret: Secret, links: LinkMarks, kicks: Kicks, share: Share) -> Member {
        Member { secret: Some(secret), links, kicks, share, ..self }
    }

    pub(super) fn with_figures(self, measured: Measured, page: FiguresPage) -> Member {
        Member { measured, page: Some(page), ..self }
    }

    pub(super) fn in_groups(self, groups: Box<[u32]>) -> Member {
        Member { groups, ..self }
    }

    pub(super) fn with_relay(self, relay: Option<Relay>) -> Member {
        Member { relay, ..self }
    }

    /// Who it is, for the rules.
    pub(super) fn who(&self) -> Who<'_> {
        let Peer { name, uid, gid, .. } = &self.peer;
        Who { name, uid: *uid, gid: *gid, groups: &self.groups }
    }

    /// Whether this is the client's secret.
    pub(super) fn has(&self, secret: &Secret) -> bool {
        self.secret.as_ref() == Some(secret)
    }

    pub(super) fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// True only for the first call: that caller does what must be done once.
    pub(super) fn retire(&self) -> bool {
        !self.retired.swap(true, Ordering::AcqRel)
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }
}

/// All members, by slot.
#[derive(Debug, Default)]
pub(super) struct Members {
    slots: RwLock<Vec<Option<Arc<Member>>>>,
}

impl Members {
    pub(super) fn insert(&self, member: Arc<Member>) {
        let slot = usize::from(member.peer.key.slot());
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        if slots.len() <= slot {
            slots.resize(slot + 1, None);
        }
        slots[slot] = Some(member);
    }

    /// The member with this key. All bits of the key are compared.
    pub(super) fn get(&self, key: Key) -> Option<Arc<Member>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.get(usize::from(key.slot()))?.as_ref().filter(|member| member.peer.key == key).cloned()
    }

    /// Removes the member with this key, unless its slot is already another's.
    pub(super) fn remove(&self, key: Key) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = slots.get_mut(usize::from(key.slot()))
            && place.as_ref().is_some_and(|member| member.peer.key == key)
        {
            *place = None;
        }
    }

    pub(super) fn all(&self) -> Vec<Arc<Member>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.iter().flatten().cloned().collect()
    }
}
