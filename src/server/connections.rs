//! The open connections: which are registered, when the others must be closed, and what the kernel watches.

#![forbid(unsafe_code)]

use rustix::event::epoll;
use rustix::io::Errno;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::admission::turn_away;
use super::member::Member;
use super::processes::Processes;
use super::quotas::AskingShare;
use super::shared::Shared;
use super::unread_answers::UnreadAnswers;
use crate::connect::{Accepted, Ask, MOST_BYTES, Refusal, Reply};
use crate::os::descriptors::{CutOff, Waits};
use crate::testing::failpoints::failpoint;

/// How long a connection may take to ask for something.
pub(crate) const GREETING_TIME: Duration = Duration::from_secs(2);

/// How long an observer may go on asking, and how often.
pub(crate) const OBSERVING_TIME: Duration = Duration::from_secs(10);
pub(crate) const MOST_ASKS: u32 = 4096;

/// The longest body of a page.
pub(super) const MOST_BODY: usize = MOST_BYTES - 64;

/// A connection's number. It is never used again.
pub(super) type ConnectionId = u64;

/// What an event is about. Its token in the epoll instance is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Listener,
    Connection(ConnectionId),
    /// The process at the other end of a registered connection ended.
    Process(ConnectionId),
}

impl Source {
    fn of(token: u64) -> Source {
        match (token / 2, token % 2) {
            (0, _) => Source::Listener,
            (id, 0) => Source::Connection(id),
            (id, _) => Source::Process(id),
        }
    }

    pub(super) fn data(self) -> epoll::EventData {
        epoll::EventData::new_u64(match self {
            Source::Listener => 0,
            Source::Connection(id) => 2 * id,
            Source::Process(id) => 2 * id + 1,
        })
    }
}

pub(super) struct Connection {
    pub(super) socket: Arc<Accepted>,
    pub(super) state: State,
}

pub(super) enum State {
    /// It has not registered: it has not asked yet, waits for its registration, or observes.
    Asking(Asking),
    /// The lifeline of a client.
    Registered(Arc<Member>),
}

pub(super) struct Asking {
    /// When it is closed.
    deadline: Instant,
    /// How many questions were answered.
    pub(super) asks: u32,
    /// A request that waits until earlier answers were read.
    pub(super) put_off: Option<Box<Ask>>,
    /// A command of its is being carried out.
    pub(super) commands: bool,
    /// What it takes of its user's quota of connections.
    _share: AskingShare,
}

pub(super) struct Connections {
    waits: Waits,
    open: HashMap<ConnectionId, Connection>,
    last_id: ConnectionId,
    /// How many are asking.
    asking: usize,
    /// When connections that ask must be closed. An entry may be out of date: the connection has registered,
    /// is gone or has another deadline.
    deadlines: BinaryHeap<Reverse<(Instant, ConnectionId)>>,
    processes: Processes,
    pub(super) unread: UnreadAnswers,
}

impl Connections {
    pub(super) fn new(waits: Waits) -> Connections {
        Connections {
            waits,
            open: HashMap::new(),
            last_id: 0,
            asking: 0,
            deadlines: BinaryHeap::new(),
            processes: Processes::default(),
            unread: UnreadAnswers::default(),
        }
    }

    // ---- waiting

    /// Waits until something happens or `until` has come.
    pub(super) fn wait(
        &self,
        until: Option<Instant>,
    ) -> Result<impl Iterator<Item = Source> + use<>, CutOff> {
        let timeout = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            rustix::time::Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        Ok(self.waits.wait(timeout.as_ref())?.into_iter().map(Source::of))
    }

    pub(super) fn watch(&self, fd: impl AsFd, source: Source) -> rustix::io::Result<()> {
        epoll::add(&self.waits, fd, source.data(), epoll::EventFlags::IN | epoll::EventFlags::RDHUP)
    }

    pub(super) fn unwatch(&self, fd: impl AsFd) {
        let _ = epoll::delete(&self.waits, fd);
    }

    /// From now on only the end of this connection is an event, not what it says.
    pub(super) fn watch_the_end_only(&self, id: ConnectionId) {
        if let Some(connection) = self.open.get(&id) {
            let data = Source::Connection(id).data();
            let _ = epoll::modify(&self.waits, &*connection.socket, data, epoll::EventFlags::RDHUP);
        }
    }

    // ---- the table

    /// Adds a connection that was just accepted. Gives it back if the kernel cannot watch it.
    pub(super) fn add(&mut self, mut socket: Accepted, share: AskingShare) -> Result<ConnectionId, Accepted> {
        self.processes.make_room(&self.waits, &mut socket);
        let id = self.last_id + 1;
        if self.watch(&socket, Source::Connection(id)).is_err() {
            return Err(socket);
        }
        failpoint!("accept.watched", [server], seldom);
        self.last_id = id;
        self.asking += 1;
        let deadline = Instant::now() + GREETING_TIME;
        self.deadlines.push(Reverse((deadline, id)));
        let asking = Asking { deadline, asks: 0, put_off: None, commands: false, _share: share };
        self.open.insert(id, Connection { socket: Arc::new(socket), state: State::Asking(asking) });
        Ok(id)
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.open.get(&id)
    }

    /// The state of a connection that has not registered.
    pub(super) fn asking_mut(&mut self, id: ConnectionId) -> Option<&mut Asking> {
        match &mut self.open.get_mut(&id)?.state {
            State::Asking(asking) => Some(asking),
            State::Registered(_) => None,
        }
    }

    /// How many connections have not registered.
    pub(super) fn asking(&self) -> usize {
        self.asking
    }

    /// Connections that have not registered and do not wait for a command, and how often they asked.
    pub(super) fn all_asking(&self) -> Vec<(ConnectionId, u32)> {
        let asks = |(id, connection): (&ConnectionId, &Connection)| match &connection.state {
            State::Asking(asking) => (!asking.commands).then_some((*id, asking.asks)),
            State::Registered(_) => None,
        };
        self.open.iter().filter_map(asks).collect()
    }

    /// Makes a connection the lifeline of a client, and watches the client's process.
    pub(super) fn register(&mut self, id: ConnectionId, member: &Arc<Member>) {
        let Some(connection) = self.open.get_mut(&id) else { return };
        self.processes.watch(&self.waits, &connection.socket, id);
        failpoint!("register.watched", [server], seldom);
        connection.state = State::Registered(Arc::clone(member));
        self.asking -= 1;
    }

    /// Takes a connection out, to be closed. A forked process may hold it open, so the kernel is told to stop
    /// watching it.
    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        let connection = self.open.remove(&id)?;
        self.unwatch(&*connection.socket);
        self.unread.closing(&connection.socket);
        match &connection.state {
            State::Asking(_) => self.asking -= 1,
            State::Registered(_) => self.processes.forget(&self.waits, id),
        }
        Some(connection)
    }

    /// Closes a connection that asks, with an answer.
    pub(super) fn refuse(&mut self, shared: &Shared, id: ConnectionId, refusal: Refusal, why: &str) {
        if let Some(connection) = self.remove(id) {
            turn_away(shared, &connection.socket, refusal, why);
        }
    }

    /// Closes all.
    pub(super) fn clear(&mut self) {
        self.open.clear();
    }

    /// Forgets all without closing them: their numbers may be others' by now.
    pub(super) fn abandon(&mut self) {
        self.open.drain().for_each(|(_, connection)| std::mem::forget(connection.socket));
        self.processes.abandon();
    }

    /// Answers a connection that may go on asking for a while, with descriptors. If that fails, nothing was
    /// sent.
    pub(super) fn answer(
        &mut self,
        id: ConnectionId,
        body: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> rustix::io::Result<()> {
        let Some(asking) = self.asking_mut(id) else { return Err(Errno::PIPE) };
        asking.asks += 1;
        let asks = asking.asks;
        if asks == 1 {
            self.set_deadline(id, Instant::now() + OBSERVING_TIME);
        }
        let Some(socket) = self.get(id).map(|connection| Arc::clone(&connection.socket)) else {
            return Err(Errno::PIPE);
        };
        let datagram = Reply::done(body);
        if descriptors.is_empty() {
            socket.send(&datagram)?;
        } else {
            socket.send_with(&datagram, descriptors)?;
            self.unread.sent(&socket, descriptors.len());
        }
        if asks >= MOST_ASKS {
            self.remove(id);
        }
        Ok(())
    }

    // ---- deadlines

    /// When the first connection must be closed. Entries of those that have registered or are gone are
    /// dropped here: they must not wake this thread when nothing else happens.
    pub(super) fn first_deadline(&mut self) -> Option<Instant> {
        while let Some(Reverse((due, id))) = self.deadlines.peek().copied() {
            if self.has_deadline(id, due) {
                return Some(due);
            }
            self.deadlines.pop();
        }
        None
    }

    /// The next connection whose deadline is over, with that deadline. Each deadline comes once.
    pub(super) fn next_overdue(&mut self, now: Instant) -> Option<(ConnectionId, Instant)> {
        let due = self.first_deadline().filter(|due| *due <= now)?;
        self.deadlines.pop().map(|Reverse((_, id))| (id, due))
    }

    /// Whether a connection has not registered and must be closed at that time.
    pub(super) fn has_deadline(&self, id: ConnectionId, deadline: Instant) -> bool {
        matches!(self.open.get(&id), Some(Connection { state: State::Asking(asking), .. }) if asking.deadline == deadline)
    }

    pub(super) fn set_deadline(&mut self, id: ConnectionId, deadline: Instant) {
        if let Some(asking) = self.asking_mut(id) {
            asking.deadline = deadline;
            self.deadlines.push(Reverse((deadline, id)));
        }
    }

    // ---- processes

    /// When [`find_dead`](Self::find_dead) has something to do.
    pub(super) fn processes_due(&self) -> Option<Instant> {
        self.processes.due()
    }

    /// Clients whose processes are found dead although their connections are open, if it is time to look.
    pub(super) fn find_dead(&mut self, now: Instant) -> Vec<ConnectionId> {
        let open = &self.open;
        self.processes.find_dead(now, |id| open.get(&id).map(|connection| &*connection.socket))
    }

    /// A descriptor of the process of a client, if it is watched.
    pub(super) fn pidfd(&self, id: ConnectionId) -> Option<OwnedFd> {
        self.processes.pidfd(id)
    }

    /// Frees a descriptor by giving up watching a process. False if none is watched.
    pub(super) fn free_a_descriptor(&mut self) -> bool {
        self.processes.give_up_one(&self.waits)
    }

    /// How many connections are open.
    #[cfg(fuzzing)]
    pub(super) fn len(&self) -> usize {
        debug_assert!(self.all_asking().len() <= self.asking);
        self.open.len()
    }
}
