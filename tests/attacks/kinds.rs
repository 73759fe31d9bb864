//! The kinds of attacks on a channel. Each ends when the server has closed the channel, or when its time is
//! up.

use crate::attacker::Assault;
use crate::common::noise;
use crate::common::payload::Random;
use crate::common::raw::{
    ARMS, CALL, DATA_RECORD, LINE, PING, RawClient, Ring, SEND, VERSION, datagram, header, hear_all,
};
use crate::common::raw::{try_dial, try_say_with};
use crate::common::raw_links::KICK;
use crate::introductions;
use ringpost::testing::{Segment, futex_wake};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{FallocateFlags, OFlags, fallocate, fcntl_getfl, fcntl_setfl};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
use rustix::thread::futex;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

/// A kind of attack, and how its threads load the computer.
pub struct Kind {
    pub attack: fn(&mut Assault<'_>),
    pub pace: Pace,
    pub threads: usize,
}

/// What a thread does when it has nothing to send.
#[derive(Clone, Copy, PartialEq)]
pub enum Pace {
    /// It always sends. The well-behaved equivalent also sends as fast as it can.
    Asks,
    Computes,
    Yields,
    /// It waits for the server's answer after every step.
    Rests,
}

pub fn called(name: &str) -> Kind {
    let (attack, pace, threads): (fn(&mut Assault<'_>), _, _) = match name {
        "noise" => (rewrite_every_word, Pace::Computes, 1),
        "torn" => (rewrite_while_it_is_copied, Pace::Computes, 2),
        "fetch" => (bait_double_fetches, Pace::Yields, 1),
        "futex" => (spoil_the_futexes, Pace::Computes, 1),
        "holes" => (punch_holes, Pace::Computes, 1),
        "mute" => (never_read, Pace::Yields, 1),
        "flood" => (flood, Pace::Asks, 1),
        "cut" => (leave_in_mid_block, Pace::Rests, 1),
        "babble" => (send_descriptors, Pace::Rests, 1),
        "kicks" => (abuse_the_pipes, Pace::Asks, 1),
        // Under its own name, which it calls.
        "attack" => (introductions::flood, Pace::Rests, 1),
        other => panic!("no attack {other:?}"),
    };
    Kind { attack, pace, threads }
}

/// Overwrites every word of the segment again and again.
fn rewrite_every_word(a: &mut Assault<'_>) {
    while a.goes_on() {
        noise::rewrite(&a.client.segment, a.client.ring_size(), a.random, 500);
        a.client.wake();
    }
}

/// Sends valid requests of all sizes, while a second thread overwrites their payloads and those of the
/// responses, also during the server's copies.
fn rewrite_while_it_is_copied(a: &mut Assault<'_>) {
    let (segment, ring) = (Segment::open(&a.client.descriptor).unwrap(), a.client.ring_size() as usize);
    let stop = AtomicBool::new(false);
    thread::scope(|s| {
        s.spawn(|| {
            let mut random = Random::new(7);
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..100 {
                    // Spare the record header and block header at the start of each record.
                    let at = random.below(2 * ring / 8) * 8;
                    if at % LINE as usize >= 16 {
                        segment.word64(4096 + at).store(random.next(), Ordering::Relaxed);
                    }
                }
            }
        });
        while a.goes_on() {
            let body = vec![0x11; a.random.size(2000)];
            if !a.client.has_room_for(body.len()) {
                continue;
            }
            let sequence = a.request(CALL, &body);
            while !a.client.is_answered() && a.goes_on() {}
            if !a.client.is_answered() {
                break;
            }
            let answer = a.client.response();
            // If the server had read a header twice, the second value would have had another length or
            // number.
            let (status, number, answered) = answer.expect("an honest header was held against it");
            assert_eq!((status, number, answered.len()), (0, sequence, body.len()));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// Sends valid requests whose length and payload change while the server reads them.
fn bait_double_fetches(a: &mut Assault<'_>) {
    while a.goes_on() {
        if !a.client.has_room() {
            thread::yield_now();
            continue;
        }
        let at = a.client.tail;
        a.request(CALL, &[0x55; 40]);
        let client = &a.client;
        let record = client.record(Ring::Request, at);
        let payload = client.segment.word64(client.offset(Ring::Request, at) + 8);
        // Repeat until the worker has taken it.
        for _ in 0..100_000 {
            if client.head(Ring::Request).load(Ordering::Relaxed) != at {
                break;
            }
            record.store(header(at, DATA_RECORD, a.random.next() % 4096), Ordering::Relaxed);
            payload.store(a.random.next(), Ordering::Relaxed);
            record.store(header(at, DATA_RECORD, 48), Ordering::Relaxed);
        }
        if client.is_answered() {
            // Whatever it says.
            a.client.taken += LINE;
            a.client.head(Ring::Response).store(a.client.taken, Ordering::Release);
        }
    }
}

const RINGS: [Ring; 3] = [Ring::Request, Ring::Response, Ring::Inbox];

/// Wakes sleepers without a reason, moves them to other words, and sets and clears the parked words.
fn spoil_the_futexes(a: &mut Assault<'_>) {
    while a.goes_on() {
        let client = &a.client;
        let words: Vec<&AtomicU32> = RINGS
            .iter()
            .flat_map(|ring| [client.consumer_parked(*ring), client.producer_parked(*ring)])
            .collect();
        for _ in 0..100 {
            let (one, other) = (words[a.random.below(6)], words[a.random.below(6)]);
            match a.random.below(4) {
                0 => one.store((a.random.next() % 3) as u32, Ordering::Relaxed),
                // Waking a worker causes the server about as much load as a request.
                1 => {
                    a.load.requests +=
                        futex::wake(one, futex::Flags::empty(), i32::MAX as u32).unwrap() as u64
                }
                _ => {
                    let value = one.load(Ordering::Relaxed);
                    let _ = futex::cmp_requeue(one, futex::Flags::empty(), 0, i32::MAX as u32, other, value);
                }
            }
        }
        if client.has_room() && a.random.below(4) == 0 {
            a.request(PING, &[]);
        }
    }
}

/// Takes the pipes of both halves, and says all the time that it waits in an event loop: with pipes that are
/// full, made to block, of packets, or that nobody reads. It also sends itself messages, which it does not
/// take.
fn abuse_the_pipes(a: &mut Assault<'_>) {
    let mut ends = Vec::new();
    for half in [0, 1] {
        let Ok(line) = try_dial(a.path) else { return };
        let body = [&a.client.proof()[..], &[half]].concat();
        let _ = send(&line, &datagram(VERSION, KICK, &body), SendFlags::NOSIGNAL);
        a.load.connections += 1;
        ends.extend(hear_all(&line).into_iter().flat_map(|(.., pipe)| pipe));
    }
    let is_writer = |end: &OwnedFd| fcntl_getfl(end).is_ok_and(|flags| flags.contains(OFlags::WRONLY));
    let set = |ends: &[OwnedFd], flags| ends.iter().for_each(|end| fcntl_setfl(end, flags).unwrap());
    let kind = a.random.below(5);
    match kind {
        0 => ends.clear(),
        1 => ends.retain(is_writer),
        2 => set(&ends, OFlags::DIRECT | OFlags::NONBLOCK),
        3 => set(&ends, OFlags::empty()),
        _ => {}
    }
    let own = a.client.key.to_bytes();
    while a.goes_on() {
        for ring in RINGS {
            for word in [a.client.consumer_parked(ring), a.client.producer_parked(ring)] {
                word.store(2, Ordering::Relaxed);
            }
        }
        if a.client.has_room_for(own.len()) {
            match a.random.below(4) {
                0 => a.request(ARMS, &[]),
                1 => a.request(SEND, &own),
                _ => a.request(PING, &[]),
            };
        }
        if a.client.is_answered() {
            a.client.response();
        }
        // Those that block would hold up the attack itself.
        if kind != 3 && a.random.below(8) == 0 {
            for end in &ends {
                let _ = rustix::io::write(end, &[0; 99]);
                let _ = rustix::io::read(end, &mut [0; 77]);
            }
        }
    }
}

/// Punches holes into the segment, so that both sides read zeros.
fn punch_holes(a: &mut Assault<'_>) {
    let pages = a.client.segment.len() / 4096;
    while a.goes_on() {
        if a.client.has_room() {
            a.request(CALL, &[2; 32]);
        }
        punch(a.random, &a.client, pages);
        a.client.wake();
    }
}

fn punch(random: &mut Random, client: &RawClient, pages: usize) {
    let (page, count) = (random.below(pages), 1 + random.below(pages));
    let len = (count.min(pages - page) * 4096) as u64;
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&client.descriptor, hole, page as u64 * 4096, len).expect("a hole can be punched");
}

/// Sends requests until nothing fits, and never takes a response.
fn never_read(a: &mut Assault<'_>) {
    while a.goes_on() {
        if a.client.has_room() {
            a.request(CALL, &[3; 32]);
        } else {
            thread::yield_now();
        }
    }
}

/// Sends requests as fast as it can, and takes the responses.
fn flood(a: &mut Assault<'_>) {
    while a.goes_on() {
        if a.client.has_room() {
            a.request(CALL, &[4; 32]);
        }
        if a.client.is_answered() {
            a.client.response();
        }
    }
}

/// Leaves with a half-written block, or a header without a block.
fn leave_in_mid_block(a: &mut Assault<'_>) {
    a.request(CALL, &[5; 32]);
    a.client.segment.copy_in(a.client.offset(Ring::Request, a.client.tail) + 8, &[6; 20]);
    if a.random.below(2) == 0 {
        a.client.put_header(header(a.client.tail, DATA_RECORD, 1000));
    }
}

/// Sends descriptors of all kinds, up to the maximum of a datagram: with valid and invalid requests, and on
/// the lifeline, on which nothing may be sent.
fn send_descriptors(a: &mut Assault<'_>) {
    let descriptors = descriptors(&a.client);
    let all: Vec<&OwnedFd> = descriptors.iter().cycle().take(253).collect();
    for _ in 0..20 {
        if !a.goes_on() {
            return;
        }
        let Ok(connection) = try_dial(a.path) else { return };
        a.load.connections += 1;
        let rubbish: Vec<u8> = (0..a.random.below(200)).map(|_| a.random.next() as u8).collect();
        let said = if a.random.below(2) == 0 { rubbish } else { datagram(VERSION, 1, b"connection") };
        let count = if a.random.below(8) == 0 { all.len() } else { 1 + a.random.below(descriptors.len()) };
        let _ = try_say_with(&connection, &said, &all[..count]);
    }
    // If the kernel refuses the descriptors, send the datagram without them, which also breaks the rules.
    if try_say_with(&a.client.line, b"psst", &all).is_err() {
        let _ = send(&a.client.line, b"psst", SendFlags::NOSIGNAL);
    }
    while a.goes_on() {
        thread::yield_now();
    }
}

/// A pipe, a file, a channel, an eventfd, and a socket with itself in its queue.
fn descriptors(client: &RawClient) -> Vec<OwnedFd> {
    let (pipe, _other) = std::io::pipe().unwrap();
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let counter = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let (one, other) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let _ = try_say_with(&one, b"x", &[&other]);
    vec![pipe.into(), file.into(), client.descriptor.try_clone().unwrap(), counter, one, other]
}

/// Misuses the memory and the connection that a disconnected client still holds.
pub fn rage(client: &RawClient, random: &mut Random) {
    noise::rewrite(&client.segment, client.ring_size(), random, 500);
    for ring in RINGS {
        for word in [client.consumer_parked(ring), client.producer_parked(ring)] {
            futex_wake(word, u32::MAX >> 1);
        }
    }
    punch(random, client, client.segment.len() / 4096);
    let _ = try_say_with(&client.line, b"psst", &[&client.descriptor]);
}
