//! `serve`: a link served by a service that awaits.

use std::fmt;
use std::future::poll_fn;
use std::thread;

use super::Ready;
use super::asynchronous::Async;
use super::runtime::{Lost, poll_until};
use crate::client::{Given, Responder};
use crate::codec::{FromPayload, PayloadError};
use crate::link::ServiceError;
use crate::wire::{CloseReason, Violation};

/// A request that an asynchronous service answers: [`Async::serve`]. It is the service's own.
pub struct OwnedRequest {
    payload: Vec<u8>,
    wants_response: bool,
}

impl fmt::Debug for OwnedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedRequest")
            .field("bytes", &self.payload.len())
            .field("wants_response", &self.wants_response)
            .finish()
    }
}

impl OwnedRequest {
    pub(super) fn new(payload: Vec<u8>, wants_response: bool) -> OwnedRequest {
        OwnedRequest { payload, wants_response }
    }

    /// What the caller sent.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The payload as a value: as [`Request::read`](crate::Request::read).
    ///
    /// # Errors
    ///
    /// The payload is not a `T`. With `?` the caller gets the error's text.
    pub fn read<'a, T: FromPayload<'a>>(&'a self) -> Result<T, PayloadError> {
        T::from_payload(&self.payload)
    }

    /// Whether the caller gets a response: as
    /// [`Request::wants_response`](crate::Request::wants_response).
    pub fn wants_response(&self) -> bool {
        self.wants_response
    }
}

/// How a link has ended, or why it cannot be served here any more.
pub(super) enum Over {
    Ended(Result<CloseReason, Violation>),
    Lost(Option<CloseReason>),
}

impl Lost for Over {
    fn disconnected(reason: CloseReason) -> Over {
        Over::Lost(Some(reason))
    }

    fn cannot_wait() -> Over {
        Over::Lost(None)
    }
}

/// A call that the service has. However that ends, the caller gets one answer.
struct Unanswered<'a> {
    responder: &'a mut Responder,
    /// None once it was answered, and for a post.
    sequence: Option<u32>,
}

impl Unanswered<'_> {
    fn answer(&mut self, answer: Result<&[u8], ServiceError>) {
        if let Some(sequence) = self.sequence.take() {
            self.responder.answer(sequence, answer);
        }
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if self.sequence.is_some() {
            self.answer(Err(given_up()));
        }
    }
}

/// What a caller is told whose call will not be answered.
pub(super) fn given_up() -> ServiceError {
    ServiceError::new(match thread::panicking() {
        true => "it panicked; its process's standard error may tell where",
        false => "it was given up before it had answered",
    })
}

impl Async<Responder> {
    /// Answers the caller's requests, in their order and one at a time, until the link ends: as
    /// [`Responder::serve`]. The service may await. It answers by what its future returns, and the caller
    /// gets the text of its error. To a post nobody answers, whatever it returns.
    ///
    /// While the service is awaited, nothing else of this link is served, and its end is not noticed. If the
    /// service panics, its caller is told, and the panic goes on.
    ///
    /// Dropped before its end, a request that the service has is answered with an error. Those behind it wait
    /// for the next call of this, or for the end of the link.
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
    /// async fn greet(request: OwnedRequest) -> Result<Vec<u8>, ServiceError> {
    ///     Ok([b"hello ", request.payload()].concat())
    /// }
    ///
    /// # let (_bus, alice, bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
    /// # let (mut alice, mut bob) = (Async::new(alice)?, Async::new(bob)?);
    /// let mut listener = bob.listen().await?;
    /// let serves = async {
    ///     let mut responder = Async::new(listener.accept().await?.accept()?)?;
    ///     responder.serve(greet).await?;
    ///     Ok::<(), Box<dyn std::error::Error>>(())
    /// };
    /// let calls = async {
    ///     let mut link = alice.connect("bob").await?;
    ///     assert_eq!(link.call(b"alice").await?, b"hello alice");
    ///     Ok::<(), Box<dyn std::error::Error>>(()) // drops the link
    /// };
    /// tokio::try_join!(serves, calls)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn serve<S, A, B>(&mut self, mut service: S) -> Result<CloseReason, Violation>
    where
        S: FnMut(OwnedRequest) -> A,
        A: Future<Output = Result<B, ServiceError>>,
        B: AsRef<[u8]>,
    {
        loop {
            let Async { end, watch, turns, .. } = &mut *self;
            let look = |end: &mut Responder| end.take().map_err(Over::Ended);
            let next = poll_fn(|cx| poll_until(cx, watch, turns, end, look, Ready::arm)).await;
            let Given { payload, sequence } = match next {
                Ok(given) => given,
                Err(Over::Ended(ended)) => return ended,
                // Nobody could wait for its requests.
                Err(Over::Lost(reason)) => return Ok(end.end_as(reason.unwrap_or(CloseReason::Local))),
            };
            let mut unanswered = Unanswered { responder: end, sequence };
            let request = OwnedRequest::new(payload, sequence.is_some());
            let answer = service(request).await;
            match answer {
                Ok(body) => unanswered.answer(Ok(body.as_ref())),
                Err(error) => unanswered.answer(Err(error)),
            }
        }
    }
}
