//! What the server's threads share.

#![forbid(unsafe_code)]

use std::fmt;
#[cfg(test)]
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::thread::{Pid, gettid};

use super::access::Current;
use super::builder::Settings;
use super::events::{Event, Events};
use super::member::{Member, Members};
use super::panics::contain;
use super::questions::Questions;
use super::quotas::Ledger;
use super::roll::Roll;
use super::stopper::StopRequest;
use super::summary::Sums;
use super::tap::Tap;
use super::uptime::Uptime;
use super::watch::{Watch, Watched};
use super::worker::Worker;
use super::workers::{Part, Workers};
use crate::connect::ServerInfo;
use crate::link::observed::may_want_spans;
use crate::link::{Scheduler, Service};
use crate::os::descriptors::Wake;
use crate::os::lacks::untold;
use crate::registry::{ClientInfo, Registry, RegistryError};
use crate::wire::PROTOCOL_VERSION;

pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) registry: Registry,
    /// By which clients are registered and released.
    pub(super) roll: Roll,
    pub(super) access: Current,
    pub(super) ledger: Arc<Ledger>,
    pub(super) members: Members,
    /// Each worker has its own reference, so the service is dropped when the last worker is. Taken at the
    /// server's end.
    service: Mutex<Option<Arc<Box<dyn Service>>>>,
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) events: Events,
    pub(super) watch: Watch,
    pub(super) tap: Tap,
    pub(super) uptime: Uptime,
    pub(super) sums: Sums,
    pub(super) questions: Questions,
    /// What metrics were recorded last.
    #[cfg(feature = "metrics")]
    pub(super) recorded: Mutex<super::metrics::Recorded>,
    pub(super) workers: Workers,
    /// The acceptor's thread, once it runs.
    acceptor: OnceLock<Pid>,
    /// Clients whose connection the acceptor must close.
    pub(super) finished: Mutex<Vec<Arc<Member>>>,
    /// Wakes the acceptor, because it must stop or `finished` has changed.
    pub(super) stop: Arc<StopRequest>,
    /// Set by a test that wants the acceptor to panic.
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
        let ledger = Arc::new(Ledger::new(settings.access.quotas));
        let access = Current::new(settings.access.clone());
        Shared {
            access,
            ledger,
            settings,
            registry,
            roll: Roll::default(),
            members: Members::default(),
            service: Mutex::new(Some(Arc::new(service))),
            scheduler: Arc::new(Scheduler::new(None)),
            events: Events::new(),
            watch: Watch::default(),
            tap: Tap::default(),
            uptime: Uptime::begin(),
            sums: Sums::default(),
            questions: Questions::new(),
            #[cfg(feature = "metrics")]
            recorded: Mutex::default(),
            workers: Workers::new(),
            acceptor: OnceLock::new(),
            finished: Mutex::new(Vec::new()),
            stop,
            #[cfg(test)]
            is_to_fail: AtomicBool::new(false),
        }
    }

    /// What a worker has to do besides serving, now.
    #[inline(always)]
    pub(super) fn watched(&self) -> Watched {
        let seen = self.watch.look();
        if self.events.may_want_messages() { seen | self.watched_by_events() } else { seen }
    }

    #[cold]
    fn watched_by_events(&self) -> Watched {
        let wanted = |wants, what| if wants { what } else { Watched::default() };
        wanted(self.events.wants_messages(), Watched::MESSAGES)
            | wanted(self.events.wants_calls(), Watched::CALLS)
            | wanted(may_want_spans(), Watched::SPANS)
    }

    /// Tells what the system has refused since this was last asked, and what is done instead.
    pub(super) fn tell_lacks(&self) {
        untold().for_each(|(lack, error)| self.events.tell(Event::FallBack { lack, error }));
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
            quotas: Some(self.ledger.quotas()),
        }
    }

    /// A page of clients, as [`Registry::list`] gives it, with what they say about their links and inboxes.
    pub(super) fn list(
        &self,
        from_slot: u32,
        most: usize,
    ) -> Result<(Vec<ClientInfo>, Option<u32>), RegistryError> {
        let (mut clients, next) = self.registry.list(from_slot, most)?;
        for client in &mut clients {
            if let Some(member) = self.members.get(client.key) {
                (client.serves, client.links) = (member.links.serves(), member.links.open());
                member.inbox.complete(&mut client.counters);
            }
        }
        Ok((clients, next))
    }

    // ---- workers

    /// Notes that this thread is the acceptor's.
    pub(super) fn acceptor_runs(&self) {
        self.workers.enter(Part::Acceptor);
        self.acceptor.get_or_init(gettid);
    }

    /// The acceptor's thread, if there is one.
    pub(super) fn acceptor(&self) -> Option<Pid> {
        self.acceptor.get().copied()
    }

    /// A worker's reference to the service. `None` after the server's end.
    pub(super) fn service(&self) -> Option<Arc<Box<dyn Service>>> {
        lock(&self.service).clone()
    }

    /// Gives up the server's reference to the service. If no worker has one any more, the service is dropped
    /// here.
    pub(super) fn drop_service(&self) {
        let service = lock(&self.service).take();
        let _ = contain(|| drop(service));
    }

    /// A worker's last step, or the replacement for one that was not started. Returns whether its thread is
    /// to wait for another one, which gets it as `give` says.
    pub(super) fn worker_ends(&self, member: &Member, give: Option<SyncSender<Box<Worker>>>) -> bool {
        let give = give.filter(|_| !self.is_stopping());
        let is_kept = self.workers.ends(member.peer.key, &self.sums, give);
        if self.is_stopping() {
            self.stop.wake_acceptor();
        }
        is_kept
    }

    // ---- stopping

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.is_requested()
    }
}
