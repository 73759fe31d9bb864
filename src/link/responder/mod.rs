//! The serving end of a link: takes requests and commits one complete response block for each.
//!
//! For each request, the responder copies the block out, releases its place, lets the [`Handler`] do what it
//! asks, and commits the response. The place is released first (`head` is stored before the response is
//! committed), so a requester whose requests are all answered finds its request ring empty.
//!
//! A responder that finds more requests behind the first, or that come within its first few looks, serves up
//! to [`DRAIN`] of them and pays one fence for all: see [`exchange`](super::exchange).

mod event_loop;
#[cfg(any(feature = "tokio", feature = "async-io"))]
mod steps;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

#[cfg(any(feature = "tokio", feature = "async-io"))]
pub(crate) use steps::Taken;

use super::exchange::{Serves, drain};
use super::scheduler::Slot;
use super::service::{Finished, Response, ServiceError};
use crate::channel::LinkCounts;
use crate::ring::{Consumer, Deadline, Ended, Found, NotSent, Producer, SendError, Stop, notify_both};
use crate::wire::{BLOCK_HEADER, BlockHeader, CloseReason, Operation, Status, Violation};

/// The most requests that are served between two fences.
pub(crate) const DRAIN: usize = 64;

/// What a responder does for each request.
pub(crate) trait Handler {
    /// A wait for requests is over: this is called before the first of those that are now served in one go.
    #[inline(always)]
    fn begin(&mut self) {}

    /// No request is there: the responder is about to wait for one. It has done so much.
    fn idle(&mut self, done: LinkCounts) {
        let _ = done;
    }

    /// Answers a call with what it writes to the response. It may panic: the caller is told, nobody else.
    fn call(&mut self, payload: &[u8], response: &mut Response<'_>) -> Result<(), ServiceError>;

    /// As [`call`](Self::call), for a request that gets no response: what is written is thrown away.
    fn post(&mut self, payload: &[u8], response: &mut Response<'_>) {
        let _ = (payload, response);
    }

    /// A call was answered: the bytes of its request and of its response.
    fn answered(&mut self, request: usize, response: usize);

    /// Answers a request for any other operation with exactly one [response](Responder::respond). Its body is
    /// [`Responder::body`].
    fn other(&mut self, header: BlockHeader, responder: &mut Responder) -> Result<(), End>;
}

/// Why a responder stops.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// Its handler has nothing more to serve.
    Finished,
    Closed(CloseReason),
    Violation(Violation),
}

impl From<Ended> for End {
    fn from(ended: Ended) -> End {
        match ended {
            Ended::Closed(reason) => End::Closed(reason.into()),
            Ended::Fault(violation) => End::Violation(violation.into()),
        }
    }
}

/// The serving end of a pair of rings.
pub(crate) struct Responder {
    requests: Consumer,
    responses: Producer,
    slot: Slot,
    /// The request's body: a copy that nobody changes any more.
    body: Vec<u8>,
    /// A response that does not fit into the ring in one piece.
    spare: Vec<u8>,
    /// The number of the call that the handler is serving.
    serving: Option<u32>,
    /// Whether the requester may wait in an event loop.
    wakes_after_each: bool,
    /// Whether nothing may wait: a response that has no room is [left unsent](Self::unsent).
    in_event_loop: bool,
    /// The number and the status of a response without room. Its body is in `spare`.
    unsent: Option<(u32, Status)>,
    /// What was taken before it began to serve, and where the responses began.
    start: (u64, u64),
}

impl Responder {
    pub(crate) fn new(requests: Consumer, responses: Producer, slot: Slot) -> Responder {
        let start = (requests.taken(), responses.position());
        Responder {
            start,
            requests,
            responses,
            slot,
            body: Vec::new(),
            spare: Vec::new(),
            serving: None,
            wakes_after_each: false,
            in_event_loop: false,
            unsent: None,
        }
    }

    /// How many requests were taken, and how many bytes of the ring its responses took.
    pub(crate) fn done(&self) -> LinkCounts {
        let (blocks, bytes) = self.start;
        LinkCounts { blocks: self.requests.taken() - blocks, bytes: self.responses.position() - bytes }
    }

    /// From now on the requester may wait in an event loop: see [`exchange`](super::exchange).
    pub(crate) fn wake_after_each(&mut self) {
        self.wakes_after_each = true;
    }

    /// Waits for a request, and serves it and those right behind it, at most `most`. Returns how many.
    pub(crate) fn serve_some(&mut self, handler: &mut impl Handler, most: usize) -> Result<usize, End> {
        let mut served = 0;
        let mut serving = Serving { responder: self, handler, served: &mut served };
        // A handler that panics leaves no trace in the ring: its response was not committed.
        match catch_unwind(AssertUnwindSafe(|| drain(&mut serving, most))) {
            Ok(drained) => drained?,
            Err(panic) => match self.serving.take() {
                Some(sequence) => self.answer_panic(handler, sequence, panic)?,
                None => resume_unwind(panic),
            },
        }
        self.notify();
        Ok(served)
    }

    /// Serves the post that is [`body`](Self::body). What the handler writes is overwritten with zeros, and
    /// nobody is told if it panics.
    pub(crate) fn post(&mut self, handler: &mut impl Handler) {
        // The service may take long. A requester that waits for room goes on meanwhile: no response will wake
        // it.
        match self.responses.owes_wake() {
            // Nor one that waits for a response to an earlier request.
            true => self.notify(),
            false => self.requests.settle(),
        }
        let mut response = Response::begin(&mut self.responses, &mut self.spare, 0);
        let posted = catch_unwind(AssertUnwindSafe(|| handler.post(&self.body, &mut response)));
        drop(response);
        if let Err(panic) = posted {
            dispose(panic);
        }
    }

    /// Serves the posts that are left after the requester has ended, among the next `most` requests, and
    /// nothing else. A requester that goes on publishing is not served for ever.
    pub(crate) fn serve_posts_left(&mut self, handler: &mut impl Handler, most: usize) {
        for _ in 0..most {
            let Ok(Some(found)) = self.requests.try_find() else { return };
            let incoming = self.requests.take(found);
            let post = BlockHeader::of(&incoming).is_some_and(|header| is_post(&header));
            self.body.clear();
            let len = incoming.len().saturating_sub(BLOCK_HEADER);
            let read = post && self.body.try_reserve(len).is_ok();
            if read {
                incoming.append_to(BLOCK_HEADER, &mut self.body);
            }
            incoming.release();
            if read {
                self.post(handler);
            }
        }
    }

    /// The body of the request that is being served.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// The longest body of a response.
    pub(crate) fn max_body(&self) -> usize {
        self.responses.max_block() - BLOCK_HEADER
    }

    /// Behind the last response that was committed.
    pub(crate) fn responded(&self) -> u64 {
        self.responses.position()
    }

    /// Commits a response, which is cut to the [longest](Self::max_body). Waits for room if the requester has
    /// not read enough of the earlier ones.
    pub(crate) fn respond(&mut self, sequence: u32, status: Status, body: &[u8]) -> Result<(), End> {
        let header = Some(BlockHeader::new(status as u16, 0, sequence).to_word());
        let body = &body[..body.len().min(self.max_body())];
        let error = match self.responses.try_publish(header, &[body]) {
            Ok(()) => return Ok(()),
            Err(NotSent::Full) if self.in_event_loop => {
                self.unsent = Some((sequence, status));
                self.spare.clear();
                self.spare.extend_from_slice(body);
                return Ok(());
            }
            Err(NotSent::Full) => {
                self.before_wait();
                match self.responses.publish(header, &[body], Deadline::NEVER) {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                }
            }
            Err(error) => error.into(),
        };
        Err(match error {
            SendError::Violation(violation) => End::Violation(violation.into()),
            SendError::Disconnected(reason) => End::Closed(reason.into()),
            // None of these can be: there was no deadline, and the body was cut to fit.
            SendError::Full | SendError::TimedOut | SendError::TooLarge { .. } => {
                End::Closed(CloseReason::Local)
            }
        })
    }

    /// Must be called before a handler waits for anything. It wakes a requester that sleeps, because no wake
    /// follows before the wait ends, and gives the slot back, so that no other responder waits for it.
    pub(crate) fn before_wait(&mut self) {
        self.notify();
        self.slot.release(self.requests.yields());
    }

    /// A request was passed on to another requester, whose answer this one may wait for.
    pub(crate) fn passed_on(&mut self) {
        self.slot.passed_on();
    }

    /// Wakes the requester if it sleeps and was not notified of every response.
    pub(crate) fn notify(&mut self) {
        notify_both(&mut self.responses, &mut self.requests);
    }

    /// Whether no request is there.
    #[cfg(fuzzing)]
    pub(crate) fn is_idle(&mut self) -> bool {
        matches!(self.requests.find(&mut Deadline::from(std::time::Instant::now())), Err(Stop::Deadline))
    }

    /// Takes the request that was found, copies its body, and does with it what `then` says, which gets its
    /// header and its body's length. If there is no memory for the body, its requester is told.
    #[inline(always)]
    fn take<T: Default>(
        &mut self,
        found: Found,
        then: impl FnOnce(&mut Responder, BlockHeader, usize) -> Result<T, End>,
    ) -> Result<T, End> {
        self.responses.prepare();
        let incoming = self.requests.take(found);
        let Some(header) = BlockHeader::of(&incoming) else {
            self.requests.reject();
            return Err(End::Violation(Violation::MalformedBlock));
        };
        self.body.clear();
        let len = incoming.len() - BLOCK_HEADER;
        if len > self.body.capacity() && self.body.try_reserve(len).is_err() {
            incoming.release_quietly();
            return self.no_memory(header, len).map(|()| T::default());
        }
        incoming.append_to(BLOCK_HEADER, &mut self.body);
        incoming.release_quietly();
        then(self, header, len)
    }

    /// Takes the request that was found and does what it asks.
    #[inline(always)]
    fn serve(&mut self, handler: &mut impl Handler, found: Found) -> Result<(), End> {
        self.take(found, |responder, header, len| {
            if header.code.get() == Operation::Call as u16 {
                return responder.call(handler, header.sequence.get(), len);
            }
            handler.other(header, responder)
        })
    }

    #[inline(always)]
    fn call(&mut self, handler: &mut impl Handler, sequence: u32, len: usize) -> Result<(), End> {
        // By the known length: the vector's own length was stored just now, and loading it back together with
        // its pointer is slow.
        let payload = &self.body[..len];
        let mut response = Response::begin(&mut self.responses, &mut self.spare, sequence);
        self.serving = Some(sequence);
        let answered = handler.call(payload, &mut response);
        self.serving = None;
        let finished = match answered {
            Ok(()) => {
                let finished = response.finish();
                std::mem::forget(response);
                finished
            }
            Err(error) => response.fail(error),
        };
        let bytes = match finished {
            Finished::Committed { bytes } => bytes,
            Finished::Spare(status) => self.respond_spare(sequence, status)?,
        };
        handler.answered(self.body.len(), bytes);
        Ok(())
    }

    #[inline(never)]
    fn respond_spare(&mut self, sequence: u32, status: Status) -> Result<usize, End> {
        let body = std::mem::take(&mut self.spare);
        let published = self.respond(sequence, status, &body);
        let bytes = body.len();
        // Otherwise it has a copy.
        if self.unsent.is_none() {
            self.spare = body;
        }
        published.map(|()| bytes)
    }

    /// The handler panicked at this call.
    #[cold]
    fn answer_panic(
        &mut self,
        handler: &mut impl Handler,
        sequence: u32,
        panic: Box<dyn Any + Send>,
    ) -> Result<(), End> {
        const TEXT: &[u8] = b"it panicked; its process's standard error may tell where";
        dispose(panic);
        handler.answered(self.body.len(), TEXT.len());
        self.respond(sequence, Status::ServiceFailed, TEXT)
    }

    /// Answers a request for which there is no memory. The process must not end, because it serves others,
    /// too.
    #[cold]
    fn no_memory(&mut self, header: BlockHeader, len: usize) -> Result<(), End> {
        if is_post(&header) {
            return Ok(());
        }
        let text =
            format!("it has no memory for {len} bytes; send less at once, or give it more (ulimit -v)");
        self.respond(header.sequence.get(), Status::Internal, text.as_bytes())
    }

    #[cold]
    fn wait_for_slot(&mut self) {
        self.before_wait();
        self.slot.acquire(self.requests.yields());
    }
}

impl Drop for Responder {
    /// Frees the slot, so that nobody waits for it, however the responder ends.
    fn drop(&mut self) {
        self.slot.release(self.requests.yields());
    }
}

/// Whether a request gets no response.
pub(crate) fn is_post(header: &BlockHeader) -> bool {
    header.code.get() == Operation::Post as u16
}

/// A responder and its handler at work.
struct Serving<'a, H> {
    responder: &'a mut Responder,
    handler: &'a mut H,
    served: &'a mut usize,
}

impl<H: Handler> Serves for Serving<'_, H> {
    type End = End;

    #[inline(always)]
    fn rings(&mut self) -> (&mut Consumer, &mut Producer) {
        (&mut self.responder.requests, &mut self.responder.responses)
    }

    #[inline(always)]
    fn wakes_after_each(&self) -> bool {
        self.responder.wakes_after_each
    }

    #[inline(always)]
    fn served(&mut self) -> &mut usize {
        self.served
    }

    #[inline(always)]
    fn begin(&mut self) {
        self.handler.begin();
    }

    #[cold]
    fn wait(&mut self) -> Result<Found, End> {
        self.handler.idle(self.responder.done());
        loop {
            let Responder { slot, requests, .. } = &mut *self.responder;
            match slot.wait(requests) {
                Ok(found) => return Ok(found),
                Err(Stop::Closed(reason)) => return Err(End::Closed(reason.into())),
                Err(Stop::Fault(violation)) => return Err(End::Violation(violation.into())),
                // There was no deadline.
                Err(Stop::Deadline) => {}
            }
        }
    }

    #[inline(always)]
    fn serve(&mut self, found: Found) -> Result<(), End> {
        let Serving { responder, handler, .. } = self;
        if responder.slot.before_request(&responder.requests) {
            responder.wait_for_slot();
        }
        responder.serve(*handler, found)
    }
}

/// Drops the value of a panic in the program's code. If the drop panics too, the rest of the value is leaked.
pub(crate) fn dispose(panic: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::link::Scheduler;
    use crate::ring::layout::{CONSUMER_PARKED, PRODUCER_PARKED};
    use crate::ring::{Closer, Peer, Setup, WaitStrategy, local_setup};
    use crate::shm::backend::Ordering;

    const RING: usize = 4096;
    const SECRET: &[u8; 8] = b"a secret";

    /// Both ends of a link, whose requester does not heed its close.
    struct Link {
        setups: [Setup; 2],
        responder: Responder,
        requests: Producer,
        responses: Consumer,
    }

    fn link() -> Link {
        let setups = [0, 1].map(|_| local_setup(RING, WaitStrategy::Park, 0).unwrap());
        let gate = setups[0].closer.clone();
        let slot = Slot::new(&Arc::new(Scheduler::new(Some(2))), WaitStrategy::Park, gate, None);
        let others = |setup: &Setup| {
            let closer = Closer::new(setup.view.clone(), setup.scope, Vec::new(), None, Peer::Unheard);
            Setup { closer, closes_on_drop: None, ..setup.clone() }
        };
        Link {
            responder: Responder::new(Consumer::new(&setups[0]), Producer::new(&setups[1]), slot),
            requests: Producer::new(&others(&setups[0])),
            responses: Consumer::new(&others(&setups[1])),
            setups,
        }
    }

    fn ask(requests: &mut Producer, operation: Operation, body: &[u8]) {
        let header = BlockHeader::new(operation as u16, 0, 0).to_word();
        requests.try_publish(Some(header), &[body]).unwrap();
    }

    /// Echoes calls; remembers posts, answers them with what nobody may see, and does more as it is told.
    struct Notes<F> {
        posts: Vec<Vec<u8>>,
        calls: usize,
        at_post: F,
    }

    fn notes<F: FnMut()>(at_post: F) -> Notes<F> {
        Notes { posts: Vec::new(), calls: 0, at_post }
    }

    impl<F: FnMut()> Handler for Notes<F> {
        fn call(&mut self, payload: &[u8], response: &mut Response<'_>) -> Result<(), ServiceError> {
            self.calls += 1;
            response.write(payload)
        }

        fn post(&mut self, payload: &[u8], response: &mut Response<'_>) {
            self.posts.push(payload.to_vec());
            response.write(SECRET).unwrap();
            (self.at_post)();
        }

        fn answered(&mut self, _request: usize, _response: usize) {}

        fn other(&mut self, header: BlockHeader, responder: &mut Responder) -> Result<(), End> {
            assert!(is_post(&header));
            responder.post(self);
            Ok(())
        }
    }

    /// Whether the ring of the responses holds what a service wrote for nobody.
    fn shows_a_secret(link: &Link) -> bool {
        let Setup { view, control, data, capacity, .. } = &link.setups[1];
        let mut ring = Vec::new();
        view.ring(*control, *data, *capacity).append_to(0, 0, RING, &mut ring);
        ring.windows(SECRET.len()).any(|bytes| bytes == SECRET)
    }

    #[test]
    fn a_post_is_not_answered_and_what_was_written_is_overwritten() {
        let mut link = link();
        ask(&mut link.requests, Operation::Post, b"one");
        ask(&mut link.requests, Operation::Call, b"two");
        ask(&mut link.requests, Operation::Post, b"three");
        let mut notes = notes(|| {});
        assert_eq!(link.responder.serve_some(&mut notes, DRAIN).unwrap(), 3);
        assert_eq!((notes.posts, notes.calls), (vec![b"one".to_vec(), b"three".to_vec()], 1));
        let mut block = Vec::new();
        assert_eq!(link.responses.try_recv(&mut block), Ok(Some(BLOCK_HEADER + 3)));
        assert_eq!(&block[BLOCK_HEADER..], b"two");
        assert_eq!(link.responses.try_recv(&mut block), Ok(None));
        assert!(!shows_a_secret(&link));
    }

    #[test]
    fn nobody_hears_of_a_post_that_panics() {
        let mut link = link();
        for body in [b"one", b"two"] {
            ask(&mut link.requests, Operation::Post, body);
        }
        let mut notes = notes(|| panic!("at every post"));
        assert_eq!(link.responder.serve_some(&mut notes, DRAIN).unwrap(), 2);
        assert_eq!(notes.posts.len(), 2);
        assert_eq!(link.responses.try_recv(&mut Vec::new()), Ok(None));
        assert!(!shows_a_secret(&link));
    }

    /// The service of a post may take long, and no response of it wakes anybody.
    #[test]
    fn a_requester_that_sleeps_is_woken_before_a_post_is_served() {
        for (answers_a_call, ring, parked) in [(true, 1, CONSUMER_PARKED), (false, 0, PRODUCER_PARKED)] {
            let mut link = link();
            let word = link.setups[ring].view.pin32(parked);
            if answers_a_call {
                ask(&mut link.requests, Operation::Call, b"");
                // It falls asleep behind the look that follows the response, so that only the fence finds it.
                let mut notes = notes(|| {});
                drain_one(&mut link, &mut notes);
            }
            ask(&mut link.requests, Operation::Post, b"");
            word.store(1, Ordering::Relaxed);
            let mut seen = None;
            let mut notes = notes(|| seen = Some(word.load(Ordering::Relaxed)));
            drain_one(&mut link, &mut notes);
            drop(notes);
            assert_eq!(seen, Some(0));
        }
    }

    /// Serves one request and leaves the wakes, as in the middle of a drain.
    fn drain_one(link: &mut Link, handler: &mut impl Handler) {
        let mut served = 0;
        let mut serving = Serving { responder: &mut link.responder, handler, served: &mut served };
        drain(&mut serving, 1).unwrap();
    }

    /// A requester that has ended may go on publishing.
    #[test]
    fn after_the_end_at_most_so_many_posts_are_served_and_no_call() {
        let mut link = link();
        link.setups[0].closer.close();
        ask(&mut link.requests, Operation::Call, b"no");
        for _ in 0..3 {
            ask(&mut link.requests, Operation::Post, b"one");
            ask(&mut link.requests, Operation::Call, b"no");
        }
        let requests = &mut link.requests;
        let mut notes = notes(|| ask(requests, Operation::Post, b"more"));
        link.responder.serve_posts_left(&mut notes, 20);
        assert_eq!((notes.posts.len(), notes.calls), (16, 0), "of twenty requests four were calls");
        drop(notes);
        assert!(!shows_a_secret(&link));
        let mut quiet = Notes { posts: Vec::new(), calls: 0, at_post: || {} };
        link.responder.serve_posts_left(&mut quiet, usize::MAX);
        assert_eq!(quiet.posts.len(), 3, "those that came meanwhile, and it ends with the ring");
    }
}
