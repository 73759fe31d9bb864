//! The server's life: what it needs to start, how long it serves, and how it ends.

#![forbid(unsafe_code)]

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::acceptor::{Acceptor, PutOff};
use super::access::socket_access;
use super::admission::Admission;
use super::broker::Broker;
use super::builder::Settings;
use super::connections::Connections;
use super::control::Control;
use super::enrolment::Enrolment;
use super::error::StartError;
use super::events::Event;
use super::figures::{LastLook, Stamping};
use super::panics::contain;
use super::shared::Shared;
use super::summary::{ServerSummary, summary};
use super::topics::Topics;
use crate::connect::{Listener, Refusal, is_unknown_user};
use crate::link::Service;
use crate::os::descriptors::{CutOff, Waits};
use crate::os::futex::sleeps_on_all;
use crate::registry::Registry;
use crate::testing::failpoints::failpoint;
use crate::wire::CloseReason;

/// Descriptors besides those of clients: the standard three, epoll, eventfd, socket, lock, the registry, a
/// segment on its way, spares.
const OTHER_DESCRIPTORS: u64 = 64;

/// The lifeline. There is a pidfd, too, as long as there are enough descriptors.
const DESCRIPTORS_PER_CLIENT: u64 = 1;

/// How long workers get, after the grace period, to notice that their channels are closed.
const LAST_MOMENT: Duration = Duration::from_secs(1);

const SHUTTING_DOWN: &str = "the server is shutting down: try again when it is back";

impl Acceptor {
    // ---- the start

    /// Does everything that can fail at the start. When this returns, clients can connect.
    pub(super) fn prepare(
        settings: Settings,
        socket: Option<OwnedFd>,
        service: Box<dyn Service>,
    ) -> Result<(Acceptor, Arc<Shared>), StartError> {
        let limit = low_descriptor_limit(settings.max_clients);
        let registry = Registry::create(settings.max_clients)?;
        let (waits, wake) =
            Waits::new().map_err(|source| StartError::System { action: "make an epoll instance", source })?;
        let listener = match socket {
            Some(socket) => Listener::given(socket)?,
            None => {
                let (mode, group) = socket_access(&settings.access);
                Listener::bind(&settings.path, mode, group)?
            }
        };
        let shared = Arc::new(Shared::new(settings, registry, service, wake));
        shared.access.follow(listener.file());
        if let Some(limit) = limit {
            shared.events.tell(limit);
        }
        let uid = rustix::process::geteuid().as_raw();
        if is_unknown_user(uid) {
            shared.events.tell(Event::UnknownUser { uid });
        }
        // It is found out now, so that it is told at the start.
        let _ = sleeps_on_all();
        shared.tell_lacks();
        let acceptor = Acceptor {
            shared: Arc::clone(&shared),
            admission: Admission::new(Arc::clone(&shared), listener),
            connections: Connections::new(waits),
            enrolment: Enrolment::new(Arc::clone(&shared)),
            broker: Broker::new(Arc::clone(&shared)),
            topics: Topics::new(Arc::clone(&shared)),
            control: Control::new(Arc::clone(&shared)),
            put_off: PutOff::default(),
            stamping: Stamping::default(),
            last_look: LastLook::default(),
        };
        acceptor.admission.open(&acceptor.connections).map_err(|errno: Errno| StartError::System {
            action: "watch the socket",
            source: errno.into(),
        })?;
        Ok((acceptor, shared))
    }

    // ---- serving

    /// Serves until the server is shut down. Should this thread panic, which would be a bug in this library,
    /// the server ends all the same, and reports it.
    pub(super) fn run(mut self) -> ServerSummary {
        let shared = Arc::clone(&self.shared);
        shared.acceptor_runs();
        let served = contain(|| match self.serve() {
            Ok(abandoned) => summary(&shared, abandoned),
            Err(CutOff) => {
                shared.events.tell(Event::CutOff);
                ServerSummary { cut_off: true, ..summary(&shared, self.end_without_descriptors()) }
            }
        });
        let summary = served.unwrap_or_else(|why| {
            shared.events.tell(Event::Failed { why });
            let abandoned = contain(|| self.end_after_a_panic()).unwrap_or_default();
            ServerSummary { failed: true, ..summary(&shared, abandoned) }
        });
        // Before the events: a subscriber may keep this thread waiting, but then the path is free and the
        // clients are gone already.
        let _ = contain(|| drop(self));
        shared.events.finish();
        summary
    }

    fn serve(&mut self) -> Result<usize, CutOff> {
        while !self.shared.is_stopping() {
            self.turn(None)?;
        }
        self.shut_down()
    }

    // ---- the end, and how many workers it leaves behind

    /// Answers what was committed, then disconnects everyone.
    fn shut_down(&mut self) -> Result<usize, CutOff> {
        self.admission.hide();
        failpoint!("shutdown.hidden", [server], stopping);
        // Those who connected before that are told, too.
        self.admission.shut(&self.connections, Refusal::ShuttingDown, SHUTTING_DOWN);
        for (id, asks) in self.connections.all_asking() {
            // A connection that has its answers already is an observer's, and is refused nothing.
            if asks == 0 {
                self.connections.refuse(&self.shared, id, Refusal::ShuttingDown, SHUTTING_DOWN);
            } else {
                self.connections.remove(id);
            }
        }
        // Links and topics go on without the server, but nobody is introduced any more.
        self.broker.clear();
        self.topics.clear();
        failpoint!("shutdown.cleared", [server], stopping);
        for member in self.shared.members.all() {
            let _ = self.shared.registry.mark_leaving(member.peer.key);
            failpoint!("shutdown.leaving", [server], stopping);
            member.intake.close_as(CloseReason::Shutdown);
            failpoint!("shutdown.intake", [server], stopping);
        }
        // If the clock cannot count that far, there is no limit.
        let grace = Instant::now().checked_add(self.shared.settings.grace);
        while self.shared.workers.are_awaited() && grace.is_none_or(|end| Instant::now() < end) {
            self.turn(grace)?;
        }
        failpoint!("shutdown.served", [server], stopping);
        self.shared.questions.close();
        self.stamping.end(&self.shared);
        self.end_all(CloseReason::Shutdown);
        self.topics.finish();
        self.control.finish(&mut self.connections, grace);
        let abandoned = self.shared.workers.wait(Instant::now() + LAST_MOMENT);
        for member in &abandoned {
            self.shared.events.tell(Event::Abandoned { peer: member.peer, workers: abandoned.len() });
        }
        self.release();
        Ok(abandoned.len())
    }

    /// Something else in this process has closed the server's descriptors. With them went the connections,
    /// which show deaths, so everyone is disconnected. The descriptors' numbers may be others' by now.
    fn end_without_descriptors(&mut self) -> usize {
        self.shared.stop.request();
        self.shared.questions.close();
        self.connections.abandon();
        self.broker.abandon();
        self.admission.abandon();
        self.end_all(CloseReason::Died);
        let abandoned = self.shared.workers.wait(Instant::now() + LAST_MOMENT).len();
        self.shared.workers.join_ended();
        self.shared.drop_service();
        abandoned
    }

    /// After a panic of this thread nobody notices deaths or registers clients, so everyone is disconnected.
    fn end_after_a_panic(&mut self) -> usize {
        self.shared.stop.request();
        self.shared.questions.close();
        self.admission.hide();
        self.end_all(CloseReason::Died);
        let abandoned = self.shared.workers.wait(Instant::now() + LAST_MOMENT).len();
        self.release();
        abandoned
    }

    /// Ends all clients, except one whose worker's service is what ends the server.
    fn end_all(&self, reason: CloseReason) {
        for member in self.shared.members.all() {
            if !self.shared.workers.is_left_alone(member.peer.key) {
                self.shared.end(&member, reason);
            }
            failpoint!("shutdown.ended", [server], stopping);
        }
    }

    /// Lets go of everything, when all workers have ended that do so in time.
    fn release(&mut self) {
        for member in self.shared.workers.left_alone() {
            if let Some(connection) = self.connections.remove(member.connection()) {
                self.shared.workers.keep_lifeline(member.peer.key, connection.socket);
            }
        }
        self.connections.clear();
        self.admission.remove();
        self.shared.workers.join_ended();
        self.shared.drop_service();
    }
}

/// An event if the limit of open files is too low for that many clients. The limit belongs to the process, so
/// the library does not raise it; `ringpost-server` does so for itself.
fn low_descriptor_limit(clients: u32) -> Option<Event> {
    let needed = u64::from(clients) * DESCRIPTORS_PER_CLIENT + OTHER_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile).current;
    limit.is_some_and(|limit| limit < needed).then_some(Event::Limit { needed, limit })
}
