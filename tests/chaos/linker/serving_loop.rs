//! A thread that accepts and serves all links of a listener in one event loop.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use ringpost::{AcceptError, Listener, Readiness, ReadinessError, Ready, Responder};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use super::serving::Acceptor;

/// How long a listener may take to register again, before the links are served once more.
const AGAIN: Duration = Duration::from_millis(2);

/// A link, and what it is waited for by; nothing if it has ended already.
struct Served {
    responder: Responder,
    _readiness: Option<Readiness>,
}

impl Acceptor {
    pub(super) fn run_by_epoll(mut self, mut listener: Listener, edge: bool) {
        let flags = if edge { EventFlags::IN | EventFlags::ET } else { EventFlags::IN };
        let Ok(epoll) = epoll::create(CreateFlags::CLOEXEC) else { return self.run(listener) };
        let add = |readiness: &Readiness| {
            epoll::add(&epoll, readiness, EventData::new_u64(0), flags).expect("one more in the instance");
        };
        let readiness = match listener.readiness() {
            Ok(readiness) => readiness,
            // For lack of a descriptor, or it has ended.
            Err(ReadinessError::System { .. } | ReadinessError::Disconnected(_)) => {
                return self.run(listener);
            }
            Err(error) => self.wrong(&format!("a listener's readiness: {error:?}")),
        };
        add(&readiness);
        let mut served: Vec<Served> = Vec::new();
        while !self.is_stopped() || !served.is_empty() {
            let mut accepted = listener.try_accept();
            if let Err(error) = &accepted
                && !self.is_stopped()
                && self.goes_on_after(error)
            {
                accepted = listener.accept_timeout(AGAIN).map(Some);
            }
            let found = match accepted {
                Ok(incoming) => incoming,
                Err(AcceptError::TimedOut) => None,
                Err(error) if self.is_stopped() || self.goes_on_after(&error) => None,
                // The links end with the client.
                Err(_) => {
                    self.own.stop();
                    None
                }
            };
            let mut idle = found.is_none();
            if let Some(mut responder) = found.and_then(|incoming| self.accept(incoming.arms())) {
                let readiness = match responder.readiness() {
                    Ok(readiness) => Some(readiness),
                    Err(ReadinessError::Disconnected(_)) => None,
                    Err(error) => self.wrong(&format!("a responder's readiness: {error:?}")),
                };
                readiness.iter().for_each(add);
                served.push(Served { responder, _readiness: readiness });
            }
            served.retain_mut(|link| self.serves(&mut link.responder));
            self.own.links().retain(|link| link.reason().is_none());
            idle &= self.armed(listener.arm());
            for link in &mut served {
                idle &= self.armed(link.responder.arm());
            }
            if idle {
                await_one(&epoll);
            }
        }
    }

    /// Serves what is there. Returns whether the link goes on.
    fn serves(&self, responder: &mut Responder) -> bool {
        let pid = responder.peer().pid;
        match responder.serve_ready(|request, answer| self.service.answer(request, answer)) {
            Ok(None) => return true,
            Ok(Some(reason)) => self.linker.link_over(1, reason, pid),
            Err(violation) => self.wrong(&format!("serving in a loop: {violation:?}")),
        }
        false
    }

    /// Whether an end waits now. Otherwise a look finds something.
    fn armed(&self, armed: Result<bool, ReadinessError>) -> bool {
        match armed {
            Ok(armed) => armed,
            Err(ReadinessError::Disconnected(_)) => false,
            Err(error) => self.wrong(&format!("armed: {error:?}")),
        }
    }
}

/// Sleeps until one of all is readable, however long that takes.
fn await_one(epoll: &OwnedFd) {
    let mut space = [MaybeUninit::<Event>::uninit(); 8];
    match epoll::wait(epoll, &mut space, None) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => panic!("epoll_wait: {errno}"),
    }
}
