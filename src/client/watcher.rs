//! One thread of the process that notices the death of servers.
//!
//! It sleeps on the lifelines of all registered clients of this process. When one ends, whatever was the reason, it closes that client's
//! channel, which wakes everyone who waits there. So those waits need no time-out, and an idle client costs nothing.
//!
//! A forked child has neither the thread nor its clients, though it has copies of everything: it gets a watcher of its own with its
//! first registration. It leaves its parent's alone, whose locks may be held there by threads that it does not have, whose
//! epoll instance both processes share, and whose connections a shutdown would end for both. It only closes its copies of them.

#![forbid(unsafe_code)]

use rustix::event::epoll;
use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use crate::connect::connection::Connection;
use crate::kill::kill_point;
use crate::ring::{CloseReason, Closer};
use crate::shm::OfProcess;
use crate::threads;

struct Watcher {
    epoll: OwnedFd,
    watched: Mutex<Watched>,
    /// Whether the thread runs: its start can fail, and is then tried again.
    started: Mutex<bool>,
}

#[derive(Default)]
struct Watched {
    next: u64,
    /// The lifeline lies here too, so that it cannot be closed, and its number reused, while it is watched.
    lines: HashMap<u64, (Arc<Connection>, Closer)>,
}

static WATCHER: OfProcess<Watcher> = OfProcess::new();

/// A lifeline under watch, until its [end](Self::end) or drop.
pub(super) struct Watch {
    token: u64,
    watcher: &'static Watcher,
    /// Also here, so that a close handle finds it without a lock.
    lifeline: Option<Arc<Connection>>,
}

impl Watcher {
    fn made() -> io::Result<&'static Watcher> {
        WATCHER.get_or_make(|| {
            let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            Ok(Watcher { epoll, watched: Mutex::default(), started: Mutex::default() })
        })
    }

    /// The process's, with its thread.
    fn get() -> io::Result<&'static Watcher> {
        let watcher = Watcher::made()?;
        let mut started = watcher.started.lock().unwrap_or_else(PoisonError::into_inner);
        if !*started {
            threads::spawn("rp-watcher", || watcher.run())?;
            *started = true;
        }
        Ok(watcher)
    }

    /// Whether it is this process's, and not that of the process which this one was forked from.
    fn is_ours(&self) -> bool {
        WATCHER.get().is_some_and(|ours| ptr::eq(ours, self))
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        loop {
            let mut space = [MaybeUninit::<epoll::Event>::uninit(); 16];
            let Ok((events, _)) = epoll::wait(&self.epoll, &mut space, None) else { continue };
            for event in events {
                let token = event.data.u64();
                let line = self.lock().lines.remove(&token);
                if let Some((lifeline, closer)) = line {
                    let _ = epoll::delete(&self.epoll, &lifeline);
                    kill_point!("watch.removed");
                    // A server that went in good order left the reason in the channel.
                    closer.close_as(closer.reason().unwrap_or(CloseReason::Died));
                    kill_point!("watch.closed");
                }
            }
        }
    }

    /// In a forked child: closes its copy of a connection. Whatever another thread was at when the child was forked stays as it is.
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
        let watcher = Watcher::get()?;
        let lifeline = Arc::new(lifeline);
        let mut watched = watcher.lock();
        let token = watched.next;
        // Only the end is of interest; a server that sends something more does not keep this thread busy.
        let flags = epoll::EventFlags::RDHUP;
        epoll::add(&watcher.epoll, lifeline.as_fd(), epoll::EventData::new_u64(token), flags)?;
        watched.next += 1;
        watched.lines.insert(token, (Arc::clone(&lifeline), closer));
        Ok(Watch { token, watcher, lifeline: Some(lifeline) })
    }

    /// Of nothing, for a client without a connection.
    #[cfg(fuzzing)]
    pub(super) fn of_nothing() -> io::Result<Watch> {
        Ok(Watch { token: u64::MAX, watcher: Watcher::made()?, lifeline: None })
    }
}

impl Watch {
    /// Ends the watch and closes the connection, and with it the registration. Idempotent. In a forked child the parent's
    /// registration goes on.
    pub(super) fn end(&self) {
        if !self.watcher.is_ours() {
            return self.watcher.forget_inherited(self.token);
        }
        let line = self.watcher.lock().lines.remove(&self.token);
        if let Some((lifeline, _)) = line {
            let _ = epoll::delete(&self.watcher.epoll, &lifeline);
            // A forked process may hold the connection too: closing our end alone would not end it.
            lifeline.hang_up();
        }
    }

    /// Ends the connection, and leaves it to the watcher to forget it. May be called in a signal handler.
    pub(super) fn hang_up(&self) {
        if let Some(lifeline) = &self.lifeline
            && self.watcher.is_ours()
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
