//! `Table`: all entries in the segment. `Index`: this process's own index of them.

#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::entry::{self, Entry, Registration};
use super::{RegisterError, layout};
use crate::shm::Segment;
use crate::testing::failpoints::failpoint;
use crate::wire::{Key, Name};

/// The entries in the segment. Its methods must be called with the mutex held, and do not allocate.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) segment: Arc<Segment>,
    pub(super) capacity: u32,
}

impl Table {
    pub(super) fn entry(&self, slot: u16) -> Entry<'_> {
        Entry::new(&self.segment, slot)
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = u16> + use<> {
        (0..self.capacity).map_while(|slot| u16::try_from(slot).ok())
    }

    /// The entry of the live or leaving client with this key. All 128 bits are compared.
    pub(super) fn find(&self, key: Key) -> Option<Entry<'_>> {
        let entry = self.entry(key.slot());
        let known = u32::from(key.slot()) < self.capacity
            && matches!(entry.state(), entry::LIVE | entry::LEAVING)
            && entry.key() == key;
        known.then_some(entry)
    }

    /// Must be called before an entry changes: it makes every other process rebuild its index.
    pub(super) fn announce(&self) {
        let changes = self.changes().wrapping_add(1);
        self.segment.word64(layout::CHANGES_AT).store(changes, Relaxed);
        failpoint!("registry.changes", [server], seldom);
    }

    pub(super) fn changes(&self) -> u64 {
        self.segment.word64(layout::CHANGES_AT).load(Relaxed)
    }

    pub(super) fn claim(&self, slot: u16, registration: &Registration) -> Key {
        self.announce();
        self.entry(slot).claim(registration)
    }

    /// Frees the entry of a live or leaving client, and returns its name.
    pub(super) fn release(&self, key: Key) -> Option<Name> {
        let entry = self.find(key)?;
        let client = entry.read()?;
        self.announce();
        entry.free();
        Some(client.name)
    }

    /// Marks a live client as leaving. Indexes do not contain the state, so nothing is announced.
    pub(super) fn leave(&self, key: Key) -> bool {
        match self.find(key) {
            Some(entry) if entry.state() == entry::LIVE => {
                entry.leave();
                true
            }
            _ => false,
        }
    }

    /// Frees every incomplete entry. May be interrupted anywhere and run again.
    pub(super) fn repair(&self) {
        for entry in self.slots().map(|slot| self.entry(slot)) {
            if entry.state() != entry::FREE && entry.read().is_none() {
                self.announce();
                entry.discard();
            }
        }
    }
}

/// One process's index of the table, so that no operation searches it. A mutex of the process guards it.
#[derive(Debug)]
pub(super) struct Index {
    /// The slot of each live or leaving client.
    names: HashMap<Name, u16>,
    /// The same slots in order, for listing.
    taken: BTreeSet<u16>,
    /// The free slots. Taken from the front and returned to the back, so that a slot is reused as late as
    /// possible.
    free: VecDeque<u16>,
    /// The table's `changes` at the time when this index was up to date.
    seen: u64,
    /// Must be rebuilt, whatever `seen` says.
    stale: bool,
}

impl Index {
    /// The index of a table without clients.
    pub(super) fn empty(table: &Table) -> Index {
        let (names, taken) = Default::default();
        Index { names, taken, free: table.slots().collect(), seen: table.changes(), stale: false }
    }

    pub(super) fn mark_stale(&mut self) {
        self.stale = true;
    }

    /// Rebuilds the index if another process changed the table, or if a change was interrupted here.
    pub(super) fn refresh(&mut self, table: &Table) {
        if self.stale || self.seen != table.changes() {
            self.rebuild(table);
        }
    }

    /// Repairs the table, then rebuilds the index from it.
    pub(super) fn rebuild(&mut self, table: &Table) {
        self.stale = true;
        table.repair();
        self.names.clear();
        self.taken.clear();
        self.free.clear();
        for slot in table.slots() {
            let entry = table.entry(slot);
            match entry.read() {
                Some(client) if !self.names.contains_key(&client.name) => {
                    self.names.insert(client.name, slot);
                    self.taken.insert(slot);
                }
                duplicate => {
                    // No death leaves two clients with one name, but a stray write could.
                    if duplicate.is_some() {
                        table.announce();
                        entry.discard();
                    }
                    self.free.push_back(slot);
                }
            }
        }
        self.seen = table.changes();
        self.stale = false;
    }

    pub(super) fn register(
        &mut self,
        table: &Table,
        registration: &Registration,
    ) -> Result<Key, RegisterError> {
        if self.names.contains_key(&registration.name) {
            return Err(RegisterError::NameTaken);
        }
        let slot = self.free.pop_front().ok_or(RegisterError::Full)?;
        let key = table.claim(slot, registration);
        self.names.insert(registration.name, slot);
        failpoint!("registry.named", [server], seldom);
        self.taken.insert(slot);
        self.seen = table.changes();
        Ok(key)
    }

    pub(super) fn release(&mut self, table: &Table, key: Key) -> bool {
        let Some(name) = table.release(key) else {
            return false;
        };
        self.seen = table.changes();
        self.names.remove(&name);
        failpoint!("registry.unnamed", [server], seldom);
        self.taken.remove(&key.slot());
        self.free.push_back(key.slot());
        true
    }

    pub(super) fn slot_of(&self, name: &Name) -> Option<u16> {
        self.names.get(name).copied()
    }

    /// The taken slots, starting at this one.
    pub(super) fn taken_from(&self, slot: u16) -> impl Iterator<Item = u16> + '_ {
        self.taken.range(slot..).copied()
    }

    pub(super) fn len(&self) -> u32 {
        self.taken.len() as u32
    }
}
