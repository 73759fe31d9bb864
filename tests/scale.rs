//! Tests with a thousand clients at once and with a million calls, between separate processes.
//!
//! In the release profile, in which `.ci/run` runs them, each takes well under a minute on two CPUs.

mod common;

use common::payload::content;
use common::proc::{Holdings, mappings, raise_descriptor_limit, threads};
use common::role::{self, Role, Stage, say, setting};
use common::server::{self, shut_down, start_server};
use common::traffic::{self, Plan};
use common::{LIMIT, Place, eventually, registered};
use ringpost::{Client, Key, RegisterError};
use rustix::process::{Resource, getrlimit};
use std::path::PathBuf;

/// Runs the role of a child process of this test program; does nothing in the main process.
#[test]
fn role() {
    let Some((role, stage)) = role::role() else { return };
    match role.as_str() {
        "server" => {
            raise_descriptor_limit();
            server::serve(server::as_set(), &stage);
        }
        "crowd" => crowd(&stage),
        "traffic" => traffic::play(&stage),
        other => panic!("no role {other:?}"),
    }
}

// ---- roles

/// The rounds of each client of a crowd, its outstanding calls in each round, and their largest size.
const ROUNDS: u64 = 5;
const CALLS: u64 = 8;
const MOST: usize = 300;

/// Registers many clients in one process, lets all call at once and send to their neighbours, and ends them
/// in the way that the test orders.
fn crowd(stage: &Stage) {
    raise_descriptor_limit();
    let (path, index): (PathBuf, u64) = (setting("PATH").unwrap(), setting("INDEX").unwrap());
    let size: u64 = setting("SIZE").unwrap();
    let name = |i: u64| format!("crowd {index} client {i}");
    let mut clients: Vec<Client> = (0..size).map(|i| Client::register(&path, name(i)).unwrap()).collect();
    say("registered");
    stage.await_order("call");
    let keys: Vec<Key> = clients.iter().map(Client::key).collect();
    for round in 0..ROUNDS {
        let seed = |i: usize, n: u64| index << 48 | (i as u64) << 24 | round << 16 | n;
        for (i, client) in clients.iter_mut().enumerate() {
            for n in 0..CALLS {
                client.caller().submit(&content(seed(i, n), MOST)).unwrap();
            }
        }
        for (i, client) in clients.iter_mut().enumerate() {
            for n in 0..CALLS {
                assert!(
                    client.caller().response().unwrap() == content(seed(i, n), MOST),
                    "client {i}, call {n}"
                );
            }
            let next = (i + 1) % keys.len();
            client.send(keys[next], &content(seed(i, CALLS), MOST)).unwrap();
        }
        for (i, client) in clients.iter_mut().enumerate() {
            let before = (i + keys.len() - 1) % keys.len();
            let message = client.recv().unwrap();
            assert_eq!(message.sender(), keys[before]);
            assert!(message.payload() == content(seed(before, CALLS), MOST), "to client {i}");
        }
    }
    say("called");
    match stage.order().as_str() {
        "unregister" => clients.into_iter().for_each(|client| client.unregister().unwrap()),
        "drop" => drop(clients),
        // Exits with all clients registered and calls outstanding.
        "exit" => {
            for client in &mut clients {
                (0..CALLS).for_each(|n| client.caller().submit(&n.to_le_bytes()).unwrap());
            }
            std::process::exit(0);
        }
        // Calls until it is killed.
        "call on" => {
            for round in 0_u64.. {
                for client in &mut clients {
                    client.caller().submit(&round.to_le_bytes()).unwrap();
                }
                for client in &mut clients {
                    assert_eq!(client.caller().response().unwrap(), round.to_le_bytes());
                }
                if round == 1 {
                    say("calling");
                }
            }
        }
        order => panic!("no order {order:?}"),
    }
}

// ---- tests

/// How the clients of each process end.
const ENDS: [&str; 4] = ["unregister", "drop", "exit", "kill"];

/// The number of clients for which a server has descriptors.
fn as_many_as_possible() -> u64 {
    let wanted = 1000;
    match getrlimit(Resource::Nofile).maximum {
        Some(hard) if hard < wanted + 200 => {
            let fit = (hard.saturating_sub(200) / ENDS.len() as u64) * ENDS.len() as u64;
            eprintln!("the hard limit of open files is {hard}: {fit} clients in place of {wanted}");
            fit
        }
        _ => wanted,
    }
}

#[test]
fn a_thousand_clients_come_and_go_and_leave_nothing_behind() {
    let place = Place::new();
    let count = as_many_as_possible();
    let size = (count / ENDS.len() as u64).to_string();
    let server = start_server(&place, &[("RING", "4096"), ("CLIENTS", &count.to_string())]);
    let pid = server.pid();
    let holdings = || Holdings::of(&pid.to_string());
    Client::register(&place.path, "first").unwrap().call(b"x").unwrap();
    let has_first = || threads(&pid.to_string()).iter().any(|(name, _)| name == "rp-first");
    eventually("the first has left", || holdings().channels == 0 && !has_first());
    let mut baseline = holdings();
    eventually("it is quiet", || std::mem::replace(&mut baseline, holdings()) == holdings());
    let mut after = Vec::new();
    for round in 0..3 {
        let mut crowds: Vec<Role> = (0..ENDS.len())
            .map(|index| {
                let index = index.to_string();
                let path = place.path.to_str().unwrap();
                Role::start("crowd", &[("PATH", path), ("INDEX", &index), ("SIZE", &size)])
            })
            .collect();
        for crowd in &mut crowds {
            crowd.hear("registered");
        }
        assert_eq!(registered(&place.path), count as usize);
        let full = Client::register(&place.path, "one too many");
        assert!(matches!(full, Err(RegisterError::Full(_))), "{full:?}");
        let most = holdings();
        assert_eq!((most.threads, most.channels), (baseline.threads + count as usize, count as usize));
        for crowd in &mut crowds {
            crowd.tell("call");
        }
        for crowd in &mut crowds {
            crowd.hear_within("called", LIMIT * 5);
        }
        for (crowd, end) in crowds.iter_mut().zip(ENDS) {
            match end {
                "kill" => {
                    crowd.tell("call on");
                    crowd.hear("calling");
                    crowd.kill();
                }
                end => crowd.tell(end),
            }
        }
        for (crowd, end) in crowds.into_iter().zip(ENDS) {
            let status = crowd.end();
            assert!(end == "kill" || status.success(), "{end}: {status}");
        }
        eventually("all is as before", || registered(&place.path) == 0 && holdings() == baseline);
        after.push(mappings(pid));
        // The allocator keeps some mappings; no later round may add more.
        let spare = 16;
        assert!(after[round] <= after[0] + spare, "mappings after each round: {after:?}");
    }
    let sums = shut_down(server);
    assert_eq!((sums["registered"], sums["refused"]), (3 * count + 1, 3));
    assert_eq!((sums["violations"], sums["abandoned"]), (0, 0));
    assert!(sums["calls"] > 3 * count * ROUNDS * CALLS, "{sums:?}");
    assert_eq!(sums["messages"], 3 * count * ROUNDS);
    assert!(place.is_clean());
}

/// 1,000,000 calls and 200,004 messages between four processes, with every byte verified.
#[test]
fn a_million_calls_between_four_processes() {
    let place = Place::new();
    let server = start_server(&place, &[("RING", "65536")]);
    let plan = Plan { clients: 4, calls: 250_000, messages: 16_667, most: 2048 };
    traffic::direct(&place, &plan);
    plan.check(&shut_down(server));
    assert!(place.is_clean());
}
