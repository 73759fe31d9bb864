//! `Publisher`: publishes the samples of one topic.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::sync::{Arc, Weak};

use super::error::PublishError;
use super::publication::Publication;
use super::publish_options::PublishOptions;
use super::set::Topics;
use crate::client::{Caller, Client, Closer, ReadinessError};
use crate::codec::Payload;
use crate::os::nest::Nest;
use crate::os::pipe::{NewPipe, kick_pipe};
use crate::ring::Deadline;
use crate::shm::backend::{PipeReader, PipeWriter};
use crate::topic::{Gone, Grant, MOST_SEQUENCE, State, Unsent, Writer};
use crate::wire::{CloseReason, Peer, Topic, TopicError};

/// Publishes the samples of one topic: [`Client::publish`]. [`Publisher::options`] chooses another ring, who
/// may subscribe, or to wait for [reliable](crate::Policy::Reliable) subscribers.
///
/// It writes into a ring of its own, which subscribers can only read. So it never waits for them, and it
/// costs the same whether one reads or fifty, unless it has offered to wait. Of one topic there may be
/// several publishers, each with its own ring.
///
/// | operation | waits for | at most |
/// | --- | --- | --- |
/// | [`send`](Self::send), [`grant`](Self::grant) | room, for reliable subscribers | their budget each |
/// | [`send_timeout`](Self::send_timeout) | the same | the deadline, if any |
/// | [`grant_timeout`](Self::grant_timeout) | the same | the deadline, if any |
/// | [`try_send`](Self::try_send) | nothing | |
///
/// It belongs to its client: it goes on when the server dies, and is published anew when the client
/// [registers again](crate::Reconnect). It ends with its client. Dropping it ends the topic, waiting for the
/// server's confirmation for at most a second; subscribers still read what was published.
///
/// # Examples
///
/// ```
/// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
/// let mut prices = alice.publish("prices/AAPL")?;
/// prices.send(b"nobody reads this")?; // no error
/// let mut sub = bob.subscribe("prices/AAPL")?; // usually in another process
/// prices.send(b"187.42")?;
/// assert_eq!(sub.recv()?.payload(), b"187.42");
/// assert_eq!((prices.topic().as_str(), prices.sequence()), ("prices/AAPL", 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Publisher {
    writer: Writer,
    shared: Arc<Publication>,
    topics: Weak<Topics>,
    /// The most bytes of a sample.
    max: usize,
    /// By which it waits in an event loop once it was asked for, and the pipe in it that tells of changes.
    nest: Option<(Arc<Nest>, Arc<PipeReader>)>,
}

/// A subscriber that a publisher did not wait for any longer: [`Publisher::evictions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Eviction {
    /// The subscriber.
    pub subscriber: Peer,
    /// Whether it kept the publisher waiting for too long. Otherwise it broke a rule.
    pub stalled: bool,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("topic", &self.shared.topic.as_str())
            .field("sequence", &self.sequence())
            .field("closed", &self.shared.reason())
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Publishes a topic; see [`Caller::publish`].
    ///
    /// # Errors
    ///
    /// See [`PublishError`].
    pub fn publish(
        &mut self,
        topic: impl TryInto<Topic, Error: Into<TopicError>>,
    ) -> Result<Publisher, PublishError> {
        self.caller.publish(topic)
    }
}

impl Caller {
    /// Publishes a [`Topic`], from now on until the publisher is dropped. Clients that have subscribed to a
    /// pattern that it matches get its first sample, too. A client publishes a topic once at a time.
    ///
    /// Blocks until the server has answered, at most for
    /// [`ClientBuilder::timeout`](crate::ClientBuilder::timeout). A client that registers again does so first
    /// if its registration has ended.
    ///
    /// # Errors
    ///
    /// See [`PublishError`].
    ///
    /// # Examples
    ///
    /// See [`Publisher`].
    pub fn publish(
        &mut self,
        topic: impl TryInto<Topic, Error: Into<TopicError>>,
    ) -> Result<Publisher, PublishError> {
        Publisher::options().publish(self, topic)
    }
}

impl Publisher {
    pub(super) fn new(writer: Writer, shared: Arc<Publication>, topics: &Arc<Topics>) -> Publisher {
        Publisher { max: writer.max_sample(), writer, shared, topics: Arc::downgrade(topics), nest: None }
    }

    /// Begins to set up a publisher that differs from what [`publish`](Client::publish) makes. Does not
    /// block: nobody is asked yet.
    pub fn options() -> PublishOptions {
        PublishOptions::default()
    }

    /// Publishes a sample: bytes, text, or a value with a codec; see [`codec`](crate::codec). `Ok` means that
    /// it is in the ring, where every subscriber can read it.
    ///
    /// Does not block, unless the publisher has offered to wait for reliable subscribers: then until they
    /// have read enough, at most for their budget each.
    ///
    /// # Errors
    ///
    /// See [`PublishError`]; never [`Full`](PublishError::Full) or [`TimedOut`](PublishError::TimedOut).
    #[inline]
    pub fn send(&mut self, sample: impl Payload) -> Result<(), PublishError> {
        sample.encode(self.max, |bytes| {
            self.writer.send(bytes, Deadline::never()).map_err(|unsent| self.explain(unsent, bytes.len()))
        })?
    }

    /// As [`send`](Self::send), but blocks until the [deadline](Deadline) at most.
    ///
    /// # Errors
    ///
    /// See [`PublishError`]; after [`TimedOut`](PublishError::TimedOut) nothing was published.
    pub fn send_timeout(
        &mut self,
        sample: impl Payload,
        deadline: impl Into<Deadline>,
    ) -> Result<(), PublishError> {
        let deadline = deadline.into();
        sample.encode(self.max, |bytes| {
            self.writer.send(bytes, deadline).map_err(|unsent| self.explain(unsent, bytes.len()))
        })?
    }

    /// As [`send`](Self::send), but never blocks.
    ///
    /// # Errors
    ///
    /// See [`PublishError`]; [`Full`](PublishError::Full) if a reliable subscriber is behind: then nothing
    /// was published.
    #[inline]
    pub fn try_send(&mut self, sample: impl Payload) -> Result<(), PublishError> {
        sample.encode(self.max, |bytes| {
            self.writer.try_send(bytes).map_err(|unsent| self.explain(unsent, bytes.len()))
        })?
    }

    /// The next sample has this [sequence](crate::Sample::sequence): for one who publishes on behalf of
    /// another, whose samples did not all come. Subscribers count the numbers between as
    /// [missed](crate::Sample::missed). A number that is not ahead of the next one changes nothing.
    ///
    /// Blocks as [`send`](Self::send) does.
    ///
    /// # Errors
    ///
    /// See [`PublishError`]; [`Sequence`](PublishError::Sequence) from 2^62 on.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::Publisher;
    ///
    /// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
    /// let mut prices = Publisher::options().first_sequence(7).publish(alice.caller(), "prices/AAPL")?;
    /// let mut sub = bob.subscribe("prices/*")?;
    /// prices.send(b"231.40")?;
    /// prices.skip_to(10)?; // the samples 8 and 9 got lost on their way here
    /// prices.send(b"231.45")?;
    /// let sample = sub.recv()?;
    /// assert_eq!((sample.sequence(), sample.missed()), (7, 0));
    /// let sample = sub.recv()?;
    /// assert_eq!((sample.sequence(), sample.missed()), (10, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn skip_to(&mut self, sequence: u64) -> Result<(), PublishError> {
        check_sequence(sequence)?;
        self.writer.skip_to(sequence, Deadline::never()).map_err(|unsent| self.explain(unsent, 0))
    }

    /// Room for one sample of up to `len` bytes, to be written in place: see [`SampleGrant`]. Blocks as
    /// [`send`](Self::send) does.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send).
    pub fn grant(&mut self, len: usize) -> Result<SampleGrant<'_>, PublishError> {
        self.grant_until(len, Deadline::never())
    }

    /// As [`grant`](Self::grant), but blocks until the [deadline](Deadline) at most.
    ///
    /// # Errors
    ///
    /// Those of [`send_timeout`](Self::send_timeout).
    pub fn grant_timeout(
        &mut self,
        len: usize,
        deadline: impl Into<Deadline>,
    ) -> Result<SampleGrant<'_>, PublishError> {
        self.grant_until(len, deadline.into())
    }

    fn grant_until(&mut self, len: usize, deadline: Deadline) -> Result<SampleGrant<'_>, PublishError> {
        let max = self.max;
        match self.writer.grant(len, deadline) {
            Ok(grant) => Ok(SampleGrant { grant }),
            Err(unsent) => Err(explain(unsent, len, max)),
        }
    }

    #[cold]
    fn explain(&self, unsent: Unsent, len: usize) -> PublishError {
        explain(unsent, len, self.max)
    }

    /// The topic. Does not block.
    pub fn topic(&self) -> &Topic {
        &self.shared.topic
    }

    /// How many subscriptions read it now. Does not block.
    pub fn subscribers(&self) -> usize {
        if self.shared.is_forked() { 0 } else { self.shared.audience.count() }
    }

    /// The subscribers that were given up since the last time, the oldest first. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringpost::{Policy, Publisher, SampleError, Subscriber};
    /// use std::time::Duration;
    ///
    /// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
    /// let budget = Duration::from_millis(5);
    /// let mut jobs = Publisher::options().ring_size(4096).reliable(budget).publish(alice.caller(), "jobs")?;
    /// let mut sub = Subscriber::options().policy(Policy::Reliable).subscribe(bob.caller(), "jobs")?;
    /// let evicted = loop {
    ///     jobs.send(b"job")?; // waits for bob, who does not read, and then no longer
    ///     if let Some(evicted) = jobs.evictions().pop() {
    ///         break evicted;
    ///     }
    /// };
    /// assert_eq!((evicted.subscriber.key, evicted.stalled), (bob.key(), true));
    /// let told = loop {
    ///     match sub.recv() {
    ///         Ok(sample) => assert_eq!(sample.missed(), 0), // what he could still read
    ///         Err(told) => break told,
    ///     }
    /// };
    /// assert!(matches!(told, SampleError::Evicted { .. }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn evictions(&mut self) -> Vec<Eviction> {
        let eviction =
            |Gone { peer, why }| Eviction { subscriber: peer, stalled: matches!(why, State::Stalled) };
        if self.shared.is_forked() {
            return Vec::new();
        }
        self.shared.audience.take_evictions().into_iter().map(eviction).collect()
    }

    /// The sequence of the last sample, or the one before the first: how many samples were published, unless
    /// numbers were [skipped](Self::skip_to). Does not block.
    pub fn sequence(&self) -> u64 {
        self.writer.next_sequence().saturating_sub(1)
    }

    /// The most bytes that a sample may have: a quarter of the ring, a little less. Does not block.
    pub fn max_sample(&self) -> usize {
        self.max
    }

    /// A handle that ends this publisher from another thread or a signal handler: a wait ends with
    /// `Disconnected`, and nothing more is published. Does not block.
    pub fn closer(&self) -> Closer {
        Closer::of_publisher(&self.shared)
    }

    /// What it shares with its client.
    pub(in crate::client) fn shared(&self) -> Arc<Publication> {
        Arc::clone(&self.shared)
    }

    // ---- for waiting in an event loop

    /// What to wait by for room in an event loop. The first time it is made. Does not block.
    pub(crate) fn nest(&mut self) -> Result<Arc<Nest>, ReadinessError> {
        if let Some(reason) = self.shared.reason() {
            return Err(ReadinessError::Disconnected(reason));
        }
        if !self.shared.arms {
            return Err(ReadinessError::NotArmable);
        }
        if let Some((nest, _)) = &self.nest {
            return Ok(Arc::clone(nest));
        }
        let made = kick_pipe().and_then(|NewPipe { read, write, .. }| {
            let changes = Arc::new(PipeReader::new(read));
            Ok((Arc::new(Nest::with_timer(Arc::clone(&changes))?), changes, PipeWriter::new(write)))
        });
        let (nest, changes, write) = made.map_err(cannot_be_made)?;
        self.shared.audience.kicks(write);
        self.nest = Some((Arc::clone(&nest), changes));
        Ok(nest)
    }

    /// Announces a wait for the room that the last `try_send` did not find. Returns false if it is to try
    /// again at once.
    pub(crate) fn arm_end(&mut self) -> Result<bool, ReadinessError> {
        if self.shared.is_forked() {
            return Ok(false);
        }
        let without = if self.shared.arms { ReadinessError::NotAsked } else { ReadinessError::NotArmable };
        let (nest, changes) = self.nest.as_ref().ok_or(without)?;
        // In this order: whatever changes behind the look kicks again.
        changes.drain();
        let until = self.writer.arm();
        nest.set_timer(until);
        nest.hold(self.writer.pipes().iter()).map_err(cannot_be_made)?;
        Ok(until.is_some())
    }
}

fn cannot_be_made(source: io::Error) -> ReadinessError {
    ReadinessError::System { action: "make an epoll instance", source }
}

/// Whether a sample can have this sequence.
pub(super) fn check_sequence(sequence: u64) -> Result<(), PublishError> {
    if sequence < MOST_SEQUENCE { Ok(()) } else { Err(PublishError::Sequence(sequence)) }
}

#[cold]
fn explain(unsent: Unsent, len: usize, max: usize) -> PublishError {
    match unsent {
        Unsent::TooLarge => PublishError::TooLarge { len, max },
        Unsent::Full => PublishError::Full,
        Unsent::TimedOut => PublishError::TimedOut,
        Unsent::Ended(reason) => PublishError::Disconnected(reason.into()),
    }
}

/// See [`Publisher`]. Does nothing in a forked child.
impl Drop for Publisher {
    fn drop(&mut self) {
        if self.shared.is_forked() {
            return;
        }
        // Before the server is told, which may take a while.
        self.shared.close(CloseReason::Local);
        self.shared.audience.conclude();
        if let Some(topics) = self.topics.upgrade() {
            topics.remove_publication(&self.shared);
        }
    }
}

/// Room for one sample, written in place through [`io::Write`]: [`Publisher::grant`]. It is published with
/// [`commit`](Self::commit), as long as what was written. If it is dropped, nothing is published. A write of
/// more than the room is cut to the room, as by any full writer. [`as_mut_ptr`](Self::as_mut_ptr) is for code
/// that writes to an address.
///
/// # Examples
///
/// ```
/// use std::io::Write;
///
/// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
/// let mut frames = alice.publish("camera/front")?;
/// let mut sub = bob.subscribe("camera/*")?;
/// let mut frame = frames.grant(4)?;
/// assert_eq!(frame.write(b"abcdef")?, 4);
/// frame.commit();
/// drop(frames.grant(100)?); // nothing
/// assert_eq!(sub.recv()?.payload(), b"abcd");
/// assert!(sub.try_recv()?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a grant that is not committed publishes nothing"]
pub struct SampleGrant<'a> {
    grant: Grant<'a>,
}

impl SampleGrant<'_> {
    /// How many more bytes can be written. Does not block.
    pub fn remaining(&self) -> usize {
        self.grant.remaining()
    }

    /// The address of the first byte that is not written yet; before anything is written, a multiple of 8.
    /// As many bytes as are [`remaining`](Self::remaining) can be read and written there until the grant is
    /// committed or dropped; [`advance`](Self::advance) says how many were written. It is for code that takes
    /// an address: that of another language, a device, a system call.
    ///
    /// At first the bytes are what earlier samples left there. Subscribers can read all that is written, but
    /// take it for a sample only once it is committed. When the grant ends, the part of its room that is not
    /// published is overwritten with zeros. Whoever writes there after that, spoils later samples.
    ///
    /// Does not block.
    ///
    /// # Examples
    ///
    /// The kernel writes a sample in place: it is read from a file without being copied in this process.
    ///
    /// ```
    /// # use std::os::fd::AsRawFd;
    /// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
    /// # let file = tempfile::tempfile()?;
    /// # std::os::unix::fs::FileExt::write_all_at(&file, &[7; 1000], 0)?;
    /// let mut frames = alice.publish("camera/front")?;
    /// let mut sub = bob.subscribe("camera/*")?;
    /// let mut frame = frames.grant(4000)?;
    /// // SAFETY: as many bytes can be written there until the grant is used in another way.
    /// let read = unsafe { libc::read(file.as_raw_fd(), frame.as_mut_ptr().cast(), frame.remaining()) };
    /// frame.advance(usize::try_from(read)?);
    /// frame.commit();
    /// assert_eq!(sub.recv()?.payload(), [7; 1000]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.grant.address()
    }

    /// Says that the next `bytes` bytes were written through [`as_mut_ptr`](Self::as_mut_ptr). Those of them
    /// that were not are published as they are: with what earlier samples left there. Does not block.
    ///
    /// # Panics
    ///
    /// If fewer bytes are [`remaining`](Self::remaining).
    pub fn advance(&mut self, bytes: usize) {
        self.grant.advance(bytes);
    }

    /// Publishes what was written. Does not block.
    pub fn commit(self) {
        self.grant.commit();
    }
}

impl io::Write for SampleGrant<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.grant.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
