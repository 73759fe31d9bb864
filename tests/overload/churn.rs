//! Tests that the server's memory does not grow while clients register and leave.
//!
//! `RINGPOST_CHURN_MINUTES=10` runs the long form, with 10,000 clients per minute.

use super::common::payload::Random;
use super::common::proc::mappings;
use super::common::role::{Role, Stage, say, setting};
use super::common::{LIMIT, Place, eventually, generation_of};
use super::{Baseline, from_environment, numbers, registered, shut_down, start_server};
use ringpost::Client;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const PROCESSES: u64 = 4;
const A_MINUTE: u64 = 10_000;

/// The number of clients in the short form, which register as fast as they can.
const SHORT: u64 = 4_000;

/// The number of clients before the baseline, so that it includes what is allocated only once.
const BEFORE: u64 = 2_000;

/// The allowed growth in KiB: less than a leak of 64 bytes per client would cause in the long form.
const SPARE: u64 = 2_048;

/// Registers clients, a few at a time. Each calls, sends to its neighbour, and leaves in one of several ways.
pub fn come_and_go(stage: &Stage) {
    let (path, index): (PathBuf, u64) = (setting("PATH").unwrap(), setting("INDEX").unwrap());
    let mut random = Random::new(index);
    let mut round = 0;
    loop {
        let order = stage.order();
        let order = super::numbers(&order);
        let (count, pace) = (order["count"], Duration::from_micros(order["pace_us"]));
        let (began, mut newest) = (Instant::now(), 0);
        let mut here: Vec<Client> = Vec::new();
        for n in 0..count {
            // The long form keeps to its rate.
            let due = began + pace * n as u32;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let mut client = Client::register(&path, format!("churn {index} {round} {n}")).unwrap();
            newest = newest.max(generation_of(client.key()));
            assert_eq!(client.call(&n.to_le_bytes()).unwrap(), n.to_le_bytes());
            if let Some(neighbour) = here.last_mut() {
                client.send(neighbour.key(), b"hello").unwrap();
                assert_eq!(neighbour.recv().unwrap().payload(), b"hello");
            }
            here.push(client);
            if here.len() > 3 {
                let leaves = here.swap_remove(random.below(here.len()));
                match random.below(4) {
                    0 => leaves.closer().close(),
                    1 => drop(leaves.split().0),
                    _ => leaves.unregister().unwrap(),
                }
            }
        }
        drop(here);
        round += 1;
        say(format_args!("churned generation={newest}"));
    }
}

/// Resident memory in KiB: all of it, and the private part.
fn memory(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let of = |field: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
    };
    (of("VmRSS"), of("RssAnon"))
}

#[test]
fn clients_come_and_go_and_memory_stays() {
    let minutes: Option<u64> = from_environment("RINGPOST_CHURN_MINUTES");
    let place = Place::new();
    let path = place.path.to_str().unwrap();
    let server = start_server(&place, &[("RING", "4096"), ("CLIENTS", "32")]);
    let pid = server.pid();
    let baseline = Baseline::of(&server, &place.path);
    let mut churners: Vec<Role> = (0..PROCESSES)
        .map(|index| Role::start("churner", &[("PATH", path), ("INDEX", &index.to_string())]))
        .collect();
    let churn = |churners: &mut [Role], count: u64, pace_us: u64, limit: Duration| -> u64 {
        for churner in churners.iter_mut() {
            churner.tell(&format!("count={} pace_us={pace_us}", count / PROCESSES));
        }
        churners.iter_mut().map(|c| numbers(&c.hear_within("churned", limit))["generation"]).max().unwrap()
    };
    let first = churn(&mut churners, BEFORE, 0, LIMIT * 5);
    baseline.await_restored();
    let (mapped, before) = (mappings(pid), memory(pid));
    let began = Instant::now();
    let (count, last) = match minutes {
        None => (SHORT, churn(&mut churners, SHORT, 0, LIMIT * 5)),
        Some(minutes) => {
            let pace = 60_000_000 * PROCESSES / A_MINUTE;
            let mut last = 0;
            for minute in 1..=minutes {
                last = churn(&mut churners, A_MINUTE, pace, LIMIT * 10);
                eprintln!("minute {minute}: resident and own KiB {:?}", memory(pid));
            }
            (minutes * A_MINUTE, last)
        }
    };
    let took = began.elapsed();
    baseline.await_restored();
    assert_eq!(registered(&place.path), 0);
    // Slots are reused in order, so each has had equally many clients.
    assert!(last >= first + count / 32 / 2, "generations {first} and {last}");
    eventually("memory is as before", || {
        memory(pid).1 <= before.1 + SPARE && memory(pid).0 <= before.0 + SPARE
    });
    let (mapped_after, after) = (mappings(pid), memory(pid));
    eprintln!(
        "{count} registrations in {} s, {} a minute; resident KiB {} and {}, own {} and {}; mappings {mapped} and \
         {mapped_after}; {:?}; generations up to {last}",
        took.as_secs(),
        (count as f64 / took.as_secs_f64() * 60.0) as u64,
        before.0,
        after.0,
        before.1,
        after.1,
        baseline.now(),
    );
    drop(churners);
    let sums = shut_down(server);
    assert_eq!(
        (sums["registered"], sums["calls"]),
        (BEFORE + count + baseline.registered, BEFORE + count + baseline.registered)
    );
    assert_eq!((sums["refused"], sums["violations"], sums["abandoned"]), (baseline.refused, 0, 0));
    assert!(place.is_clean());
}
