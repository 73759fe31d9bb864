//! Reads on while nobody publishes: what was published before must come, and wake whoever sleeps.

use std::thread;

use super::super::random::Random;
use super::subscribing::Sub;

/// Lets each subscription be read by a thread of its own, without a deadline, until `stand` returns.
pub fn read_on(subs: Vec<Sub<'_>>, random: &Random, stand: impl FnOnce()) {
    let closers: Vec<_> = subs.iter().map(Sub::closer).collect();
    thread::scope(|scope| {
        for sub in subs {
            let random = random.clone();
            scope.spawn(move || sub.read_on(random));
        }
        stand();
        closers.iter().for_each(ringpost::Closer::close);
    });
}
