//! Plans a round: what happens, to whom and when, all of it from the seed and the round's number.

use std::time::Duration;

use ringpost::WaitStrategy;

use super::failpoints::{self, Armed, Side};
use super::random::Random;

/// What the harness does to a client or to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// SIGKILL to the client in this slot.
    Kill(u64),
    /// SIGSTOP, and SIGCONT after this time.
    Stop(u64, Duration),
    /// This many connections that send nothing, for this time.
    Connect(u64, Duration),
}

/// How the server ends, unless its failpoint ends it before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    Kill,
    Terminate,
}

#[derive(Debug, Clone)]
pub struct Plan {
    pub ring_size: usize,
    pub wait: WaitStrategy,
    pub length: Duration,
    pub finish: Finish,
    /// All clients are held at the gate before the server ends: none may need that end to wake up.
    pub held: bool,
    /// All clients leave before the server ends, and then what it holds is compared with the beginning.
    pub quiet: bool,
    /// Clients with links are stopped for so long that the server gives up waiting for them.
    pub waiting: bool,
    /// The server's limit of open files; 0 leaves it.
    pub descriptors: u64,
    pub server_failpoint: Option<Armed>,
    /// Each with its time from the round's beginning.
    pub acts: Vec<(Duration, Act)>,
}

/// Longer than a server lets a link wait for a client.
pub const WAITING: Duration = Duration::from_millis(7000);

/// One round in this many ends quietly.
const QUIET: u32 = 8;

/// The number of the first client with links, among all, and of the first with topics.
pub const LINKERS: u64 = 64;
pub const TOPICS: u64 = 128;

/// How a client waits in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// In the operations that block.
    Inside,
    ByEpoll {
        edge: bool,
    },
}

impl Waits {
    /// Half of the clients wait by epoll.
    pub fn of(seed: u64, round: u32, slot: u64) -> Waits {
        let mut random = Random::of(&[seed, round.into(), slot, 17]);
        if random.once_in(2) { Waits::Inside } else { Waits::ByEpoll { edge: random.once_in(2) } }
    }
}

impl Plan {
    pub fn of(seed: u64, round: u32, [clients, links, topics]: [u64; 3]) -> Plan {
        let mut random = Random::of(&[seed, round.into()]);
        let quiet = round % QUIET == QUIET - 1;
        let server_failpoint = if quiet || random.once_in(6) {
            None
        } else {
            failpoints::choose(Side::Server, u64::from(round) + seed, &mut random)
        };
        let stopping = server_failpoint.as_ref().is_some_and(Armed::is_stopping);
        let waiting = server_failpoint.as_ref().is_some_and(Armed::is_waiting);
        let rare = server_failpoint.as_ref().is_some_and(Armed::is_rare);
        let finish = if stopping || random.once_in(8) { Finish::Terminate } else { Finish::Kill };
        let milliseconds = if quiet { 150 + random.below(150) } else { 40 + random.below(120) };
        let length = if waiting { WAITING } else { Duration::from_millis(milliseconds) };
        let descriptors = if random.once_in(12) { 16 + random.below(2 * clients) } else { 0 };
        let mut acts = Vec::new();
        let mut at = Duration::ZERO;
        while waiting && acts.len() < links as usize / 2 {
            let slot = clients + acts.len() as u64;
            acts.push((Duration::from_millis(100), Act::Stop(slot, WAITING)));
        }
        loop {
            at += Duration::from_micros(2000 + random.below(12_000));
            if at >= length || waiting {
                break;
            }
            let slot = random.below(clients + links + topics);
            let act = match random.below(16) {
                0..=9 => Act::Kill(slot),
                10..=14 => Act::Stop(slot, Duration::from_millis(2 + random.below(50))),
                _ if descriptors > 0 => {
                    Act::Connect(2 + random.below(30), Duration::from_millis(5 + random.below(40)))
                }
                _ => Act::Kill(slot),
            };
            acts.push((at, act));
        }
        Plan {
            // A rare failpoint needs a full ring; the smallest rings fill soonest.
            ring_size: if rare { 4096 } else { 4096 << random.below(4) },
            wait: [WaitStrategy::Adaptive, WaitStrategy::Adaptive, WaitStrategy::Park]
                [random.below(3) as usize],
            length,
            finish,
            held: quiet || random.once_in(2),
            quiet,
            waiting,
            descriptors,
            server_failpoint,
            acts,
        }
    }
}

pub mod tests {
    use super::*;

    pub fn a_round_can_be_planned_again() {
        for round in 0..50 {
            let (one, two) = (Plan::of(7, round, [12, 5, 4]), Plan::of(7, round, [12, 5, 4]));
            assert_eq!(format!("{one:?}"), format!("{two:?}"));
            assert!(one.acts.iter().all(|(at, _)| *at < one.length));
            assert!(!one.quiet || one.server_failpoint.is_none());
        }
        let by_epoll = (0..1000).filter(|slot| Waits::of(7, 1, *slot) != Waits::Inside).count();
        assert!((400..600).contains(&by_epoll), "{by_epoll} of 1,000 wait by epoll");
        assert_ne!(format!("{:?}", Plan::of(7, 0, [12, 5, 4])), format!("{:?}", Plan::of(8, 0, [12, 5, 4])));
    }
}
