//! Tests of more clients than the server allows, or has descriptors for.

use super::common::{LIMIT, Place, begin, eventually, raw};
use super::{Baseline, Role, advises, registered, shut_down, signal, start_server};
use ringpost::{Client, Observer, RegisterError};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use std::time::{Duration, Instant};

#[test]
fn clients_beyond_the_limit_are_refused_and_come_in_when_one_leaves() {
    let place = Place::new();
    let server = start_server(&place, &[("RING", "4096"), ("CLIENTS", "8")]);
    let baseline = Baseline::of(&server, &place.path);
    let mut clients: Vec<Client> =
        (0..8).map(|n| Client::register(&place.path, format!("client {n}")).unwrap()).collect();
    let mut full = None;
    for round in 0..100 {
        let error = Client::register(&place.path, format!("extra {round}")).unwrap_err();
        // Of the registrations before nothing is under way any more, but this one may still have its socket.
        if full.is_none() {
            eventually("only the served are here", || baseline.has_clients(8));
            full = Some(baseline.now());
        }
        assert!(matches!(error, RegisterError::Full(_)), "{error:?}");
        advises(&error, &["is full", "--max-clients"]);
        let to = clients[(round + 1) % 8].key();
        let client = &mut clients[round % 8];
        assert_eq!(client.call(b"x").unwrap(), b"x");
        client.send(to, b"x").unwrap();
        assert_eq!(clients[(round + 1) % 8].recv().unwrap().payload(), b"x");
    }
    eventually("nothing is left of the refused", || Some(baseline.now()) == full);
    for round in 0..8 {
        clients.remove(0).unregister().unwrap();
        // When this returns, name and slot are free.
        clients.push(Client::register(&place.path, format!("next {round}")).unwrap());
        assert!(matches!(Client::register(&place.path, "extra"), Err(RegisterError::Full(_))));
    }
    drop(clients);
    baseline.await_restored();
    assert_eq!(shut_down(server)["refused"], baseline.refused + 108);
}

/// Registers clients until the server refuses one.
fn fill(place: &Place, words: &[&str]) -> Vec<Client> {
    let mut clients = Vec::new();
    loop {
        match Client::register(&place.path, format!("client {}", clients.len())) {
            Ok(client) => clients.push(client),
            Err(error @ RegisterError::Refused(_)) => {
                advises(&error, words);
                return clients;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Clients are refused, also many at once, without an effect on registered clients and observers.
#[test]
fn a_server_without_descriptors_refuses_clients_and_answers_observers() {
    let words = ["no descriptors left", "ulimit -n"];
    let place = Place::new();
    let server = start_server(&place, &[("RING", "4096"), ("FILES", "64")]);
    let baseline = Baseline::of(&server, &place.path);
    let mut clients = fill(&place, &words);
    let served = clients.len();
    // Each client needs one descriptor, not two.
    assert!(served > (64 - baseline.holdings.descriptors) / 2 + 8, "{served} clients");
    eventually("only the served are here", || baseline.has_clients(served));
    let full = baseline.now();
    let crowd: Vec<_> = (0..60)
        .map(|n| {
            let path = place.path.clone();
            begin(move || Client::register(&path, format!("refused {n}")).map(drop))
        })
        .collect();
    for one in crowd {
        let error = one.end("a refused registration").unwrap_err();
        assert!(matches!(error, RegisterError::Refused(_)), "{error:?}");
        advises(&error, &words);
    }
    for client in &mut clients {
        assert_eq!(client.call(b"x").unwrap(), b"x");
    }
    let observer = Observer::connect(&place.path).unwrap();
    assert_eq!((observer.list().unwrap().len(), observer.server().unwrap().clients), (served, served as u32));
    drop(observer);
    #[cfg(feature = "cli")]
    {
        let mut ls = std::process::Command::new(env!("CARGO_BIN_EXE_ringpost"));
        let listed = ls.args(["ls", "--json", "--socket"]).arg(&place.path).output().unwrap();
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        assert!(String::from_utf8_lossy(&listed.stdout).contains(&format!("client {}", served - 1)));
    }
    eventually("nothing is left of the refused", || baseline.now() == full);
    // Idle connections take the last descriptors, for two seconds; then even an observer is refused with the
    // reason.
    let mut silent = Vec::new();
    eventually("no descriptor is left", || {
        silent.clear();
        silent.extend((0..8).map(|_| raw::dial(&place.path)));
        match Observer::connect(&place.path).unwrap().list() {
            Ok(_) => false,
            Err(error) => {
                advises(&error, &words);
                true
            }
        }
    });
    assert_eq!(clients[0].call(b"x").unwrap(), b"x");
    drop(silent);
    clients.truncate(served / 2);
    eventually("there is room again", || {
        Client::register(&place.path, format!("again {}", clients.len())).is_ok_and(|mut client| {
            assert_eq!(client.call(b"x").unwrap(), b"x");
            clients.push(client);
            clients.len() == served
        })
    });
    drop(clients);
    baseline.await_restored();
    shut_down(server);
    assert!(place.is_clean());
}

/// The number of voluntary context switches of the acceptor's thread.
fn sleeps_of_acceptor(server: &Role) -> u64 {
    let tasks = format!("/proc/{}/task", server.pid());
    std::fs::read_dir(tasks)
        .unwrap()
        .flatten()
        .find_map(|task| {
            let status = std::fs::read_to_string(task.path().join("status")).ok()?;
            let is_it = status.lines().any(|line| line == "Name:\trp-acceptor");
            let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            is_it.then(|| count.trim().parse().unwrap())
        })
        .unwrap()
}

fn failed_accepts(server: &mut Role) -> u64 {
    server.tell("count");
    server.hear("count").parse().unwrap()
}

/// The limit is lowered below what the server has, so not even its reserve helps. Connections stay in the
/// backlog, and although the kernel reports them again and again, the acceptor does not become busy.
#[test]
fn connections_that_cannot_be_accepted_do_not_keep_the_server_busy() {
    let place = Place::new();
    let mut server = start_server(&place, &[("RING", "4096")]);
    let baseline = Baseline::of(&server, &place.path);
    let mut alice = Client::register(&place.path, "alice").unwrap();
    eventually("alice is here", || baseline.has_clients(1));
    let pid = Pid::from_raw(server.pid() as i32);
    let none = Rlimit { current: Some(3), maximum: getrlimit(Resource::Nofile).maximum };
    let Ok(before) = prlimit(pid, Resource::Nofile, none) else {
        return eprintln!("skipped: another process's limits cannot be set");
    };
    let (attempts, sleeps, began) =
        (failed_accepts(&mut server), sleeps_of_acceptor(&server), Instant::now());
    let path = place.path.clone();
    let waiting = begin(move || {
        Client::builder(path).timeout(LIMIT).register("patient").map(|mut client| client.caller().ping())
    });
    let soon = Client::builder(&place.path).timeout(Duration::from_millis(300));
    let error = soon.register("impatient").unwrap_err();
    assert!(matches!(error, RegisterError::TimedOut { .. }), "{error:?}");
    let mut calls = 0_u64;
    eventually("the acceptor has slept, and tried again, several times", || {
        assert_eq!(alice.call(b"x").unwrap(), b"x");
        calls += 1;
        sleeps_of_acceptor(&server) >= sleeps + 10 && failed_accepts(&mut server) >= attempts + 10
    });
    assert!(!waiting.is_over());
    // The acceptor pauses 50 ms between two attempts.
    let tried = failed_accepts(&mut server) - attempts;
    let most = began.elapsed().as_millis() as u64 / 50 + 2;
    assert!(tried <= most, "{tried} attempts where there is time for {most}");
    prlimit(pid, Resource::Nofile, before).unwrap();
    waiting.end("the one that waited").unwrap().unwrap();
    alice.unregister().unwrap();
    baseline.await_restored();
    shut_down(server);
}

/// The server's limit is reached by connections that arrived while it was stopped.
#[test]
fn a_crowd_before_a_stopped_server_is_served_or_refused_when_it_goes_on() {
    let place = Place::new();
    let server = start_server(&place, &[("RING", "4096"), ("FILES", "64")]);
    let baseline = Baseline::of(&server, &place.path);
    signal(&server, Signal::STOP);
    let crowd: Vec<_> = (0..200)
        .map(|n| {
            let path = place.path.clone();
            begin(move || Client::builder(&path).timeout(LIMIT).register(format!("client {n}")))
        })
        .collect();
    signal(&server, Signal::CONT);
    let mut served = Vec::new();
    for one in crowd {
        match one.end("a registration in the crowd") {
            Ok(client) => served.push(client),
            Err(error @ RegisterError::Refused(_)) => advises(&error, &["no descriptors left", "ulimit -n"]),
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(!served.is_empty());
    assert_eq!(registered(&place.path), served.len());
    for client in &mut served {
        assert_eq!(client.call(b"x").unwrap(), b"x");
    }
    drop(served);
    baseline.await_restored();
    shut_down(server);
}
