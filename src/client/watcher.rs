//! One thread of the process that notices the death of servers.
//!
//! It sleeps on the lifelines of all registered clients of this process. When one ends, whatever was the
//! reason, it closes that client's channel, which wakes everyone who waits there. So those waits need no
//! time-out, and an idle client costs nothing.
//!
//! A forked child has neither the thread nor its clients, though it has copies of everything: it gets a
//! watcher of its own with its first registration. It leaves its parent's alone, whose locks may be held
//! there by threads that it does not have, whose epoll instance both processes share, and whose connections a
//! shutdown would end for both. It only closes its copies of them.
//!
//! A process may close all its descriptors, and with them these (`descriptors.rs`). Then all channels are
//! closed as `CutOff`, the thread ends, and the next registration starts another.

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

struct Watcher {
    waits: Waits,
    watched: Mutex<Watched>,
    /// What tells the thread that the process's descriptors were closed, by being closed itself.
    _wake: Wake,
}

#[derive(Default)]
struct Watched {
    /// The thread has ended: nothing more is watched here.
    ended: bool,
    next: u64,
    /// The lifeline lies here too, so that it cannot be closed, and its number reused, while it is watched.
    lines: HashMap<u64, (Arc<Connection>, Closer)>,
}

static WATCHER: PerProcess<Current> = PerProcess::new();

/// A lifeline under watch, until its [end](Self::end) or drop.
pub(super) struct Watch {
    token: u64,
    watcher: Arc<Watcher>,
    /// Of the process that the watch began in.
    of: &'static Current,
    /// Also here, so that a close handle finds it without a lock.
    lifeline: Option<Arc<Connection>>,
}

fn current() -> io::Result<&'static Current> {
    WATCHER.get_or_make(|| Ok(Mutex::default()))
}

impl Watcher {
    fn make() -> io::Result<Arc<Watcher>> {
        let (waits, wake) = Waits::new()?;
        Ok(Arc::new(Watcher { waits, watched: Mutex::default(), _wake: wake }))
    }

    /// The process's, with its thread. Another one, if the last has ended because its descriptors were
    /// closed.
    fn get(current: &Current) -> io::Result<Arc<Watcher>> {
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watcher) = &*current {
            if !watcher.waits.are_ours() {
                // Before its thread has come to it.
                watcher.end();
            }
            if !watcher.lock().ended {
                return Ok(Arc::clone(watcher));
            }
            *current = None;
        }
        let watcher = Watcher::make()?;
        let own = Arc::clone(&watcher);
        // Its start can fail, and is then tried again.
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
                    failpoint!("watch.removed");
                    // A server that went in good order left the reason in the channel.
                    closer.close_as(closer.reason().unwrap_or(CloseReason::Died.into()));
                    failpoint!("watch.closed");
                }
            }
        }
    }

    /// Somebody has closed the descriptors. With them the connections are gone, or nobody would hear of their
    /// end.
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

    /// In a forked child: closes its copy of a connection. Whatever another thread was at when the child was
    /// forked stays as it is.
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
    /// Closes the channel when the lifeline ends. Starts the process's watcher with the first.
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
            // Only the end is of interest; a server that sends something more does not keep this thread busy.
            let flags = epoll::EventFlags::RDHUP;
            epoll::add(&watcher.waits, lifeline.as_fd(), epoll::EventData::new_u64(token), flags)?;
            watched.next += 1;
            watched.lines.insert(token, (Arc::clone(&lifeline), closer));
            drop(watched);
            return Ok(Watch { token, watcher, of, lifeline: Some(lifeline) });
        }
    }

    /// Of nothing, for a client without a connection.
    #[cfg(fuzzing)]
    pub(super) fn of_nothing() -> io::Result<Watch> {
        Ok(Watch { token: u64::MAX - 1, watcher: Watcher::make()?, of: current()?, lifeline: None })
    }

    /// Whether it is this process's, and not that of the process which this one was forked from.
    fn is_ours(&self) -> bool {
        WATCHER.get().is_some_and(|ours| ptr::eq(ours, self.of))
    }

    /// Ends the watch and closes the connection, and with it the registration. Idempotent. In a forked child
    /// the parent's registration goes on.
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

    /// Ends the connection, and leaves it to the watcher to forget it. May be called in a signal handler.
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
