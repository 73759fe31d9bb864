//! Tests of an inbox into which more is sent than its client receives.

use super::common::payload::content;
use super::common::proc::{is_asleep, threads};
use super::common::role::{Role, Stage, say, setting};
use super::common::{LIMIT, Place, begin, eventually};
use super::{Baseline, shut_down, start_client, start_server};
use ringpost::{Client, Key, SendError};
use std::path::PathBuf;

const SENDERS: usize = 16;
const MESSAGES: u64 = 400;
const MOST: usize = 900;

fn seed(sender: u64, n: u64) -> u64 {
    sender << 32 | n
}

/// Sends as fast as it can, alternately with and without waiting for room, and counts the delivered messages.
pub fn flood(stage: &Stage) {
    let (path, index): (PathBuf, u64) = (setting("PATH").unwrap(), setting("INDEX").unwrap());
    let to: Key = setting("TO").unwrap();
    let mut client = Client::register(path, format!("sender {index}")).unwrap();
    say("ready");
    stage.await_order("go");
    let (mut acknowledged, mut full) = (0, 0_u64);
    while acknowledged < MESSAGES {
        let message = content(seed(index, acknowledged), MOST);
        match client.try_send(to, &message) {
            Ok(()) => acknowledged += 1,
            Err(SendError::InboxFull) => {
                full += 1;
                if full == 1 {
                    say("full");
                }
                client.send_timeout(to, &message, LIMIT).unwrap();
                acknowledged += 1;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    say(format_args!("acknowledged {acknowledged}"));
    stage.await_order("end");
}

const ROUNDS: u32 = 500;

/// Lets two clients of this process call and send to each other a number of times.
pub fn talk() {
    let path: PathBuf = setting("PATH").unwrap();
    let (mut ping, mut pong) =
        (Client::register(&path, "ping").unwrap(), Client::register(&path, "pong").unwrap());
    let (ping_key, pong_key) = (ping.key(), pong.key());
    let other = begin(move || {
        for n in 0..ROUNDS {
            assert_eq!(pong.recv().unwrap().payload(), n.to_le_bytes());
            pong.try_send(ping_key, &n.to_be_bytes()).unwrap();
        }
        pong.unregister().unwrap();
    });
    for n in 0..ROUNDS {
        assert_eq!(ping.call(&n.to_le_bytes()).unwrap(), n.to_le_bytes());
        ping.try_send(pong_key, &n.to_le_bytes()).unwrap();
        assert_eq!(ping.recv().unwrap().payload(), n.to_be_bytes());
    }
    ping.unregister().unwrap();
    other.end("the other of the pair");
    say("talked");
}

/// While sixteen senders fill the inbox, two other clients communicate undisturbed. Then every acknowledged
/// message is in the inbox exactly once, in each sender's order.
#[test]
fn a_flooded_inbox_concerns_nobody_else_and_loses_nothing() {
    let place = Place::new();
    let server = start_server(&place, &[("RING", "8192")]);
    let baseline = Baseline::of(&server, &place.path);
    let path = place.path.to_str().unwrap();
    let mut bob = Client::register(path, "bob").unwrap();
    let to = bob.key().to_string();
    let mut senders: Vec<Role> = (0..SENDERS)
        .map(|index| {
            let index = index.to_string();
            Role::start("flooder", &[("PATH", path), ("INDEX", &index), ("TO", &to)])
        })
        .collect();
    for sender in &mut senders {
        sender.hear("ready");
    }
    for sender in &mut senders {
        sender.tell("go");
    }
    for sender in &mut senders {
        sender.hear("full");
    }
    let mut pair = Role::start("pair", &[("PATH", path)]);
    pair.hear("talked");
    assert!(pair.end().success());
    let mut counts = [0_u64; SENDERS];
    for _ in 0..SENDERS as u64 * MESSAGES {
        let message = bob.recv_timeout(LIMIT).unwrap();
        let sender: usize = message.sender_name().as_str().strip_prefix("sender ").unwrap().parse().unwrap();
        assert!(
            message.payload() == content(seed(sender as u64, counts[sender]), MOST),
            "{sender}: {counts:?}"
        );
        counts[sender] += 1;
    }
    for sender in &mut senders {
        assert_eq!(sender.hear("acknowledged"), MESSAGES.to_string());
    }
    assert_eq!(bob.try_recv(), Ok(None));
    assert_eq!(bob.caller().statistics().unwrap().received, SENDERS as u64 * MESSAGES);
    for mut sender in senders {
        sender.tell("end");
        assert!(sender.end().success());
    }
    bob.unregister().unwrap();
    baseline.await_restored();
    let sums = shut_down(server);
    assert_eq!(
        (sums["messages"], sums["violations"]),
        (SENDERS as u64 * MESSAGES + 2 * u64::from(ROUNDS), 0)
    );
}

/// Whether a client's process and its worker sleep. Neither spins, and a client wakes its worker before it
/// sleeps. So a sleeping worker waits for room.
fn waits_for_room(server: &Role, client: &Role, name: &str) -> bool {
    let thread = format!("rp-{name}");
    let worker =
        || threads(&server.pid().to_string()).iter().any(|(name, state)| *name == thread && *state == 'S');
    (0..3).all(|_| is_asleep(client.pid()) && worker())
}

/// Senders are served in the order in which they began to wait, although others, with short deadlines or
/// without waiting, come and go in between.
#[test]
fn those_who_wait_for_room_are_served_in_the_order_in_which_they_came() {
    let place = Place::new();
    let server = start_server(&place, &[("RING", "4096"), ("WAIT", "park")]);
    let path = place.path.to_str().unwrap();
    let mut bob = Client::register(path, "bob").unwrap();
    let mut alice = Client::register(path, "alice").unwrap();
    let mut filled = 0;
    loop {
        match alice.try_send(bob.key(), &[0; 400]) {
            Ok(()) => filled += 1,
            Err(SendError::InboxFull) => break,
            Err(error) => panic!("{error:?}"),
        }
    }
    // Fill the rest, so that not even a shorter message fits.
    while alice.try_send(bob.key(), b"").is_ok() {
        filled += 1;
    }
    let text = "x".repeat(400);
    let mut senders = Vec::new();
    for index in 0..SENDERS {
        let name = format!("s{index}");
        let (mut sender, _) = start_client(&place, &name, &[("WAIT", "park")]);
        sender.tell(&format!("send {} 600000 {index} {text}", bob.key()));
        eventually("it waits for room", || waits_for_room(&server, &sender, &name));
        // Neither a sender that does not wait nor one that times out may overtake.
        assert_eq!(alice.try_send(bob.key(), b"me first"), Err(SendError::InboxFull));
        senders.push(sender);
    }
    super::common::finds_no_room(&mut alice, bob.key(), b"x", std::time::Duration::from_millis(20));
    for _ in 0..filled {
        assert_eq!(bob.recv().unwrap().sender_name().as_str(), "alice");
    }
    for index in 0..SENDERS {
        let message = bob.recv_timeout(LIMIT).unwrap();
        assert_eq!(message.sender_name().as_str(), format!("s{index}"));
        assert_eq!(message.payload(), format!("{index} {text}").as_bytes());
    }
    for sender in &mut senders {
        sender.hear("sent");
    }
    assert_eq!(bob.try_recv(), Ok(None));
    drop((senders, alice, bob));
    shut_down(server);
}
