//! The process of a malicious server: it makes a valid channel and then overwrites all of it.

use crate::RING;
use crate::common::noise::{self, CLOSED};
use crate::common::payload::Random;
use crate::common::raw::{VERSION, accept, datagram, listen_at, say_with};
use crate::common::role::{say, setting};
use ringpost::WaitStrategy;
use ringpost::channel;
use ringpost::testing::{Segment, futex_wake};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long it does that to each client.
const A_CLIENT: Duration = Duration::from_millis(20);

/// The parked words of the three rings.
fn parked() -> impl Iterator<Item = usize> {
    (384..1408).step_by(128)
}

/// The role of the server: serves until it is killed.
pub fn serve_falsely() {
    let path: PathBuf = setting("PATH").unwrap();
    let socket = listen_at(&path);
    say("ready");
    let mut random = Random::new(2);
    loop {
        let line = accept(&socket);
        if rustix::io::read(&line, &mut [0; 100]).unwrap_or(0) == 0 {
            continue;
        }
        let (_host, descriptor) = channel::create(RING as usize, WaitStrategy::Park).unwrap();
        let segment = Segment::open(&descriptor).unwrap();
        say_with(&line, &datagram(VERSION, 0, &[7; 32]), &[&descriptor]);
        let until = Instant::now() + A_CLIENT;
        while Instant::now() < until {
            noise::rewrite(&segment, RING, &mut random, 500);
            if random.below(50) == 0 {
                segment.word32(CLOSED).store(random.next() as u32 % 8, Ordering::Relaxed);
            }
            for at in parked() {
                futex_wake(segment.word32(at), 1);
            }
        }
    }
}
