//! `Stopper`: shuts a server down from any thread, from its service or from a signal handler.

#![forbid(unsafe_code)]

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::os::descriptors::Wake;
use crate::shm::ForkSafeWord;

/// The value of a server's fork-safe word. It reads 0 in a forked child.
pub(super) const OURS: u32 = 1;

/// Shuts a server down from any thread, from its service or from a signal handler. Made by
/// [`Server::stopper`](crate::Server::stopper). It keeps neither the server's service nor its memory alive.
///
/// # Examples
///
/// ```
/// use ringpost::{Client, Server};
/// use std::sync::OnceLock;
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// static STOPPER: OnceLock<ringpost::Stopper> = OnceLock::new();
/// let server = Server::builder(&path)
///     .service(|request, response| {
///         if request.payload() == b"stop" {
///             if let Some(stopper) = STOPPER.get() {
///                 stopper.shutdown();
///             }
///         }
///         response.write(b"as you like")
///     })
///     .start()?;
/// STOPPER.set(server.stopper()).unwrap();
/// let mut client = Client::register(&path, "alice")?;
/// assert_eq!(client.call(b"stop")?, b"as you like"); // what was committed is answered
/// server.join();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Stopper {
    pub(super) stop: Arc<StopRequest>,
    /// Tells this process and its forked children apart.
    pub(super) process: ForkSafeWord,
}

impl fmt::Debug for Stopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopper").field("path", &self.stop.path).finish_non_exhaustive()
    }
}

impl Stopper {
    /// Begins to shut down, as [`Server::shutdown`](crate::Server::shutdown) does. Does not block. In a
    /// forked child it does nothing.
    ///
    /// It is async-signal-safe: it sets a flag, makes one system call, and leaves `errno` as it was.
    pub fn shutdown(&self) {
        if !self.process.is_foreign() {
            self.stop.request();
        }
    }
}

/// The request to stop, and the means to wake the acceptor. All that a [`Stopper`] keeps of the server.
pub(super) struct StopRequest {
    /// The server's socket, for debug output.
    pub(super) path: PathBuf,
    requested: AtomicBool,
    wake: Wake,
}

impl StopRequest {
    pub(super) fn new(path: PathBuf, wake: Wake) -> StopRequest {
        StopRequest { path, requested: AtomicBool::new(false), wake }
    }

    /// Asks the server to stop. Neither locks nor allocates, so a signal handler may call it.
    pub(super) fn request(&self) {
        self.requested.store(true, Ordering::Release);
        self.wake_acceptor();
    }

    pub(super) fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }

    pub(super) fn wake_acceptor(&self) {
        self.wake.wake();
    }
}
