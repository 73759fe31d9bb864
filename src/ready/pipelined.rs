//! `serve_pipelined`: a link served by a service that awaits, with several requests at once.
//!
//! Requests are taken as long as fewer than `max` are in the service's hands, and answered in the order in
//! which they came: an answer that is there early is kept. All of them are polled whenever the task is woken.
//! A response for which the caller has left no room is sent before the next answer.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Ready;
use super::asynchronous::Async;
use super::runtime::poll_until;
use super::serve::{Over, OwnedRequest, given_up};
use crate::client::{Given, Next, Responder};
use crate::link::ServiceError;
use crate::wire::{CloseReason, Violation};

/// A request that was taken and not answered.
struct Flight<A, B> {
    /// `None` for a post.
    sequence: Option<u32>,
    state: State<A, B>,
}

enum State<A, B> {
    Running(Pin<Box<A>>),
    Done(Result<B, ServiceError>),
    /// It was not one for the service, and is answered so.
    Unknown,
}

/// Those of one link, the oldest first. However it ends, each caller gets one answer, or the link's end.
struct Flights<'a, A, B: AsRef<[u8]>> {
    end: &'a mut Responder,
    all: VecDeque<Flight<A, B>>,
}

impl<A, B> Flights<'_, A, B>
where
    A: Future<Output = Result<B, ServiceError>>,
    B: AsRef<[u8]>,
{
    fn poll(&mut self, cx: &mut Context<'_>) {
        for flight in &mut self.all {
            if let State::Running(running) = &mut flight.state
                && let Poll::Ready(answer) = running.as_mut().poll(cx)
            {
                flight.state = State::Done(answer);
            }
        }
    }

    /// Answers the oldest ones that are done, as long as there is room.
    fn answer(&mut self) {
        while self.end.has_sent()
            && self.all.front().is_some_and(|flight| !matches!(flight.state, State::Running(_)))
            && let Some(flight) = self.all.pop_front()
        {
            answer(self.end, flight);
        }
    }
}

impl<A, B: AsRef<[u8]>> Drop for Flights<'_, A, B> {
    fn drop(&mut self) {
        for flight in std::mem::take(&mut self.all) {
            if flight.sequence.is_some() && !self.end.has_sent() {
                // There is no room for the rest, and no later answer may come before them.
                self.end.end_as(CloseReason::Local);
                return;
            }
            answer(self.end, flight);
        }
    }
}

fn answer<A, B: AsRef<[u8]>>(end: &mut Responder, flight: Flight<A, B>) {
    let Some(sequence) = flight.sequence else { return };
    match flight.state {
        State::Done(Ok(body)) => end.answer(sequence, Ok(body.as_ref())),
        State::Done(Err(error)) => end.answer(sequence, Err(error)),
        State::Running(_) => end.answer(sequence, Err(given_up())),
        State::Unknown => end.answer_unknown(sequence),
    }
}

impl Async<Responder> {
    /// Answers the caller's requests as [`serve`](Self::serve) does, but takes up to `max` of them before the
    /// first is answered, and awaits what the service does with all of them at once. The answers keep the
    /// order of the requests. It is for services that ask somebody further on, and wait for the answer.
    ///
    /// While `max` requests are awaited, no other is taken, and the link's end is not noticed. When it has
    /// ended, the futures of calls are dropped, and those of posts awaited.
    ///
    /// If the service or a future of it panics, or this is dropped before its end, each request that was
    /// taken is answered with an error. If there is no room for these answers, the link ends.
    ///
    /// # Errors
    ///
    /// The [rule](Violation) that the caller broke. The link is closed then.
    ///
    /// # Examples
    ///
    /// ```
    #[cfg_attr(feature = "tokio", doc = "# tokio::runtime::Runtime::new()?.block_on(async {")]
    #[cfg_attr(not(feature = "tokio"), doc = "# async_io::block_on(async {")]
    /// use ringpost::{Async, OwnedRequest, ServiceError};
    ///
    /// // Carol knows the answers, and bob asks her.
    /// # let (_bus, alice, bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
    /// # let (mut alice, mut bob) = (Async::new(alice)?, Async::new(bob)?);
    /// async fn ask_carol(request: OwnedRequest) -> Result<Vec<u8>, ServiceError> {
    ///     Ok(request.payload().to_ascii_uppercase())
    /// }
    ///
    /// let mut listener = bob.listen().await?;
    /// let serves = async {
    ///     let mut responder = Async::new(listener.accept().await?.accept()?)?;
    ///     responder.serve_pipelined(16, ask_carol).await?;
    ///     Ok::<(), Box<dyn std::error::Error>>(())
    /// };
    /// let calls = async {
    ///     let mut link = alice.connect("bob").await?;
    ///     link.submit(b"one").await?;
    ///     link.submit(b"two").await?;
    ///     assert_eq!(link.response().await?, b"ONE");
    ///     assert_eq!(link.response().await?, b"TWO");
    ///     Ok::<(), Box<dyn std::error::Error>>(()) // drops the link
    /// };
    /// tokio::try_join!(serves, calls)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn serve_pipelined<S, A, B>(
        &mut self,
        max: usize,
        mut service: S,
    ) -> Result<CloseReason, Violation>
    where
        S: FnMut(OwnedRequest) -> A,
        A: Future<Output = Result<B, ServiceError>>,
        B: AsRef<[u8]>,
    {
        let Async { end, watch, turns, .. } = &mut *self;
        let mut flights = Flights { end, all: VecDeque::new() };
        let over = loop {
            let next = poll_fn(|cx| {
                flights.poll(cx);
                flights.answer();
                // While all hands are full, only one that becomes free wakes this task, or room for an
                // answer.
                if flights.all.len() >= max.max(1) && flights.end.has_sent() {
                    return Poll::Pending;
                }
                let look = |flights: &mut Flights<'_, A, B>| {
                    flights.answer();
                    if flights.all.len() >= max.max(1) {
                        return Ok(None);
                    }
                    flights.end.take_next().map_err(Over::Ended)
                };
                poll_until(cx, watch, turns, &mut flights, look, |flights| flights.end.arm())
            });
            let flight = match next.await {
                Ok(Next::Given(Given { payload, sequence })) => {
                    let request = OwnedRequest::new(payload, sequence.is_some());
                    Flight { sequence, state: State::Running(Box::pin(service(request))) }
                }
                Ok(Next::Unknown(sequence)) => Flight { sequence: Some(sequence), state: State::Unknown },
                Err(over) => break over,
            };
            flights.all.push_back(flight);
        };
        let ended = match over {
            Over::Ended(ended) => ended,
            // Nobody could wait for its requests.
            Over::Lost(reason) => Ok(flights.end.end_as(reason.unwrap_or(CloseReason::Local))),
        };
        // Nobody reads answers any more, but what was posted is done.
        flights.all.retain(|flight| flight.sequence.is_none());
        poll_fn(|cx| {
            flights.poll(cx);
            flights.all.retain(|flight| matches!(flight.state, State::Running(_)));
            if flights.all.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        ended
    }
}
