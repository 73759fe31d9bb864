//! Clients of another process that register as one should and then attack with all they have, while honest clients work:
//! the server lives, the honest lose nothing, the offender is closed and costs nothing any more, and shutdown ends in time. And a
//! server of another process that attacks a client.
//!
//! Each attack lasts a second; `RINGPOST_ATTACK_SECONDS` makes it longer (tests/README.md has the long form). What the honest
//! client's round trips take is printed beside what they take with a well-behaved client in the attacker's place: a
//! figure to read, not to pass.

mod common;

use common::payload::Random;
use common::proc::worker_is_gone;
use common::raw::{
    CALL, DATA_RECORD, LINE, PADDING_RECORD, PING, RawClient, Ring, VERSION, accept, datagram, dial, header,
    listen_at, say_with,
};
use common::role::{self, Role, Stage, say, setting};
use common::{Begun, Bus, LIMIT, Place, begin, eventually, within_limit};
use ringpost::channel::{self, Geometry};
use ringpost::shm::futex_wake;
use ringpost::{Client, RecvTimeoutError, SendError, WaitStrategy};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::thread::futex;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const RING: u64 = 4096;

/// One attack at a time: there are only so many CPUs.
static ALONE: Mutex<()> = Mutex::new(());

fn seconds() -> u64 {
    std::env::var("RINGPOST_ATTACK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// What the attacks have in common: a registered client, and when to stop.
type Attack = fn(&mut RawClient, Instant, &mut Random);

fn attack_called(name: &str) -> Attack {
    match name {
        "good" => behave,
        "noise" => rewrite_every_word,
        "fetch" => bait_double_fetches,
        "futex" => spoil_the_futexes,
        "holes" => punch_holes,
        "mute" => never_read,
        "flood" => flood,
        "cut" => leave_in_mid_block,
        "babble" => send_descriptors,
        other => panic!("no attack {other:?}"),
    }
}

/// Calls, and reads the responses.
fn behave(client: &mut RawClient, until: Instant, _: &mut Random) {
    while Instant::now() < until {
        let sequence = client.request(CALL, 0, &[1; 32]);
        assert_eq!(client.response(), Some((0, sequence, vec![1; 32])));
    }
}

fn goes_on(client: &RawClient, until: Instant) -> bool {
    client.closed() == 0 && Instant::now() < until
}

/// Every word of the segment, over and over; headers and control words more often, and often nearly right.
fn rewrite_every_word(client: &mut RawClient, until: Instant, random: &mut Random) {
    let words = client.segment.len() / 8;
    while goes_on(client, until) {
        for _ in 0..500 {
            let any = random.below(words) * 8;
            let at = if random.below(2) == 0 { 128 + any % 1280 } else { any };
            let near =
                client.head(Ring::Request).load(Ordering::Relaxed).wrapping_add(random.next() % 4 * LINE);
            let word = match random.below(4) {
                0 => random.next(),
                1 => header(near, DATA_RECORD, random.next() % 80),
                2 => header(near, PADDING_RECORD, random.next() % RING),
                _ => random.next() % 4,
            };
            // All but the word that tells when the server has had enough.
            if at / 8 != 16 {
                client.segment.word64(at / 8 * 8).store(word, Ordering::Relaxed);
            }
        }
        client.wake();
    }
}

/// Honest requests whose length and payload change while they are read.
fn bait_double_fetches(client: &mut RawClient, until: Instant, random: &mut Random) {
    while goes_on(client, until) && client.tail < 1 << 40 {
        if !client.has_room() {
            thread::yield_now();
            continue;
        }
        let at = client.tail;
        client.request(CALL, 0, &[0x55; 40]);
        let (record, payload) =
            (client.record(Ring::Request, at), client.segment.word64(client.offset(Ring::Request, at) + 8));
        // Until the worker has taken it.
        for _ in 0..100_000 {
            if client.head(Ring::Request).load(Ordering::Relaxed) != at {
                break;
            }
            record.store(header(at, DATA_RECORD, random.next() % 4096), Ordering::Relaxed);
            payload.store(random.next(), Ordering::Relaxed);
            record.store(header(at, DATA_RECORD, 48), Ordering::Relaxed);
        }
        if client.is_answered() {
            // Whatever it says.
            client.taken += LINE;
            client.head(Ring::Response).store(client.taken, Ordering::Release);
        }
    }
}

/// Wakes for nothing, moves sleepers to other words, sets and clears the words that both sides sleep by.
fn spoil_the_futexes(client: &mut RawClient, until: Instant, random: &mut Random) {
    const RINGS: [Ring; 3] = [Ring::Request, Ring::Response, Ring::Inbox];
    while goes_on(client, until) {
        let words: Vec<&AtomicU32> = RINGS
            .iter()
            .flat_map(|ring| [client.consumer_parked(*ring), client.producer_parked(*ring)])
            .collect();
        for _ in 0..100 {
            let (one, other) = (words[random.below(6)], words[random.below(6)]);
            match random.below(4) {
                0 => one.store((random.next() % 3) as u32, Ordering::Relaxed),
                1 => {
                    futex_wake(one, u32::MAX >> 1);
                }
                _ => {
                    let value = one.load(Ordering::Relaxed);
                    let _ = futex::cmp_requeue(one, futex::Flags::empty(), 0, i32::MAX as u32, other, value);
                }
            }
        }
        if client.has_room() && random.below(4) == 0 {
            client.request(PING, 0, &[]);
        }
    }
}

/// Takes the pages away under both sides, which then find zeros.
fn punch_holes(client: &mut RawClient, until: Instant, random: &mut Random) {
    let pages = client.segment.len() / 4096;
    while goes_on(client, until) {
        if client.has_room() {
            client.request(CALL, 0, &[2; 32]);
        }
        let (page, count) = (random.below(pages), 1 + random.below(pages));
        let len = (count.min(pages - page) * 4096) as u64;
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&client.descriptor, hole, page as u64 * 4096, len).expect("a hole can be punched");
        client.wake();
    }
}

/// Asks until nothing fits any more, and never takes a response.
fn never_read(client: &mut RawClient, until: Instant, _: &mut Random) {
    while goes_on(client, until) {
        if client.has_room() {
            client.request(CALL, 0, &[3; 32]);
        } else {
            thread::yield_now();
        }
    }
}

/// Asks as fast as it can, and takes the responses without a look at them.
fn flood(client: &mut RawClient, until: Instant, _: &mut Random) {
    while goes_on(client, until) {
        if client.has_room() {
            client.request(CALL, 0, &[4; 32]);
        }
        if client.is_answered() {
            client.response();
        }
    }
}

/// Leaves with a block half written, or a header without a block.
fn leave_in_mid_block(client: &mut RawClient, _: Instant, random: &mut Random) {
    client.request(CALL, 0, &[5; 32]);
    client.segment.copy_in(client.offset(Ring::Request, client.tail) + 8, &[6; 20]);
    if random.below(2) == 0 {
        client.put_header(header(client.tail, DATA_RECORD, 1000));
    }
}

/// Descriptors of all kinds on the connection, where nothing may be said, and on others that ask to register.
fn send_descriptors(client: &mut RawClient, until: Instant, random: &mut Random) {
    let path: PathBuf = setting("PATH").unwrap();
    let (pipe, _other) = std::io::pipe().unwrap();
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let descriptors: [OwnedFd; 3] = [pipe.into(), file.into(), client.descriptor.try_clone().unwrap()];
    let all: Vec<&OwnedFd> = descriptors.iter().collect();
    for _ in 0..20 {
        if !goes_on(client, until) {
            return;
        }
        let stranger = dial(&path);
        let rubbish: Vec<u8> = (0..random.below(200)).map(|_| random.next() as u8).collect();
        let said = if random.below(2) == 0 { rubbish } else { datagram(VERSION, 1, b"stranger") };
        say_with(&stranger, &said, &all[..1 + random.below(3)]);
    }
    say_with(&client.line, b"psst", &all);
    eventually("the connection is closed", || client.closed() != 0);
}

/// The attacker's process: attacks, again and again under the same name, until it is told to stop.
fn attack() {
    let path: PathBuf = setting("PATH").unwrap();
    let name: String = setting("ATTACK").unwrap();
    let until = Instant::now() + Duration::from_secs(setting("SECONDS").unwrap());
    let mut random = Random::new(1);
    let (mut registered, mut closed) = (0_u64, 0_u64);
    say("ready");
    // An attack that must be noticed goes on until it is.
    let at_last = if setting("NOTICED").unwrap_or(false) { until + LIMIT / 2 } else { until };
    while Instant::now() < until || closed == 0 && Instant::now() < at_last {
        // Its name is free again soon after the last one was thrown out.
        let mut client = None;
        eventually("the name is free", || {
            client = RawClient::try_register(&path, &name).ok();
            client.is_some()
        });
        let mut client = client.unwrap();
        registered += 1;
        let until = if Instant::now() < until { until } else { at_last };
        attack_called(&name)(&mut client, until, &mut random);
        closed += u64::from(client.closed() == 6);
    }
    say(format_args!("registered={registered} closed={closed}"));
}

/// The process of a server that makes a channel as it should and then rewrites all of it.
fn serve_falsely(stage: &Stage) {
    let path: PathBuf = setting("PATH").unwrap();
    let socket = listen_at(&path);
    say("ready");
    let mut random = Random::new(2);
    loop {
        let line = accept(&socket);
        let mut asked = [0; 100];
        if rustix::io::read(&line, &mut asked).unwrap_or(0) == 0 {
            continue;
        }
        let geometry = Geometry::new(RING as usize).unwrap();
        let (host, descriptor) = channel::create(&geometry, WaitStrategy::Park).unwrap();
        let segment = ringpost::shm::Segment::open(&descriptor).unwrap();
        say_with(&line, &datagram(VERSION, 0, &[7; 16]), &[&descriptor]);
        let until = Instant::now() + Duration::from_millis(20);
        while Instant::now() < until {
            for _ in 0..500 {
                let any = random.below(segment.len() / 8) * 8;
                let at = if random.below(2) == 0 { 128 + any % 1280 } else { any };
                let position = random.next() % 64 * LINE;
                let word = match random.below(4) {
                    0 => random.next(),
                    1 => header(position, DATA_RECORD, random.next() % 80),
                    2 => header(position, PADDING_RECORD, random.next() % RING),
                    _ => random.next() % 4,
                };
                segment.word64(at / 8 * 8).store(word, Ordering::Relaxed);
            }
            for at in (384..1408).step_by(128) {
                futex_wake(segment.word32(at), 1);
            }
        }
        drop(host);
        let _ = stage;
    }
}

#[test]
fn role() {
    let Some((role, stage)) = role::role() else { return };
    match role.as_str() {
        "attacker" => attack(),
        "false server" => serve_falsely(&stage),
        other => panic!("no role {other:?}"),
    }
}

/// Honest work: calls whose responses are checked, and numbered messages from one client to another.
struct Honest {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    calling: Begun<Vec<u32>>,
    sending: Begun<u64>,
    receiving: Begun<u64>,
}

impl Honest {
    fn start(bus: &Bus) -> Honest {
        let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut caller = bus.client("caller");
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&calls));
        let calling = begin(move || {
            let mut took = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let number = count.load(Ordering::Relaxed);
                let began = Instant::now();
                assert_eq!(caller.call(&number.to_le_bytes()).unwrap(), number.to_le_bytes());
                took.push(u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX));
                count.store(number + 1, Ordering::Relaxed);
            }
            caller.unregister().unwrap();
            took
        });
        let (mut sender, mut receiver) = (bus.client("sender"), bus.client("receiver"));
        let (to, stopped) = (receiver.key(), Arc::clone(&stop));
        let sending = begin(move || {
            let mut sent = 0_u64;
            while !stopped.load(Ordering::Relaxed) {
                match sender.send_timeout(to, &sent.to_le_bytes(), Duration::from_secs(30)) {
                    Ok(()) => sent += 1,
                    Err(SendError::InboxFull) => {}
                    Err(error) => panic!("a message between honest clients: {error}"),
                }
            }
            // The end of the messages.
            sender.send_timeout(to, b"", Duration::from_secs(30)).unwrap();
            sent
        });
        let receiving = begin(move || {
            let mut received = 0_u64;
            loop {
                match receiver.recv_timeout(LIMIT) {
                    Ok(message) if message.payload().is_empty() => return received,
                    Ok(message) => assert_eq!(message.payload(), received.to_le_bytes()),
                    Err(RecvTimeoutError::TimedOut) => panic!("no message comes"),
                    Err(error) => panic!("{error}"),
                }
                received += 1;
            }
        });
        Honest { stop, calls, calling, sending, receiving }
    }

    /// Ends the work after it has shown that it goes on; the median round trip in nanoseconds.
    fn end(self) -> u32 {
        let calls = self.calls.load(Ordering::Relaxed);
        eventually("the honest client's calls go on", || {
            self.calls.load(Ordering::Relaxed) > calls + 10 || self.calling.is_over()
        });
        self.stop.store(true, Ordering::Relaxed);
        let mut took = self.calling.end("the honest calls");
        let sent = self.sending.end("the honest messages");
        let received = self.receiving.end("the receiving of the honest messages");
        assert_eq!(sent, received);
        took.sort_unstable();
        took[took.len() / 2]
    }
}

/// One attack beside honest work. The median of the honest round trips, and how often the attacker was thrown out.
fn beside_honest_work(attack: &str, seconds: u64, noticed: bool) -> (u32, u64) {
    // Workers that always sleep, where sleeping is what is attacked.
    let wait = if attack == "futex" { WaitStrategy::Park } else { WaitStrategy::Adaptive };
    let bus = Bus::with(|b| b.ring_size(RING as usize).wait(wait));
    let honest = Honest::start(&bus);
    let mut attacker = start_attacker(bus.path(), attack, seconds, noticed);
    let said = attacker.hear_within("registered=", LIMIT + Duration::from_secs(seconds));
    let closed = role::numbers(&format!("registered={said}"))["closed"];
    drop(attacker);
    // What is closed has no thread any more, and so costs nothing.
    eventually("the attacker's worker is gone", || worker_is_gone(attack));
    eventually("the attacker is gone", || bus.server.info().clients == 3);
    let median = honest.end();
    let summary = within_limit("the shutdown", move || bus.server.join_after_shutdown());
    assert_eq!(summary.abandoned, 0);
    assert!(summary.violations >= closed);
    (median, closed)
}

fn start_attacker(path: &Path, attack: &str, seconds: u64, noticed: bool) -> Role {
    let settings = [
        ("PATH", path.to_str().unwrap()),
        ("ATTACK", attack),
        ("SECONDS", &seconds.to_string()),
        ("NOTICED", &noticed.to_string()),
    ];
    let mut attacker = Role::start("attacker", &settings);
    attacker.hear("ready");
    attacker
}

/// `breaks_a_rule`: whether the attacker must be thrown out, or must not; `None` if either may be.
fn withstand(attack: &str, breaks_a_rule: Option<bool>) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (good, thrown_out) = beside_honest_work("good", seconds().div_ceil(2), false);
    assert_eq!(thrown_out, 0);
    let (bad, thrown_out) = beside_honest_work(attack, seconds(), breaks_a_rule == Some(true));
    println!(
        "{attack}: thrown out {thrown_out} times; honest p50 {bad} ns, beside a well-behaved client {good} ns, ratio {:.2}",
        f64::from(bad) / f64::from(good)
    );
    if let Some(broken) = breaks_a_rule {
        assert_eq!(thrown_out > 0, broken, "thrown out {thrown_out} times");
    }
}

#[test]
fn every_word_rewritten() {
    withstand("noise", Some(true));
}

#[test]
fn double_fetches_baited() {
    withstand("fetch", None);
}

#[test]
fn futexes_spoilt() {
    withstand("futex", Some(true));
}

#[test]
fn holes_punched() {
    withstand("holes", None);
}

#[test]
fn responses_never_read() {
    withstand("mute", Some(false));
}

#[test]
fn a_flood_of_requests() {
    withstand("flood", Some(false));
}

#[test]
fn clients_that_leave_in_mid_block() {
    withstand("cut", Some(false));
}

#[test]
fn descriptors_where_none_belong() {
    withstand("babble", Some(true));
}

/// Whatever a hostile server writes, each operation returns, with an answer or an error.
#[test]
fn a_client_of_a_hostile_server() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let place = Place::new();
    let settings = [("PATH", place.path.to_str().unwrap())];
    let mut server = Role::start("false server", &settings);
    server.hear("ready");
    let path = place.path.clone();
    let until = Instant::now() + Duration::from_secs(seconds());
    let (registered, violations) = within_limit_of(seconds(), "the hostile server's client", move || {
        let (mut registered, mut violations) = (0_u64, 0_u64);
        while Instant::now() < until || violations == 0 && Instant::now() < until + LIMIT / 2 {
            let Ok(mut client) = Client::register(&path, "alice") else { continue };
            registered += 1;
            for _ in 0..20 {
                let short = Duration::from_millis(2);
                let called = client.call_timeout(b"question", short).map(<[u8]>::len);
                violations += u64::from(matches!(called, Err(ringpost::CallError::Violation(_))));
                let sent = client.send_timeout(client.key(), b"message", short);
                violations += u64::from(matches!(sent, Err(SendError::Violation(_))));
                let received = client.recv_timeout(short).map(|message| message.payload().len());
                violations += u64::from(matches!(received, Err(RecvTimeoutError::Violation(_))));
            }
        }
        (registered, violations)
    });
    assert!(registered > 0 && violations > 0, "registered {registered}, violations {violations}");
}

fn within_limit_of<T: Send + 'static>(
    seconds: u64,
    what: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> T {
    let begun = begin(run);
    let deadline = Instant::now() + LIMIT + Duration::from_secs(seconds);
    while !begun.is_over() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    begun.end(what)
}
