//! The table of running workers, and the wait for their end when the server stops.
//!
//! A server that stops waits for every worker and its thread, and the service is dropped when the last one is
//! gone. One worker must not be waited for: the one whose service drops or joins the server itself, because
//! that call would wait for its own end. Each thread of a server knows what it is ([`Part`]), so such a call
//! is recognised. That worker is left alone: it keeps its channel, its client's connection and its share of
//! the service until the service returns, and then ends its client by itself.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::member::Member;
use super::summary::Sums;
use super::worker::{Totals, Worker};
use crate::connect::Accepted;
use crate::wire::Key;

/// What a thread is to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// A thread of the program, or of another server.
    None,
    /// The worker of the client with this key.
    Worker(Key),
    /// The acceptor.
    Acceptor,
}

thread_local! {
    /// The number of the server that this thread belongs to, and what it is there.
    static PART: Cell<(u64, Part)> = const { Cell::new((0, Part::None)) };
}

struct Entry {
    member: Arc<Member>,
    thread: Option<JoinHandle<()>>,
    /// A server that stops does not wait for it.
    left_alone: bool,
    /// Its client's connection, kept from the moment when the server has stopped.
    lifeline: Option<Arc<Accepted>>,
}

/// A thread whose worker has ended, and that waits for another one.
struct Kept {
    thread: JoinHandle<()>,
    give: SyncSender<Box<Worker>>,
}

#[derive(Default)]
struct State {
    living: HashMap<Key, Entry>,
    kept: Vec<Kept>,
    /// No thread is kept any more.
    keeps_none: bool,
    /// Threads of workers that have ended, or are about to.
    ending: Vec<JoinHandle<()>>,
}

/// The most threads that wait for a worker.
const MOST_KEPT: usize = 4;

/// The workers of one server.
pub(super) struct Workers {
    /// A number that no other server of this process has.
    server: u64,
    state: Mutex<State>,
    one_ended: Condvar,
}

impl Workers {
    pub(super) fn new() -> Workers {
        static SERVERS: AtomicU64 = AtomicU64::new(1);
        Workers {
            server: SERVERS.fetch_add(1, Ordering::Relaxed),
            state: Mutex::default(),
            one_ended: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks this thread as a part of the server.
    pub(super) fn enter(&self, part: Part) {
        PART.set((self.server, part));
    }

    /// What this thread is to the server.
    pub(super) fn part_of_this_thread(&self) -> Part {
        match PART.get() {
            (server, part) if server == self.server => part,
            _ => Part::None,
        }
    }

    /// Enters a worker that is about to be started. Returns how to give it to a thread that waits for one, if
    /// there is one.
    pub(super) fn begins(&self, member: &Arc<Member>) -> Option<SyncSender<Box<Worker>>> {
        let mut state = self.lock();
        let (thread, give) = state.kept.pop().map(|Kept { thread, give }| (thread, give)).unzip();
        let entry = Entry { member: Arc::clone(member), thread, left_alone: false, lifeline: None };
        state.living.insert(member.peer.key, entry);
        give
    }

    /// The next worker of this thread, which is kept. `None` if it must end: none has come in this time, or
    /// the server ends.
    pub(super) fn next(&self, waits: &Receiver<Box<Worker>>, time: Duration) -> Option<Box<Worker>> {
        match waits.recv_timeout(time) {
            Ok(worker) => return Some(worker),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let mut state = self.lock();
        let own = thread::current().id();
        if let Some(place) = state.kept.iter().position(|kept| kept.thread.thread().id() == own) {
            let Kept { thread, .. } = state.kept.swap_remove(place);
            state.ending.push(thread);
            return None;
        }
        drop(state);
        // It was chosen just now: the worker is on its way, or the server ends.
        waits.recv().ok()
    }

    /// Adds the thread of a worker that was started. The worker may have ended already.
    pub(super) fn has_begun(&self, key: Key, thread: JoinHandle<()>) {
        let mut state = self.lock();
        match state.living.get_mut(&key) {
            Some(entry) => entry.thread = Some(thread),
            None => state.ending.push(thread),
        }
    }

    /// Removes a worker, and adds what it did to the sums. It is the last thing that its thread does for it,
    /// or is done for a thread that could not be started. If the thread can wait for another worker it says
    /// how to give it that; returns whether it is to wait.
    pub(super) fn ends(&self, key: Key, sums: &Sums, give: Option<SyncSender<Box<Worker>>>) -> bool {
        let mut state = self.lock();
        let mut ended = state.living.remove(&key);
        if let Some(entry) = &ended {
            sums.add(&entry.member.measured.totals());
        }
        state.ending.retain(|thread| !thread.is_finished());
        let mut is_kept = false;
        if let Some(thread) = ended.as_mut().and_then(|entry| entry.thread.take()) {
            match give {
                Some(give) if !state.keeps_none && state.kept.len() < MOST_KEPT => {
                    state.kept.push(Kept { thread, give });
                    is_kept = true;
                }
                _ => state.ending.push(thread),
            }
        }
        drop(state);
        // This may be the last reference to the channel's memory, which is unmapped without the lock.
        drop(ended);
        self.one_ended.notify_all();
        is_kept
    }

    /// What all workers have done, those that have ended included.
    pub(super) fn totals(&self, sums: &Sums) -> Totals {
        let state = self.lock();
        let mut totals = sums.of_ended();
        state.living.values().for_each(|entry| totals.add(&entry.member.measured.totals()));
        totals
    }

    /// How many threads wait for a worker.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.lock().kept.len()
    }

    /// How many workers are running.
    pub(super) fn count(&self) -> usize {
        self.lock().living.len()
    }

    /// Whether a server that stops still has to wait for any.
    pub(super) fn are_awaited(&self) -> bool {
        self.lock().living.values().any(|entry| !entry.left_alone)
    }

    /// Excludes this worker from the wait. False if it has ended already, except for its thread.
    pub(super) fn leave_alone(&self, key: Key) -> bool {
        self.lock().living.get_mut(&key).map(|entry| entry.left_alone = true).is_some()
    }

    pub(super) fn is_left_alone(&self, key: Key) -> bool {
        self.lock().living.get(&key).is_some_and(|entry| entry.left_alone)
    }

    /// The members whose workers are left alone.
    pub(super) fn left_alone(&self) -> Vec<Arc<Member>> {
        let state = self.lock();
        state
            .living
            .values()
            .filter(|entry| entry.left_alone)
            .map(|entry| Arc::clone(&entry.member))
            .collect()
    }

    /// Keeps a client's connection open until its worker ends; not at all if it has ended already.
    pub(super) fn keep_lifeline(&self, key: Key, lifeline: Arc<Accepted>) {
        if let Some(entry) = self.lock().living.get_mut(&key) {
            entry.lifeline = Some(lifeline);
        }
    }

    /// Waits until all workers have ended that are not left alone, or until the deadline. Returns those that
    /// still run.
    pub(super) fn wait(&self, deadline: Instant) -> Vec<Arc<Member>> {
        let awaited = |state: &State| -> Vec<Arc<Member>> {
            let entries = state.living.values().filter(|entry| !entry.left_alone);
            entries.map(|entry| Arc::clone(&entry.member)).collect()
        };
        let mut state = self.lock();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let late = awaited(&state);
            if late.is_empty() || left.is_zero() {
                return late;
            }
            drop(late);
            state = self.one_ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for the threads of the workers that have ended, so that their thread-local values are dropped
    /// too. From now on none is kept.
    pub(super) fn join_ended(&self) {
        let mut state = self.lock();
        state.keeps_none = true;
        let State { kept, ending, .. } = &mut *state;
        // They end because nobody can give them a worker any more.
        ending.extend(kept.drain(..).map(|kept| kept.thread));
        let ending = std::mem::take(ending);
        drop(state);
        for thread in ending {
            let _ = thread.join();
        }
    }
}
