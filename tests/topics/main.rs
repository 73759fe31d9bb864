//! Topics: policies, history, several publishers, ends of either side, forks, and a server that dies
//! meanwhile.

#![allow(unsafe_code, reason = "there is no safe fork")]

#[path = "../common/mod.rs"]
mod common;

mod basics;
mod ends;
mod errors;
mod fork;
mod many;
mod outlive;
mod processes;
mod reliable;
mod users;

use common::role::{self, setting};
use common::{Bus, LIMIT};
use ringpost::{Client, OwnedSample, Publisher, SampleError, Subscriber};
use std::path::PathBuf;

/// Runs the role of a child process of this test program; does nothing in the main process.
#[test]
fn role() {
    let Some((role, stage)) = role::role() else { return };
    match role.as_str() {
        "publishes" => processes::publish(&stage),
        "subscribes" => processes::subscribe(&stage),
        "forks while publishing" => fork::fork_while_publishing(&stage),
        "forks while subscribing" => fork::fork_while_subscribing(&stage),
        "forks while viewing" => fork::fork_while_viewing(&stage),
        "goes on publishing" => outlive::publish_on(&stage),
        "goes on subscribing" => outlive::subscribe_on(&stage),
        "tries as another user" => users::subscribe_as_another(&stage),
        "server" => common::server::serve(common::server::as_set(), &stage),
        other => panic!("no role {other:?}"),
    }
}

/// A client of the bus that a role was started for.
fn register(name: &str) -> Client {
    Client::register(setting::<PathBuf>("PATH").unwrap(), name).unwrap()
}

/// Two clients of one bus.
fn pair() -> (Bus, Client, Client) {
    let bus = Bus::start();
    let [alice, bob] = ["alice", "bob"].map(|name| bus.client(name));
    (bus, alice, bob)
}

/// The next sample, which must come in time.
fn next(sub: &mut Subscriber) -> OwnedSample {
    sub.recv_timeout(LIMIT).unwrap().to_owned()
}

/// The next samples' payloads.
fn payloads(sub: &mut Subscriber, count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|_| next(sub).payload().to_vec()).collect()
}

/// What a numbered sample has.
fn number(sample: &OwnedSample) -> u64 {
    sample.read().unwrap()
}

fn send_number(publisher: &mut Publisher, number: u64) {
    publisher.send(&number.to_ne_bytes()).unwrap();
}

/// Receives until the subscription says something that is no sample.
fn drain(sub: &mut Subscriber) -> (Vec<OwnedSample>, SampleError) {
    let mut samples = Vec::new();
    loop {
        match sub.recv_timeout(LIMIT) {
            Ok(sample) => samples.push(sample.to_owned()),
            Err(error) => return (samples, error),
        }
    }
}
