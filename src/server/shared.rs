//! What the server's threads share, and the one place where a client's life ends.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use super::builder::Settings;
use super::events::{Event, Events};
use super::member::{Member, Members};
use super::rota::Rota;
use super::service::Service;
use super::worker::Totals;
use crate::connect::ServerInfo;
use crate::kill::{kill_point, planted_fault};
use crate::protocol::{Key, PROTOCOL_VERSION};
use crate::registry::Registry;
use crate::ring::{CloseReason, Violation};

pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) registry: Registry,
    pub(super) members: Members,
    pub(super) service: Box<dyn Service>,
    pub(super) rota: Rota,
    pub(super) events: Events,
    pub(super) started: SystemTime,
    pub(super) sums: Sums,
    /// Whose workers live, and how they say that one ended.
    workers: Mutex<HashMap<Key, Arc<Member>>>,
    worker_ended: Condvar,
    /// Set when the server is to stop.
    stopping: AtomicBool,
    /// Members whose connection the acceptor is to close.
    finished: Mutex<Vec<Arc<Member>>>,
    /// An eventfd: tells the acceptor that `stopping` or `finished` changed.
    wake: OwnedFd,
    /// A test lets the acceptor panic.
    #[cfg(test)]
    pub(super) is_to_fail: AtomicBool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("path", &self.settings.path).finish_non_exhaustive()
    }
}

/// Sums over all clients, of those that are gone and of refusals.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub(super) registered: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) violations: AtomicU64,
    pub(super) calls: AtomicU64,
    pub(super) messages: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
}

impl Sums {
    pub(super) fn add(&self, totals: &Totals) {
        self.calls.fetch_add(totals.calls, Ordering::Relaxed);
        self.messages.fetch_add(totals.messages, Ordering::Relaxed);
        self.bytes_in.fetch_add(totals.bytes_in, Ordering::Relaxed);
        self.bytes_out.fetch_add(totals.bytes_out, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(
        settings: Settings,
        registry: Registry,
        service: Box<dyn Service>,
        wake: OwnedFd,
    ) -> Shared {
        Shared {
            settings,
            registry,
            members: Members::default(),
            service,
            rota: Rota::new(std::thread::available_parallelism().map_or(1, usize::from)),
            events: Events::new(),
            started: SystemTime::now(),
            sums: Sums::default(),
            workers: Mutex::default(),
            worker_ended: Condvar::new(),
            stopping: AtomicBool::new(false),
            finished: Mutex::new(Vec::new()),
            wake,
            #[cfg(test)]
            is_to_fail: AtomicBool::new(false),
        }
    }

    pub(super) fn info(&self) -> ServerInfo {
        ServerInfo {
            pid: std::process::id(),
            uid: rustix::process::geteuid().as_raw(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL_VERSION,
            started: self.started,
            clients: self.registry.len().unwrap_or(0),
            max_clients: self.registry.capacity(),
            ring_size: self.settings.geometry.ring_size(),
            max_block: self.settings.geometry.max_block(),
            wait: self.settings.wait,
        }
    }

    // ---- the end of one client

    /// Makes the client unknown: its inbox takes nothing more, its key and name lead nowhere and the name is free. True for the one
    /// call that did it.
    pub(super) fn forget(&self, member: &Arc<Member>) -> bool {
        if !member.retire() {
            return false;
        }
        kill_point!("forget.retired");
        member.inbox.close();
        kill_point!("forget.inbox");
        self.members.remove(member.key);
        kill_point!("forget.member");
        if planted_fault!("name") {
            return true;
        }
        if let Err(error) = self.registry.release(member.key) {
            self.events.tell(Event::Registry { name: member.name, error: error.to_string() });
        }
        kill_point!("forget.released");
        true
    }

    /// Ends the client: forgotten, its channel closed, its worker on its way out.
    pub(super) fn end(&self, member: &Arc<Member>, reason: CloseReason) -> bool {
        let first = self.forget(member);
        member.closer.close_as(reason);
        kill_point!("end.channel");
        member.intake.close_as(reason);
        first
    }

    /// Ends a client that broke a rule.
    pub(super) fn end_for(&self, member: &Arc<Member>, violation: Violation) {
        self.end(member, CloseReason::ProtocolViolation);
        self.log_violation(member, &violation);
    }

    pub(super) fn log_violation(&self, member: &Member, what: &dyn fmt::Display) {
        self.sums.violations.fetch_add(1, Ordering::Relaxed);
        let Member { name, key, owner, .. } = *member;
        self.events.tell(Event::Violation { name, key, owner, what: what.to_string() });
    }

    /// Tells the acceptor to let go of the client's connection.
    pub(super) fn finish(&self, member: Arc<Member>) {
        lock(&self.finished).push(member);
        self.wake_acceptor();
    }

    pub(super) fn take_finished(&self) -> Vec<Arc<Member>> {
        std::mem::take(&mut lock(&self.finished))
    }

    // ---- workers

    pub(super) fn worker_begins(&self, member: &Arc<Member>) {
        lock(&self.workers).insert(member.key, Arc::clone(member));
    }

    pub(super) fn worker_ends(&self, member: &Member) {
        let ended = lock(&self.workers).remove(&member.key);
        // The member may be the last one that knows its channel's memory, which is given back without the lock.
        drop(ended);
        self.worker_ended.notify_all();
        if self.is_stopping() {
            self.wake_acceptor();
        }
    }

    /// How many live.
    pub(super) fn workers(&self) -> usize {
        lock(&self.workers).len()
    }

    /// Waits until no worker lives, or the deadline. Those whose worker still lives.
    pub(super) fn wait_for_workers(&self, deadline: Instant) -> Vec<Arc<Member>> {
        let mut workers = lock(&self.workers);
        while !workers.is_empty() {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { break };
            workers = match self.worker_ended.wait_timeout(workers, left) {
                Ok((workers, _)) => workers,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        workers.values().cloned().collect()
    }

    // ---- stopping

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake_acceptor();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn wake_acceptor(&self) {
        // Full means that it is awake already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    pub(super) fn wake_fd(&self) -> &OwnedFd {
        &self.wake
    }
}
