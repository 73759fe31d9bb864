//! `Responder`: the serving end of a link, on a thread of its owner.

#![forbid(unsafe_code)]

#[cfg(any(feature = "tokio", feature = "async-io"))]
mod steps;

use std::fmt;
use std::sync::Arc;

#[cfg(any(feature = "tokio", feature = "async-io"))]
pub(crate) use steps::{Given, Next};

use std::time::Instant;

use rustix::thread::Pid;

use super::end::{LinkEnd, OpenLink};
use super::tap::{self, LinkTap};
use crate::channel::LinkCounts;
use crate::client::{Closer, ReadinessError};
use crate::connect::TapKind;
use crate::link;
use crate::link::observed::{self, in_span, may_want_spans};
use crate::link::{DRAIN, End, Handler, Request, Response, Scheduler, ServiceError, Slot, is_post};
use crate::ring::layout::LINE;
use crate::ring::{self, Consumer, OwnPipe, Producer, WaitStrategy};
use crate::shm::PerProcess;
use crate::shm::backend::PipeReader;
use crate::testing::failpoints::fault;
use crate::wire::{BlockHeader, CloseReason, Peer, Status, Violation};

/// The serving end of a link: [`Incoming::accept`](super::Incoming::accept). It answers the calls of one
/// client, on the thread that calls [`serve`](Self::serve). Dropping it ends the link.
///
/// # Examples
///
/// ```
/// use ringpost::CloseReason;
///
/// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
/// let mut listener = bob.listen()?;
/// let serves = std::thread::spawn(move || -> Result<u32, ringpost::AcceptError> {
///     let mut responder = listener.accept()?.accept()?;
///     let mut calls = 0; // the service belongs to this thread, so it may change what it captures
///     let end = responder.serve(|request, response| {
///         calls += 1;
///         response.write(request.payload())
///     });
///     assert_eq!(end, Ok(CloseReason::Peer)); // alice has dropped her end
///     Ok(calls)
/// });
/// let mut link = alice.connect("bob")?;
/// assert_eq!(link.call(b"one")?, b"one");
/// assert_eq!(link.call(b"two")?, b"two");
/// drop(link);
/// assert_eq!(serves.join().unwrap()?, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Responder {
    end: LinkEnd,
    responder: link::Responder,
    /// How many requests a full ring holds.
    most_left: usize,
    figures: Figures,
    ended: Option<Result<CloseReason, Violation>>,
    /// What it waits by in an event loop, if it may.
    own: Option<OwnPipe>,
    /// Where copies of what it serves are published.
    pub(super) tap: Option<Arc<LinkTap>>,
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder")
            .field("peer", &self.end.peer.name)
            .field("closed", &self.end.reason())
            .finish_non_exhaustive()
    }
}

impl Responder {
    /// `reference` is a thread whose CPUs the library never changes, if those of the serving thread may be.
    pub(in crate::client) fn new(
        end: LinkEnd,
        (requests, responses): (Consumer, Producer),
        ring_size: usize,
        strategy: WaitStrategy,
        reference: Option<Pid>,
        own: Option<OwnPipe>,
    ) -> Responder {
        let slot = Slot::new(&scheduler(), strategy, end.closer.clone(), reference);
        let responder = link::Responder::new(requests, responses, slot);
        Responder {
            end,
            responder,
            most_left: ring_size / LINE,
            ended: None,
            figures: Figures::default(),
            own,
            tap: None,
        }
    }

    /// From now on the caller may wait in an event loop.
    pub(super) fn wake_after_each(&mut self) {
        self.responder.wake_after_each();
    }

    /// What to wait by in an event loop.
    pub(crate) fn pipe(&self) -> Result<Arc<PipeReader>, ReadinessError> {
        if let Some(reason) = self.end.reason() {
            return Err(ReadinessError::Disconnected(reason));
        }
        Ok(Arc::clone(self.own.as_ref().ok_or(ReadinessError::NotArmable)?.reader()))
    }

    /// Announces a wait by the pipe. Returns false if there is something to serve, or the end.
    pub(crate) fn arm_end(&mut self) -> Result<bool, ReadinessError> {
        if self.end.closer.is_forked() {
            return Ok(false);
        }
        self.figures.tell(&self.end.open, self.responder.done());
        let own = self.own.as_mut().ok_or(ReadinessError::NotArmable)?;
        Ok(self.ended.is_none() && self.responder.arm(own))
    }

    /// Who calls, as the server knew it when it introduced the two. Does not block.
    pub fn peer(&self) -> &Peer {
        &self.end.peer
    }

    /// A handle that ends this link from another thread or a signal handler. Does not block.
    pub fn closer(&self) -> Closer {
        Closer::of_link(&self.end)
    }

    /// Answers the caller's requests, in their order, until the link ends. Returns why it ended; later calls
    /// return the same at once.
    ///
    /// The service is as a server's: it answers by what it writes to the response, and the caller gets the
    /// text of its error, or is told that it panicked. For a [post](crate::Link::post),
    /// [`Request::wants_response`](crate::Request::wants_response) is false. What was posted before the
    /// caller's end is still served, at most one ring of it; calls are not.
    ///
    /// Blocks until the link ends: because the caller is gone, either client has ended, or a
    /// [closer](Self::closer) was used. It does not end with the server. While the service runs, nothing else
    /// of this link is served, and the end is not noticed.
    ///
    /// # Errors
    ///
    /// The [rule](Violation) that the caller broke. The link is closed then.
    pub fn serve<F>(&mut self, mut service: F) -> Result<CloseReason, Violation>
    where
        F: FnMut(Request<'_>, &mut Response<'_>) -> Result<(), ServiceError>,
    {
        if self.ended.is_none()
            && let Err(end) = self.responder.await_unsent()
        {
            return self.end_by(end, &mut service);
        }
        loop {
            if let Some(ended) = self.serve_some(&mut service, DRAIN) {
                return ended;
            }
        }
    }

    /// Waits for a request, and serves it and those right behind it, at most `most`. Returns how the link
    /// ended, if it has.
    pub(in crate::client) fn serve_some<F>(
        &mut self,
        service: &mut F,
        most: usize,
    ) -> Option<Result<CloseReason, Violation>>
    where
        F: FnMut(Request<'_>, &mut Response<'_>) -> Result<(), ServiceError>,
    {
        if self.ended.is_some() {
            return self.ended;
        }
        let mut answers = Answers::new(&mut *service, &self.end, &self.tap, &mut self.figures);
        if let Err(end) = self.responder.serve_some(&mut answers, most) {
            return Some(self.end_by(end, service));
        }
        self.figures.turns += 1;
        if self.figures.turns >= TELL_EVERY {
            self.figures.tell(&self.end.open, self.responder.done());
        }
        None
    }

    /// Answers the caller's requests that are there, at most 64, and waits for nothing: for an event loop, in
    /// which one thread serves many links. Returns `None` if the link goes on: [arm](crate::Ready::arm), or
    /// serve the next ones. Otherwise as [`serve`](Self::serve).
    ///
    /// The service must not block, because nothing else of the thread is served meanwhile. A response for
    /// which the caller has left no room is sent later, and until then no request is taken.
    ///
    /// # Errors
    ///
    /// Those of [`serve`](Self::serve).
    pub fn serve_ready<F>(&mut self, mut service: F) -> Result<Option<CloseReason>, Violation>
    where
        F: FnMut(Request<'_>, &mut Response<'_>) -> Result<(), ServiceError>,
    {
        if let Some(ended) = self.ended {
            return ended.map(Some);
        }
        let mut answers = Answers::new(&mut service, &self.end, &self.tap, &mut self.figures);
        match self.responder.serve_ready(&mut answers, DRAIN) {
            Ok(_) => Ok(None),
            Err(end) => self.end_by(end, &mut service).map(Some),
        }
    }

    /// Ends the link, for this reason, after the posts that are left.
    #[cold]
    fn end_by<F>(&mut self, end: End, service: &mut F) -> Result<CloseReason, Violation>
    where
        F: FnMut(Request<'_>, &mut Response<'_>) -> Result<(), ServiceError>,
    {
        let mut answers = Answers::new(service, &self.end, &self.tap, &mut self.figures);
        let ended = match end {
            End::Violation(violation) => Err(violation),
            End::Closed(reason) => {
                if !self.end.open.was_closed_here() {
                    self.responder.serve_posts_left(&mut answers, self.most_left);
                }
                Ok(reason)
            }
            // No request ends a link.
            End::Finished => Ok(CloseReason::Local),
        };
        self.end.close(ended.unwrap_or(CloseReason::ProtocolViolation));
        self.ended = Some(ended);
        ended
    }

    /// Whether nothing is there to be served.
    #[cfg(fuzzing)]
    pub(in crate::client) fn is_idle(&mut self) -> bool {
        self.ended.is_none() && self.responder.is_idle()
    }
}

/// After so many turns without a wait it is told what was served.
const TELL_EVERY: u32 = 16;

/// Calls the service for each request of a link.
struct Answers<'a, F> {
    service: F,
    peer: &'a Peer,
    closer: &'a ring::Closer,
    tap: Option<&'a LinkTap>,
    open: &'a OpenLink,
    figures: &'a mut Figures,
}

/// What is told of a link that is served to who looks at the bus.
#[derive(Default)]
struct Figures {
    /// How often requests were served since it was told last.
    turns: u32,
    /// Whether the next call is to be timed.
    times: bool,
}

impl Figures {
    /// Requests were served in a row, or none is there.
    fn tell(&mut self, open: &OpenLink, done: LinkCounts) {
        self.turns = 0;
        self.times = open.tell(done);
    }
}

impl<'a, F> Answers<'a, F>
where
    F: FnMut(Request<'_>, &mut Response<'_>) -> Result<(), ServiceError>,
{
    fn new(
        service: F,
        end: &'a LinkEnd,
        tap: &'a Option<Arc<LinkTap>>,
        figures: &'a mut Figures,
    ) -> Answers<'a, F> {
        let (peer, closer, open) = (&end.peer, &end.closer, &*end.open);
        Answers { service, peer, closer, tap: tap.as_deref(), open, figures }
    }

    /// Whether somebody may want to see what is served.
    #[inline(always)]
    fn is_watched(&self) -> bool {
        self.tap.is_some() || self.figures.times || may_want_spans()
    }

    /// Runs the service for a request that somebody may want to see.
    #[cold]
    #[inline(never)]
    fn run_watched(&mut self, request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
        let Answers { service, peer, tap, .. } = self;
        let times = std::mem::take(&mut self.figures.times).then(Instant::now);
        let mut run = |response: &mut Response<'_>| match may_want_spans() {
            true => in_span(peer, response.number(), || service(request, response)),
            false => service(request, response),
        };
        let served = match tap.filter(|tap| tap.is_wanted()) {
            None => run(response),
            Some(tap) => {
                let kind = if request.wants_response() { TapKind::Call } else { TapKind::Post };
                observed::tell(response, tap::MOST, run, |served| {
                    tap.tell(kind, peer, request.payload(), served);
                })
            }
        };
        if let Some(began) = times {
            self.open.tell_service(began.elapsed());
        }
        served
    }
}

impl<F> Handler for Answers<'_, F>
where
    F: FnMut(Request<'_>, &mut Response<'_>) -> Result<(), ServiceError>,
{
    fn idle(&mut self, done: LinkCounts) {
        self.figures.tell(self.open, done);
    }

    #[inline(always)]
    fn call(&mut self, payload: &[u8], response: &mut Response<'_>) -> Result<(), ServiceError> {
        if self.closer.is_closed() {
            return Err(too_late());
        }
        if self.is_watched() {
            return self.run_watched(Request::new(payload, self.peer), response);
        }
        (self.service)(Request::new(payload, self.peer), response)
    }

    fn post(&mut self, payload: &[u8], response: &mut Response<'_>) {
        if fault!("post") {
            return;
        }
        let request = Request::posted(payload, self.peer);
        let _ = match self.is_watched() {
            true => self.run_watched(request, response),
            false => (self.service)(request, response),
        };
    }

    #[inline(always)]
    fn answered(&mut self, _request: usize, _response: usize) {}

    #[inline(never)]
    fn other(&mut self, header: BlockHeader, responder: &mut link::Responder) -> Result<(), End> {
        if !is_post(&header) {
            return responder.respond(header.sequence.get(), Status::UnknownOperation, UNKNOWN);
        }
        responder.post(self);
        // What is left behind it is counted.
        self.closer.reason().map_or(Ok(()), |reason| Err(End::Closed(reason.into())))
    }
}

/// What a caller gets that asks for an operation that only its version knows.
const UNKNOWN: &[u8] =
    b"this client does not know the operation: use the same ringpost version on both sides";

/// The caller is gone, so nobody reads this.
#[cold]
fn too_late() -> ServiceError {
    ServiceError::new("the link has ended")
}

/// The scheduler of all serving ends in this process.
fn scheduler() -> Arc<Scheduler> {
    static SCHEDULER: PerProcess<Arc<Scheduler>> = PerProcess::new();
    match SCHEDULER.get_or_make(|| Ok(Arc::new(Scheduler::new(None)))) {
        Ok(scheduler) => Arc::clone(scheduler),
        // Out of memory for a word: this end takes part alone.
        Err(_) => Arc::new(Scheduler::new(None)),
    }
}
