//! The registry: a table of the registered clients in shared memory, which survives the death of its user.
//!
//! One segment holds the server's identity, a robust process-shared mutex and one entry for each client
//! ([`layout`] describes it byte by byte). Only the server maps it. A forked child inherits the mapping, and
//! a successor server can adopt it.
//!
//! # What the locks protect
//!
//! The mutex protects `changes` and every word of every entry except the counters. Each counter has one
//! writer and is read without a lock. An [`Index`] of names and free slots is private to the process, under a
//! [`std::sync::Mutex`] that is always locked first. So the threads of one process queue at that lock, and
//! only processes contend for the mutex in the segment. No lock is held during a wait or a callback.
//!
//! # Why the registry is repaired wherever its owner dies
//!
//! The kernel marks the mutex of a dead owner after the owner's last store and before anyone else can lock
//! it. So the next owner knows of the death and sees every store that was made. It can find these states:
//!
//! * A registration stores `claiming`, then the fields, then `live`. A fence after the first store and the
//!   Release of the last one keep this order. Death before `claiming`: nothing happened. Death before `live`:
//!   the entry is `claiming`, so the repair increments its generation and frees it; nobody was told the key.
//!   Death after `live`: the client is registered.
//! * A release stores `free`, and marking a client as leaving stores `leaving`: one store each.
//! * The repair stores the new generation, then `free`. Death in between: the entry is still `claiming`, and
//!   the next repair does the same again. The mutex is declared consistent only after the repair; until then
//!   every death leaves the repair to the next owner.
//! * `changes` is incremented before the first store of any change. An index that was built at another value
//!   of `changes` is rebuilt from the entries. It is also rebuilt after every repair, and after a panic that
//!   may have left it half changed.
//!
//! The incremented generation and 80 random bits make each key differ from all earlier keys of its slot.

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
pub(crate) use self::error::RegistryError;
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
    /// Makes an empty registry for 1 to 65536 clients. A slot uses memory from its first use on.
    pub(crate) fn create(capacity: u32) -> Result<Registry, RegistryError> {
        let (mutex, fd) = RobustMutex::create(capacity, u128::from_le_bytes(random()?))?;
        Ok(Registry::new(mutex, capacity, Ours::new(fd)))
    }

    fn new(mutex: RobustMutex, capacity: u32, fd: Ours) -> Registry {
        let table = Table { segment: mutex.segment().clone(), capacity };
        Registry { index: Mutex::new(Index::empty(&table)), mutex, table, fd }
    }

    /// Registers a client under a name that is not taken.
    pub(crate) fn register(&self, name: &Name, owner: Owner) -> Result<Registered, RegisterError> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        let registration = Registration { name: *name, owner, at, random: random()? };
        let key = self.locked(|index| index.register(&self.table, &registration))??;
        Ok(Registered { key, counters: CounterCells::new(&self.table.segment, key.slot()) })
    }

    /// Ends a registration and frees its name. The key is never used again. False if no client has the key.
    ///
    /// All writers of this client's [`CounterCells`] must have finished.
    pub(crate) fn release(&self, key: Key) -> Result<bool, RegistryError> {
        self.locked(|index| index.release(&self.table, key))
    }

    /// Marks a live client as leaving: look-ups no longer find it, but its name stays taken until the
    /// release. False if no live client has the key.
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

    /// Lists up to `max` clients (at least one if there is one) in the order of their slots, starting at
    /// `from_slot`. If there are more, also gives the slot at which to continue.
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

    /// The number of clients, live or leaving.
    pub(crate) fn len(&self) -> Result<u32, RegistryError> {
        self.locked(|index| index.len())
    }

    /// The largest possible number of clients.
    pub(crate) fn capacity(&self) -> u32 {
        self.table.capacity
    }

    /// Runs `work` under both locks, with the table repaired and the index up to date.
    fn locked<R>(&self, work: impl FnOnce(&mut Index) -> R) -> Result<R, RegistryError> {
        let mut index = self.index.lock().unwrap_or_else(|poisoned| {
            // A panic may have left the index half changed, so rebuild it from the entries.
            self.index.clear_poison();
            let mut index = PoisonError::into_inner(poisoned);
            index.mark_stale();
            index
        });
        let repair = |index: &mut Index| {
            // Makes the other processes rebuild their indexes, too.
            self.table.announce();
            index.rebuild(&self.table);
        };
        self.mutex.with(&mut *index, repair, |index| {
            index.refresh(&self.table);
            work(index)
        })
    }
}

/// Handing the registry over to a successor server.
#[allow(dead_code, reason = "tested here; the server does not hand its registry over yet")]
impl Registry {
    /// Takes over another server's registry with all its clients, by the descriptor that the other one made.
    ///
    /// The sender of the descriptor must be trusted as much as this process.
    pub(crate) fn adopt(fd: OwnedFd) -> Result<Registry, RegistryError> {
        let (mutex, capacity) = RobustMutex::attach(Segment::open(&fd)?)?;
        let registry = Registry::new(mutex, capacity, Ours::new(fd));
        registry.index.lock().unwrap_or_else(PoisonError::into_inner).mark_stale();
        registry
            .locked(|_| registry.table.segment.word32(layout::OWNER_AT).store(std::process::id(), Relaxed))?;
        Ok(registry)
    }

    /// The descriptor to hand to a successor.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The server's random identity. A successor that adopts the registry keeps it.
    pub(crate) fn identity(&self) -> u128 {
        layout::identity(&self.table.segment)
    }

    /// The id of the process that made or last adopted the registry.
    pub(crate) fn owner(&self) -> u32 {
        self.table.segment.word32(layout::OWNER_AT).load(Relaxed)
    }
}

fn random<const N: usize>() -> Result<[u8; N], RegistryError> {
    let mut bytes = [0; N];
    fill_random(&mut bytes).map_err(RegistryError::Random)?;
    Ok(bytes)
}
