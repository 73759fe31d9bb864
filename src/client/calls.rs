//! Calls of the server's service, one at a time and pipelined.

#![forbid(unsafe_code)]

use super::caller::Caller;
use super::error::CallError;
use crate::codec::{Payload, Reply};
use crate::ring::Deadline;

impl Caller {
    /// Calls the server's service and waits for its response, which stays readable until the next operation.
    /// Bytes, text, or a value with a codec; see [`codec`](crate::codec).
    ///
    /// Blocks until the response is there, and before that, if submitted calls fill the request ring, until
    /// there is room. Responses to calls that were [submitted](Self::submit) before come first and are kept.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; never [`TimedOut`](CallError::TimedOut).
    #[inline]
    pub fn call(&mut self, request: impl Payload) -> Result<Reply<'_>, CallError> {
        request.encode(self.calls.limits.max_call, |bytes| self.calls.call(bytes, Deadline::never()))?
    }

    /// As [`call`](Self::call), but blocks until the [deadline](Deadline) at most: a duration, a point in
    /// time, or `None`.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. After [`TimedOut`](CallError::TimedOut) the call may have been executed, or may yet
    /// be. Its response is discarded when it comes, and the client can be used as before.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{CallError, Client, Request, Response, Server};
    /// use std::time::{Duration, Instant};
    ///
    /// # use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    /// # static GIVEN_UP: AtomicBool = AtomicBool::new(false);
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let _server = Server::builder(&path)
    ///     .service(|request: Request<'_>, response: &mut Response<'_>| {
    ///         if request.payload() == b"slow" {
    ///             std::thread::sleep(Duration::from_millis(50));
    /// #           while !GIVEN_UP.load(Relaxed) { std::thread::yield_now(); }
    ///         }
    ///         response.write(request.payload())
    ///     })
    ///     .start()?;
    /// let mut client = Client::register(&path, "alice")?;
    /// let late = client.call_timeout(b"slow", Duration::from_millis(5));
    /// # GIVEN_UP.store(true, Relaxed);
    /// assert_eq!(late.unwrap_err(), CallError::TimedOut);
    /// let deadline = Instant::now() + Duration::from_secs(30); // one for several operations
    /// assert_eq!(client.call_timeout(b"quick", deadline)?, b"quick");
    /// assert_eq!(client.call_timeout(b"again", deadline)?, b"again");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn call_timeout(
        &mut self,
        request: impl Payload,
        deadline: impl Into<Deadline>,
    ) -> Result<Reply<'_>, CallError> {
        let deadline = deadline.into();
        request.encode(self.calls.limits.max_call, |bytes| self.calls.call(bytes, deadline))?
    }

    /// Sends a call without waiting for its response, which [`response`](Self::response) collects. Several
    /// calls may be outstanding; responses come in their order.
    ///
    /// Blocks only while the request ring is full because the server is behind. Responses that arrive
    /// meanwhile are kept.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. The call was not sent.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::CallError;
    ///
    /// # let (_bus, client) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/one.rs"));
    /// let (mut caller, _inbox) = client.split();
    /// caller.submit(b"one")?;
    /// caller.submit_all([b"two", b"six"])?;
    /// assert_eq!(caller.outstanding(), 3);
    /// assert_eq!(caller.response()?, b"one");
    /// assert_eq!(caller.response()?, b"two");
    /// assert_eq!(caller.response()?, b"six");
    /// assert_eq!(caller.response().unwrap_err(), CallError::NothingOutstanding);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn submit(&mut self, request: impl Payload) -> Result<(), CallError> {
        self.calls.submit(request)
    }

    /// As [`submit`](Self::submit), but never blocks.
    ///
    /// It does not register a reconnecting client again: it goes on when another operation has done so.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; [`Full`](CallError::Full) if there is no room in the request ring now. The call was
    /// not sent.
    pub fn try_submit(&mut self, request: impl Payload) -> Result<(), CallError> {
        self.calls.try_submit(request)
    }

    /// Sends several calls as [`submit`](Self::submit) sends one, and blocks as it does. It costs less than
    /// submitting them one by one.
    ///
    /// Each call is sent before the iterator is asked for the next one, so the iterator may wait for what an
    /// earlier call does. If it panics, the calls before are submitted.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. The calls before the one that failed were submitted;
    /// [`outstanding`](Self::outstanding) tells how many.
    pub fn submit_all<P: Payload>(&mut self, requests: impl IntoIterator<Item = P>) -> Result<(), CallError> {
        self.calls.submit_all(requests)
    }

    /// Waits for the response to the oldest submitted call. It stays readable until the next operation.
    ///
    /// Blocks until it is there; not at all if it was kept already.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; [`NothingOutstanding`](CallError::NothingOutstanding) if every response was
    /// collected. A response that says that the service failed counts as collected. After the end of
    /// the channel each call that got no response returns [`Disconnected`](CallError::Disconnected), once.
    pub fn response(&mut self) -> Result<Reply<'_>, CallError> {
        self.calls.response(Deadline::NEVER)
    }

    /// As [`response`](Self::response), but blocks until the [deadline](Deadline) at most.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. After [`TimedOut`](CallError::TimedOut) the response is still outstanding: ask
    /// again.
    pub fn response_timeout(&mut self, deadline: impl Into<Deadline>) -> Result<Reply<'_>, CallError> {
        self.calls.response(deadline.into())
    }

    /// As [`response`](Self::response), but never blocks: `None` if the response is not there yet.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; [`NothingOutstanding`](CallError::NothingOutstanding) if every response was
    /// collected.
    pub fn try_response(&mut self) -> Result<Option<Reply<'_>>, CallError> {
        self.calls.try_response()
    }

    /// How many submitted calls have responses that were not collected yet. Does not block.
    pub fn outstanding(&self) -> usize {
        self.calls.outstanding()
    }
}
