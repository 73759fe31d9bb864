//! The asking end of a link: publishes requests and collects their responses.
//!
//! Requests are numbered, and responses come in the order of the requests. So the next response must carry
//! the next number; any other number is a violation. When a caller stops waiting for a response, the response
//! is discarded as soon as it arrives.
//!
//! Two full rings cannot block each other: while there is no room for a request, the requester takes
//! responses off their ring and keeps them in memory. With nothing outstanding the request ring holds no
//! calls, because the responder releases a request's place before it commits the response.
//!
//! A *post* is a request without a number and without a response, in order with the others. A ring that posts
//! fill may get room without a response: with nothing outstanding the requester waits for space, and else
//! looks again now and then while it waits for the next response.

#[cfg(any(test, feature = "tokio", feature = "async-io"))]
mod steps;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::Stop;
use crate::channel::LinkCounts;
use crate::ring::{self, Consumer, Deadline, Found, NotSent, OwnPipe, Producer, notify_both};
use crate::shm::backend::{effective_deadline, now};
use crate::wire::{BLOCK_HEADER, BlockHeader, CloseReason, Operation, Status, Violation};

/// The longest sleep with several requests outstanding. The responder may overlook a requester that goes to
/// sleep just as a response is committed, until it has served the other requests.
pub(crate) const SLICE: Duration = Duration::from_millis(50);

/// How many requests are sent between two tellings of how many they were.
const TELL_EVERY: u32 = 64;

/// The most responses that are kept in memory; it bounds what a caller that never collects can use.
const MOST_KEPT: usize = 1 << 16;

/// The asking end of a pair of rings. One thread asks at a time.
pub(crate) struct Requester {
    requests: Producer,
    responses: Consumer,
    /// The number of the next request, and of the next response to come.
    next: u32,
    expected: u32,
    /// Requests whose callers no longer wait. Their responses are discarded when they arrive.
    abandoned: BTreeSet<u32>,
    /// The end of the last post in the request ring.
    posted_to: u64,
    /// The number of the next post; nobody else counts them.
    posts: u32,
    /// Responses that arrived before anybody asked for them, in the order of the requests. For a request
    /// that gets no response: the reason.
    kept: VecDeque<Result<Response, CloseReason>>,
    /// Why the outstanding requests were given up. Any response that comes after that is for nobody.
    given_up: Option<CloseReason>,
    /// The body of the response that was taken last.
    body: Vec<u8>,
    /// What is told of a link's requests to who looks at the bus.
    told: Option<Told>,
}

/// What a requester has told, and how it tells more.
struct Told {
    tell: Box<dyn Fn(LinkCounts) + Send + Sync>,
    blocks: u64,
    /// The number of the next request, and of the next post, when it told last.
    next: u32,
    posts: u32,
    /// Where the ring began to be used for requests.
    start: u64,
}

struct Response {
    status: Status,
    body: Vec<u8>,
}

/// Why a wait did not make room for a request.
pub(crate) enum NoRoom {
    /// Too many responses are kept already: collect some first.
    Uncollected {
        /// How many are kept at the most.
        most: usize,
    },
    /// No response came that would have made room.
    Stopped(Stop),
}

impl Requester {
    pub(crate) fn new(requests: Producer, responses: Consumer) -> Requester {
        Requester {
            requests,
            responses,
            next: 0,
            expected: 0,
            abandoned: BTreeSet::new(),
            posted_to: 0,
            posts: 0,
            kept: VecDeque::new(),
            given_up: None,
            body: Vec::new(),
            told: None,
        }
    }

    /// The body of the response that was taken last.
    #[inline(always)]
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Requests whose responses were neither collected nor abandoned.
    pub(crate) fn outstanding(&self) -> usize {
        self.next.wrapping_sub(self.expected) as usize - self.abandoned.len() + self.kept.len()
    }

    /// Commits a request and returns its number. Does not block. The responder may still have to be
    /// [woken](Self::notify).
    #[inline(always)]
    pub(crate) fn try_publish<const N: usize>(
        &mut self,
        operation: Operation,
        flags: u16,
        body: [&[u8]; N],
    ) -> Result<u32, NotSent> {
        let sequence = self.next;
        let header = BlockHeader::new(operation as u16, flags, sequence).to_word();
        self.requests.try_publish(Some(header), &body)?;
        self.next = sequence.wrapping_add(1);
        if sequence.is_multiple_of(TELL_EVERY) {
            self.tell();
        }
        Ok(sequence)
    }

    /// Commits a post and wakes the responder if it sleeps. Does not block.
    pub(crate) fn try_post(&mut self, body: &[u8]) -> Result<(), NotSent> {
        let header = BlockHeader::new(Operation::Post as u16, 0, 0).to_word();
        self.requests.try_publish(Some(header), &[body])?;
        self.posts = self.posts.wrapping_add(1);
        if self.posts.is_multiple_of(TELL_EVERY) {
            self.tell();
        }
        self.posted_to = self.requests.position();
        self.notify();
        Ok(())
    }

    /// From now on this is done with what was asked so far: every [`TELL_EVERY`] requests, and whenever a
    /// response takes longer than a few looks. For a link.
    pub(crate) fn tell_counts(&mut self, tell: Box<dyn Fn(LinkCounts) + Send + Sync>) {
        let start = self.requests.position();
        self.told = Some(Told { tell, blocks: 0, next: self.next, posts: self.posts, start });
    }

    #[cold]
    #[inline(never)]
    fn tell(&mut self) {
        let Some(told) = &mut self.told else { return };
        let (calls, posts) = (self.next.wrapping_sub(told.next), self.posts.wrapping_sub(told.posts));
        told.blocks += u64::from(calls) + u64::from(posts);
        (told.next, told.posts) = (self.next, self.posts);
        let bytes = self.requests.position() - told.start;
        (told.tell)(LinkCounts { blocks: told.blocks, bytes });
    }

    /// Wakes the responder if it sleeps and was not notified of every request. Must be called before this
    /// thread does anything but wait for a response.
    #[inline]
    pub(crate) fn notify(&mut self) {
        notify_both(&mut self.requests, &mut self.responses);
    }

    /// Whether the responder may be asleep without having been notified of a request.
    #[cfg(test)]
    pub(super) fn owes_wake(&self) -> bool {
        self.requests.owes_wake()
    }

    /// Waits until there may be room for a request with a body of `len` bytes, for which there was none:
    /// until the next response, or with nothing outstanding until there is space.
    #[cold]
    pub(crate) fn make_room(&mut self, len: usize, deadline: &mut Deadline) -> Result<(), NoRoom> {
        self.notify();
        if self.expected == self.next {
            let deadline = Deadline::until(deadline.start());
            let waited = self.requests.wait_for_room(BLOCK_HEADER + len, deadline);
            return waited.map_err(|stop| NoRoom::Stopped(stop.into()));
        }
        if self.kept.len() >= MOST_KEPT {
            return Err(NoRoom::Uncollected { most: MOST_KEPT });
        }
        let until = deadline.start();
        // Posts may leave before the next response comes.
        let slice = (self.requests.head() < self.posted_to).then(|| now() + SLICE);
        let soonest = [slice, until].into_iter().flatten().min();
        match self.take_next(&mut Deadline::until(soonest), |stop| stop) {
            Ok(Some((_, status))) => self.keep(status),
            Ok(None) => {}
            Err(Stop::Deadline) if soonest != until => {}
            Err(stop) => return Err(NoRoom::Stopped(stop)),
        }
        Ok(())
    }

    /// Waits for the response to the request that was published last. Without one, the request is abandoned.
    ///
    /// `fail` makes the caller's own error. It is called inside, not on the returned result, because a result
    /// of a status or a [`Stop`] is packed into one register, which takes 16 instructions.
    #[inline(always)]
    pub(crate) fn await_response<E>(
        &mut self,
        sequence: u32,
        deadline: &mut Deadline,
        fail: impl Fn(Stop) -> E,
    ) -> Result<Status, E> {
        match self.await_answer(sequence, deadline, fail) {
            Ok(status) => Ok(status),
            Err(error) => {
                self.abandoned.insert(sequence);
                Err(error)
            }
        }
    }

    /// Looks briefly for the response before it makes the fence that a wake needs, unless the responder looks
    /// asleep: see [`exchange`](super::exchange).
    #[inline(always)]
    fn await_answer<E>(
        &mut self,
        sequence: u32,
        deadline: &mut Deadline,
        fail: impl Fn(Stop) -> E,
    ) -> Result<Status, E> {
        let asleep = self.requests.consumer_looks_parked();
        self.requests.clear_ahead();
        if !asleep
            && let Some(found) = self.responses.find_soon()
            && let Some(status) = self.accept_if(sequence, found, &fail)?
        {
            return Ok(status);
        }
        self.await_longer(sequence, deadline, fail)
    }

    /// Goes on after the first look. It is a function of its own so that the first look keeps its values in
    /// registers.
    #[cold]
    fn await_longer<E>(
        &mut self,
        sequence: u32,
        deadline: &mut Deadline,
        fail: impl Fn(Stop) -> E,
    ) -> Result<Status, E> {
        loop {
            self.notify();
            let found = match self.responses.find_soon() {
                Some(found) => found,
                None => self.find(deadline).map_err(&fail)?,
            };
            if let Some(status) = self.accept_if(sequence, found, &fail)? {
                return Ok(status);
            }
        }
    }

    /// Takes a response. If it answers a request that was published before this one, it is kept.
    #[inline(always)]
    fn accept_if<E>(
        &mut self,
        sequence: u32,
        found: Found,
        fail: impl Fn(Stop) -> E,
    ) -> Result<Option<Status>, E> {
        match self.accept(found, fail)? {
            Some((number, status)) if number == sequence => Ok(Some(status)),
            Some((_, status)) => {
                self.keep(status);
                Ok(None)
            }
            None => Ok(None),
        }
    }

    /// Announces that this end waits in an event loop: for a response, and with `wanted` also for room for a
    /// request with a body of that length. Returns false if one of them is there already: then look again.
    /// Room that is there is not wanted any more.
    #[must_use]
    pub(crate) fn arm(&mut self, wanted: &mut Option<usize>, pipe: &mut OwnPipe) -> bool {
        self.tell();
        self.notify();
        if !self.responses.take_kicks(pipe)
            || wanted.take_if(|len| !self.requests.arm_after_kicks(BLOCK_HEADER + *len, pipe)).is_some()
        {
            return false;
        }
        let armed = self.responses.arm_after_kicks(pipe) && pipe.waits();
        if !armed && wanted.is_some() {
            self.requests.disarm(pipe);
        }
        armed
    }

    /// Waits for the response to the oldest outstanding request, when none is [kept](Self::take_kept).
    pub(crate) fn receive<E>(
        &mut self,
        deadline: &mut Deadline,
        fail: impl Fn(Stop) -> E,
    ) -> Result<Status, E> {
        loop {
            if let Some((_, status)) = self.take_next(deadline, &fail)? {
                return Ok(status);
            }
        }
    }

    /// The same without waiting: `None` if the response is not there yet.
    pub(crate) fn try_receive(&mut self) -> Result<Option<Status>, Stop> {
        loop {
            let found = match self.responses.try_find() {
                Ok(Some(found)) => found,
                Ok(None) => return Ok(None),
                Err(ended) => return Err(ended.into()),
            };
            if let Some((_, status)) = self.accept(found, |stop| stop)? {
                return Ok(Some(status));
            }
        }
    }

    /// Keeps the responses that arrive before `until`. Also notices the end of the rings.
    pub(crate) fn keep_until(&mut self, until: Instant) -> Result<(), Stop> {
        loop {
            match self.take_next(&mut until.into(), |stop| stop) {
                Ok(Some((_, status))) => self.keep(status),
                Ok(None) => {}
                Err(Stop::Deadline) => return Ok(()),
                Err(stop) => return Err(stop),
            }
        }
    }

    /// Whether anything is kept: a response, or the reason for which a request gets none.
    pub(crate) fn has_kept(&self) -> bool {
        !self.kept.is_empty()
    }

    /// The oldest response that is kept, or why that request got none.
    pub(crate) fn take_kept(&mut self) -> Option<Result<Status, CloseReason>> {
        Some(self.kept.pop_front()?.map(|response| {
            self.body = response.body;
            response.status
        }))
    }

    /// Gives up the outstanding requests, which get no response. Collecting one of them returns the reason,
    /// once. A responder that has not noticed the end yet may commit a response later. It is for nobody, and
    /// breaks no rule.
    pub(crate) fn end_outstanding(&mut self, reason: CloseReason) {
        self.given_up = Some(reason);
        while self.expected != self.next {
            if !self.abandoned.remove(&self.expected) {
                self.kept.push_back(Err(reason));
            }
            self.expected = self.expected.wrapping_add(1);
        }
    }

    /// Goes on with other rings; the present ones are closed for this reason. The responses that they still
    /// hold are kept.
    #[cold]
    pub(crate) fn resume(&mut self, reason: CloseReason, requests: Producer, responses: Consumer) {
        // The ring is closed, so this takes what is there and does not wait.
        while let Ok(found) = self.responses.find(&mut Deadline::until(None)) {
            match self.accept(found, |stop| stop) {
                Ok(Some((_, status))) => self.keep(status),
                Ok(None) => {}
                Err(_) => break,
            }
        }
        self.end_outstanding(reason);
        (self.requests, self.responses) = (requests, responses);
        (self.next, self.expected, self.posted_to) = (0, 0, 0);
        self.given_up = None;
    }

    /// Closes the rings because the responder broke this rule.
    #[cold]
    pub(crate) fn reject(&mut self) {
        self.responses.reject();
    }

    fn keep(&mut self, status: Status) {
        let body = std::mem::take(&mut self.body);
        self.kept.push_back(Ok(Response { status, body }));
    }

    /// Waits for the next response and takes it: its number and status, with its body in `self.body`. `None`
    /// if it was abandoned.
    #[inline]
    fn take_next<E>(
        &mut self,
        deadline: &mut Deadline,
        fail: impl Fn(Stop) -> E,
    ) -> Result<Option<(u32, Status)>, E> {
        let found = match self.responses.find_soon() {
            Some(found) => found,
            None => self.find(deadline).map_err(&fail)?,
        };
        self.accept(found, fail)
    }

    /// Waits for the next response. Sleeps in slices while the responder may overlook this end.
    #[cold]
    fn find(&mut self, deadline: &mut Deadline) -> Result<Found, Stop> {
        self.tell();
        let deadline = effective_deadline(deadline.start());
        loop {
            // With nothing behind the awaited request, the responder looks for a sleeper as soon as it has
            // answered.
            let several = self.next.wrapping_sub(self.expected) > 1 || self.ends_with_post();
            let slice = (several && self.responses.may_sleep()).then(|| now() + SLICE);
            let until = [slice, deadline].into_iter().flatten().min();
            match self.responses.find(&mut Deadline::until(until)) {
                Err(ring::Stop::Deadline) if until != deadline => {}
                found => return Ok(found?),
            }
        }
    }

    /// Whether the request that was published last is a post.
    fn ends_with_post(&self) -> bool {
        self.posted_to == self.requests.position()
    }

    /// Takes the response that was found: see [`take_next`](Self::take_next).
    #[inline(always)]
    fn accept<E>(&mut self, found: Found, fail: impl Fn(Stop) -> E) -> Result<Option<(u32, Status)>, E> {
        // For the next request, which often follows at once.
        self.requests.prepare();
        let incoming = self.responses.take(found);
        let Some(header) = BlockHeader::of(&incoming) else {
            return Err(fail(self.violation(Violation::MalformedBlock)));
        };
        self.body.clear();
        incoming.append_to(BLOCK_HEADER, &mut self.body);
        incoming.release();
        let sequence = header.sequence.get();
        if sequence != self.expected || self.expected == self.next {
            return Err(fail(self.unexpected()));
        }
        let Some(status) = Status::from_code(header.code.get()) else {
            return Err(fail(self.violation(Violation::MalformedBlock)));
        };
        self.expected = sequence.wrapping_add(1);
        if !self.abandoned.is_empty() && self.abandoned.remove(&sequence) {
            return Ok(None);
        }
        Ok(Some((sequence, status)))
    }

    /// A response came to no request that waits for one, or out of order.
    #[cold]
    fn unexpected(&mut self) -> Stop {
        match self.given_up {
            Some(reason) => Stop::Closed(reason),
            None => self.violation(Violation::ResponseOrder),
        }
    }

    #[cold]
    fn violation(&mut self, violation: Violation) -> Stop {
        self.reject();
        Stop::Fault(violation)
    }
}
