//! `Part`: one publisher as one subscription sees it.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::subscription::Subscription;
use crate::client::links::{is_pipe_end, is_process};
use crate::client::watcher::{Watch, Watched};
use crate::connect::connection::Descriptors;
use crate::connect::topics::Source;
use crate::os::descriptors::{self, Ours};
use crate::ring::{Kick, OwnPipe};
use crate::shm::backend::{PipeReader, PipeWriter};
use crate::testing::failpoints::failpoint;
use crate::topic::{Reader, Shape, Start, State, open_page, open_topic};
use crate::wire::{Name, Peer, Policy, Topic};

/// By what a publisher is known again that registers anew. The epoch alone would not do: every subscriber
/// learns it, and may publish with it, too.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    epoch: u64,
    topic: Topic,
    name: Name,
    uid: u32,
}

impl Identity {
    fn of(source: &Source) -> Identity {
        let Peer { name, uid, .. } = source.peer;
        Identity { epoch: source.epoch, topic: source.topic.clone(), name, uid }
    }

    /// Tells this publisher from another of its client and topic.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn topic(&self) -> &Topic {
        &self.topic
    }
}

/// A part. Dropping it tells the publisher nothing.
pub(super) struct Part {
    pub(super) reader: Reader,
    pub(super) publisher: Peer,
    pub(super) identity: Identity,
    /// The segment, as a file.
    file: Option<(u64, u64)>,
    life: Arc<Life>,
    watching: Watching,
    /// The pipe by which this reader is woken in an event loop.
    pub(super) own: Option<OwnPipe>,
    /// How often the publisher woke this reader for nothing, less how often it did for something.
    pub(super) fruitless: u64,
    /// The sequence behind the last sample that a wake stands for.
    pub(super) announced: u64,
    /// Whether its reader began behind what was published before.
    begins_now: bool,
    /// Whether the subscription wants more than the publisher offers.
    pub(super) is_refused: bool,
    /// How the publisher's process was when it was last asked. Set before a look that finds nothing, it is
    /// the end.
    pub(super) fate: Fate,
    /// Since when it stays although the server has ended it.
    pub(super) lingers_since: Option<Instant>,
    /// Where the publisher goes on when this segment has been read.
    successors: VecDeque<Part>,
}

/// What is known of a publisher's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Lives,
    /// It has ended.
    Gone,
    /// Nobody would notice its end any more, because this process has closed its descriptors.
    Unknown,
    /// The server says that it has ended the publication. Perhaps it publishes anew.
    Over,
}

/// What a part and the watcher share.
pub(in crate::client) struct Life {
    fate: AtomicU32,
    /// Whether the server has sent a pipe in place of the publisher's process, which it closes itself.
    is_stand_in: bool,
    subscription: Weak<Subscription>,
}

impl Life {
    /// For the watcher: the process has ended, or so says its stand-in, which may have ended with the server.
    pub(in crate::client) fn is_gone(&self) {
        self.becomes(if self.is_stand_in { Fate::Over } else { Fate::Gone });
    }

    /// For the watcher: this process has closed its descriptors.
    pub(in crate::client) fn is_cut_off(&self) {
        self.becomes(Fate::Unknown);
    }

    /// The server has ended the publication.
    pub(super) fn is_over(&self) {
        if self.fate() == Fate::Lives {
            self.becomes(Fate::Over);
        }
    }

    fn becomes(&self, fate: Fate) {
        self.fate.store(fate as u32, Ordering::Release);
        if let Some(subscription) = self.subscription.upgrade() {
            subscription.tell();
        }
    }

    fn fate(&self) -> Fate {
        match self.fate.load(Ordering::Acquire) {
            0 => Fate::Lives,
            1 => Fate::Gone,
            2 => Fate::Unknown,
            _ => Fate::Over,
        }
    }
}

impl Part {
    /// Opens what the server sent, and begins to watch the publisher's process. Does not block. `None` if
    /// anything is wrong with it.
    pub(super) fn open(
        source: Source,
        mut came: Descriptors,
        subscription: &Arc<Subscription>,
    ) -> Option<Part> {
        let (policy, waits) = (subscription.policy, subscription.waits);
        if came.len() != source.descriptors(policy, waits) {
            return None;
        }
        let shape = Shape::new(source.ring_size).ok()?;
        let (segment, view) = came.next_if(|segment| open_topic(segment, &shape).ok())?;
        let (page, words) = came.next_if(|page| open_page(page).ok())?;
        let file = descriptors::file(&segment);
        // They are what they should be, so that their close takes no time; the mappings stay.
        drop((segment, page));
        failpoint!("part.mapped", [topic], seldom);
        let (process, is_stand_in) = came.next_if(|process| match process.as_fd() {
            process if is_process(process) => Some(false),
            process => is_pipe_end(process, OFlags::RDONLY).then_some(true),
        })?;
        let mut pipe = |mode| came.next_if(|pipe| is_pipe_end(pipe.as_fd(), mode).then_some(()));
        let own = if waits.arms {
            let ((read, ()), (write, ())) = (pipe(OFlags::RDONLY)?, pipe(OFlags::WRONLY)?);
            let kick = Kick::default();
            // Without a writer of its own the pipe would look ended with the publisher's.
            kick.set(PipeWriter::new(write));
            Some(OwnPipe::new(Arc::new(PipeReader::new(read)), kick))
        } else {
            None
        };
        let publishers = Kick::default();
        if source.offers_reliable && policy == Policy::Reliable {
            publishers.set(PipeWriter::new(pipe(OFlags::WRONLY)?.0));
        }
        let life = Arc::new(Life {
            fate: AtomicU32::new(Fate::Lives as u32),
            is_stand_in,
            subscription: Arc::downgrade(subscription),
        });
        let watched = Watched::Publisher { life: Arc::clone(&life), process: Ours::new(process) };
        let watching = Watching(Watch::begin(watched).ok()?);
        failpoint!("part.watched", [topic], seldom);
        let identity = Identity::of(&source);
        let goes_on = subscription.knows(&identity);
        let start = match subscription.history {
            _ if goes_on => Start::Beginning,
            _ if source.from_beginning => Start::New,
            0 => Start::Now,
            some => Start::Last(some),
        };
        let mut reader =
            Reader::new(view, shape, (words, source.line, publishers), source.first, start, policy);
        reader.counted_in(subscription.figures.clone());
        Some(Part {
            reader,
            publisher: source.peer,
            identity,
            file,
            life,
            watching,
            own,
            fruitless: 0,
            announced: 0,
            begins_now: start == Start::Now,
            is_refused: policy == Policy::Reliable && !source.offers_reliable,
            fate: Fate::Lives,
            lingers_since: None,
            successors: VecDeque::new(),
        })
    }

    /// What the server's word on the end of the publication changes.
    pub(super) fn life(&self) -> &Arc<Life> {
        &self.life
    }

    /// Whether a part that the server has ended stays for now, because its publisher may still publish here,
    /// if one more `may`. What a publisher writes after it has made a successor it takes along there.
    pub(super) fn lingers(&mut self, long: Duration, may: bool) -> bool {
        if !self.successors.is_empty() || self.lingers_since.is_none() && !may {
            return false;
        }
        let now = Instant::now();
        now.saturating_duration_since(*self.lingers_since.get_or_insert(now)) < long
    }

    /// Asks how the publisher's process is.
    pub(super) fn ask_its_fate(&mut self) {
        self.fate = self.life.fate();
    }

    /// Whether it is the same segment, given under another registration.
    fn has_the_segment_of(&self, other: &Part) -> bool {
        self.file.is_some() && self.file == other.file
    }

    /// Goes on in the same place, but as that part, which the server gave under another registration.
    fn go_on_under(&mut self, other: Part) {
        let Part { reader, publisher, life, watching, own, fate, lingers_since, .. } = other;
        self.reader.go_on_under(reader);
        (self.publisher, self.life, self.watching) = (publisher, life, watching);
        (self.own, self.fate, self.lingers_since) = (own, fate, lingers_since);
    }

    /// The publisher goes on there, when this has been read: in another segment, or in the same one, which
    /// was given under another registration.
    pub(super) fn goes_on_with(&mut self, next: Part) {
        if next.has_the_segment_of(self) {
            self.go_on_under(next);
        } else if let Some(known) = self.successors.iter_mut().find(|known| next.has_the_segment_of(known)) {
            known.go_on_under(next);
        } else {
            self.successors.push_back(next);
        }
    }

    /// What comes after this one: the reader of the next segment, without what this one has read.
    pub(super) fn successor(&mut self) -> Option<Part> {
        let mut next = self.successors.pop_front()?;
        next.successors.append(&mut self.successors);
        next.reader.resume(self.reader.next_sequence());
        Some(next)
    }

    /// Gives it up, and what would come after it.
    pub(super) fn leave(&self) {
        self.reader.leave();
        self.successors.iter().for_each(Part::leave);
    }

    /// Whether the publisher has decided about it, or never will.
    pub(super) fn is_decided(&self) -> bool {
        self.is_refused
            || self.reader.state() != State::Noted
            || self.life.fate() != Fate::Lives
            || self.reader.ended().is_some()
    }

    /// Before anything was taken, begins anew where a publisher is that has attached the subscription
    /// meanwhile. From there on it waits; what came before may be overwritten.
    pub(super) fn begin_where_it_waits(&mut self) {
        if self.begins_now {
            self.reader.begin_now();
        }
    }

    /// Whether the publisher knows of it, so that it wakes this reader.
    pub(super) fn is_attached(&self) -> bool {
        self.reader.state() == State::Attached
    }
}

/// The watch of a publisher's process.
struct Watching(Watch);

/// It ends. A forked child closes its copy of the descriptor.
impl Drop for Watching {
    fn drop(&mut self) {
        self.0.end();
    }
}
