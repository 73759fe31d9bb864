//! Waits: without the interpreter's lock, until a limit, and no longer than until a signal's handler raises.

use std::cell::OnceCell;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::turn::Repeats;

/// How long a signal may wait for its handler. The library's waits go on after a signal, as they should in
/// Rust; in Python a handler runs only between them.
const SLICE: Duration = Duration::from_millis(50);

/// Until when an operation may wait. The clock is read when it is about to wait for the first time: to read
/// it takes about as long as a call.
pub struct Limit {
    time: Option<Duration>,
    /// Once it waits: the end, if the clock has it.
    end: OnceCell<Option<Instant>>,
}

impl Limit {
    pub fn none() -> Limit {
        Limit { time: None, end: OnceCell::new() }
    }

    /// From seconds, as in all of Python; `None` is no limit.
    pub fn new(timeout: Option<f64>) -> PyResult<Limit> {
        let Some(seconds) = timeout else { return Ok(Limit::none()) };
        if seconds.is_nan() || seconds < 0.0 {
            return Err(PyValueError::new_err("a timeout is a number of seconds from 0 on, or None"));
        }
        let time = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        Ok(Limit { time: Some(time), end: OnceCell::new() })
    }

    /// The time that is left, if there is a limit.
    fn rest(&self) -> Option<Duration> {
        let time = self.time?;
        let end = *self.end.get_or_init(|| Instant::now().checked_add(time));
        Some(end?.saturating_duration_since(Instant::now()))
    }

    /// How long to wait now, and whether that is all.
    pub fn slice(&self) -> (Duration, bool) {
        match self.rest() {
            Some(left) if left <= SLICE => (left, true),
            _ => (SLICE, false),
        }
    }

    /// What is left, for operations of the library that wait in one piece; `most` if there is no limit.
    pub fn left(&self, most: Duration) -> Duration {
        self.rest().unwrap_or(most)
    }
}

/// Repeats `step`, which waits as long as it is told, until it has a result or the limit is reached.
pub fn until<T, E: Repeats>(
    py: Python<'_>,
    limit: &Limit,
    mut step: impl FnMut(Duration) -> Result<T, E>,
) -> PyResult<T> {
    loop {
        let (slice, last) = limit.slice();
        match step(slice) {
            Ok(found) => return Ok(found),
            Err(error) if error.is_over_time() && !last => py.check_signals()?,
            Err(error) => return Err(error.raise()),
        }
    }
}

/// Does something that waits in one piece on a thread of its own, so that a signal ends the wait for it. It
/// goes on then.
pub fn aside<T: Send + 'static>(py: Python<'_>, work: impl FnOnce() -> T + Send + 'static) -> PyResult<T> {
    let (done, result) = mpsc::sync_channel(1);
    let mut result = Mutex::new(result); // it may go to another thread, but is for one at a time
    std::thread::Builder::new().name("rp-python".to_owned()).spawn(move || {
        // If nobody waits for it any more, it is dropped.
        let _ = done.send(work());
    })?;
    loop {
        match py.detach(|| result.get_mut().recv_timeout(SLICE)) {
            Ok(result) => return Ok(result),
            Err(mpsc::RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(PyRuntimeError::new_err("an operation panicked"));
            }
        }
    }
}

/// Sleeps between two looks at what cannot be waited for: longer each time, at most 10 ms.
pub struct Backoff(Duration);

impl Backoff {
    pub fn new() -> Backoff {
        Backoff(Duration::from_micros(50))
    }

    /// Sleeps. `false` if the limit is reached already.
    pub fn sleep(&mut self, py: Python<'_>, limit: &Limit) -> PyResult<bool> {
        let (slice, last) = limit.slice();
        if last && slice.is_zero() {
            return Ok(false);
        }
        let time = self.0.min(slice);
        py.detach(|| std::thread::sleep(time));
        self.0 = (self.0 * 2).min(Duration::from_millis(10));
        py.check_signals()?;
        Ok(true)
    }
}
