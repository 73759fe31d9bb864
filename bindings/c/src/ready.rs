//! Readiness: the descriptor by which an event loop waits for an end.
//!
//! Put the descriptor into the loop, for reading. Before each wait: look, with a time-out of 0, until there
//! is nothing; then arm, and look again if that says false. Only then wait. Never read from the descriptor,
//! and take it out of the loop before the handle is freed, which closes it.

use std::ffi::c_int;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use bus::{Readiness, ReadinessError, Ready};

use crate::error::Failure;
use crate::error::ringpost_status::*;
use crate::text::Place;

/// An end, and the descriptor that C has asked for, which is open as long.
pub(crate) struct Waits<T> {
    pub(crate) end: T,
    readiness: Option<Readiness>,
}

impl<T: Ready> Waits<T> {
    pub(crate) fn new(end: T) -> Waits<T> {
        Waits { end, readiness: None }
    }

    /// The descriptor of its present registration.
    pub(crate) fn descriptor(&mut self, to: Place<c_int>) -> Result<(), Failure> {
        let readiness = self.end.readiness()?;
        to.put(self.readiness.insert(readiness).as_raw_fd());
        Ok(())
    }

    pub(crate) fn arm(&mut self, to: Place<bool>) -> Result<(), Failure> {
        to.put(self.end.arm()?);
        Ok(())
    }

    /// Fails if it can never wait by a descriptor, before anything is done that could not be taken back.
    pub(crate) fn may_wait(&mut self) -> Result<(), Failure> {
        if self.readiness.is_none() {
            match self.end.readiness() {
                Ok(readiness) => self.readiness = Some(readiness),
                Err(error @ ReadinessError::NotArmable) => return Err(error.into()),
                // What else is wrong, the wait says: what was there before may still be taken.
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Waits by the descriptor for so long at most, or until a signal comes.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<(), Failure> {
        if self.readiness.is_none() {
            self.readiness = Some(self.end.readiness()?);
        }
        let armed = self.end.arm()?;
        let Some(readiness) = self.readiness.as_ref().filter(|_| armed) else { return Ok(()) };
        let mut entry = libc::pollfd { fd: readiness.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // Rounded up, so that it does not turn at the end. A longer wait is made of several.
        let millis = limit.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(c_int::MAX);
        // SAFETY: it is one entry, for which there is room, of a descriptor that is open.
        let found = unsafe { libc::poll(&raw mut entry, 1, millis) };
        let error = io::Error::last_os_error();
        if found < 0 && error.kind() != io::ErrorKind::Interrupted {
            return Err(Failure::new(
                RINGPOST_SYSTEM,
                format_args!("cannot wait by the descriptor: {error}"),
            ));
        }
        Ok(())
    }
}
