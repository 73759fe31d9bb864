#![forbid(unsafe_code)]

use proptest::prelude::*;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::collections::{BTreeMap, HashSet};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::mutex::tests::fork;
use super::*;
use crate::testing::failpoints::die_after;

const OWNER: Owner = Owner { pid: 11, uid: 22, gid: 33 };
const LONG: Duration = Duration::from_secs(20);

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

#[test]
fn a_client_is_found_until_it_is_released() {
    let registry = Registry::create(4).unwrap();
    let before = SystemTime::now();
    let key = registry.register(&name("alice"), OWNER).unwrap();
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
        let key = registry.register(&name("alice"), OWNER).unwrap();
        assert_eq!((key.slot(), key.generation()), (0, generation));
        assert!(seen.insert(key));
        for bit in 0..128 {
            let other = Key::from_u128(key.to_u128() ^ 1 << bit);
            assert_eq!(registry.get(other).unwrap(), None);
            assert!(registry.counters(other).unwrap().is_none());
            assert!(!registry.release(other).unwrap());
            assert!(!registry.mark_leaving(other).unwrap());
        }
        assert!(registry.release(key).unwrap());
    }
}

#[test]
fn slots_rest_as_long_as_they_can() {
    let registry = Registry::create(3).unwrap();
    let slots: Vec<u16> = (0..7)
        .map(|_| {
            let key = registry.register(&name("alice"), OWNER).unwrap();
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
        last = Some(registry.register(&name(&format!("client {n}")), OWNER).unwrap());
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
    assert_eq!(registry.register(&name("one more"), OWNER).unwrap().slot(), u16::MAX);
}

/// A table of which every slot is taken, while clients leave at random and others come.
#[test]
fn a_full_registry_finds_who_is_there_and_nobody_else() {
    const SLOTS: u32 = 4096;
    let registry = Registry::create(SLOTS).unwrap();
    let named = |n: u64| name(&format!("client {n}"));
    let mut here: Vec<(u64, Key)> =
        (0..u64::from(SLOTS)).map(|n| (n, registry.register(&named(n), OWNER).unwrap())).collect();
    let mut random = 1_u64;
    for next in u64::from(SLOTS)..20_000 {
        assert!(matches!(registry.register(&named(next), OWNER), Err(RegisterError::Full)));
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let place = (random >> 33) as usize % here.len();
        let (left, key) = here[place];
        assert!(registry.release(key).unwrap());
        assert_eq!(registry.key_of(&named(left)).unwrap(), None);
        assert_eq!(registry.get(key).unwrap(), None);
        let new = registry.register(&named(next), OWNER).unwrap();
        assert_eq!((new.slot(), new.generation()), (key.slot(), key.generation() + 1));
        here[place] = (next, new);
        let (other, key) = here[(random >> 17) as usize % here.len()];
        assert_eq!(registry.key_of(&named(other)).unwrap(), Some(key));
    }
    let mut keys: Vec<Key> = here.iter().map(|(_, key)| *key).collect();
    keys.sort_unstable();
    assert_eq!(all(&registry).iter().map(|client| client.key).collect::<Vec<_>>(), keys);
}

/// The generations of a slot start anew after the last. A key of then is still not one of now.
#[test]
fn after_the_last_generation_of_a_slot_comes_the_first() {
    let registry = Registry::create(1).unwrap();
    let old = registry.register(&name("alice"), OWNER).unwrap();
    registry.release(old).unwrap();
    let word = layout::entry_at(0) + layout::GENERATION;
    registry.table.segment.word32(word).store(u32::MAX - 1, Relaxed);
    let mut keys = vec![old];
    for generation in [u32::MAX, 0, 1, 2] {
        let key = registry.register(&name("alice"), OWNER).unwrap();
        assert_eq!((key.slot(), key.generation()), (0, generation));
        assert_eq!(registry.get(key).unwrap().unwrap().key, key);
        for gone in &keys {
            assert_ne!(*gone, key, "the random part differs where the generation is the same");
            assert_eq!(registry.get(*gone).unwrap(), None);
            assert!(!registry.release(*gone).unwrap());
        }
        // An index built anew believes the entry, too.
        assert_eq!(successor(&registry).key_of(&name("alice")).unwrap(), Some(key));
        registry.release(key).unwrap();
        keys.push(key);
    }
    assert_eq!(keys[3].generation(), old.generation());
}

#[test]
fn a_list_comes_in_pages() {
    let registry = Registry::create(8).unwrap();
    let keys: Vec<Key> = (0..6).map(|n| registry.register(&name(&format!("c{n}")), OWNER).unwrap()).collect();
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
fn counters_start_at_zero_and_have_lines_of_their_own() {
    let registry = Registry::create(2).unwrap();
    let key = registry.register(&name("alice"), OWNER).unwrap();
    let cells = registry.counters(key).unwrap().unwrap();
    cells.add_calls(1);
    cells.add_sent(2);
    cells.clone().add_received(3);
    cells.add_bytes_in(4);
    cells.add_bytes_out(u64::MAX);
    let counters = Counters { calls: 1, sent: 2, received: 3, bytes_in: 4, bytes_out: u64::MAX };
    assert_eq!(cells.snapshot(), counters);
    assert_eq!(registry.get(key).unwrap().unwrap().counters, counters);
    cells.add_bytes_out(1);
    assert_eq!(cells.snapshot().bytes_out, 0);

    let line = |field: usize, slot| (layout::entry_at(slot) + field) / 128;
    assert_eq!(line(layout::CALLS, 0), line(layout::BYTES_OUT, 0));
    let lines = [
        line(layout::NAME + 63, 0),
        line(layout::CALLS, 0),
        line(layout::RECEIVED, 0),
        line(layout::STATE, 1),
    ];
    assert_eq!(HashSet::from(lines).len(), 4);

    registry.release(key).unwrap();
    registry.register(&name("bob"), OWNER).unwrap();
    let again = registry.register(&name("carol"), OWNER).unwrap();
    assert_eq!(again.slot(), key.slot());
    assert_eq!(registry.get(again).unwrap().unwrap().counters, Counters::default());
}

#[test]
fn threads_share_a_registry() {
    let registry = Registry::create(16).unwrap();
    let won = AtomicU32::new(0);
    thread::scope(|scope| {
        for worker in 0..4 {
            let (registry, won) = (&registry, &won);
            scope.spawn(move || {
                for n in 0..500 {
                    let own = registry.register(&name(&format!("w{worker} {n}")), OWNER).unwrap();
                    if let Ok(key) = registry.register(&name(&format!("shared {n}")), OWNER) {
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

#[test]
fn a_successor_sees_what_was_registered() {
    let registry = Registry::create(3).unwrap();
    let alice = registry.register(&name("alice"), OWNER).unwrap();
    let bob = registry.register(&name("bob"), OWNER).unwrap();
    registry.mark_leaving(bob).unwrap();
    registry.counters(alice).unwrap().unwrap().add_calls(5);
    let next = successor(&registry);
    assert_eq!(all(&next), all(&registry));
    assert_eq!((next.capacity(), next.owner()), (3, std::process::id()));
    assert_eq!(next.identity(), registry.identity());
    assert_ne!(next.identity(), Registry::create(1).unwrap().identity());
    // Both may go on: each notices what the other changed.
    assert!(registry.release(alice).unwrap());
    assert_eq!(next.key_of(&name("alice")).unwrap(), None);
    let again = next.register(&name("alice"), OWNER).unwrap();
    assert_eq!(registry.key_of(&name("alice")).unwrap(), Some(again));
    assert!(matches!(registry.register(&name("alice"), OWNER), Err(RegisterError::NameTaken)));
    drop(registry);
    assert_eq!(all(&next).len(), 2);
}

#[test]
fn what_is_no_registry_is_not_adopted() {
    let (_zeros, fd) = Segment::create("test", 8192).unwrap();
    assert!(matches!(Registry::adopt(fd), Err(RegistryError::NotARegistry)));
    // With the magic, but not with all that comes before the entries.
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
fn stray_entries_are_repaired_on_adoption() {
    let registry = Registry::create(8).unwrap();
    let keys: Vec<Key> = (0..8).map(|n| registry.register(&name(&format!("c{n}")), OWNER).unwrap()).collect();
    let segment = &registry.table.segment;
    let at = |slot| layout::entry_at(slot);
    segment.word32(at(0) + layout::STATE).store(77, Relaxed);
    segment.word32(at(1) + layout::NAME_LEN).store(u32::MAX, Relaxed);
    segment.copy_in(at(2) + layout::NAME, b"\xff");
    segment.word64(at(3) + layout::KEY + 8).store(0, Relaxed);
    segment.copy_in(at(5) + layout::NAME, b"c4");
    // A key of another slot, and one of another generation.
    layout::store128(segment, at(6) + layout::KEY, Key::new(7, 1, [1; 10]).to_u128());
    layout::store128(segment, at(7) + layout::KEY, Key::new(7, 2, [1; 10]).to_u128());
    let next = successor(&registry);
    assert_eq!(all(&next).iter().map(|client| client.key).collect::<Vec<_>>(), [keys[4]]);
    assert_eq!(all(&registry), all(&next));
    let new = registry.register(&name("c0"), OWNER).unwrap();
    assert_eq!((new.slot(), new.generation()), (0, 3));
}

#[test]
fn a_panic_under_the_locks_is_repaired() {
    let registry = Registry::create(2).unwrap();
    let alice = registry.register(&name("alice"), OWNER).unwrap();
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
    assert_eq!(registry.register(&name("bob"), OWNER).unwrap().slot(), 1);
}

// Death with the mutex held. A child process, made by fork, does the very stores of the shipping code and
// dies between two of them: at each place in turn, until it comes through.

/// Forks a child that does `act` with the mutex held and dies at a failpoint. True if there was such a
/// point.
fn dies<R>(
    registry: &Registry,
    point: u32,
    repair: impl FnOnce(&Table),
    act: impl FnOnce(&Table) -> R,
) -> bool {
    let child = fork(|| {
        die_after(point);
        let _ = registry.mutex.with(&mut (), |()| repair(&registry.table), |()| act(&registry.table));
    });
    wait(child) == Some(Signal::KILL.as_raw())
}

/// The signal by which a child ended, or else nothing for an exit with 0.
fn wait(child: Pid) -> Option<i32> {
    let end = Instant::now() + LONG;
    loop {
        if let Some((_, status)) = waitpid(Some(child), WaitOptions::NOHANG).unwrap() {
            assert!(status.signaled() || status.exit_status() == Some(0), "{status:?}");
            return status.terminating_signal();
        }
        if Instant::now() > end {
            let _ = kill_process(child, Signal::KILL);
            panic!("the child hangs");
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Fails instead of hanging.
fn bounded<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(LONG).expect("came to its end in time")
}

/// A registry with alice live in slot 0, bob leaving in slot 1, and slot 2 free but used before.
fn three() -> (Arc<Registry>, Key, Key) {
    let registry = Registry::create(3).unwrap();
    let alice = registry.register(&name("alice"), OWNER).unwrap();
    let bob = registry.register(&name("bob"), OWNER).unwrap();
    let carol = registry.register(&name("carol"), OWNER).unwrap();
    registry.mark_leaving(bob).unwrap();
    registry.release(carol).unwrap();
    (Arc::new(registry), alice, bob)
}

fn carol() -> Registration {
    Registration { name: name("carol"), owner: Owner { pid: 7, uid: 8, gid: 9 }, at: 10, random: [3; 10] }
}

/// What must hold after every recovery, whoever looks first; and then everything works on.
fn works_on(registry: &Arc<Registry>, other: &Registry) {
    let known = {
        let registry = Arc::clone(registry);
        bounded(move || all(&registry))
    };
    assert_eq!(known, all(other));
    assert_eq!(known, all(&successor(registry)));
    for client in &known {
        assert_eq!(registry.get(client.key).unwrap().as_ref(), Some(client));
        assert!(other.release(client.key).unwrap());
        assert!(!registry.release(client.key).unwrap());
    }
    let keys: Vec<Key> =
        (0..3).map(|n| registry.register(&name(&format!("new {n}")), OWNER).unwrap()).collect();
    assert!(keys.iter().all(|key| known.iter().all(|old| old.key != *key)));
    assert_eq!(keys.iter().map(|key| key.slot()).collect::<HashSet<_>>(), HashSet::from([0, 1, 2]));
    assert!(matches!(other.register(&name("one more"), OWNER), Err(RegisterError::Full)));
}

#[test]
fn a_death_while_registering_is_repaired() {
    let mut torn = 0;
    let mut point = 0;
    loop {
        let (registry, alice, bob) = three();
        let other = successor(&registry);
        let registration = carol();
        let died = dies(&registry, point, |_| (), |table| table.claim(2, &registration));
        let entry = registry.table.entry(2);
        let (state, generation) = (entry.state(), entry.generation());
        let found = {
            let registry = Arc::clone(&registry);
            bounded(move || registry.key_of(&name("carol")).unwrap())
        };
        assert_eq!(registry.get(alice).unwrap().unwrap().state, ClientState::Live);
        assert_eq!(registry.get(bob).unwrap().unwrap().state, ClientState::Leaving);
        match state {
            entry::LIVE => {
                let client = registry.get(found.unwrap()).unwrap().unwrap();
                assert_eq!((client.name, client.key), (name("carol"), Key::new(2, 2, [3; 10])));
                assert_eq!((client.pid, client.uid, client.gid), (7, 8, 9));
                assert_eq!(client.registered, SystemTime::UNIX_EPOCH + Duration::from_nanos(10));
            }
            entry::CLAIMING => {
                torn += 1;
                assert_eq!((found, entry.state(), entry.generation()), (None, entry::FREE, generation + 1));
            }
            _ => assert_eq!((found, entry.state(), entry.generation()), (None, entry::FREE, generation)),
        }
        works_on(&registry, &other);
        if !died {
            // It came through and unlocked: what another process registered is noticed.
            assert_eq!(state, entry::LIVE);
            break;
        }
        point += 1;
    }
    assert!(torn >= 10, "only {torn} torn entries were tried");
}

#[test]
fn a_death_while_releasing_or_leaving_is_repaired() {
    for leave in [false, true] {
        let mut point = 0;
        loop {
            let (registry, alice, _) = three();
            let other = successor(&registry);
            let act = |table: &Table| {
                if leave { table.leave(alice) } else { table.release(alice).is_some() }
            };
            let died = dies(&registry, point, |_| (), act);
            let state = registry.table.entry(0).state();
            let found = {
                let registry = Arc::clone(&registry);
                bounded(move || registry.get(alice).unwrap().map(|client| client.state))
            };
            match state {
                entry::LIVE => assert_eq!(found, Some(ClientState::Live)),
                entry::LEAVING => assert_eq!(found, Some(ClientState::Leaving)),
                _ => assert_eq!((state, found), (entry::FREE, None)),
            }
            works_on(&registry, &other);
            if !died {
                assert_ne!(state, entry::LIVE);
                break;
            }
            point += 1;
        }
        assert!(point >= 1);
    }
}

#[test]
fn a_death_in_the_repair_is_repaired() {
    let mut point = 0;
    loop {
        let (registry, _, _) = three();
        let other = successor(&registry);
        let registration = carol();
        assert!(dies(&registry, 3, |_| (), |table| table.claim(2, &registration)));
        assert_eq!(registry.table.entry(2).state(), entry::CLAIMING);
        let died = dies(&registry, point, Table::repair, |_| ());
        {
            let registry = Arc::clone(&registry);
            assert_eq!(bounded(move || registry.key_of(&name("carol")).unwrap()), None);
        }
        assert_eq!(registry.table.entry(2).state(), entry::FREE);
        works_on(&registry, &other);
        if !died {
            break;
        }
        point += 1;
    }
    assert!(point >= 3, "announced, bumped, freed");
}

#[test]
fn a_waiter_is_woken_by_the_death() {
    let (registry, alice, _) = three();
    let before = registry.table.changes();
    let child = fork(|| {
        let _ = registry.mutex.with(
            &mut (),
            |()| (),
            |()| {
                registry.table.announce();
                let second = rustix::thread::Timespec { tv_sec: 1, tv_nsec: 0 };
                for _ in 0..LONG.as_secs() {
                    let _ = rustix::thread::nanosleep(&second);
                }
            },
        );
    });
    let end = Instant::now() + LONG;
    while registry.table.changes() == before {
        assert!(Instant::now() < end, "the child never locked");
        thread::sleep(Duration::from_millis(1));
    }
    let (sender, receiver) = mpsc::channel();
    let waiter = Arc::clone(&registry);
    thread::spawn(move || sender.send(waiter.key_of(&name("alice")).unwrap()));
    assert!(receiver.recv_timeout(Duration::from_millis(100)).is_err(), "locked by two");
    kill_process(child, Signal::KILL).unwrap();
    assert_eq!(receiver.recv_timeout(LONG / 4), Ok(Some(alice)));
    wait(child);
}

#[derive(Debug, Clone)]
enum Step {
    Register(u8),
    /// Of all keys ever given out.
    Release(prop::sample::Index),
    Leave(prop::sample::Index),
    Count(prop::sample::Index, u8),
    List(u8, u8),
    Adopt,
    Distrust,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..7u8).prop_map(Step::Register),
        3 => any::<prop::sample::Index>().prop_map(Step::Release),
        1 => any::<prop::sample::Index>().prop_map(Step::Leave),
        1 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(key, count)| Step::Count(key, count)),
        1 => (0..6u8, 0..4u8).prop_map(|(from, max)| Step::List(from, max)),
        1 => Just(Step::Adopt),
        1 => Just(Step::Distrust),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Against a map. Keys sort by slot, so the map lists as the registry does.
    #[test]
    fn the_registry_is_a_map(capacity in 1..5u32, steps in prop::collection::vec(step(), 1..60)) {
        let mut registries = vec![Registry::create(capacity).unwrap()];
        let mut model: BTreeMap<Key, (Name, ClientState, u64)> = BTreeMap::new();
        let mut given: Vec<Key> = vec![Key::from_u128(u128::MAX)];
        for (n, step) in steps.into_iter().enumerate() {
            // Each in turn, so that every index meets changes that it did not make.
            let registry = &registries[n % registries.len()];
            match step {
                Step::Register(n) => {
                    let name = name(&format!("client {n}"));
                    let taken = model.values().any(|client| client.0 == name);
                    match registry.register(&name, OWNER) {
                        Ok(key) => {
                            prop_assert!(!taken && model.len() < capacity as usize && !given.contains(&key));
                            prop_assert!(given[1..].iter()
                                .all(|old| old.slot() != key.slot() || old.generation() < key.generation()));
                            given.push(key);
                            model.insert(key, (name, ClientState::Live, 0));
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
                    let cells = registry.counters(key).unwrap();
                    prop_assert_eq!(cells.is_some(), model.contains_key(&key));
                    if let (Some(cells), Some(client)) = (cells, model.get_mut(&key)) {
                        cells.add_calls(count.into());
                        client.2 += u64::from(count);
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
                Step::Distrust => registry.index.lock().unwrap().distrust(),
            }
            let registry = &registries[(n + 1) % registries.len()];
            let listed: Vec<_> = all(registry).iter()
                .map(|client| (client.key, (client.name, client.state, client.counters.calls)))
                .collect();
            prop_assert_eq!(&listed, &model.iter().map(|(key, client)| (*key, *client)).collect::<Vec<_>>());
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
