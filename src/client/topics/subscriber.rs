//! `Subscriber`: takes the samples of all publishers of the topics that a pattern names.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::error::{SampleError, SubscribeError};
use super::feed::Feed;
use super::sample::{Origin, OwnedSample, Sample, SampleView};
use super::set::Topics;
use super::subscribe_options::SubscribeOptions;
use super::subscription::Subscription;
use crate::client::{Caller, Client, Closer, ReadinessError};
use crate::os::nest::Nest;
use crate::ring::{Deadline, WaitStrategy};
use crate::topic::{Reader, Taken};
use crate::wire::{Pattern, Peer, TopicError};

/// Takes the samples of all publishers whose topics match a pattern: [`Client::subscribe`].
/// [`Subscriber::options`] chooses another [`Policy`](crate::Policy), the history, or another way to wait.
///
/// Samples of one publisher come in order, each with its [sequence](Sample::sequence) and with how many were
/// [missed](Sample::missed) before it. Those of several publishers come in turn. Publishers may come later,
/// and go: one that ends takes nothing away that it had published. A publisher that came after the
/// subscription is read from its first sample on.
///
/// A subscriber can only read what is published, and a lossy one never delays anybody. What it did not take
/// in time is overwritten.
///
/// | operation | waits for | at most |
/// | --- | --- | --- |
/// | [`recv`](Self::recv), [`recv_ref`](Self::recv_ref), [`iter`](Self::iter) | a sample | |
/// | [`recv_timeout`](Self::recv_timeout) | a sample | the deadline, if any |
/// | [`recv_ref_timeout`](Self::recv_ref_timeout) | a sample | the deadline, if any |
/// | [`try_recv`](Self::try_recv), [`try_recv_ref`](Self::try_recv_ref) | nothing | |
///
/// It belongs to its client: it goes on when the server dies, also when the client [registers
/// again](crate::Reconnect), and ends with the client. Dropping it ends the subscription, waiting for the
/// server's confirmation for at most a second.
///
/// # Examples
///
/// ```
/// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
/// let mut sub = bob.subscribe("prices/*")?; // before there is any publisher
/// let mut apple = alice.publish("prices/AAPL")?;
/// apple.send(b"first")?;
/// let sample = sub.recv()?;
/// assert_eq!((sample.topic(), sample.payload()), ("prices/AAPL", &b"first"[..]));
/// let mut microsoft = alice.publish("prices/MSFT")?;
/// microsoft.send(b"first")?;
/// drop(microsoft); // what it has published stays
/// assert_eq!(sub.recv()?.topic(), "prices/MSFT");
/// assert!(sub.try_recv()?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Subscriber {
    pub(super) feed: Feed,
    pub(super) topics: Weak<Topics>,
    /// By which it waits in an event loop, once it was asked for.
    nest: Option<Arc<Nest>>,
    /// Of when the parts are whose pipes are in it.
    held: Option<u64>,
    /// Whether the nest was set to a time.
    looks: bool,
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber")
            .field("to", &self.feed.shared.what)
            .field("closed", &self.feed.shared.reason())
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Subscribes to all topics that match a pattern; see [`Caller::subscribe`].
    ///
    /// # Errors
    ///
    /// See [`SubscribeError`].
    pub fn subscribe(
        &mut self,
        pattern: impl TryInto<Pattern, Error: Into<TopicError>>,
    ) -> Result<Subscriber, SubscribeError> {
        self.caller.subscribe(pattern)
    }
}

impl Caller {
    /// Subscribes to all topics that match a [`Pattern`]: `prices/AAPL`, `prices/*`, `prices/**`. When it
    /// returns, the subscription is in force: what is published from now on is received, also of publishers
    /// that come later. [`Subscriber::options`] chooses another policy than
    /// [`Lossy`](crate::Policy::Lossy), and the history.
    ///
    /// Blocks until the server has answered, at most for
    /// [`ClientBuilder::timeout`](crate::ClientBuilder::timeout). A client that registers again does so first
    /// if its registration has ended.
    ///
    /// # Errors
    ///
    /// See [`SubscribeError`].
    ///
    /// # Examples
    ///
    /// See [`Subscriber`].
    pub fn subscribe(
        &mut self,
        pattern: impl TryInto<Pattern, Error: Into<TopicError>>,
    ) -> Result<Subscriber, SubscribeError> {
        Subscriber::options().subscribe(self, pattern)
    }
}

impl Subscriber {
    pub(super) fn new(shared: Arc<Subscription>, topics: &Arc<Topics>, strategy: WaitStrategy) -> Subscriber {
        Subscriber {
            feed: Feed::new(shared, strategy),
            topics: Arc::downgrade(topics),
            nest: None,
            looks: false,
            held: None,
        }
    }

    /// Begins to set up a subscription that differs from what [`subscribe`](Client::subscribe) makes. Does
    /// not block: nobody is asked yet.
    pub fn options() -> SubscribeOptions {
        SubscribeOptions::default()
    }

    /// The next sample, or `None` if none is there now. Never blocks.
    ///
    /// # Errors
    ///
    /// See [`SampleError`]; never [`TimedOut`](SampleError::TimedOut).
    #[inline]
    pub fn try_recv(&mut self) -> Result<Option<Sample<'_>>, SampleError> {
        let found = self.look()?;
        Ok(found.map(|(at, taken)| self.sample(at, taken)))
    }

    /// Waits for the next sample. It stays readable until the next operation of this subscriber.
    ///
    /// Blocks until there is one, or the subscription has ended.
    ///
    /// # Errors
    ///
    /// See [`SampleError`]; never [`TimedOut`](SampleError::TimedOut).
    #[inline]
    pub fn recv(&mut self) -> Result<Sample<'_>, SampleError> {
        let (at, taken) = self.feed.wait_for(Deadline::never(), Reader::try_take)?;
        Ok(self.sample(at, taken))
    }

    /// As [`recv`](Self::recv), but blocks until the [deadline](Deadline) at most.
    ///
    /// # Errors
    ///
    /// See [`SampleError`].
    pub fn recv_timeout(&mut self, deadline: impl Into<Deadline>) -> Result<Sample<'_>, SampleError> {
        let (at, taken) = self.feed.wait_for(deadline.into(), Reader::try_take)?;
        Ok(self.sample(at, taken))
    }

    /// Waits for the next sample as [`recv`](Self::recv) does, but leaves it where it is: see [`SampleView`].
    ///
    /// # Errors
    ///
    /// See [`SampleError`]; never [`TimedOut`](SampleError::TimedOut).
    #[inline]
    pub fn recv_ref(&mut self) -> Result<SampleView<'_>, SampleError> {
        let (at, len) = self.feed.wait_for(Deadline::never(), |reader, _| reader.seek())?;
        Ok(self.view(at, len))
    }

    /// As [`recv_ref`](Self::recv_ref), but blocks until the [deadline](Deadline) at most.
    ///
    /// # Errors
    ///
    /// See [`SampleError`].
    pub fn recv_ref_timeout(&mut self, deadline: impl Into<Deadline>) -> Result<SampleView<'_>, SampleError> {
        let (at, len) = self.feed.wait_for(deadline.into(), |reader, _| reader.seek())?;
        Ok(self.view(at, len))
    }

    /// The next sample in place, or `None` if none is there now. Never blocks.
    ///
    /// # Errors
    ///
    /// See [`SampleError`]; never [`TimedOut`](SampleError::TimedOut).
    #[inline]
    pub fn try_recv_ref(&mut self) -> Result<Option<SampleView<'_>>, SampleError> {
        let found = self.feed.look(|reader, _| reader.seek())?;
        Ok(found.map(|(at, len)| self.view(at, len)))
    }

    /// The samples, one after the other, as [`recv`](Self::recv) receives them. It ends behind
    /// [`Disconnected`](SampleError::Disconnected); every other error is one of its items, and more may come.
    ///
    /// # Examples
    ///
    /// See [`OwnedSample`].
    pub fn iter(&mut self) -> impl Iterator<Item = Result<OwnedSample, SampleError>> + '_ {
        let mut over = false;
        std::iter::from_fn(move || {
            if over {
                return None;
            }
            let received = self.recv().map(|sample| sample.to_owned());
            over = received.as_ref().is_err_and(SampleError::is_disconnected);
            Some(received)
        })
    }

    /// Looks for a sample, which [`sample`](Self::sample) then reads from the buffer.
    #[inline(always)]
    pub(crate) fn look(&mut self) -> Result<Option<(usize, Taken)>, SampleError> {
        self.feed.look(Reader::try_take)
    }

    #[inline(always)]
    pub(crate) fn sample(&self, at: usize, taken: Taken) -> Sample<'_> {
        let (part, Taken { sequence, missed }) = (&self.feed.parts[at], taken);
        let origin = Origin { topic: part.identity.topic(), publisher: &part.publisher, sequence, missed };
        Sample { payload: &self.feed.buffer, origin }
    }

    #[inline(always)]
    fn view(&mut self, at: usize, len: usize) -> SampleView<'_> {
        let part = &mut self.feed.parts[at];
        SampleView {
            sample: part.reader.view(len),
            notice: &self.feed.shared.notice,
            topic: part.identity.topic(),
            publisher: &part.publisher,
        }
    }

    /// Who publishes what this subscription takes, one for each of its topics. Does not block.
    pub fn publishers(&mut self) -> Vec<Peer> {
        self.feed.fetch();
        self.feed.parts.iter().map(|part| part.publisher).collect()
    }

    /// About how many bytes lie unread in the publishers' rings. Does not block.
    pub fn lag(&mut self) -> u64 {
        self.feed.fetch();
        self.feed.parts.iter().map(|part| part.reader.lag()).sum()
    }

    /// A handle that ends this subscription from another thread or a signal handler: its waits end with
    /// `Disconnected`. Does not block.
    pub fn closer(&self) -> Closer {
        Closer::of_subscriber(&self.feed.shared)
    }

    /// Waits until every publisher has decided about it: see [`Feed`].
    pub(super) fn await_decisions(
        &mut self,
        deadline: Instant,
        is_over: impl Fn() -> bool,
    ) -> Result<Option<Peer>, ()> {
        self.feed.await_decisions(deadline, is_over)
    }

    // ---- for waiting in an event loop

    /// What to wait by in an event loop. The first time it is made. Does not block.
    pub(crate) fn nest(&mut self) -> Result<Arc<Nest>, ReadinessError> {
        if let Some(reason) = self.feed.shared.reason() {
            return Err(ReadinessError::Disconnected(reason));
        }
        if !self.feed.shared.waits.arms {
            return Err(ReadinessError::NotArmable);
        }
        if let Some(nest) = &self.nest {
            return Ok(Arc::clone(nest));
        }
        let nest = self.feed.shared.notice.pipe().and_then(Nest::with_timer);
        let nest = Arc::new(nest.map_err(cannot_be_made)?);
        self.held = None;
        Ok(Arc::clone(self.nest.insert(nest)))
    }

    /// Announces a wait by the nest. Returns false if there is something to look at.
    pub(crate) fn arm_end(&mut self) -> Result<bool, ReadinessError> {
        if self.feed.shared.notice.is_forked() {
            return Ok(false);
        }
        if !self.feed.shared.waits.arms {
            return Err(ReadinessError::NotArmable);
        }
        let nest = self.nest.as_ref().ok_or(ReadinessError::NotAsked)?;
        // In this order: whatever changes behind the look kicks again.
        if let Some(notice) = self.feed.shared.notice.pipe_if_made() {
            notice.drain();
        }
        if !self.feed.has_nothing_new() {
            return Ok(false);
        }
        if self.held != Some(self.feed.settled) {
            let pipes = self.feed.parts.iter().filter_map(|part| part.own.as_ref());
            nest.hold(pipes.map(|own| own.reader())).map_err(cannot_be_made)?;
            self.held = Some(self.feed.settled);
        }
        if !self.feed.arm() {
            return Ok(false);
        }
        let look = self.feed.next_look();
        if look.is_some() || self.looks {
            nest.set_timer(look);
            self.looks = look.is_some();
        }
        Ok(true)
    }
}

fn cannot_be_made(source: std::io::Error) -> ReadinessError {
    ReadinessError::System { action: "make an epoll instance", source }
}

/// See [`Subscriber`]. Does nothing in a forked child but close its copies of the descriptors.
impl Drop for Subscriber {
    fn drop(&mut self) {
        if self.feed.shared.notice.is_forked() {
            return;
        }
        self.feed.leave();
        if let Some(topics) = self.topics.upgrade() {
            topics.remove_subscription(&self.feed.shared);
        }
    }
}
