//! The thread that accepts connections, answers on the connect channel and notices deaths.
//!
//! It never waits for anyone: every socket is non-blocking, a connection that does not say what it wants is
//! dropped at its deadline, and an answer that the other side does not take is dropped with its connection.
//!
//! A registered client's connection is its lifeline. Its end, or the end of the client's process (a forked
//! child may hold the connection open), ends the client: its channel is closed, its worker woken, its name
//! freed.

#![forbid(unsafe_code)]

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::admission::spare_descriptor;
use super::answers::{Answers, not_taken};
use super::builder::Settings;
use super::error::StartError;
use super::events::{Event, Refused};
use super::member::Member;
use super::panics::contain;
use super::processes::Processes;
use super::service::Service;
use super::shared::Shared;
use super::summary::{ServerSummary, summary};
use super::worker::{End, Worker};
use super::workers::Part;
use crate::connect::{Accepted, Ask, Heard, Listener, MOST_BYTES, Refusal, Reply, is_unknown_user, listing};
use crate::os::descriptors::{CutOff, Ours, Waits};
use crate::os::remedy::on_connection;
use crate::os::threads;
use crate::registry::Registry;
use crate::ring::{CloseReason, Violation};
use crate::testing::failpoints::failpoint;
use crate::wire::Name;

/// How long a connection may take to say what it wants.
pub(crate) const GREETING_TIME: Duration = Duration::from_secs(2);

/// This thread was kept from its work if it is so late with what is due.
const HELD_UP: Duration = Duration::from_millis(200);

/// How long an observer may go on asking, and how often.
pub(crate) const OBSERVING_TIME: Duration = Duration::from_secs(10);
pub(crate) const MOST_ASKS: u32 = 4096;

/// Descriptors besides those of clients: the standard three, epoll, eventfd, socket, lock, the registry, a
/// segment on its way, spares.
const OTHER_DESCRIPTORS: u64 = 64;

/// The lifeline. A pidfd is a second one, as long as there are enough.
const DESCRIPTORS_PER_CLIENT: u64 = 1;

/// After the grace period, how long workers get to notice that their channels are closed.
const LAST_MOMENT: Duration = Duration::from_secs(1);

pub(super) const NO_DESCRIPTORS: &str = "the server has no descriptors left: wait until a client is gone, or raise the server's limit of \
     open files (ulimit -n)";

const SHUTTING_DOWN: &str = "the server is shutting down: try again when it is back";

pub(super) const LISTENER: u64 = 0;
/// Connections have even tokens from here on; a client's pidfd has its connection's token + 1.
const FIRST_CONNECTION: u64 = 2;

pub(super) struct Acceptor {
    pub(super) shared: Arc<Shared>,
    pub(super) listener: Listener,
    pub(super) epoll: Waits,
    pub(super) connections: HashMap<u64, Connection>,
    pub(super) next_token: u64,
    /// Who is to be dropped when, unless it was served meanwhile.
    pub(super) deadlines: BinaryHeap<Reverse<(Instant, u64)>>,
    pub(super) greeting: usize,
    pub(super) processes: Processes,
    pub(super) answers: Answers,
    /// The most workers that there were at once.
    pub(super) most_workers: usize,
    /// Given up to answer connections when there are no descriptors left.
    pub(super) reserve: Option<Ours>,
    /// No descriptors: leave the listener alone until then.
    pub(super) paused_until: Option<Instant>,
}

pub(super) struct Connection {
    pub(super) socket: Arc<Accepted>,
    pub(super) state: State,
}

pub(super) enum State {
    /// Has not asked yet, or observes.
    Asking {
        deadline: Instant,
        asks: u32,
    },
    Registered {
        member: Arc<Member>,
    },
}

fn system(action: &'static str) -> impl FnOnce(Errno) -> StartError {
    move |errno| StartError::System { action, source: errno.into() }
}

/// The socket's mode and group: open only as far as those who are allowed need it. Who connects is checked in
/// any case.
fn socket_access(settings: &Settings) -> (u32, Option<u32>) {
    match (settings.users.as_slice(), settings.groups.as_slice()) {
        ([], []) => (0o600, None),
        ([], [group]) => (0o660, Some(*group)),
        _ => (0o666, None),
    }
}

impl Acceptor {
    /// Everything that can fail before the first connection: when this returns, clients can connect.
    pub(super) fn prepare(
        settings: Settings,
        service: Box<dyn Service>,
    ) -> Result<(Acceptor, Arc<Shared>), StartError> {
        if let Some(cpu) = settings.pin {
            check_cpu(cpu)?;
        }
        let limit = low_descriptor_limit(settings.max_clients);
        let registry = Registry::create(settings.max_clients)?;
        let (epoll, wake) =
            Waits::new().map_err(|source| StartError::System { action: "make an epoll instance", source })?;
        let (mode, group) = socket_access(&settings);
        let listener = Listener::bind(&settings.path, mode, group)?;
        let shared = Arc::new(Shared::new(settings, registry, service, wake));
        if let Some(limit) = limit {
            shared.events.tell(limit);
        }
        let uid = rustix::process::geteuid().as_raw();
        if is_unknown_user(uid) {
            shared.events.tell(Event::UnknownUser { uid });
        }
        let acceptor = Acceptor {
            shared: Arc::clone(&shared),
            listener,
            epoll,
            connections: HashMap::new(),
            next_token: FIRST_CONNECTION,
            deadlines: BinaryHeap::new(),
            greeting: 0,
            processes: Processes::default(),
            answers: Answers::default(),
            most_workers: 0,
            reserve: spare_descriptor(),
            paused_until: None,
        };
        acceptor.watch(acceptor.listener.as_fd(), LISTENER).map_err(system("watch the socket"))?;
        Ok((acceptor, shared))
    }

    /// Until the server is shut down. Should this thread panic, which it never should, the server ends all
    /// the same, and says so.
    pub(super) fn run(mut self) -> ServerSummary {
        let shared = Arc::clone(&self.shared);
        shared.acceptor_runs();
        let served = contain(|| match self.serve() {
            Ok(abandoned) => summary(&shared, abandoned),
            Err(CutOff) => {
                shared.events.tell(Event::CutOff);
                ServerSummary { cut_off: true, ..summary(&shared, self.abandon_descriptors()) }
            }
        });
        let summary = served.unwrap_or_else(|why| {
            shared.events.tell(Event::Failed { why });
            let abandoned = contain(|| self.give_up()).unwrap_or_default();
            ServerSummary { failed: true, ..summary(&shared, abandoned) }
        });
        // The path is free and the clients are gone, should a subscriber keep this thread waiting.
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

    /// Somebody in this process has closed its descriptors. With them went the connections, by which deaths
    /// are noticed, so everyone is disconnected. What is left of the numbers may be others' by now.
    fn abandon_descriptors(&mut self) -> usize {
        self.shared.stop.request();
        for (_, connection) in self.connections.drain() {
            std::mem::forget(connection.socket);
        }
        self.processes.abandon();
        std::mem::forget(self.reserve.take());
        self.listener.abandon();
        self.end_all(CloseReason::Died);
        let abandoned = self.shared.workers.wait(Instant::now() + LAST_MOMENT).len();
        self.shared.workers.join_ended();
        self.shared.drop_service();
        abandoned
    }

    /// After a panic of this thread: nobody notices deaths or registers clients any more, so everyone is
    /// disconnected.
    fn give_up(&mut self) -> usize {
        self.shared.stop.request();
        self.listener.hide();
        self.end_all(CloseReason::Died);
        let abandoned = self.shared.workers.wait(Instant::now() + LAST_MOMENT).len();
        self.release();
        abandoned
    }

    /// Ends all clients, but for one whose worker's own service ends the server.
    fn end_all(&self, reason: CloseReason) {
        for member in self.shared.members.all() {
            if !self.shared.workers.is_left_alone(member.peer.key) {
                self.shared.end(&member, reason);
            }
            failpoint!("shutdown.ended");
        }
    }

    /// When all workers have ended that do so in time: lets go of everything.
    fn release(&mut self) {
        for member in self.shared.workers.left_alone() {
            if let Some(connection) = self.drop_connection(member.token()) {
                self.shared.workers.keep_lifeline(member.peer.key, connection.socket);
            }
        }
        self.connections.clear();
        self.listener.remove();
        self.shared.workers.join_ended();
        self.shared.drop_service();
    }

    /// What was committed is answered; then everyone is disconnected.
    fn shut_down(&mut self) -> Result<usize, CutOff> {
        self.listener.hide();
        failpoint!("shutdown.hidden");
        let _ = epoll::delete(&self.epoll, &self.listener);
        // Those who connected before that are told so, too.
        self.listener.shut();
        self.turn_all_away(Refusal::ShuttingDown, SHUTTING_DOWN);
        let asking: Vec<(u64, u32)> = self.asking().collect();
        for (token, asks) in asking {
            // One that has its answers already is an observer, and is refused nothing.
            if asks == 0 {
                self.refuse(token, Refusal::ShuttingDown, SHUTTING_DOWN);
            } else {
                self.drop_connection(token);
            }
        }
        for member in self.shared.members.all() {
            let _ = self.shared.registry.mark_leaving(member.peer.key);
            failpoint!("shutdown.leaving");
            member.intake.close_as(CloseReason::Shutdown);
            failpoint!("shutdown.intake");
        }
        // A time beyond the clock's is as good as none.
        let grace = Instant::now().checked_add(self.shared.settings.grace);
        while self.shared.workers.are_awaited() && grace.is_none_or(|end| Instant::now() < end) {
            self.turn(grace)?;
        }
        failpoint!("shutdown.served");
        self.end_all(CloseReason::Shutdown);
        let abandoned = self.shared.workers.wait(Instant::now() + LAST_MOMENT);
        for member in &abandoned {
            self.shared.events.tell(Event::Abandoned { peer: member.peer, workers: abandoned.len() });
        }
        self.release();
        Ok(abandoned.len())
    }

    /// Connections that are not registered, and how often they asked.
    fn asking(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        self.connections.iter().filter_map(|(token, connection)| match connection.state {
            State::Asking { asks, .. } => Some((*token, asks)),
            State::Registered { .. } => None,
        })
    }

    pub(super) fn watch(&self, fd: BorrowedFd<'_>, token: u64) -> rustix::io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), flags)
    }

    /// Connections that are open.
    #[cfg(fuzzing)]
    pub(super) fn connections(&self) -> usize {
        debug_assert!(self.asking().count() == self.greeting);
        self.connections.len()
    }

    /// Waits for something to happen, and deals with it.
    pub(super) fn turn(&mut self, until: Option<Instant>) -> Result<(), CutOff> {
        #[cfg(test)]
        assert!(!self.shared.is_to_fail.load(std::sync::atomic::Ordering::Relaxed), "as the test wants it");
        let own = [self.first_deadline(), self.paused_until, self.processes.due(), self.answers.due()];
        let until = [until, Some(self.listener.due())].into_iter().chain(own).flatten().min();
        let timeout = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            rustix::time::Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        for token in self.epoll.wait(timeout.as_ref())? {
            match token {
                LISTENER => self.accept_some(),
                token => self.hear(token),
            }
        }
        for member in self.shared.take_finished() {
            self.let_go(&member);
        }
        for (token, name) in self.answers.take_those_due(Instant::now()) {
            self.register(token, &name);
        }
        self.drop_overdue();
        self.end_the_dead();
        self.unpause();
        self.listener.keep_fresh(Instant::now());
        Ok(())
    }

    /// When the first connection is to be dropped. Nothing is due of those that registered or went meanwhile:
    /// they must not wake this thread when nothing else happens.
    pub(super) fn first_deadline(&mut self) -> Option<Instant> {
        while let Some(Reverse((due, token))) = self.deadlines.peek() {
            let state = self.connections.get(token).map(|connection| &connection.state);
            if matches!(state, Some(State::Asking { deadline, .. }) if deadline == due) {
                return Some(*due);
            }
            self.deadlines.pop();
        }
        None
    }

    // ---- dropping

    /// Drops a connection that asks, with an answer.
    pub(super) fn refuse(&mut self, token: u64, refusal: Refusal, why: &str) {
        if let Some(connection) = self.drop_connection(token) {
            self.turn_away(&connection.socket, refusal, why);
        }
    }

    /// Closes a connection. Its descriptors leave the epoll instance by being closed, unless a forked process
    /// holds them too, so they are taken out first.
    fn drop_connection(&mut self, token: u64) -> Option<Connection> {
        let connection = self.connections.remove(&token)?;
        let _ = epoll::delete(&self.epoll, &*connection.socket);
        self.answers.forget(token, &connection.socket);
        match &connection.state {
            State::Asking { .. } => self.end_asking(connection.socket.who().uid),
            State::Registered { .. } => self.processes.forget(&self.epoll, token),
        }
        Some(connection)
    }

    /// A connection of this user has registered, or is about to be closed.
    pub(super) fn end_asking(&mut self, uid: u32) {
        self.greeting -= 1;
        self.shared.ledger.end_asking(uid);
    }

    fn drop_overdue(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((due, token))) = self.deadlines.peek().copied() {
            if due > now {
                break;
            }
            self.deadlines.pop();
            match self.overdue(token, now) {
                // It may have asked meanwhile, and more others than are heard in one turn.
                Some(0) => {
                    self.hear(token);
                    if self.overdue(token, now) == Some(0) {
                        self.drop_silent(token, now - due);
                    }
                }
                // An observer whose time is over.
                Some(_) => {
                    self.drop_connection(token);
                }
                None => {}
            }
        }
    }

    /// How often a connection has asked whose time is over.
    fn overdue(&self, token: u64, now: Instant) -> Option<u32> {
        match self.connections.get(&token)?.state {
            State::Asking { deadline, asks } if deadline <= now => Some(asks),
            _ => None,
        }
    }

    /// A connection that has asked for nothing. If this thread comes so late, the whole computer may have
    /// stood still; then that says nothing about the other side, which gets its time anew.
    fn drop_silent(&mut self, token: u64, late: Duration) {
        if late > HELD_UP
            && let Some(Connection { state: State::Asking { deadline, .. }, .. }) =
                self.connections.get_mut(&token)
        {
            *deadline = Instant::now() + GREETING_TIME;
            self.deadlines.push(Reverse((*deadline, token)));
            return;
        }
        let Some(who) = self.connections.get(&token).map(|connection| connection.socket.who()) else {
            return;
        };
        let (reason, message, refusal, why) = if self.answers.is_put_off(token) {
            let message = "a registration of a user who does not read the answers to earlier ones";
            ("answers", message, Refusal::Busy, not_taken(who.uid))
        } else {
            let why = "nothing was asked in time: connect again".to_owned();
            ("silent", "a connection that asked for nothing in time", Refusal::Unknown, why)
        };
        self.shared.events.tell(Event::Refused(Refused::new(reason, message).of(who)));
        self.refuse(token, refusal, &why);
    }

    /// Ends the clients whose processes are found dead although their connections are open.
    fn end_the_dead(&mut self) {
        let Acceptor { processes, connections, .. } = self;
        let peer = |token| {
            connections.get(&token).map(|connection| (&*connection.socket, connection.socket.who().pid))
        };
        for token in processes.find_dead(Instant::now(), peer) {
            self.client_died(token);
        }
    }

    // ---- hearing

    pub(super) fn hear(&mut self, token: u64) {
        if token % 2 == 1 {
            // A pidfd: the process ended.
            return self.client_died(token - 1);
        }
        let mut datagram = [0; MOST_BYTES];
        let Some(connection) = self.connections.get(&token) else { return };
        let heard = connection.socket.hear(&mut datagram);
        let registered = matches!(connection.state, State::Registered { .. });
        match heard {
            Heard::Nothing => {}
            Heard::End if registered => self.client_died(token),
            Heard::End => {
                self.drop_connection(token);
            }
            Heard::Failed(errno) => self.cannot_hear(token, registered, errno),
            _ if registered => self.client_babbles(token),
            Heard::Descriptors => {
                let refused =
                    Refused::new("request", "a request with descriptors").of(connection.socket.who());
                self.shared.events.tell(Event::Refused(refused));
                self.refuse(token, Refusal::NotRingpost, "descriptors came with the request: send none");
            }
            Heard::Datagram(_) if self.answers.is_put_off(token) => {
                self.refuse(
                    token,
                    Refusal::Unknown,
                    "more was said before the answer: ask one thing at a time",
                );
            }
            Heard::Datagram(whole) => match datagram.get(..whole) {
                Some(datagram) => {
                    let ask = Ask::decode(datagram);
                    self.answer(token, ask);
                }
                None => self.refuse(token, Refusal::NotRingpost, "not a ringpost request"),
            },
        }
    }

    /// This process's own system call failed. A client stays, for its end alone is of interest, and that is
    /// told without receiving. Whoever asks is told that it cannot be heard.
    fn cannot_hear(&mut self, token: u64, registered: bool, errno: Errno) {
        let Some(connection) = self.connections.get(&token) else { return };
        let mut refused = Refused::new("receive", "cannot receive what a connection says");
        refused.error = Some(format!("{errno}{}", on_connection(&errno.into())));
        self.shared.events.tell(Event::Refused(refused.of(connection.socket.who())));
        if registered {
            // What lies there would wake this thread again and again.
            let data = epoll::EventData::new_u64(token);
            let _ = epoll::modify(&self.epoll, &*connection.socket, data, epoll::EventFlags::RDHUP);
        } else {
            self.refuse(
                token,
                Refusal::NoResources,
                "the server could not receive the request: try again later",
            );
        }
    }

    pub(super) fn client_died(&mut self, token: u64) {
        let Some(Connection { state: State::Registered { member, .. }, .. }) = self.drop_connection(token)
        else {
            return;
        };
        failpoint!("death.unwatched");
        if self.shared.end(&member, CloseReason::Died) {
            failpoint!("death.ended");
            self.shared.events.tell(Event::Death { peer: member.peer });
        }
    }

    fn client_babbles(&mut self, token: u64) {
        let Some(Connection { state: State::Registered { member, .. }, .. }) = self.drop_connection(token)
        else {
            return;
        };
        self.shared.end_for(&member, Violation::Babble);
    }

    /// A worker ended: nobody needs the client's connection any more.
    fn let_go(&mut self, member: &Arc<Member>) {
        self.drop_connection(member.token());
        failpoint!("acceptor.let_go");
    }

    // ---- answering

    fn answer(&mut self, token: u64, ask: Result<Ask, crate::connect::AskError>) {
        match ask {
            Ok(Ask::Register(name)) => self.register(token, &name),
            Ok(Ask::List { from_slot }) => {
                let most = listing::clients_per_page(MOST_BYTES - 64);
                match self.shared.registry.list(from_slot, most) {
                    Ok((clients, next)) => self.tell(token, &listing::encode_page(&clients, next)),
                    Err(error) => self.refuse(token, Refusal::NoResources, &error.to_string()),
                }
            }
            Ok(Ask::Server) => {
                let description = self.shared.info().encode();
                self.tell(token, &description);
            }
            Err(error) => {
                let mut refused = Refused::new("request", "a request that is not understood");
                refused.who = self.connections.get(&token).map(|connection| connection.socket.who());
                refused.error = Some(error.to_string());
                self.shared.events.tell(Event::Refused(refused));
                self.refuse(token, error.refusal(), &error.to_string());
            }
        }
    }

    /// Answers an observer, who may go on asking for a while.
    fn tell(&mut self, token: u64, body: &[u8]) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let State::Asking { deadline, asks } = &mut connection.state else { return };
        if *asks == 0 {
            *deadline = Instant::now() + OBSERVING_TIME;
            self.deadlines.push(Reverse((*deadline, token)));
        }
        *asks += 1;
        let sent = connection.socket.send(&Reply::done(body));
        if sent.is_err() || *asks >= MOST_ASKS {
            self.drop_connection(token);
        }
    }
}

pub(super) fn start_worker(worker: Worker) -> io::Result<()> {
    let shared = Arc::clone(&worker.shared);
    let member = Arc::clone(&worker.member);
    shared.workers.begins(&member);
    let started = threads::spawn(&thread_name(&worker.member.peer.name), move || {
        let departure = Departure { shared: Arc::clone(&worker.shared), member: Arc::clone(&worker.member) };
        departure.shared.workers.enter(Part::Worker(departure.member.peer.key));
        // Behind it, and so dropped before it: the channel's memory goes before the server may say that
        // everything is gone.
        let mut worker = worker;
        if let Some(cpu) = worker.shared.settings.pin {
            let _ = pin_to(cpu);
        }
        let (end, totals) = worker.run();
        let service = Arc::clone(&worker.service);
        drop(worker);
        conclude(&departure.shared, Arc::clone(&departure.member), end);
        departure.shared.sums.add(&totals);
        let _ = contain(|| service.left(&departure.member.peer));
        let _ = contain(|| drop(service));
        if matches!(end, End::Closed(CloseReason::Shutdown)) {
            // Again, because the service may have joined the server meanwhile, which then does not wait for
            // this worker.
            conclude(&departure.shared, Arc::clone(&departure.member), end);
        }
    });
    match started {
        Ok(thread) => shared.workers.has_begun(member.peer.key, thread),
        Err(error) => {
            shared.worker_ends(&member);
            return Err(error);
        }
    }
    Ok(())
}

/// The end of a worker's thread, even by a panic outside of a service, which would be a fault of this
/// library: nobody waits for it in vain.
struct Departure {
    shared: Arc<Shared>,
    member: Arc<Member>,
}

impl Drop for Departure {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.end(&self.member, CloseReason::Died);
            self.shared.finish(Arc::clone(&self.member));
        }
        self.shared.worker_ends(&self.member);
    }
}

/// What follows from the way in which a worker ended.
fn conclude(shared: &Shared, member: Arc<Member>, end: End) {
    match end {
        End::Unregistered => {
            shared.end(&member, CloseReason::Unregistered);
            shared.events.tell(Event::Unregister { peer: member.peer });
        }
        End::Violation(violation) => shared.end_for(&member, violation),
        End::Closed(CloseReason::ProtocolViolation) => {
            if shared.end(&member, CloseReason::ProtocolViolation) {
                shared.log_violation(&member, &"its inbox ring is broken");
            }
        }
        // The acceptor ends it when all are done, so that messages still reach it until then. If it is not
        // waited for, the acceptor may be gone.
        End::Closed(CloseReason::Shutdown) if shared.workers.is_left_alone(member.peer.key) => {
            shared.end(&member, CloseReason::Shutdown);
        }
        End::Closed(CloseReason::Shutdown) => return,
        End::Closed(reason) => {
            shared.end(&member, reason);
        }
    }
    failpoint!("worker.concluded");
    shared.finish(member);
    failpoint!("worker.finished");
}

/// Thread names have at most 15 bytes.
fn thread_name(name: &Name) -> String {
    let text = format!("rp-{}", name.as_str());
    let cut = (0..=text.len().min(15)).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text[..cut].to_owned()
}

fn pin_to(cpu: usize) -> rustix::io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set)
}

/// Whether this process may run there, found out by a thread that tries.
fn check_cpu(cpu: usize) -> Result<(), StartError> {
    let refused = |source: io::Error| StartError::Pin { cpu, source };
    if cpu >= CpuSet::MAX_CPU {
        return Err(refused(io::ErrorKind::InvalidInput.into()));
    }
    let thread = threads::spawn("rp-pin", move || pin_to(cpu))
        .map_err(|source| StartError::System { action: "start a thread", source })?;
    match thread.join() {
        Ok(Ok(())) => Ok(()),
        Ok(Err(errno)) => Err(refused(errno.into())),
        Err(_) => Err(refused(io::ErrorKind::Other.into())),
    }
}

/// An event if the limit is too low for that many clients. It is the process's, and not ours to raise:
/// `ringpost-server` does that for itself.
fn low_descriptor_limit(clients: u32) -> Option<Event> {
    let needed = u64::from(clients) * DESCRIPTORS_PER_CLIENT + OTHER_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile).current;
    limit.is_some_and(|limit| limit < needed).then_some(Event::Limit { needed, limit })
}
