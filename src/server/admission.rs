//! Decides whom the server lets in: accepts connections, asks the kernel who they are, or turns them away.

#![forbid(unsafe_code)]

use rustix::event::EventfdFlags;
use rustix::io::Errno;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::connections::{ConnectionId, Connections, Source};
use super::events::{Event, Refused};
use super::processes::is_lack_of_descriptors;
use super::quotas::{AskingShare, Over};
use super::shared::Shared;
use crate::connect::{
    Accepted, Listener, Refusal, Reply, cannot_be_allowed, is_root, is_unknown_user, peer_in_groups,
    same_user,
};
use crate::os::descriptors::Ours;
use crate::os::remedy::on_connection;
use crate::testing::failpoints::failpoint;

/// Most connections that have not registered.
pub(crate) const MOST_GREETING: usize = 1024;

/// Connections accepted before other events are dealt with.
pub(super) const ACCEPTS_AT_ONCE: usize = 64;

/// How long to leave waiting connections alone when there are no descriptors for them.
const PAUSE_WITHOUT_DESCRIPTORS: Duration = Duration::from_millis(50);

pub(super) const NO_DESCRIPTORS: &str = "the server has no descriptors left: wait until a client is gone, or raise the server's limit of \
     open files (ulimit -n)";

/// The listening socket, and whether it is listened to.
pub(super) struct Admission {
    shared: Arc<Shared>,
    listener: Listener,
    /// Closed when there are no descriptors left, so that waiting connections can be answered one by one.
    reserve: Option<Ours>,
    /// There were no descriptors: do not accept until then.
    paused_until: Option<Instant>,
}

impl Admission {
    pub(super) fn new(shared: Arc<Shared>, listener: Listener) -> Admission {
        Admission { shared, listener, reserve: spare_descriptor(), paused_until: None }
    }

    /// Begins to watch the listening socket.
    pub(super) fn open(&self, connections: &Connections) -> rustix::io::Result<()> {
        connections.watch(&self.listener, Source::Listener)
    }

    /// Accepts the next connection, and adds it to `connections` if it is let in.
    pub(super) fn accept(&mut self, connections: &mut Connections) -> Next {
        match self.listener.accept() {
            Ok(socket) => self.admit(connections, socket).map_or(Next::NotAdmitted, Next::Admitted),
            Err(Errno::AGAIN) => Next::Nothing,
            Err(Errno::INTR | Errno::CONNABORTED) => Next::NotAdmitted,
            Err(errno) if is_lack_of_descriptors(errno) && connections.free_a_descriptor() => {
                Next::NotAdmitted
            }
            Err(errno) => {
                self.cannot_accept(connections, errno);
                Next::Nothing
            }
        }
    }

    /// The next connection cannot be accepted, usually for want of a descriptor. Those that wait are told so,
    /// one after the other, with the descriptor of the reserve. If that does not help, they are left alone
    /// for a while, because they would keep this thread awake.
    fn cannot_accept(&mut self, connections: &Connections, errno: Errno) {
        let (reason, what, refusal) = if is_lack_of_descriptors(errno) {
            let what = "cannot accept a connection: raise the limit of open files (ulimit -n) or lower the number of clients";
            ("descriptors", what, NO_DESCRIPTORS)
        } else {
            let refusal = "the server could not accept a connection: try again later";
            ("accept", "cannot accept a connection", refusal)
        };
        let mut refused = Refused::new(reason, what);
        refused.error = Some(format!("{errno}{}", on_connection(&errno.into())));
        self.shared.events.tell(Event::Refused(refused));
        self.reserve = None;
        for _ in 0..ACCEPTS_AT_ONCE {
            match self.listener.accept() {
                Ok(socket) => turn_away(&self.shared, &socket, Refusal::NoResources, refusal),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => {
                    self.reserve = spare_descriptor();
                    return;
                }
                Err(_) => break,
            }
        }
        self.reserve = spare_descriptor();
        connections.unwatch(&self.listener);
        self.paused_until = Some(Instant::now() + PAUSE_WITHOUT_DESCRIPTORS);
    }

    /// When [`look_after`](Self::look_after) has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        [self.paused_until, self.listener.due()].into_iter().flatten().min()
    }

    /// Accepts again after a pause, and keeps the socket's files fresh.
    pub(super) fn look_after(&mut self, connections: &Connections) {
        if self.paused_until.is_some_and(|until| Instant::now() >= until) {
            self.paused_until = None;
            self.reserve = self.reserve.take().or_else(spare_descriptor);
            if !self.shared.is_stopping() {
                let _ = self.open(connections);
            }
        }
        self.listener.keep_fresh(Instant::now());
    }

    // ---- who is let in

    /// Adds a connection to `connections`, or turns it away.
    fn admit(&self, connections: &mut Connections, socket: Accepted) -> Option<ConnectionId> {
        failpoint!("accept.connection", [server], seldom);
        let (socket, refusal, why) = match self.check(connections, &socket) {
            Ok(share) => match connections.add(socket, share) {
                Ok(id) => return Some(id),
                Err(socket) => {
                    let why = "the server cannot watch another connection: try again later";
                    (socket, Refusal::NoResources, why.to_owned())
                }
            },
            Err((refusal, why)) => (socket, refusal, why),
        };
        turn_away(&self.shared, &socket, refusal, &why);
        None
    }

    /// Whether a connection is allowed, and whether there is room for it.
    fn check(&self, connections: &Connections, socket: &Accepted) -> Result<AskingShare, (Refusal, String)> {
        let who = socket.who();
        let tell = |refused: Refused| self.shared.events.tell(Event::Refused(refused.of(who)));
        let allowed = self.is_allowed(socket).map_err(|error| {
            let mut refused = Refused::new("groups", "cannot find out the groups of a user");
            refused.error = Some(error.to_string());
            tell(refused);
            let text = format!(
                "the server cannot find out whether user {} is in a group that is allowed: {}",
                who.uid,
                ask_for(who.uid)
            );
            (Refusal::NoResources, text)
        })?;
        if !allowed {
            tell(Refused::new("user", "a connection of a user who is not allowed"));
            let text = if is_unknown_user(who.uid) {
                format!("user {} is not allowed to connect; {}", who.uid, cannot_be_allowed(who.uid))
            } else {
                format!("user {} is not allowed to connect: {}", who.uid, ask_for(who.uid))
            };
            return Err((Refusal::NotAllowed, text));
        }
        if connections.asking() >= MOST_GREETING {
            return Err((Refusal::Busy, "too many connections at once: try again later".to_owned()));
        }
        let closing = self.listener.closing_of(who.uid);
        let share = self.shared.ledger.begin_asking(who.uid, closing, MOST_GREETING as u32);
        share.map_err(|Over { refusal, why }| {
            tell(Refused::new("quota", "a connection beyond what its user may have"));
            (refusal, why)
        })
    }

    fn is_allowed(&self, socket: &Accepted) -> io::Result<bool> {
        let who = socket.who();
        let access = self.shared.access.get();
        let own = rustix::process::geteuid().as_raw();
        let is_listed = access.users.iter().any(|user| same_user(who.uid, *user));
        if same_user(who.uid, own) || is_root(who.uid) || is_listed {
            return Ok(true);
        }
        peer_in_groups(socket, who.gid, &access.groups)
    }

    // ---- the end

    /// Removes the socket from its path: nobody can find it any more.
    pub(super) fn hide(&self) {
        self.listener.hide();
    }

    /// Takes no more connections. Those that wait are refused, as long as there is a descriptor for each; on
    /// a socket that was given, they wait for the next server.
    pub(super) fn shut(&self, connections: &Connections, refusal: Refusal, why: &str) {
        connections.unwatch(&self.listener);
        if !self.listener.shut() {
            return;
        }
        // This ends, because the listener is shut.
        loop {
            match self.listener.accept() {
                Ok(socket) => turn_away(&self.shared, &socket, refusal, why),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(_) => return,
            }
        }
    }

    /// Removes the socket and its lock.
    pub(super) fn remove(&mut self) {
        self.listener.remove();
    }

    /// Forgets the descriptors without closing them: their numbers may be others' by now.
    pub(super) fn abandon(&mut self) {
        std::mem::forget(self.reserve.take());
        self.listener.abandon();
    }
}

/// What came of a look for the next connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Admitted(ConnectionId),
    /// Look again: a connection was turned away or has gone, or a descriptor was freed for it.
    NotAdmitted,
    /// No more for now.
    Nothing,
}

/// Tells a connection why it is closed, and counts it as refused.
pub(super) fn turn_away(shared: &Shared, socket: &Accepted, refusal: Refusal, why: &str) {
    shared.sums.refused.fetch_add(1, Ordering::Relaxed);
    // A request that is left unread would reach the other side as a reset, ahead of the answer.
    let _ = socket.hear(&mut [0; 1]);
    let _ = socket.send(&Reply::refused(refusal, why));
}

/// What a user who is not let in can do.
fn ask_for(uid: u32) -> String {
    format!("ask the server's owner to allow it (allow_user, --allow-user {uid})")
}

/// A descriptor that is only kept so that another can take its place.
fn spare_descriptor() -> Option<Ours> {
    rustix::event::eventfd(0, EventfdFlags::CLOEXEC).ok().map(Ours::new)
}
