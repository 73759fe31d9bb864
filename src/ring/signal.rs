//! A signal by which one thread ends another's sleep. Both threads belong to this process.

use std::time::Instant;

use super::Closer;
use crate::shm::backend::{AtomicU32, Ordering};
use crate::shm::futex::{self, Scope, Wait};

/// A futex word: 1 when it is set.
///
/// Its owner resets it before it checks what it waits for, and then sleeps. It is set before the wake, so a
/// signal that comes between the check and the sleep makes the kernel's compare fail.
pub(crate) struct Signal(AtomicU32);

impl Default for Signal {
    fn default() -> Signal {
        Signal(AtomicU32::new(0))
    }
}

impl Signal {
    /// Sets it and wakes its owner. Release: the owner sees what the setter did before.
    pub(crate) fn set(&self) {
        self.0.store(1, Ordering::Release);
        futex::wake(&self.0, Scope::Private, 1);
    }

    pub(crate) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire) == 1
    }

    /// Sleeps until it is set, at most until the deadline or the close of the sleeper's own channel.
    pub(crate) fn sleep(&self, own: &Closer, deadline: Instant) {
        futex::wait(&[self.as_wait(), own.as_wait()], Some(deadline));
    }

    pub(super) fn as_wait(&self) -> Wait<'_> {
        Wait { word: &self.0, expected: 0, scope: Scope::Private }
    }
}
