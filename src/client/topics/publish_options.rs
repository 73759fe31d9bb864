//! `PublishOptions`: how a publisher differs from the usual one.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use super::error::PublishError;
use super::publication::{FIRST, Publication, Terms};
use super::publisher::{Publisher, check_sequence};
use crate::client::Caller;
use crate::client::asking::Unanswered;
use crate::client::session::{deadline_in, explain};
use crate::connect::Refusal;
use crate::connect::dial::DialError;
use crate::connect::topics::MOST_USERS;
use crate::os::lacks;
use crate::ring::WaitStrategy;
use crate::topic::{Shape, Writer};
use crate::wire::{CloseReason, Topic, TopicError};

/// Sets up a [`Publisher`]: [`Publisher::options`].
///
/// | setting | default |
/// | --- | --- |
/// | [`ring_size`](Self::ring_size) | the server's |
/// | [`users`](Self::users) | everyone may subscribe |
/// | [`reliable`](Self::reliable) | no: it waits for nobody |
/// | [`wait`](Self::wait) | the client's own |
/// | [`arms`](Self::arms) | no |
/// | [`first_sequence`](Self::first_sequence) | 1 |
///
/// # Examples
///
/// ```
/// use ringpost::Publisher;
/// use std::io::Write;
///
/// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
/// let options = Publisher::options().ring_size(4 << 20);
/// let mut frames = options.publish(alice.caller(), "camera/front")?;
/// let mut sub = bob.subscribe("camera/*")?;
/// let mut frame = frames.grant(1 << 19)?;
/// frame.write_all(&vec![7; 1 << 19])?;
/// frame.commit();
/// assert_eq!(sub.recv()?.payload().len(), 1 << 19);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "options do nothing until publish is called"]
pub struct PublishOptions {
    ring_size: Option<usize>,
    users: Vec<u32>,
    reliable: Option<Duration>,
    wait: Option<WaitStrategy>,
    arms: bool,
    first: Option<u64>,
}

impl PublishOptions {
    /// The size of the ring in bytes: a power of two from 4 KiB to 1 GiB. It limits how large a sample can be
    /// (a quarter of it, a little less), and how far a subscriber can be behind.
    pub fn ring_size(mut self, bytes: usize) -> Self {
        self.ring_size = Some(bytes);
        self
    }

    /// Only these users may subscribe, 16 at most. For others, the topic is not there. Your own user is one
    /// of them only if you name it.
    pub fn users(mut self, users: &[u32]) -> Self {
        self.users = users.to_vec();
        self
    }

    /// Offers [reliable](crate::Policy::Reliable) subscriptions: the publisher waits until they have read
    /// what it would overwrite. One that keeps it waiting for longer than the budget is evicted, which both
    /// are told, and its user may not subscribe so for a while, which is longer each time.
    ///
    /// Lossy subscribers are not waited for even so.
    pub fn reliable(mut self, budget: Duration) -> Self {
        self.reliable = Some(budget);
        self
    }

    /// How the publisher waits for reliable subscribers.
    pub fn wait(mut self, strategy: WaitStrategy) -> Self {
        self.wait = Some(strategy);
        self
    }

    /// The publisher may wait in an event loop for reliable subscribers: see [`Ready`](crate::Ready). Then it
    /// keeps two descriptors more for each of them.
    pub fn arms(mut self) -> Self {
        self.arms = true;
        self
    }

    /// The [sequence](crate::Sample::sequence) of the first sample: for one who publishes on behalf of
    /// another, and keeps the numbers that are given there. See [`Publisher::skip_to`]. Below 2^62.
    pub fn first_sequence(mut self, sequence: u64) -> Self {
        self.first = Some(sequence);
        self
    }

    /// Publishes a topic, as [`Client::publish`](crate::Client::publish) does.
    ///
    /// # Errors
    ///
    /// See [`PublishError`].
    pub fn publish(
        &self,
        caller: &mut Caller,
        topic: impl TryInto<Topic, Error: Into<TopicError>>,
    ) -> Result<Publisher, PublishError> {
        let topic = topic.try_into().map_err(|error| PublishError::InvalidTopic(error.into()))?;
        let shape = self.ring_size.map(Shape::new).transpose()?;
        if self.users.len() > MOST_USERS {
            return Err(PublishError::TooManyUsers { found: self.users.len(), max: MOST_USERS });
        }
        let first = self.first.unwrap_or(FIRST);
        check_sequence(first)?;
        let terms = Terms {
            first,
            ring_size: shape.map_or(0, |shape| shape.ring_size() as u64),
            stall: self.reliable,
            users: self.users.clone(),
            arms: self.arms,
        };
        let publication = Publication::new(topic, terms).map_err(|source| PublishError::System {
            action: "make a word that forks do not copy",
            source,
        })?;
        let publication = Arc::new(publication);
        let deadline = deadline_in(caller.timeout);
        let links = Arc::clone(&caller.session().links);
        let strategy = self.wait.unwrap_or(links.place.wait);
        if let Some(reconnector) = &caller.calls.registration().reconnector {
            links.topics.registers_again(reconnector);
        }
        let mut writer = None;
        let published = caller.ask_registered(deadline, |session| {
            links.topics.publish(session, &publication, deadline, |view, shape| {
                let audience = publication.audience.clone();
                let made = writer.insert(Writer::new(view, shape, first, audience, strategy));
                made.counted_in(links.topics.figures.clone());
            })
        });
        published.map_err(|unanswered| explain_why_not(unanswered, caller))?;
        let Some(writer) = writer else {
            return Err(PublishError::Disconnected(CloseReason::Local));
        };
        links.topics.publication_is_made(&publication);
        let publisher = Publisher::new(writer, publication, &links.topics);
        lacks::tell();
        match publisher.closer().reason() {
            Some(reason) => Err(PublishError::Disconnected(reason)),
            None => Ok(publisher),
        }
    }
}

fn explain_why_not(unanswered: Unanswered, caller: &Caller) -> PublishError {
    match unanswered {
        Unanswered::TimedOut => PublishError::TimedOut,
        Unanswered::Ended(reason) => PublishError::Disconnected(reason),
        Unanswered::Dial(DialError::Refused(Refusal::Quota, why)) => PublishError::Quota(why),
        Unanswered::Dial(DialError::Refused(Refusal::AgainstRules, why)) => PublishError::NotAllowed(why),
        Unanswered::Dial(DialError::Refused(
            Refusal::NameTaken
            | Refusal::Unknown
            | Refusal::InvalidName
            | Refusal::NotAllowed
            | Refusal::NoResources
            | Refusal::NotFound,
            why,
        )) => PublishError::Refused(why),
        Unanswered::Dial(DialError::Io(source)) => {
            PublishError::System { action: "ask the server to publish", source }
        }
        Unanswered::Dial(error) => {
            PublishError::Server(explain(error, &caller.session().links.place.path, None))
        }
    }
}
