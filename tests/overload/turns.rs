//! Tests of more busy clients than CPUs: their workers take turns, and none starves.

use crate::common::{Bus, LIMIT, begin, eventually};
use ringpost::{Request, Response};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};

const PAIRS: u8 = 4;

/// Each client calls until all have made many calls. So a starving client would keep the test from ending.
#[test]
fn all_who_call_without_pause_get_on() {
    const CLIENTS: u32 = 16;
    const CALLS: u32 = 5_000;
    let bus = Bus::start();
    let path = bus.path().to_owned();
    let ended = Arc::new(AtomicU32::new(0));
    let clients = (0..CLIENTS).map(|number| {
        let (mut client, ended) = (bus.client(&format!("busy-{number}")), Arc::clone(&ended));
        begin(move || {
            let mut calls = 0_u32;
            while ended.load(Ordering::Relaxed) < CLIENTS {
                let request = [number.to_le_bytes(), calls.to_le_bytes()].concat();
                assert_eq!(client.call(&request).unwrap(), request);
                calls += 1;
                if calls == CALLS {
                    ended.fetch_add(1, Ordering::Relaxed);
                }
            }
            client.unregister().unwrap();
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.end_within("a client among many", LIMIT * 5);
    }
    assert_eq!(super::registered(&path), 0);
}

/// Mixes calls that are answered at once with calls whose answer waits for another client's call. So a worker
/// with a slot of the scheduler waits for one without.
#[test]
fn calls_that_wait_for_each_other_are_answered() {
    const MEETINGS: u32 = 30;
    let barriers: Vec<_> = (0..PAIRS).map(|_| Barrier::new(2)).collect();
    let bus = Bus::with(|builder| {
        builder.service(move |request: Request<'_>, response: &mut Response| {
            if let [pair] = *request.payload() {
                barriers[usize::from(pair)].wait();
            }
            response.write(request.payload())
        })
    });
    let clients = (0..2 * PAIRS).map(|number| {
        let mut client = bus.client(&format!("meets-{number}"));
        begin(move || {
            for _ in 0..MEETINGS {
                for _ in 0..300 {
                    assert_eq!(client.call(b"at once").unwrap(), b"at once");
                }
                assert_eq!(client.call(&[number / 2]).unwrap(), [number / 2]);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.end("a client whose calls wait for another's");
    }
}

/// The server ends while clients call without pause. All their workers end, including those that wait for a
/// slot.
#[test]
fn a_shutdown_ends_who_waits_for_a_turn() {
    let bus = Bus::start();
    let called = Arc::new(AtomicU32::new(0));
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let mut client = bus.client(&format!("busy-{number}"));
            let called = Arc::clone(&called);
            begin(move || {
                while client.call(b"again").is_ok() {
                    called.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    eventually("some calls", || called.load(Ordering::Relaxed) >= 10_000);
    let Bus { server, place } = bus;
    let summary = begin(move || server.join_after_shutdown()).end("the shutdown");
    for client in clients {
        client.end("a client of a server that has ended");
    }
    assert_eq!(summary.abandoned, 0);
    assert!(place.is_clean());
}
