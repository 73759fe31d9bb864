//! Honest ends that wait in an event loop: a thread that serves everybody, and calls.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringpost::{
    AcceptError, CallError, Closer, Link, Listener, Readiness, ReadinessError, Ready, Request, Responder,
    Response, ServiceError,
};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

use crate::common::{Begun, begin};

/// One epoll instance, for any number of ends.
struct Loop(OwnedFd);

impl Loop {
    fn new() -> Loop {
        Loop(epoll::create(CreateFlags::CLOEXEC).unwrap())
    }

    /// `None` if the end has ended already; then a look tells.
    fn add(&self, end: &mut impl Ready) -> Option<Readiness> {
        let readiness = match end.readiness() {
            Ok(readiness) => readiness,
            Err(ReadinessError::Disconnected(_)) => return None,
            Err(error) => panic!("{error:?}"),
        };
        epoll::add(&self.0, &readiness, EventData::new_u64(0), EventFlags::IN).unwrap();
        Some(readiness)
    }

    fn wait(&self, within: Option<Duration>) {
        let within = within.map(|within| Timespec::try_from(within).unwrap());
        let mut space = [MaybeUninit::<Event>::uninit(); 8];
        match epoll::wait(&self.0, &mut space, within.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => panic!("epoll_wait: {errno}"),
        }
    }
}

/// A thread that accepts and serves all links of a listener.
pub struct Serving {
    listener: Closer,
    stop: Arc<AtomicBool>,
    thread: Begun<()>,
}

impl Serving {
    pub fn start<S>(mut listener: Listener, service: S) -> Serving
    where
        S: Fn(Request<'_>, &mut Response<'_>) -> Result<(), ServiceError> + Send + 'static,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let (closer, told) = (listener.closer(), Arc::clone(&stop));
        let thread = begin(move || {
            // Among the library's own, which must sleep in the end.
            rustix::thread::set_name(c"rp-loop").unwrap();
            let waits = Loop::new();
            let _listening = waits.add(&mut listener);
            let mut served: Vec<(Responder, Option<Readiness>)> = Vec::new();
            while !told.load(Ordering::Relaxed) {
                match listener.try_accept() {
                    Ok(Some(incoming)) => {
                        if let Ok(mut responder) = incoming.arms().accept() {
                            let readiness = waits.add(&mut responder);
                            served.push((responder, readiness));
                        }
                    }
                    Ok(None) | Err(AcceptError::Disconnected(_)) => {}
                    Err(error) => panic!("{error:?}"),
                }
                // Whatever a caller does ends its own link.
                served.retain_mut(|(responder, _)| responder.serve_ready(&service) == Ok(None));
                let mut idle = listener.arm().unwrap();
                for (responder, _) in &mut served {
                    idle &= responder.arm().unwrap();
                }
                if idle {
                    waits.wait(None);
                }
            }
        });
        Serving { listener: closer, stop, thread }
    }

    /// Ends it, and all its links.
    pub fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.listener.close();
        self.thread.end("the serving in an event loop");
    }
}

/// A link whose responses are waited for in an event loop.
pub struct Looped {
    pub link: Link,
    waits: Loop,
    _readiness: Option<Readiness>,
}

impl Looped {
    pub fn new(mut link: Link) -> Looped {
        let waits = Loop::new();
        let _readiness = waits.add(&mut link);
        Looped { link, waits, _readiness }
    }

    /// A call. Its response is the next one that is not collected yet.
    pub fn call(&mut self, request: &[u8], within: Duration) -> Result<Vec<u8>, CallError> {
        let until = Instant::now() + within;
        self.link.submit(request)?;
        loop {
            if let Some(response) = self.link.try_response()? {
                return Ok(response.to_vec());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(CallError::TimedOut);
            }
            match self.link.arm() {
                Ok(true) => self.waits.wait(Some(left)),
                Ok(false) => {}
                Err(ReadinessError::Disconnected(reason)) => return Err(CallError::Disconnected(reason)),
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}
