//! A successor adopts a registry, and what is broken in one is repaired or refused.

use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::registry::{RegisterError, Registered, RegistryError, entry, layout};
use crate::shm::Segment;

#[test]
fn a_successor_sees_what_was_registered() {
    let registry = Registry::create(3).unwrap();
    let Registered { key: alice, counters } = registry.register(&name("alice"), OWNER).unwrap();
    let bob = register(&registry, "bob");
    registry.mark_leaving(bob).unwrap();
    counters.add_calls(5);
    let next = successor(&registry);
    assert_eq!(all(&next), all(&registry));
    assert_eq!((next.capacity(), next.owner()), (3, std::process::id()));
    assert_eq!(next.identity(), registry.identity());
    assert_ne!(next.identity(), Registry::create(1).unwrap().identity());
    // Both may go on. Each notices what the other changed.
    assert!(registry.release(alice).unwrap());
    assert_eq!(next.key_of(&name("alice")).unwrap(), None);
    let again = register(&next, "alice");
    assert_eq!(registry.key_of(&name("alice")).unwrap(), Some(again));
    assert!(matches!(registry.register(&name("alice"), OWNER), Err(RegisterError::NameTaken)));
    drop(registry);
    assert_eq!(all(&next).len(), 2);
}

#[test]
fn other_segments_are_not_adopted() {
    let (_zeros, fd) = Segment::create("test", 8192).unwrap();
    assert!(matches!(Registry::adopt(fd), Err(RegistryError::NotARegistry)));
    // It has the magic number, but is too short for the header.
    let magic = Registry::create(1).unwrap().table.segment.word64(0).load(Relaxed);
    let of_length = |len| {
        let (segment, fd) = Segment::create("test", len).unwrap();
        segment.word64(0).store(magic, Relaxed);
        Registry::adopt(fd).unwrap_err()
    };
    for len in [8, 64, 255] {
        assert!(matches!(of_length(len), RegistryError::NotARegistry), "{len}");
    }
    assert!(matches!(of_length(256), RegistryError::WrongVersion { found: 0, .. }));
    let file = std::fs::File::open("/dev/null").unwrap();
    assert!(matches!(Registry::adopt(file.into()), Err(RegistryError::Segment(_))));

    let error = |at: usize, value: u32| {
        let registry = Registry::create(5).unwrap();
        registry.table.segment.word32(at).store(value, Relaxed);
        Registry::adopt(registry.descriptor().as_fd().try_clone_to_owned().unwrap()).unwrap_err()
    };
    assert!(matches!(error(0, 0), RegistryError::NotARegistry));
    assert!(matches!(error(8, 2), RegistryError::WrongVersion { found: 2, needed: 1 }));
    assert!(matches!(error(12, 1), RegistryError::WrongLayout { mutex: 1, entry: 384 }));
    assert!(matches!(error(16, 1), RegistryError::WrongLayout { entry: 1, .. }));
    assert!(matches!(error(20, 0), RegistryError::BadCapacity { asked: 0 }));
    assert!(matches!(error(20, 4), RegistryError::WrongSize { needed: 1792, found: 2176 }));
    assert!(matches!(error(20, 65_536), RegistryError::WrongSize { .. }));
}

#[test]
fn damaged_entries_are_repaired_on_adoption() {
    let registry = Registry::create(8).unwrap();
    let keys: Vec<Key> = (0..8).map(|n| register(&registry, &format!("c{n}"))).collect();
    let segment = &registry.table.segment;
    let at = |slot| layout::entry_at(slot);
    segment.word32(at(0) + layout::STATE).store(77, Relaxed);
    segment.word32(at(1) + layout::NAME_LEN).store(u32::MAX, Relaxed);
    segment.copy_in(at(2) + layout::NAME, b"\xff");
    segment.word64(at(3) + layout::KEY + 8).store(0, Relaxed);
    segment.copy_in(at(5) + layout::NAME, b"c4");
    // Keys of another slot and of another generation.
    layout::store128(segment, at(6) + layout::KEY, Key::new(7, 1, [1; 10]).to_u128());
    layout::store128(segment, at(7) + layout::KEY, Key::new(7, 2, [1; 10]).to_u128());
    let next = successor(&registry);
    assert_eq!(all(&next).iter().map(|client| client.key).collect::<Vec<_>>(), [keys[4]]);
    assert_eq!(all(&registry), all(&next));
    let new = register(&registry, "c0");
    assert_eq!((new.slot(), new.generation()), (0, 3));
}

#[test]
fn a_panic_under_the_locks_is_repaired() {
    let registry = Registry::create(2).unwrap();
    let alice = register(&registry, "alice");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        registry.locked(|_| {
            registry
                .table
                .segment
                .word32(layout::entry_at(1) + layout::STATE)
                .store(entry::CLAIMING, Relaxed);
            panic!("on purpose");
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(registry.key_of(&name("alice")).unwrap(), Some(alice));
    assert_eq!(registry.table.entry(1).state(), entry::FREE);
    assert_eq!(register(&registry, "bob").slot(), 1);
}
