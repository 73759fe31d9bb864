//! Tests of a server with few threads or little address space.
//!
//! (`tests/entries/limits.rs` has the case without any.) The processes use one arena of the C library's
//! allocator, because other arenas reserve 64 MiB each at unpredictable times.

use super::common::proc::mappings;
use super::common::role::Role;
use super::common::users::is_root;
use super::common::{Place, eventually};
use super::{Baseline, SPARE_MAPPINGS, advises, registered, shut_down, start_server_as};
use ringpost::{CallError, Client, Name, RegisterError};
use std::os::unix::fs::{PermissionsExt, chown};

/// A user with no other processes.
const LONELY: u32 = 64_124;

fn start_cramped(place: &Place, settings: &[(&str, &str)]) -> Role {
    start_server_as(place, settings, |command| {
        command.env("MALLOC_ARENA_MAX", "1");
    })
}

/// Registers clients until the server refuses, and then tries two hundred times more. Refused ones must leave
/// nothing behind and not affect others. Returns the number of refusals.
fn refused_and_nothing_left(place: &Place, baseline: &Baseline, words: &[&str]) -> u64 {
    let mut clients: Vec<Client> = Vec::new();
    let mut refused = 1;
    let refusal = loop {
        match Client::register(&place.path, format!("client {}", clients.len())) {
            Ok(client) => clients.push(client),
            Err(error) => break error,
        }
        assert!(clients.len() < 1000, "there was no end");
    };
    assert!(clients.len() >= 2, "{refusal}");
    let served = clients.len();
    eventually("only the served are here", || baseline.has_clients(served));
    let (holdings, mapped) = (baseline.now(), mappings(baseline.pid));
    let max = clients[0].limits().max_call.min(10_000);
    for round in 0..200 {
        let error = Client::register(&place.path, format!("refused {round}")).unwrap_err();
        assert!(matches!(error, RegisterError::Refused(_)), "{error:?}");
        advises(&error, words);
        refused += 1;
        let client = &mut clients[round % served];
        assert!(client.call(&vec![7; max]).unwrap() == vec![7; max]);
    }
    eventually("nothing is left of the refused", || baseline.now() == holdings);
    assert!(mappings(baseline.pid) <= mapped + SPARE_MAPPINGS);
    assert_eq!(registered(&place.path), served);
    for round in 0..200 {
        let name = Name::try_from(&*format!("refused {round}")).unwrap();
        assert_eq!(clients[0].look_up(name).unwrap(), None);
    }
    let (last, first) = (clients.pop().unwrap(), clients[0].key());
    last.unregister().unwrap();
    let mut again = None;
    eventually("there is room for the refused", || {
        match Client::register(&place.path, "refused 0") {
            Ok(client) => again = Some(client),
            // The client that left may not have ended yet.
            Err(RegisterError::Refused(_)) => refused += 1,
            Err(error) => panic!("{error:?}"),
        }
        again.is_some()
    });
    let mut again = again.unwrap();
    again.send(first, b"at last").unwrap();
    assert_eq!(clients[0].recv().unwrap().payload(), b"at last");
    drop((clients, again));
    baseline.await_restored();
    refused
}

/// Runs as root only, to become another user: root's threads are not limited.
#[test]
fn a_server_without_threads_for_more_clients_refuses_and_goes_on() {
    if !is_root() {
        return eprintln!("skipped: only root can play a user with no other threads");
    }
    let place = Place::new();
    std::fs::set_permissions(place.directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let uid = LONELY.to_string();
    let server = start_cramped(&place, &[("RING", "4096"), ("UID", &uid), ("THREADS", "12")]);
    // Clients trust that user's server only if the directory belongs to that user.
    chown(place.directory.path(), Some(LONELY), Some(LONELY)).unwrap();
    std::fs::set_permissions(place.directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let baseline = Baseline::of(&server, &place.path);
    refused_and_nothing_left(&place, &baseline, &["cannot start a thread", "12", "ulimit -u"]);
    shut_down(server);
}

/// With small rings, memory runs out for a thread's stack or for the reserve; with large rings, for the
/// channel.
#[test]
fn a_server_without_address_space_for_more_clients_refuses_and_goes_on() {
    for ring in ["4096", "1048576", "67108864"] {
        let place = Place::new();
        let server = start_cramped(&place, &[("RING", ring), ("SPACE", "700000")]);
        let baseline = Baseline::of(&server, &place.path);
        let refused = refused_and_nothing_left(
            &place,
            &baseline,
            &["Cannot allocate memory", "address space", "ulimit -v"],
        );
        let sums = shut_down(server);
        assert_eq!((sums["refused"], sums["violations"]), (baseline.refused + refused, 0), "rings of {ring}");
        assert!(place.is_clean());
    }
}

/// Calls and responses need memory of the server. Clients for which it has none get an error, and it lives
/// on.
#[test]
fn a_server_without_memory_for_a_call_says_so_and_goes_on() {
    let place = Place::new();
    // With such small rings many clients fit. Their calls together need more memory than is left when no
    // further client fits.
    let server = start_cramped(&place, &[("RING", "4194304"), ("SPACE", "700000")]);
    let baseline = Baseline::of(&server, &place.path);
    let mut clients: Vec<Client> =
        (0..100).map_while(|n| Client::register(&place.path, format!("client {n}")).ok()).collect();
    assert!((2..100).contains(&clients.len()), "{} clients", clients.len());
    let large = vec![7; clients[0].limits().max_call];
    let mut refused = 0;
    for round in 0..4 {
        for client in &mut clients {
            let part = &large[round * 250_001..];
            match client.call(part) {
                Ok(answer) => assert!(answer == part),
                Err(CallError::Server(why) | CallError::ServiceFailed(why)) => {
                    assert!(why.contains("no memory for"), "{why}");
                    refused += 1;
                }
                Err(error) => panic!("{error:?}"),
            }
            assert_eq!(client.call(b"small").unwrap(), b"small");
        }
    }
    assert!(refused > 0, "all of them had their memory");
    assert_eq!(registered(&place.path), clients.len());
    drop(clients);
    baseline.await_restored();
    assert_eq!(shut_down(server)["violations"], 0);
}
