//! `Calls`: what a caller and a link share: requests, their responses, another channel when the old one
//! ended.

#![forbid(unsafe_code)]

#[cfg(any(feature = "tokio", feature = "async-io"))]
mod steps;

use std::sync::Arc;

use super::Limits;
use super::error::{CallError, no_response, refused};
use super::reconnect::{Asking, Half, Reconnector};
use super::session::Session;
use crate::codec::{Payload, Reply};
use crate::link::{NoRoom, Requester};
use crate::ring::{Closer, Consumer, Deadline, NotSent, OwnPipe, Producer};
use crate::wire::{BLOCK_HEADER, CloseReason, Operation, Status, Violation};

/// The asking end of a client's channel or of a link.
// Public for a sealed trait; nobody outside can name it.
#[allow(missing_debug_implementations)]
pub struct Calls {
    pub(super) requester: Requester,
    pub(crate) limits: Limits,
    pub(super) closer: Closer,
    /// Whose channel it is; a link has none.
    registration: Option<Registration>,
    /// What it waits by in an event loop, if it may.
    pub(super) own: Option<OwnPipe>,
    /// Whether the other side knows that it may.
    pub(super) is_heard: bool,
    /// The length of the last request for which there was no room, if it is to be waited for.
    pub(super) wanted: Option<usize>,
}

/// The registration that a channel belongs to.
pub(super) struct Registration {
    pub(super) session: Arc<Session>,
    /// Set for a client that registers again.
    pub(super) reconnector: Option<Arc<Reconnector>>,
}

impl Calls {
    pub(super) fn of_client(requests: Producer, responses: Consumer, session: Arc<Session>) -> Calls {
        let (limits, closer) = (session.limits, session.closer.clone());
        let registration = Some(Registration { session, reconnector: None });
        let requester = Requester::new(requests, responses);
        Calls { requester, limits, closer, registration, own: None, is_heard: false, wanted: None }
    }

    pub(super) fn of_link(
        requests: Producer,
        responses: Consumer,
        limits: Limits,
        closer: Closer,
        own: Option<OwnPipe>,
    ) -> Calls {
        let requester = Requester::new(requests, responses);
        Calls { requester, limits, closer, registration: None, own, is_heard: true, wanted: None }
    }

    /// The registration of a client's calls.
    pub(super) fn registration(&self) -> &Registration {
        self.registration.as_ref().expect("only a link has none")
    }

    /// Whether it is a client's.
    pub(super) fn has_registration(&self) -> bool {
        self.registration.is_some()
    }

    /// Makes it go on with another channel when its own has ended.
    pub(super) fn settle(&mut self, reconnector: Arc<Reconnector>) {
        if let Some(registration) = &mut self.registration {
            registration.reconnector = Some(reconnector);
        }
    }

    /// One call and its response. The callers encode the request themselves: each closure of its own is
    /// inlined.
    // Always inline: as a function it would return its result through memory.
    #[inline(always)]
    pub(super) fn call(&mut self, request: &[u8], mut deadline: Deadline) -> Result<Reply<'_>, CallError> {
        let status = self.ask(Operation::Call, 0, [request], &mut deadline)?;
        self.reply(status)
    }

    #[inline(always)]
    fn reply(&mut self, status: Status) -> Result<Reply<'_>, CallError> {
        match status {
            Status::Ok => Ok(Reply::new(self.requester.body())),
            status => Err(self.not_done(status)),
        }
    }

    #[cold]
    fn not_done(&mut self, status: Status) -> CallError {
        match status {
            // Those of a link's handshake are no answer to a call.
            Status::Hello | Status::Refused | Status::Busy => self.violation(Violation::MalformedBlock),
            status => refused(status, self.requester.body()),
        }
    }

    /// Sends a call without waiting for its response.
    #[inline]
    pub(super) fn submit(&mut self, request: impl Payload) -> Result<(), CallError> {
        request.encode(self.limits.max_call, |bytes| self.submit_bytes(bytes))?
    }

    #[inline(never)]
    fn submit_bytes(&mut self, request: &[u8]) -> Result<(), CallError> {
        self.submit_quietly(request)?;
        self.requester.notify();
        Ok(())
    }

    /// The same without waking the peer.
    #[inline]
    fn submit_quietly(&mut self, request: &[u8]) -> Result<(), CallError> {
        match self.requester.try_publish(Operation::Call, 0, [request]) {
            Ok(_) => Ok(()),
            Err(error) => {
                self.publish_after(error, Operation::Call, 0, [request], &mut Deadline::never()).map(|_| ())
            }
        }
    }

    /// Sends a call if there is room now.
    #[inline]
    pub(super) fn try_submit(&mut self, request: impl Payload) -> Result<(), CallError> {
        request.encode(self.limits.max_call, |bytes| self.try_submit_request(Operation::Call, 0, [bytes]))?
    }

    pub(super) fn try_submit_request<const N: usize>(
        &mut self,
        operation: Operation,
        flags: u16,
        body: [&[u8]; N],
    ) -> Result<(), CallError> {
        loop {
            let submitted = self.requester.try_publish(operation, flags, body);
            match submitted {
                Err(NotSent::Closed(reason)) => self.renew_now(reason.into())?,
                submitted => {
                    self.requester.notify();
                    if let Err(NotSent::Full) = submitted {
                        self.wanted = Some(body.iter().map(|part| part.len()).sum());
                    }
                    return submitted.map(|_| ()).map_err(unsendable);
                }
            }
        }
    }

    /// Sends a request that gets no response.
    pub(super) fn post(&mut self, message: &[u8]) -> Result<(), CallError> {
        let mut deadline = Deadline::never();
        while let Err(error) = self.requester.try_post(message) {
            self.clear_the_way(error, message.len(), &mut deadline)?;
        }
        Ok(())
    }

    /// The same if there is room now.
    pub(super) fn try_post(&mut self, message: &[u8]) -> Result<(), CallError> {
        self.requester.try_post(message).map_err(|error| {
            if let NotSent::Full = error {
                self.wanted = Some(message.len());
            }
            unsendable(error)
        })
    }

    /// Sends several calls without waiting for their responses.
    pub(super) fn submit_all<P: Payload>(
        &mut self,
        requests: impl IntoIterator<Item = P>,
    ) -> Result<(), CallError> {
        // Declared before the guard, and so dropped after it: its drop is the user's code too.
        let mut requests = requests.into_iter();
        let submitting = Submitting(self);
        loop {
            submitting.0.wake_peer();
            let Some(request) = requests.next() else { return Ok(()) };
            let max = submitting.0.limits.max_call;
            request.encode(max, |bytes| submitting.0.submit_quietly(bytes))??;
        }
    }

    /// Wakes the peer if it sleeps and was not told of all requests. Must be called before this thread leaves
    /// or runs the user's code, which may wait for what a request does.
    #[inline]
    fn wake_peer(&mut self) {
        // That code may have forked, and this be the child; then the rings are its parent's.
        if !self.closer.is_forked() {
            self.requester.notify();
        }
    }

    /// Waits for the response to the oldest submitted call.
    #[inline]
    pub(super) fn response(&mut self, mut deadline: Deadline) -> Result<Reply<'_>, CallError> {
        let status = match self.kept_response()? {
            Some(status) => status,
            None => match self.requester.receive(&mut deadline, no_response) {
                Ok(status) => status,
                Err(error) => {
                    self.ended(&error, true);
                    return Err(error);
                }
            },
        };
        self.reply(status)
    }

    /// The same without waiting.
    pub(super) fn try_response(&mut self) -> Result<Option<Reply<'_>>, CallError> {
        match self.try_status()? {
            None => Ok(None),
            Some(status) => self.reply(status).map(Some),
        }
    }

    /// The status of the oldest submitted request, if it is there. The requester then has the body.
    pub(super) fn try_status(&mut self) -> Result<Option<Status>, CallError> {
        if let Some(status) = self.kept_response()? {
            return Ok(Some(status));
        }
        self.requester.try_receive().map_err(|stop| {
            let error = no_response(stop);
            self.ended(&error, true);
            error
        })
    }

    /// The response to the oldest submitted call, if it was kept. An error if there is none to come.
    fn kept_response(&mut self) -> Result<Option<Status>, CallError> {
        if self.outstanding() == 0 {
            return Err(CallError::NothingOutstanding);
        }
        // In a forked child even what has arrived is the parent's.
        if self.requester.has_kept() && self.closer.is_forked() {
            return Err(CallError::Disconnected(CloseReason::Forked));
        }
        self.requester.take_kept().transpose().map_err(CallError::Disconnected)
    }

    /// How many submitted calls have responses that were not collected yet.
    pub(super) fn outstanding(&self) -> usize {
        self.requester.outstanding()
    }

    /// One request and its response, whose body the requester then has.
    // Always: with its result in memory, a call takes 23 instructions more. The limit is borrowed because
    // most requests never look at it.
    #[inline(always)]
    pub(super) fn ask<const N: usize>(
        &mut self,
        operation: Operation,
        flags: u16,
        body: [&[u8]; N],
        deadline: &mut Deadline,
    ) -> Result<Status, CallError> {
        let sequence = match self.requester.try_publish(operation, flags, body) {
            Ok(sequence) => sequence,
            // A copy of the body, so that the body itself need not lie in memory for the usual case.
            Err(error) => self.publish_after(error, operation, flags, body.map(|part| part), deadline)?,
        };
        self.await_response(sequence, deadline)
    }

    /// The same, not inlined: for requests of which there are few.
    #[inline(never)]
    pub(super) fn ask_rarely<const N: usize>(
        &mut self,
        operation: Operation,
        body: [&[u8]; N],
        mut deadline: Deadline,
    ) -> Result<Status, CallError> {
        self.ask(operation, 0, body, &mut deadline)
    }

    /// The response to the request that was published last.
    #[inline(always)]
    pub(super) fn await_response(
        &mut self,
        sequence: u32,
        deadline: &mut Deadline,
    ) -> Result<Status, CallError> {
        match self.requester.await_response(sequence, deadline, no_response) {
            Ok(status) => Ok(status),
            Err(error) => {
                self.ended(&error, false);
                Err(error)
            }
        }
    }

    /// After a first attempt that failed: waits for room, or for another channel if that is what was missing,
    /// and sends the request.
    #[cold]
    fn publish_after<const N: usize>(
        &mut self,
        mut error: NotSent,
        operation: Operation,
        flags: u16,
        body: [&[u8]; N],
        deadline: &mut Deadline,
    ) -> Result<u32, CallError> {
        loop {
            let len = body.iter().map(|part| part.len()).sum();
            self.clear_the_way(error, len, deadline)?;
            match self.requester.try_publish(operation, flags, body) {
                Ok(sequence) => return Ok(sequence),
                Err(again) => error = again,
            }
        }
    }

    /// Does what it takes to try once more to send a request with a body of this length, if anything can be
    /// done.
    #[cold]
    pub(super) fn clear_the_way(
        &mut self,
        error: NotSent,
        len: usize,
        deadline: &mut Deadline,
    ) -> Result<(), CallError> {
        match error {
            NotSent::Full => match self.requester.make_room(len, deadline) {
                Ok(()) => Ok(()),
                Err(NoRoom::Uncollected { most }) => Err(CallError::Uncollected { most }),
                Err(NoRoom::Stopped(stop)) => {
                    let error = no_response(stop);
                    self.ended(&error, false);
                    Err(error)
                }
            },
            NotSent::Closed(reason) => self.renew(reason.into(), deadline),
            error => Err(unsendable(error)),
        }
    }

    /// The channel has ended, and a request was not sent: goes on with another one if this client registers
    /// again.
    #[cold]
    pub(super) fn renew(&mut self, reason: CloseReason, deadline: &mut Deadline) -> Result<(), CallError> {
        match self.reconnector() {
            Some(reconnector) if reason != CloseReason::Forked => {
                match reconnector.renew_caller(false, deadline.start()) {
                    Ok(asking) => {
                        self.install(asking);
                        Ok(())
                    }
                    Err(stop) => Err(stop.reason(reason).map_or(CallError::TimedOut, CallError::NotSent)),
                }
            }
            _ => Err(CallError::NotSent(reason)),
        }
    }

    /// The same without waiting: goes on with another channel only if the other half has made one.
    #[cold]
    pub(super) fn renew_now(&mut self, reason: CloseReason) -> Result<(), CallError> {
        match self.reconnector() {
            Some(reconnector) if reason != CloseReason::Forked => match reconnector.renew_caller_now() {
                Ok(asking) => {
                    self.install(asking);
                    Ok(())
                }
                Err(stop) => Err(CallError::NotSent(stop.reason(reason).unwrap_or(reason))),
            },
            _ => Err(CallError::NotSent(reason)),
        }
    }

    /// A wait for a response failed. If the channel has ended, the outstanding calls get no response any
    /// more, and collecting each of them reports that, once: a response that is committed behind the end must
    /// not be taken for that to another call.
    ///
    /// `collecting`: the wait was for the oldest of them, which this error reports already. If it was for
    /// another request, the outstanding calls stay, unless this client registers again: they may have been
    /// answered before the end.
    #[cold]
    pub(super) fn ended(&mut self, error: &CallError, collecting: bool) {
        let CallError::Disconnected(reason) = *error else { return };
        if reason == CloseReason::Forked {
            return;
        }
        let registers_again = self.registration.as_ref().filter(|own| own.reconnector.is_some());
        if collecting || registers_again.is_some() {
            self.requester.end_outstanding(reason);
        }
        if collecting {
            let _ = self.requester.take_kept();
        }
        if let Some(Registration { session, reconnector: Some(reconnector) }) = registers_again {
            // Last, because this runs the user's code, which may panic.
            reconnector.tell(Half::Caller, session, reason);
        }
    }

    /// What registers again, if anything does.
    fn reconnector(&self) -> Option<&Reconnector> {
        self.registration.as_ref()?.reconnector.as_deref()
    }

    /// Goes on with another channel. What came over the old one stays to be collected.
    #[cold]
    pub(super) fn install(&mut self, (requests, responses, session): Asking) {
        let reason = self.closer.reason().map_or(CloseReason::Died, CloseReason::from);
        self.requester.resume(reason, requests, responses);
        (self.limits, self.closer) = (session.limits, session.closer.clone());
        (self.own, self.wanted) = (None, None);
        if let Some(registration) = &mut self.registration {
            registration.session = session;
        }
    }

    /// The result of a request that has none but its status.
    pub(crate) fn done(&self, status: Status) -> Result<(), CallError> {
        match status {
            Status::Ok => Ok(()),
            status => Err(refused(status, self.requester.body())),
        }
    }

    #[cold]
    pub(super) fn violation(&mut self, violation: Violation) -> CallError {
        self.requester.reject();
        CallError::Violation(violation)
    }
}

/// A caller that submits several calls. However that ends, also by a panic of the user's iterator, the peer
/// is told of all that were committed.
struct Submitting<'c>(&'c mut Calls);

impl Drop for Submitting<'_> {
    fn drop(&mut self) {
        self.0.wake_peer();
    }
}

/// Why a request cannot be sent, now or at all.
#[cold]
fn unsendable(error: NotSent) -> CallError {
    match error {
        NotSent::Full => CallError::Full,
        NotSent::TooLarge { len, max } => {
            CallError::TooLarge { len: len - BLOCK_HEADER, max: max - BLOCK_HEADER }
        }
        NotSent::Closed(reason) => CallError::NotSent(reason.into()),
        NotSent::Fault(violation) => CallError::Violation(violation.into()),
    }
}
