//! The futex of the models: a queue of sleepers under one lock.
//!
//! As in the kernel, comparing and joining the queue are one step under the lock, and a wake ends only sleeps
//! on its own word. A wake that nobody sends is a sleep that never ends, which loom reports as a deadlock.
//! There are no time-outs: one would hide a lost wake.

use std::time::Instant;

use loom::sync::{Condvar, Mutex};

use super::{Arc, AtomicU32, Ordering};
use crate::os::futex::{Scope, Woken};

/// One word to sleep on, for as long as it holds `expected`.
#[derive(Clone, Copy)]
pub(crate) struct Wait<'a> {
    pub(crate) word: &'a AtomicU32,
    pub(crate) expected: u32,
    pub(crate) scope: Scope,
}

#[derive(Default)]
struct Sleeper {
    words: Vec<usize>,
    ticket: usize,
}

struct Queue {
    sleepers: Mutex<(usize, Vec<Sleeper>)>,
    changed: Condvar,
}

loom::lazy_static! {
    static ref QUEUE: Arc<Queue> = Arc::new(Queue { sleepers: Mutex::new((0, Vec::new())), changed: Condvar::new() });
}

fn address(word: &AtomicU32) -> usize {
    std::ptr::from_ref(word).addr()
}

/// Sleeps while every word holds what is expected of it.
pub(crate) fn wait(waits: &[Wait<'_>], _deadline: Option<Instant>) -> Woken {
    let changed = || waits.iter().any(|w| w.word.load(Ordering::Relaxed) != w.expected);
    // Who sees the change without the lock gets no order from the lock either.
    if changed() {
        return Woken::Hint;
    }
    let mut queue = QUEUE.sleepers.lock().unwrap();
    if changed() {
        return Woken::Hint;
    }
    queue.0 += 1;
    let ticket = queue.0;
    queue.1.push(Sleeper { words: waits.iter().map(|w| address(w.word)).collect(), ticket });
    while queue.1.iter().any(|s| s.ticket == ticket) {
        queue = QUEUE.changed.wait(queue).unwrap();
    }
    Woken::Hint
}

/// Ends the sleep of up to `count` waiters.
pub(crate) fn wake(word: &AtomicU32, _scope: Scope, count: u32) {
    let mut queue = QUEUE.sleepers.lock().unwrap();
    let mut left = count;
    queue.1.retain(|s| {
        let woken = left > 0 && s.words.contains(&address(word));
        left -= u32::from(woken);
        !woken
    });
    QUEUE.changed.notify_all();
}
