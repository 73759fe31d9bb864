//! Tests of what a server does for those who publish, subscribe, and follow who is there, by hand-written
//! clients: what both sides get, each refusal, each bound, and that nothing is left behind.
//!
//! The server is a process of its own, whose descriptors are counted. It has one for each topic, one for each
//! bell, and those of parts that wait for a publisher.

#[path = "../common/mod.rs"]
mod common;

mod bounds;
mod leftovers;
mod parts;
mod presence;
mod refusals;

use common::raw::{DATA_RECORD, LINE, PADDING_RECORD, RawClient};
use common::raw_bus::{Bus, serve_with_quotas};
use common::raw_topics::{DATA, Introduced, Memory, Part, RawPublisher, Wish};
use common::role::{Stage, say, setting};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// Runs the role of a child process of this test program; does nothing in the main process.
#[test]
fn role() {
    let Some((role, stage)) = common::role::role() else { return };
    match role.as_str() {
        "server" => serve_with_quotas(&stage),
        "asker" => refusals::ask_with_anothers_proof(&stage),
        "publisher" => publish_and_wait(&stage),
        other => panic!("no role {other:?}"),
    }
}

/// Publishes some samples, and waits to be killed.
fn publish_and_wait(stage: &Stage) {
    let path: PathBuf = setting("PATH").unwrap();
    let client = RawClient::register(&path, "publisher");
    let mut publisher = client.publish_topic(&path, &Wish::of("short/lived")).unwrap();
    (0..3).for_each(|number| publisher.send(format!("sample {number}").as_bytes()));
    say("published");
    stage.await_order("never");
}

/// A publisher's part, with what its subscriber shares with it.
#[derive(Debug)]
struct Joined {
    publication: u64,
    subscription: u64,
    line: u16,
    policy: u8,
    flags: u8,
    page: OwnedFd,
    rest: Vec<OwnedFd>,
}

fn joined(part: Option<Part>) -> Joined {
    match part {
        Some(Part::Publisher { publication, subscription, line, policy, flags, page, rest }) => {
            Joined { publication, subscription, line, policy, flags, page, rest }
        }
        other => panic!("not a publisher's part: {other:?}"),
    }
}

fn source(part: Option<Part>) -> Introduced {
    part.expect("something waits").subscribers()
}

/// All parts that wait for a client.
fn all_parts(client: &RawClient, bus: &Bus) -> Vec<Part> {
    std::iter::from_fn(|| client.part(bus.path())).collect()
}

fn publish(client: &RawClient, bus: &Bus, topic: &str) -> RawPublisher {
    client.publish_topic(bus.path(), &Wish::of(topic)).unwrap()
}

fn subscribe(client: &RawClient, bus: &Bus, pattern: &str) -> u64 {
    client.subscribe(bus.path(), 0, 1, pattern).unwrap().0
}

/// Reads a topic whose publisher does not lap it.
struct Ears {
    memory: Memory,
    ring_size: u64,
    position: u64,
}

impl Ears {
    /// From the first sample on.
    fn of(part: &Introduced) -> Ears {
        let memory = Memory::read_only(&part.segment).unwrap();
        assert_eq!(memory.len() as u64, DATA as u64 + part.ring_size);
        Ears { memory, ring_size: part.ring_size, position: 0 }
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let at = DATA + (self.position % self.ring_size) as usize;
            let word = self.memory.word64(at).load(Ordering::Acquire);
            if word >> 34 != self.position / LINE || word & 0xffff_ffff == 0 {
                return None;
            }
            let len = word & 0xffff_ffff;
            if word >> 32 & 3 == PADDING_RECORD {
                self.position = self.position.next_multiple_of(self.ring_size);
                continue;
            }
            assert_eq!(word >> 32 & 3, DATA_RECORD);
            let words = (at + 8..).step_by(8).map(|at| self.memory.word64(at).load(Ordering::Relaxed));
            let mut payload: Vec<u8> =
                words.take((len as usize).div_ceil(8)).flat_map(u64::to_le_bytes).collect();
            payload.truncate(len as usize);
            self.position += (len + 8).next_multiple_of(LINE);
            return Some(payload);
        }
    }

    fn all(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.next()).collect()
    }
}
