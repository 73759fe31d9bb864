//! `Lending`: an end that takes turns, and that a view or a grant has for itself while it is open.

use std::time::Duration;

use parking_lot::Mutex;
use pyo3::prelude::*;
use ringpost::{CloseReason, Closer};

use crate::errors::in_use;
use crate::turn::{Repeats, Turn};
use crate::waits::Limit;

/// An end, as `Turn` has it, and the place to which whoever borrowed it brings it back.
///
/// Bringing it back needs no turn: a view may be dropped wherever the interpreter collects garbage, also in
/// the middle of an operation of the same end.
pub struct Lending<T> {
    turn: Turn<Option<Box<T>>>,
    returned: Mutex<Returned<T>>,
}

struct Returned<T> {
    end: Option<Box<T>>,
    /// It was closed while it was lent.
    closed: bool,
}

impl<T: Send> Lending<T> {
    pub fn new(end: T, closer: Closer) -> Lending<T> {
        let returned = Mutex::new(Returned { end: None, closed: false });
        Lending { turn: Turn::new(Some(Box::new(end)), closer), returned }
    }

    /// Waits for the turn, and uses the end.
    pub fn with<R>(
        &self,
        py: Python<'_>,
        limit: &Limit,
        work: impl FnOnce(&mut T) -> PyResult<R>,
    ) -> PyResult<R> {
        self.turn.with(py, limit, |place| work(self.here(place)?))
    }

    /// Waits for the turn, and gives the end away for what `step` makes of it. It is called again until it
    /// has something, or fails, or the limit is reached; each time it is told how long to wait. Without a
    /// wait it is called once, and `None` means that it had nothing.
    pub fn lend<R: Send, E: Repeats + Send>(
        &self,
        py: Python<'_>,
        limit: &Limit,
        waits: bool,
        mut step: impl FnMut(Box<T>, Duration) -> Result<R, (Box<T>, E)> + Send,
    ) -> PyResult<Option<R>> {
        self.turn.with(py, limit, |place| {
            self.here(place)?;
            let Some(end) = place.take() else { return Err(in_use()) };
            // What is there, or comes within the microsecond of looks that a wait begins with, costs less
            // than to let go of the interpreter's lock.
            let mut stepped = step(end, Duration::ZERO);
            let mut over = !waits;
            loop {
                match stepped {
                    Ok(lent) => return Ok(Some(lent)),
                    Err((end, error)) => {
                        *place = Some(end);
                        if !error.is_over_time() {
                            return Err(error.raise());
                        }
                        if !waits {
                            return Ok(None);
                        }
                        if over {
                            return Err(error.raise());
                        }
                        py.check_signals()?;
                    }
                }
                let Some(end) = place.take() else { return Err(in_use()) };
                let (slice, last) = limit.slice();
                over = last;
                stepped = py.detach(|| step(end, slice));
            }
        })
    }

    fn here<'a>(&self, place: &'a mut Option<Box<T>>) -> PyResult<&'a mut T> {
        if place.is_none() {
            *place = self.returned.lock().end.take();
        }
        place.as_deref_mut().ok_or_else(in_use)
    }

    /// Takes the end back. In a forked child it is the parent's, and nothing is done with it.
    pub fn give_back(&self, py: Python<'_>, end: Box<T>) {
        let mut returned = self.returned.lock();
        if returned.closed {
            drop(returned);
            py.detach(|| drop(end));
        } else {
            returned.end = Some(end);
        }
    }

    /// Ends it, and the waits of other threads. A view or a grant that is open stays readable.
    pub fn close(&self, py: Python<'_>) -> PyResult<()> {
        let Some(place) = self.turn.take(py)? else { return Ok(()) };
        let mut returned = self.returned.lock();
        let end = place.or_else(|| returned.end.take());
        if end.is_none() {
            returned.closed = true;
            self.turn.closer().close();
        }
        drop(returned);
        py.detach(|| drop(end));
        Ok(())
    }

    pub fn reason(&self) -> Option<CloseReason> {
        self.turn.reason()
    }
}
