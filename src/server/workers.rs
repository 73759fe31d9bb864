//! The workers that live, and whom the end of the server waits for.
//!
//! The end waits for every worker and its thread, and drops the service when the last one is gone. One worker
//! it must not wait for: the one on which the program's service drops or joins the server itself, which would
//! wait for its own end. Each thread of a server knows that it is one ([`Part`]), so that such a call is
//! recognised. That worker is left alone: it keeps its channel, its client's connection and its share of the
//! service until its service returns, and ends its client by itself.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use super::member::Member;
use crate::connect::Accepted;
use crate::wire::Key;

/// What a thread is to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// None of its threads.
    None,
    /// The worker of the client with this key.
    Worker(Key),
    /// The acceptor.
    Acceptor,
}

thread_local! {
    /// Of which server this thread is a part, by the server's number.
    static PART: Cell<(u64, Part)> = const { Cell::new((0, Part::None)) };
}

struct Entry {
    member: Arc<Member>,
    thread: Option<JoinHandle<()>>,
    /// The server's end does not wait for it.
    left_alone: bool,
    /// Its client's connection, once the server's own end has come.
    lifeline: Option<Arc<Accepted>>,
}

#[derive(Default)]
struct State {
    living: HashMap<Key, Entry>,
    /// Threads of workers that have ended, or are just about to.
    ending: Vec<JoinHandle<()>>,
}

pub(super) struct Workers {
    /// Tells this server from others of the process.
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

    /// From here on this thread is a part of the server.
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

    /// A worker is about to be started.
    pub(super) fn begins(&self, member: &Arc<Member>) {
        let entry = Entry { member: Arc::clone(member), thread: None, left_alone: false, lifeline: None };
        self.lock().living.insert(member.peer.key, entry);
    }

    /// Its thread. It may have ended already.
    pub(super) fn has_begun(&self, key: Key, thread: JoinHandle<()>) {
        let mut state = self.lock();
        match state.living.get_mut(&key) {
            Some(entry) => entry.thread = Some(thread),
            None => state.ending.push(thread),
        }
    }

    /// The last thing that a worker's thread does, or that is done in the place of one that was not started.
    pub(super) fn ends(&self, key: Key) {
        let mut state = self.lock();
        let mut ended = state.living.remove(&key);
        state.ending.retain(|thread| !thread.is_finished());
        if let Some(thread) = ended.as_mut().and_then(|entry| entry.thread.take()) {
            state.ending.push(thread);
        }
        drop(state);
        // The member may be the last one that knows its channel's memory, which is given back without the
        // lock.
        drop(ended);
        self.one_ended.notify_all();
    }

    /// How many live.
    pub(super) fn count(&self) -> usize {
        self.lock().living.len()
    }

    /// Whether the server's end still has to wait for any.
    pub(super) fn are_awaited(&self) -> bool {
        self.lock().living.values().any(|entry| !entry.left_alone)
    }

    /// The server's end does not wait for this one. False if it has ended already, but for its thread.
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

    /// Keeps a client's connection as long as its worker lives, which is not at all if it has ended.
    pub(super) fn keep_lifeline(&self, key: Key, lifeline: Arc<Accepted>) {
        if let Some(entry) = self.lock().living.get_mut(&key) {
            entry.lifeline = Some(lifeline);
        }
    }

    /// Waits until none lives that the end has to wait for, or the deadline. Those that still live.
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

    /// Waits for the threads of the workers that have ended: what is theirs alone is gone then, too.
    pub(super) fn join_ended(&self) {
        let ending = std::mem::take(&mut self.lock().ending);
        for thread in ending {
            let _ = thread.join();
        }
    }
}
