//! The request to stop: a flag, and the wake of the acceptor. It is all that a [`Stopper`](super::Stopper)
//! holds.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::os::descriptors::Wake;

pub(super) struct Stop {
    /// The server's, for whoever is shown this.
    pub(super) path: PathBuf,
    requested: AtomicBool,
    wake: Wake,
}

impl Stop {
    pub(super) fn new(path: PathBuf, wake: Wake) -> Stop {
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
        self.wake.wake();
    }
}
