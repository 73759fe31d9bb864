//! `Notice`: a word that changes whenever a subscriber has to look at something besides its rings.
//!
//! The subscriber loads it before each look, so it is the one thing that a sample costs besides its ring. In
//! a forked child it has a value of its own, so the same load also tells a child that the subscription is its
//! parent's.
//!
//! A subscriber that sleeps sleeps on this word, too; one that waits in an event loop has a pipe, which is
//! kicked with each change.

#![forbid(unsafe_code)]

use std::io;
use std::sync::{Arc, OnceLock};

use rustix::pipe::{PipeFlags, pipe_with};

use crate::shm::ForkSafeWord;
use crate::shm::backend::{Ordering, PipeReader, PipeWriter};
use crate::shm::futex::{self, Scope, Wait};

pub(super) struct Notice {
    /// Odd, so that it never is what a forked child sees.
    word: ForkSafeWord,
    /// What a subscriber in an event loop waits by, once it was asked for.
    pipe: OnceLock<(Arc<PipeReader>, PipeWriter)>,
}

/// Differs from every value of the word: who has seen this looks.
pub(super) const NEVER_SEEN: u32 = 2;

impl Notice {
    pub(super) fn new() -> io::Result<Notice> {
        Ok(Notice { word: ForkSafeWord::not_inherited(1)?, pipe: OnceLock::new() })
    }

    /// The value of now. To be read before a look at what it stands for.
    #[inline(always)]
    pub(super) fn seen(&self) -> u32 {
        self.word.load(Ordering::Acquire)
    }

    /// Whether this process is a forked child of the one that subscribed.
    pub(super) fn is_forked(&self) -> bool {
        self.word.is_foreign()
    }

    /// Something has changed. With atomics and system calls only, for a signal handler. Does nothing in a
    /// forked child.
    pub(super) fn tell(&self) {
        if self.is_forked() {
            return;
        }
        self.word.fetch_add(2, Ordering::Release);
        futex::wake(&self.word, Scope::Private, u32::MAX >> 1);
        if let Some((_, kick)) = self.pipe.get() {
            kick.kick();
        }
    }

    /// What to sleep on while the word has this value.
    pub(super) fn as_wait(&self, seen: u32) -> Wait<'_> {
        Wait { word: &self.word, expected: seen, scope: Scope::Private }
    }

    /// What to wait by in an event loop. The first time it makes it.
    pub(super) fn pipe(&self) -> io::Result<Arc<PipeReader>> {
        if self.pipe.get().is_none() {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
            let _ = self.pipe.set((Arc::new(PipeReader::new(read)), PipeWriter::new(write)));
        }
        self.pipe_if_made().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn pipe_if_made(&self) -> Option<Arc<PipeReader>> {
        self.pipe.get().map(|(pipe, _)| Arc::clone(pipe))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn a_change_ends_a_sleep_that_began_before_it() {
        let notice = Arc::new(Notice::new().unwrap());
        let seen = notice.seen();
        assert_ne!(seen, NEVER_SEEN);
        let limit = Instant::now() + Duration::from_secs(60);
        let sleeper = {
            let notice = Arc::clone(&notice);
            std::thread::spawn(move || {
                while notice.seen() == seen && Instant::now() < limit {
                    futex::wait(&[notice.as_wait(seen)], Some(limit));
                }
            })
        };
        notice.tell();
        sleeper.join().unwrap();
        assert!(Instant::now() < limit && notice.seen() != seen && !notice.is_forked());
    }

    #[test]
    fn a_change_kicks_the_pipe_that_was_asked_for() {
        let notice = Notice::new().unwrap();
        assert!(notice.pipe_if_made().is_none());
        let pipe = notice.pipe().unwrap();
        assert_eq!(pipe.drain(), Some(0));
        notice.tell();
        assert!(Arc::ptr_eq(&pipe, &notice.pipe().unwrap()));
        assert_eq!(pipe.drain(), Some(1));
    }
}
