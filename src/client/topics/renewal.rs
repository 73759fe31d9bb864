//! How topics come to a server: the first time, and again after the client has registered again.
//!
//! A client with publishers or subscribers that [registers again](crate::Reconnect) does so on a thread of
//! its own, which lives until that is done: a publisher must not be held up by it, and a subscriber may be
//! waiting in an event loop.

#![forbid(unsafe_code)]

use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::publication::Publication;
use super::set::{Homeless, PATIENCE_OF_DROP, Topics};
use super::subscription::{Subscription, What};
use crate::client::reconnect::Reconnector;
use crate::client::session::{Session, ask_anew, deadline_in};
use crate::connect::dial::DialError;
use crate::connect::topics::{Granted, Part, Subscribe, Subscribed};
use crate::connect::{Ask, Refusal};
use crate::os::threads;
use crate::shm::View;
use crate::testing::failpoints::failpoint;
use crate::topic::{Shape, publish_on};

/// How long a publisher keeps its first samples for reliable subscribers that are about to be attached.
const EXPECTED_WITHIN: Duration = Duration::from_secs(1);

/// The pauses before a server that did not take a topic is asked again, from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long the server has for that.
const PATIENCE: Duration = Duration::from_secs(5);

impl Topics {
    /// Has the server take a publication. `begin` gets the memory, before anybody can subscribe to it.
    pub(super) fn publish(
        self: &Arc<Self>,
        session: &Arc<Session>,
        publication: &Arc<Publication>,
        deadline: Instant,
        begin: impl FnOnce(View, Shape),
    ) -> Result<(), DialError> {
        self.attend(session, deadline)?;
        let proof = session.proof();
        let ask = Ask::Publish { proof, publish: publication.as_asked() };
        let (line, answer) = ask_anew(&self.path, deadline, |line| {
            let answer = line.ask(&ask, deadline)?;
            Ok((line, answer))
        })?;
        failpoint!("publish.granted", [topic], seldom);
        let granted = Granted::decode(&answer.body).ok_or(DialError::NotRingpost)?;
        if publication.wanted_size().is_some_and(|wanted| wanted != granted.ring_size) {
            return Err(DialError::NotRingpost);
        }
        let shape = usize::try_from(granted.ring_size).ok().and_then(|size| Shape::new(size).ok());
        let shape = shape.ok_or(DialError::NotRingpost)?;
        let mut came = answer.descriptors;
        let sealed = came.next_if(|segment| publish_on(segment, &shape).ok());
        let (segment, view) = sealed.ok_or(DialError::NotRingpost)?;
        drop(segment);
        failpoint!("publish.sealed", [topic], seldom);
        begin(view, shape);
        if !self.add_publication(session, granted.publication, publication) {
            return Err(not_registered());
        }
        let ask = Ask::Published { proof, publication: granted.publication };
        let answer = match line.ask(&ask, deadline) {
            // The server may have heard it, or else it is asked again.
            Err(DialError::NoServer(_)) => ask_anew(&self.path, deadline, |line| line.ask(&ask, deadline)),
            answer => answer,
        };
        failpoint!("publish.published", [topic], seldom);
        let reliable = answer.and_then(|answer| {
            let count = <[u8; 4]>::try_from(&answer.body[..]).map_err(|_| DialError::NotRingpost)?;
            Ok(u32::from_le_bytes(count))
        });
        match reliable {
            Ok(reliable) => {
                publication.audience.expect(reliable, Instant::now() + EXPECTED_WITHIN);
                Ok(())
            }
            Err(error) => {
                self.forget_publication(session, granted.publication, deadline);
                Err(error)
            }
        }
    }

    /// Has the server take a subscription, and fetches the publishers that match.
    pub(super) fn subscribe(
        self: &Arc<Self>,
        session: &Arc<Session>,
        subscription: &Arc<Subscription>,
        deadline: Instant,
    ) -> Result<(), DialError> {
        self.attend(session, deadline)?;
        let _making = self.begin_to_subscribe();
        let proof = session.proof();
        let ask = match &subscription.what {
            What::Topics(pattern) => {
                let Subscription { policy, waits, .. } = **subscription;
                let pattern = pattern.clone();
                Ask::Subscribe { proof, subscribe: Subscribe { policy, waits, pattern } }
            }
            What::Presence(_) => Ask::Presence { proof, waits: subscription.waits },
            What::Tap { most } => Ask::Tap { proof, waits: subscription.waits, most: *most },
        };
        let answer = ask_anew(&self.path, deadline, |line| line.ask(&ask, deadline))?;
        failpoint!("subscription.answered", [topic], seldom);
        subscription.begins_anew();
        let (id, taken) = if !matches!(subscription.what, What::Topics(_)) {
            let Some(Part::Source(source)) = Part::decode(&answer.body) else {
                return Err(DialError::NotRingpost);
            };
            let (id, epoch) = (source.subscription, source.epoch);
            if !subscription.add(source, answer.descriptors) {
                self.leave(&Arc::downgrade(session), id, Instant::now() + PATIENCE_OF_DROP);
                let why = "what the server sent could not be mapped, or not watched: free memory or descriptors, and try again";
                return Err(DialError::Io(io::Error::other(why)));
            }
            if !self.add_subscription(session, id, subscription) {
                return Err(not_registered());
            }
            let listed = match &subscription.what {
                // Behind the place at which the changes begin, so that none of them is left out.
                What::Presence(lists) => lists.fetch(self, session, epoch, deadline),
                _ => Ok(()),
            };
            subscription.tell();
            (id, listed)
        } else {
            let subscribed = Subscribed::decode(&answer.body).ok_or(DialError::NotRingpost)?;
            let id = subscribed.subscription;
            if !self.add_subscription(session, id, subscription) {
                return Err(not_registered());
            }
            let all = u64::from(subscribed.publishers);
            let is_enough = || subscription.came() >= all;
            let taken = match is_enough() {
                true => Ok(()),
                false => self.take_what_waits(session, deadline, is_enough),
            };
            match self.take_refusal().filter(|_| !is_enough()) {
                Some(why) => (id, Err(DialError::Refused(Refusal::Quota, why))),
                None => (id, taken),
            }
        };
        failpoint!("subscribe.taken", [topic], seldom);
        if session.closer.reason().is_some() {
            // The watcher may have noticed before the subscription was there.
            self.registration_has_ended();
        }
        if matches!(taken, Err(DialError::NoServer(_))) {
            // Whoever asks again makes it anew.
            self.forget_subscription(session, id);
        }
        taken
    }

    /// The client has registered again: publishes and subscribes anew. What the server does not take is tried
    /// again later.
    pub(in crate::client) fn renew(self: &Arc<Self>, session: &Arc<Session>, deadline: Instant) {
        let turn = self.begin_to_place(deadline);
        let homeless = self.move_out();
        match turn {
            Some(_turn) => self.find_homes(session, homeless, deadline),
            None => {
                homeless.publications.iter().for_each(|publication| self.keep_publication(publication));
                homeless.subscriptions.iter().for_each(|subscription| self.keep_subscription(subscription));
            }
        }
        // The thread that registers again may have ended while all of them were in these hands.
        self.see_to_the_homeless();
    }

    fn find_homes(self: &Arc<Self>, session: &Arc<Session>, homeless: Homeless, deadline: Instant) {
        // Whoever is dropped meanwhile is neither here nor there when the drop looks for it.
        for publication in homeless.publications {
            if publication.reason().is_some() {
                continue;
            }
            let audience = publication.audience.clone();
            let published = self.publish(session, &publication, deadline, |view, shape| {
                audience.succeed(view, shape);
            });
            if published.is_err() {
                self.keep_publication(&publication);
            }
            if publication.reason().is_some() {
                self.remove_publication(&publication);
            }
        }
        for subscription in homeless.subscriptions {
            if subscription.reason().is_some() {
                continue;
            }
            if self.subscribe(session, &subscription, deadline).is_err() {
                self.keep_subscription(&subscription);
            }
            if subscription.reason().is_some() {
                self.remove_subscription(&subscription);
            }
        }
    }
}

/// The registration has ended meanwhile.
fn not_registered() -> DialError {
    DialError::NoServer(io::ErrorKind::ConnectionReset.into())
}

/// Registers the client again, on a thread of its own. If there can be none, the client's next operation
/// does so.
pub(super) fn begin(topics: Weak<Topics>, reconnector: &Arc<Reconnector>) {
    let reconnector = Arc::clone(reconnector);
    let begun = {
        let topics = topics.clone();
        threads::spawn("rp-register", move || register_again(&topics, &reconnector))
    };
    if begun.is_err()
        && let Some(topics) = topics.upgrade()
    {
        topics.stops_registering();
    }
}

fn register_again(topics: &Weak<Topics>, reconnector: &Reconnector) {
    let mut pause = FIRST_PAUSE;
    loop {
        let registered = reconnector.registered(&|| topics.upgrade().is_none_or(|topics| topics.is_idle()));
        let Some(topics) = topics.upgrade() else { return };
        match registered {
            Ok(session) => {
                let deadline = deadline_in(PATIENCE);
                if let Some(_turn) = topics.begin_to_place(deadline) {
                    let homeless = topics.take_homeless();
                    topics.find_homes(&session, homeless, deadline);
                }
            }
            Err(reason) => topics.run_dry(reason),
        }
        if topics.stops_registering() {
            return;
        }
        drop(topics);
        std::thread::sleep(pause);
        pause = LONGEST_PAUSE.min(2 * pause);
    }
}
