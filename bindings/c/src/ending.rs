//! Ends that take a while: a server or a serving that waits for its services.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::error::Failure;
use crate::error::ringpost_status::*;

/// Something that runs, or is being ended by a thread that says what came of it.
pub(crate) enum Ending<T, R> {
    Runs(T),
    /// The mutex is never locked: it lets several threads look at the rest.
    Ends {
        process: u32,
        done: Mutex<Receiver<R>>,
    },
    Ended,
}

impl<T: Send + 'static, R: Send + 'static> Ending<T, R> {
    /// Ends it, and waits for that until the limit. After RINGPOST_TIMED_OUT it goes on ending.
    pub(crate) fn end(&mut self, by: fn(T) -> R, limit: Option<Duration>) -> Result<R, Failure> {
        match std::mem::replace(self, Ending::Ended) {
            // Here, as the library knows then if it is one of its own threads that waits.
            Ending::Runs(running) if limit.is_none() => return Ok(by(running)),
            Ending::Runs(running) => {
                let (sender, done) = mpsc::channel();
                let (give, take) = mpsc::channel();
                let ends = move || {
                    if let Ok(running) = take.recv() {
                        let _ = sender.send(by(running));
                    }
                };
                if let Err(error) = spawn(ends) {
                    *self = Ending::Runs(running);
                    let text = format_args!("cannot start a thread to wait on: {error}");
                    return Err(Failure::new(RINGPOST_SYSTEM, text));
                }
                *self = Ending::Ends { process: std::process::id(), done: Mutex::new(done) };
                let _ = give.send(running);
            }
            ending => *self = ending,
        }
        let Ending::Ends { process, done } = self else {
            return Err(Failure::new(RINGPOST_PANICKED, "an earlier call panicked while it ended this"));
        };
        if *process != std::process::id() {
            return Err(Failure::new(RINGPOST_FORKED, bus::CloseReason::Forked));
        }
        let done = done.get_mut().unwrap_or_else(PoisonError::into_inner);
        let received = match limit {
            Some(limit) => done.recv_timeout(limit),
            None => done.recv().map_err(RecvTimeoutError::from),
        };
        received.map_err(|error| match error {
            RecvTimeoutError::Timeout => {
                Failure::new(RINGPOST_TIMED_OUT, "services still run: wait again, or leave them")
            }
            RecvTimeoutError::Disconnected => Failure::new(RINGPOST_PANICKED, "the end panicked"),
        })
    }

    /// What runs, if it is not being ended.
    pub(crate) fn running(&self) -> Result<&T, Failure> {
        match self {
            Ending::Runs(running) => Ok(running),
            _ => Err(Failure::new(RINGPOST_SHUTTING_DOWN, "it is being ended")),
        }
    }
}

/// Starts a thread that takes no signals of the program's, except those that its own instructions raise.
fn spawn(body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    let mut before = std::mem::MaybeUninit::uninit();
    let mut all = std::mem::MaybeUninit::uninit();
    // SAFETY: both point to room for a set. The first call fills `all`, the last reads it and fills `before`.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP] {
            libc::sigdelset(all.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    let spawned = thread::Builder::new().name("rp-ends".into()).spawn(body);
    // SAFETY: the call above has filled `before`: with good pointers it does not fail.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    spawned.map(drop)
}
