//! Calls of the server's service, one at a time and pipelined.

#![forbid(unsafe_code)]

use super::ask::unsendable;
use super::caller::Caller;
use super::error::{CallError, no_response, refused};
use crate::codec::{Payload, Reply};
use crate::ring::{Deadline, NotSent};
use crate::wire::{CloseReason, Operation, Status};

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
        request.encode(self.session.limits.max_call, |bytes| self.call_bytes(bytes, Deadline::never()))?
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
    /// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
    /// let _server = Server::builder(&path)
    ///     .service(|request: Request<'_>, response: &mut Response<'_>| {
    ///         if request.payload() == b"slow" {
    ///             std::thread::sleep(Duration::from_millis(50));
    ///         }
    ///         response.write(request.payload())
    ///     })
    ///     .start()?;
    /// let mut client = Client::register(&path, "alice")?;
    /// let late = client.call_timeout(b"slow", Duration::from_millis(5));
    /// assert_eq!(late.unwrap_err(), CallError::TimedOut);
    /// let deadline = Instant::now() + Duration::from_secs(5); // one for several operations
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
        request.encode(self.session.limits.max_call, |bytes| self.call_bytes(bytes, deadline))?
    }

    // Always inline: as a function it would return its result through memory.
    #[inline(always)]
    fn call_bytes(&mut self, request: &[u8], mut deadline: Deadline) -> Result<Reply<'_>, CallError> {
        let status = self.ask(Operation::Call, 0, [request], &mut deadline)?;
        self.reply(status)
    }

    #[inline(always)]
    fn reply(&self, status: Status) -> Result<Reply<'_>, CallError> {
        match status {
            Status::Ok => Ok(Reply::new(self.requester.body())),
            status => Err(refused(status, self.requester.body())),
        }
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
        request.encode(self.session.limits.max_call, |bytes| self.submit_bytes(bytes))?
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
        request.encode(self.session.limits.max_call, |bytes| self.try_submit_bytes(bytes))?
    }

    fn try_submit_bytes(&mut self, request: &[u8]) -> Result<(), CallError> {
        loop {
            let submitted = self.requester.try_publish(Operation::Call, 0, [request]);
            match submitted {
                Err(NotSent::Closed(reason)) => self.renew_now(reason.into())?,
                submitted => {
                    self.requester.notify();
                    return submitted.map(|_| ()).map_err(unsendable);
                }
            }
        }
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
        // Declared before the guard, and so dropped after it: its drop is the user's code too.
        let mut requests = requests.into_iter();
        let submitting = Submitting(self);
        loop {
            submitting.0.wake_worker();
            let Some(request) = requests.next() else { return Ok(()) };
            let max = submitting.0.session.limits.max_call;
            request.encode(max, |bytes| submitting.0.submit_quietly(bytes))??;
        }
    }

    #[inline(never)]
    fn submit_bytes(&mut self, request: &[u8]) -> Result<(), CallError> {
        self.submit_quietly(request)?;
        self.requester.notify();
        Ok(())
    }

    #[inline]
    fn submit_quietly(&mut self, request: &[u8]) -> Result<(), CallError> {
        match self.requester.try_publish(Operation::Call, 0, [request]) {
            Ok(_) => Ok(()),
            Err(error) => {
                self.publish_after(error, Operation::Call, 0, [request], &mut Deadline::never()).map(|_| ())
            }
        }
    }

    /// Wakes the worker if it sleeps and was not told of all requests. Must be called before this thread
    /// leaves or runs the user's code, which may wait for what a request does.
    #[inline]
    fn wake_worker(&mut self) {
        // That code may have forked, and this be the child; then the rings are its parent's.
        if !self.session.is_forked() {
            self.requester.notify();
        }
    }

    /// Waits for the response to the oldest submitted call. It stays readable until the next operation.
    ///
    /// Blocks until it is there; not at all if it was kept already.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; [`NothingOutstanding`](CallError::NothingOutstanding) if every response was
    /// collected. A response that says that the service failed counts as collected.
    pub fn response(&mut self) -> Result<Reply<'_>, CallError> {
        self.response_until(Deadline::NEVER)
    }

    /// As [`response`](Self::response), but blocks until the [deadline](Deadline) at most.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. After [`TimedOut`](CallError::TimedOut) the response is still outstanding: ask
    /// again.
    pub fn response_timeout(&mut self, deadline: impl Into<Deadline>) -> Result<Reply<'_>, CallError> {
        self.response_until(deadline.into())
    }

    /// As [`response`](Self::response), but never blocks: `None` if the response is not there yet.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; [`NothingOutstanding`](CallError::NothingOutstanding) if every response was
    /// collected.
    pub fn try_response(&mut self) -> Result<Option<Reply<'_>>, CallError> {
        if let Some(status) = self.kept_response()? {
            return self.reply(status).map(Some);
        }
        match self.requester.try_receive() {
            Ok(None) => Ok(None),
            Ok(Some(status)) => self.reply(status).map(Some),
            Err(stop) => {
                let error = no_response(stop);
                self.ended(&error, true);
                Err(error)
            }
        }
    }

    fn response_until(&mut self, mut deadline: Deadline) -> Result<Reply<'_>, CallError> {
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

    /// The response to the oldest submitted call, if it was kept. An error if there is none to come.
    fn kept_response(&mut self) -> Result<Option<Status>, CallError> {
        if self.outstanding() == 0 {
            return Err(CallError::NothingOutstanding);
        }
        // In a forked child even what has arrived is the parent's.
        if self.requester.has_kept() && self.session.is_forked() {
            return Err(CallError::Disconnected(CloseReason::Forked));
        }
        self.requester.take_kept().transpose().map_err(CallError::Disconnected)
    }

    /// How many submitted calls have responses that were not collected yet. Does not block.
    pub fn outstanding(&self) -> usize {
        self.requester.outstanding()
    }
}

/// A caller that submits several calls. However that ends, also by a panic of the user's iterator, the worker
/// is told of all that were committed.
struct Submitting<'c>(&'c mut Caller);

impl Drop for Submitting<'_> {
    fn drop(&mut self) {
        self.0.wake_worker();
    }
}
