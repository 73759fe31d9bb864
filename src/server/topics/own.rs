//! `OwnTopic`: a topic that the server itself publishes.
//!
//! It is made when the first client asks for it. Whoever has its [`Writer`] publishes. Nobody makes it wait:
//! a subscriber that is lapped has missed something.

#![forbid(unsafe_code)]

use rustix::process::{getegid, geteuid};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::stand_in::StandIn;
use super::table::Id;
use crate::channel::ChannelError;
use crate::connect::own_pidfd;
use crate::connect::topics::{OWN_PUBLISHER, Part, Source, Waits};
use crate::os::descriptors::Ours;
use crate::os::pipe::NewPipe;
use crate::ring::{Kick, WaitStrategy};
use crate::server::quotas::TopicShare;
use crate::shm::backend::{PipeWriter, fill_random};
use crate::topic::{
    Audience, MOST_LINE, Newcomer, Shape, Writer, create_page, create_topic, open_page, publish_on, read_only,
};
use crate::wire::{Key, Name, Peer, Topic};

/// The sequence of the first sample.
const FIRST: u64 = 1;

/// How often one client may subscribe at the same time.
pub(crate) const AT_ONE_CLIENT: usize = 4;

pub(super) struct OwnTopic {
    publication: Id,
    epoch: u64,
    topic: Topic,
    publisher: Peer,
    shape: Shape,
    segment: Ours,
    audience: Audience,
    subscriptions: HashMap<Id, (Key, TopicShare)>,
    of_clients: HashMap<Key, Vec<Id>>,
    pages: usize,
    /// Made if this process gets no pidfd of its own.
    life: Option<StandIn>,
}

impl fmt::Debug for OwnTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnTopic")
            .field("topic", &self.topic.as_str())
            .field("subscriptions", &self.subscriptions.len())
            .finish_non_exhaustive()
    }
}

/// What a subscriber gets, and what the server keeps of it.
pub(super) struct Place {
    source: Source,
    newcomer: Newcomer,
    page: OwnedFd,
    process: OwnedFd,
    pipe: Option<(OwnedFd, OwnedFd)>,
}

impl OwnTopic {
    /// Makes the topic, with a ring of so many bytes. Its number must be one that no publication has.
    pub(super) fn new(publication: Id, topic: &str, ring: usize) -> Result<(OwnTopic, Writer), ChannelError> {
        let mut epoch = [0; 8];
        fill_random(&mut epoch)
            .map_err(|source| ChannelError::System { action: "get random bytes for a topic", source })?;
        let shape = Shape::new(ring)?;
        let descriptor = create_topic(&shape)?;
        let view = publish_on(&descriptor, &shape)?;
        let segment = Ours::new(read_only(descriptor)?);
        let audience =
            Audience::new(None).map_err(|source| ChannelError::System { action: "map memory", source })?;
        let writer = Writer::new(view, shape, FIRST, audience.clone(), WaitStrategy::Park);
        let (Ok(topic), Ok(name)) = (Topic::new(topic), Name::new(OWN_PUBLISHER)) else {
            unreachable!("a test shows that they are valid")
        };
        let (pid, uid, gid) = (std::process::id(), geteuid().as_raw(), getegid().as_raw());
        let own = OwnTopic {
            publication,
            epoch: u64::from_le_bytes(epoch),
            topic,
            publisher: Peer { name, key: Key::from_u128(0), pid, uid, gid },
            shape,
            segment,
            audience,
            subscriptions: HashMap::new(),
            of_clients: HashMap::new(),
            pages: 0,
            life: None,
        };
        Ok((own, writer))
    }

    pub(super) fn segment(&self) -> &Ours {
        &self.segment
    }

    /// Whether a client may subscribe once more.
    pub(super) fn has_room(&self, key: Key) -> bool {
        self.of_clients.get(&key).is_none_or(|ids| ids.len() < AT_ONE_CLIENT)
    }

    /// Makes what a subscriber needs, with a pipe if it may wait in an event loop.
    pub(super) fn place(
        &mut self,
        id: Id,
        subscriber: Peer,
        waits: Waits,
        pipe: Option<NewPipe>,
    ) -> Result<Place, ChannelError> {
        let page = create_page()?;
        let view = open_page(&page)?;
        let process = self
            .process()
            .map_err(|source| ChannelError::System { action: "open a descriptor of its process", source })?;
        self.pages += 1;
        let line = (self.pages % (usize::from(MOST_LINE) + 1)) as u16;
        let kick = Kick::default();
        let pipe = pipe.map(|NewPipe { read, write, other }| {
            kick.set(PipeWriter::new(other));
            (read, write)
        });
        let newcomer = Newcomer {
            id,
            peer: subscriber,
            page: view,
            line,
            may_sleep: waits.may_sleep || waits.arms,
            reliable: false,
            from_beginning: false,
            kick,
            pipe: None,
        };
        let source = Source {
            subscription: id,
            publication: self.publication,
            epoch: self.epoch,
            first: FIRST,
            ring_size: self.shape.ring_size(),
            line,
            from_beginning: false,
            offers_reliable: false,
            peer: self.publisher,
            topic: self.topic.clone(),
        };
        Ok(Place { source, newcomer, page, process, pipe })
    }

    /// What shows the end of this server: its own pidfd, or what stands in for it.
    fn process(&mut self) -> io::Result<OwnedFd> {
        if let Some(process) = own_pidfd() {
            return Ok(process);
        }
        let life = match self.life.take() {
            Some(life) => life,
            None => StandIn::new()?,
        };
        self.life.insert(life).shown()
    }

    /// The descriptors that go with a place. `None` if other code has closed the segment.
    pub(super) fn descriptors<'a>(&'a self, place: &'a Place) -> Option<Vec<BorrowedFd<'a>>> {
        let mut all = vec![self.segment.as_fd(), place.page.as_fd(), place.process.as_fd()];
        if let Some((read, write)) = &place.pipe {
            all.extend([read.as_fd(), write.as_fd()]);
        }
        self.segment.is_ours().then_some(all)
    }

    /// Attaches a subscriber that has got its place.
    pub(super) fn attach(&mut self, place: Place, share: TopicShare) {
        let (id, key) = (place.newcomer.id, place.newcomer.peer.key);
        self.subscriptions.insert(id, (key, share));
        self.of_clients.entry(key).or_default().push(id);
        self.audience.admit(place.newcomer);
    }

    /// Ends a subscription, if it is one of that client.
    pub(super) fn leave(&mut self, id: Id, key: Key) -> bool {
        if self.subscriptions.get(&id).is_none_or(|(owner, _)| *owner != key) {
            return false;
        }
        self.subscriptions.remove(&id);
        self.audience.leave(id);
        if let Some(ids) = self.of_clients.get_mut(&key) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.of_clients.remove(&key);
            }
        }
        true
    }

    /// A client is gone.
    pub(super) fn left(&mut self, key: Key) {
        for id in self.of_clients.get(&key).cloned().unwrap_or_default() {
            self.leave(id, key);
        }
    }

    /// Nobody asks who broke a rule of its page.
    pub(super) fn forget_evictions(&self) {
        drop(self.audience.take_evictions());
    }

    /// How many subscribe.
    pub(super) fn len(&self) -> usize {
        self.subscriptions.len()
    }
}

impl Place {
    pub(super) fn part(&self) -> Part {
        Part::Source(self.source.clone())
    }

    /// The descriptor that was made last.
    pub(super) fn last(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }
}
