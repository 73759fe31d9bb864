//! Tests of the registry, by subject.

#![forbid(unsafe_code)]

mod clients;
mod deaths;
mod property;
mod successor;

use super::{ClientInfo, Owner, Registry};
use crate::wire::{Key, Name};

const OWNER: Owner = Owner { pid: 11, uid: 22, gid: 33 };

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn all(registry: &Registry) -> Vec<ClientInfo> {
    let (clients, next) = registry.list(0, usize::MAX).unwrap();
    assert_eq!(next, None);
    assert_eq!(registry.len().unwrap() as usize, clients.len());
    clients
}

fn successor(registry: &Registry) -> Registry {
    Registry::adopt(registry.descriptor().try_clone_to_owned().unwrap()).unwrap()
}

fn register(registry: &Registry, text: &str) -> Key {
    registry.register(&name(text), OWNER).unwrap().key
}
