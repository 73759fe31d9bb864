//! The attacker's process, which also measures the load that its attacks cause.
//!
//! On order it attacks, behaves well, or continues to attack after it was disconnected. Good behaviour causes
//! the same load as the last attack: as many registrations, connections, requests, bytes and busy threads.

use crate::common::payload::Random;
use crate::common::raw::{CALL, Heard, RawClient, SERVER, VERSION, datagram, dial, hear, say as tell};
use crate::common::role::{Stage, say, setting};
use crate::common::{LIMIT, eventually};
use crate::kinds::{self, Kind, Pace};
use rustix::time::{ClockId, clock_gettime};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// The value in a channel's closed word.
const VIOLATION: u32 = 6;

/// The load caused by a client: what it asked of the server and of the computer.
#[derive(Debug, Default, Clone, Copy)]
pub struct Load {
    pub registered: u64,
    pub connections: u64,
    pub requests: u64,
    pub bytes: u64,
    /// CPU time of its own process.
    pub busy: Duration,
    pub time: Duration,
    /// How often it was disconnected for breaking the rules.
    pub closed: u64,
}

impl Load {
    /// The part of the load that is due after this fraction of the time.
    pub fn due(&self, since: Duration) -> Load {
        let part = since.as_secs_f64() / self.time.as_secs_f64();
        let of = |number: u64| (number as f64 * part) as u64;
        Load {
            registered: of(self.registered),
            connections: of(self.connections),
            requests: of(self.requests),
            ..*self
        }
    }

    pub fn tell(&self) {
        let Load { registered, connections, requests, closed, busy, .. } = self;
        let busy = busy.as_micros();
        say(format_args!(
            "registered={registered} connections={connections} requests={requests} closed={closed} busy={busy}"
        ));
    }
}

pub fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// A running attack.
pub struct Assault<'a> {
    pub client: RawClient,
    pub path: &'a Path,
    pub random: &'a mut Random,
    pub load: &'a mut Load,
    until: Instant,
}

impl Assault<'_> {
    pub fn goes_on(&self) -> bool {
        self.client.closed() == 0 && Instant::now() < self.until
    }

    /// Sends a request, counts it, and returns its number.
    pub fn request(&mut self, operation: u16, body: &[u8]) -> u32 {
        self.load.requests += 1;
        self.load.bytes += body.len() as u64;
        self.client.request(operation, 0, body)
    }
}

/// What to do next, and for how long.
pub fn next_order(stage: &Stage) -> (String, Duration) {
    let order = stage.order();
    let (what, time) = order.split_once(' ').unwrap();
    (what.to_owned(), Duration::from_millis(time.parse().unwrap()))
}

/// The attacker's role: executes orders until they end.
pub fn attacker(stage: &Stage) {
    let path: PathBuf = setting("PATH").unwrap();
    let name: String = setting("ATTACK").unwrap();
    let mut random = Random::new(1);
    let mut load = Load::default();
    say("ready");
    loop {
        let (what, time) = next_order(stage);
        match what.as_str() {
            "attack" => {
                load = attack(&path, &name, time, &mut random);
                load.tell();
            }
            "behave" => behave(&path, &kinds::called(&name), &load, time).tell(),
            "outlast" => outlast(&path, &name, time, &mut random, stage),
            other => panic!("no order {other:?}"),
        }
    }
}

/// Registers again. The name is free soon after the last client was disconnected, unless the server ends or
/// the time is up.
fn register(path: &Path, name: &str, until: Instant, load: &mut Load) -> Option<RawClient> {
    while Instant::now() < until {
        match RawClient::try_register(path, name) {
            Ok(client) => {
                load.registered += 1;
                return Some(client);
            }
            Err(Heard::Reply { .. }) => load.connections += 1,
            Err(Heard::End) => return None,
        }
    }
    None
}

/// Attacks again and again under the same name.
fn attack(path: &Path, name: &str, time: Duration, random: &mut Random) -> Load {
    let (began, busy) = (Instant::now(), cpu_time());
    let until = began + time;
    let mut load = Load::default();
    while let Some(client) = register(path, name, until, &mut load) {
        let mut assault = Assault { client, path, random, load: &mut load, until };
        (kinds::called(name).attack)(&mut assault);
        let closed = assault.client.closed();
        load.closed += u64::from(closed == VIOLATION);
    }
    Load { busy: cpu_time() - busy, time: began.elapsed(), ..load }
}

/// Attacks until it is disconnected, then does what it still can until the next order.
fn outlast(path: &Path, name: &str, time: Duration, random: &mut Random, stage: &Stage) {
    let until = Instant::now() + time;
    let mut load = Load::default();
    while let Some(client) = register(path, name, until, &mut load) {
        let mut assault = Assault { client, path, random, load: &mut load, until };
        (kinds::called(name).attack)(&mut assault);
        if assault.client.closed() != VIOLATION {
            continue;
        }
        say("thrown out");
        while stage.ordered().is_none() {
            kinds::rage(&assault.client, assault.random);
        }
        return say("raged");
    }
    say("never thrown out");
}

/// A well-behaved client that causes the same load.
fn behave(path: &Path, kind: &Kind, load: &Load, time: Duration) -> Load {
    let (began, busy) = (Instant::now(), cpu_time());
    let until = began + time;
    let done = thread::scope(|s| {
        for _ in 1..kind.threads {
            s.spawn(|| {
                while Instant::now() < until {
                    pass_time(kind.pace);
                }
            });
        }
        ask_honestly(path, kind.pace, load, began, until)
    });
    Load { busy: cpu_time() - busy, time: began.elapsed(), ..done }
}

/// Spreads the load evenly over the time.
pub fn pass_time(pace: Pace) {
    match pace {
        Pace::Asks => {}
        Pace::Computes => {
            let mut random = Random::new(3);
            for _ in 0..1000 {
                std::hint::black_box(random.next());
            }
        }
        Pace::Yields => thread::yield_now(),
        Pace::Rests => thread::sleep(Duration::from_micros(50)),
    }
}

fn ask_honestly(path: &Path, pace: Pace, load: &Load, began: Instant, until: Instant) -> Load {
    let mut done = Load::default();
    let body = vec![0x22; load.bytes.checked_div(load.requests).unwrap_or(0) as usize];
    let mut client: Option<RawClient> = None;
    while Instant::now() < until {
        let due = load.due(began.elapsed());
        let mut idle = true;
        if done.registered < due.registered || client.is_none() {
            // Uses a new name each time, so as not to wait until the last one is free.
            drop(client.take());
            let name = format!("good {}", done.registered);
            client = register(path, &name, until, &mut done);
            idle = false;
        }
        if done.connections < due.connections {
            ask_for_the_server(path);
            done.connections += 1;
            idle = false;
        }
        let Some(client) = &mut client else { break };
        for _ in 0..64 {
            let is_due = done.requests < due.requests || pace == Pace::Asks;
            let asks = is_due && client.has_room_for(body.len());
            if asks {
                client.request(CALL, 0, &body);
                done.requests += 1;
            }
            let answered = client.is_answered();
            if answered {
                assert_eq!(client.response().map(|(status, ..)| status), Some(0));
            }
            if asks || answered {
                idle = false;
            } else if pace != Pace::Asks {
                break;
            }
        }
        if idle {
            pass_time(pace);
        }
    }
    if let Some(mut client) = client {
        eventually("all is answered", || {
            if client.is_answered() {
                client.response();
            }
            client.closed() != 0 || client.all_taken() && !client.is_answered()
        });
        assert_eq!(client.closed(), 0, "a client in good order is thrown out");
    }
    done
}

pub fn ask_for_the_server(path: &Path) {
    let line = dial(path);
    tell(&line, &datagram(VERSION, SERVER, b""));
    assert!(matches!(hear(&line), Heard::Reply { status: 0, .. }));
}

/// More time than the server needs to notice an attack.
pub const TIME_TO_BE_NOTICED: Duration = LIMIT;
