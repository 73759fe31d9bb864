//! The request to stop: a flag, and the wake of the acceptor. It is all that a [`Stopper`](super::Stopper) holds.

#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) struct Stop {
    /// The server's, for whoever is shown this.
    pub(super) path: PathBuf,
    requested: AtomicBool,
    /// An eventfd.
    wake: OwnedFd,
}

impl Stop {
    pub(super) fn new(path: PathBuf, wake: OwnedFd) -> Stop {
        Stop { path, requested: AtomicBool::new(false), wake }
    }

    /// Asks the server to stop. Does not lock or allocate, and so can be called in a signal's handler.
    pub(super) fn request(&self) {
        self.requested.store(true, Ordering::Release);
        self.wake_acceptor();
    }

    pub(super) fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }

    pub(super) fn wake_acceptor(&self) {
        // Full means that it is awake already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    pub(super) fn wake_fd(&self) -> &OwnedFd {
        &self.wake
    }
}
