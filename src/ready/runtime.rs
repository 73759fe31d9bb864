//! `Watch`: a descriptor in the event loop of the runtime that is there; and how each future waits by it.
//!
//! Each future looks, arms and waits in this loop:
//!
//! ```text
//! loop {
//!     look: found something? return it
//!     arm: something came meanwhile? look again
//!     ask the runtime: has the descriptor become readable since the last clear?
//!         yes: clear that, and look again
//!         no: return Pending; the runtime wakes the task when it does
//! }
//! ```
//!
//! **Why no wake is lost.** tokio waits for edges and remembers the last one, so a byte that lies in the pipe
//! is no news to it. `arm` drains the pipe, then says that this end waits, and then looks. What was published
//! before that look is found by it. Whatever is published later kicks into a pipe that was drained, and that
//! is an edge. If the runtime saw the edge before it is asked, the loop clears it and goes around; the next
//! `arm` drains and looks after that. If it sees the edge later, the waker is there: the runtime registers
//! the waker and reads what it remembers in one step, and a clear removes only the edge that this question
//! found, not one that came behind it. So each clear is followed by a look, and no `Pending` by a clear. An
//! edge of which the byte was drained meanwhile is no loss: the look behind that drain found what it was for.
//!
//! async-io asks the kernel anew for each wait, whether the descriptor is readable, so it misses nothing that
//! `arm` did not drain.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::task::{Context, Poll};

#[cfg(feature = "tokio")]
use tokio::io::Interest;
#[cfg(feature = "tokio")]
use tokio::io::unix::AsyncFd;

use super::ReadinessError;
use crate::client::{AcceptError, CallError, ConnectError, PublishError, RecvError, SampleError};
use crate::wire::CloseReason;

/// How often a loop goes around before it lets other tasks run. A peer that writes without sense could keep
/// it longer.
const MOST_ROUNDS: usize = 32;

/// How often in a row an end may be found ready before its task lets others run.
pub(super) const MOST_TURNS: u32 = 64;

/// A descriptor that a runtime watches.
#[derive(Debug)]
pub(super) enum Watch<D: AsRawFd> {
    #[cfg(feature = "tokio")]
    Tokio(AsyncFd<D>),
    #[cfg(feature = "async-io")]
    AsyncIo(async_io::Async<D>),
}

impl<D: AsFd + AsRawFd> Watch<D> {
    /// Gives the descriptor to tokio if this thread runs in it, else to async-io.
    pub(super) fn new(descriptor: D) -> io::Result<Watch<D>> {
        #[cfg(feature = "tokio")]
        #[allow(deprecated, reason = "its successor is unsafe; all that comes here owns its descriptor")]
        if tokio::runtime::Handle::try_current().is_ok() {
            return AsyncFd::with_interest(descriptor, Interest::READABLE).map(Watch::Tokio);
        }
        #[cfg(feature = "async-io")]
        return async_io::Async::new_nonblocking(descriptor).map(Watch::AsyncIo);
        #[cfg(not(feature = "async-io"))]
        Err(io::Error::other("this thread runs in no tokio runtime, and the feature async-io is off"))
    }

    /// Ready if the descriptor has become readable since the last time.
    ///
    /// # Errors
    ///
    /// The runtime has ended.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            #[cfg(feature = "tokio")]
            Watch::Tokio(watched) => watched.poll_read_ready(cx).map_ok(|mut ready| ready.clear_ready()),
            #[cfg(feature = "async-io")]
            Watch::AsyncIo(watched) => watched.poll_readable(cx),
        }
    }
}

/// An error of a future that cannot go on to wait.
pub(super) trait Lost {
    /// The end says so before a wait.
    fn disconnected(reason: CloseReason) -> Self;

    /// The runtime has ended, or the end has another descriptor by now.
    fn cannot_wait() -> Self;
}

/// One poll of a future that waits until `look` finds something.
///
/// `arm` announces the wait. `turns` counts how often in a row an end was found ready. Such a future never
/// returns to its runtime by itself, so it does so after [`MOST_TURNS`].
pub(super) fn poll_until<X: ?Sized, R, E: Lost>(
    cx: &mut Context<'_>,
    watch: &Watch<impl AsFd + AsRawFd>,
    turns: &mut u32,
    end: &mut X,
    mut look: impl FnMut(&mut X) -> Result<Option<R>, E>,
    mut arm: impl FnMut(&mut X) -> Result<bool, ReadinessError>,
) -> Poll<Result<R, E>> {
    if *turns >= MOST_TURNS {
        return pause(cx, turns);
    }
    for _ in 0..MOST_ROUNDS {
        if let Some(found) = look(end)? {
            *turns += 1;
            return Poll::Ready(Ok(found));
        }
        match arm(end) {
            Ok(false) => continue,
            Ok(true) => {}
            Err(ReadinessError::Disconnected(reason)) => return Poll::Ready(Err(E::disconnected(reason))),
            Err(_) => return Poll::Ready(Err(E::cannot_wait())),
        }
        match watch.poll(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(Err(E::cannot_wait())),
            Poll::Pending => {
                *turns = 0;
                return Poll::Pending;
            }
        }
    }
    pause(cx, turns)
}

/// Lets other tasks run, and comes back behind them.
fn pause<R>(cx: &mut Context<'_>, turns: &mut u32) -> Poll<R> {
    *turns = 0;
    cx.waker().wake_by_ref();
    Poll::Pending
}

impl Lost for CallError {
    fn disconnected(reason: CloseReason) -> CallError {
        CallError::Disconnected(reason)
    }

    fn cannot_wait() -> CallError {
        CallError::CannotWait
    }
}

impl Lost for RecvError {
    fn disconnected(reason: CloseReason) -> RecvError {
        RecvError::Disconnected(reason)
    }

    fn cannot_wait() -> RecvError {
        RecvError::CannotWait
    }
}

impl Lost for AcceptError {
    fn disconnected(reason: CloseReason) -> AcceptError {
        AcceptError::Disconnected(reason)
    }

    fn cannot_wait() -> AcceptError {
        AcceptError::CannotWait
    }
}

impl Lost for PublishError {
    fn disconnected(reason: CloseReason) -> PublishError {
        PublishError::Disconnected(reason)
    }

    fn cannot_wait() -> PublishError {
        PublishError::CannotWait
    }
}

impl Lost for SampleError {
    fn disconnected(reason: CloseReason) -> SampleError {
        SampleError::Disconnected(reason)
    }

    fn cannot_wait() -> SampleError {
        SampleError::CannotWait
    }
}

impl Lost for ConnectError {
    fn disconnected(reason: CloseReason) -> ConnectError {
        ConnectError::Gone(reason)
    }

    fn cannot_wait() -> ConnectError {
        let source = io::Error::other("this runtime has ended");
        ConnectError::System { action: "wait for the other client", source }
    }
}
