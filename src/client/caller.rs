//! The asking half of a client.
//!
//! Requests are numbered, and responses come in the order of the requests, so one number tells what the next response must
//! carry: anything else is a violation. A response whose waiter gave up is discarded when it comes. A caller with calls
//! outstanding waits on the response ring only; while there is no room for a further request it takes responses into a queue, so that
//! two full rings cannot block each other. With nothing outstanding the request ring is empty, since the server gives
//! a request's place back before it commits the response.

#![forbid(unsafe_code)]

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Limits;
use super::error::{CallError, SendError, no_response, not_sent, refused};
use super::session::{CloseHandle, Session, deadline_in};
use crate::connect::listing::decode_page;
use crate::protocol::{Address, BLOCK_HEADER, BlockHeader, KEY, Key, Name, Operation, Status, WAITS, take};
use crate::registry::{ClientInfo, Counters};
use crate::ring::{
    CloseReason, Consumer, Found, Producer, RecvTimeoutError, SendTimeoutError, TrySendError, Violation,
    notify_both,
};

/// How long a dropped client waits for the server to confirm that it is unregistered.
const PATIENCE_OF_DROP: Duration = Duration::from_secs(1);

/// How long the answer to a message is awaited at least.
const LEAST_PATIENCE: Duration = Duration::from_millis(if cfg!(fuzzing) { 0 } else { 5 });

/// How long to sleep at most with several requests outstanding. A worker that commits the first of their responses in the
/// very nanoseconds in which we lie down may overlook us, and the service may take its time over the next.
const SLICE: Duration = Duration::from_millis(50);

/// Most responses taken into the queue before `submit` asks to collect some: a bound on memory.
const MOST_QUEUED: usize = 1 << 16;

/// Calls the service, sends messages and asks the registry. One half of a [`Client`](super::Client).
#[derive(Debug)]
pub struct Caller {
    requests: Producer,
    responses: Consumer,
    session: Arc<Session>,
    /// The number of the next request, and of the next response to come.
    next: u32,
    expected: u32,
    /// Requests whose waiter gave up: their responses are discarded.
    abandoned: BTreeSet<u32>,
    /// Responses that came before anybody asked for them.
    queue: VecDeque<Response>,
    /// The body of the response last given out.
    body: Vec<u8>,
    unregistered: bool,
}

#[derive(Debug)]
struct Response {
    status: Status,
    body: Vec<u8>,
}

impl Caller {
    pub(super) fn new(requests: Producer, responses: Consumer, session: Arc<Session>) -> Caller {
        Caller {
            requests,
            responses,
            session,
            next: 0,
            expected: 0,
            abandoned: BTreeSet::new(),
            queue: VecDeque::new(),
            body: Vec::new(),
            unregistered: false,
        }
    }

    /// This client's key.
    pub fn key(&self) -> Key {
        self.session.key
    }

    /// This client's name.
    pub fn name(&self) -> &Name {
        &self.session.name
    }

    /// What the server's settings allow.
    pub fn limits(&self) -> Limits {
        self.session.limits
    }

    /// A handle that ends a wait here from another thread, and with it the registration.
    pub fn close_handle(&self) -> CloseHandle {
        CloseHandle::new(&self.session)
    }

    // ---- calls

    /// Calls the server's service and waits for its response, which stays readable until the next operation.
    #[inline]
    pub fn call(&mut self, request: &[u8]) -> Result<&[u8], CallError> {
        self.call_until(request, None)
    }

    /// Calls the service, waiting at most this long. After a time-out the call may have been executed; its response is discarded.
    pub fn call_timeout(&mut self, request: &[u8], timeout: Duration) -> Result<&[u8], CallError> {
        self.call_until(request, Instant::now().checked_add(timeout))
    }

    /// Calls the service, waiting until the deadline. After a time-out the call may have been executed; its response is discarded.
    pub fn call_deadline(&mut self, request: &[u8], deadline: Instant) -> Result<&[u8], CallError> {
        self.call_until(request, Some(deadline))
    }

    #[inline]
    fn call_until(&mut self, request: &[u8], deadline: Option<Instant>) -> Result<&[u8], CallError> {
        match self.ask(Operation::Call, 0, [request], deadline)? {
            Status::Ok => Ok(&self.body),
            status => Err(refused(status, &self.body)),
        }
    }

    // ---- pipelined calls

    /// Sends a call without waiting for its response: collect it with [`response`](Self::response). Several calls may be
    /// outstanding; responses come in their order.
    ///
    /// Waits for room if the server is behind. Responses that arrive meanwhile are kept.
    ///
    /// # Errors
    ///
    /// [`CallError::Uncollected`] if 65,536 responses are kept already; see [`CallError`] for the others.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bus");
    /// # let _server = Server::builder(&path).start()?;
    /// let mut client = Client::register(&path, "alice")?;
    /// client.submit(b"one")?;
    /// client.submit(b"two")?;
    /// assert_eq!(client.outstanding(), 2);
    /// assert_eq!(client.response()?, b"one");
    /// assert_eq!(client.response()?, b"two");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn submit(&mut self, request: &[u8]) -> Result<(), CallError> {
        self.submit_quietly(request, None)?;
        notify_both(&mut self.requests, &mut self.responses);
        Ok(())
    }

    /// Sends several calls, waking the server once for all of them. On an error the calls before the one that failed
    /// were submitted; [`outstanding`](Self::outstanding) tells how many.
    pub fn submit_all<'r>(&mut self, requests: impl IntoIterator<Item = &'r [u8]>) -> Result<(), CallError> {
        let done = requests.into_iter().try_for_each(|request| self.submit_quietly(request, None));
        notify_both(&mut self.requests, &mut self.responses);
        done
    }

    /// The response to the oldest call submitted, waiting as long as it takes.
    pub fn response(&mut self) -> Result<&[u8], CallError> {
        self.response_until(None)
    }

    /// The response to the oldest call submitted, waiting at most this long. After a time-out it is still outstanding.
    pub fn response_timeout(&mut self, timeout: Duration) -> Result<&[u8], CallError> {
        self.response_until(Instant::now().checked_add(timeout))
    }

    /// Calls submitted whose responses were not collected yet.
    pub fn outstanding(&self) -> usize {
        self.next.wrapping_sub(self.expected) as usize - self.abandoned.len() + self.queue.len()
    }

    fn submit_quietly(&mut self, request: &[u8], deadline: Option<Instant>) -> Result<(), CallError> {
        self.publish(Operation::Call, 0, [request], deadline)?;
        Ok(())
    }

    fn response_until(&mut self, deadline: Option<Instant>) -> Result<&[u8], CallError> {
        if self.outstanding() == 0 {
            return Err(CallError::NothingOutstanding);
        }
        let status = match self.queue.pop_front() {
            Some(response) => {
                self.body = response.body;
                response.status
            }
            None => loop {
                if let Some((_, status)) = self.receive(deadline)? {
                    break status;
                }
            },
        };
        match status {
            Status::Ok => Ok(&self.body),
            status => Err(refused(status, &self.body)),
        }
    }

    // ---- messages

    /// Sends a message to the client with this key. `Ok` means that it is in that client's inbox; a full inbox is an
    /// error at once.
    pub fn send(&mut self, to: Key, message: &[u8]) -> Result<(), SendError> {
        self.check_message(message)?;
        let status = self.ask(Operation::Send, 0, [&to.to_bytes(), message], None)?;
        self.sent(status)
    }

    /// Sends a message, waiting at most this long for room in the receiver's inbox. Senders that wait are served in their order.
    pub fn send_timeout(&mut self, to: Key, message: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.send_deadline(to, message, deadline_in(timeout))
    }

    /// Sends a message, waiting until the deadline for room in the receiver's inbox. Senders that wait are served in their order.
    ///
    /// The server gives up a little before the deadline, by an eighth of the time but at most 10 ms, so that its answer still
    /// arrives. The answer is awaited for 5 ms in any case, even if the deadline is nearer or past.
    pub fn send_deadline(&mut self, to: Key, message: &[u8], deadline: Instant) -> Result<(), SendError> {
        self.check_message(message)?;
        let now = Instant::now();
        let left = deadline.saturating_duration_since(now);
        // The server is to give up a little before us, so that we hear whether the message was delivered.
        let patience = left - (left / 8).min(Duration::from_millis(10));
        let nanoseconds = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
        let parts = [&to.to_bytes()[..], &nanoseconds.to_le_bytes(), message];
        // And however short the time is, the answer itself needs some.
        let deadline = deadline.max(now + LEAST_PATIENCE);
        let status = self.ask(Operation::Send, WAITS, parts, Some(deadline))?;
        self.sent(status)
    }

    fn check_message(&self, message: &[u8]) -> Result<(), SendError> {
        let max = self.session.limits.max_message;
        if message.len() > max {
            return Err(SendError::TooLarge { len: message.len(), max });
        }
        Ok(())
    }

    fn sent(&self, status: Status) -> Result<(), SendError> {
        Err(match status {
            Status::Ok => return Ok(()),
            Status::NotFound => SendError::UnknownKey,
            Status::InboxFull => SendError::InboxFull,
            Status::Gone => SendError::Gone,
            Status::TimedOut => SendError::TimedOut,
            status => refused(status, &self.body).into(),
        })
    }

    // ---- the registry

    /// The key of the client that is registered under this name now, if there is one.
    pub fn look_up(&mut self, name: &Name) -> Result<Option<Key>, CallError> {
        match self.ask(Operation::LookUp, 0, [name.as_str().as_bytes()], None)? {
            Status::Ok => match take::<KEY>(&self.body) {
                Some((key, [])) => Ok(Some(Key::from_bytes(key))),
                _ => Err(self.violation(Violation::MalformedBlock)),
            },
            Status::NotFound => Ok(None),
            status => Err(refused(status, &self.body)),
        }
    }

    /// The key that an address stands for: itself, or that of the client with this name.
    pub fn resolve(&mut self, address: &Address) -> Result<Option<Key>, CallError> {
        match address {
            Address::Key(key) => Ok(Some(*key)),
            Address::Name(name) => self.look_up(name),
        }
    }

    /// Who is registered now. Clients that come or go while the pages of a long list are fetched may or may not be in it.
    pub fn list(&mut self) -> Result<Vec<ClientInfo>, CallError> {
        let mut clients = Vec::new();
        let mut from_slot = 0_u32;
        loop {
            let status = self.ask(Operation::List, 0, [&from_slot.to_le_bytes()[..]], None)?;
            if status != Status::Ok {
                return Err(refused(status, &self.body));
            }
            let Some((page, next)) = decode_page(&self.body) else {
                return Err(self.violation(Violation::MalformedBlock));
            };
            clients.extend(page);
            match next {
                None => return Ok(clients),
                Some(next) if next > from_slot => from_slot = next,
                Some(_) => return Err(self.violation(Violation::MalformedBlock)),
            }
        }
    }

    /// Asks the server whether it serves.
    pub fn ping(&mut self) -> Result<(), CallError> {
        match self.ask::<0>(Operation::Ping, 0, [], None)? {
            Status::Ok => Ok(()),
            status => Err(refused(status, &self.body)),
        }
    }

    /// What the server counted for this client.
    pub fn statistics(&mut self) -> Result<Counters, CallError> {
        let status = self.ask::<0>(Operation::Statistics, 0, [], None)?;
        if status != Status::Ok {
            return Err(refused(status, &self.body));
        }
        match decode_page(&self.body) {
            Some((own, None)) if own.len() == 1 => Ok(own[0].counters),
            _ => Err(self.violation(Violation::MalformedBlock)),
        }
    }

    /// Leaves the bus. When this returns `Ok`, the name is free. Messages that were committed before can still be received.
    pub fn unregister(mut self) -> Result<(), CallError> {
        self.unregister_until(None)
    }

    /// As [`unregister`](Self::unregister), waiting at most this long for the server's confirmation. The registration ends in any case.
    pub fn unregister_timeout(mut self, timeout: Duration) -> Result<(), CallError> {
        self.unregister_until(Instant::now().checked_add(timeout))
    }

    fn unregister_until(&mut self, deadline: Option<Instant>) -> Result<(), CallError> {
        self.unregistered = true;
        let status = self.ask::<0>(Operation::Unregister, 0, [], deadline)?;
        self.session.closer.close_as(CloseReason::Unregistered);
        match status {
            Status::Ok => Ok(()),
            status => Err(refused(status, &self.body)),
        }
    }

    // ---- one request, one response

    /// One request and its response, whose body is then in `self.body`.
    #[inline]
    fn ask<const N: usize>(
        &mut self,
        operation: Operation,
        flags: u16,
        body: [&[u8]; N],
        deadline: Option<Instant>,
    ) -> Result<Status, CallError> {
        let sequence = self.publish(operation, flags, body, deadline)?;
        // A worker that sleeps is woken at once. One that seems awake is asked for sure, which takes a fence, when its
        // response does not come quickly.
        let asleep = self.requests.consumer_looks_parked();
        self.requests.clear_ahead();
        let mut found = if asleep { None } else { self.responses.find_soon() };
        if found.is_none() {
            notify_both(&mut self.requests, &mut self.responses);
        }
        loop {
            let received = match found.take() {
                Some(found) => self.accept(found),
                None => self.receive(deadline),
            };
            match received {
                Ok(Some((number, status))) if number == sequence => return Ok(status),
                // The response to a call submitted before.
                Ok(Some((_, status))) => self.keep(status),
                Ok(None) => {}
                Err(CallError::TimedOut) => {
                    self.abandoned.insert(sequence);
                    return Err(CallError::TimedOut);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Commits a request and gives it a number. The server may still have to be woken.
    #[inline]
    fn publish<const N: usize>(
        &mut self,
        operation: Operation,
        flags: u16,
        body: [&[u8]; N],
        deadline: Option<Instant>,
    ) -> Result<u32, CallError> {
        let sequence = self.next;
        let header = BlockHeader::new(operation as u16, flags, sequence);
        loop {
            match self.try_publish(&header, body) {
                Ok(()) => break,
                Err(TrySendError::Full) => self.make_room(deadline)?,
                Err(TrySendError::TooLarge { len, max }) => {
                    let (len, max) = (len - BLOCK_HEADER, max - BLOCK_HEADER);
                    return Err(CallError::TooLarge { len, max });
                }
                Err(TrySendError::Disconnected(reason)) => {
                    return Err(not_sent(SendTimeoutError::Disconnected(reason)));
                }
                Err(TrySendError::Violation(violation)) => return Err(CallError::Violation(violation)),
            }
        }
        self.next = sequence.wrapping_add(1);
        Ok(sequence)
    }

    #[inline]
    fn try_publish<const N: usize>(
        &mut self,
        header: &BlockHeader,
        body: [&[u8]; N],
    ) -> Result<(), TrySendError> {
        let header = &header.to_bytes()[..];
        // The ring takes the header and the body's parts as they are; no operation has more than three.
        match body.as_slice() {
            [] => self.requests.try_publish([header]),
            [one] => self.requests.try_publish([header, one]),
            [one, two] => self.requests.try_publish([header, one, two]),
            [one, two, three] => self.requests.try_publish([header, one, two, three]),
            _ => unreachable!("no operation has more parts"),
        }
    }

    /// There is no room for a request, so some are outstanding: the next response to come makes room.
    #[cold]
    fn make_room(&mut self, deadline: Option<Instant>) -> Result<(), CallError> {
        notify_both(&mut self.requests, &mut self.responses);
        if self.queue.len() >= MOST_QUEUED {
            return Err(CallError::Uncollected { most: MOST_QUEUED });
        }
        if let Some((_, status)) = self.receive(deadline)? {
            self.keep(status);
        }
        Ok(())
    }

    fn keep(&mut self, status: Status) {
        let body = std::mem::take(&mut self.body);
        self.queue.push_back(Response { status, body });
    }

    /// The next response: its number and status, with its body in `self.body`. `None` if it was one that nobody waits for.
    #[inline]
    fn receive(&mut self, deadline: Option<Instant>) -> Result<Option<(u32, Status)>, CallError> {
        let found = match self.responses.find_soon() {
            Some(found) => found,
            None => self.find(deadline)?,
        };
        self.accept(found)
    }

    /// Waits for the next response, in slices while the server may overlook us.
    #[cold]
    fn find(&mut self, deadline: Option<Instant>) -> Result<Found, CallError> {
        loop {
            // With nothing behind the awaited one, the worker looks for a sleeper as soon as it has answered.
            let several = self.next.wrapping_sub(self.expected) > 1;
            let slice = several.then(|| Instant::now() + SLICE);
            let until = [slice, deadline].into_iter().flatten().min();
            match self.responses.find(until) {
                Err(RecvTimeoutError::TimedOut) if until != deadline => {}
                found => return found.map_err(no_response),
            }
        }
    }

    /// Takes the response that was found.
    #[inline(always)]
    fn accept(&mut self, found: Found) -> Result<Option<(u32, Status)>, CallError> {
        // For the next request, which often follows at once.
        self.requests.prepare();
        let incoming = self.responses.take(found);
        let Some(header) = BlockHeader::of(&incoming) else {
            return Err(self.violation(Violation::MalformedBlock));
        };
        self.body.clear();
        incoming.append_to(BLOCK_HEADER, &mut self.body);
        incoming.release();
        let sequence = header.sequence.get();
        if sequence != self.expected || self.expected == self.next {
            return Err(self.violation(Violation::ResponseOrder));
        }
        let Some(status) = Status::from_code(header.code.get()) else {
            return Err(self.violation(Violation::MalformedBlock));
        };
        self.expected = sequence.wrapping_add(1);
        if !self.abandoned.is_empty() && self.abandoned.remove(&sequence) {
            return Ok(None);
        }
        Ok(Some((sequence, status)))
    }

    #[cold]
    fn violation(&mut self, violation: Violation) -> CallError {
        CallError::Violation(self.responses.reject(violation))
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if !self.unregistered && self.session.closer.reason().is_none() {
            // The connection ends in any case; this only makes the name free before we return.
            let _ = self.unregister_until(Some(Instant::now() + PATIENCE_OF_DROP));
        }
        // An inbox that lives on gives out what was committed, then the reason.
        self.session.end(CloseReason::Unregistered);
    }
}
