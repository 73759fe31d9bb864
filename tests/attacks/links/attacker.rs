//! The process that attacks over links, and behaves well for comparison.
//!
//! Good behaviour opens as many links, sends as many blocks and asks the server as often as the last attack.

use super::kinds::{self, Assault, Kind, SERVED};
use super::raw::{CALL, HELLO, Kept, OK, RawLink, STATUS_HELLO, VIOLATION};
use crate::attacker::{Load, ask_for_the_server, cpu_time, next_order, pass_time};
use crate::common::LIMIT;
use crate::common::payload::Random;
use crate::common::raw::RawClient;
use crate::common::raw_links::is_ready;
use crate::common::role::{Stage, say, setting};
use crate::kinds::Pace;
use rustix::event::PollFlags;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long it uses one link.
const ONE_LINK: Duration = Duration::from_millis(20);

/// How long it waits for the next one.
const REST: Duration = Duration::from_millis(2);

struct Attacker {
    path: PathBuf,
    name: String,
    kind: Kind,
    client: RawClient,
    /// Rings when somebody connects to it. Only a callee has one.
    bell: Option<OwnedFd>,
    random: Random,
}

/// The role: executes orders until they end.
pub fn attack(stage: &Stage) {
    let (path, name): (PathBuf, String) = (setting("PATH").unwrap(), setting("ATTACK").unwrap());
    let client = RawClient::register(&path, &name);
    let kind = kinds::called(&name);
    let listens = matches!(kind, Kind::Callee(_)) || name == "sleeper";
    let bell = listens.then(|| client.listen(&path));
    let mut attacker = Attacker { path, name, kind, client, bell, random: Random::new(1) };
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

impl Attacker {
    /// Attacks for some time. Also returns the memory of the last link.
    fn attack(&mut self, time: Duration) -> (Load, Option<Kept>) {
        let (began, busy) = (Instant::now(), cpu_time());
        let until = began + time;
        let (mut load, mut kept) = (Load::default(), None);
        while Instant::now() < until {
            let link = match self.kind {
                Kind::Caller(_) => self.call_served(until),
                Kind::Callee(_) => self.take(REST),
                Kind::Client(_) => None,
            };
            let mut a = Assault {
                client: &self.client,
                path: &self.path,
                random: &mut self.random,
                until: until.min(Instant::now() + ONE_LINK),
                links: 0,
                blocks: 0,
                asked: 0,
            };
            match (&self.kind, link) {
                (Kind::Client(attack), _) => attack(&mut a),
                (Kind::Caller(attack) | Kind::Callee(attack), Some(mut link)) => {
                    a.links += 1;
                    attack(&mut a, &mut link);
                    load.closed += u64::from(link.closed() == VIOLATION);
                    kept = Some(link.let_go(&self.client));
                }
                (_, None) => {}
            }
            load.registered += a.links;
            load.requests += a.blocks;
            load.connections += a.asked;
        }
        (Load { busy: cpu_time() - busy, time: began.elapsed(), ..load }, kept)
    }

    /// Opens a link as an honest caller does.
    fn call_served(&self, until: Instant) -> Option<RawLink> {
        let side = self.client.connect(&self.path, SERVED).ok()?;
        let mut link = RawLink::open(side, true);
        link.send(HELLO, 0, &[]);
        for expected in [STATUS_HELLO, OK] {
            loop {
                match link.next() {
                    Some((code, 0, _)) if code == expected => break,
                    None if link.closed() == 0 && Instant::now() < until => std::thread::yield_now(),
                    _ => {
                        link.let_go(&self.client);
                        return None;
                    }
                }
            }
        }
        Some(link)
    }

    /// Takes the next link that somebody opens to it in this time.
    fn take(&self, within: Duration) -> Option<RawLink> {
        if let Some(bell) = &self.bell
            && !is_ready(bell, PollFlags::IN, within)
        {
            return None;
        }
        let taken = self.client.take(&self.path);
        if taken.is_none()
            && let Some(bell) = &self.bell
        {
            // Another byte comes with the next one.
            let _ = rustix::io::read(bell, &mut [0; 64]);
        }
        taken.map(|side| RawLink::open(side, false))
    }

    /// Attacks, lets go of all that it has but memory, and misuses that until the next order.
    fn outlast(&mut self, stage: &Stage) {
        let until = Instant::now() + LIMIT;
        let mut kept = None;
        while kept.is_none() && Instant::now() < until {
            kept = self.attack(Duration::from_millis(100)).1;
            if matches!(self.kind, Kind::Client(_)) {
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

    fn pace(&self) -> Pace {
        match self.name.trim_start_matches("false ") {
            "rewriter" | "waker" | "puncher" => Pace::Computes,
            "mute" | "babbler" | "liar" | "greeter" | "shy" => Pace::Yields,
            _ => Pace::Rests,
        }
    }

    /// Causes the same load, and breaks no rule.
    fn behave(&mut self, load: &Load, time: Duration) -> Load {
        let (began, busy) = (Instant::now(), cpu_time());
        let until = began + time;
        let (mut done, mut open) = (Load::default(), None::<RawLink>);
        while Instant::now() < until {
            let due = load.due(began.elapsed());
            let mut idle = true;
            if let Kind::Callee(_) = self.kind {
                // Between two links it does as it is to between two blocks.
                let within = if self.pace() == Pace::Computes { Duration::ZERO } else { REST };
                if let Some(link) = self.take(within) {
                    done.registered += 1;
                    done.requests += self.serve(link, until);
                    idle = false;
                }
            } else if done.registered < due.registered {
                open.take().into_iter().for_each(|link| self.leave(link, until));
                open = self.call_served(until);
                done.registered += u64::from(open.is_some());
                idle = false;
            }
            if let Some(link) = &mut open {
                if done.requests < due.requests && link.has_room_for(32) {
                    link.call(&[1; 32]);
                    done.requests += 1;
                    idle = false;
                }
                if let Some((status, ..)) = link.next() {
                    assert_eq!(status, OK);
                    idle = false;
                }
                assert_eq!(link.closed(), 0, "a caller in good order is thrown out");
            }
            if done.connections < due.connections {
                ask_for_the_server(Path::new(&self.path));
                done.connections += 1;
                idle = false;
            }
            if idle {
                pass_time(self.pace());
            }
        }
        open.into_iter().for_each(|link| self.leave(link, until));
        Load { busy: cpu_time() - busy, time: began.elapsed(), ..done }
    }

    /// Receives what is still to come, and closes.
    fn leave(&self, mut link: RawLink, until: Instant) {
        let calls = link.sequence;
        let mut answered = 0;
        while answered < calls && Instant::now() < until {
            match link.next() {
                Some((_, number, _)) => answered = number + 1,
                None if link.is_behind() => std::thread::yield_now(),
                None => break,
            }
        }
        link.close(2);
        link.let_go(&self.client);
    }

    /// Serves one link as an honest callee does, until its caller closes it.
    fn serve(&self, mut link: RawLink, until: Instant) -> u64 {
        link.send(STATUS_HELLO, 0, &[]);
        let mut answered = 0;
        let until = until.min(Instant::now() + ONE_LINK);
        while link.closed() == 0 && Instant::now() < until {
            match link.next() {
                Some((HELLO, ..)) => link.send(OK, 0, &[]),
                Some((CALL, sequence, body)) => {
                    link.send(OK, sequence, &body);
                    answered += 1;
                }
                _ if self.pace() == Pace::Computes => pass_time(Pace::Computes),
                _ => std::thread::yield_now(),
            }
        }
        link.close(2);
        link.let_go(&self.client);
        answered
    }
}
