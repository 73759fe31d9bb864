//! A process dies with the mutex held, between any two stores, and the next holder repairs what it left.
//!
//! A forked child runs the shipping code and dies at a failpoint between two stores: at the first in one run,
//! at the second in the next, until a run reaches the end.

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::collections::HashSet;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::*;
use crate::registry::entry::Registration;
use crate::registry::mutex::tests::fork;
use crate::registry::table::Table;
use crate::registry::{ClientState, RegisterError, entry};
use crate::testing::failpoints::counted::die_after;

const LONG: Duration = Duration::from_secs(20);

/// Forks a child that runs `act` with the mutex held and dies at the failpoint with that number. False if
/// there are fewer failpoints.
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

/// The signal that ended a child, or `None` if it exited with 0.
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

/// Runs `work`, and fails if it hangs.
fn bounded<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(LONG).expect("came to its end in time")
}

/// A registry with alice live in slot 0, bob leaving in slot 1, and slot 2 free but used before.
fn three() -> (Arc<Registry>, Key, Key) {
    let registry = Registry::create(3).unwrap();
    let alice = register(&registry, "alice");
    let bob = register(&registry, "bob");
    let carol = register(&registry, "carol");
    registry.mark_leaving(bob).unwrap();
    registry.release(carol).unwrap();
    (Arc::new(registry), alice, bob)
}

fn carol() -> Registration {
    Registration { name: name("carol"), owner: Owner { pid: 7, uid: 8, gid: 9 }, at: 10, random: [3; 10] }
}

/// Checks what must hold after every repair, whoever looks first, and that everything still works.
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
    let keys: Vec<Key> = (0..3).map(|n| register(registry, &format!("new {n}"))).collect();
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
            // It reached the end and unlocked. Its registration must be noticed here.
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
fn a_death_wakes_whoever_waits_for_the_mutex() {
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
    assert_eq!(receiver.recv_timeout(LONG), Ok(Some(alice)));
    wait(child);
}
