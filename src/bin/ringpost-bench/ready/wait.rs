//! Waits for the response to a call in epoll, and counts.

use std::fs;

use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::floor_epoll::Epoll;
use ringpost::cli::stats::thousandths;
use ringpost::{CallError, Caller, Client, Link, Readiness, ReadinessError, Ready, Reply};
use serde::Serialize;

use crate::calls::{self, wrong};

/// An end that submits calls and can be armed.
pub trait Asks: calls::Calls + Ready {
    fn try_response(&mut self) -> Result<Option<Reply<'_>>, CallError>;
}

impl Asks for Client {
    fn try_response(&mut self) -> Result<Option<Reply<'_>>, CallError> {
        self.caller().try_response()
    }
}

impl Asks for Caller {
    fn try_response(&mut self) -> Result<Option<Reply<'_>>, CallError> {
        Caller::try_response(self)
    }
}

impl Asks for Link {
    fn try_response(&mut self) -> Result<Option<Reply<'_>>, CallError> {
        Link::try_response(self)
    }
}

/// An event loop for the responses of one end.
pub struct Loop {
    epoll: Epoll,
    _readiness: Readiness,
    pub counts: Counts,
}

impl Loop {
    pub fn of(end: &mut impl Ready) -> Result<Loop, Failure> {
        let readiness = end.readiness().map_err(Failure::failed)?;
        let epoll = Epoll::new()?;
        epoll.add(&readiness, 0)?;
        Ok(Loop { epoll, _readiness: readiness, counts: Counts::default() })
    }

    /// Makes a call, and waits for its response in epoll.
    #[inline]
    pub fn call(&mut self, end: &mut impl Asks, request: &[u8]) -> Outcome {
        end.submit(request, 1).map_err(Failure::failed)?;
        self.counts.calls += 1;
        loop {
            let waits = end.arm().map_err(lost)?;
            if waits {
                let _ = self.epoll.wait()?;
                self.counts.wakes += 1;
            }
            match end.try_response().map_err(Failure::failed)? {
                Some(response) if response == request => return Ok(()),
                Some(response) => return Err(wrong(request, &response)),
                None => self.counts.fruitless += u64::from(waits),
            }
        }
    }
}

fn lost(error: ReadinessError) -> Failure {
    Failure::failed(error)
}

/// How often an event loop was woken.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counts {
    pub calls: u64,
    /// Returns of the wait.
    pub wakes: u64,
    /// Those after which nothing was there.
    pub fruitless: u64,
}

impl Counts {
    pub fn since(self, before: Counts) -> Counts {
        Counts {
            calls: self.calls - before.calls,
            wakes: self.wakes - before.wakes,
            fruitless: self.fruitless - before.fruitless,
        }
    }

    pub fn and(self, more: Counts) -> Counts {
        Counts {
            calls: self.calls + more.calls,
            wakes: self.wakes + more.wakes,
            fruitless: self.fruitless + more.fruitless,
        }
    }

    /// The counts per call. `kicks` is the number of kicks, if it is known.
    pub fn per_call(self, kicks: Option<u64>) -> Wakes {
        let each = |count: u64| thousandths(count as f64 / self.calls.max(1) as f64);
        Wakes {
            per_call: each(self.wakes),
            fruitless_per_call: each(self.fruitless),
            kicks_per_call: kicks.map(each),
        }
    }
}

/// How often an event loop was woken, per call.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Wakes {
    pub per_call: f64,
    /// Those that led nowhere.
    pub fruitless_per_call: f64,
    /// What the other process wrote into pipes.
    pub kicks_per_call: Option<f64>,
}

/// How many writes a process has made. One that writes nothing else writes kicks.
#[derive(Default)]
pub struct Kicks {
    sum: Option<u64>,
}

impl Kicks {
    /// Counts the writes of a process during `measure`.
    pub fn during<T>(
        &mut self,
        pid: u32,
        measure: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let before = writes(pid);
        let measured = measure()?;
        if let (Some(before), Some(after)) = (before, writes(pid)) {
            self.sum = Some(self.sum.unwrap_or(0) + after.saturating_sub(before));
        }
        Ok(measured)
    }

    pub fn sum(&self) -> Option<u64> {
        self.sum
    }
}

/// The calls of `write` that a process has made, if the kernel counts them.
fn writes(pid: u32) -> Option<u64> {
    writes_in(&fs::read_to_string(format!("/proc/{pid}/io")).ok()?)
}

fn writes_in(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("syscw:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_per_call() {
        let counts = Counts { calls: 10, wakes: 20, fruitless: 5 }.since(Counts::default());
        let wakes = counts.and(Counts::default()).per_call(Some(10));
        let found = (wakes.per_call, wakes.fruitless_per_call, wakes.kicks_per_call);
        assert_eq!(found, (2.0, 0.5, Some(1.0)));
        assert_eq!(Counts::default().per_call(None).per_call, 0.0);
    }

    #[test]
    fn writes_are_counted() {
        assert_eq!(writes_in("rchar: 1\nsyscw: 42\n"), Some(42));
        assert_eq!(writes_in("rchar: 1\n"), None);
        let own = std::process::id();
        // Some kernels do not count.
        if let Some(before) = writes(own) {
            fs::write("/dev/null", "x").unwrap();
            assert!(writes(own) > Some(before));
        }
    }
}
