//! The thread that serves one client: one complete response block for each request block.
//!
//! The order for one request: copy the block out, give its place back (`head` is stored before the response
//! is committed, so a client whose calls are all answered finds its request ring empty), do what it asks,
//! commit the response. A worker that finds more requests behind the first, or that come within its first few
//! looks, serves up to [`DRAIN`] of them and pays one fence and one parked check for all; if the client looks
//! asleep in between it is woken at once. It waits, whether for requests or for room, only after such a
//! fence: [`crate::link::exchange`] says why that is enough, and what it leaves open.

#![forbid(unsafe_code)]

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::delivery::Delivery;
use super::events::Event;
use super::member::Member;
use super::place::move_to_neighbour;
use super::scheduler::Slot;
use super::service::{Finished, Request, Response, Service, ServiceError};
use super::shared::Shared;
use crate::connect::listing;
use crate::link::exchange::{Serves, drain};
use crate::ring::{
    CloseReason, Consumer, Found, Producer, RecvTimeoutError, SendTimeoutError, TrySendError, Violation,
    notify_both,
};
use crate::shm::backend::now;
use crate::testing::failpoints::failpoint;
use crate::wire::{BLOCK_HEADER, BlockHeader, KEY, Key, Name, Operation, Peer, Status, WAITS, take};

/// Requests served between two fences.
pub(crate) const DRAIN: usize = 64;

/// Bytes of the smallest record in a ring.
const SMALLEST_RECORD: usize = 64;

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) member: Arc<Member>,
    pub(super) requests: Consumer,
    pub(super) responses: Producer,
    pub(super) service: Arc<Box<dyn Service>>,
    /// The request's body: the server's own copy.
    body: Vec<u8>,
    /// A response that does not fit into the ring in one piece.
    spare: Vec<u8>,
    totals: Totals,
    /// What is not in the totals and the client's counters yet: they are brought up to date after each
    /// drain.
    unreported: Totals,
    /// Requests served in this drain.
    served: usize,
    /// Requests still to be served after the intake has ended; known from then on.
    left: Option<usize>,
    /// The number of the call that the service is at.
    serving: Option<u32>,
    slot: Slot,
}

/// What one worker has done, added to the server's totals when it ends.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Totals {
    pub(super) calls: u64,
    pub(super) messages: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

impl Totals {
    fn add(&mut self, more: &Totals) {
        self.calls += more.calls;
        self.messages += more.messages;
        self.bytes_in += more.bytes_in;
        self.bytes_out += more.bytes_out;
    }
}

/// Why a worker stops.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    Unregistered,
    Closed(CloseReason),
    Violation(Violation),
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        member: Arc<Member>,
        requests: Consumer,
        responses: Producer,
    ) -> Worker {
        let (body, spare) = (Vec::new(), Vec::new());
        let slot = Slot::new(member.share.wait().unwrap_or(shared.settings.wait));
        // Nobody is let in any more when the server's end has taken it.
        let service = shared.service().unwrap_or_else(|| Arc::new(Box::new(no_service)));
        Worker {
            shared,
            member,
            requests,
            responses,
            service,
            body,
            spare,
            totals: Totals::default(),
            unreported: Totals::default(),
            served: 0,
            left: None,
            serving: None,
            slot,
        }
    }

    /// Serves until the client unregisters, the channel is closed or the client breaks a rule.
    pub(super) fn run(&mut self) -> (End, Totals) {
        let end = loop {
            if let Err(end) = self.serve_some() {
                break end;
            }
        };
        self.report();
        (end, self.totals)
    }

    /// Waits for a request, and serves it and those right behind it.
    pub(super) fn serve_some(&mut self) -> Result<(), End> {
        let most = self.left.map_or(DRAIN, |left| left.min(DRAIN));
        // What a service leaves behind when it panics: its response, which leaves no trace in the ring.
        match catch_unwind(AssertUnwindSafe(|| drain(self, most))) {
            Ok(drained) => drained?,
            Err(panic) => match self.serving.take() {
                Some(sequence) => self.answer_panic(sequence, panic)?,
                None => resume_unwind(panic),
            },
        }
        notify_both(&mut self.responses, &mut self.requests);
        self.report();
        let served = std::mem::take(&mut self.served);
        match self.member.intake.reason() {
            None => Ok(()),
            Some(reason) => self.count_last(served, reason),
        }
    }

    /// The service panicked at this call. Its response, if it had begun one, was not committed.
    #[cold]
    fn answer_panic(&mut self, sequence: u32, panic: Box<dyn Any + Send>) -> Result<(), End> {
        const TEXT: &[u8] = b"it panicked; the server's standard error may tell where";
        dispose(panic);
        self.unreported.calls += 1;
        self.unreported.bytes_in += self.body.len() as u64;
        self.unreported.bytes_out += TEXT.len() as u64;
        self.respond(sequence, Status::ServiceFailed, TEXT)
    }

    /// The intake has ended. What was committed before is served, which is at most a ring full; a client that
    /// goes on is not.
    #[cold]
    fn count_last(&mut self, served: usize, reason: CloseReason) -> Result<(), End> {
        let ring_full = self.shared.settings.geometry.ring_size() / SMALLEST_RECORD;
        let left = self.left.map_or(ring_full, |left| left.saturating_sub(served));
        self.left = Some(left);
        if left > 0 { Ok(()) } else { Err(End::Closed(reason)) }
    }

    /// A request for which there is no memory is not the end of the process, and with it of all its other
    /// clients.
    #[cold]
    fn no_memory(&mut self, sequence: u32, len: usize) -> Result<(), End> {
        let text =
            format!("it has no memory for {len} bytes; send less at once, or give it more (ulimit -v)");
        self.respond(sequence, Status::Internal, text.as_bytes())
    }

    #[cold]
    fn wait_for_turn(&mut self) {
        self.before_wait();
        self.slot.begin(&self.shared.scheduler, &self.member.intake, self.requests.yields());
    }

    /// About to wait for anything but a request: nothing committed so far may depend on a wake that comes
    /// after, and no other worker on this one's turn.
    fn before_wait(&mut self) {
        notify_both(&mut self.responses, &mut self.requests);
        self.slot.rest(&self.shared.scheduler, self.requests.yields());
    }

    /// Any operation but a call.
    #[inline(never)]
    fn serve_another(&mut self, header: &BlockHeader) -> Result<(), End> {
        let sequence = header.sequence.get();
        match Operation::from_code(header.code.get()) {
            Some(Operation::Call) => self.call(sequence, self.body.len()),
            Some(Operation::Send) => self.send(sequence, header.flags.get()),
            Some(Operation::LookUp) => self.look_up(sequence),
            Some(Operation::List) => self.list(sequence),
            Some(Operation::Ping) => self.respond(sequence, Status::Ok, &[]),
            Some(Operation::Statistics) => self.statistics(sequence),
            Some(Operation::Unregister) => self.unregister(sequence),
            None => self.respond(
                sequence,
                Status::UnknownOperation,
                b"this server does not know the operation: use the same ringpost version on both sides",
            ),
        }
    }

    #[inline(always)]
    fn call(&mut self, sequence: u32, len: usize) -> Result<(), End> {
        // With the length at hand: the vector's own was stored just now, and is slow to come back together
        // with its pointer.
        let request = Request::new(&self.body[..len], &self.member.peer);
        let mut response = Response::begin(&mut self.responses, &mut self.spare, sequence);
        self.serving = Some(sequence);
        let answered = (**self.service).call(request, &mut response);
        self.serving = None;
        let finished = match answered {
            Ok(()) => {
                let finished = response.finish();
                std::mem::forget(response);
                finished
            }
            Err(error) => response.fail(error),
        };
        let bytes_out = match finished {
            Finished::Committed { bytes } => bytes,
            Finished::Spare(status) => self.respond_spare(sequence, status)?,
        };
        self.unreported.calls += 1;
        self.unreported.bytes_in += self.body.len() as u64;
        self.unreported.bytes_out += bytes_out as u64;
        Ok(())
    }

    #[inline(never)]
    fn respond_spare(&mut self, sequence: u32, status: Status) -> Result<usize, End> {
        let body = std::mem::take(&mut self.spare);
        let published = self.respond(sequence, status, &body);
        let bytes = body.len();
        self.spare = body;
        published.map(|()| bytes)
    }

    /// Adds what was done since the last report to the client's counters and to the sums, unless the client
    /// was retired meanwhile: its entry may be another's then.
    fn report(&mut self) {
        let done = std::mem::take(&mut self.unreported);
        self.totals.add(&done);
        if !self.member.is_retired() {
            let counters = &self.member.counters;
            counters.add_calls(done.calls);
            counters.add_sent(done.messages);
            counters.add_bytes_in(done.bytes_in);
            counters.add_bytes_out(done.bytes_out);
        }
    }

    fn send(&mut self, sequence: u32, flags: u16) -> Result<(), End> {
        let parsed = parse_send(&self.body, flags);
        let Some((key, patience, payload_at)) = parsed else {
            return self.respond(sequence, Status::Malformed, b"not the form of a send request");
        };
        let Some(target) = self.shared.members.get(key) else {
            self.log_message(key, None, self.body.len() - payload_at, Status::NotFound);
            return self.respond(sequence, Status::NotFound, &[]);
        };
        let status = self.deliver(&target, patience, payload_at);
        failpoint!("inbox.delivered");
        let bytes = self.body.len() - payload_at;
        self.log_message(key, Some(&target.peer.name), bytes, status);
        if status == Status::Ok {
            self.unreported.messages += 1;
            self.unreported.bytes_in += bytes as u64;
        }
        self.respond(sequence, status, &[])
    }

    fn deliver(&mut self, target: &Member, patience: Option<Duration>, payload_at: usize) -> Status {
        let delivery = Delivery { from: &self.member, payload: &self.body[payload_at..] };
        match target.inbox.deliver(&delivery, None) {
            Status::InboxFull if patience.is_some() => {}
            status => return status,
        }
        self.before_wait();
        let delivery = Delivery { from: &self.member, payload: &self.body[payload_at..] };
        let deadline = patience.and_then(|patience| now().checked_add(patience));
        target.inbox.deliver(&delivery, deadline)
    }

    #[inline(always)]
    fn log_message(&self, to_key: Key, to: Option<&Name>, bytes: usize, outcome: Status) {
        if self.shared.events.wants_messages() {
            self.tell_message(to_key, to, bytes, outcome);
        }
    }

    #[cold]
    #[inline(never)]
    fn tell_message(&self, to_key: Key, to: Option<&Name>, bytes: usize, outcome: Status) {
        let Peer { name: from, key: from_key, .. } = self.member.peer;
        let event = Event::Message { from, from_key, to: to.copied(), to_key, bytes, outcome };
        self.shared.events.tell(event);
    }

    fn look_up(&mut self, sequence: u32) -> Result<(), End> {
        let found = match Name::from_bytes(&self.body) {
            Ok(name) => self.shared.registry.key_of(&name),
            Err(error) => return self.respond(sequence, Status::Malformed, error.to_string().as_bytes()),
        };
        match found {
            Ok(Some(key)) => self.respond(sequence, Status::Ok, &key.to_bytes()),
            Ok(None) => self.respond(sequence, Status::NotFound, &[]),
            Err(error) => self.respond(sequence, Status::Internal, error.to_string().as_bytes()),
        }
    }

    fn list(&mut self, sequence: u32) -> Result<(), End> {
        self.report();
        let Some((from_slot, [])) = take::<4>(&self.body) else {
            return self.respond(sequence, Status::Malformed, b"not the form of a list request");
        };
        let most = listing::clients_per_page(self.responses.max_block() - BLOCK_HEADER);
        match self.shared.registry.list(u32::from_le_bytes(from_slot), most) {
            Ok((clients, next)) => self.respond(sequence, Status::Ok, &listing::encode_page(&clients, next)),
            Err(error) => self.respond(sequence, Status::Internal, error.to_string().as_bytes()),
        }
    }

    fn statistics(&mut self, sequence: u32) -> Result<(), End> {
        self.report();
        match self.shared.registry.get(self.member.peer.key) {
            Ok(own) => {
                let page = listing::encode_page(own.as_slice(), None);
                self.respond(sequence, Status::Ok, &page)
            }
            Err(error) => self.respond(sequence, Status::Internal, error.to_string().as_bytes()),
        }
    }

    /// The name is free before the client is told so.
    fn unregister(&mut self, sequence: u32) -> Result<(), End> {
        self.shared.forget(&self.member);
        failpoint!("unregister.forgotten");
        self.respond(sequence, Status::Ok, &[])?;
        failpoint!("unregister.answered");
        notify_both(&mut self.responses, &mut self.requests);
        Err(End::Unregistered)
    }

    /// Publishes a response, waiting for room if the client has not read enough of the earlier ones.
    fn respond(&mut self, sequence: u32, status: Status, body: &[u8]) -> Result<(), End> {
        let header = BlockHeader::new(status as u16, 0, sequence);
        // A text for people may be longer than a small ring's blocks; what has a form is paged to fit.
        let body = &body[..body.len().min(self.responses.max_block() - BLOCK_HEADER)];
        let header = Some(header.to_word());
        let error = match self.responses.try_publish(header, [body]) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full) => {
                self.before_wait();
                match self.responses.publish(header, [body], None) {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                }
            }
            Err(TrySendError::Violation(violation)) => SendTimeoutError::Violation(violation),
            Err(TrySendError::Disconnected(reason)) => SendTimeoutError::Disconnected(reason),
            Err(TrySendError::TooLarge { len, max }) => SendTimeoutError::TooLarge { len, max },
        };
        Err(match error {
            SendTimeoutError::Violation(violation) => End::Violation(violation),
            SendTimeoutError::Disconnected(reason) => End::Closed(reason),
            // Neither can be: there was no deadline, and the body was cut to fit.
            SendTimeoutError::TimedOut | SendTimeoutError::TooLarge { .. } => End::Closed(CloseReason::Local),
        })
    }
}

impl Drop for Worker {
    /// However it ends, nobody is to wait for its turn.
    fn drop(&mut self) {
        self.slot.rest(&self.shared.scheduler, self.requests.yields());
    }
}

impl Serves for Worker {
    type End = End;

    #[inline(always)]
    fn rings(&mut self) -> (&mut Consumer, &mut Producer) {
        (&mut self.requests, &mut self.responses)
    }

    #[inline(always)]
    fn served(&mut self) -> &mut usize {
        &mut self.served
    }

    #[cold]
    fn wait(&mut self) -> Result<Found, End> {
        loop {
            let Worker { slot, shared, member, requests, .. } = self;
            if slot.waits(&shared.scheduler, requests.yields()) {
                move_to_neighbour(shared.acceptor());
                slot.moved();
            }
            let found =
                requests.find_or(None, &mut |yields| slot.goes_on(&shared.scheduler, &member.intake, yields));
            slot.waited();
            match found {
                Ok(found) => return Ok(found),
                Err(RecvTimeoutError::Disconnected(reason)) => return Err(End::Closed(reason)),
                Err(RecvTimeoutError::Violation(violation)) => return Err(End::Violation(violation)),
                // There was no deadline.
                Err(RecvTimeoutError::TimedOut) => {}
            }
        }
    }

    #[inline(always)]
    fn serve(&mut self, found: Found) -> Result<(), End> {
        if self.slot.is_due() && self.slot.needs_turn(&self.shared.scheduler, self.requests.yields()) {
            self.wait_for_turn();
        }
        self.responses.prepare();
        let incoming = self.requests.take(found);
        let Some(header) = BlockHeader::of(&incoming) else {
            return Err(End::Violation(self.requests.reject(Violation::MalformedBlock)));
        };
        self.body.clear();
        let len = incoming.len() - BLOCK_HEADER;
        if len > self.body.capacity() && self.body.try_reserve(len).is_err() {
            incoming.release_quietly();
            return self.no_memory(header.sequence.get(), len);
        }
        incoming.append_to(BLOCK_HEADER, &mut self.body);
        incoming.release_quietly();
        let sequence = header.sequence.get();
        if header.code.get() == Operation::Call as u16 {
            return self.call(sequence, len);
        }
        self.serve_another(&header)
    }
}

/// Drops what code of the program panicked with. Should that panic in its turn, what is left of it is not
/// touched any more.
pub(super) fn dispose(panic: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
}

/// The receiver's key, how long the sender is ready to wait, and where the payload begins.
pub(crate) fn parse_send(body: &[u8], flags: u16) -> Option<(Key, Option<Duration>, usize)> {
    let (key, rest) = take::<KEY>(body)?;
    let key = Key::from_bytes(key);
    if flags & WAITS == 0 {
        return Some((key, None, KEY));
    }
    let (nanoseconds, _) = take::<8>(rest)?;
    Some((key, Some(Duration::from_nanos(u64::from_le_bytes(nanoseconds))), KEY + 8))
}

fn no_service(_: Request<'_>, _: &mut Response<'_>) -> Result<(), ServiceError> {
    Err(ServiceError::new("the server has ended"))
}
