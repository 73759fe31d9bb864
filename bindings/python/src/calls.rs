//! Calls over a client's channel or over a link: one at a time, and pipelined.

use std::collections::VecDeque;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use ringpost::{CallError, Caller, Link, Readiness, ReadinessError, Ready, Reply};

use crate::errors::{Raise, timed_out};
use crate::payload::{LONG, bytes};
use crate::waits::{Backoff, Limit};

/// So many responses wait to be collected at most.
const MOST_KEPT: usize = 65_536;

/// What calls go over.
pub trait Line: Send + Ready {
    fn try_submit(&mut self, request: &[u8]) -> Result<(), CallError>;
    fn response(&mut self, time: Duration) -> Result<Reply<'_>, CallError>;
    fn try_response(&mut self) -> Result<Option<Reply<'_>>, CallError>;
    fn outstanding(&self) -> usize;
}

macro_rules! line {
    ($($end:ident),*) => {$(
        impl Line for $end {
            fn try_submit(&mut self, request: &[u8]) -> Result<(), CallError> {
                $end::try_submit(self, request)
            }

            fn response(&mut self, time: Duration) -> Result<Reply<'_>, CallError> {
                $end::response_timeout(self, time)
            }

            fn try_response(&mut self) -> Result<Option<Reply<'_>>, CallError> {
                $end::try_response(self)
            }

            fn outstanding(&self) -> usize {
                $end::outstanding(self)
            }
        }
    )*};
}

line!(Caller, Link);

/// A line, and what it owes.
pub struct Calls<L> {
    pub line: L,
    /// For each response that the line owes, in order: whether anybody waits for it.
    owed: VecDeque<bool>,
    /// Responses that came while another one was waited for.
    kept: VecDeque<PyResult<Py<PyBytes>>>,
    readiness: Option<Readiness>,
}

impl<L: Line> Calls<L> {
    pub fn new(line: L) -> Calls<L> {
        Calls { line, owed: VecDeque::new(), kept: VecDeque::new(), readiness: None }
    }

    /// Calls, and waits for the response. One that is given up is discarded when it comes.
    pub fn call<'py>(
        &mut self,
        py: Python<'py>,
        request: &[u8],
        limit: &Limit,
    ) -> PyResult<Bound<'py, PyBytes>> {
        self.submit(py, request, limit)?;
        loop {
            match self.take(py, limit) {
                // The last one that is owed is this call's.
                Ok((_, answer)) if self.owed.is_empty() => return answer,
                Ok((wanted, answer)) => self.keep(wanted, answer),
                Err(error) => {
                    if let Some(wanted) = self.owed.back_mut() {
                        *wanted = false;
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Sends a call, and waits for room if the ring is full.
    pub fn submit(&mut self, py: Python<'_>, request: &[u8], limit: &Limit) -> PyResult<()> {
        let mut backoff = Backoff::new();
        loop {
            match self.send(py, request) {
                Ok(()) => return Ok(()),
                Err(CallError::Full) if self.kept.len() >= MOST_KEPT => return Err(CallError::Full.raise()),
                Err(CallError::Full) if !self.owed.is_empty() => {
                    let (wanted, answer) = self.take(py, limit)?;
                    self.keep(wanted, answer);
                }
                Err(CallError::Full) => {
                    if !backoff.sleep(py, limit)? {
                        return Err(timed_out("there was no room for the request before the deadline"));
                    }
                }
                Err(error) => return Err(error.raise()),
            }
        }
    }

    pub fn try_submit(&mut self, py: Python<'_>, request: &[u8]) -> PyResult<()> {
        self.send(py, request).map_err(Raise::raise)
    }

    fn send(&mut self, py: Python<'_>, request: &[u8]) -> Result<(), CallError> {
        // Letting go of the interpreter's lock costs more than to copy a short request.
        if request.len() < LONG {
            self.line.try_submit(request)?;
        } else {
            py.detach(|| self.line.try_submit(request))?;
        }
        self.owed.push_back(true);
        Ok(())
    }

    /// The response to the oldest submitted call.
    pub fn response<'py>(&mut self, py: Python<'py>, limit: &Limit) -> PyResult<Bound<'py, PyBytes>> {
        if let Some(kept) = self.kept.pop_front() {
            return kept.map(|answer| answer.into_bound(py));
        }
        loop {
            if let (true, answer) = self.take(py, limit)? {
                return answer;
            }
        }
    }

    pub fn try_response<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        if let Some(kept) = self.kept.pop_front() {
            return kept.map(|answer| Some(answer.into_bound(py)));
        }
        loop {
            let before = self.line.outstanding();
            let found = match py.detach(|| self.line.try_response()) {
                Ok(None) => return Ok(None),
                Ok(Some(reply)) => Ok(bytes(py, reply.payload())),
                Err(error) => Err(error),
            };
            if let (true, answer) = self.taken(before, found)? {
                return answer.map(Some);
            }
        }
    }

    /// How many responses can be collected, now or later.
    pub fn outstanding(&self) -> usize {
        self.kept.len() + self.owed.iter().filter(|wanted| **wanted).count()
    }

    /// Waits until no response is owed: whoever asks the server waits for them too, but not so that a signal
    /// ends it.
    pub fn settle(&mut self, py: Python<'_>, limit: &Limit) -> PyResult<()> {
        while !self.owed.is_empty() && self.line.outstanding() > 0 {
            let (wanted, answer) = self.take(py, limit)?;
            self.keep(wanted, answer);
        }
        Ok(())
    }

    pub fn descriptor(&mut self, py: Python<'_>) -> PyResult<i32> {
        use std::os::fd::AsRawFd;
        if self.readiness.is_none() {
            let asked: Result<Readiness, ReadinessError> = py.detach(|| self.line.readiness());
            self.readiness = Some(asked.map_err(Raise::raise)?);
        }
        Ok(self.readiness.as_ref().map_or(-1, AsRawFd::as_raw_fd))
    }

    fn keep(&mut self, wanted: bool, answer: PyResult<Bound<'_, PyBytes>>) {
        if wanted {
            self.kept.push_back(answer.map(Bound::unbind));
        }
    }

    /// The next response of the line, and whether it is wanted.
    fn take<'py>(
        &mut self,
        py: Python<'py>,
        limit: &Limit,
    ) -> PyResult<(bool, PyResult<Bound<'py, PyBytes>>)> {
        // An answer that is there, or comes within the microsecond of looks that a wait begins with, costs
        // less than to let go of the interpreter's lock.
        let before = self.line.outstanding();
        match self.line.response(Duration::ZERO) {
            Err(CallError::TimedOut) => {}
            Ok(reply) => {
                let answer = Ok(bytes(py, reply.payload()));
                return self.taken(before, answer);
            }
            Err(error) => return self.taken(before, Err(error)),
        }
        loop {
            let before = self.line.outstanding();
            let (slice, last) = limit.slice();
            let found = match py.detach(|| self.line.response(slice)) {
                Ok(reply) => Ok(bytes(py, reply.payload())),
                Err(error) => Err(error),
            };
            if matches!(found, Err(CallError::TimedOut)) && !last {
                py.check_signals()?;
                continue;
            }
            return self.taken(before, found);
        }
    }

    /// Tells a response that reports a failure from a failure to get one.
    fn taken<'py>(
        &mut self,
        before: usize,
        found: Result<PyResult<Bound<'py, PyBytes>>, CallError>,
    ) -> PyResult<(bool, PyResult<Bound<'py, PyBytes>>)> {
        let answer = match found {
            Ok(answer) => answer,
            Err(error) if self.line.outstanding() < before => Err(error.raise()),
            Err(error) => return Err(error.raise()),
        };
        Ok((self.owed.pop_front().unwrap_or(true), answer))
    }
}
