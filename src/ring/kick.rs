//! Waking an end that waits in an event loop: by a byte in its pipe, a *kick*.
//!
//! An end that is about to wait there *arms*: it stores 2 into its parked word, makes a fence, and looks once
//! more. Whoever finds the 2 swaps in 0 and kicks. The argument at the head of [`crate::ring`] holds for a 2 as
//! for a 1, and the kick is not lost, because it stays in the pipe until the end drains it, which it does
//! before it stores the next 2.
//!
//! So each 2 brings at most one kick, and each close on this side one. Whatever is more, the other side did
//! on purpose.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::SPARE_HINTS;
use crate::shm::backend::{PipeReader, PipeWriter};

/// The write end of a pipe by which an end is kicked, once there is one.
#[derive(Clone, Default)]
pub(crate) struct Kick(std::sync::Arc<Slot>);

#[derive(Default)]
struct Slot {
    pipe: OnceLock<PipeWriter>,
    /// How often it was kicked here.
    sent: AtomicU64,
}

impl Kick {
    /// From now on the end is kicked by this pipe. Returns false if it has one already.
    pub(crate) fn set(&self, pipe: PipeWriter) -> bool {
        self.0.pipe.set(pipe).is_ok()
    }

    /// The pipe, if it has one.
    pub(crate) fn pipe(&self) -> Option<&PipeWriter> {
        self.0.pipe.get()
    }

    pub(crate) fn is_set(&self) -> bool {
        self.pipe().is_some()
    }

    /// Kicks the end, if it has a pipe. Does not block. May be called in a signal handler.
    #[cold]
    pub(crate) fn kick(&self) {
        if let Some(pipe) = self.0.pipe.get() {
            // Before the write, so that whoever takes the byte also sees the number.
            self.0.sent.fetch_add(1, Ordering::SeqCst);
            pipe.kick();
        }
    }

    fn sent(&self) -> u64 {
        self.0.sent.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for Kick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kick").field(&self.is_set()).finish()
    }
}

/// The pipe of an end of this process, which counts the kicks that it gets.
#[derive(Debug)]
pub(crate) struct OwnPipe {
    reader: std::sync::Arc<PipeReader>,
    /// By which the closers of this side kick it.
    own: Kick,
    /// How many kicks the other side may have sent.
    permitted: u64,
    taken: u64,
}

impl OwnPipe {
    pub(crate) fn new(reader: std::sync::Arc<PipeReader>, own: Kick) -> OwnPipe {
        OwnPipe { reader, own, permitted: 0, taken: 0 }
    }

    /// What to wait on.
    pub(crate) fn reader(&self) -> &std::sync::Arc<PipeReader> {
        &self.reader
    }

    /// So many parked words are about to be set to 2. Each lets the other side kick once.
    pub(crate) fn permit(&mut self, words: u64) {
        self.permitted += words;
    }

    /// Takes the kicks that are there. Returns false if the other side has sent too many: then close its
    /// channel. Does not block.
    #[must_use]
    pub(crate) fn drain(&mut self) -> bool {
        self.taken += self.reader.drain() as u64;
        self.taken <= self.permitted + self.own.sent() + SPARE_HINTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::pipe::kick_pipe;

    fn pipe() -> (OwnPipe, Kick, Kick) {
        let made = kick_pipe().unwrap();
        let [own, others] = [made.write, made.other].map(|write| {
            let kick = Kick::default();
            assert!(kick.set(PipeWriter::new(write)));
            kick
        });
        (OwnPipe::new(std::sync::Arc::new(PipeReader::new(made.read)), own.clone()), own, others)
    }

    #[test]
    fn an_end_has_one_pipe_or_none() {
        let kick = Kick::default();
        kick.kick();
        assert!(!kick.is_set() && kick.sent() == 0);
        for first in [true, false] {
            assert_eq!(kick.set(PipeWriter::new(kick_pipe().unwrap().write)), first);
        }
        assert!(kick.is_set());
    }

    #[test]
    fn more_kicks_than_the_other_side_had_reason_for_are_noticed() {
        let (mut pipe, _own, others) = pipe();
        for _ in 0..1000 {
            pipe.permit(1);
            others.kick();
            assert!(pipe.drain());
        }
        (0..SPARE_HINTS).for_each(|_| others.kick());
        assert!(pipe.drain(), "some to spare");
        others.kick();
        assert!(!pipe.drain());
    }

    #[test]
    fn ones_own_kicks_are_not_the_other_sides() {
        let (mut pipe, own, _others) = pipe();
        (0..3 * SPARE_HINTS).for_each(|_| own.kick());
        assert!(pipe.drain());
    }
}
