//! `Roll`: registers and releases clients, and notes who appeared and who vanished in the registry's order.
//!
//! Workers and the acceptor change the registry. Each change and its note are made under one lock, so the
//! notes are in the order of the changes, and whoever has read a note finds its change in every list made
//! after that.

#![forbid(unsafe_code)]

use std::sync::Mutex;

use super::shared::lock;
use crate::connect::topics::PresenceSample;
use crate::registry::{Owner, RegisterError, Registered, Registry, RegistryError};
use crate::testing::failpoints::failpoint;
use crate::wire::{Name, Peer, VanishReason};

#[derive(Debug, Default)]
pub(super) struct Roll(Mutex<Changes>);

#[derive(Debug, Default)]
struct Changes {
    /// Somebody reads the notes.
    is_followed: bool,
    notes: Vec<PresenceSample>,
}

impl Roll {
    /// Registers a client.
    pub(super) fn register(
        &self,
        registry: &Registry,
        name: &Name,
        owner: Owner,
    ) -> Result<Registered, RegisterError> {
        let mut changes = lock(&self.0);
        let registered = registry.register(name, owner)?;
        failpoint!("roll.registered", [server], seldom);
        let Owner { pid, uid, gid } = owner;
        changes.note(PresenceSample::Appeared(Peer { name: *name, key: registered.key, pid, uid, gid }));
        Ok(registered)
    }

    /// Frees a client's name and place. Returns whether somebody is to be told.
    pub(super) fn release(
        &self,
        registry: &Registry,
        peer: &Peer,
        reason: VanishReason,
    ) -> Result<bool, RegistryError> {
        let mut changes = lock(&self.0);
        registry.release(peer.key)?;
        failpoint!("roll.released", [server], seldom);
        changes.note(PresenceSample::Vanished { peer: *peer, reason });
        Ok(changes.is_followed)
    }

    /// From now on changes are noted.
    pub(super) fn follow(&self) {
        lock(&self.0).is_followed = true;
    }

    /// The notes since the last time.
    pub(super) fn take(&self) -> Vec<PresenceSample> {
        std::mem::take(&mut lock(&self.0).notes)
    }
}

impl Changes {
    fn note(&mut self, note: PresenceSample) {
        if self.is_followed {
            self.notes.push(note);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Many threads register and release at once. Every note is true of the registry in the order of the
    /// notes, and a list made after a note was read does not contradict it.
    #[test]
    fn notes_are_in_the_order_of_the_registry_s_changes() {
        let (roll, registry) = (Roll::default(), Registry::create(8).unwrap());
        let owner = Owner { pid: 1, uid: 2, gid: 3 };
        roll.register(&registry, &Name::new("before").unwrap(), owner).unwrap();
        assert!(roll.take().is_empty(), "nobody followed");
        roll.follow();
        let (mut present, mut names) = (HashSet::new(), HashSet::new());
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|number| {
                    let (roll, registry) = (&roll, &registry);
                    scope.spawn(move || {
                        // Two threads share each name.
                        let name = Name::new(&format!("client {}", number / 2)).unwrap();
                        for _ in 0..500 {
                            let Ok(registered) = roll.register(registry, &name, owner) else { continue };
                            let peer = Peer { name, key: registered.key, pid: 1, uid: 2, gid: 3 };
                            assert!(roll.release(registry, &peer, VanishReason::Unregistered).unwrap());
                        }
                    })
                })
                .collect();
            loop {
                let ended = threads.iter().all(std::thread::ScopedJoinHandle::is_finished);
                let notes = roll.take();
                for note in &notes {
                    match note {
                        PresenceSample::Appeared(peer) => {
                            assert!(present.insert(peer.key) && names.insert(peer.name), "{peer:?} twice");
                        }
                        PresenceSample::Vanished { peer, .. } => {
                            assert!(present.remove(&peer.key) && names.remove(&peer.name), "{peer:?}");
                        }
                    }
                }
                let listed: HashSet<_> =
                    registry.list(0, 8).unwrap().0.into_iter().map(|client| client.key).collect();
                for note in notes {
                    if let PresenceSample::Vanished { peer, .. } = note {
                        assert!(!listed.contains(&peer.key), "{peer:?} is listed after it vanished");
                    }
                }
                if ended {
                    break;
                }
            }
        });
        assert!(present.is_empty());
    }
}
