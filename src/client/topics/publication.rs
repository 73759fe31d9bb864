//! `Publication`: what a publisher, its client's topics and the watcher share.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::OFlags;

use crate::client::links::is_pipe_end;
use crate::connect::connection::Descriptors;
use crate::connect::topics::{Joined, Publish};
use crate::os::random;
use crate::ring::{Kick, OwnPipe};
use crate::shm::ForkSafeWord;
use crate::shm::backend::{PipeReader, PipeWriter};
use crate::testing::failpoints::failpoint;
use crate::topic::{Audience, Newcomer, open_page};
use crate::wire::{CloseReason, Policy, Topic};

/// The sequence of a publisher's first sample, if nothing else is said.
pub(super) const FIRST: u64 = 1;

pub(in crate::client) struct Publication {
    pub(super) topic: Topic,
    /// Tells this publisher from another of the same topic, also after its client has registered again.
    epoch: u64,
    /// The sequence of its first sample.
    pub(super) first: u64,
    /// 0 stands for the server's.
    ring_size: u64,
    /// How long the publisher waits for a reliable subscriber, if it does.
    stall: Option<Duration>,
    users: Vec<u32>,
    /// Whether the publisher may wait for room in an event loop.
    pub(super) arms: bool,
    pub(in crate::client) audience: Audience,
    /// Whether its publisher has it. Until then whoever makes it asks again if the registration ends.
    made: AtomicBool,
    /// By which a forked child knows that it is one.
    process: ForkSafeWord,
}

/// What a publication is to be.
#[derive(Debug, Clone, Default)]
pub(super) struct Terms {
    pub(super) first: u64,
    pub(super) ring_size: u64,
    pub(super) stall: Option<Duration>,
    pub(super) users: Vec<u32>,
    pub(super) arms: bool,
}

impl Publication {
    pub(super) fn new(topic: Topic, terms: Terms) -> io::Result<Publication> {
        let Terms { first, ring_size, stall, users, arms } = terms;
        let mut epoch = [0; 8];
        random::fill(&mut epoch)?;
        Ok(Publication {
            topic,
            epoch: u64::from_ne_bytes(epoch),
            first,
            ring_size,
            stall,
            users,
            arms,
            audience: Audience::new(stall)?,
            made: AtomicBool::new(false),
            process: ForkSafeWord::not_inherited(1)?,
        })
    }

    pub(super) fn is_made(&self) -> bool {
        self.made.load(Ordering::Relaxed)
    }

    pub(super) fn is_made_now(&self) {
        self.made.store(true, Ordering::Relaxed);
    }

    /// What the server is asked for.
    pub(super) fn as_asked(&self) -> Publish {
        Publish {
            epoch: self.epoch,
            first: self.first,
            ring_size: self.ring_size,
            reliable: self.stall.is_some(),
            users: self.users.clone(),
            topic: self.topic.clone(),
        }
    }

    /// The size of the ring that was asked for, if one was.
    pub(super) fn wanted_size(&self) -> Option<u64> {
        (self.ring_size != 0).then_some(self.ring_size)
    }

    #[inline(always)]
    pub(super) fn is_forked(&self) -> bool {
        self.process.is_foreign()
    }

    /// A subscription came. If anything is wrong with it, it is not attached. Does not block.
    pub(super) fn join(&self, joined: &Joined, came: Descriptors) {
        let _ = self.attach(joined, came);
    }

    fn attach(&self, joined: &Joined, mut came: Descriptors) -> Option<()> {
        let reliable = joined.policy == Policy::Reliable;
        if came.len() != joined.descriptors(self.stall.is_some()) {
            return None;
        }
        let (page, words) = came.next_if(|page| open_page(page).ok())?;
        // It is what it should be, so that its close takes no time; the mapping stays.
        drop(page);
        failpoint!("joined.mapped", [topic], seldom);
        let mut pipe = |mode| came.next_if(|pipe| is_pipe_end(pipe.as_fd(), mode).then_some(()));
        let kick = Kick::default();
        if joined.waits.arms {
            kick.set(PipeWriter::new(pipe(OFlags::WRONLY)?.0));
        }
        let own = if reliable && self.stall.is_some() {
            let ((read, ()), (write, ())) = (pipe(OFlags::RDONLY)?, pipe(OFlags::WRONLY)?);
            let own = Kick::default();
            // Without a writer of its own the pipe would look ended with the subscriber's.
            own.set(PipeWriter::new(write));
            Some(OwnPipe::new(Arc::new(PipeReader::new(read)), own)).filter(|_| self.arms)
        } else {
            None
        };
        self.audience.admit(Newcomer {
            id: joined.subscription,
            peer: joined.peer,
            page: words,
            line: joined.line,
            may_sleep: joined.waits.may_sleep || joined.waits.arms,
            reliable,
            from_beginning: joined.from_beginning,
            kick,
            pipe: own,
        });
        failpoint!("joined.attached", [topic], seldom);
        Some(())
    }

    /// Ends it, for this reason; the first one stays. With atomics and system calls only, for a signal
    /// handler. Does nothing in a forked child.
    pub(in crate::client) fn close(&self, reason: CloseReason) {
        if !self.is_forked() {
            self.audience.close(reason.into());
        }
    }

    /// Why it has ended, if it has.
    pub(in crate::client) fn reason(&self) -> Option<CloseReason> {
        if self.is_forked() {
            return Some(CloseReason::Forked);
        }
        self.audience.reason().map(CloseReason::from)
    }
}
