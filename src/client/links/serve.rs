//! `ServeHandle`: serves all links of a listener, each on a thread of its own.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::thread::{Pid, gettid};

use super::end::OpenLink;
use super::incoming::Incoming;
use super::intake::Intake;
use super::listener::Listener;
use super::serving_error::{AcceptError, ServeError};
use crate::client::reconnect::Reconnector;
use crate::link::{Request, Response, Service, ServiceError, dispose};
use crate::os::threads;
use crate::wire::{CloseReason, Peer};

/// Serves the links of a [`Listener`]: [`Listener::serve`]. Dropping it stops that, without waiting.
///
/// # Examples
///
/// ```
/// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
/// let serving = bob.listen()?.serve(|request, response| response.write(request.payload()))?;
/// let mut link = alice.connect("bob")?;
/// assert_eq!(link.call(b"ping")?, b"ping");
/// assert_eq!(serving.links()[0].name, "alice");
/// serving.stop();
/// serving.join(); // no thread is left
/// assert!(link.call(b"ping").unwrap_err().is_disconnected());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping it stops the serving"]
pub struct ServeHandle {
    serving: Arc<Serving>,
    /// The thread that accepts; `None` once it was joined.
    acceptor: Option<JoinHandle<()>>,
}

impl fmt::Debug for ServeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeHandle").field("links", &self.links().len()).finish_non_exhaustive()
    }
}

/// What the threads share.
struct Serving {
    intake: Arc<Intake>,
    reconnector: Option<Arc<Reconnector>>,
    service: Box<dyn Service>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    stopped: bool,
    /// The links that are served, by their numbers.
    links: HashMap<u64, Arc<OpenLink>>,
    threads: Vec<JoinHandle<()>>,
}

impl Listener {
    /// Accepts every link, and serves each on a thread of its own, as a server serves its clients, until the
    /// handle is [stopped](ServeHandle::stop) or dropped, or the client ends. If the server ends, open links
    /// are served further; a client that [registers again](crate::ClientBuilder::reconnect) does so, and
    /// accepts links again.
    ///
    /// A service that panics is told to its caller, and to nobody else. Several threads may enter it at once.
    ///
    /// Does not block.
    ///
    /// # Errors
    ///
    /// [`ServeError::System`]: no thread can be started.
    ///
    /// # Examples
    ///
    /// See [`ServeHandle`].
    pub fn serve<F>(self, service: F) -> Result<ServeHandle, ServeError>
    where
        F: Fn(Request<'_>, &mut Response<'_>) -> Result<(), ServiceError> + Send + Sync + 'static,
    {
        self.serve_with(service)
    }

    /// As [`serve`](Self::serve), with any [`Service`]. Its [`left`](Service::left) is called when a link has
    /// ended, on the link's thread.
    ///
    /// # Errors
    ///
    /// Those of [`serve`](Self::serve).
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Peer, Request, Response, Service, ServiceError};
    /// use std::sync::{Arc, Mutex};
    ///
    /// /// Remembers who has left.
    /// #[derive(Default)]
    /// struct Echo(Mutex<Vec<String>>);
    ///
    /// impl Service for Echo {
    ///     fn call(&self, request: Request<'_>, response: &mut Response<'_>) -> Result<(), ServiceError> {
    ///         response.write(request.payload())
    ///     }
    ///
    ///     fn left(&self, caller: &Peer) {
    ///         self.0.lock().unwrap().push(caller.name.to_string());
    ///     }
    /// }
    ///
    /// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
    /// let echo = Arc::new(Echo::default());
    /// let serving = bob.listen()?.serve_with(Arc::clone(&echo))?;
    /// assert_eq!(alice.connect("bob")?.call(b"ping")?, b"ping");
    /// serving.stop();
    /// serving.join();
    /// assert_eq!(*echo.0.lock().unwrap(), ["alice"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn serve_with(self, service: impl Service) -> Result<ServeHandle, ServeError> {
        let serving = Arc::new(Serving {
            intake: Arc::clone(&self.intake),
            reconnector: self.reconnector.clone(),
            service: Box::new(service),
            state: Mutex::default(),
        });
        let own = Arc::clone(&serving);
        let acceptor = threads::spawn("rp-links", move || own.accept_from(self))
            .map_err(|source| ServeError::System { action: "start a thread", source })?;
        Ok(ServeHandle { serving, acceptor: Some(acceptor) })
    }
}

impl ServeHandle {
    /// The clients whose links are open. Does not block.
    pub fn links(&self) -> Vec<Peer> {
        if self.serving.intake.is_forked() {
            return Vec::new();
        }
        self.serving.lock().links.values().map(|link| link.peer).collect()
    }

    /// Accepts no more links, and ends those that are open. Idempotent. Does not block: a service that is
    /// running goes on, and [`join`](Self::join) waits for it.
    pub fn stop(&self) {
        if self.serving.intake.is_forked() {
            return;
        }
        let links = {
            let mut state = self.serving.lock();
            state.stopped = true;
            std::mem::take(&mut state.links)
        };
        self.serving.intake.close(CloseReason::Local);
        if let Some(reconnector) = &self.serving.reconnector {
            reconnector.tell_change();
        }
        for link in links.into_values() {
            link.close(CloseReason::Local);
        }
    }

    /// Waits until all is over: no more links are accepted, because of [`stop`](Self::stop) or because the
    /// client has ended, and all links have ended. Then no thread of it is left.
    ///
    /// On one of those threads, that is within the service, it does not wait for that one.
    pub fn join(mut self) {
        if self.serving.intake.is_forked() {
            return;
        }
        if let Some(acceptor) = self.acceptor.take() {
            join(acceptor);
        }
        let threads = std::mem::take(&mut self.serving.lock().threads);
        threads.into_iter().for_each(join);
    }
}

impl Drop for ServeHandle {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits for the end of a thread, if it is another one. Its panics were caught.
fn join(thread: JoinHandle<()>) {
    if thread.thread().id() != thread::current().id() {
        let _ = thread.join();
    }
}

impl Serving {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body of the accepting thread.
    fn accept_from(self: &Arc<Self>, mut listener: Listener) {
        let reference = gettid();
        loop {
            match listener.accept() {
                Ok(incoming) => self.begin(incoming, reference),
                // The next one registers again.
                Err(AcceptError::Disconnected(reason)) if listener.goes_on_after(reason) => {}
                Err(_) => return,
            }
        }
    }

    /// Starts a thread for a link. If there is none, the caller is turned away.
    fn begin(self: &Arc<Self>, incoming: Incoming, reference: Pid) {
        let link = Arc::clone(&incoming.end.open);
        let mut state = self.lock();
        if state.stopped {
            return;
        }
        let finished: Vec<_> = state.threads.extract_if(.., |thread| thread.is_finished()).collect();
        state.links.insert(link.number, Arc::clone(&link));
        let own = Arc::clone(self);
        let name = threads::name_for(link.peer.name.as_str());
        match threads::spawn(&name, move || own.serve(incoming, reference)) {
            Ok(thread) => state.threads.push(thread),
            Err(_) => _ = state.links.remove(&link.number),
        }
        drop(state);
        finished.into_iter().for_each(join);
    }

    /// The body of a link's thread.
    fn serve(&self, incoming: Incoming, reference: Pid) {
        let link = Arc::clone(&incoming.end.open);
        let accepted = incoming.accept_as(Some(reference)).map(|mut responder| {
            let _ = responder.serve(|request, response| self.service.call(request, response));
        });
        self.lock().links.remove(&link.number);
        if accepted.is_ok()
            && let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.service.left(&link.peer)))
        {
            dispose(panic);
        }
    }
}
