//! Readiness: the descriptor by which an event loop waits for an end.
//!
//! Put the descriptor into the loop, for reading. Before each wait: look, with a time-out of 0, until there
//! is nothing; then arm, and look again if that says false. Only then wait. Never read from the descriptor,
//! and take it out of the loop before the handle is freed, which closes it.

use std::ffi::c_int;
use std::os::fd::AsRawFd;

use bus::{Readiness, Ready};

use crate::error::Failure;
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
}
