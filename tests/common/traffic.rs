//! Verified traffic between processes: clients call and send at random, and check everything that they
//! receive.

use super::payload::{Random, fill};
use super::role::{Role, Stage, say, setting};
use super::{LIMIT, Place};
use ringpost::{Client, Key, SendError};
use std::collections::HashMap;
use std::path::PathBuf;

/// The amount of traffic.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub clients: u64,
    /// The calls of each client.
    pub calls: u64,
    /// The messages from each client to each other one.
    pub messages: u64,
    /// The largest call or message, if the rings allow it.
    pub most: usize,
}

impl Plan {
    fn played() -> Plan {
        Plan {
            clients: setting("CLIENTS").unwrap(),
            calls: setting("CALLS").unwrap(),
            messages: setting("MESSAGES").unwrap(),
            most: setting("MOST").unwrap(),
        }
    }

    /// The number of messages that a client sends, which is also the number it receives.
    fn exchanged(&self) -> u64 {
        self.messages * (self.clients - 1)
    }

    /// Checks the server's totals against the plan.
    pub fn check(&self, sums: &HashMap<String, u64>) {
        assert_eq!(sums["calls"], self.clients * self.calls);
        assert_eq!(sums["messages"], self.clients * self.exchanged());
        assert_eq!((sums["violations"], sums["registered"], sums["abandoned"]), (0, self.clients, 0));
    }
}

/// Starts the clients of the plan, and waits until all have verified everything.
pub fn direct(place: &Place, plan: &Plan) {
    let settings = [
        ("PATH", place.path.to_str().unwrap().to_owned()),
        ("CLIENTS", plan.clients.to_string()),
        ("CALLS", plan.calls.to_string()),
        ("MESSAGES", plan.messages.to_string()),
        ("MOST", plan.most.to_string()),
    ];
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let start = |index: u64| {
        let index = index.to_string();
        Role::start("traffic", &[&settings[..], &[("INDEX", &index)]].concat())
    };
    let mut clients: Vec<Role> = (0..plan.clients).map(start).collect();
    let keys: Vec<String> = clients.iter_mut().map(|client| client.hear("key")).collect();
    for client in &mut clients {
        client.tell(&keys.join(" "));
    }
    for client in &mut clients {
        client.hear_within("done", LIMIT * 10);
    }
    for client in &mut clients {
        client.tell("end");
    }
    for mut client in clients {
        client.hear("bye");
        assert!(client.end().success());
    }
}

/// The payload's seed of the n-th message between two clients, or of the n-th call of one.
fn message_seed(from: u64, to: u64, n: u64) -> u64 {
    from << 56 | to << 48 | n
}

fn call_seed(from: u64, n: u64) -> u64 {
    from << 56 | 0xff << 48 | n
}

/// Calls and sends at random, and verifies every response and message.
pub fn play(stage: &Stage) {
    let (plan, own): (Plan, u64) = (Plan::played(), setting("INDEX").unwrap());
    let path: PathBuf = setting("PATH").unwrap();
    let client = Client::register(path, format!("client {own}")).unwrap();
    say(format_args!("key {}", client.key()));
    let keys: Vec<Key> = stage.order().split_whitespace().map(|key| key.parse().unwrap()).collect();
    let max_call = client.limits().max_call.min(plan.most);
    let max_message = client.limits().max_message.min(plan.most);
    let (mut caller, mut inbox) = client.split();
    let senders = keys.clone();
    let receiver = std::thread::spawn(move || {
        let mut counts = vec![0_u64; senders.len()];
        let mut expected = Vec::new();
        for _ in 0..plan.exchanged() {
            let message = inbox.recv().unwrap();
            let from = senders.iter().position(|key| *key == message.sender()).expect("a known sender");
            assert_eq!(message.sender_name().as_str(), format!("client {from}"));
            fill(&mut expected, message_seed(from as u64, own, counts[from]), max_message);
            assert!(message.payload() == expected, "message {} from {from}", counts[from]);
            counts[from] += 1;
        }
        (inbox, counts)
    });

    let mut random = Random::new(own + 1000);
    let mut to_send: Vec<u64> = vec![plan.messages; keys.len()];
    to_send[own as usize] = 0;
    let (mut called, mut answered) = (0, 0);
    let mut buffer = Vec::new();
    while answered < plan.calls || to_send.iter().any(|left| *left > 0) {
        let to = random.below(keys.len());
        if to_send[to] > 0 && random.below(4) == 0 {
            let n = plan.messages - to_send[to];
            fill(&mut buffer, message_seed(own, to as u64, n), max_message);
            match caller.try_send(keys[to], &buffer) {
                Ok(()) => {}
                Err(SendError::InboxFull) => caller.send_timeout(keys[to], &buffer, LIMIT).unwrap(),
                Err(error) => panic!("{error}"),
            }
            to_send[to] -= 1;
        } else if called < plan.calls && random.below(8) > 0 {
            fill(&mut buffer, call_seed(own, called), max_call);
            called += 1;
            if answered + 1 == called && random.below(2) == 0 {
                assert!(caller.call(&buffer).unwrap() == buffer, "call {answered}");
                answered += 1;
            } else {
                caller.submit(&buffer).unwrap();
            }
        } else {
            for _ in 0..caller.outstanding() {
                fill(&mut buffer, call_seed(own, answered), max_call);
                assert!(caller.response().unwrap() == buffer, "call {answered}");
                answered += 1;
            }
        }
    }
    let (mut inbox, counts) = receiver.join().unwrap();
    for (from, count) in counts.into_iter().enumerate() {
        assert_eq!(count, if from as u64 == own { 0 } else { plan.messages }, "from {from}");
    }
    say("done");
    // Everyone has sent everything, so no further message may arrive.
    stage.await_order("end");
    assert_eq!(inbox.try_recv(), Ok(None));
    let counters = caller.statistics().unwrap();
    assert_eq!((counters.calls, counters.sent), (plan.calls, plan.exchanged()));
    assert_eq!((counters.delivered, counters.received), (plan.exchanged(), plan.exchanged()));
    caller.unregister().unwrap();
    say("bye");
}
