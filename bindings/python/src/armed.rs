//! `Armed`: an end that waits in an event loop, with its descriptor.

use std::os::fd::AsRawFd;
use std::time::Duration;

use pyo3::prelude::*;
use ringpost::{Readiness, Ready};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::errors::Raise;

pub struct Armed<T> {
    pub end: T,
    readiness: Option<Readiness>,
}

impl<T: Ready + Send> Armed<T> {
    pub fn new(end: T) -> Armed<T> {
        Armed { end, readiness: None }
    }

    /// The descriptor. The first time it is made.
    pub fn descriptor(&mut self, py: Python<'_>) -> PyResult<i32> {
        if self.readiness.is_none() {
            self.readiness = Some(py.detach(|| self.end.readiness()).map_err(Raise::raise)?);
        }
        Ok(self.readiness.as_ref().map_or(-1, AsRawFd::as_raw_fd))
    }

    /// Sleeps until the descriptor is readable, or so long. A signal may end it early.
    pub fn sleep(&self, time: Duration) -> PyResult<()> {
        let Some(readiness) = &self.readiness else { return Ok(()) };
        let time = Timespec::try_from(time).ok();
        match poll(&mut [PollFd::new(readiness, PollFlags::IN)], time.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(std::io::Error::from(error).into()),
        }
    }

    /// Announces a wait. `false`: look again now.
    pub fn arm(&mut self) -> PyResult<bool> {
        self.end.arm().map_err(Raise::raise)
    }
}
