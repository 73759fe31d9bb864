//! The watcher: a thread of the process that notices when a server ends.
//!
//! It sleeps on the lifelines of all clients of this process. When a lifeline ends, for whatever reason, it
//! closes that client's channel, which wakes all waits there. So those waits need no time-out, and an idle
//! client costs nothing.
//!
//! A forked child has copies of everything, but neither the thread nor the clients. It gets its own watcher
//! with its first registration. It must not use its parent's: other threads may have held the locks at the
//! fork, both processes share the epoll instance, and a shutdown of a connection would end it for both. The
//! child only closes its copies of the connections.
//!
//! If the process closes all its descriptors (`descriptors.rs`), all channels are closed as `CutOff`, the
//! thread ends, and the next registration starts a new one.

#![forbid(unsafe_code)]

use rustix::event::epoll;
use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use crate::connect::connection::Connection;
use crate::os::descriptors::{CutOff, Waits, Wake};
use crate::os::threads;
use crate::ring::Closer;
use crate::shm::PerProcess;
use crate::testing::failpoints::failpoint;
use crate::wire::CloseReason;

/// The process's watcher, once there is one.
type Current = Mutex<Option<Arc<Watcher>>>;

pub(super) struct Watcher {
    waits: Waits,
    watched: Mutex<Watched>,
    /// When this descriptor is closed, the thread knows that the process has closed its descriptors.
    _wake: Wake,
}

#[derive(Default)]
struct Watched {
    /// Whether the thread has ended.
    ended: bool,
    next: u64,
    /// The watched lifelines. Holding them here keeps their descriptor numbers from being reused.
    lines: HashMap<u64, (Arc<Connection>, Closer)>,
}

static WATCHER: PerProcess<Current> = PerProcess::new();

/// A lifeline that is watched until [`end`](Self::end) or drop.
pub(super) struct Watch {
    pub(super) token: u64,
    pub(super) watcher: Arc<Watcher>,
    /// The watcher of the process in which the watch began.
    pub(super) of: &'static Current,
    /// Also kept here, so that a closer can use it without a lock.
    pub(super) lifeline: Option<Arc<Connection>>,
}

pub(super) fn current() -> io::Result<&'static Current> {
    WATCHER.get_or_make(|| Ok(Mutex::default()))
}

impl Watcher {
    pub(super) fn make() -> io::Result<Arc<Watcher>> {
        let (waits, wake) = Waits::new()?;
        Ok(Arc::new(Watcher { waits, watched: Mutex::default(), _wake: wake }))
    }

    /// The process's watcher. Starts it if there is none, or if the last one ended because its descriptors
    /// were closed.
    fn get(current: &Current) -> io::Result<Arc<Watcher>> {
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watcher) = &*current {
            if !watcher.waits.are_ours() {
                // Its thread may not have noticed yet.
                watcher.end();
            }
            if !watcher.lock().ended {
                return Ok(Arc::clone(watcher));
            }
            *current = None;
        }
        let watcher = Watcher::make()?;
        let own = Arc::clone(&watcher);
        // If this fails, the next registration tries again.
        threads::spawn("rp-watcher", move || own.run())?;
        *current = Some(Arc::clone(&watcher));
        Ok(watcher)
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        loop {
            let tokens = match self.waits.wait(None) {
                Ok(tokens) => tokens,
                Err(CutOff) => return self.end(),
            };
            for token in tokens {
                let line = self.lock().lines.remove(&token);
                if let Some((lifeline, closer)) = line {
                    if !lifeline.has_its_number() {
                        closer.close_as(CloseReason::CutOff);
                        continue;
                    }
                    let _ = epoll::delete(&self.waits, &lifeline);
                    failpoint!("watch.removed", [client], seldom);
                    // A server that shut down has stored the reason in the channel.
                    closer.close_as(closer.reason().unwrap_or(CloseReason::Died.into()));
                    failpoint!("watch.closed", [client], seldom);
                }
            }
        }
    }

    /// Closes all channels after the process closed its descriptors: the connections are gone, or their ends
    /// would not be noticed.
    fn end(&self) {
        let lines = {
            let mut watched = self.lock();
            watched.ended = true;
            std::mem::take(&mut watched.lines)
        };
        for (lifeline, closer) in lines.into_values() {
            closer.close_as(CloseReason::CutOff);
            lifeline.hang_up();
        }
    }

    /// In a forked child, closes its copy of a connection. Changes nothing else: the state may be
    /// inconsistent if another thread was changing it at the fork.
    fn forget_inherited(&self, token: u64) {
        let watched = match self.watched.try_lock() {
            Ok(watched) => Some(watched),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        let line = watched.and_then(|mut watched| watched.lines.remove(&token));
        drop(line);
    }
}

impl Watch {
    /// Watches a lifeline: closes the channel when it ends. Starts the process's watcher if necessary.
    pub(super) fn begin(lifeline: Connection, closer: Closer) -> io::Result<Watch> {
        let lifeline = Arc::new(lifeline);
        let of = current()?;
        loop {
            let watcher = Watcher::get(of)?;
            let mut watched = watcher.lock();
            if watched.ended {
                continue;
            }
            let token = watched.next;
            // Waits for the end only, so that a server which sends data does not keep this thread busy.
            let flags = epoll::EventFlags::RDHUP;
            epoll::add(&watcher.waits, lifeline.as_fd(), epoll::EventData::new_u64(token), flags)?;
            watched.next += 1;
            watched.lines.insert(token, (Arc::clone(&lifeline), closer));
            drop(watched);
            return Ok(Watch { token, watcher, of, lifeline: Some(lifeline) });
        }
    }

    /// A watch of nothing, for a client without a connection.
    #[cfg(fuzzing)]
    pub(super) fn of_nothing() -> io::Result<Watch> {
        Ok(Watch { token: u64::MAX - 1, watcher: Watcher::make()?, of: current()?, lifeline: None })
    }

    /// Whether this process made the watch, and not one that it was forked from.
    fn is_ours(&self) -> bool {
        WATCHER.get().is_some_and(|ours| ptr::eq(ours, self.of))
    }

    /// Ends the watch, the connection and so the registration. Idempotent. In a forked child, the parent's
    /// registration is unaffected.
    pub(super) fn end(&self) {
        if !self.is_ours() {
            return self.watcher.forget_inherited(self.token);
        }
        let line = self.watcher.lock().lines.remove(&self.token);
        if let Some((lifeline, _)) = line {
            if self.watcher.waits.are_ours() {
                let _ = epoll::delete(&self.watcher.waits, &lifeline);
            }
            lifeline.hang_up();
        }
    }

    /// Ends the connection; the watcher does the rest. May be called in a signal handler.
    pub(super) fn hang_up(&self) {
        if let Some(lifeline) = &self.lifeline
            && self.is_ours()
        {
            lifeline.hang_up();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}
