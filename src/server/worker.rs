//! Serves one client: does what each of its requests asks of the server.
//!
//! A [`Responder`] takes the requests and commits the responses. The [`Operations`] call the service, deliver
//! messages, look names up, list clients, unregister the client, and count.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::access::Act;
use super::answers::Declined;
use super::delivery::{Delivery, Handed};
use super::events::{Event, Refused};
use super::measured::Timed;
use super::member::Member;
use super::shared::Shared;
use super::watch::Watched;
use crate::connect::{Credentials, listing};
use crate::link::{DRAIN, End, Handler, Request, Responder, Response, Service, ServiceError, Slot};
use crate::ring::layout::LINE;
use crate::ring::{Consumer, Producer};
use crate::shm::backend::now;
use crate::testing::failpoints::failpoint;
use crate::wire::{BlockHeader, CloseReason, KEY, Key, Name, Operation, Peer, Status, WAITS, take};

/// The server's end of one client's channel, and what the server does there.
pub(super) struct Worker {
    pub(super) responder: Responder,
    pub(super) operations: Operations,
    /// How many requests are still served after the intake was closed. `None` before that.
    left: Option<usize>,
}

/// What the server does for one client's requests.
pub(super) struct Operations {
    pub(super) shared: Arc<Shared>,
    pub(super) member: Arc<Member>,
    pub(super) service: Arc<Box<dyn Service>>,
    /// What was done since the totals and the client's counters were last updated, which is after each
    /// drain.
    unreported: Totals,
    /// What is wanted besides serving, as of the beginning of this drain.
    pub(super) watched: Watched,
    /// Whether the service was called.
    pub(super) has_called: bool,
}

/// What workers have done.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Totals {
    pub(super) calls: u64,
    pub(super) messages: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

impl Totals {
    pub(super) fn add(&mut self, more: &Totals) {
        self.calls += more.calls;
        self.messages += more.messages;
        self.bytes_in += more.bytes_in;
        self.bytes_out += more.bytes_out;
    }
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        member: Arc<Member>,
        mut requests: Consumer,
        responses: Producer,
    ) -> Worker {
        let measures = Arc::clone(&member);
        requests.on_wake(Arc::new(move |took| measures.measured.count(Timed::Wake, took)));
        let strategy = member.share.wait().unwrap_or(shared.settings.wait);
        let slot = Slot::new(&shared.scheduler, strategy, member.intake.clone(), shared.acceptor());
        // A server without a service has ended, and admits nobody.
        let service = shared.service().unwrap_or_else(|| Arc::new(Box::new(no_service)));
        Worker {
            responder: Responder::new(requests, responses, slot),
            operations: Operations {
                shared,
                member,
                service,
                unreported: Totals::default(),
                watched: Watched::default(),
                has_called: false,
            },
            left: None,
        }
    }

    /// Serves until the client unregisters, the channel is closed or the client breaks a rule.
    pub(super) fn run(&mut self) -> End {
        let end = loop {
            if let Err(end) = self.serve_some() {
                break end;
            }
        };
        self.operations.report(&self.responder);
        end
    }

    /// Waits for a request, and serves it and those right behind it.
    pub(super) fn serve_some(&mut self) -> Result<(), End> {
        let most = self.left.map_or(DRAIN, |left| left.min(DRAIN));
        let served = self.responder.serve_some(&mut self.operations, most)?;
        self.operations.report(&self.responder);
        match self.operations.member.intake.reason() {
            None => Ok(()),
            Some(reason) => self.count_last(served, reason.into()),
        }
    }

    /// Counts down the requests that are still served after the intake was closed: at most one full ring,
    /// because no more can have been committed before. So a client that goes on sending is not served for
    /// ever.
    #[cold]
    fn count_last(&mut self, served: usize, reason: CloseReason) -> Result<(), End> {
        let ring_full = self.operations.shared.settings.geometry.ring_size() / LINE;
        let left = self.left.map_or(ring_full, |left| left.saturating_sub(served));
        self.left = Some(left);
        if left > 0 { Ok(()) } else { Err(End::Closed(reason)) }
    }
}

impl Handler for Operations {
    #[inline(always)]
    fn begin(&mut self) {
        self.watched = self.shared.watched();
    }

    #[inline(always)]
    fn call(&mut self, payload: &[u8], response: &mut Response<'_>) -> Result<(), ServiceError> {
        self.has_called = true;
        if self.watched.has(Watched::STAMPED | Watched::TAPPED | Watched::SPANS) {
            return self.call_watched(payload, response);
        }
        (**self.service).call(Request::new(payload, &self.member.peer), response)
    }

    #[inline(always)]
    fn answered(&mut self, request: usize, response: usize) {
        self.unreported.calls += 1;
        self.unreported.bytes_in += request as u64;
        self.unreported.bytes_out += response as u64;
        if self.watched.has(Watched::CALLS) {
            self.tell_call(request, response);
        }
    }

    #[inline(never)]
    fn other(&mut self, header: BlockHeader, responder: &mut Responder) -> Result<(), End> {
        let sequence = header.sequence.get();
        match Operation::from_code(header.code.get()) {
            Some(Operation::Send) => self.send(responder, sequence, header.flags.get()),
            Some(Operation::LookUp) => self.look_up(responder, sequence),
            Some(Operation::List) => self.list(responder, sequence),
            Some(Operation::Ping) => responder.respond(sequence, Status::Ok, &[]),
            Some(Operation::Statistics) => self.statistics(responder, sequence),
            Some(Operation::Unregister) => self.unregister(responder, sequence),
            Some(Operation::Arms) => arms(responder, sequence),
            Some(Operation::Confirm) => self.confirm(responder, sequence),
            Some(Operation::Call | Operation::Hello | Operation::Post) | None => responder.respond(
                sequence,
                Status::UnknownOperation,
                b"this server does not know the operation: use the same ringpost version on both sides",
            ),
        }
    }
}

impl Operations {
    /// Adds what was done since the last report to the totals and to the client's counters. A retired
    /// client's counters are left alone, because its entry may belong to another client by now.
    fn report(&mut self, responder: &Responder) {
        let done = std::mem::take(&mut self.unreported);
        self.member.measured.add(&done, responder.responded());
        if !self.member.is_retired() {
            let counters = &self.member.counters;
            counters.add_calls(done.calls);
            counters.add_sent(done.messages);
            counters.add_bytes_in(done.bytes_in);
            counters.add_bytes_out(done.bytes_out);
        }
    }

    /// Delivers a message to another client's inbox, and answers with how that ended.
    fn send(&mut self, responder: &mut Responder, sequence: u32, flags: u16) -> Result<(), End> {
        let parsed = parse_send(responder.body(), flags);
        let Some((key, patience, payload_at)) = parsed else {
            return responder.respond(sequence, Status::Malformed, b"not the form of a send request");
        };
        let Some(target) = self.shared.members.get(key) else {
            self.log_message((key, None), &responder.body()[payload_at..], Status::NotFound, None);
            return responder.respond(sequence, Status::NotFound, &[]);
        };
        if self.shared.access.is_about(Act::Send)
            && let Err(declined) = self.may_send(&target)
        {
            return self.refuse_message(responder, sequence, &target, payload_at, declined.why);
        }
        if let Some(relay) = &target.relay {
            return self.send_relayed(responder, sequence, flags, &target, relay, (patience, payload_at));
        }
        let began = self.tap_begins();
        let status = self.deliver(responder, &target, patience, payload_at, None);
        failpoint!("inbox.delivered", [server], always);
        self.was_sent(responder, &target, payload_at, status, began);
        if status == Status::Ok {
            responder.passed_on();
        }
        responder.respond(sequence, status, &[])
    }

    /// It is known what became of a message.
    #[inline(always)]
    pub(super) fn was_sent(
        &mut self,
        responder: &Responder,
        target: &Member,
        payload_at: usize,
        status: Status,
        began: Option<Instant>,
    ) {
        let payload = &responder.body()[payload_at..];
        self.log_message((target.peer.key, Some(&target.peer.name)), payload, status, began);
        if status == Status::Ok {
            self.unreported.messages += 1;
            self.unreported.bytes_in += payload.len() as u64;
        }
    }

    #[cold]
    #[inline(never)]
    fn may_send(&self, target: &Member) -> Result<(), Declined> {
        self.shared.check_name(Act::Send, &target.peer.name, &self.member.who())
    }

    /// A rule does not allow a message.
    #[cold]
    #[inline(never)]
    pub(super) fn refuse_message(
        &self,
        responder: &mut Responder,
        sequence: u32,
        target: &Member,
        payload_at: usize,
        why: String,
    ) -> Result<(), End> {
        let Peer { key, name, .. } = &target.peer;
        self.log_message((*key, Some(name)), &responder.body()[payload_at..], Status::NotAllowed, None);
        let answered = responder.respond(sequence, Status::NotAllowed, why.as_bytes());
        self.shared.sums.refused_messages.fetch_add(1, Ordering::Relaxed);
        let mut refused = Refused::new("rule", "a message that a rule does not allow");
        (refused.name, refused.error) = (Some(self.member.peer.name), Some(why));
        self.shared.events.tell(Event::Refused(refused.of(Credentials::from(&self.member.peer))));
        answered
    }

    /// Tries at once. If that fails and the sender is ready to wait, waits for room in the inbox.
    #[inline(always)]
    pub(super) fn deliver(
        &self,
        responder: &mut Responder,
        target: &Member,
        patience: Option<Duration>,
        payload_at: usize,
        handed: Option<&Handed>,
    ) -> Status {
        let delivery = Delivery { from: &self.member, payload: &responder.body()[payload_at..], handed };
        match target.inbox.deliver(&delivery, None) {
            Status::InboxFull if patience.is_some() => {}
            status => return status,
        }
        responder.before_wait();
        let delivery = Delivery { from: &self.member, payload: &responder.body()[payload_at..], handed };
        let deadline = patience.and_then(|patience| now().checked_add(patience));
        target.inbox.deliver(&delivery, deadline)
    }

    #[inline(always)]
    fn log_message(&self, to: (Key, Option<&Name>), payload: &[u8], outcome: Status, began: Option<Instant>) {
        if self.watched.has(Watched::MESSAGES | Watched::TAPPED) {
            self.tell_message(to, payload, outcome, began);
        }
    }

    #[cold]
    #[inline(never)]
    fn tell_message(
        &self,
        to: (Key, Option<&Name>),
        payload: &[u8],
        outcome: Status,
        began: Option<Instant>,
    ) {
        if self.watched.has(Watched::TAPPED) {
            self.tap_message(to, payload, outcome, began);
        }
        if !self.watched.has(Watched::MESSAGES) {
            return;
        }
        let ((to_key, to), bytes) = (to, payload.len());
        let Peer { name: from, key: from_key, .. } = self.member.peer;
        let event = Event::Message { from, from_key, to: to.copied(), to_key, bytes, outcome };
        self.shared.events.tell(event);
    }

    #[cold]
    #[inline(never)]
    fn tell_call(&self, bytes_in: usize, bytes_out: usize) {
        let Peer { name, key, .. } = self.member.peer;
        self.shared.events.tell(Event::Call { name, key, bytes_in, bytes_out });
    }

    fn look_up(&mut self, responder: &mut Responder, sequence: u32) -> Result<(), End> {
        let found = match Name::from_bytes(responder.body()) {
            Ok(name) => self.shared.registry.key_of(&name),
            Err(error) => {
                return responder.respond(sequence, Status::Malformed, error.to_string().as_bytes());
            }
        };
        match found {
            // A name is taken a little before its client can be reached, and freed a little after.
            Ok(Some(key)) if self.shared.members.get(key).is_some() => {
                responder.respond(sequence, Status::Ok, &key.to_bytes())
            }
            Ok(_) => responder.respond(sequence, Status::NotFound, &[]),
            Err(error) => responder.respond(sequence, Status::Internal, error.to_string().as_bytes()),
        }
    }

    fn list(&mut self, responder: &mut Responder, sequence: u32) -> Result<(), End> {
        self.report(responder);
        let Some((from_slot, [])) = take::<4>(responder.body()) else {
            return responder.respond(sequence, Status::Malformed, b"not the form of a list request");
        };
        let most = listing::clients_per_page(responder.max_body());
        match self.shared.list(u32::from_le_bytes(from_slot), most) {
            Ok((clients, next)) => {
                responder.respond(sequence, Status::Ok, &listing::encode_page(&clients, next))
            }
            Err(error) => responder.respond(sequence, Status::Internal, error.to_string().as_bytes()),
        }
    }

    fn statistics(&mut self, responder: &mut Responder, sequence: u32) -> Result<(), End> {
        self.report(responder);
        match self.shared.registry.get(self.member.peer.key) {
            Ok(mut own) => {
                if let Some(own) = &mut own {
                    self.member.inbox.complete(&mut own.counters);
                }
                let page = listing::encode_page(own.as_slice(), None);
                responder.respond(sequence, Status::Ok, &page)
            }
            Err(error) => responder.respond(sequence, Status::Internal, error.to_string().as_bytes()),
        }
    }

    /// Unregisters the client. Its name is free before the response says so.
    fn unregister(&mut self, responder: &mut Responder, sequence: u32) -> Result<(), End> {
        self.shared.forget(&self.member, CloseReason::Unregistered);
        failpoint!("unregister.forgotten", [server], rarely);
        responder.respond(sequence, Status::Ok, &[])?;
        failpoint!("unregister.answered", [server], rarely);
        responder.notify();
        Err(End::Finished)
    }
}

/// From now on the client may wait for its responses in an event loop. It does so once it has this response.
fn arms(responder: &mut Responder, sequence: u32) -> Result<(), End> {
    if !responder.body().is_empty() {
        return responder.respond(sequence, Status::Malformed, b"not the form of an arms request");
    }
    responder.wake_after_each();
    responder.respond(sequence, Status::Ok, &[])
}

/// Reads a send request: the receiver's key, how long the sender is ready to wait, and where the payload
/// begins.
pub(crate) fn parse_send(body: &[u8], flags: u16) -> Option<(Key, Option<Duration>, usize)> {
    let (key, rest) = take::<KEY>(body)?;
    let key = Key::from_bytes(key);
    if flags & WAITS == 0 {
        return Some((key, None, KEY));
    }
    let (nanoseconds, _) = take::<8>(rest)?;
    Some((key, Some(Duration::from_nanos(u64::from_le_bytes(nanoseconds))), KEY + 8))
}

/// The service of a server that has ended.
fn no_service(_: Request<'_>, _: &mut Response<'_>) -> Result<(), ServiceError> {
    Err(ServiceError::new("the server has ended"))
}
