//! `Readiness`: the descriptor by which an end is waited for.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use rustix::event::epoll::{self, EventData, EventFlags};

use crate::os::descriptors::close_if;
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
    Several(Nest),
}

/// An epoll instance that is readable while one of its pipes is.
struct Nest {
    /// `Some` until the drop.
    epoll: Option<OwnedFd>,
    pipes: [Arc<PipeReader>; 2],
}

impl Readiness {
    pub(super) fn of_end(pipe: Arc<PipeReader>) -> Readiness {
        Readiness(By::Pipe(pipe))
    }

    pub(super) fn of_several(pipes: [Arc<PipeReader>; 2]) -> io::Result<Readiness> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for pipe in &pipes {
            epoll::add(&epoll, &**pipe, EventData::new_u64(0), EventFlags::IN)?;
        }
        Ok(Readiness(By::Several(Nest { epoll: Some(epoll), pipes })))
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
            By::Several(Nest { epoll, .. }) => epoll.as_ref().expect("only the drop takes it").as_fd(),
        }
    }
}

impl AsRawFd for Readiness {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for Nest {
    fn drop(&mut self) {
        let Some(epoll) = self.epoll.take() else { return };
        // Other code may have closed it, and got its number for something else: that has not these pipes.
        let [pipe, _] = &self.pipes;
        let is_ours =
            pipe.is_ours() && epoll::modify(&epoll, &**pipe, EventData::new_u64(0), EventFlags::IN).is_ok();
        close_if(is_ours, Some(epoll));
    }
}
