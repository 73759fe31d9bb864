//! The registry: who is on the bus.
//!
//! One shared segment holds the server's identity, a robust process-shared mutex and an array of entries, one
//! for each client ([`layout`] has it byte by byte). Only the server maps it; a forked child inherits the
//! mapping, and a successor adopts it.
//!
//! # What the locks protect
//!
//! The mutex protects every word of every entry but the counters, and `changes`. The counters have one writer
//! each and are read without any lock. An [`Index`] of names and free slots is private to the process, under
//! a [`std::sync::Mutex`] that is always locked first; so the threads of one process queue there, and the
//! mutex in the segment is contended between processes only. Neither is held over a wait or a call out.
//!
//! # Why an owner's death at any store is repaired
//!
//! The kernel marks the mutex of a dead owner after the owner's last store and before anyone else can lock
//! it, so the next holder knows of the death and sees everything that was stored. What can it see?
//!
//! * A registration stores `claiming`, then the fields, then `live`; the fence between the first two and
//!   Release on the last keep that order. Dead before `claiming`: nothing has happened. Dead before `live`:
//!   the entry is `claiming`, the repair bumps its generation and frees it, and the key was never told to
//!   anyone. Dead after: the client is registered, whole.
//! * A release stores `free`, an announcement of leaving stores `leaving`: one store each, done or not done.
//! * The repair stores the new generation, then `free`. Dead between: the entry is still `claiming`, and the
//!   next repair does the same again. The mutex is declared consistent only after the repair; until then each
//!   death leaves it to the next holder.
//! * `changes` is bumped before the first store of anything. An index that was true at another value of
//!   `changes` is built anew from the entries, as it is after every repair and after a panic that left it
//!   half changed.
//!
//! A bumped generation, and 80 random bits, make each key differ from all that the slot ever had.

#![deny(unsafe_code)]

mod counters;
mod entry;
mod error;
mod info;
mod layout;
mod mutex;
mod table;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use mutex::tests::fork;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

pub(crate) use self::counters::CounterCells;
pub use self::counters::Counters;
use self::entry::Registration;
pub(crate) use self::error::RegisterError;
pub use self::error::RegistryError;
pub(crate) use self::info::Owner;
pub use self::info::{ClientInfo, ClientState};
use self::mutex::RobustMutex;
use self::table::{Index, Table};
use crate::os::descriptors::Ours;
use crate::shm::Segment;
use crate::shm::backend::fill_random;
use crate::wire::{Key, Name};

/// The clients of one server.
#[derive(Debug)]
pub(crate) struct Registry {
    index: Mutex<Index>,
    mutex: RobustMutex,
    table: Table,
    fd: Ours,
}

/// A client that has just been registered.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) key: Key,
    /// Its counters, to count without a lock until the key is released.
    pub(crate) counters: CounterCells,
}

impl Registry {
    /// Makes an empty registry for 1 to 65536 clients. Memory is taken up as slots are first used.
    pub(crate) fn create(capacity: u32) -> Result<Registry, RegistryError> {
        let (mutex, fd) = RobustMutex::create(capacity, u128::from_le_bytes(random()?))?;
        Ok(Registry::new(mutex, capacity, Ours::new(fd)))
    }

    fn new(mutex: RobustMutex, capacity: u32, fd: Ours) -> Registry {
        let table = Table { segment: mutex.segment().clone(), capacity };
        Registry { index: Mutex::new(Index::empty(&table)), mutex, table, fd }
    }

    /// Registers a client under a name that no one holds.
    pub(crate) fn register(&self, name: &Name, owner: Owner) -> Result<Registered, RegisterError> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        let registration = Registration { name: *name, owner, at, random: random()? };
        let key = self.locked(|index| index.register(&self.table, &registration))??;
        Ok(Registered { key, counters: CounterCells::new(&self.table.segment, key.slot()) })
    }

    /// Ends a registration; the name is free at once, the key never comes again. False if the key has none.
    ///
    /// Whoever counts for this client must be done with it ([`CounterCells`]).
    pub(crate) fn release(&self, key: Key) -> Result<bool, RegistryError> {
        self.locked(|index| index.release(&self.table, key))
    }

    /// Marks a live client as leaving: no longer found by its name, which stays taken until the release.
    /// False if the key has no live client.
    pub(crate) fn mark_leaving(&self, key: Key) -> Result<bool, RegistryError> {
        self.locked(|_| self.table.leave(key))
    }

    /// The key of the live client with this name.
    pub(crate) fn key_of(&self, name: &Name) -> Result<Option<Key>, RegistryError> {
        self.locked(|index| {
            let entry = self.table.entry(index.slot_of(name)?);
            (entry.state() == entry::LIVE).then(|| entry.key())
        })
    }

    /// The client, live or leaving, with this key.
    pub(crate) fn get(&self, key: Key) -> Result<Option<ClientInfo>, RegistryError> {
        self.locked(|_| self.table.find(key)?.read())
    }

    /// Up to `max` clients, and at least one if there is one, in the order of their slots from `from_slot`
    /// on; and the slot to go on from, if there are more.
    pub(crate) fn list(
        &self,
        from_slot: u32,
        max: usize,
    ) -> Result<(Vec<ClientInfo>, Option<u32>), RegistryError> {
        let Ok(from) = u16::try_from(from_slot) else {
            return Ok((Vec::new(), None));
        };
        self.locked(|index| {
            let mut slots = index.taken_from(from);
            let clients =
                slots.by_ref().take(max.max(1)).filter_map(|slot| self.table.entry(slot).read()).collect();
            (clients, slots.next().map(u32::from))
        })
    }

    /// How many clients there are, live or leaving.
    pub(crate) fn len(&self) -> Result<u32, RegistryError> {
        self.locked(|index| index.len())
    }

    /// How many clients there can be.
    pub(crate) fn capacity(&self) -> u32 {
        self.table.capacity
    }

    /// Both locks, in their order, with the table whole and the index up to date.
    fn locked<R>(&self, work: impl FnOnce(&mut Index) -> R) -> Result<R, RegistryError> {
        let mut index = self.index.lock().unwrap_or_else(|poisoned| {
            // A panic under the lock may have left anything half done; the entries tell what is true.
            self.index.clear_poison();
            let mut index = PoisonError::into_inner(poisoned);
            index.distrust();
            index
        });
        let repair = |index: &mut Index| {
            // A repair may be needed by processes whose index this one's announcements have not reached.
            self.table.announce();
            index.rebuild(&self.table);
        };
        self.mutex.with(&mut *index, repair, |index| {
            index.refresh(&self.table);
            work(index)
        })
    }
}

/// For a successor server.
#[allow(dead_code, reason = "tested here; the server does not hand its registry on yet")]
impl Registry {
    /// Takes over the registry of another server, by the descriptor that this one made: its clients, keys and
    /// all.
    ///
    /// The descriptor must come from a party that is trusted like this process itself.
    pub(crate) fn adopt(fd: OwnedFd) -> Result<Registry, RegistryError> {
        let (mutex, capacity) = RobustMutex::attach(Segment::open(&fd)?)?;
        let registry = Registry::new(mutex, capacity, Ours::new(fd));
        registry.index.lock().unwrap_or_else(PoisonError::into_inner).distrust();
        registry
            .locked(|_| registry.table.segment.word32(layout::OWNER_AT).store(std::process::id(), Relaxed))?;
        Ok(registry)
    }

    /// The descriptor to hand to a successor.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Random, and kept when a successor adopts the registry.
    pub(crate) fn identity(&self) -> u128 {
        layout::identity(&self.table.segment)
    }

    /// The process that made or last adopted the registry.
    pub(crate) fn owner(&self) -> u32 {
        self.table.segment.word32(layout::OWNER_AT).load(Relaxed)
    }
}

fn random<const N: usize>() -> Result<[u8; N], RegistryError> {
    let mut bytes = [0; N];
    fill_random(&mut bytes).map_err(RegistryError::Random)?;
    Ok(bytes)
}
