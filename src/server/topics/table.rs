//! The table of topics: who publishes and who subscribes, which of them match, and which pairs were taken.
//!
//! A subscription that matches a thousand publishers must not cost a thousand lines before anybody takes
//! them. So the table keeps a *log* of publications, in the order in which they were published, and each
//! subscription remembers how far it has looked at the log. What is behind that waits for it. A line of its
//! own has only a *pair* of a publication and a subscription that was taken, or that could not be made yet;
//! it is paid for by the subscriber's user.
//!
//! A publication that has ended stays in the log for a while if a subscription that matched it has not taken
//! it: what was published must be read by those who subscribed before, however short the publisher lived.
//!
//! Long because each of its steps changes several of its maps, which no other code may see in between.

#![forbid(unsafe_code)]

mod ended;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::time::Instant;

use super::queues::Ticket;
use crate::connect::topics::{Publish, Subscribe, TopicInfo};
use crate::connect::{TopicFigures, is_root, same_user};
use crate::os::descriptors::Ours;
use crate::server::access::Gate;
use crate::server::quotas::TopicShare;
use crate::topic::{Published as Samples, Shape, published};
use crate::wire::{HELLO_TIME, Key, Peer, Policy, Topic};

/// How many publications are looked at for one question before others are heard.
pub(super) const LOOKED_AT: usize = 512;

/// The number of a publication or a subscription, and the time at which something happened. None is used
/// twice.
pub(super) type Id = u64;

#[derive(Debug, Default)]
pub(super) struct Table {
    last: Id,
    publications: BTreeMap<Id, Publication>,
    subscriptions: HashMap<Id, Subscription>,
    /// What was published and may still be taken, by when it was.
    log: BTreeMap<Id, Id>,
    clients: HashMap<Key, Client>,
    /// When offers and publications that have ended are dropped, in order.
    due: VecDeque<(Instant, Id)>,
    /// Publications that have ended and are still there, the oldest first.
    ended: VecDeque<Id>,
    /// Whether a subscription may take a topic that matches.
    gate: Gate,
    /// Publications that matched a subscription that may not take them.
    closed: Vec<Id>,
}

#[derive(Debug)]
pub(super) struct Publication {
    pub(super) publisher: Peer,
    pub(super) publish: Publish,
    pub(super) shape: Shape,
    /// Until it is published, a descriptor that can be written; then one that cannot.
    pub(super) segment: Option<Ours>,
    pub(super) state: State,
    made: Instant,
    due: Option<Instant>,
    /// The subscriptions with which it has a pair.
    pairs: BTreeSet<Id>,
    /// How many subscriptions have matched it and not taken it, or more: those that have ended count on.
    awaited: usize,
    /// How many pages were made for it.
    pages: usize,
    _share: TopicShare,
}

#[derive(Debug)]
pub(super) enum State {
    /// The publisher has not sealed it.
    Offered,
    Open {
        published: Id,
    },
    /// Its publisher has ended it, whose process this is. Those may take it who subscribed before.
    Ended {
        published: Id,
        ended: Id,
        process: Arc<Ours>,
    },
}

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) subscriber: Peer,
    pub(super) subscribe: Subscribe,
    /// It has looked at the log up to here.
    cursor: Id,
    /// It is among its client's hungry ones.
    is_hungry: bool,
    /// Publications with which a pair could not be made, and is to be tried again.
    again: BTreeSet<Id>,
    pairs: HashMap<Id, Pair>,
    _share: TopicShare,
}

/// A publication and a subscription that match.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) progress: Progress,
    _share: TopicShare,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It could not be made yet.
    Deferred,
    /// The subscriber has taken it, and the publisher's part waits with this ticket.
    Waits(Ticket),
    /// The publisher has taken it, too.
    Taken,
    /// The publisher did not take it in time.
    Lost,
}

#[derive(Debug, Default)]
struct Client {
    publications: BTreeSet<Id>,
    subscriptions: BTreeSet<Id>,
    /// Subscriptions for which something waits, or may. The first is the next.
    hungry: VecDeque<Id>,
}

/// What waits for a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// This publication, for this subscription.
    Pair {
        subscription: Id,
        publication: Id,
    },
    Nothing,
    /// There may be something, but enough was looked at.
    Later,
}

/// What came of a publication.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// The clients whose subscriptions it matches.
    pub(super) keys: BTreeSet<Key>,
    /// How many of these subscriptions want it to wait for them.
    pub(super) reliable: u32,
}

/// What has come to its end with a publication.
#[derive(Debug, Default)]
pub(super) struct EndedPublication {
    /// Whether it was published at all.
    pub(super) was_open: bool,
    /// The tickets of parts that wait for its publisher.
    pub(super) tickets: Vec<Ticket>,
    /// The subscriptions of pairs that were deferred.
    pub(super) deferred: Vec<Id>,
    /// The subscriptions that have taken it, and their clients.
    pub(super) taken: Vec<(Key, Id)>,
    /// The clients that may try again to take it.
    pub(super) keys: BTreeSet<Key>,
}

impl Publication {
    /// Whether a user may subscribe.
    fn admits(&self, uid: u32) -> bool {
        let users = &self.publish.users;
        users.is_empty() || users.iter().any(|user| same_user(*user, uid))
    }

    fn matches(&self, subscriber: &Peer, subscribe: &Subscribe) -> bool {
        self.admits(subscriber.uid) && subscribe.pattern.matches(&self.publish.topic)
    }

    /// When it was published, if it was before it ended.
    pub(super) fn published(&self) -> Option<Id> {
        match self.state {
            State::Offered => None,
            State::Open { published } | State::Ended { published, .. } => Some(published),
        }
    }

    fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Whether a subscription may take it: as long as it has not ended, any; then those that were there
    /// before.
    fn is_there_for(&self, subscription: Id) -> bool {
        match self.state {
            State::Offered => false,
            State::Open { .. } => true,
            State::Ended { ended, .. } => subscription < ended,
        }
    }

    /// The line at which the words of the next page begin: another one for each, in turn.
    pub(super) fn next_line(&mut self, lines: u16) -> u16 {
        self.pages += 1;
        (self.pages % usize::from(lines)) as u16
    }
}

impl Table {
    /// A table whose subscriptions take only what the gate lets them.
    pub(super) fn behind(gate: Gate) -> Table {
        Table { gate, ..Table::default() }
    }

    /// The number of the next publication or subscription, or of what happens next.
    pub(super) fn next_id(&mut self) -> Id {
        self.last += 1;
        self.last
    }

    pub(super) fn publication(&mut self, id: Id) -> Option<&mut Publication> {
        self.publications.get_mut(&id)
    }

    pub(super) fn subscription(&self, id: Id) -> Option<&Subscription> {
        self.subscriptions.get(&id)
    }

    /// Whether a client has offered or published a topic of this name.
    pub(super) fn has(&self, key: Key, publish: &Publish) -> bool {
        let own = self.clients.get(&key).into_iter().flat_map(|client| &client.publications);
        own.filter_map(|id| self.publications.get(id)).any(|own| own.publish.topic == publish.topic)
    }

    pub(super) fn publishes(&self, key: Key) -> bool {
        self.clients.get(&key).is_some_and(|client| !client.publications.is_empty())
    }

    /// Whether this is a publication of that client, in its hands.
    pub(super) fn is_publication_of(&self, id: Id, key: Key) -> bool {
        self.clients.get(&key).is_some_and(|client| client.publications.contains(&id))
    }

    pub(super) fn is_subscription_of(&self, id: Id, key: Key) -> bool {
        self.clients.get(&key).is_some_and(|client| client.subscriptions.contains(&id))
    }

    // ---- publications

    /// Notes a topic whose publisher is about to seal it.
    pub(super) fn offer(
        &mut self,
        publisher: Peer,
        publish: Publish,
        shape: Shape,
        segment: Ours,
        share: TopicShare,
        now: Instant,
    ) -> Id {
        let (id, due) = (self.next_id(), now + HELLO_TIME);
        let publication = Publication {
            publisher,
            publish,
            shape,
            segment: Some(segment),
            state: State::Offered,
            made: now,
            due: Some(due),
            pairs: BTreeSet::new(),
            awaited: 0,
            pages: 0,
            _share: share,
        };
        self.publications.insert(id, publication);
        self.due.push_back((due, id));
        self.clients.entry(publisher.key).or_default().publications.insert(id);
        id
    }

    /// The topic is there from now on, with a descriptor that can only be read.
    pub(super) fn open(&mut self, id: Id, segment: Ours) -> Published {
        let published = self.next_id();
        let Some(publication) = self.publications.get_mut(&id) else { return Published::default() };
        (publication.segment, publication.due) = (Some(segment), None);
        publication.state = State::Open { published };
        self.log.insert(published, id);
        let mut found = Published::default();
        for (subscription, Subscription { subscriber, subscribe, is_hungry, .. }) in &mut self.subscriptions {
            if !publication.matches(subscriber, subscribe) {
                continue;
            }
            // Also if it is closed to the subscription: that passes over it when it comes to it.
            publication.awaited += 1;
            if self.gate.is_open(subscriber, &publication.publish.topic) {
                found.reliable += u32::from(subscribe.policy == Policy::Reliable);
                found.keys.insert(subscriber.key);
            }
            if !std::mem::replace(is_hungry, true) {
                self.clients.entry(subscriber.key).or_default().hungry.push_back(*subscription);
            }
        }
        found
    }

    /// If a publication is there: how many subscriptions match that want it to wait for them.
    pub(super) fn reliable_if_open(&self, id: Id) -> Option<u32> {
        let publication = self.publications.get(&id).filter(|publication| publication.is_open())?;
        let wants = |subscription: &&Subscription| {
            let Subscription { subscriber, subscribe, .. } = subscription;
            subscribe.policy == Policy::Reliable
                && publication.matches(subscriber, subscribe)
                && self.gate.is_open(subscriber, &publication.publish.topic)
        };
        Some(self.subscriptions.values().filter(wants).count() as u32)
    }

    /// Ends a publication. If subscriptions have not taken it that may, it stays for them, as long as the
    /// publisher's process is known and nobody needs the place.
    pub(super) fn end_publication(
        &mut self,
        id: Id,
        process: impl FnOnce() -> Option<Arc<Ours>>,
        now: Instant,
    ) -> EndedPublication {
        let ended = self.next_id();
        let Some(publication) = self.publications.get_mut(&id) else { return EndedPublication::default() };
        let (key, uid) = (publication.publisher.key, publication.publisher.uid);
        let pairs = std::mem::take(&mut publication.pairs);
        let (published, process) = match publication.state {
            State::Open { published } if publication.awaited > 0 => (Some(published), process()),
            State::Open { published } => (Some(published), None),
            _ => (None, None),
        };
        let stays = process.is_some();
        if let (Some(published), Some(process)) = (published, process) {
            publication.state = State::Ended { published, ended, process };
            publication.due = Some(now + HELLO_TIME);
            self.due.push_back((now + HELLO_TIME, id));
        } else {
            self.publications.remove(&id);
            published.map(|published| self.log.remove(&published));
        }
        if let Some(client) = self.clients.get_mut(&key) {
            client.publications.remove(&id);
            self.forget_if_idle(key);
        }
        if stays {
            self.make_room_for_ended(uid);
            self.ended.push_back(id);
        }
        let mut found = EndedPublication { was_open: published.is_some(), ..EndedPublication::default() };
        for subscription in pairs {
            let Some(at) = self.subscriptions.get_mut(&subscription) else { continue };
            let Some(pair) = at.pairs.remove(&id) else { continue };
            if pair.progress != Progress::Deferred {
                found.taken.push((at.subscriber.key, subscription));
            }
            match pair.progress {
                Progress::Waits(ticket) => found.tickets.push(ticket),
                Progress::Deferred => {
                    found.deferred.push(subscription);
                    if stays {
                        found.keys.extend(self.try_again(subscription, id));
                    }
                }
                Progress::Taken | Progress::Lost => {}
            }
        }
        found
    }

    // ---- subscriptions

    /// Notes a subscription. Returns its number, and how many publications match it now and are open to it.
    pub(super) fn subscribe(
        &mut self,
        subscriber: Peer,
        subscribe: Subscribe,
        share: TopicShare,
    ) -> (Id, u32) {
        let id = self.next_id();
        let (mut is_hungry, mut open) = (false, 0);
        for publication in self.publications.values_mut().filter(|publication| publication.is_open()) {
            if publication.matches(&subscriber, &subscribe) {
                publication.awaited += 1;
                is_hungry = true;
                open += u32::from(self.gate.is_open(&subscriber, &publication.publish.topic));
            }
        }
        let client = self.clients.entry(subscriber.key).or_default();
        client.subscriptions.insert(id);
        if is_hungry {
            client.hungry.push_back(id);
        }
        let (again, pairs) = (BTreeSet::new(), HashMap::new());
        let subscription =
            Subscription { subscriber, subscribe, cursor: 0, is_hungry, again, pairs, _share: share };
        self.subscriptions.insert(id, subscription);
        (id, open)
    }

    /// Ends a subscription. Returns its pairs.
    pub(super) fn end_subscription(&mut self, id: Id) -> Vec<(Id, Progress)> {
        let Some(subscription) = self.subscriptions.remove(&id) else { return Vec::new() };
        let key = subscription.subscriber.key;
        if let Some(client) = self.clients.get_mut(&key) {
            client.subscriptions.remove(&id);
            if subscription.is_hungry {
                client.hungry.retain(|hungry| *hungry != id);
            }
            self.forget_if_idle(key);
        }
        let pairs = subscription.pairs.into_iter().map(|(publication, pair)| {
            if let Some(publication) = self.publications.get_mut(&publication) {
                publication.pairs.remove(&id);
            }
            (publication, pair.progress)
        });
        pairs.collect()
    }

    fn forget_if_idle(&mut self, key: Key) {
        let is_idle = |client: &Client| client.publications.is_empty() && client.subscriptions.is_empty();
        if self.clients.get(&key).is_some_and(is_idle) {
            self.clients.remove(&key);
        }
    }

    // ---- what a subscriber takes

    /// What waits for a client: of the subscription whose turn it is, what was published first.
    pub(super) fn next(&mut self, key: Key) -> Next {
        let Some(client) = self.clients.get_mut(&key) else { return Next::Nothing };
        let mut looked_at = 0;
        while let Some(id) = client.hungry.front().copied() {
            let Some(subscription) = self.subscriptions.get_mut(&id) else {
                client.hungry.pop_front();
                continue;
            };
            let mut found = None;
            while let Some(again) = subscription.again.pop_first() {
                looked_at += 1;
                if self.publications.get(&again).is_some_and(|publication| publication.is_there_for(id)) {
                    found = Some(again);
                    break;
                }
            }
            if found.is_none() {
                let Subscription { subscriber, subscribe, cursor, .. } = &mut *subscription;
                for (published, publication) in self.log.range((Excluded(*cursor), Unbounded)) {
                    if looked_at >= LOOKED_AT {
                        return Next::Later;
                    }
                    looked_at += 1;
                    *cursor = *published;
                    let is_it = |at: &&Publication| at.is_there_for(id) && at.matches(subscriber, subscribe);
                    let Some(at) = self.publications.get(publication).filter(is_it) else { continue };
                    if self.gate.is_open(subscriber, &at.publish.topic) {
                        found = Some(*publication);
                        break;
                    }
                    self.closed.push(*publication);
                }
            }
            client.hungry.pop_front();
            match found {
                Some(publication) => {
                    client.hungry.push_back(id);
                    return Next::Pair { subscription: id, publication };
                }
                None => subscription.is_hungry = false,
            }
        }
        Next::Nothing
    }

    /// The topics that the last questions have passed over, because they are closed to who asked.
    pub(super) fn passed_over(&mut self) -> Vec<Topic> {
        let closed = std::mem::take(&mut self.closed);
        let topics = closed.into_iter().filter_map(|id| {
            let topic = self.publications.get(&id)?.publish.topic.clone();
            self.is_served(id);
            Some(topic)
        });
        topics.collect()
    }

    /// Whether something may wait for a client that subscribes.
    pub(super) fn is_hungry(&self, key: Key) -> bool {
        self.clients.get(&key).is_some_and(|client| !client.hungry.is_empty())
    }

    /// A pair is to be tried again. Returns the subscriber's key.
    pub(super) fn try_again(&mut self, subscription: Id, publication: Id) -> Option<Key> {
        let at = self.subscriptions.get_mut(&subscription)?;
        at.again.insert(publication);
        let key = at.subscriber.key;
        if !std::mem::replace(&mut at.is_hungry, true) {
            self.clients.entry(key).or_default().hungry.push_back(subscription);
        }
        Some(key)
    }

    /// How far a pair has come, if there is one.
    pub(super) fn progress(&self, subscription: Id, publication: Id) -> Option<Progress> {
        self.subscriptions.get(&subscription)?.pairs.get(&publication).map(|pair| pair.progress)
    }

    /// Notes a pair of a publication that has not ended.
    pub(super) fn add_pair(&mut self, subscription: Id, publication: Id, share: TopicShare) {
        if let Some(subscriptions) = self.publications.get_mut(&publication).map(|at| &mut at.pairs)
            && let Some(at) = self.subscriptions.get_mut(&subscription)
        {
            subscriptions.insert(subscription);
            at.pairs.insert(publication, Pair { progress: Progress::Deferred, _share: share });
        }
    }

    pub(super) fn set_progress(&mut self, subscription: Id, publication: Id, progress: Progress) {
        let at = self.subscriptions.get_mut(&subscription);
        if let Some(pair) = at.and_then(|at| at.pairs.get_mut(&publication)) {
            pair.progress = progress;
        }
    }

    /// A subscription has taken a publication, or never will. If that has ended and nobody else awaits it, it
    /// is dropped.
    pub(super) fn is_served(&mut self, publication: Id) {
        let Some(at) = self.publications.get_mut(&publication) else { return };
        at.awaited = at.awaited.saturating_sub(1);
        if at.awaited == 0 && matches!(at.state, State::Ended { .. }) {
            self.drop_publication(publication);
        }
    }

    // ---- clients, and pages

    /// The publications and subscriptions of a client.
    pub(super) fn of(&self, key: Key) -> (Vec<Id>, Vec<Id>) {
        let ids = |ids: &BTreeSet<Id>| ids.iter().copied().collect();
        self.clients
            .get(&key)
            .map_or_else(Default::default, |client| (ids(&client.publications), ids(&client.subscriptions)))
    }

    /// Topics in the order of their numbers, starting at one, as many as `most`, or fewer. If there may be
    /// more, also gives the number at which to go on. A topic that is restricted to some users is shown to
    /// them, to its publisher's user, to root and to the server's own user `own`.
    pub(super) fn page(&self, from: Id, most: usize, uid: u32, own: u32) -> (Vec<TopicInfo>, Option<Id>) {
        self.page_of(from, most, uid, own, |info, _| info)
    }

    /// The same topics, with what was published.
    pub(super) fn figures(
        &self,
        from: Id,
        most: usize,
        uid: u32,
        own: u32,
    ) -> (Vec<TopicFigures>, Option<Id>) {
        self.page_of(from, most, uid, own, |info, publication| {
            let segment = publication.segment.as_ref().filter(|segment| segment.is_ours());
            let read = segment.and_then(|segment| published(segment, &publication.shape).ok());
            let Samples { samples, bytes } = read.unwrap_or_default();
            TopicFigures { info, samples, bytes }
        })
    }

    fn page_of<T>(
        &self,
        from: Id,
        most: usize,
        uid: u32,
        own: u32,
        tell: impl Fn(TopicInfo, &Publication) -> T,
    ) -> (Vec<T>, Option<Id>) {
        let now = Instant::now();
        let mut topics = Vec::new();
        for (looked_at, (id, publication)) in self.publications.range(from..).enumerate() {
            if topics.len() == most || looked_at == LOOKED_AT {
                return (topics, Some(*id));
            }
            let Publication { publisher, publish, shape, made, pairs, .. } = publication;
            let is_shown = is_root(uid)
                || same_user(uid, own)
                || same_user(uid, publisher.uid)
                || publication.admits(uid);
            if publication.is_open() && is_shown {
                let info = TopicInfo {
                    id: *id,
                    topic: publish.topic.clone(),
                    publisher: publisher.name,
                    subscriptions: pairs.len() as u32,
                    age: now.saturating_duration_since(*made),
                    ring_size: shape.ring_size(),
                };
                topics.push(tell(info, publication));
            }
        }
        (topics, None)
    }

    /// Whether nothing is noted but what has ended and may still be taken for a while.
    #[cfg(fuzzing)]
    pub(super) fn is_at_rest(&self) -> bool {
        self.publications.len() == self.ended.len()
            && self.subscriptions.is_empty()
            && self.clients.is_empty()
    }

    /// Whether nothing is noted.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.publications.is_empty()
            && self.subscriptions.is_empty()
            && self.log.is_empty()
            && self.clients.is_empty()
            && self.ended.is_empty()
    }
}
