//! `Readiness`: the descriptor by which an end is waited for.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use crate::os::nest::Nest;
use crate::shm::backend::PipeReader;

/// What to wait by for an end: [`Ready::readiness`](crate::Ready::readiness). Its descriptor can be put into
/// any event loop, and stays open until this is dropped. Do not read from it.
///
/// Take it out of the loop before you drop it: the pipe behind it may live a little longer. The other client
/// of a link takes it for open until this is dropped, so drop it with the link.
pub struct Readiness(By);

enum By {
    /// The pipe of one end.
    Pipe(Arc<PipeReader>),
    Several(Arc<Nest>),
}

impl Readiness {
    pub(super) fn of_end(pipe: Arc<PipeReader>) -> Readiness {
        Readiness(By::Pipe(pipe))
    }

    /// Of an end with several pipes.
    pub(super) fn of_nest(nest: Arc<Nest>) -> Readiness {
        Readiness(By::Several(nest))
    }

    pub(super) fn of_several([first, second]: [Arc<PipeReader>; 2]) -> io::Result<Readiness> {
        let nest = Nest::new(first)?;
        nest.hold(std::iter::once(&second))?;
        Ok(Readiness(By::Several(Arc::new(nest))))
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Readiness").field(&self.as_raw_fd()).finish()
    }
}

impl AsFd for Readiness {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            By::Pipe(pipe) => pipe.as_fd(),
            By::Several(nest) => nest.as_fd(),
        }
    }
}

impl AsRawFd for Readiness {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
