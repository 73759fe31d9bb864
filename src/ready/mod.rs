//! Waiting in an event loop: one descriptor for what an end waits for.
//!
//! An end of a ring waits on a word in shared memory, which no event loop knows. But it has a pipe, too: if
//! it *arms*, whoever has something for it writes a byte there. That byte says no more than *look*.

#[cfg(any(feature = "tokio", feature = "async-io"))]
mod asynchronous;
#[cfg(any(feature = "tokio", feature = "async-io"))]
mod calls;
#[cfg(any(feature = "tokio", feature = "async-io"))]
mod connect;
mod ends;
#[cfg(any(feature = "tokio", feature = "async-io"))]
mod pipelined;
mod readiness;
#[cfg(any(feature = "tokio", feature = "async-io"))]
mod receive;
#[cfg(any(feature = "tokio", feature = "async-io"))]
mod runtime;
#[cfg(any(feature = "tokio", feature = "async-io"))]
mod serve;
#[cfg(any(feature = "tokio", feature = "async-io"))]
mod topics;
#[cfg(any(feature = "tokio", feature = "async-io"))]
mod waits;

pub use crate::client::ReadinessError;
pub use readiness::Readiness;

#[cfg(any(feature = "tokio", feature = "async-io"))]
pub use asynchronous::Async;
#[cfg(any(feature = "tokio", feature = "async-io"))]
pub use serve::OwnedRequest;

/// An end that can wait in an event loop, beside sockets, timers and other ends.
///
/// A thread that has nothing else to do waits in the blocking operations, which is quicker. A thread that
/// waits for several things does so by a descriptor of each:
///
/// 1. Get the [readiness](Self::readiness) once, and put it into `poll`, `epoll` (level- or edge-triggered),
///    `select`, or any loop that is built on them.
/// 2. Look at the end by its `try_` operations, until nothing is there.
/// 3. [Arm](Self::arm). If it says `false`, something came meanwhile: go back to 2.
/// 4. Wait. When the descriptor is readable, go back to 2.
///
/// Readable means *look*, and no more: sometimes nothing is there. Only an end that was armed last is waited
/// for; any other operation on it takes that back. So arm each end before each wait. The same thread may
/// spin, sleep in a blocking operation, and arm by turns. Until its readiness is first asked for, an end pays
/// nothing for all this.
///
/// The end of a connection makes the descriptor readable too, and a look or [`arm`](Self::arm) tells it.
///
/// In a forked child [`arm`](Self::arm) says `false` and does nothing, and a look tells that the end is the
/// parent's.
pub trait Ready: sealed::Sealed {
    /// What to wait by. It can be asked for again.
    ///
    /// It belongs to one registration, or to one link: drop it when that has ended. A client that registers
    /// again asks again.
    ///
    /// # Errors
    ///
    /// See [`ReadinessError`].
    fn readiness(&mut self) -> Result<Readiness, ReadinessError>;

    /// Announces a wait. `true`: nothing is there, so wait until the descriptor is readable. `false`: look
    /// again now. Does not block.
    ///
    /// # Errors
    ///
    /// [`Disconnected`](ReadinessError::Disconnected) if the connection has ended and no look would tell so;
    /// [`NotAsked`](ReadinessError::NotAsked) and [`NotArmable`](ReadinessError::NotArmable) if there is
    /// nothing to wait by.
    fn arm(&mut self) -> Result<bool, ReadinessError>;
}

mod sealed {
    pub trait Sealed {}
}
