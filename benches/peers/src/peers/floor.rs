//! The least that this machine allows: two words, each alone in its line, between two processes. One end
//! stores the next number into the first word, the other answers with the same number in the second.
//!
//! Where both ends spin, whether `pause` between two looks helps depends on the processor: both ways are
//! measured, and the faster counts. The number's lowest bit says how the other end is to look. Where ends
//! sleep, a store is followed by a futex wake and a look by a futex wait, as little as a sleeping end can do.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use ringpost::testing::{Segment, futex_wait, futex_wake};

use super::{Kind, Peer, Play, Version};
use crate::context::Context;
use crate::failure::{OrFail, Outcome};
use crate::measure::{Measured, time};
use crate::work::Work;

pub static SPINNING: Peer = Peer {
    name: "floor",
    kind: Kind::Spinning,
    what: "two bare words, one there and one back: nothing can be faster",
    sizes: &[8],
    version: Version::None,
    play: Play::Pair { server: spin_server, client: spin_client },
};

pub static BLOCKING: Peer = Peer {
    name: "floor-futex",
    kind: Kind::Blocking,
    what: "two bare words, each end asleep on a futex until the other wakes it",
    sizes: &[8],
    version: Version::None,
    play: Play::Pair { server: futex_server, client: futex_client },
};

/// Far enough apart for processors that fetch lines in pairs.
const PING: usize = 0;
const PONG: usize = 256;
const LENGTH: usize = 4096;

/// The ping after which the server ends.
const LAST: u64 = u64::MAX;

/// In the lowest bit of a ping: the server is to pause between two looks.
const PAUSE: u64 = 1;

/// Shared memory, told of as a path to this process's descriptor.
fn share(context: &Context) -> Outcome<Segment> {
    use std::os::fd::AsRawFd;
    let (segment, descriptor) = Segment::create("peers-floor", LENGTH).or_fail("make shared memory")?;
    let number = descriptor.as_raw_fd();
    // For as long as this process lives.
    std::mem::forget(descriptor);
    context.ready(format!("/proc/{}/fd/{number}", std::process::id()))?;
    Ok(segment)
}

fn open(context: &Context) -> Outcome<Segment> {
    let file = std::fs::File::options().read(true).write(true).open(context.other());
    Segment::open(file.or_fail("open the shared memory")?).or_fail("map the shared memory")
}

#[inline(always)]
fn wait_for<const PAUSES: bool>(word: &AtomicU64, wanted: impl Fn(u64) -> bool) -> u64 {
    loop {
        let value = word.load(Ordering::Acquire);
        if wanted(value) {
            return value;
        }
        if PAUSES {
            std::hint::spin_loop();
        }
    }
}

fn spin_server(context: &Context) -> Outcome {
    let segment = share(context)?;
    let (ping, pong) = (segment.word64(PING), segment.word64(PONG));
    let mut last = 0;
    loop {
        last = match last & PAUSE {
            0 => wait_for::<false>(ping, |value| value != last),
            _ => wait_for::<true>(ping, |value| value != last),
        };
        pong.store(last, Ordering::Release);
        if last == LAST {
            return Ok(());
        }
    }
}

fn spin_client(context: &Context) -> Outcome<Measured> {
    let segment = open(context)?;
    let mut number = 0;
    let paused = spin::<true>(&segment, &mut number, context.budget / 2)?;
    let plain = spin::<false>(&segment, &mut number, context.budget / 2)?;
    segment.word64(PING).store(LAST, Ordering::Release);
    Ok(if paused.median < plain.median { paused } else { plain })
}

fn spin<const PAUSES: bool>(segment: &Segment, number: &mut u64, budget: Duration) -> Outcome<Measured> {
    let (ping, pong) = (segment.word64(PING), segment.word64(PONG));
    let mut ask = |_: &mut Work| {
        *number += 2;
        let value = *number | if PAUSES { PAUSE } else { 0 };
        ping.store(value, Ordering::Release);
        wait_for::<PAUSES>(pong, |answer| answer == value);
        Ok(())
    };
    time(&mut ask, &mut Work::new(0), budget)
}

fn put(word: &AtomicU32, value: u32) {
    word.store(value, Ordering::Release);
    futex_wake(word, 1);
}

/// Sleeps while the word is `old`.
fn take(word: &AtomicU32, old: u32) -> u32 {
    loop {
        let value = word.load(Ordering::Acquire);
        if value != old {
            return value;
        }
        futex_wait(word, old, None);
    }
}

fn futex_server(context: &Context) -> Outcome {
    let segment = share(context)?;
    let (ping, pong) = (segment.word32(PING), segment.word32(PONG));
    let mut last = 0;
    while last != u32::MAX {
        last = take(ping, last);
        put(pong, last);
    }
    Ok(())
}

fn futex_client(context: &Context) -> Outcome<Measured> {
    let segment = open(context)?;
    let (ping, pong) = (segment.word32(PING), segment.word32(PONG));
    let mut number = 0_u32;
    let mut ask = |_: &mut Work| {
        let old = number;
        number += 1;
        put(ping, number);
        take(pong, old);
        Ok(())
    };
    let measured = time(&mut ask, &mut Work::new(0), context.budget)?;
    put(ping, u32::MAX);
    Ok(measured)
}
