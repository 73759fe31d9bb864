//! Attacks on introductions: a client that asks for links without end, never takes them or takes and
//! vanishes, does not read its answers, lies about what it has, and guesses secrets.

use crate::attacker::Assault;
use crate::common::payload::Random;
use crate::common::proc::{Holdings, own_threads};
use crate::common::raw::{RawClient, VERSION, datagram, hear_all, try_dial};
use crate::common::raw_links::{CONNECT, KICK, LISTEN, REPORT, TAKE, is_ready};
use crate::common::role::{Role, Stage, say, setting};
use crate::common::users::{is_root, leave_root};
use crate::common::{Bus, becomes, eventually};
use crate::well_behaved::median;
use crate::{ALONE, seconds};
use ringpost::{Client, ConnectError};
use rustix::event::PollFlags;
use rustix::net::{SendFlags, send};
use std::collections::VecDeque;
use std::fs::Permissions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

const OTHER: u32 = 65_533;

/// How long the attacker waits for an answer.
const PATIENCE: Duration = Duration::from_millis(5);

/// Connections whose answers are not read yet.
#[derive(Default)]
struct Unread(VecDeque<OwnedFd>);

impl Unread {
    /// Asks on a new connection and reads the answer, if it is to be read and comes soon. False if nobody
    /// listens any more.
    fn ask(&mut self, path: &Path, what: u16, body: &[u8], read: bool) -> bool {
        let Ok(line) = try_dial(path) else { return false };
        let _ = send(&line, &datagram(VERSION, what, body), SendFlags::NOSIGNAL);
        if read && is_ready(&line, PollFlags::IN, PATIENCE) {
            drop(hear_all(&line));
            return true;
        }
        self.0.push_back(line);
        if self.0.len() > 40 {
            self.0.pop_front();
        }
        true
    }
}

/// One step of the attack. `victim` listens for links, and so does the attacker.
fn step(
    client: &RawClient,
    path: &Path,
    victim: Option<&str>,
    unread: &mut Unread,
    random: &mut Random,
) -> bool {
    let connect = |to: &str| client.connect_body(to);
    let read = random.below(4) > 0;
    match random.below(13) {
        0 => unread.ask(path, LISTEN, &client.proof(), read),
        1..4 => unread.ask(path, CONNECT, &connect("attack"), read),
        4..7 => unread.ask(path, CONNECT, &connect(victim.unwrap_or("attack")), read),
        7 | 8 => unread.ask(path, TAKE, &client.proof(), read),
        9 => {
            let mut body = client.proof();
            body.extend_from_slice(&200_u16.to_le_bytes());
            (0..200).for_each(|_| body.extend_from_slice(b"\x01\x05alice"));
            unread.ask(path, REPORT, &body, read)
        }
        10 => {
            let mut wrong = client.proof();
            wrong[16 + random.below(16)] ^= 1 + random.below(255) as u8;
            unread.ask(path, TAKE, &wrong, read)
        }
        11 => {
            let half = random.below(3) as u8;
            unread.ask(path, KICK, &[&client.proof()[..], &[half]].concat(), read)
        }
        _ => {
            client.flip(random.below(4096) as u16);
            client.set_serving(random.below(8) > 0);
            true
        }
    }
}

/// The attack beside which calls are measured.
pub fn flood(a: &mut Assault<'_>) {
    let mut unread = Unread::default();
    a.client.set_serving(true);
    while a.goes_on() && step(&a.client, a.path, None, &mut unread, a.random) {
        a.load.connections += 1;
    }
}

/// The role of another user's client that attacks until it is told to stop. It comes back under its name.
pub fn attack_others(stage: &Stage) {
    if is_root() {
        leave_root(OTHER, OTHER, &[]);
    }
    let path: PathBuf = setting("PATH").unwrap();
    let (mut random, mut unread, mut steps) = (Random::new(5), Unread::default(), 0_u64);
    say("ready");
    while stage.ordered().is_none() {
        let Ok(client) = RawClient::try_register(&path, "attack") else { continue };
        client.set_serving(true);
        for _ in 0..1000 {
            steps += u64::from(step(&client, &path, Some("bob"), &mut unread, &mut random));
        }
    }
    say(format_args!("steps={steps}"));
}

/// Opens links, calls over each, and closes it, for a while. Returns how long each took.
fn open_links(alice: &mut Client, time: Duration) -> Vec<u32> {
    let until = Instant::now() + time;
    let mut times = Vec::new();
    while Instant::now() < until {
        let began = Instant::now();
        let mut link = match alice.connect("bob") {
            Ok(link) => link,
            // Another user's callers may have filled the listener's backlog for a moment.
            Err(ConnectError::Busy(_)) => continue,
            Err(error) => panic!("{error:?}"),
        };
        assert_eq!(link.call(b"x").unwrap(), b"x");
        drop(link);
        times.push(u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX));
    }
    times
}

#[test]
fn others_get_their_links_while_a_client_floods_introductions() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let bus = Bus::with(|builder| builder.ring_size(4096).allow_user(OTHER));
    std::fs::set_permissions(bus.place.directory.path(), Permissions::from_mode(0o755)).unwrap();
    let mut bob = bus.client("bob");
    let serving = bob.listen().unwrap().serve(|request, response| response.write(request.payload())).unwrap();
    let mut alice = bus.client("alice");
    drop(alice.connect("bob").unwrap());
    becomes("nothing is open", || serving.links().len(), &0);
    // Not all threads: another test may begin, and wait for this one.
    let (before, threads) = (Holdings::now(), own_threads().len());
    let time = Duration::from_secs(seconds());
    let mut alone = open_links(&mut alice, time);
    let mut attacker = Role::start("introducer", &[("PATH", bus.path().to_str().unwrap())]);
    attacker.hear("ready");
    eventually("the attack has begun", || bus.server.info().clients == 3);
    let mut attacked = open_links(&mut alice, time);
    attacker.tell("enough");
    let said = attacker.hear("");
    drop(attacker);
    println!(
        "introductions flooded ({said}): {} links opened and called, p50 {} ns; alone {}, p50 {} ns",
        attacked.len(),
        median(&mut attacked),
        alone.len(),
        median(&mut alone)
    );
    assert!(!attacked.is_empty(), "nobody else got a link");
    eventually("nothing is left of the attack", || {
        let now = Holdings::now();
        bus.server.info().clients == 2
            && now.descriptors <= before.descriptors
            && own_threads().len() <= threads
    });
    drop(alice.connect("bob").unwrap());
}
