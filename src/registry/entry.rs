//! `Entry`: one client's record in the registry. Its methods must be called with the mutex held.

#![forbid(unsafe_code)]

use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::atomic::{AtomicU32, fence};
use std::time::{Duration, SystemTime};

use super::{ClientInfo, ClientState, Owner, counters, layout};
use crate::shm::Segment;
use crate::testing::failpoints::failpoint;
use crate::wire::{Key, Name};

pub(super) const FREE: u32 = 0;
pub(super) const CLAIMING: u32 = 1;
pub(super) const LIVE: u32 = 2;
pub(super) const LEAVING: u32 = 3;

/// The contents of a new entry, prepared before the mutex is locked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Registration {
    pub(super) name: Name,
    pub(super) owner: Owner,
    /// Nanoseconds since the epoch.
    pub(super) at: u64,
    /// The random part of the key.
    pub(super) random: [u8; 10],
}

/// The entry in one slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    segment: &'a Segment,
    slot: u16,
    at: usize,
}

impl<'a> Entry<'a> {
    pub(super) fn new(segment: &'a Segment, slot: u16) -> Entry<'a> {
        Entry { segment, slot, at: layout::entry_at(slot) }
    }

    /// Fills a free entry, with the slot's next generation. The last store makes the client registered.
    pub(super) fn claim(self, registration: &Registration) -> Key {
        let Registration { name, owner, at, random } = registration;
        self.word(layout::STATE).store(CLAIMING, Relaxed);
        // No field may be stored before the state: after a death in between, the entry would look free.
        fence(Release);
        failpoint!("registry.claiming", [server], seldom);
        let key = Key::new(self.slot, self.next_generation(), *random);
        failpoint!("registry.generation", [server], seldom);
        layout::store128(self.segment, self.at + layout::KEY, key.to_u128());
        failpoint!("registry.key", [server], seldom);
        self.word(layout::PID).store(owner.pid, Relaxed);
        failpoint!("registry.pid", [server], seldom);
        self.word(layout::UID).store(owner.uid, Relaxed);
        failpoint!("registry.uid", [server], seldom);
        self.word(layout::GID).store(owner.gid, Relaxed);
        failpoint!("registry.gid", [server], seldom);
        self.segment.word64(self.at + layout::REGISTERED).store(*at, Relaxed);
        failpoint!("registry.registered", [server], seldom);
        self.word(layout::NAME_LEN).store(name.len() as u32, Relaxed);
        failpoint!("registry.name_length", [server], seldom);
        self.segment.copy_in(self.at + layout::NAME, name.as_bytes());
        failpoint!("registry.name", [server], seldom);
        counters::clear(self.segment, self.at);
        failpoint!("registry.counters", [server], seldom);
        self.word(layout::STATE).store(LIVE, Release);
        failpoint!("registry.live", [server], seldom);
        key
    }

    /// Ends the registration, with one store.
    pub(super) fn free(self) {
        self.word(layout::STATE).store(FREE, Release);
        failpoint!("registry.free", [server], seldom);
    }

    /// Marks the client as leaving, with one store.
    pub(super) fn leave(self) {
        self.word(layout::STATE).store(LEAVING, Release);
        failpoint!("registry.leaving", [server], stopping);
    }

    /// Frees an incomplete entry. It increments the generation, since the registration may not have done so.
    pub(super) fn discard(self) {
        self.next_generation();
        // Has no name because the chaos test cannot reach it: no server adopts another's registry yet.
        #[cfg(test)]
        crate::testing::failpoints::counted::pass_one();
        self.free();
    }

    pub(super) fn state(self) -> u32 {
        self.word(layout::STATE).load(Relaxed)
    }

    pub(super) fn generation(self) -> u32 {
        self.word(layout::GENERATION).load(Relaxed)
    }

    pub(super) fn key(self) -> Key {
        Key::from_u128(layout::load128(self.segment, self.at + layout::KEY))
    }

    /// Reads a live or leaving entry; `None` if it is free or incomplete.
    pub(super) fn read(self) -> Option<ClientInfo> {
        let state = match self.state() {
            LIVE => ClientState::Live,
            LEAVING => ClientState::Leaving,
            _ => return None,
        };
        let key = self.key();
        if key.slot() != self.slot || key.generation() != self.generation() {
            return None;
        }
        let at = self.segment.word64(self.at + layout::REGISTERED).load(Relaxed);
        Some(ClientInfo {
            name: self.name()?,
            key,
            state,
            pid: self.word(layout::PID).load(Relaxed),
            uid: self.word(layout::UID).load(Relaxed),
            gid: self.word(layout::GID).load(Relaxed),
            registered: SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(at))?,
            counters: counters::read(self.segment, self.at),
            // The registry knows nothing of links.
            serves: false,
            links: 0,
        })
    }

    fn name(self) -> Option<Name> {
        let mut bytes = [0; Name::MAX_LEN];
        let len = usize::try_from(self.word(layout::NAME_LEN).load(Relaxed)).ok()?;
        let name = bytes.get_mut(..len)?;
        self.segment.copy_out(self.at + layout::NAME, name);
        Name::from_bytes(name).ok()
    }

    /// Increments the generation. It wraps after 2^32 registrations; then the random part tells keys apart.
    fn next_generation(self) -> u32 {
        let next = self.generation().wrapping_add(1);
        self.word(layout::GENERATION).store(next, Relaxed);
        next
    }

    fn word(self, field: usize) -> &'a AtomicU32 {
        self.segment.word32(self.at + field)
    }
}
