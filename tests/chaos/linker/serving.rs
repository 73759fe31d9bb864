//! The serving side of a client with links: a handle that serves all of them, or a thread of its own that
//! accepts and refuses as it likes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use ringpost::{
    AcceptError, Caller, CloseReason, Closer, Incoming, Listener, Responder, ServeError, ServeHandle,
};

use super::super::history::{Op, Outcome};
use super::super::plan::Waits;
use super::super::random::Random;
use super::Linker;
use super::service::{Counting, Shared};
use super::{REGISTERING, deadline};

/// Who serves the links that others open.
pub enum Serving {
    Nobody,
    Handle(ServeHandle),
    Thread(JoinHandle<()>, Arc<Own>),
}

/// What the thread and its owner share.
pub struct Own {
    listener: Closer,
    stop: AtomicBool,
    /// The links that are served now.
    links: Mutex<Vec<Closer>>,
}

impl Own {
    pub(super) fn links(&self) -> MutexGuard<'_, Vec<Closer>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.listener.close();
        self.links().iter().for_each(Closer::close);
    }
}

impl Serving {
    /// Listens, and serves. `again`: the client registers again.
    pub fn begin(
        linker: &Arc<Linker>,
        caller: &mut Caller,
        again: bool,
        waits: Waits,
        mut random: Random,
    ) -> Serving {
        let words = deadline(REGISTERING);
        linker.history.begin(0, Op::Listen, words);
        let listening = caller.listen();
        let outcome = match &listening {
            Ok(_) => Outcome::Ok,
            Err(ServeError::Disconnected(_)) => Outcome::Disconnected,
            Err(ServeError::TimedOut) => Outcome::TimedOut,
            Err(ServeError::Refused(_)) => Outcome::Refused,
            Err(ServeError::System { .. }) => Outcome::System,
            Err(error) => linker.history.violation(0, Op::Listen, &format!("{error:?}")),
        };
        linker.history.end(0, Op::Listen, outcome, words);
        let Ok(listener) = listening else { return Serving::Nobody };
        let service = Counting::new(linker);
        let own_loop = waits != Waits::Inside && !random.once_in(3);
        if !own_loop && !random.once_in(3) {
            return listener.serve_with(Shared(service)).map_or(Serving::Nobody, Serving::Handle);
        }
        let own = Arc::new(Own {
            listener: listener.closer(),
            stop: AtomicBool::new(false),
            links: Mutex::default(),
        });
        let (linker, shared) = (Arc::clone(linker), Arc::clone(&own));
        let thread = Builder::new().name("acceptor".into()).spawn(move || {
            let acceptor = Acceptor { linker, own: shared, service, again, random };
            match waits {
                Waits::ByEpoll { edge } if own_loop => acceptor.run_by_epoll(listener, edge),
                _ => acceptor.run(listener),
            }
        });
        thread.map_or(Serving::Nobody, |thread| Serving::Thread(thread, own))
    }

    pub fn is_begun(&self) -> bool {
        !matches!(self, Serving::Nobody)
    }

    /// Whether no link is served now.
    pub fn is_idle(&self) -> bool {
        match self {
            Serving::Nobody => true,
            Serving::Handle(handle) => handle.links().is_empty(),
            Serving::Thread(_, own) => own.links().is_empty(),
        }
    }

    /// Ends the serving and waits for its threads. With `left`, the client has left, by which all ends
    /// anyway.
    pub fn end(&mut self, linker: &Linker, left: bool) {
        linker.history.begin(0, Op::StopServing, [0; 6]);
        match std::mem::replace(self, Serving::Nobody) {
            Serving::Nobody => {}
            Serving::Handle(handle) => {
                if !left {
                    handle.stop();
                }
                handle.join();
            }
            Serving::Thread(thread, own) => {
                if !left {
                    own.stop();
                }
                let _ = thread.join();
            }
        }
        linker.history.end(0, Op::StopServing, Outcome::Ok, [0; 6]);
    }
}

/// The thread that accepts.
pub(super) struct Acceptor {
    pub(super) linker: Arc<Linker>,
    pub(super) own: Arc<Own>,
    pub(super) service: Arc<Counting>,
    again: bool,
    random: Random,
}

impl Acceptor {
    pub(super) fn run(mut self, mut listener: Listener) {
        while !self.is_stopped() {
            let accepted = match self.random.below(3) {
                0 => listener.try_accept().and_then(|incoming| incoming.ok_or(AcceptError::TimedOut)),
                1 => listener.accept_timeout(Duration::from_micros(self.random.below(10_000))),
                _ => listener.accept(),
            };
            match accepted {
                Ok(incoming) => self.treat(incoming),
                Err(AcceptError::TimedOut) => std::thread::sleep(Duration::from_micros(200)),
                Err(error) if self.goes_on_after(&error) => {}
                Err(_) => return,
            }
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.own.stop.load(Ordering::SeqCst)
    }

    /// Whether the listener goes on: its client registers again.
    pub(super) fn goes_on_after(&self, error: &AcceptError) -> bool {
        match error {
            AcceptError::Disconnected(CloseReason::ProtocolViolation | CloseReason::Peer) => {
                self.wrong("a listener was closed for a broken rule, or without a reason")
            }
            AcceptError::Disconnected(CloseReason::Died | CloseReason::Shutdown) => self.again,
            AcceptError::Disconnected(_) => false,
            error => self.wrong(&format!("accepting: {error:?}")),
        }
    }

    pub(super) fn wrong(&self, what: &str) -> ! {
        self.linker.history.violation(1, Op::Serve, what)
    }

    /// Accepts a link, or refuses it. Closes it at once now and then.
    pub(super) fn accept(&mut self, incoming: Incoming) -> Option<Responder> {
        match self.random.below(10) {
            0 => {
                incoming.refuse("told to refuse");
                return None;
            }
            1 => {
                drop(incoming);
                return None;
            }
            2 => std::thread::sleep(Duration::from_micros(self.random.below(5000))),
            _ => {}
        }
        let responder = match incoming.accept() {
            Ok(responder) => responder,
            Err(AcceptError::Disconnected(CloseReason::ProtocolViolation)) => {
                self.wrong("accepting: a broken rule")
            }
            Err(_) => return None,
        };
        self.own.links().push(responder.closer());
        if self.is_stopped() || self.random.once_in(16) {
            responder.closer().close();
        }
        Some(responder)
    }

    fn treat(&mut self, incoming: Incoming) {
        let Some(mut responder) = self.accept(incoming) else { return };
        let pid = responder.peer().pid;
        let ended = responder.serve(|request, answer| self.service.answer(request, answer));
        match ended {
            Ok(reason) => self.linker.link_over(1, reason, pid),
            Err(violation) => self.wrong(&format!("serving: {violation:?}")),
        }
        drop(responder);
        self.own.links().clear();
    }
}
