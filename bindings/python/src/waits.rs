//! Waits: without the interpreter's lock, until a limit, and no longer than until a signal's handler raises.

use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::turn::Repeats;

/// How long a signal may wait for its handler. The library's waits go on after a signal, as they should in Rust; in
/// Python a handler runs only between them.
const SLICE: Duration = Duration::from_millis(50);

/// Until when an operation may wait.
pub struct Limit(Option<Instant>);

impl Limit {
    pub const NONE: Limit = Limit(None);

    /// From seconds, as in all of Python; `None` is no limit.
    pub fn new(timeout: Option<f64>) -> PyResult<Limit> {
        let Some(seconds) = timeout else { return Ok(Limit::NONE) };
        if seconds.is_nan() || seconds < 0.0 {
            return Err(PyValueError::new_err("a timeout is a number of seconds from 0 on, or None"));
        }
        let time = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        Ok(Limit(Instant::now().checked_add(time)))
    }

    /// How long to wait now, and whether that is all.
    pub fn slice(&self) -> (Duration, bool) {
        let Some(end) = self.0 else { return (SLICE, false) };
        let left = end.saturating_duration_since(Instant::now());
        if left <= SLICE { (left, true) } else { (SLICE, false) }
    }

    /// What is left, for operations of the library that wait in one piece; `most` if there is no limit.
    pub fn left(&self, most: Duration) -> Duration {
        self.0.map_or(most, |end| end.saturating_duration_since(Instant::now()))
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
