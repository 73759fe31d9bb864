//! `Turn`: what one thread uses at a time, and for which the others wait without the interpreter's lock.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use ringpost::{CloseReason, Closer};

use crate::errors::{Raise, disconnected, timed_out};
use crate::waits::Limit;

thread_local! {
    static HERE: u8 = const { 0 };
}

/// A number that no other living thread has; never 0.
fn this_thread() -> usize {
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

/// An end of the bus. Its operations need it alone, so they take turns.
pub struct Turn<T> {
    end: Mutex<Option<T>>,
    /// The thread whose turn it is, or 0.
    owner: AtomicUsize,
    closer: Closer,
}

impl<T: Send> Turn<T> {
    pub fn new(end: T, closer: Closer) -> Turn<T> {
        Turn { end: Mutex::new(Some(end)), owner: AtomicUsize::new(0), closer }
    }

    /// Waits for the turn, and uses the end.
    pub fn with<R>(
        &self,
        py: Python<'_>,
        limit: &Limit,
        work: impl FnOnce(&mut T) -> PyResult<R>,
    ) -> PyResult<R> {
        let mut end = self.lock(py, limit)?;
        let Some(end) = end.as_mut() else {
            return Err(disconnected(self.closer.reason().unwrap_or(CloseReason::Local), false));
        };
        let _owned = Owned::new(&self.owner);
        work(end)
    }

    fn lock(&self, py: Python<'_>, limit: &Limit) -> PyResult<MutexGuard<'_, Option<T>>> {
        loop {
            if let Some(end) = self.end.try_lock() {
                return Ok(end);
            }
            // A signal handler in the middle of an operation, or a service that uses the client that waits
            // for it.
            if self.owner.load(Ordering::Relaxed) == this_thread() {
                return Err(PyRuntimeError::new_err(
                    "this object is in use by an operation of the same thread: a signal handler, or a callback, \
                     cannot use it",
                ));
            }
            // In a forked child the thread whose turn it is does not exist.
            if self.closer.reason() == Some(CloseReason::Forked) {
                return Err(disconnected(CloseReason::Forked, false));
            }
            let (slice, last) = limit.slice();
            match py.detach(|| self.end.try_lock_for(slice)) {
                Some(end) => return Ok(end),
                None if last => {
                    return Err(timed_out("another thread's operation on this object did not end in time"));
                }
                None => py.check_signals()?,
            }
        }
    }

    /// Takes the end out. Ends the waits of other threads if there are any.
    pub fn take(&self, py: Python<'_>) -> PyResult<Option<T>> {
        // In one step: another thread may take the turn behind a mere look.
        if let Some(mut end) = self.end.try_lock() {
            return Ok(end.take());
        }
        self.closer.close();
        self.take_in_turn(py)
    }

    /// As `take`, but ends no waits: for what gives its turn up between them.
    pub fn take_in_turn(&self, py: Python<'_>) -> PyResult<Option<T>> {
        match self.lock(py, &Limit::none()) {
            Ok(mut end) => Ok(end.take()),
            // A forked child in which nobody can give the turn up: the end is the parent's.
            Err(_) if self.reason() == Some(CloseReason::Forked) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes the end out if nobody uses it, for `drop`: then nobody does.
    pub fn take_now(&self) -> Option<T> {
        self.end.try_lock().and_then(|mut end| end.take())
    }

    pub fn is_busy(&self) -> bool {
        self.end.is_locked()
    }

    pub fn closer(&self) -> &Closer {
        &self.closer
    }

    /// Why the end is of no use any more.
    pub fn reason(&self) -> Option<CloseReason> {
        self.closer.reason()
    }
}

struct Owned<'a>(&'a AtomicUsize);

impl<'a> Owned<'a> {
    fn new(owner: &'a AtomicUsize) -> Owned<'a> {
        owner.store(this_thread(), Ordering::Relaxed);
        Owned(owner)
    }
}

impl Drop for Owned<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// What an operation that is repeated until its limit says when it is to be repeated.
pub trait Repeats: Raise {
    fn is_over_time(&self) -> bool;
}

macro_rules! repeats {
    ($($error:ident),*) => {$(
        impl Repeats for ringpost::$error {
            fn is_over_time(&self) -> bool {
                self.is_timeout()
            }
        }
    )*};
}

repeats!(CallError, PublishError, RecvError, SampleError);

impl Repeats for ringpost::AcceptError {
    fn is_over_time(&self) -> bool {
        matches!(self, ringpost::AcceptError::TimedOut)
    }
}
