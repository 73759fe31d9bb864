//! One thread of the process that notices the death of servers.
//!
//! It sleeps on the lifelines of all registered clients of this process. When one ends, whatever was the reason, it closes that client's
//! channel, which wakes everyone who waits there. So those waits need no time-out, and an idle client costs nothing.

#![forbid(unsafe_code)]

use rustix::event::epoll;
use rustix::net::{Shutdown, shutdown};
use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::kill::kill_point;
use crate::ring::{CloseReason, Closer};

struct Watcher {
    epoll: OwnedFd,
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    next: u64,
    /// The lifeline lies here too, so that it cannot be closed, and its number reused, while it is watched.
    lines: HashMap<u64, (OwnedFd, Closer)>,
}

static WATCHER: OnceLock<Watcher> = OnceLock::new();
/// Whether the thread runs: its start can fail, and is then tried again.
static STARTED: Mutex<bool> = Mutex::new(false);

/// A lifeline under watch, until its [end](Self::end) or drop.
#[derive(Debug)]
pub(super) struct Watch {
    token: u64,
}

impl Watcher {
    fn get() -> io::Result<&'static Watcher> {
        let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
        let watcher = match WATCHER.get() {
            Some(watcher) => watcher,
            None => {
                let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
                WATCHER.get_or_init(|| Watcher { epoll, watched: Mutex::default() })
            }
        };
        if !*started {
            std::thread::Builder::new().name("rp-watcher".into()).spawn(|| watcher.run())?;
            *started = true;
        }
        Ok(watcher)
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
}

impl Watch {
    /// Closes the channel when the lifeline ends. Starts the process's watcher with the first.
    pub(super) fn begin(lifeline: OwnedFd, closer: Closer) -> io::Result<Watch> {
        let watcher = Watcher::get()?;
        let mut watched = watcher.lock();
        let token = watched.next;
        // Only the end is of interest; a server that sends something more does not keep this thread busy.
        let flags = epoll::EventFlags::RDHUP;
        epoll::add(&watcher.epoll, lifeline.as_fd(), epoll::EventData::new_u64(token), flags)?;
        watched.next += 1;
        watched.lines.insert(token, (lifeline, closer));
        Ok(Watch { token })
    }
}

impl Watch {
    /// Ends the watch and closes the connection, and with it the registration. Idempotent.
    pub(super) fn end(&self) {
        if let Some(watcher) = WATCHER.get() {
            let line = watcher.lock().lines.remove(&self.token);
            if let Some((lifeline, _)) = line {
                let _ = epoll::delete(&watcher.epoll, &lifeline);
                // A forked process may hold the connection too: closing our end alone would not end it.
                let _ = shutdown(&lifeline, Shutdown::Both);
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}
