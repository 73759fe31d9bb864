//! `Readiness`: the descriptor by which an end is waited for.

#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use crate::os::pipe::PipeReader;

/// What to wait by for an end: [`Ready::readiness`](crate::Ready::readiness). Its descriptor can be put into
/// any event loop, and stays open until this is dropped. Do not read from it.
pub struct Readiness(Arc<PipeReader>);

impl Readiness {
    pub(super) fn of_end(pipe: Arc<PipeReader>) -> Readiness {
        Readiness(pipe)
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Readiness").field(&self.as_raw_fd()).finish()
    }
}

impl AsFd for Readiness {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Readiness {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
