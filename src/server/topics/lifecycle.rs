//! `Topics`: the table, the queues and the server's own topic, and what comes to its end in them.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::presence::Presence;
use super::queues::{Queues, Waiting};
use super::stand_in::{StandIns, ended};
use super::table::{EndedPublication, Id, Progress, Table};
use super::taps::Taps;
use crate::connect::topics::Part;
use crate::connect::{Ask, Proof, Refusal};
use crate::os::descriptors::Ours;
use crate::server::access::Gate;
use crate::server::answers::{Declined, conclude, declined, member_of, process_of};
use crate::server::connections::{ConnectionId, Connections, State};
use crate::server::events::{Event, TopicChange};
use crate::server::kicks::kept_from;
use crate::server::member::Member;
use crate::server::processes::nearly_the_last;
use crate::server::shared::Shared;
use crate::testing::failpoints::failpoint;
use crate::wire::{Key, Peer, Topic};

/// When pairs that could not be made are tried again, whatever happens.
const RETRY: Duration = Duration::from_secs(1);

/// A user gets no more of the acceptor's time for matching topics and patterns than one part in so many.
const SHARE_OF_TIME: u32 = 8;

/// All that the server knows of topics.
pub(in crate::server) struct Topics {
    pub(super) shared: Arc<Shared>,
    pub(super) table: Table,
    pub(super) queues: Queues,
    /// Made when it is asked for.
    pub(super) presence: Option<Presence>,
    /// There only while somebody taps.
    pub(super) taps: Option<Taps>,
    /// Pairs that could not be made for lack of resources: publication and subscription.
    pub(super) starved: BTreeSet<(Id, Id)>,
    retry: Option<Instant>,
    /// What subscribers get in place of publishers' processes, where there are no pidfds.
    pub(super) stand_ins: StandIns,
}

impl Topics {
    pub(in crate::server) fn new(shared: Arc<Shared>) -> Topics {
        Topics {
            table: Table::behind(Gate::new(Arc::clone(&shared))),
            shared,
            queues: Queues::default(),
            presence: None,
            taps: None,
            starved: BTreeSet::new(),
            retry: None,
            stand_ins: StandIns::default(),
        }
    }

    /// Answers what is asked about topics. Gives back what is to be asked again, because others are to be
    /// heard first.
    pub(in crate::server) fn answer(
        &mut self,
        connections: &mut Connections,
        id: ConnectionId,
        ask: Ask,
    ) -> Option<Ask> {
        match ask {
            Ask::Publish { proof, publish } => self.publish(connections, id, &proof, publish),
            Ask::Published { proof, publication } => self.published(connections, id, &proof, publication),
            Ask::Subscribe { proof, subscribe } => self.subscribe(connections, id, &proof, subscribe),
            Ask::Leave { proof, id: of } => self.leave(connections, id, &proof, of),
            Ask::Attend(proof) => self.attend(connections, id, &proof),
            Ask::Part(proof) if !self.part(connections, id, &proof) => return Some(ask),
            Ask::Part(_) => {}
            Ask::Topics { from } => self.list(connections, id, from),
            Ask::Presence { proof, waits } => self.presence(connections, id, &proof, waits),
            Ask::Tap { proof, waits, most } => self.tap(connections, id, &proof, waits, most),
            _ => unreachable!("others answer the rest"),
        }
        None
    }

    pub(super) fn member_of(
        &self,
        connections: &Connections,
        id: ConnectionId,
        proof: &Proof,
    ) -> Result<Arc<Member>, Declined> {
        member_of(&self.shared, connections, id, proof)
    }

    pub(super) fn conclude(
        &self,
        connections: &mut Connections,
        id: ConnectionId,
        answered: Result<(), Declined>,
    ) {
        conclude(&self.shared, connections, id, "a topic or a subscription was refused", answered);
    }

    /// Tells an event, if messages are told.
    pub(super) fn tell(&self, client: Peer, topic: &Topic, change: TopicChange) {
        if self.shared.events.wants_messages() {
            self.shared.events.tell(Event::Topic { client, topic: topic.clone(), change });
        }
    }

    /// Counts how long a user's topic or pattern kept this thread.
    pub(super) fn charge(&self, uid: u32, since: Instant) {
        self.shared.ledger.slow_down(uid, since.elapsed() * SHARE_OF_TIME);
    }

    /// Whether a descriptor shows that too few are left for clients that register.
    pub(super) fn leaves_too_few(&self, descriptor: impl AsFd, uid: u32) -> bool {
        nearly_the_last(descriptor, kept_from(&self.shared, uid))
    }

    // ---- pairs

    /// A pair could not be made. It is tried again, later at least.
    pub(super) fn retry_later(&mut self) {
        self.retry.get_or_insert_with(|| Instant::now() + RETRY);
    }

    /// Lets these pairs be tried again, and rings their subscribers.
    pub(super) fn wake(&mut self, pairs: impl IntoIterator<Item = (Id, Id)>) {
        let again = pairs
            .into_iter()
            .filter_map(|(subscription, publication)| self.table.try_again(subscription, publication));
        let keys: BTreeSet<Key> = again.collect();
        self.ring(&keys);
    }

    pub(super) fn ring(&self, keys: &BTreeSet<Key>) {
        keys.iter().for_each(|key| self.queues.ring(*key));
    }

    /// Parts were taken out of a publisher's queue.
    pub(super) fn has_room_again(&mut self, publisher: Key) {
        let deferred = self.queues.take_deferred(publisher);
        self.wake(deferred);
    }

    // ---- ends

    /// Ends a client's publication or subscription. False if it has none with this number.
    pub(super) fn end(&mut self, connections: &Connections, member: &Member, id: Id) -> bool {
        let key = member.peer.key;
        if self.table.is_publication_of(id, key) {
            let known = self.table.process_of(key);
            let process =
                || known.or_else(|| Some(Arc::new(Ours::new(process_of(connections, member, ended).ok()?))));
            self.end_publication(id, process);
        } else if self.table.is_subscription_of(id, key) {
            self.end_subscriptions([id]);
        } else {
            let tapped = self.taps.as_mut().is_some_and(|taps| taps.topic.leave(id, key));
            self.end_taps();
            return tapped || self.presence.as_mut().is_some_and(|presence| presence.topic.leave(id, key));
        }
        true
    }

    fn end_publication(&mut self, id: Id, process: impl FnOnce() -> Option<Arc<Ours>>) {
        let Some(publication) = self.table.publication(id) else { return };
        let (publisher, topic) = (publication.publisher, publication.publish.topic.clone());
        let EndedPublication { was_open, tickets, deferred, taken, mut keys } =
            self.table.end_publication(id, process, Instant::now());
        failpoint!("topic.dropped", [server], seldom);
        for ticket in tickets {
            self.queues.remove(publisher.key, ticket);
        }
        for subscription in deferred {
            self.queues.forget(publisher.key, subscription, id);
            self.starved.remove(&(id, subscription));
        }
        for (key, subscription) in taken {
            self.queues.tell_end(key, subscription, id);
            keys.insert(key);
        }
        failpoint!("topic.over", [server], seldom);
        if was_open {
            self.tell(publisher, &topic, TopicChange::Ended);
        }
        self.ring(&keys);
        self.has_room_again(publisher.key);
    }

    fn end_subscriptions(&mut self, ids: impl IntoIterator<Item = Id>) {
        // Each publisher is rung once, however many of them it has.
        let (mut told, mut has_room) = (BTreeSet::new(), BTreeSet::new());
        for id in ids {
            self.end_subscription(id, &mut told, &mut has_room);
        }
        self.ring(&told);
        has_room.into_iter().for_each(|key| self.has_room_again(key));
    }

    fn end_subscription(&mut self, id: Id, told: &mut BTreeSet<Key>, has_room: &mut BTreeSet<Key>) {
        let Some(Peer { key: subscriber, uid, .. }) = self.table.subscription(id).map(|at| at.subscriber)
        else {
            return;
        };
        self.queues.forget_ends(subscriber, id);
        for (publication, progress) in self.table.end_subscription(id) {
            let Some(at) = self.table.publication(publication) else { continue };
            let Peer { key, uid: publisher, .. } = at.publisher;
            match progress {
                Progress::Deferred => {
                    self.queues.forget(key, id, publication);
                    self.starved.remove(&(publication, id));
                }
                Progress::Waits(ticket) => {
                    self.queues.remove(key, ticket);
                    has_room.insert(key);
                }
                Progress::Taken => {
                    let left = Part::Left { publication, subscription: id };
                    let waiting = Waiting::new(left, Vec::new(), uid, Instant::now());
                    self.queues.push((key, publisher), waiting);
                    failpoint!("subscription.told", [server], seldom);
                    told.insert(key);
                }
                Progress::Lost => {}
            }
        }
    }

    /// The process of a client that is about to be forgotten, if it publishes: who reads its topics to their
    /// end gets it.
    pub(in crate::server) fn process_of(
        &self,
        connections: &Connections,
        id: ConnectionId,
    ) -> Option<OwnedFd> {
        let State::Registered(member) = &connections.get(id)?.state else { return None };
        if !self.table.publishes(member.peer.key) {
            return None;
        }
        connections.pidfd(id).or_else(|| process_of(connections, member, ended).ok())
    }

    /// A client is gone. Its process is needed if it has published.
    pub(in crate::server) fn left(&mut self, key: Key, process: Option<OwnedFd>) {
        // Its subscriptions first, so that nothing is told to them.
        let (publications, subscriptions) = self.table.of(key);
        self.end_subscriptions(subscriptions);
        let process = process.map(|process| Arc::new(Ours::new(process)));
        publications.into_iter().for_each(|id| self.end_publication(id, || process.clone()));
        failpoint!("topics.left", [server], seldom);
        self.queues.left(key);
        self.stand_ins.remove(key);
        if let Some(presence) = &mut self.presence {
            presence.topic.left(key);
        }
        if let Some(taps) = &mut self.taps {
            taps.topic.left(key);
            self.end_taps();
        }
    }

    /// If nobody taps any more, nothing is copied any more.
    pub(super) fn end_taps(&mut self) {
        if let Some(taps) = &self.taps {
            taps.topic.forget_evictions();
            if taps.topic.len() == 0 {
                self.taps = None;
            }
        }
    }

    /// When [`look_after`](Self::look_after) has something to do.
    pub(in crate::server) fn due(&mut self) -> Option<Instant> {
        [self.retry, self.table.due()].into_iter().flatten().min()
    }

    /// Drops what nobody sealed or took in time, tries again what could not be done, and tells of
    /// registrations.
    pub(in crate::server) fn look_after(&mut self, now: Instant) {
        if self.table.expire(now) > 0 {
            failpoint!("topic.expired", [server], waiting);
        }
        if self.retry.is_some_and(|retry| retry <= now) {
            self.retry = None;
            let starved =
                std::mem::take(&mut self.starved).into_iter().map(|(publication, by)| (by, publication));
            let deferred = self.queues.take_all_deferred();
            self.wake(starved.chain(deferred));
        }
        self.tell_presence();
    }

    /// Publishes who registered and who vanished.
    pub(in crate::server) fn tell_presence(&mut self) {
        if let Some(presence) = &mut self.presence {
            presence.publish(&self.shared.roll.take());
        }
    }

    /// Drops all publications, subscriptions, and what waits: the server ends. Publishers and subscribers go
    /// on with what they have. Registrations are told until the last client is gone.
    pub(in crate::server) fn clear(&mut self) {
        (self.table, self.starved, self.retry) = (Table::default(), BTreeSet::new(), None);
        self.queues.clear();
        self.stand_ins.clear();
    }

    /// The server has ended.
    pub(in crate::server) fn finish(&mut self) {
        self.tell_presence();
        (self.presence, self.taps) = (None, None);
    }

    /// Whether it has neither a line nor a descriptor, but for the server's own topic, and those that have
    /// ended and may still be taken for a while.
    #[cfg(fuzzing)]
    pub(in crate::server) fn is_empty(&self) -> bool {
        self.table.is_at_rest()
            && self.queues.is_empty()
            && self.presence.as_ref().is_none_or(|presence| presence.topic.len() == 0)
            && self.taps.is_none()
    }
}

/// The refusal of an answer whose descriptors other code of this process has closed.
pub(super) fn closed_by_others() -> Declined {
    let why = "the server's process has closed the topic's descriptor: publish it again";
    declined(Refusal::NoResources, why)
}
