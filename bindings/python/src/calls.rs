//! Calls over a client's channel or over a link: one at a time, and pipelined.

use std::collections::VecDeque;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use ringpost::{CallError, Caller, Key, Link, Readiness, ReadinessError, Ready, Reply, SendError};

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

    /// The answer to a message that was submitted, if that is what is owed first.
    fn try_sent(&mut self) -> Result<Option<()>, SendError>;
}

macro_rules! line {
    ($($end:ident { $($own:item)* })*) => {$(
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

            $($own)*
        }
    )*};
}

line! {
    Caller {
        fn try_sent(&mut self) -> Result<Option<()>, SendError> {
            Caller::try_sent(self)
        }
    }
    Link {
        fn try_sent(&mut self) -> Result<Option<()>, SendError> {
            Ok(Some(())) // Its posts are not answered.
        }
    }
}

/// What the line owes for something that was submitted.
struct Owed {
    /// Whether anybody waits for it.
    wanted: bool,
    /// The answer to a message, not a response.
    is_sent: bool,
}

/// A line, and what it owes.
pub struct Calls<L> {
    pub line: L,
    /// In order.
    owed: VecDeque<Owed>,
    /// Responses that came while another one was waited for.
    kept: VecDeque<PyResult<Py<PyBytes>>>,
    readiness: Option<Readiness>,
    /// Whether the last response was long, as the next one may be.
    long: bool,
}

impl<L: Line> Calls<L> {
    pub fn new(line: L) -> Calls<L> {
        Calls { line, owed: VecDeque::new(), kept: VecDeque::new(), readiness: None, long: false }
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
                    if let Some(own) = self.owed.back_mut() {
                        own.wanted = false;
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
        self.owed.push_back(Owed { wanted: true, is_sent: false });
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
            match self.look(py)? {
                Some((true, answer)) => return answer.map(Some),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// How many responses can be collected, now or later.
    pub fn outstanding(&self) -> usize {
        self.kept.len() + self.owed.iter().filter(|owed| owed.wanted).count()
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

    /// The next answer of the line if it is there, and whether it is wanted.
    fn look<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Answer<'py>>> {
        let before = self.line.outstanding();
        let found = if self.owed.front().is_some_and(|owed| owed.is_sent) {
            match self.line.try_sent() {
                Ok(None) => return Ok(None),
                Ok(Some(())) => Ok(Ok(PyBytes::new(py, b""))),
                Err(error) => Err(error.raise()),
            }
        } else {
            let looked =
                if self.long { py.detach(|| self.line.try_response()) } else { self.line.try_response() };
            match looked {
                Ok(None) => return Ok(None),
                Ok(Some(reply)) => {
                    self.long = reply.payload().len() >= LONG;
                    Ok(bytes(py, reply.payload()))
                }
                Err(error) => Err(error.raise()),
            }
        };
        self.taken(before, found).map(Some)
    }

    /// The next answer of the line, and whether it is wanted.
    fn take<'py>(&mut self, py: Python<'py>, limit: &Limit) -> PyResult<Answer<'py>> {
        let mut backoff = Backoff::new();
        while self.owed.front().is_some_and(|owed| owed.is_sent) {
            if let Some(answer) = self.look(py)? {
                return Ok(answer);
            }
            if !backoff.sleep(py, limit)? {
                return Err(timed_out("an earlier message was not answered before the deadline"));
            }
        }
        // An answer that is there, or comes within the microsecond of looks that a wait begins with, costs
        // less than to let go of the interpreter's lock. A long one is copied without it.
        let mut looks = !self.long;
        loop {
            let before = self.line.outstanding();
            let (found, last) = if looks {
                (self.line.response(Duration::ZERO), false)
            } else {
                let (slice, last) = limit.slice();
                (py.detach(|| self.line.response(slice)), last)
            };
            let found = match found {
                Ok(reply) => {
                    self.long = reply.payload().len() >= LONG;
                    Ok(bytes(py, reply.payload()))
                }
                Err(CallError::TimedOut) if !last => {
                    if !std::mem::take(&mut looks) {
                        py.check_signals()?;
                    }
                    continue;
                }
                Err(error) => Err(error.raise()),
            };
            return self.taken(before, found);
        }
    }

    /// Tells an answer that reports a failure from a failure to get one.
    fn taken<'py>(
        &mut self,
        before: usize,
        found: PyResult<PyResult<Bound<'py, PyBytes>>>,
    ) -> PyResult<Answer<'py>> {
        let answer = match found {
            Ok(answer) => answer,
            Err(error) if self.line.outstanding() < before => Err(error),
            Err(error) => return Err(error),
        };
        Ok((self.owed.pop_front().is_none_or(|owed| owed.wanted), answer))
    }
}

/// Whether it is wanted, and the response, or what it reports.
type Answer<'py> = (bool, PyResult<Bound<'py, PyBytes>>);

impl Calls<Caller> {
    /// Sends a message, and does not wait for the server's answer, which comes as an empty response.
    pub fn try_submit_send(
        &mut self,
        py: Python<'_>,
        to: Key,
        message: &[u8],
        patience: Duration,
    ) -> PyResult<()> {
        let mut submit = || self.line.try_submit_send(to, message, patience);
        let submitted = if message.len() < LONG { submit() } else { py.detach(submit) };
        submitted.map_err(Raise::raise)?;
        self.owed.push_back(Owed { wanted: true, is_sent: true });
        Ok(())
    }
}
