//! Clients are registered, found, listed, counted and released.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, SystemTime};

use super::*;
use crate::registry::{ClientState, Counters, RegisterError, Registered, RegistryError, layout};

#[test]
fn a_client_is_found_until_it_is_released() {
    let registry = Registry::create(4).unwrap();
    let before = SystemTime::now();
    let key = register(&registry, "alice");
    let info = registry.get(key).unwrap().unwrap();
    assert_eq!((info.name, info.key, info.state), (name("alice"), key, ClientState::Live));
    assert_eq!((info.pid, info.uid, info.gid), (11, 22, 33));
    assert!(info.registered >= before - Duration::from_secs(1) && info.registered <= SystemTime::now());
    assert_eq!(registry.key_of(&name("alice")).unwrap(), Some(key));
    assert!(matches!(registry.register(&name("alice"), OWNER), Err(RegisterError::NameTaken)));

    assert!(registry.mark_leaving(key).unwrap());
    assert!(!registry.mark_leaving(key).unwrap());
    assert_eq!(registry.get(key).unwrap().unwrap().state, ClientState::Leaving);
    assert_eq!([info.state, ClientState::Leaving].map(|state| state.to_string()), ["live", "leaving"]);
    assert_eq!(registry.key_of(&name("alice")).unwrap(), None);
    assert!(matches!(registry.register(&name("alice"), OWNER), Err(RegisterError::NameTaken)));

    assert!(registry.release(key).unwrap());
    assert!(!registry.release(key).unwrap());
    assert!(!registry.mark_leaving(key).unwrap());
    assert_eq!(registry.get(key).unwrap(), None);
    assert_eq!(all(&registry), []);
}

#[test]
fn a_stale_key_reaches_no_one() {
    let registry = Registry::create(1).unwrap();
    let mut seen = HashSet::new();
    for generation in 1..=100 {
        let key = register(&registry, "alice");
        assert_eq!((key.slot(), key.generation()), (0, generation));
        assert!(seen.insert(key));
        for bit in 0..128 {
            let other = Key::from_u128(key.to_u128() ^ 1 << bit);
            assert_eq!(registry.get(other).unwrap(), None);
            assert!(!registry.release(other).unwrap());
            assert!(!registry.mark_leaving(other).unwrap());
        }
        assert!(registry.release(key).unwrap());
    }
}

#[test]
fn slots_are_reused_as_late_as_possible() {
    let registry = Registry::create(3).unwrap();
    let slots: Vec<u16> = (0..7)
        .map(|_| {
            let key = register(&registry, "alice");
            registry.release(key).unwrap();
            key.slot()
        })
        .collect();
    assert_eq!(slots, [0, 1, 2, 0, 1, 2, 0]);
}

#[test]
fn the_largest_registry_is_filled_to_the_last_slot() {
    for capacity in [0, 65_537, u32::MAX] {
        assert!(
            matches!(Registry::create(capacity), Err(RegistryError::BadCapacity { asked }) if asked == capacity)
        );
    }
    let registry = Registry::create(65_536).unwrap();
    assert_eq!(registry.capacity(), 65_536);
    let mut last = None;
    for n in 0..65_536 {
        last = Some(register(&registry, &format!("client {n}")));
    }
    let last = last.unwrap();
    assert_eq!(last.slot(), u16::MAX);
    assert!(matches!(registry.register(&name("one more"), OWNER), Err(RegisterError::Full)));
    assert_eq!(registry.key_of(&name("client 65535")).unwrap(), Some(last));
    let (clients, next) = registry.list(65_535, 10).unwrap();
    assert_eq!((clients.len(), next), (1, None));
    assert_eq!(registry.list(65_536, 10).unwrap(), (vec![], None));
    assert_eq!(registry.list(u32::MAX, 10).unwrap(), (vec![], None));
    assert!(registry.release(last).unwrap());
    assert_eq!(register(&registry, "one more").slot(), u16::MAX);
}

/// Every slot stays taken while clients leave at random and others come.
#[test]
fn a_full_registry_finds_exactly_those_who_are_registered() {
    const SLOTS: u32 = 4096;
    let registry = Registry::create(SLOTS).unwrap();
    let named = |n: u64| name(&format!("client {n}"));
    let mut here: Vec<(u64, Key)> =
        (0..u64::from(SLOTS)).map(|n| (n, registry.register(&named(n), OWNER).unwrap().key)).collect();
    let mut random = 1_u64;
    for next in u64::from(SLOTS)..20_000 {
        assert!(matches!(registry.register(&named(next), OWNER), Err(RegisterError::Full)));
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let place = (random >> 33) as usize % here.len();
        let (left, key) = here[place];
        assert!(registry.release(key).unwrap());
        assert_eq!(registry.key_of(&named(left)).unwrap(), None);
        assert_eq!(registry.get(key).unwrap(), None);
        let new = registry.register(&named(next), OWNER).unwrap().key;
        assert_eq!((new.slot(), new.generation()), (key.slot(), key.generation() + 1));
        here[place] = (next, new);
        let (other, key) = here[(random >> 17) as usize % here.len()];
        assert_eq!(registry.key_of(&named(other)).unwrap(), Some(key));
    }
    let mut keys: Vec<Key> = here.iter().map(|(_, key)| *key).collect();
    keys.sort_unstable();
    assert_eq!(all(&registry).iter().map(|client| client.key).collect::<Vec<_>>(), keys);
}

/// A slot's generations wrap around. An old key still differs from a new one of the same generation.
#[test]
fn generations_wrap_around_and_keys_still_differ() {
    let registry = Registry::create(1).unwrap();
    let old = register(&registry, "alice");
    registry.release(old).unwrap();
    let word = layout::entry_at(0) + layout::GENERATION;
    registry.table.segment.word32(word).store(u32::MAX - 1, Relaxed);
    let mut keys = vec![old];
    for generation in [u32::MAX, 0, 1, 2] {
        let key = register(&registry, "alice");
        assert_eq!((key.slot(), key.generation()), (0, generation));
        assert_eq!(registry.get(key).unwrap().unwrap().key, key);
        for gone in &keys {
            assert_ne!(*gone, key, "the random part differs where the generation is the same");
            assert_eq!(registry.get(*gone).unwrap(), None);
            assert!(!registry.release(*gone).unwrap());
        }
        // A newly built index accepts the entry, too.
        assert_eq!(successor(&registry).key_of(&name("alice")).unwrap(), Some(key));
        registry.release(key).unwrap();
        keys.push(key);
    }
    assert_eq!(keys[3].generation(), old.generation());
}

#[test]
fn clients_are_listed_in_pages() {
    let registry = Registry::create(8).unwrap();
    let keys: Vec<Key> = (0..6).map(|n| register(&registry, &format!("c{n}"))).collect();
    registry.release(keys[1]).unwrap();
    registry.release(keys[5]).unwrap();
    let page = |from, max| {
        let (clients, next) = registry.list(from, max).unwrap();
        (clients.iter().map(|client| client.key.slot()).collect::<Vec<_>>(), next)
    };
    assert_eq!(page(0, 2), (vec![0, 2], Some(3)));
    assert_eq!(page(3, 2), (vec![3, 4], None));
    assert_eq!(page(0, 0), (vec![0], Some(2)));
    assert_eq!(page(5, 9), (vec![], None));
}

#[test]
fn counters_start_at_zero_and_their_cache_lines_are_separate() {
    let registry = Registry::create(2).unwrap();
    let Registered { key, counters: cells } = registry.register(&name("alice"), OWNER).unwrap();
    cells.add_calls(1);
    cells.add_sent(2);
    cells.clone().add_delivered(3);
    cells.add_bytes_in(4);
    cells.add_bytes_out(u64::MAX);
    let counters =
        Counters { calls: 1, sent: 2, delivered: 3, received: 0, bytes_in: 4, bytes_out: u64::MAX };
    assert_eq!(cells.snapshot(), counters);
    assert_eq!(registry.get(key).unwrap().unwrap().counters, counters);
    cells.add_bytes_out(1);
    assert_eq!(cells.snapshot().bytes_out, 0);

    let line = |field: usize, slot| (layout::entry_at(slot) + field) / 128;
    assert_eq!(line(layout::CALLS, 0), line(layout::BYTES_OUT, 0));
    let lines = [
        line(layout::NAME + 63, 0),
        line(layout::CALLS, 0),
        line(layout::DELIVERED, 0),
        line(layout::STATE, 1),
    ];
    assert_eq!(HashSet::from(lines).len(), 4);

    registry.release(key).unwrap();
    register(&registry, "bob");
    let again = register(&registry, "carol");
    assert_eq!(again.slot(), key.slot());
    assert_eq!(registry.get(again).unwrap().unwrap().counters, Counters::default());
}

#[test]
fn threads_can_share_a_registry() {
    let registry = Registry::create(16).unwrap();
    let won = AtomicU32::new(0);
    thread::scope(|scope| {
        for worker in 0..4 {
            let (registry, won) = (&registry, &won);
            scope.spawn(move || {
                for n in 0..500 {
                    let own = register(registry, &format!("w{worker} {n}"));
                    if let Ok(Registered { key, .. }) =
                        registry.register(&name(&format!("shared {n}")), OWNER)
                    {
                        assert_eq!(registry.key_of(&name(&format!("shared {n}"))).unwrap(), Some(key));
                        won.fetch_add(1, Relaxed);
                        assert!(registry.release(key).unwrap());
                    }
                    assert!(registry.release(own).unwrap());
                }
            });
        }
    });
    assert!(won.into_inner() >= 500);
    assert_eq!(all(&registry), []);
}
