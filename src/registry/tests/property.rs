//! The registry behaves like a map, whatever is done to it and by whichever process.

use proptest::prelude::*;
use std::collections::BTreeMap;

use super::*;
use crate::registry::{ClientState, CounterCells, RegisterError, Registered};

#[derive(Debug, Clone)]
enum Step {
    Register(u8),
    /// One of all keys that were ever given out.
    Release(prop::sample::Index),
    Leave(prop::sample::Index),
    Count(prop::sample::Index, u8),
    List(u8, u8),
    Adopt,
    MarkStale,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..7u8).prop_map(Step::Register),
        3 => any::<prop::sample::Index>().prop_map(Step::Release),
        1 => any::<prop::sample::Index>().prop_map(Step::Leave),
        1 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(key, count)| Step::Count(key, count)),
        1 => (0..6u8, 0..4u8).prop_map(|(from, max)| Step::List(from, max)),
        1 => Just(Step::Adopt),
        1 => Just(Step::MarkStale),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Compares the registry with a map. Keys sort by slot, so the map lists clients in the registry's order.
    #[test]
    fn the_registry_is_a_map(capacity in 1..5u32, steps in prop::collection::vec(step(), 1..60)) {
        let mut registries = vec![Registry::create(capacity).unwrap()];
        let mut model: BTreeMap<Key, (Name, ClientState, u64, CounterCells)> = BTreeMap::new();
        let mut given: Vec<Key> = vec![Key::from_u128(u128::MAX)];
        for (n, step) in steps.into_iter().enumerate() {
            // The processes take turns, so that every index meets changes that it did not make.
            let registry = &registries[n % registries.len()];
            match step {
                Step::Register(n) => {
                    let name = name(&format!("client {n}"));
                    let taken = model.values().any(|client| client.0 == name);
                    match registry.register(&name, OWNER) {
                        Ok(Registered { key, counters }) => {
                            prop_assert!(!taken && model.len() < capacity as usize && !given.contains(&key));
                            prop_assert!(given[1..].iter()
                                .all(|old| old.slot() != key.slot() || old.generation() < key.generation()));
                            given.push(key);
                            model.insert(key, (name, ClientState::Live, 0, counters));
                        }
                        Err(RegisterError::NameTaken) => prop_assert!(taken),
                        Err(RegisterError::Full) => prop_assert!(!taken && model.len() == capacity as usize),
                        Err(error) => prop_assert!(false, "{error}"),
                    }
                }
                Step::Release(key) => {
                    let key = *key.get(&given);
                    prop_assert_eq!(registry.release(key).unwrap(), model.remove(&key).is_some());
                }
                Step::Leave(key) => {
                    let key = *key.get(&given);
                    let was = model.get_mut(&key).map(|client| std::mem::replace(&mut client.1, ClientState::Leaving));
                    prop_assert_eq!(registry.mark_leaving(key).unwrap(), was == Some(ClientState::Live));
                }
                Step::Count(key, count) => {
                    let key = *key.get(&given);
                    if let Some((_, _, calls, counters)) = model.get_mut(&key) {
                        counters.add_calls(count.into());
                        *calls += u64::from(count);
                    }
                }
                Step::List(from, max) => {
                    let (page, next) = registry.list(from.into(), max.into()).unwrap();
                    let mut rest = model.keys().skip_while(|key| key.slot() < from.into());
                    let expected: Vec<Key> = rest.by_ref().take(usize::from(max).max(1)).copied().collect();
                    prop_assert_eq!(page.iter().map(|client| client.key).collect::<Vec<_>>(), expected);
                    prop_assert_eq!(next, rest.next().map(|key| key.slot().into()));
                }
                Step::Adopt => {
                    let next = successor(registry);
                    registries.truncate(2);
                    registries.push(next);
                }
                Step::MarkStale => registry.index.lock().unwrap().mark_stale(),
            }
            let registry = &registries[(n + 1) % registries.len()];
            let listed: Vec<_> = all(registry).iter()
                .map(|client| (client.key, (client.name, client.state, client.counters.calls)))
                .collect();
            let expected: Vec<_> = model.iter()
                .map(|(key, (name, state, calls, _))| (*key, (*name, *state, *calls)))
                .collect();
            prop_assert_eq!(&listed, &expected);
            for key in &given {
                let found = registry.get(*key).unwrap().map(|client| (client.key, client.name, client.state));
                prop_assert_eq!(found, model.get(key).map(|client| (*key, client.0, client.1)));
            }
            for n in 0..7 {
                let name = name(&format!("client {n}"));
                let live = model.iter().find(|(_, client)| client.0 == name && client.1 == ClientState::Live);
                prop_assert_eq!(registry.key_of(&name).unwrap(), live.map(|(key, _)| *key));
            }
        }
    }
}
