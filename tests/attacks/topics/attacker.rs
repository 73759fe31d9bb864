//! The process that attacks over topics, and behaves well for comparison.
//!
//! Good behaviour subscribes and publishes as often, and asks the server as often as the last attack; it
//! reads what it subscribed to, and computes as much.

use super::kinds::{self, Assault, Kept, Kind};
use crate::attacker::{Load, ask_for_the_server, cpu_time, next_order, pass_time};
use crate::common::LIMIT;
use crate::common::payload::Random;
use crate::common::raw::{Heard, RawClient};
use crate::common::raw_links::BUSY;
use crate::common::raw_topics::{LOSSY, MAY_SLEEP, Part, RawPublisher, Wish};
use crate::common::role::{Stage, say, setting};
use crate::common::users::{is_root, leave_root};
use crate::kinds::Pace;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The attacker's user, where it can have one of its own.
pub const OTHER: u32 = 65_530;

/// How long it uses one subscription or one topic.
const ONE: Duration = Duration::from_millis(20);

struct Attacker {
    path: PathBuf,
    name: String,
    client: RawClient,
    random: Random,
    topics: u64,
}

/// The role: executes orders until they end.
pub fn attack(stage: &Stage) {
    if is_root() {
        leave_root(OTHER, OTHER, &[]);
    }
    let (path, name): (PathBuf, String) = (setting("PATH").unwrap(), setting("ATTACK").unwrap());
    let client = register(&path, &name);
    let mut attacker = Attacker { path, name, client, random: Random::new(1), topics: 0 };
    let mut load = Load::default();
    say("ready");
    loop {
        let (what, time) = next_order(stage);
        match what.as_str() {
            "attack" => {
                load = attacker.attack(time).0;
                load.tell();
            }
            "behave" => attacker.behave(&load, time).tell(),
            "outlast" => attacker.outlast(stage),
            other => panic!("no order {other:?}"),
        }
    }
}

/// Registers as soon as its user may: what the last attacker asked for counts for a second.
fn register(path: &Path, name: &str) -> RawClient {
    let until = Instant::now() + LIMIT;
    loop {
        match RawClient::try_register(path, name) {
            Ok(client) => return client,
            Err(Heard::Reply { status: BUSY, .. }) if Instant::now() < until => pass_time(Pace::Rests),
            Err(heard) => panic!("not registered: {heard:?}"),
        }
    }
}

impl Attacker {
    /// A topic of its own. Each has another name, because the last one may not be gone yet.
    fn publish(&mut self, reliable: bool) -> Option<RawPublisher> {
        self.topics += 1;
        let topic = format!("open/{}", self.topics);
        let wish = Wish { epoch: self.topics, first: 1, reliable, ..Wish::of(&topic) };
        self.client.publish_topic(&self.path, &wish).ok()
    }

    /// Attacks for some time. Also returns the memory of its last topic or subscription.
    fn attack(&mut self, time: Duration) -> (Load, Option<Kept>) {
        let (began, busy) = (Instant::now(), cpu_time());
        let until = began + time;
        let (mut load, mut kept) = (Load::default(), None);
        while Instant::now() < until {
            let kind = kinds::called(&self.name);
            let own = match kind {
                Kind::Publisher { reliable, .. } => self.publish(reliable),
                _ => None,
            };
            let mut a = Assault {
                client: &self.client,
                path: &self.path,
                random: &mut self.random,
                until: until.min(Instant::now() + ONE),
                pairs: 0,
                steps: 0,
                asked: 0,
            };
            match (kind, own) {
                (Kind::Client(attack), _) => attack(&mut a),
                (Kind::Subscriber { policy, flags, attack }, _) => {
                    if let Some(last) = kinds::subscribe_and(&mut a, policy, flags, attack) {
                        kept = Some(last);
                    }
                }
                (Kind::Publisher { attack, .. }, Some(mut topic)) => {
                    a.pairs += 1;
                    let id = topic.id;
                    attack(&mut a, &mut topic);
                    a.asked += 1;
                    let _ = self.client.leave_topic(&self.path, id);
                    kept = Some(Kept { segment: Some(topic.memory), pages: Vec::new() });
                }
                // No quota or no room is left for the moment.
                (Kind::Publisher { .. }, None) => pass_time(Pace::Rests),
            }
            load.registered += a.pairs;
            load.requests += a.steps;
            load.connections += a.asked;
        }
        // What waits for it and was not taken.
        while self.client.part(&self.path).is_some() {}
        (Load { busy: cpu_time() - busy, time: began.elapsed(), ..load }, kept)
    }

    /// Attacks, lets go of all that it has but memory, and misuses that until the next order.
    fn outlast(&mut self, stage: &Stage) {
        let until = Instant::now() + LIMIT;
        let mut kept = None;
        while kept.is_none() && Instant::now() < until {
            kept = self.attack(Duration::from_millis(100)).1;
            if matches!(kinds::called(&self.name), Kind::Client(_)) {
                break;
            }
        }
        say("let go");
        while stage.ordered().is_none() {
            match &kept {
                Some(kept) => kinds::rage(kept, &mut self.random),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        say("raged");
    }

    /// Causes the same load, and breaks no rule.
    fn behave(&mut self, load: &Load, time: Duration) -> Load {
        let (began, busy) = (Instant::now(), cpu_time());
        let until = began + time;
        let mut done = Load::default();
        let publishes = matches!(kinds::called(&self.name), Kind::Publisher { .. });
        while Instant::now() < until {
            let due = load.due(began.elapsed());
            let mut idle = true;
            if done.registered < due.registered {
                let id = if publishes {
                    self.publish(false).map(|mut topic| {
                        (0..10).for_each(|_| topic.send(b"in good order"));
                        topic.id
                    })
                } else {
                    let made = self.client.subscribe(&self.path, LOSSY, MAY_SLEEP, "open/*");
                    made.ok().map(|(id, _)| id)
                };
                while let Some(part) = self.client.part(&self.path) {
                    drop::<Part>(part);
                }
                id.into_iter().for_each(|id| drop(self.client.leave_topic(&self.path, id)));
                done.registered += 1;
                idle = false;
            }
            if done.connections < due.connections {
                ask_for_the_server(Path::new(&self.path));
                done.connections += 1;
                idle = false;
            }
            if idle {
                let share = load.busy.as_secs_f64() / load.time.as_secs_f64().max(1e-9);
                pass_time(if share > 0.5 { Pace::Computes } else { Pace::Rests });
            }
        }
        while self.client.part(&self.path).is_some() {}
        Load { busy: cpu_time() - busy, time: began.elapsed(), ..done }
    }
}
