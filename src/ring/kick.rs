//! Waking an end that waits in an event loop: by a byte in its pipe, a *kick*.
//!
//! An end that is about to wait there *arms*: it stores 2 into its parked word, makes a fence, and looks once
//! more. Whoever finds the 2 swaps in 0 and kicks. The argument at the head of [`crate::ring`] holds for a 2
//! as for a 1, and the kick is not lost, because it stays in the pipe until the end drains it, which it does
//! before it stores the next 2.
//!
//! **Kicks are counted.** Each 2 that is stored brings at most one kick, unless the end takes it back, and
//! each close on this side one. Whatever is more, the other side did on purpose.
//!
//! **When to drain.** An end that arms and finds something at once has not waited, and has no kick to take.
//! So the pipe is drained only if the end has waited since the last time, or a kick may be under way. After
//! every wait it is drained, whoever wrote into it: a loop that is told of each write only once must not be
//! left with a pipe that has no room for the next kick.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::SPARE_HINTS;
use crate::shm::backend::{PipeReader, PipeWriter};
use crate::testing::failpoints::{failpoint, fault};

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
        // The end has stored its 2 with Release after it got the pipe, which is after the slot was filled.
        fence(Ordering::Acquire);
        if let Some(pipe) = self.0.pipe.get() {
            if fault!("kick") {
                return;
            }
            // Before the write, so that whoever takes the byte also sees the number.
            self.0.sent.fetch_add(1, Ordering::SeqCst);
            failpoint!("kick.counted", [server, client, link], seldom);
            pipe.kick();
            failpoint!("kick.written", [server, client, link], seldom);
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
    /// Whether the end may have waited since the pipe was drained.
    waited: bool,
    /// Whether the descriptor's number was checked for this arming.
    checked: bool,
}

/// What an end finds in its pipe before it arms.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kicks {
    Permitted,
    TooMany,
    /// Other code has closed the pipe.
    CutOff,
}

impl OwnPipe {
    pub(crate) fn new(reader: std::sync::Arc<PipeReader>, own: Kick) -> OwnPipe {
        OwnPipe { reader, own, permitted: 0, taken: 0, waited: false, checked: false }
    }

    /// What to wait on.
    pub(crate) fn reader(&self) -> &std::sync::Arc<PipeReader> {
        &self.reader
    }

    /// A parked word was set to 2, which lets the other side kick once.
    pub(crate) fn permit(&mut self) {
        self.permitted += 1;
    }

    /// It was taken back before the other side saw it. The other side may have written the 2 itself.
    pub(crate) fn withdraw(&mut self) {
        self.permitted = self.permitted.saturating_sub(1);
    }

    /// Takes the kicks that may be there. Does not block.
    pub(crate) fn drain(&mut self) -> Kicks {
        let most = self.permitted + self.own.sent();
        self.checked = self.waited || self.taken < most;
        if !self.checked {
            return Kicks::Permitted;
        }
        let Some(taken) = self.reader.drain() else { return Kicks::CutOff };
        self.waited = false;
        self.taken += taken as u64;
        // Some of them may have been sent since.
        let most = self.permitted + self.own.sent();
        if self.taken <= most + SPARE_HINTS { Kicks::Permitted } else { Kicks::TooMany }
    }

    /// Whether a kick of the other side may be under way.
    #[cfg(test)]
    pub(super) fn expects_kicks(&self) -> bool {
        self.taken < self.permitted
    }

    /// The end is armed and is about to wait. Returns false if other code has closed the pipe.
    pub(crate) fn waits(&mut self) -> bool {
        self.waited = true;
        self.checked || self.reader.is_ours()
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
            pipe.permit();
            others.kick();
            assert_eq!(pipe.drain(), Kicks::Permitted);
        }
        (0..SPARE_HINTS).for_each(|_| others.kick());
        assert!(pipe.waits());
        assert_eq!(pipe.drain(), Kicks::Permitted, "some to spare");
        others.kick();
        assert!(pipe.waits());
        assert_eq!(pipe.drain(), Kicks::TooMany);
    }

    #[test]
    fn ones_own_kicks_are_not_the_other_sides() {
        let (mut pipe, own, _others) = pipe();
        (0..3 * SPARE_HINTS).for_each(|_| own.kick());
        assert_eq!((pipe.drain(), pipe.taken), (Kicks::Permitted, 3 * SPARE_HINTS));
    }

    /// Otherwise somebody could fill the pipe while the end finds something at each wait.
    #[test]
    fn it_is_drained_after_each_wait_and_not_between() {
        let (mut pipe, _own, others) = pipe();
        others.kick();
        assert_eq!((pipe.drain(), pipe.taken), (Kicks::Permitted, 0), "nothing was permitted");
        assert!(pipe.waits());
        assert_eq!((pipe.drain(), pipe.taken), (Kicks::Permitted, 1));
        others.kick();
        assert_eq!((pipe.drain(), pipe.taken), (Kicks::Permitted, 1));
    }

    /// The other side may write a 2 itself, which the end then takes back without having permitted a kick.
    #[test]
    fn a_word_that_is_taken_back_twice_permits_no_more() {
        let (mut pipe, _own, others) = pipe();
        pipe.withdraw();
        (0..=SPARE_HINTS).for_each(|_| others.kick());
        assert!(pipe.waits());
        assert_eq!(pipe.drain(), Kicks::TooMany);
    }
}
