//! `Listener`: accepts the links that other clients ask for.

#![forbid(unsafe_code)]

#[cfg(any(feature = "tokio", feature = "async-io"))]
mod listening;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(any(feature = "tokio", feature = "async-io"))]
pub(crate) use listening::Listening;

use super::incoming::Incoming;
use super::intake::Intake;
use super::serving_error::{AcceptError, ServeError};
use super::tap::LinkTap;
use crate::client::event::ReconnectError;
use crate::client::reconnect::{Reconnector, Stop, passes};
use crate::client::session::{Session, deadline_in};
use crate::client::{Caller, Client, Closer, ReadinessError};
use crate::connect::Refusal;
use crate::connect::dial::DialError;
use crate::ring::Deadline;
use crate::shm::backend::PipeReader;
use crate::wire::CloseReason;

/// The pause before a server that did not take the listener is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts links: [`Client::listen`]. While it exists, other clients can [`connect`](Client::connect) to its
/// client, by name or by key. Dropping it ends that; links that were accepted go on.
///
/// Callers that were not accepted yet wait, 128 of them. Beyond that, they are told that the listener is
/// [`Busy`](crate::ConnectError::Busy).
///
/// A listener outlives neither its client nor its client's registration: when the server ends,
/// [`accept`](Self::accept) says so. If the client [registers again](crate::ClientBuilder::reconnect), so
/// does the listener. Links that were accepted before go on in any case.
///
/// # Examples
///
/// In one line, with a thread for each link, as a server does it:
///
/// ```
/// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
/// let serving = bob.listen()?.serve(|request, response| response.write(request.payload()))?;
/// assert_eq!(alice.connect("bob")?.call(b"ping")?, b"ping");
/// serving.stop();
/// serving.join();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// In threads of one's own, see [`Responder`](crate::Responder).
pub struct Listener {
    pub(super) intake: Arc<Intake>,
    /// The registration whose end was not reported yet.
    session: Arc<Session>,
    pub(super) reconnector: Option<Arc<Reconnector>>,
    tap: Option<Arc<LinkTap>>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("name", &self.session.name).finish_non_exhaustive()
    }
}

impl Client {
    /// Lets other clients [connect](Self::connect) to this one, from now on until the listener is dropped.
    /// See [`Caller::listen`].
    ///
    /// # Errors
    ///
    /// See [`ServeError`].
    pub fn listen(&mut self) -> Result<Listener, ServeError> {
        self.caller.listen()
    }
}

impl Caller {
    /// Lets other clients [connect](Client::connect) to this one, from now on until the listener is dropped.
    /// A client has one listener at a time.
    ///
    /// Blocks until the server answers, at most for
    /// [`ClientBuilder::timeout`](crate::ClientBuilder::timeout). A client that [registers
    /// again](crate::ClientBuilder::reconnect) does so first if its connection has ended.
    ///
    /// # Errors
    ///
    /// See [`ServeError`].
    ///
    /// # Examples
    ///
    /// See [`Listener`].
    pub fn listen(&mut self) -> Result<Listener, ServeError> {
        let deadline = deadline_in(self.timeout);
        if self.session().closer.reason().is_some() && self.calls.registration().reconnector.is_some() {
            self.reconnect(deadline).map_err(|error| match error {
                ReconnectError::TimedOut => ServeError::TimedOut,
                ReconnectError::Ended(reason) => ServeError::Disconnected(reason),
                _ => ServeError::Disconnected(CloseReason::GaveUp),
            })?;
        }
        let session = Arc::clone(self.session());
        let intake = may_listen(&session)?;
        intake.listen(&session, deadline).map_err(|error| explain(error, &session))?;
        Ok(Listener::begin(intake, session, self.calls.registration().reconnector.clone()))
    }

    /// As [`listen`](Self::listen), and lets an operator see what is served over the links: the client
    /// publishes a copy of each call and post, a [`TapRecord`](crate::TapRecord) with the first 512 bytes of
    /// the payloads, as long as somebody subscribes to `@ringpost/tap/` and the client's name. Only its own
    /// user, that of the server and root may do that. (A character of the name that no topic can have stands
    /// there as `~` and two hexadecimal digits.) `ringpost tap --link NAME` shows them.
    ///
    /// What `Async` takes is not copied. The topic goes on until the listener and all its
    /// links are dropped.
    ///
    /// # Errors
    ///
    /// See [`ServeError`].
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::TapRecord;
    ///
    /// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
    /// let listener = bob.caller().listen_tappable()?;
    /// let _serving = listener.serve(|request, response| response.write(request.payload()))?;
    /// let mut seen = alice.subscribe("@ringpost/tap/bob")?; // usually by an operator
    /// let mut link = alice.connect("bob")?;
    /// let record: TapRecord = loop {
    ///     link.call(b"ping")?;
    ///     if let Some(sample) = seen.try_recv()? {
    ///         assert_eq!(sample.publisher().name, "bob"); // others may publish there, too
    ///         break sample.read()?;
    ///     }
    /// };
    /// assert_eq!((record.from.key, record.payload), (alice.key(), b"ping".to_vec()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn listen_tappable(&mut self) -> Result<Listener, ServeError> {
        let mut listener = self.listen()?;
        listener.tap = Some(Arc::new(LinkTap::begin(self)?));
        Ok(listener)
    }
}

/// What a new listener of this client takes, if there may be one.
fn may_listen(session: &Arc<Session>) -> Result<Arc<Intake>, ServeError> {
    if let Some(reason) = session.closer.reason() {
        return Err(ServeError::Disconnected(reason.into()));
    }
    if let Some(former) = session.links.intake() {
        if former.reason().is_none() {
            return Err(ServeError::Listening);
        }
        // The thread that accepted may not have come to it.
        former.end();
    }
    Ok(Intake::without_bell(session))
}

/// Why the server did not take a listener.
fn explain(error: DialError, session: &Session) -> ServeError {
    let ended = session.closer.reason().map(CloseReason::from);
    match (ended, error) {
        (Some(reason), _) => ServeError::Disconnected(reason),
        (None, DialError::TimedOut) => ServeError::TimedOut,
        (None, DialError::Refused(Refusal::ShuttingDown, _)) => {
            ServeError::Disconnected(CloseReason::Shutdown)
        }
        (None, DialError::NoServer(_) | DialError::Refused(Refusal::NotRegistered, _)) => {
            ServeError::Disconnected(CloseReason::Died)
        }
        (None, DialError::Refused(Refusal::AgainstRules, why)) => ServeError::NotAllowed(why),
        (None, DialError::Refused(_, why)) => ServeError::Refused(why),
        (None, DialError::Io(source)) => ServeError::System { action: "ask the server to listen", source },
        (None, error) => ServeError::Refused(error.to_string()),
    }
}

impl Listener {
    /// Of a server that has taken it.
    fn begin(intake: Arc<Intake>, session: Arc<Session>, reconnector: Option<Arc<Reconnector>>) -> Listener {
        session.links.set_intake(&intake);
        if let Some(reconnector) = &reconnector {
            reconnector.listener_begins();
        }
        Listener { intake, session, reconnector, tap: None }
    }

    /// Waits for a client that asks for a link. [Accept](Incoming::accept) or [refuse](Incoming::refuse) it;
    /// its `connect` waits for that.
    ///
    /// Blocks until one asks, or the client is not registered any more. Those that asked before the end come
    /// first.
    ///
    /// # Errors
    ///
    /// [`AcceptError::Disconnected`] when the client's registration has ended, or the listener was closed.
    /// For a client that [registers again](crate::ClientBuilder::reconnect) it says so once, and the next
    /// call registers again and listens.
    pub fn accept(&mut self) -> Result<Incoming, AcceptError> {
        self.accept_until(Deadline::NEVER)
    }

    /// As [`accept`](Self::accept), but blocks until the [deadline](Deadline) at most.
    ///
    /// # Errors
    ///
    /// Those of [`accept`](Self::accept), and [`AcceptError::TimedOut`].
    pub fn accept_timeout(&mut self, deadline: impl Into<Deadline>) -> Result<Incoming, AcceptError> {
        self.accept_until(deadline.into())
    }

    /// A client that asks for a link, or `None` if none does now. Does not block, and does not register
    /// again: it goes on when another operation of the client has done so.
    ///
    /// # Errors
    ///
    /// Those of [`accept`](Self::accept).
    pub fn try_accept(&mut self) -> Result<Option<Incoming>, AcceptError> {
        loop {
            match self.look()? {
                Looked::Found(incoming) => return Ok(Some(*incoming)),
                Looked::Nothing => return Ok(None),
                Looked::Ended(reason) => {
                    let renewed = match &self.reconnector {
                        Some(reconnector) => reconnector.renew_listener_now(&self.session),
                        None => Err(Stop::Tell(reason)),
                    };
                    self.session = renewed.map_err(|stop| disconnected(stop, reason))?;
                }
            }
        }
    }

    /// What to wait by in an event loop.
    pub(crate) fn pipe(&mut self) -> Result<Arc<PipeReader>, ReadinessError> {
        if let Some(reason) = self.end() {
            return Err(ReadinessError::Disconnected(reason));
        }
        self.intake.pipe().map_err(|source| ReadinessError::System { action: "make a pipe", source })
    }

    /// Whether there is nothing to look at, before a wait by the pipe.
    pub(crate) fn arm_end(&mut self) -> Result<bool, ReadinessError> {
        if self.session.is_forked() {
            return Ok(false);
        }
        let pipe = self.intake.pipe_if_made().ok_or(ReadinessError::NotAsked)?;
        // In this order: whatever changes behind the look kicks again.
        pipe.drain();
        Ok(self.end().is_none() && !self.intake.has_next())
    }

    /// Why a look will say that it has ended, if it will.
    fn end(&self) -> Option<CloseReason> {
        self.intake.reason().or_else(|| self.session.closer.reason().map(CloseReason::from))
    }

    /// A handle that ends this listener from another thread or a signal handler: its waits end with
    /// `Disconnected`. Does not block.
    pub fn closer(&self) -> Closer {
        Closer::of_listener(&self.intake, self.reconnector.as_ref())
    }

    /// Whether its client registers again after an end for this reason.
    pub(super) fn goes_on_after(&self, reason: CloseReason) -> bool {
        self.reconnector.is_some() && passes(reason)
    }

    fn accept_until(&mut self, mut deadline: Deadline) -> Result<Incoming, AcceptError> {
        loop {
            let seen = self.intake.changes();
            match self.look()? {
                Looked::Found(incoming) => return Ok(*incoming),
                Looked::Nothing => {
                    let until = deadline.start();
                    let again = (!self.listens(until)).then(|| Instant::now() + PAUSE);
                    let passed = self.intake.sleep(seen, [until, again].into_iter().flatten().min());
                    if passed && until.is_some_and(|until| Instant::now() >= until) {
                        return match self.next() {
                            Some(incoming) => Ok(incoming),
                            None => Err(AcceptError::TimedOut),
                        };
                    }
                }
                Looked::Ended(reason) => {
                    let until = deadline.start();
                    let intake = &self.intake;
                    let renewed = match &self.reconnector {
                        Some(reconnector) => {
                            reconnector.renew_listener(&self.session, &|| intake.reason(), until)
                        }
                        None => Err(Stop::Tell(reason)),
                    };
                    self.session = renewed.map_err(|stop| disconnected(stop, reason))?;
                }
            }
        }
    }

    /// Whether the newest server takes links for this client. Asks it if the reconnection could not.
    fn listens(&self, until: Option<Instant>) -> bool {
        if Arc::ptr_eq(&self.intake.session(), &self.session) {
            return true;
        }
        let limit = deadline_in(self.session.links.place.timeout);
        self.intake.listen(&self.session, until.map_or(limit, |until| until.min(limit))).is_ok()
    }

    /// The next caller that waits.
    fn next(&self) -> Option<Incoming> {
        let mut incoming = self.intake.next()?;
        incoming.tap = self.tap.clone();
        Some(incoming)
    }

    fn look(&self) -> Result<Looked, AcceptError> {
        if self.session.is_forked() {
            return Err(AcceptError::Disconnected(CloseReason::Forked));
        }
        if let Some(incoming) = self.next() {
            return Ok(Looked::Found(Box::new(incoming)));
        }
        if let Some(reason) = self.intake.reason() {
            return Err(AcceptError::Disconnected(reason));
        }
        Ok(self.session.closer.reason().map_or(Looked::Nothing, |reason| Looked::Ended(reason.into())))
    }
}

/// What a look of a listener found.
enum Looked {
    Found(Box<Incoming>),
    Nothing,
    /// Its registration has ended.
    Ended(CloseReason),
}

fn disconnected(stop: Stop, ended: CloseReason) -> AcceptError {
    stop.reason(ended).map_or(AcceptError::TimedOut, AcceptError::Disconnected)
}

/// Nobody can connect to the client any more; those that wait are turned away.
impl Drop for Listener {
    fn drop(&mut self) {
        if self.session.is_forked() {
            return self.intake.forget_inherited();
        }
        self.intake.close(CloseReason::Local);
        self.intake.end();
    }
}
