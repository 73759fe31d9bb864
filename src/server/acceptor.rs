//! The server's event loop: waits for connections, requests and deaths, and has each dealt with.
//!
//! It never waits for anyone: every socket is non-blocking, a connection that does not ask for anything is
//! closed at its deadline, and a connection that does not take an answer is closed.

#![forbid(unsafe_code)]

use rustix::io::Errno;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::admission::{ACCEPTS_AT_ONCE, Admission, Next};
use super::broker::Broker;
use super::connections::{Connection, ConnectionId, Connections, GREETING_TIME, MOST_BODY, Source, State};
use super::control::Control;
use super::departure::{client_babbled, client_died};
use super::enrolment::Enrolment;
use super::events::{Event, Refused};
use super::figures::{LastLook, Stamping};
use super::kicks::kick;
use super::shared::Shared;
use super::topics::Topics;
use super::unread_answers::not_read;
use crate::connect::{Ask, AskError, Heard, MOST_BYTES, Refusal, listing};
use crate::os::descriptors::CutOff;
use crate::os::remedy::on_connection;
use crate::testing::failpoints::failpoint;
use crate::wire::Key;

/// If this thread is that late with a deadline, something kept it from running.
const HELD_UP: Duration = Duration::from_millis(200);

/// How often requests that were put off are tried again.
const SOON: Duration = Duration::from_millis(1);

/// The parts that the loop puts together. Its thread is the only one that uses them.
pub(super) struct Acceptor {
    pub(super) shared: Arc<Shared>,
    pub(super) admission: Admission,
    pub(super) connections: Connections,
    pub(super) enrolment: Enrolment,
    pub(super) broker: Broker,
    pub(super) topics: Topics,
    pub(super) control: Control,
    pub(super) put_off: PutOff,
    pub(super) stamping: Stamping,
    pub(super) last_look: LastLook,
}

/// The connections whose requests were put off, in the order in which they asked, and when to try again.
#[derive(Default)]
pub(super) struct PutOff {
    waiting: VecDeque<ConnectionId>,
    due: Option<Instant>,
}

impl Acceptor {
    /// Waits for something to happen, at most until a time, and deals with it.
    pub(super) fn turn(&mut self, until: Option<Instant>) -> Result<(), CutOff> {
        #[cfg(test)]
        assert!(!self.shared.is_to_fail.load(std::sync::atomic::Ordering::Relaxed), "as the test wants it");
        let until = [until, self.due()].into_iter().flatten().min();
        for source in self.connections.wait(until)? {
            match source {
                Source::Listener => self.accept_some(),
                Source::Connection(id) => self.hear(id),
                Source::Process(id) => self.end(id, client_died),
            }
        }
        for member in self.shared.take_finished() {
            let process = self.topics.process_of(&self.connections, member.connection());
            self.connections.remove(member.connection());
            self.broker.left(member.peer.key);
            self.topics.left(member.peer.key, process);
            failpoint!("acceptor.let_go", [server], seldom);
        }
        self.control.answer(&mut self.connections);
        self.answer_program();
        let now = Instant::now();
        self.connections.unread.close_read(now);
        self.retry(now);
        self.broker.look_after(now);
        self.stamping.look_after(&self.shared, now);
        self.close_overdue();
        for id in self.connections.find_dead(Instant::now()) {
            self.end(id, client_died);
        }
        self.admission.look_after(&self.connections);
        // Last, because it tells of those who came and went meanwhile.
        self.topics.look_after(Instant::now());
        self.shared.tell_lacks();
        Ok(())
    }

    /// When there is something to do even if nothing happens.
    fn due(&mut self) -> Option<Instant> {
        let due = [
            self.connections.first_deadline(),
            self.connections.processes_due(),
            self.connections.unread.due(),
            self.put_off.due,
            self.broker.due(),
            self.topics.due(),
            self.stamping.due(),
            self.admission.due(),
        ];
        due.into_iter().flatten().min()
    }

    fn accept_some(&mut self) {
        for _ in 0..ACCEPTS_AT_ONCE {
            match self.admission.accept(&mut self.connections) {
                // Its request is often there already.
                Next::Admitted(id) => self.hear(id),
                Next::NotAdmitted => {}
                Next::Nothing => return,
            }
        }
    }

    /// Ends a connection, and its client if it is one.
    fn end(&mut self, id: ConnectionId, how: fn(&Shared, &mut Connections, ConnectionId) -> Option<Key>) {
        let process = self.topics.process_of(&self.connections, id);
        if let Some(key) = how(&self.shared, &mut self.connections, id) {
            self.broker.left(key);
            self.topics.left(key, process);
        }
    }

    fn refuse(&mut self, id: ConnectionId, refusal: Refusal, why: &str) {
        self.connections.refuse(&self.shared, id, refusal, why);
    }

    // ---- requests

    /// Takes what a connection says, and answers it.
    fn hear(&mut self, id: ConnectionId) {
        let mut datagram = [0; MOST_BYTES];
        let Some(Connection { socket, state }) = self.connections.get(id) else { return };
        let heard = socket.hear(&mut datagram);
        let (registered, put_off) = match state {
            State::Asking(asking) => (false, asking.put_off.is_some() || asking.commands),
            State::Registered(_) => (true, false),
        };
        match heard {
            Heard::Nothing => {}
            Heard::End => self.end(id, client_died),
            Heard::Failed(errno) => self.cannot_hear(id, registered, errno),
            _ if registered => self.end(id, client_babbled),
            Heard::Descriptors => {
                let refused = Refused::new("request", "a request with descriptors").of(socket.who());
                self.shared.events.tell(Event::Refused(refused));
                self.refuse(id, Refusal::NotRingpost, "descriptors came with the request: send none");
            }
            Heard::Datagram(_) if put_off => {
                let why = "more was said before the answer: ask one thing at a time";
                self.refuse(id, Refusal::Unknown, why);
            }
            Heard::Datagram(whole) => match datagram.get(..whole) {
                Some(datagram) => self.answer(id, Ask::decode(datagram)),
                None => self.refuse(id, Refusal::NotRingpost, "not a ringpost request"),
            },
        }
    }

    /// A system call of this process failed. A client stays, since only its end matters, which is noticed
    /// without receiving anything. Whoever asks for something is told that it could not be received.
    fn cannot_hear(&mut self, id: ConnectionId, registered: bool, errno: Errno) {
        let Some(connection) = self.connections.get(id) else { return };
        let mut refused = Refused::new("receive", "cannot receive what a connection says");
        refused.error = Some(format!("{errno}{}", on_connection(&errno.into())));
        self.shared.events.tell(Event::Refused(refused.of(connection.socket.who())));
        if registered {
            // What lies there would wake this thread again and again.
            self.connections.watch_the_end_only(id);
        } else {
            let why = "the server could not receive the request: try again later";
            self.refuse(id, Refusal::NoResources, why);
        }
    }

    fn answer(&mut self, id: ConnectionId, ask: Result<Ask, AskError>) {
        match ask {
            Ok(ask) if !self.may_answer(id, &ask) => self.put_off(id, ask),
            Ok(Ask::Register(name)) => self.enrolment.register(&mut self.connections, id, &name, false),
            Ok(Ask::RegisterRelay(name)) => {
                self.enrolment.register(&mut self.connections, id, &name, true);
            }
            Ok(Ask::Connect { proof, ring_size, to }) => {
                self.broker.connect(&mut self.connections, id, &proof, ring_size, &to);
            }
            Ok(Ask::Listen(proof)) => self.broker.listen(&mut self.connections, id, &proof),
            Ok(Ask::Take(proof)) => self.broker.take(&mut self.connections, id, &proof),
            Ok(Ask::Report { proof, links }) => {
                self.broker.report(&mut self.connections, id, &proof, &links);
            }
            Ok(Ask::Kick { proof, half }) => kick(&self.shared, &mut self.connections, id, &proof, half),
            Ok(Ask::Links { from }) => self.broker.list(&mut self.connections, id, from),
            Ok(Ask::List { from_slot }) => {
                let most = listing::clients_per_page(MOST_BODY);
                match self.shared.list(from_slot, most) {
                    Ok((clients, next)) => self.answer_observer(id, &listing::encode_page(&clients, next)),
                    Err(error) => self.refuse(id, Refusal::NoResources, &error.to_string()),
                }
            }
            Ok(Ask::Server) => {
                let description = self.shared.info().encode();
                self.answer_observer(id, &description);
            }
            Ok(Ask::Figures { section, from }) => {
                let Some(uid) = self.connections.get(id).map(|connection| connection.socket.who().uid) else {
                    return;
                };
                match self.figures(uid, section, from) {
                    Ok(page) => self.answer_observer(id, &page),
                    Err(error) => self.refuse(id, Refusal::NoResources, &error.to_string()),
                }
            }
            Ok(Ask::Control(command)) => self.control.take(&mut self.connections, id, command),
            Ok(ask) => {
                if let Some(ask) = self.topics.answer(&mut self.connections, id, ask) {
                    self.put_off(id, ask);
                }
            }
            Err(error) => {
                let mut refused = Refused::new("request", "a request that is not understood");
                refused.who = self.connections.get(id).map(|connection| connection.socket.who());
                refused.error = Some(error.to_string());
                self.shared.events.tell(Event::Refused(refused));
                self.refuse(id, error.refusal(), &error.to_string());
            }
        }
    }

    fn answer_observer(&mut self, id: ConnectionId, body: &[u8]) {
        if self.connections.answer(id, body, &[]).is_err() {
            self.connections.remove(id);
        }
    }

    /// Whether as many descriptors may be sent as the answer may have.
    fn may_answer(&mut self, id: ConnectionId, ask: &Ask) -> bool {
        let descriptors = ask.most_descriptors();
        let Some(uid) = self.connections.get(id).map(|connection| connection.socket.who().uid) else {
            return true;
        };
        descriptors == 0 || self.connections.unread.may_send(uid, descriptors)
    }

    /// A request waits until earlier answers were read.
    fn put_off(&mut self, id: ConnectionId, ask: Ask) {
        if let Some(asking) = self.connections.asking_mut(id) {
            asking.put_off = Some(Box::new(ask));
            self.put_off.waiting.push_back(id);
            self.put_off.due.get_or_insert_with(|| Instant::now() + SOON);
        }
    }

    /// Tries the requests again that were put off, if it is time. Those that still cannot be answered are put
    /// off again.
    fn retry(&mut self, now: Instant) {
        if self.put_off.due.is_none_or(|due| now < due) {
            return;
        }
        self.put_off.due = None;
        for id in std::mem::take(&mut self.put_off.waiting) {
            let put_off = self.connections.asking_mut(id).and_then(|asking| asking.put_off.take());
            if let Some(ask) = put_off {
                self.answer(id, Ok(*ask));
            }
        }
    }

    // ---- deadlines

    fn close_overdue(&mut self) {
        let now = Instant::now();
        while let Some((id, due)) = self.connections.next_overdue(now) {
            if self.has_asked(id) {
                // An observer whose time is over.
                self.connections.remove(id);
                continue;
            }
            // It may have asked meanwhile, if more connections asked than are heard in one turn.
            self.hear(id);
            if self.connections.has_deadline(id, due) && !self.has_asked(id) {
                self.close_silent(id, now - due);
            }
        }
    }

    fn has_asked(&mut self, id: ConnectionId) -> bool {
        self.connections.asking_mut(id).is_some_and(|asking| asking.asks > 0)
    }

    /// Closes a connection that has asked for nothing. If this thread is late, the whole computer may have
    /// stood still, which says nothing about the other side. Then the connection gets its time anew.
    fn close_silent(&mut self, id: ConnectionId, late: Duration) {
        if late > HELD_UP {
            return self.connections.set_deadline(id, Instant::now() + GREETING_TIME);
        }
        let put_off = self.connections.asking_mut(id).is_some_and(|asking| asking.put_off.is_some());
        let Some(who) = self.connections.get(id).map(|connection| connection.socket.who()) else { return };
        let (reason, message, refusal, why) = if put_off {
            let message = "a request of a user who does not read the answers to earlier ones";
            ("answers", message, Refusal::Busy, not_read(who.uid))
        } else {
            let why = "nothing was asked in time: connect again".to_owned();
            ("silent", "a connection that asked for nothing in time", Refusal::Unknown, why)
        };
        self.shared.events.tell(Event::Refused(Refused::new(reason, message).of(who)));
        self.refuse(id, refusal, &why);
    }
}
