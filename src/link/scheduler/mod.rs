//! Limits how many workers run at once when busy clients outnumber CPUs.
//!
//! A busy client (it calls again as soon as it is answered) and its worker take about 0.15 µs for a call if
//! each has a CPU. With more such pairs than pairs of CPUs, the kernel seldom runs both ends of
//! one pair at once, and nearly every call costs switches between threads: 10 µs and more. So a busy worker
//! needs a *slot* to go on, and there is one slot for each pair of CPUs. A worker without one leaves its
//! client's next request in the ring, the client goes to sleep, and the holders have the CPUs to themselves.
//! `benches/NOTES.md` has the figures.
//!
//! **Who waits for a slot.** Only a worker that goes on serving: the first request after a sleep is served at
//! once. Workers that never spin, or only spin, take no part. A worker whose slots were of little use (fewer
//! than [`FEW`] requests, because its service or its client is slow) goes without, for longer each time. A
//! worker that runs out of requests while all slots are taken queues once more before it sleeps, because a
//! busy client has called again by the time that the slot comes. So a client that calls seldom is tested,
//! too, more and more seldom, in the end once a second; one of its calls may wait during a test.
//!
//! **Why nobody waits for ever.** Only speed depends on slots. A holder gives its slot back before it sleeps
//! for want of requests, before it waits for anything else, and, when others wait, after [`TIME_SLICE`]. It
//! may fail to do so, because its service takes long or waits for another worker. Then the first in the queue
//! takes its place, after [`STALE`] for itself and for each that was before it. A wait ends after
//! [`LONGEST`], or when the worker's intake closes; then the worker serves without a slot. In one kind of
//! sleep a holder keeps its slot: the sleep whose wake lets the kernel move one end of the pair to another
//! CPU. If its client leaves during that sleep, the slot is lost until the next in the queue takes it.
//!
//! Each change is made under the lock: a worker's word ([`Signal`]) is reset when it joins the queue, and set
//! when it becomes a holder.

mod slot;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use crate::os::processors;
use crate::ring::{Closer, Signal};

pub(crate) use slot::Slot;

/// How long a worker keeps its slot while others wait. Handing it over takes about 100 µs.
const TIME_SLICE: Duration = Duration::from_micros(500);

/// When more are queued than can be served in this time, each keeps its slot for less, down to the shortest.
const ROUND: Duration = Duration::from_millis(40);
const SHORTEST: Duration = Duration::from_micros(150);

/// How long a worker waits, for itself and for each before it, until it takes a holder's place.
const STALE: Duration = Duration::from_millis(1);

/// The longest wait for a slot.
const LONGEST: Duration = Duration::from_millis(200);

/// Hands out the slots.
pub(crate) struct Scheduler {
    /// The number of CPUs to assume. `None`: as many as the process may use at the time.
    cpus: Option<usize>,
    state: Mutex<State>,
    /// Read without the lock, so they may be out of date. They do not share a line with the lock, which is
    /// written at each hand-over.
    hints: CachePadded<Hints>,
}

#[derive(Default)]
struct State {
    /// The oldest holder comes first.
    holders: Vec<Arc<Signal>>,
    queue: VecDeque<Arc<Signal>>,
}

#[derive(Default)]
struct Hints {
    /// No slot is free.
    full: AtomicBool,
    /// How many wait.
    waiting: AtomicU32,
}

impl Scheduler {
    /// A scheduler for this many CPUs. `None`: for as many as the process may use at the time.
    pub(crate) fn new(cpus: Option<usize>) -> Scheduler {
        Scheduler { cpus, state: Mutex::default(), hints: CachePadded::default() }
    }

    /// How many slots there are: one for each pair of CPUs.
    fn slots(&self) -> usize {
        (self.cpus.unwrap_or_else(processors::usable) / 2).max(1)
    }

    /// How many workers have a slot now, and how many may have one at once.
    pub(crate) fn load(&self) -> (usize, usize) {
        (self.lock().holders.len(), self.slots())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update_hints(&self, state: &State) {
        self.hints.full.store(state.holders.len() >= self.slots(), Ordering::Relaxed);
        let waiting = u32::try_from(state.queue.len()).unwrap_or(u32::MAX);
        self.hints.waiting.store(waiting, Ordering::Relaxed);
    }

    fn is_full(&self) -> bool {
        self.hints.full.load(Ordering::Relaxed)
    }

    fn has_queue(&self) -> bool {
        self.hints.waiting.load(Ordering::Relaxed) > 0
    }

    /// How long a holder may keep its slot now.
    fn time_slice(&self) -> Duration {
        match self.hints.waiting.load(Ordering::Relaxed) {
            0 => Duration::MAX,
            waiting => (ROUND / waiting).clamp(SHORTEST, TIME_SLICE),
        }
    }

    /// Waits for a slot until `gate` is closed. Returns false if the worker got none.
    fn acquire(&self, signal: &Arc<Signal>, gate: &Closer) -> bool {
        processors::look_again_if_due();
        let ahead = {
            let mut state = self.lock();
            let ahead = state.queue.len();
            if ahead == 0 && state.holders.len() < self.slots() {
                state.holders.push(Arc::clone(signal));
                self.update_hints(&state);
                return true;
            }
            signal.reset();
            state.queue.push_back(Arc::clone(signal));
            self.update_hints(&state);
            ahead
        };
        let patience = u32::try_from(ahead + 1).map_or(LONGEST, |places| STALE.saturating_mul(places));
        let deadline = Instant::now() + patience.min(LONGEST);
        while !signal.is_set() && !gate.is_closed() && Instant::now() < deadline {
            signal.sleep(gate, deadline);
        }
        signal.is_set() || self.give_up(signal, gate)
    }

    /// Ends a wait for a slot: the worker leaves the queue. If it was the first there, it takes the place of
    /// the oldest holder, which did not give its slot back, unless `gate` is closed. Returns whether it now
    /// has a slot, also if one came meanwhile.
    fn give_up(&self, signal: &Arc<Signal>, gate: &Closer) -> bool {
        let mut state = self.lock();
        let Some(place) = state.queue.iter().position(|other| Arc::ptr_eq(other, signal)) else {
            return true;
        };
        state.queue.remove(place);
        let replaces = place == 0 && !gate.is_closed();
        if replaces {
            let oldest = state.holders.len().min(1);
            state.holders.drain(..oldest);
            state.holders.push(Arc::clone(signal));
        }
        self.update_hints(&state);
        replaces
    }

    /// Gives a slot back, unless another worker has taken its place. The next in the queue gets it.
    fn release(&self, signal: &Arc<Signal>) {
        let mut state = self.lock();
        state.holders.retain(|other| !Arc::ptr_eq(other, signal));
        // More than one gets a slot if the process may use more CPUs than before.
        while state.holders.len() < self.slots()
            && let Some(next) = state.queue.pop_front()
        {
            state.holders.push(Arc::clone(&next));
            // Set under the lock: a later set could end the owner's wait for another slot.
            next.set();
        }
        self.update_hints(&state);
    }
}
