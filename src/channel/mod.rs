//! A client's channel: three rings and a closed word in one sealed segment.
//!
//! The *host* (the server) makes the segment and consumes requests. The *guest* (the client) receives its
//! descriptor, checks it, and consumes responses and its inbox. Two processes can also use a channel without
//! a server, if they can pass a descriptor, for example through a socket or by inheritance. Neither end
//! trusts a byte that the other can write. A channel alone does not notice the death of the other process:
//! keep the connection that passed the descriptor, and [close](Closer::close) the channel when the connection
//! ends, as server and client do.
//!
//! # Examples
//!
//! ```
//! use ringpost::channel;
//!
//! let (mut host, descriptor) = channel::create(64 * 1024, Default::default())?;
//! let mut guest = channel::open(&descriptor, Default::default())?; // usually in another process
//!
//! guest.requests.send(b"6 * 7")?;
//! let mut block = Vec::new();
//! host.requests.recv(&mut block)?;
//! host.responses.send(b"42")?;
//! guest.responses.recv(&mut block)?;
//! assert_eq!(block, b"42");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod figures;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
mod kicks;
mod layout;
mod link;
mod link_words;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::os::remedy::on_memory;
use crate::ring::layout::largest_block;
use crate::ring::{CloseReason, Closer, Consumer, Kick, Peer, Producer, Setup, WaitStrategy};
use crate::shm::futex::Scope;
use crate::shm::{Segment, SegmentError, View};
pub(crate) use figures::{Durations, FiguresPage, LinkCounts, Newest as NewestFigures, Samples};
pub(crate) use kicks::Kicks;
use kicks::Sleepers;
pub(crate) use layout::MIN_BLOCK;
use layout::{CHANNEL_DATA, CLOSED, MAX_RING, MIN_RING, Ring, Words};
pub(crate) use layout::{Geometry, LAYOUT_VERSION};
pub(crate) use link::{LinkEnds, Side, create_link, open_link};
pub(crate) use link_words::LinkWords;

/// Why a channel could not be made or opened.
///
/// # Examples
///
/// ```
/// use ringpost::channel::{self, ChannelError};
///
/// match channel::open(std::io::stdin(), Default::default()) {
///     Ok(guest) => println!("blocks of up to {} bytes", guest.requests.max_block()),
///     Err(ChannelError::NotMemory) => println!("that is something else"),
///     Err(error) => println!("{error}"),
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// A system call failed.
    #[error("shared memory: cannot {action}: {source}{}", on_memory(source))]
    System {
        /// What was being done.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The descriptor is not a memfd, or lies on a file system whose pages can vanish.
    #[error("the descriptor received is not a sealable memory file, so it cannot be a channel")]
    NotMemory,
    /// The descriptor could still be resized by whoever else holds it.
    #[error("the memory received is not sealed against resizing (seals {found:#x}, needed {needed:#x})")]
    NotSealed {
        /// The seals present.
        found: u32,
        /// The seals needed.
        needed: u32,
    },
    /// The received segment is not a channel.
    #[error("the memory received is not a ringpost channel")]
    NotAChannel,
    /// The segment has the layout of another version.
    #[error(
        "the channel is laid out in version {found}, this program knows version {LAYOUT_VERSION}: \
         use programs of the same ringpost version"
    )]
    Version {
        /// The version found.
        found: u32,
    },
    /// The ring size requested, or found in the segment, is invalid.
    #[error("a ring size of {0} bytes cannot be: use a power of two from {MIN_RING} to {MAX_RING}")]
    RingSize(u64),
    /// The largest block requested, or found in the segment, does not fit the ring.
    #[error(
        "a largest block of {max_block} bytes cannot be with rings of {ring_size}: \
         use {MIN_BLOCK} to {most}, or larger rings",
        most = largest_block(*ring_size)
    )]
    MaxBlock {
        /// The largest block.
        max_block: u64,
        /// The ring size.
        ring_size: usize,
    },
    /// The segment's length does not match its sizes.
    #[error("the channel received has {found} bytes where its rings need {needed}")]
    Length {
        /// The length found.
        found: usize,
        /// The length needed.
        needed: usize,
    },
}

impl From<SegmentError> for ChannelError {
    fn from(error: SegmentError) -> ChannelError {
        match error {
            SegmentError::System { action, source } => ChannelError::System { action, source },
            SegmentError::NotMemory => ChannelError::NotMemory,
            SegmentError::NotSealed { found, needed } => ChannelError::NotSealed { found, needed },
            SegmentError::BadLength { .. } => ChannelError::NotAChannel,
        }
    }
}

/// The ends of the side that made the channel and answers requests; see [`create`]. They can be moved to
/// different threads.
///
/// # Examples
///
/// ```
/// use ringpost::channel;
///
/// let (mut host, descriptor) = channel::create(4096, Default::default())?;
/// let mut guest = channel::open(&descriptor, Default::default())?;
/// host.inbox.send(b"welcome")?;
/// let mut block = Vec::new();
/// guest.inbox.recv(&mut block)?;
/// assert_eq!(block, b"welcome");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Host {
    /// Receives the guest's requests.
    pub requests: Consumer,
    /// Sends responses to the guest.
    pub responses: Producer,
    /// Sends messages to the guest.
    pub inbox: Producer,
    /// Closes the channel.
    pub closer: Closer,
    /// Ends the intake of requests. In a channel without a server this closes the whole channel.
    pub(crate) intake: Closer,
    /// What the client says about its links.
    pub(crate) links: LinkWords,
    /// What the client says about itself.
    pub(crate) figures: FiguresPage,
    pub(crate) kicks: Kicks,
}

/// The ends of the side that received the channel and makes requests; see [`open`]. They can be moved to
/// different threads.
///
/// # Examples
///
/// ```
/// use ringpost::channel;
///
/// let (mut host, descriptor) = channel::create(4096, Default::default())?;
/// let mut guest = channel::open(&descriptor, Default::default())?;
/// guest.requests.send(b"question")?;
/// let mut block = Vec::new();
/// host.requests.recv(&mut block)?;
/// assert_eq!(block, b"question");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Guest {
    /// Sends requests to the host.
    pub requests: Producer,
    /// Receives the host's responses.
    pub responses: Consumer,
    /// Receives the host's messages.
    pub inbox: Consumer,
    /// Closes the channel.
    pub closer: Closer,
    /// What this client tells the server about its links.
    pub(crate) links: LinkWords,
    /// What this client says about itself.
    pub(crate) figures: FiguresPage,
    pub(crate) kicks: Kicks,
    geometry: Geometry,
}

impl Guest {
    /// The sizes of the channel's rings.
    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }
}

/// How one side closes, and how it notices a close.
struct EndOptions {
    /// Where the data of the rings begin.
    data: usize,
    peer: Peer,
    /// Whether the intake of requests can end while responses are still written.
    separate_intake: bool,
    closes_on_drop: Option<CloseReason>,
    /// Whether the memory has a page for figures, with the times of wakes.
    stamped: bool,
    /// Whether the channel counts as closed in a child that is forked later. Not so for a channel without a
    /// server: a process may make both its ends and leave one to a child.
    ends_at_fork: bool,
}

/// For a channel without a server: the shared word tells the other side of a close.
const BY_ITSELF: EndOptions = EndOptions {
    data: CHANNEL_DATA,
    stamped: true,
    peer: Peer::Heard,
    separate_intake: false,
    closes_on_drop: Some(CloseReason::LOCAL),
    ends_at_fork: false,
};

/// The server notices a client's end by its connection only, and closes channels explicitly.
const SERVER: EndOptions = EndOptions {
    data: CHANNEL_DATA,
    stamped: true,
    peer: Peer::Unheard,
    separate_intake: true,
    closes_on_drop: None,
    // The server's ends belong to threads, which do not exist in a child.
    ends_at_fork: false,
};

/// A client reads the reason of a close from the shared word, and closes channels explicitly. It waits only
/// for what the server sends, so it sleeps on one word, which costs less than two.
const CLIENT: EndOptions = EndOptions {
    data: CHANNEL_DATA,
    stamped: true,
    peer: Peer::Relied,
    separate_intake: false,
    closes_on_drop: None,
    ends_at_fork: true,
};

/// Makes a channel with three rings of `ring_size` bytes (a power of two from 4 KiB to 1 GiB). Returns the
/// host's ends and the descriptor for the guest. Dropping any of the ends closes the channel. Does not block.
///
/// # Errors
///
/// [`ChannelError::RingSize`] for another size; [`ChannelError::System`] if there is no memory for it, or no
/// descriptor.
pub fn create(ring_size: usize, strategy: WaitStrategy) -> Result<(Host, OwnedFd), ChannelError> {
    create_with(&Geometry::new(ring_size)?, strategy, &BY_ITSELF)
}

/// Checks a descriptor received from a host, maps it, and returns the guest's ends. Dropping any of them
/// closes the channel. The descriptor is not needed afterwards. Does not block.
///
/// # Errors
///
/// See [`ChannelError`]: it is not a sealed memory file, not a channel, or of another version.
pub fn open(descriptor: impl AsFd, strategy: WaitStrategy) -> Result<Guest, ChannelError> {
    open_with(descriptor, strategy, &BY_ITSELF)
}

pub(crate) fn create_for_server(
    geometry: &Geometry,
    strategy: WaitStrategy,
) -> Result<(Host, OwnedFd), ChannelError> {
    create_with(geometry, strategy, &SERVER)
}

pub(crate) fn open_for_client(descriptor: impl AsFd, strategy: WaitStrategy) -> Result<Guest, ChannelError> {
    open_with(descriptor, strategy, &CLIENT)
}

fn create_with(
    geometry: &Geometry,
    strategy: WaitStrategy,
    end_options: &EndOptions,
) -> Result<(Host, OwnedFd), ChannelError> {
    let (segment, descriptor) = Segment::create("ringpost-channel", geometry.segment_len())?;
    Words::describing(geometry).write(&segment);
    Ok((host_of(View::new(segment), *geometry, strategy, end_options)?, descriptor))
}

fn open_with(
    descriptor: impl AsFd,
    strategy: WaitStrategy,
    end_options: &EndOptions,
) -> Result<Guest, ChannelError> {
    let segment = Segment::open(descriptor)?;
    let geometry = Words::read(&segment)?.check(segment.len())?;
    Ok(guest_of(View::new(segment), geometry, strategy, end_options)?)
}

fn host_of(
    view: View,
    geometry: Geometry,
    strategy: WaitStrategy,
    end_options: &EndOptions,
) -> Result<Host, SegmentError> {
    let kicks = Kicks::default();
    let rings = kicks.at_the_host();
    Ok(Ends::new(view, &rings, Vec::new(), geometry, strategy, end_options)?.host(kicks, end_options))
}

fn guest_of(
    view: View,
    geometry: Geometry,
    strategy: WaitStrategy,
    end_options: &EndOptions,
) -> Result<Guest, SegmentError> {
    let kicks = Kicks::default();
    // The host sleeps on its words, and waits in no event loop.
    let (rings, own) = (Ring::ALL.map(Sleepers::of), vec![kicks.caller.clone(), kicks.inbox.clone()]);
    Ok(Ends::new(view, &rings, own, geometry, strategy, end_options)?.guest(kicks))
}

/// Makes the ends of one side from what they share.
struct Ends {
    view: View,
    /// Where the data of the rings begin.
    data: usize,
    geometry: Geometry,
    strategy: WaitStrategy,
    closer: Closer,
    closes_on_drop: Option<CloseReason>,
    stamped: bool,
}

impl Ends {
    fn new(
        view: View,
        rings: &[Sleepers],
        own: Vec<Kick>,
        geometry: Geometry,
        strategy: WaitStrategy,
        end_options: &EndOptions,
    ) -> Result<Ends, SegmentError> {
        let parked = rings.iter().flat_map(Sleepers::all).collect();
        let mut closer =
            Closer::with_pipes(view.clone(), Scope::Shared, parked, own, Some(CLOSED), end_options.peer);
        if end_options.ends_at_fork {
            closer = closer
                .of_this_process()
                .map_err(|source| SegmentError::System { action: "map memory", source })?;
        }
        let EndOptions { data, closes_on_drop, stamped, .. } = *end_options;
        Ok(Ends { view, data, geometry, strategy, closer, closes_on_drop, stamped })
    }

    fn host(&self, kicks: Kicks, end_options: &EndOptions) -> Host {
        let [request, _, _] = kicks.at_the_host();
        let intake = if end_options.separate_intake { self.closer_of(&request) } else { self.closer.clone() };
        let requests = Setup { closer: intake.clone(), ..self.setup(Ring::Request, &kicks.caller) };
        Host {
            requests: Consumer::new(&requests),
            responses: Producer::new(&self.setup(Ring::Response, &kicks.caller)),
            inbox: Producer::new(&self.setup(Ring::Inbox, &kicks.inbox)),
            closer: self.closer.clone(),
            intake,
            links: self.link_words(),
            figures: self.figures(),
            kicks,
        }
    }

    fn guest(&self, kicks: Kicks) -> Guest {
        let setup = |ring| self.setup(ring, &Kick::default());
        let figures = self.figures();
        let [mut responses, mut inbox] =
            [Ring::Response, Ring::Inbox].map(|ring| Consumer::new(&setup(ring)));
        for consumer in [&mut responses, &mut inbox] {
            let figures = figures.clone();
            consumer.on_wake(Arc::new(move |took| figures.count(Durations::OwnWakes, took)));
        }
        Guest {
            requests: Producer::new(&setup(Ring::Request)),
            responses,
            inbox,
            closer: self.closer.clone(),
            links: self.link_words(),
            figures,
            kicks,
            geometry: self.geometry,
        }
    }

    fn link_words(&self) -> LinkWords {
        LinkWords::new(self.view.clone(), self.closer.clone())
    }

    fn figures(&self) -> FiguresPage {
        FiguresPage::new(self.view.clone(), self.closer.clone())
    }

    /// A close handle of one ring only, which does not tell the other side.
    fn closer_of(&self, ring: &Sleepers) -> Closer {
        let parked = ring.all().into();
        Closer::with_pipes(self.view.clone(), Scope::Shared, parked, Vec::new(), None, Peer::Unheard)
    }

    /// One side of a ring. `kick` is the pipe of the other side.
    fn setup(&self, ring: Ring, kick: &Kick) -> Setup {
        Setup {
            view: self.view.clone(),
            control: ring.control(),
            data: ring.data(self.data, &self.geometry),
            capacity: self.geometry.ring_size(),
            max_block: self.geometry.max_block(),
            scope: Scope::Shared,
            closer: self.closer.clone(),
            kick: kick.clone(),
            strategy: self.strategy,
            closes_on_drop: self.closes_on_drop,
            stamps: self.stamped.then(|| figures::stamps(self.view.clone(), ring)),
            start: 0,
        }
    }
}
