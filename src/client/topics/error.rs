//! Why something was not published, not subscribed to, or not received.

#![forbid(unsafe_code)]

use std::io;

use crate::channel::ChannelError;
use crate::client::RegisterError;
use crate::client::error::CANNOT_WAIT;
use crate::codec::EncodeError;
use crate::os::remedy::on_memory_or_threads;
use crate::wire::{CloseReason, Peer, TopicError, Violation};

/// Why there is no publisher, or a sample was not published. The texts say what to do.
///
/// # Examples
///
/// ```
/// use ringpost::PublishError;
///
/// # let (_bus, mut alice) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/one.rs"));
/// assert!(matches!(alice.publish("prices/*"), Err(PublishError::InvalidTopic(_))));
/// let mut prices = alice.publish("prices/AAPL")?;
/// let max = prices.max_sample();
/// match prices.send(&vec![0; max + 1]) {
///     Err(PublishError::TooLarge { max: most, .. }) => assert_eq!(most, max),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The text cannot be the name of a topic.
    #[error("no topic can have this name: {0}")]
    InvalidTopic(#[from] TopicError),
    /// The sample is longer than the publisher's ring allows.
    #[error(
        "a sample of {len} bytes is larger than the maximum of {max}: publish with a larger ring (ring_size)"
    )]
    TooLarge {
        /// The sample's length in bytes.
        len: usize,
        /// The most that this publisher takes.
        max: usize,
    },
    /// The sample could not be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A reliable subscriber has not read so far that there is room. Only operations that do not wait say so.
    #[error("a reliable subscriber is behind, so there is no room now")]
    Full,
    /// There was no room before the deadline; or the server did not take the topic in time.
    #[error(
        "not published in time: a reliable subscriber is behind, or the server is stopped or overloaded; try again"
    )]
    TimedOut,
    /// The publisher has ended: it was closed, or its client was; or its client is not registered.
    #[error("disconnected: {0}; register again to publish")]
    Disconnected(CloseReason),
    /// This user has as many topics, or as much of the server's memory, as one user may have. The text names
    /// the quota, and the option that changes it.
    #[error("the server refused: {0}")]
    Quota(String),
    /// A rule of the server closes the topic to this client. The text says which, and what to do.
    #[error("the server refused: {0}")]
    NotAllowed(String),
    /// The server refused, in its own words: this client publishes the topic already, for example.
    #[error("the server refused: {0}")]
    Refused(String),
    /// A topic can be restricted to a few users only.
    #[error(
        "a topic can be restricted to at most {max} users, not to {found}: let fewer subscribe, or everyone"
    )]
    TooManyUsers {
        /// How many were named.
        found: usize,
        /// How many may be.
        max: usize,
    },
    /// The number cannot be that of a sample.
    #[error("the numbers of samples are below 2^62, and {0} is not")]
    Sequence(u64),
    /// The server could not be asked.
    #[error(transparent)]
    Server(RegisterError),
    /// There can be no ring of this size, or the memory that the server sent is not that of a topic.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// Room cannot be waited for any more in this runtime: only operations of `Async` say so.
    #[error("{CANNOT_WAIT}")]
    CannotWait,
    /// A system call failed.
    #[error("cannot {action}: {source}{}", on_memory_or_threads(source))]
    System {
        /// What was being done.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// Why there is no subscription. The texts say what to do. Nothing is left of the attempt.
///
/// # Examples
///
/// ```
/// use ringpost::{Policy, SubscribeError, Subscriber};
///
/// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
/// let _prices = alice.publish("prices/AAPL")?; // offers no reliable subscriptions
/// let every_one = Subscriber::options().policy(Policy::Reliable);
/// match every_one.subscribe(bob.caller(), "prices/*") {
///     Err(SubscribeError::NotReliable { publisher }) => assert_eq!(publisher.key, alice.key()),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The text cannot be a pattern of topics.
    #[error("not a pattern of topics: {0}")]
    InvalidPattern(#[from] TopicError),
    /// A publisher of such a topic does not offer reliable subscriptions, or not to this user now, because
    /// one that the user had was evicted.
    #[error(
        "{} does not let this user subscribe reliably: it has to publish with `reliable`; after an eviction, \
         wait before you subscribe again",
        publisher.name
    )]
    NotReliable {
        /// The publisher.
        publisher: Peer,
    },
    /// The subscription was not in force in time.
    #[error(
        "not subscribed in time: the server, or a publisher of such a topic, may be stopped or overloaded; try again, or give \
         it longer (timeout)"
    )]
    TimedOut,
    /// This client is not registered any more.
    #[error("disconnected: {0}; register again to subscribe")]
    Disconnected(CloseReason),
    /// This user has as many subscriptions, or as much of the server's memory, as one user may have. The text
    /// names the quota, and the option that changes it.
    #[error("the server refused: {0}")]
    Quota(String),
    /// A rule of the server closes all topics of the pattern to this client, or its user may not
    /// [tap](crate::Client::tap). The text says which, and what to do.
    #[error("the server refused: {0}")]
    NotAllowed(String),
    /// The server refused, in its own words.
    #[error("the server refused: {0}")]
    Refused(String),
    /// The server could not be asked.
    #[error(transparent)]
    Server(RegisterError),
    /// A system call failed.
    #[error("cannot {action}: {source}{}", on_memory_or_threads(source))]
    System {
        /// What was being done.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// Why no sample was received.
///
/// After [`Disconnected`](Self::Disconnected) nothing more comes. Each other error tells something once, and
/// the subscription goes on.
///
/// # Examples
///
/// ```
/// use ringpost::{CloseReason, SampleError};
/// use std::time::Duration;
///
/// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
/// let mut sub = bob.subscribe("prices/*")?;
/// let nothing = sub.recv_timeout(Duration::from_millis(5));
/// assert_eq!(nothing.unwrap_err(), SampleError::TimedOut);
/// bob.unregister()?;
/// assert_eq!(sub.recv().unwrap_err(), SampleError::Disconnected(CloseReason::Unregistered));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// No sample came before the deadline.
    #[error("no sample before the deadline")]
    TimedOut,
    /// The subscription has ended: it was closed, or its client was; or its client is not registered any more
    /// and does not register again, and no publisher is left.
    #[error("disconnected: {0}")]
    Disconnected(CloseReason),
    /// A publisher has given this reliable subscriber up, because it did not read for longer than the
    /// publisher waits. Nothing more comes from that publisher.
    #[error("{} has evicted this subscriber, which did not read for too long: subscribe again, and read faster", publisher.name)]
    Evicted {
        /// The publisher.
        publisher: Peer,
    },
    /// A publisher that came later does not offer reliable subscriptions, or not to this user now. Nothing
    /// comes from it.
    #[error("{} does not let this user subscribe reliably: it has to publish with `reliable`", publisher.name)]
    NotReliable {
        /// The publisher.
        publisher: Peer,
    },
    /// A publisher broke a rule. Nothing more comes from it.
    #[error("{} broke the protocol: {violation}", publisher.name)]
    Violation {
        /// The publisher.
        publisher: Peer,
        /// What it did.
        violation: Violation,
    },
    /// Samples cannot be waited for any more in this runtime: only operations of `Async` say so.
    #[error("{CANNOT_WAIT}")]
    CannotWait,
}

impl PublishError {
    /// Whether the time was over first.
    pub fn is_timeout(&self) -> bool {
        matches!(self, PublishError::TimedOut)
    }

    /// Whether the publisher, or its client's registration, has ended.
    pub fn is_disconnected(&self) -> bool {
        matches!(self, PublishError::Disconnected(_))
    }
}

impl SubscribeError {
    /// Whether the time was over first.
    pub fn is_timeout(&self) -> bool {
        matches!(self, SubscribeError::TimedOut)
    }

    /// Whether this client is not registered any more.
    pub fn is_disconnected(&self) -> bool {
        matches!(self, SubscribeError::Disconnected(_))
    }
}

impl SampleError {
    /// Whether the deadline passed first.
    pub fn is_timeout(&self) -> bool {
        matches!(self, SampleError::TimedOut)
    }

    /// Whether the subscription has ended.
    pub fn is_disconnected(&self) -> bool {
        matches!(self, SampleError::Disconnected(_))
    }
}

/// The publisher has written over a sample while it was read in place. What was read of it is worth nothing.
///
/// # Examples
///
/// ```
/// use ringpost::{Overrun, Publisher};
///
/// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
/// let mut ticks = Publisher::options().ring_size(4096).publish(alice.caller(), "ticks")?;
/// let mut sub = bob.subscribe("ticks")?;
/// ticks.send(b"first")?;
/// let view = sub.recv_ref()?;
/// let mut bytes = [0; 5];
/// view.copy_to(0, &mut bytes)?;
/// for _ in 0..1000 {
///     ticks.send(b"next")?; // nobody waits for a lossy subscriber
/// }
/// assert_eq!(view.finish(), Err(Overrun));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the publisher has written over the sample meanwhile: it is lost, take the next one")]
pub struct Overrun;
