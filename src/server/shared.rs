//! What the server's threads share, and the one place where a client's life ends.

#![forbid(unsafe_code)]

use std::fmt;
#[cfg(test)]
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::thread::{Pid, gettid};

use super::builder::Settings;
use super::events::{Event, Events};
use super::member::{Member, Members};
use super::panics::contain;
use super::quotas::Ledger;
use super::scheduler::Scheduler;
use super::service::Service;
use super::stopper::StopRequest;
use super::summary::Sums;
use super::uptime::Uptime;
use super::workers::{Part, Workers};
use crate::connect::ServerInfo;
use crate::os::descriptors::Wake;
use crate::registry::Registry;
use crate::ring::{CloseReason, Violation};
use crate::testing::failpoints::{failpoint, planted_fault};
use crate::wire::PROTOCOL_VERSION;

pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) registry: Registry,
    pub(super) ledger: Arc<Ledger>,
    pub(super) members: Members,
    /// Each worker has a share of its own, so that the service is gone when they are. Taken at the server's
    /// end.
    service: Mutex<Option<Arc<Box<dyn Service>>>>,
    pub(super) scheduler: Scheduler,
    pub(super) events: Events,
    pub(super) uptime: Uptime,
    pub(super) sums: Sums,
    pub(super) workers: Workers,
    /// The acceptor's thread, once it runs.
    acceptor: OnceLock<Pid>,
    /// Members whose connection the acceptor is to close.
    finished: Mutex<Vec<Arc<Member>>>,
    /// Its wake tells the acceptor that it is to stop, or that `finished` changed.
    pub(super) stop: Arc<StopRequest>,
    /// A test lets the acceptor panic.
    #[cfg(test)]
    pub(super) is_to_fail: AtomicBool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("path", &self.settings.path).finish_non_exhaustive()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(
        settings: Settings,
        registry: Registry,
        service: Box<dyn Service>,
        wake: Wake,
    ) -> Shared {
        let stop = Arc::new(StopRequest::new(settings.path.clone(), wake));
        let ledger = Arc::new(Ledger::new(settings.quotas));
        Shared {
            ledger,
            settings,
            registry,
            members: Members::default(),
            service: Mutex::new(Some(Arc::new(service))),
            scheduler: Scheduler::new(None),
            events: Events::new(),
            uptime: Uptime::begin(),
            sums: Sums::default(),
            workers: Workers::new(),
            acceptor: OnceLock::new(),
            finished: Mutex::new(Vec::new()),
            stop,
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
            started: self.uptime.started(),
            clients: self.registry.len().unwrap_or(0),
            max_clients: self.registry.capacity(),
            ring_size: self.settings.geometry.ring_size(),
            max_block: self.settings.geometry.max_block(),
            wait: self.settings.wait,
            quotas: Some(self.settings.quotas),
        }
    }

    // ---- the end of one client

    /// Makes the client unknown: its inbox takes nothing more, its key and name lead nowhere and the name is
    /// free. True for the one call that did it.
    pub(super) fn forget(&self, member: &Arc<Member>) -> bool {
        if !member.retire() {
            return false;
        }
        failpoint!("forget.retired");
        member.share.leave();
        member.inbox.close();
        failpoint!("forget.inbox");
        self.members.remove(member.peer.key);
        failpoint!("forget.member");
        if planted_fault!("name") {
            return true;
        }
        if let Err(error) = self.registry.release(member.peer.key) {
            self.events.tell(Event::Registry { name: member.peer.name, error: error.to_string() });
        }
        failpoint!("forget.released");
        true
    }

    /// Ends the client: forgotten, its channel closed, its worker on its way out.
    pub(super) fn end(&self, member: &Arc<Member>, reason: CloseReason) -> bool {
        let first = self.forget(member);
        member.closer.close_as(reason);
        failpoint!("end.channel");
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
        self.events.tell(Event::Violation { peer: member.peer, what: what.to_string() });
    }

    /// Tells the acceptor to let go of the client's connection.
    pub(super) fn finish(&self, member: Arc<Member>) {
        lock(&self.finished).push(member);
        self.stop.wake_acceptor();
    }

    pub(super) fn take_finished(&self) -> Vec<Arc<Member>> {
        std::mem::take(&mut lock(&self.finished))
    }

    // ---- workers

    /// This thread is the acceptor's.
    pub(super) fn acceptor_runs(&self) {
        self.workers.enter(Part::Acceptor);
        self.acceptor.get_or_init(gettid);
    }

    /// The acceptor's thread, if there is one.
    pub(super) fn acceptor(&self) -> Option<Pid> {
        self.acceptor.get().copied()
    }

    /// A worker's share of the service. None after the server's end.
    pub(super) fn service(&self) -> Option<Arc<Box<dyn Service>>> {
        lock(&self.service).clone()
    }

    /// Gives up the server's share of the service. If no worker has one any more, the service is dropped
    /// here.
    pub(super) fn drop_service(&self) {
        let service = lock(&self.service).take();
        let _ = contain(|| drop(service));
    }

    /// The last thing that a worker does.
    pub(super) fn worker_ends(&self, member: &Member) {
        self.workers.ends(member.peer.key);
        if self.is_stopping() {
            self.stop.wake_acceptor();
        }
    }

    // ---- stopping

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.is_requested()
    }
}
