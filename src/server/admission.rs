//! Whom the server lets in: it takes connections from the listener, asks the kernel who they are, and turns
//! away those that are not allowed or for whom there is no room.

#![forbid(unsafe_code)]

use rustix::event::EventfdFlags;
use rustix::event::epoll;
use rustix::io::Errno;
use std::cmp::Reverse;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::acceptor::{Acceptor, Connection, GREETING_TIME, LISTENER, NO_DESCRIPTORS, State};
use super::builder::Settings;
use super::events::{Event, Refused};
use super::processes::is_lack_of_descriptors;
use super::quotas::Over;
use crate::connect::{
    Accepted, Refusal, Reply, cannot_be_allowed, is_root, is_unknown_user, peer_in_groups, same_user,
};
use crate::os::descriptors::Ours;
use crate::os::remedy::on_connection;
use crate::testing::failpoints::failpoint;

/// Connections that have not said yet what they want, at the most.
pub(crate) const MOST_GREETING: usize = 1024;

/// Connections accepted before other events get their turn.
const ACCEPTS_AT_ONCE: usize = 64;

/// How long to leave waiting connections alone when there are no descriptors for them.
const PAUSE_WITHOUT_DESCRIPTORS: Duration = Duration::from_millis(50);

impl Acceptor {
    pub(super) fn accept_some(&mut self) {
        for _ in 0..ACCEPTS_AT_ONCE {
            match self.listener.accept() {
                Ok(socket) => self.admit(socket),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(errno) if is_lack_of_descriptors(errno) && self.processes.give_up_one(&self.epoll) => {}
                Err(errno) => return self.no_descriptors(errno),
            }
        }
    }

    /// Turns away those who wait to be accepted, as long as there is a descriptor for each. Bounded, for the
    /// listener is shut.
    pub(super) fn turn_all_away(&self, refusal: Refusal, why: &str) {
        loop {
            match self.listener.accept() {
                Ok(socket) => self.turn_away(&socket, refusal, why),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(_) => return,
            }
        }
    }

    /// There is no descriptor for the next connection. Those that wait are told so, one after the other, by
    /// means of the reserve. Where that does not help, they are left alone for a while, since their
    /// presence would keep this thread awake.
    fn no_descriptors(&mut self, errno: Errno) {
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
                Ok(socket) => self.turn_away(&socket, Refusal::NoResources, refusal),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => {
                    self.reserve = spare_descriptor();
                    return;
                }
                Err(_) => break,
            }
        }
        self.reserve = spare_descriptor();
        let _ = epoll::delete(&self.epoll, &self.listener);
        self.paused_until = Some(Instant::now() + PAUSE_WITHOUT_DESCRIPTORS);
    }

    pub(super) fn unpause(&mut self) {
        if self.paused_until.is_some_and(|until| Instant::now() >= until) {
            self.paused_until = None;
            self.reserve = self.reserve.take().or_else(spare_descriptor);
            if !self.shared.is_stopping() {
                let _ = self.watch(self.listener.as_fd(), LISTENER);
            }
        }
    }

    fn admit(&mut self, mut socket: Accepted) {
        failpoint!("accept.connection");
        let who = socket.who();
        let allowed = match self.is_allowed(&socket) {
            Ok(allowed) => allowed,
            Err(error) => {
                let mut refused = Refused::new("groups", "cannot find out the groups of a user").of(who);
                refused.error = Some(error.to_string());
                self.shared.events.tell(Event::Refused(refused));
                let text = format!(
                    "the server cannot find out whether user {} is in a group that is allowed: {}",
                    who.uid,
                    ask_for(who.uid)
                );
                return self.turn_away(&socket, Refusal::NoResources, &text);
            }
        };
        if !allowed {
            let refused = Refused::new("user", "a connection of a user who is not allowed").of(who);
            self.shared.events.tell(Event::Refused(refused));
            let text = if is_unknown_user(who.uid) {
                format!("user {} is not allowed to connect, and {}", who.uid, cannot_be_allowed(who.uid))
            } else {
                format!("user {} is not allowed to connect: {}", who.uid, ask_for(who.uid))
            };
            return self.turn_away(&socket, Refusal::NotAllowed, &text);
        }
        if self.greeting >= MOST_GREETING {
            return self.turn_away(&socket, Refusal::Busy, "too many connections at once: try again later");
        }
        let closing = self.listener.closing_of(who.uid);
        if let Err(Over { refusal, why }) =
            self.shared.ledger.begin_asking(who.uid, closing, MOST_GREETING as u32)
        {
            let refused = Refused::new("quota", "a connection beyond what its user may have").of(who);
            self.shared.events.tell(Event::Refused(refused));
            return self.turn_away(&socket, refusal, &why);
        }
        self.processes.make_room(&self.epoll, &mut socket);
        let token = self.next_token;
        if self.watch(socket.as_fd(), token).is_err() {
            self.shared.ledger.end_asking(who.uid);
            return self.turn_away(
                &socket,
                Refusal::NoResources,
                "the server cannot watch another connection: try again later",
            );
        }
        failpoint!("accept.watched");
        self.next_token += 2;
        self.greeting += 1;
        let deadline = Instant::now() + GREETING_TIME;
        self.deadlines.push(Reverse((deadline, token)));
        let state = State::Asking { deadline, asks: 0 };
        self.connections.insert(token, Connection { socket: Arc::new(socket), state });
        // What it wants is often there already.
        self.hear(token);
    }

    fn is_allowed(&self, socket: &Accepted) -> io::Result<bool> {
        let who = socket.who();
        let Settings { users, groups, .. } = &self.shared.settings;
        let own = rustix::process::geteuid().as_raw();
        let is_listed = users.iter().any(|user| same_user(who.uid, *user));
        if same_user(who.uid, own) || is_root(who.uid) || is_listed {
            return Ok(true);
        }
        peer_in_groups(socket, who.gid, groups)
    }

    pub(super) fn turn_away(&self, socket: &Accepted, refusal: Refusal, why: &str) {
        self.shared.sums.refused.fetch_add(1, Ordering::Relaxed);
        // A request that is left unread would reach the other side as a reset, ahead of the answer.
        let _ = socket.hear(&mut [0; 1]);
        let _ = socket.send(&Reply::refused(refusal, why));
    }
}

/// What a user needs that the server does not let in.
fn ask_for(uid: u32) -> String {
    format!("ask the server's owner to allow it (ServerBuilder::allow_user, --allow-user {uid})")
}

/// Any descriptor will do: it only keeps a place.
pub(super) fn spare_descriptor() -> Option<Ours> {
    rustix::event::eventfd(0, EventfdFlags::CLOEXEC).ok().map(Ours::new)
}
