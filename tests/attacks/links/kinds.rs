//! The kinds of attacks over links. Each ends when the other side has closed the link, or when its time is
//! up.

use super::raw::{CALL, HELLO, Kept, OK, POST, REFUSED, RINGS, RawLink, STATUS_HELLO};
use crate::common::noise;
use crate::common::payload::Random;
use crate::common::raw::RawClient;
use crate::common::raw_links::{BUSY, CONNECT, LISTEN, NOT_REGISTERED, REPORT, Side, TAKE, ask};
use ringpost::Observer;
use ringpost::testing::futex_wake;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::write;
use rustix::pipe::fcntl_setpipe_size;
use rustix::thread::futex;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

/// Whom the attackers call.
pub const SERVED: &str = "served";

/// What an attack uses, and what it has done.
pub struct Assault<'a> {
    pub client: &'a RawClient,
    pub path: &'a Path,
    pub random: &'a mut Random,
    pub until: Instant,
    /// Links that it opened or took.
    pub links: u64,
    /// Calls, posts and answers over links.
    pub blocks: u64,
    /// What it asked of the server besides.
    pub asked: u64,
}

impl Assault<'_> {
    fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    fn works(&self, link: &RawLink) -> bool {
        link.closed() == 0 && self.goes_on()
    }
}

/// What an attacker does with a link, and to the server.
pub enum Kind {
    /// It calls whoever serves, and does this over each open link.
    Caller(fn(&mut Assault<'_>, &mut RawLink)),
    /// It serves, and does this with each link that it took.
    Callee(fn(&mut Assault<'_>, &mut RawLink)),
    /// It does this to the server, again and again.
    Client(fn(&mut Assault<'_>)),
}

pub fn called(name: &str) -> Kind {
    match name {
        "rewriter" => Kind::Caller(rewrite),
        "waker" => Kind::Caller(spoil_the_futexes),
        "kicker" => Kind::Caller(abuse_the_pipes),
        "puncher" => Kind::Caller(punch_holes),
        "mute" => Kind::Caller(never_read),
        "late" => Kind::Caller(go_on_after_the_close),
        "babbler" => Kind::Caller(break_the_rules),
        "vanisher" => Kind::Caller(vanish),
        "false rewriter" => Kind::Callee(greet_and_rewrite),
        "false waker" => Kind::Callee(greet_and_spoil_the_futexes),
        "false kicker" => Kind::Callee(greet_and_abuse_the_pipes),
        "false puncher" => Kind::Callee(greet_and_punch_holes),
        "false mute" => Kind::Callee(greet_and_never_read),
        "false late" => Kind::Callee(greet_and_go_on_after_the_close),
        "false liar" => Kind::Callee(answer_wrongly),
        "false greeter" => Kind::Callee(greet_wrongly),
        "false vanisher" => Kind::Callee(|_, _| {}),
        "sleeper" => Kind::Client(never_take),
        "shy" => Kind::Client(never_say_hello),
        "forger" => Kind::Client(forge),
        other => panic!("no attack {other:?}"),
    }
}

// ---- over links, from either side

fn rewrite(a: &mut Assault<'_>, link: &mut RawLink) {
    while a.works(link) {
        noise::rewrite(&link.segment, link.ring_size, a.random, 500);
        link.wake();
    }
}

fn spoil_the_futexes(a: &mut Assault<'_>, link: &mut RawLink) {
    while a.works(link) {
        let words = link.parked();
        for _ in 0..100 {
            let (one, other) = (words[a.random.below(4)], words[a.random.below(4)]);
            match a.random.below(4) {
                0 => one.store((a.random.next() % 3) as u32, Ordering::Relaxed),
                // Waking an end causes its process about as much load as a call.
                1 => a.blocks += futex::wake(one, futex::Flags::empty(), i32::MAX as u32).unwrap() as u64,
                _ => {
                    let value = one.load(Ordering::Relaxed);
                    let _ = futex::cmp_requeue(one, futex::Flags::empty(), 0, i32::MAX as u32, other, value);
                }
            }
        }
    }
}

/// Kicks without end or not at all, fills the other side's pipe and its own, changes them as far as it can,
/// closes what it reads, and writes all values into the words of ends that wait.
fn abuse_the_pipes(a: &mut Assault<'_>, link: &mut RawLink) {
    let is_flood = match a.random.below(10) {
        0 => {
            let nothing = std::fs::File::open("/dev/null").unwrap().into();
            drop(std::mem::replace(&mut link.side.own, nothing));
            false
        }
        1 => {
            fcntl_setfl(&link.side.others, OFlags::DIRECT | OFlags::NONBLOCK).unwrap();
            true
        }
        2 => {
            let ends = [&link.side.own, &link.side.own_write, &link.side.others];
            ends.into_iter().for_each(|end| fcntl_setfl(end, OFlags::empty()).unwrap());
            false
        }
        3 => {
            let ends = [&link.side.own, &link.side.others];
            ends.into_iter().for_each(|end| _ = fcntl_setpipe_size(end, 1 << 20));
            true
        }
        // Its own pipe is full, so that no kick has room.
        4 => {
            while write(&link.side.own_write, &[0; 512]).is_ok() {}
            false
        }
        // It never kicks: whoever waits for it does so in vain.
        5 => {
            link.kicks = false;
            false
        }
        _ => true,
    };
    while a.works(link) {
        for word in link.parked() {
            match a.random.below(16) {
                0 => word.store(3 + a.random.below(9) as u32, Ordering::Relaxed),
                1..8 => word.store(2, Ordering::Relaxed),
                _ => {}
            }
        }
        if is_flood {
            link.kick(1 + a.random.below(300));
        }
        match link.next() {
            Some((CALL, number, body)) if link.has_room_for(body.len()) => link.send(OK, number, &body),
            _ if link.calls() && link.has_room_for(32) => _ = link.call(&[4; 32]),
            _ => thread::yield_now(),
        }
        a.blocks += 1;
    }
}

fn punch_holes(a: &mut Assault<'_>, link: &mut RawLink) {
    while a.works(link) {
        if link.has_room_for(32) {
            a.blocks += 1;
            link.call(&[2; 32]);
        }
        let page = a.random.below(link.pages());
        let pages = 1 + a.random.below(link.pages() - page);
        link.punch(page, pages);
        link.wake();
    }
}

/// Asks until nothing fits any more, and never reads.
fn never_read(a: &mut Assault<'_>, link: &mut RawLink) {
    while a.works(link) {
        if link.has_room_for(32) {
            a.blocks += 1;
            link.call(&[3; 32]);
        } else {
            thread::yield_now();
        }
    }
}

/// Sends calls and posts, and answers, on a link that it has closed.
fn go_on_after_the_close(a: &mut Assault<'_>, link: &mut RawLink) {
    link.call(&[4; 32]);
    link.close(1 + (a.random.next() % 8) as u32);
    for _ in 0..200 {
        if !a.goes_on() {
            break;
        }
        if link.has_room_for(32) {
            a.blocks += 1;
            let code = [CALL, POST, OK, STATUS_HELLO][a.random.below(4)];
            link.send(code, (a.random.next() % 4) as u32, &[5; 32]);
        } else {
            thread::yield_now();
        }
    }
}

// ---- as a caller

/// Sends blocks that no caller sends.
fn break_the_rules(a: &mut Assault<'_>, link: &mut RawLink) {
    while a.works(link) {
        a.blocks += 1;
        if !link.has_room_for(600) {
            thread::yield_now();
            link.next();
            continue;
        }
        let sequence = a.random.next() as u32;
        match a.random.below(8) {
            0 => link.send(HELLO, 0, &[]),
            1 => link.send(a.random.next() as u16, sequence, &[6; 20]),
            2 => link.send(CALL, sequence, &[6; 20]),
            3 => link.send(POST, sequence, &[6; 500]),
            4 => link.put_header(a.random.next() % 5000),
            _ => _ = link.call(&[6; 100]),
        }
    }
}

/// Leaves in mid-block, without a word.
fn vanish(a: &mut Assault<'_>, link: &mut RawLink) {
    a.blocks += 1;
    link.call(&[7; 32]);
    if a.random.below(2) == 0 {
        link.put_header(1000);
    }
}

// ---- as a callee

fn greet(a: &mut Assault<'_>, link: &mut RawLink) {
    a.blocks += 1;
    link.send(STATUS_HELLO, 0, &[]);
    link.send(OK, 0, &[]);
}

fn greet_and_rewrite(a: &mut Assault<'_>, link: &mut RawLink) {
    greet(a, link);
    rewrite(a, link);
}

fn greet_and_spoil_the_futexes(a: &mut Assault<'_>, link: &mut RawLink) {
    greet(a, link);
    spoil_the_futexes(a, link);
}

fn greet_and_abuse_the_pipes(a: &mut Assault<'_>, link: &mut RawLink) {
    greet(a, link);
    abuse_the_pipes(a, link);
}

fn greet_and_punch_holes(a: &mut Assault<'_>, link: &mut RawLink) {
    greet(a, link);
    punch_holes(a, link);
}

fn greet_and_never_read(a: &mut Assault<'_>, link: &mut RawLink) {
    greet(a, link);
    while a.works(link) {
        thread::yield_now();
    }
}

fn greet_and_go_on_after_the_close(a: &mut Assault<'_>, link: &mut RawLink) {
    greet(a, link);
    go_on_after_the_close(a, link);
}

/// Answers what was not asked, twice, with other numbers, and with more than fits.
fn answer_wrongly(a: &mut Assault<'_>, link: &mut RawLink) {
    greet(a, link);
    while a.works(link) {
        let Some((_, sequence, body)) = link.next() else {
            thread::yield_now();
            continue;
        };
        a.blocks += 1;
        if !link.has_room_for(600) {
            continue;
        }
        match a.random.below(8) {
            0 => link.send(OK, sequence.wrapping_add(1), &body),
            1 => link.send(a.random.next() as u16, sequence, &[8; 500]),
            2 => link.put_header(a.random.next() % 5000),
            3 => {
                link.send(OK, sequence, b"one");
                link.send(OK, sequence, b"another");
            }
            _ => link.send(OK, sequence, b"something else"),
        }
    }
}

fn greet_wrongly(a: &mut Assault<'_>, link: &mut RawLink) {
    a.blocks += 1;
    let text = vec![0xff; 1500];
    match a.random.below(8) {
        0 => {}
        1 => link.send(OK, 0, &[]),
        2 => link.send(STATUS_HELLO, 7, &[]),
        3 => link.send(STATUS_HELLO, 0, &[9; 100]),
        4 => {
            link.send(STATUS_HELLO, 0, &[]);
            link.send(REFUSED, 0, &text);
        }
        5 => {
            link.send(STATUS_HELLO, 0, &[]);
            link.send(STATUS_HELLO, 0, &[]);
        }
        6 => link.put_header(a.random.next() % 5000),
        _ => link.send(a.random.next() as u16, 0, &text[..40]),
    }
    while a.works(link) {
        thread::yield_now();
    }
}

// ---- to the server

/// Serves, and never takes what waits for it.
fn never_take(a: &mut Assault<'_>) {
    while a.goes_on() {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Opens links and says nothing, several at a time.
fn never_say_hello(a: &mut Assault<'_>) {
    let mut shy = Vec::new();
    while a.goes_on() {
        a.asked += 1;
        if shy.len() == 8 {
            let side: Side = shy.remove(0);
            a.client.flip(side.index);
        }
        if let Ok(side) = a.client.connect(a.path, SERVED) {
            shy.push(side);
        }
        thread::yield_now();
    }
    shy.iter().for_each(|side| a.client.flip(side.index));
}

/// Asks for what it is not owed, with another's key and its own secret or a wrong one.
fn forge(a: &mut Assault<'_>) {
    let observed = Observer::connect(a.path).and_then(|observer| observer.list());
    let victim = observed.ok().and_then(|all| all.into_iter().find(|client| client.name.as_str() == SERVED));
    let Some(victim) = victim else { return };
    while a.goes_on() {
        a.asked += 1;
        let mut proof = a.client.proof();
        proof[..16].copy_from_slice(&victim.key.to_bytes());
        if a.random.below(2) == 0 {
            proof[16 + a.random.below(16)] ^= 1 + (a.random.next() % 255) as u8;
        }
        let (what, body) = match a.random.below(4) {
            0 => (CONNECT, [&proof[..], &[0; 9], SERVED.as_bytes()].concat()),
            1 => (LISTEN, proof),
            2 => (TAKE, proof),
            _ => (REPORT, [&proof[..], &[1, 0, 1, 6], SERVED.as_bytes()].concat()),
        };
        match ask(a.path, what, &body) {
            Err((NOT_REGISTERED | BUSY, _)) => {}
            other => panic!("a forger was answered: {what} {other:?}"),
        }
    }
}

/// Misuses the memory of a link that has ended.
pub fn rage(kept: &Kept, random: &mut Random) {
    noise::rewrite(&kept.segment, kept.ring_size, random, 500);
    for ring in RINGS {
        for word in [128, 256] {
            futex_wake(kept.segment.word32(256 + ring * 384 + word), u32::MAX >> 1);
        }
    }
}
