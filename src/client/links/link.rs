//! `Link`: the calling end of a link, with its operations.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use super::end::LinkEnd;
use super::options::LinkOptions;
use crate::channel::{Geometry, LinkEnds};
use crate::client::ask::Calls;
use crate::client::{CallError, Closer, Limits, ReadinessError};
use crate::codec::{Payload, Reply};
use crate::ring::{Deadline, OwnPipe};
use crate::shm::backend::PipeReader;
use crate::wire::{BLOCK_HEADER, Peer};

/// A direct channel to another client, which serves this one: [`Client::connect`](crate::Client::connect).
///
/// A call goes to the other process without the server in between, so it costs what a call to the server's
/// own service costs. A link belongs to two clients and ends with either of them. It goes on when the server
/// dies, and when a client [registers again](crate::Reconnect); it never leads to another client than
/// [`peer`](Self::peer), even if that one's name is taken by somebody else later.
///
/// Its operations are served in order, one at a time. To have two calls served at once, open two links.
/// Dropping it closes it: the other client hears of that at once, and a call that it is serving may still be
/// executed.
///
/// | operation | waits for | at most |
/// | --- | --- | --- |
/// | [`call`](Self::call) and its twin | the response | the deadline, if any |
/// | [`post`](Self::post), [`submit`](Self::submit), [`submit_all`](Self::submit_all) | room | |
/// | [`response`](Self::response) and its twin | the oldest call's response | the deadline, if any |
/// | [`try_submit`](Self::try_submit), [`try_post`](Self::try_post) | nothing | |
/// | [`try_response`](Self::try_response) | nothing | |
///
/// Every wait also ends when the other client ends, closes the link or dies, and when this client does or a
/// [closer](Self::closer) is used. What was committed before is received first.
///
/// Two clients that call each other while they serve each other wait for ever, like two threads that lock two
/// mutexes in different orders: use [`call_timeout`](Self::call_timeout), or let another thread serve.
///
/// # Examples
///
/// ```
/// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
/// let _serving = bob.listen()?.serve(|request, response| response.write(request.payload()))?;
/// let mut link = alice.connect("bob")?; // usually in another process
/// assert_eq!(link.peer().key, bob.key());
/// assert_eq!(link.call(b"ping")?, b"ping");
/// link.submit(b"one")?;
/// link.submit(b"two")?;
/// assert_eq!(link.response()?, b"one");
/// assert_eq!(link.response()?, b"two");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Link {
    calls: Calls,
    end: LinkEnd,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.end.open.show("Link", f)
    }
}

impl Link {
    /// Of a peer that has accepted.
    pub(in crate::client) fn new(
        end: LinkEnd,
        ends: LinkEnds,
        geometry: &Geometry,
        own: Option<OwnPipe>,
    ) -> Link {
        let max_call = geometry.max_block() - BLOCK_HEADER;
        let limits = Limits { max_call, max_message: max_call, ring_size: geometry.ring_size() };
        let mut calls = Calls::of_link(ends.producer, ends.consumer, limits, ends.closer, own);
        let open = Arc::clone(&end.open);
        calls.requester.tell_counts(Box::new(move |counts| _ = open.tell(counts)));
        Link { calls, end }
    }

    #[cfg(any(feature = "tokio", feature = "async-io"))]
    pub(crate) fn own_calls(&mut self) -> &mut Calls {
        &mut self.calls
    }

    /// Begins to set up a link that differs from what [`connect`](crate::Client::connect) opens. Does not
    /// block: nobody is asked yet.
    pub fn options() -> LinkOptions {
        LinkOptions::default()
    }

    /// What to wait by in an event loop.
    pub(crate) fn pipe(&self) -> Result<Arc<PipeReader>, ReadinessError> {
        self.calls.pipe()
    }

    /// Announces a wait by the pipe. Returns false if there is something to look at.
    pub(crate) fn arm_end(&mut self) -> Result<bool, ReadinessError> {
        self.calls.arm()
    }

    /// Calls the other client's service and waits for its response, which stays readable until the next
    /// operation. Bytes, text, or a value with a codec; see [`codec`](crate::codec).
    ///
    /// Blocks until the response is there, and before that, if submitted calls or posts fill the ring, until
    /// there is room. Responses to calls that were [submitted](Self::submit) before come first and are kept.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; never [`TimedOut`](CallError::TimedOut). A call on a link that has ended is
    /// [`NotSent`](CallError::NotSent).
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{CallError, CloseReason, ServiceError};
    ///
    /// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
    /// let serving = bob.listen()?.serve(|request, response| match request.payload() {
    ///     b"fail" => Err(ServiceError::new("out of order")),
    ///     other => response.write(other),
    /// })?;
    /// let mut link = alice.connect("bob")?;
    /// assert_eq!(link.call(b"fail"), Err(CallError::ServiceFailed("out of order".into())));
    /// assert_eq!(link.call(b"go on")?, b"go on");
    /// drop(serving); // bob closes his links
    /// assert!(link.call(b"still there?").unwrap_err().is_disconnected());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    /// be. Its response is discarded when it comes, and the link can be used as before.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::CallError;
    /// use std::time::Duration;
    ///
    /// # use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    /// # static GIVEN_UP: AtomicBool = AtomicBool::new(false);
    /// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
    /// let _serving = bob.listen()?.serve(|request, response| {
    ///     if request.payload() == b"slow" {
    ///         std::thread::sleep(Duration::from_millis(50));
    /// #       while !GIVEN_UP.load(Relaxed) { std::thread::yield_now(); }
    ///     }
    ///     response.write(request.payload())
    /// })?;
    /// let mut link = alice.connect("bob")?;
    /// let late = link.call_timeout(b"slow", Duration::from_millis(5));
    /// # GIVEN_UP.store(true, Relaxed);
    /// assert_eq!(late.unwrap_err(), CallError::TimedOut);
    /// assert_eq!(link.call_timeout(b"quick", Duration::from_secs(30))?, b"quick");
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

    /// Sends one way: the other client serves it like a call, in order with the calls of this link, but
    /// nobody answers, whether it succeeds, fails or panics. Its
    /// [`wants_response`](crate::Request::wants_response) is `false`.
    ///
    /// `Ok` means that it is in the other client's ring. It is known to have been served when a later call of
    /// this link is answered; it is lost with a client that ends before.
    ///
    /// Blocks only while the ring is full because the other client is behind.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. It was not sent.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
    /// let noted = AtomicUsize::new(0);
    /// let _serving = bob.listen()?.serve(move |request, response| {
    ///     if request.wants_response() {
    ///         return response.write(&noted.load(Ordering::Relaxed).to_string());
    ///     }
    ///     noted.fetch_add(1, Ordering::Relaxed);
    ///     Ok(())
    /// })?;
    /// let mut link = alice.connect("bob")?;
    /// for _ in 0..5 {
    ///     link.post(b"note this")?;
    /// }
    /// assert_eq!(link.call(b"how many?")?, b"5"); // after the posts
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn post(&mut self, message: impl Payload) -> Result<(), CallError> {
        message.encode(self.calls.limits.max_call, |bytes| self.calls.post(bytes))?
    }

    /// As [`post`](Self::post), but never blocks.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; [`Full`](CallError::Full) if there is no room in the ring now. It was not sent.
    pub fn try_post(&mut self, message: impl Payload) -> Result<(), CallError> {
        message.encode(self.calls.limits.max_call, |bytes| self.calls.try_post(bytes))?
    }

    /// Sends a call without waiting for its response, which [`response`](Self::response) collects. Several
    /// calls may be outstanding; responses come in their order.
    ///
    /// Blocks only while the ring is full because the other client is behind. Responses that arrive meanwhile
    /// are kept.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. The call was not sent.
    ///
    /// # Examples
    ///
    /// See [`submit_all`](Self::submit_all).
    pub fn submit(&mut self, request: impl Payload) -> Result<(), CallError> {
        self.calls.submit(request)
    }

    /// As [`submit`](Self::submit), but never blocks.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; [`Full`](CallError::Full) if there is no room in the ring now. The call was not
    /// sent.
    pub fn try_submit(&mut self, request: impl Payload) -> Result<(), CallError> {
        self.calls.try_submit(request)
    }

    /// Sends several calls as [`submit`](Self::submit) sends one, and blocks as it does. It costs less than
    /// submitting them one by one.
    ///
    /// Each call is sent before the iterator is asked for the next one.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. The calls before the one that failed were submitted;
    /// [`outstanding`](Self::outstanding) tells how many.
    ///
    /// # Examples
    ///
    /// ```
    /// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
    /// let _serving = bob.listen()?.serve(|request, response| response.write(request.payload()))?;
    /// let mut link = alice.connect("bob")?;
    /// link.submit_all([b"one", b"two"])?;
    /// link.submit(b"three")?;
    /// assert_eq!(link.outstanding(), 3);
    /// for expected in ["one", "two", "three"] {
    ///     assert_eq!(link.response()?, expected);
    /// }
    /// assert_eq!(link.outstanding(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    /// the link each call that got no response returns [`Disconnected`](CallError::Disconnected), once.
    ///
    /// # Examples
    ///
    /// See [`submit_all`](Self::submit_all).
    pub fn response(&mut self) -> Result<Reply<'_>, CallError> {
        self.calls.response(Deadline::NEVER)
    }

    /// As [`response`](Self::response), but blocks until the [deadline](Deadline) at most.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. After [`TimedOut`](CallError::TimedOut) the response is still outstanding: ask
    /// again.
    ///
    /// # Examples
    ///
    /// See [`try_response`](Self::try_response).
    pub fn response_timeout(&mut self, deadline: impl Into<Deadline>) -> Result<Reply<'_>, CallError> {
        self.calls.response(deadline.into())
    }

    /// As [`response`](Self::response), but never blocks: `None` if the response is not there yet.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; [`NothingOutstanding`](CallError::NothingOutstanding) if every response was
    /// collected.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    ///
    /// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
    /// let mut listener = bob.listen()?;
    /// let (go, waiting) = mpsc::channel::<()>();
    /// let server = std::thread::spawn(move || {
    ///     let mut responder = listener.accept().unwrap().accept().unwrap();
    ///     responder.serve(|request, response| {
    ///         let _ = waiting.recv();
    ///         response.write(request.payload())
    ///     })
    /// });
    /// let mut link = alice.connect("bob")?;
    /// link.submit(b"one")?;
    /// assert_eq!(link.try_response()?, None);
    /// assert!(link.response_timeout(Duration::from_millis(5)).unwrap_err().is_timeout());
    /// go.send(())?;
    /// assert_eq!(link.response_timeout(Duration::from_secs(30))?, b"one");
    /// drop(link);
    /// assert_eq!(server.join().unwrap()?, ringpost::CloseReason::Peer);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_response(&mut self) -> Result<Option<Reply<'_>>, CallError> {
        self.calls.try_response()
    }

    /// How many submitted calls have responses that were not collected yet. Does not block.
    pub fn outstanding(&self) -> usize {
        self.calls.outstanding()
    }

    /// Who serves, as the server knew it when it introduced the two. Does not block.
    pub fn peer(&self) -> &Peer {
        &self.end.peer
    }

    /// How much a call or a post may have, and the size of the rings. Does not block.
    pub fn limits(&self) -> Limits {
        self.calls.limits
    }

    /// A handle that ends this link from another thread or a signal handler: its waits end with
    /// `Disconnected`, and the other client hears of it. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{CallError, CloseReason};
    ///
    /// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
    /// let _serving = bob.listen()?.serve(|request, response| response.write(request.payload()))?;
    /// let mut link = alice.connect("bob")?;
    /// let closer = link.closer();
    /// assert_eq!(closer.reason(), None);
    /// closer.close();
    /// assert_eq!(link.call(b"ping"), Err(CallError::NotSent(CloseReason::Local)));
    /// assert_eq!(closer.reason(), Some(CloseReason::Local));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn closer(&self) -> Closer {
        Closer::of_link(&self.end)
    }
}
