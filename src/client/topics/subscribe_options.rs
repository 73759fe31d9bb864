//! `SubscribeOptions`: how a subscription differs from the usual one.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use super::error::SubscribeError;
use super::presence::Lists;
use super::subscriber::Subscriber;
use super::subscription::{Subscription, What};
use crate::client::Caller;
use crate::client::asking::Unanswered;
use crate::client::session::{deadline_in, explain};
use crate::connect::dial::DialError;
use crate::connect::topics::Waits;
use crate::connect::{MOST_COPIED, Refusal};
use crate::ring::WaitStrategy;
use crate::wire::{Pattern, Policy, TopicError};

/// Sets up a [`Subscriber`]: [`Subscriber::options`].
///
/// | setting | default |
/// | --- | --- |
/// | [`policy`](Self::policy) | [`Lossy`](Policy::Lossy) |
/// | [`history`](Self::history) | none |
/// | [`wait`](Self::wait) | the client's own |
/// | [`timeout`](Self::timeout) | the client's own, 5 s |
/// | [`arms`](Self::arms) | no |
///
/// # Examples
///
/// ```
/// use ringpost::{Policy, Subscriber};
///
/// # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
/// let mut state = alice.publish("valve/3")?;
/// for position in 0..5_u8 {
///     state.send(&[position])?;
/// }
/// let mut newest = Subscriber::options().policy(Policy::Latest).history(1).subscribe(bob.caller(), "valve/*")?;
/// assert_eq!(newest.recv()?.payload(), [4]);
/// state.send(&[5])?;
/// state.send(&[6])?;
/// let sample = newest.recv()?;
/// assert_eq!((sample.payload(), sample.missed()), (&[6][..], 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "options do nothing until subscribe is called"]
pub struct SubscribeOptions {
    policy: Policy,
    history: u64,
    wait: Option<WaitStrategy>,
    timeout: Option<Duration>,
    arms: bool,
}

impl SubscribeOptions {
    /// What to do when samples come faster than they are taken.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Begin with so many of the last samples of each publisher that is there already, as far as they are
    /// still in its ring.
    pub fn history(mut self, samples: u64) -> Self {
        self.history = samples;
        self
    }

    /// How the subscriber waits for samples. One that [spins](WaitStrategy::Spin) is never woken, so
    /// publishers do not even look whether it sleeps.
    pub fn wait(mut self, strategy: WaitStrategy) -> Self {
        self.wait = Some(strategy);
        self
    }

    /// How long [`subscribe`](Self::subscribe) may take.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The subscriber may wait in an event loop: see [`Ready`](crate::Ready). Then it keeps two descriptors
    /// more for each publisher.
    pub fn arms(mut self) -> Self {
        self.arms = true;
        self
    }

    /// Subscribes, as [`Client::subscribe`](crate::Client::subscribe) does. A
    /// [reliable](Policy::Reliable) subscription is in force when all publishers that match now have attached
    /// it.
    ///
    /// # Errors
    ///
    /// See [`SubscribeError`].
    pub fn subscribe(
        &self,
        caller: &mut Caller,
        pattern: impl TryInto<Pattern, Error: Into<TopicError>>,
    ) -> Result<Subscriber, SubscribeError> {
        let pattern = pattern.try_into().map_err(|error| SubscribeError::InvalidPattern(error.into()))?;
        self.begin(caller, What::Topics(pattern))
    }

    /// Subscribes to the server's own topic of registrations, and fetches the list of who is there.
    pub(super) fn attend_presence(
        &self,
        caller: &mut Caller,
        lists: &Arc<Lists>,
    ) -> Result<Subscriber, SubscribeError> {
        self.begin(caller, What::Presence(Arc::clone(lists)))
    }

    /// Subscribes to the server's own topic of copies, with at least so many bytes of each payload.
    pub(super) fn tap(&self, caller: &mut Caller, most: usize) -> Result<Subscriber, SubscribeError> {
        let most = most.min(MOST_COPIED) as u16;
        self.begin(caller, What::Tap { most })
    }

    fn begin(&self, caller: &mut Caller, what: What) -> Result<Subscriber, SubscribeError> {
        let deadline = deadline_in(self.timeout.unwrap_or(caller.timeout));
        let links = Arc::clone(&caller.session().links);
        let strategy = self.wait.unwrap_or(links.place.wait);
        let waits = Waits { may_sleep: strategy != WaitStrategy::Spin, arms: self.arms };
        let figures = links.topics.figures.clone();
        let subscription =
            Subscription::new(what, self.policy, waits, self.history, figures).map_err(|source| {
                SubscribeError::System { action: "make a word that forks do not copy", source }
            })?;
        let subscription = Arc::new(subscription);
        if let Some(reconnector) = &caller.calls.registration().reconnector {
            links.topics.registers_again(reconnector);
        }
        let mut subscriber = Subscriber::new(Arc::clone(&subscription), &links.topics, strategy);
        let subscribed = caller
            .ask_registered(deadline, |session| links.topics.subscribe(session, &subscription, deadline));
        // Whatever goes wrong, the drop of the subscriber leaves nothing behind.
        let (session, ()) = subscribed.map_err(|error| explain_why_not(error, caller))?;
        links.topics.subscription_is_made(&subscription);
        if let Some(reason) = subscription.reason() {
            return Err(SubscribeError::Disconnected(reason));
        }
        if self.policy == Policy::Reliable {
            let over = || session.closer.reason().or_else(|| subscription.reason().map(Into::into));
            match subscriber.await_decisions(deadline, || over().is_some()) {
                Ok(None) => {}
                Ok(Some(publisher)) => return Err(SubscribeError::NotReliable { publisher }),
                Err(()) => {
                    return Err(over().map_or(SubscribeError::TimedOut, |reason| {
                        SubscribeError::Disconnected(reason.into())
                    }));
                }
            }
        }
        Ok(subscriber)
    }
}

fn explain_why_not(unanswered: Unanswered, caller: &Caller) -> SubscribeError {
    match unanswered {
        Unanswered::TimedOut => SubscribeError::TimedOut,
        Unanswered::Ended(reason) => SubscribeError::Disconnected(reason),
        Unanswered::Dial(DialError::Refused(Refusal::Quota, why)) => SubscribeError::Quota(why),
        Unanswered::Dial(DialError::Refused(Refusal::AgainstRules | Refusal::NotAllowed, why)) => {
            SubscribeError::NotAllowed(why)
        }
        Unanswered::Dial(DialError::Refused(
            Refusal::Unknown | Refusal::InvalidName | Refusal::NoResources,
            why,
        )) => SubscribeError::Refused(why),
        Unanswered::Dial(DialError::Io(source)) => {
            SubscribeError::System { action: "ask the server to subscribe", source }
        }
        Unanswered::Dial(error) => {
            SubscribeError::Server(explain(error, &caller.session().links.place.path, None))
        }
    }
}
