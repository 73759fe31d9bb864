//! What waits for the clients that publish, and the bells by which all clients hear that something waits.
//!
//! A subscriber's side of a pair is made when the subscriber takes it. Then the publisher's side waits until
//! the publisher takes it, and holds descriptors of the server. So how many wait is limited: at one client,
//! of one user's subscribers there, of all subscribers and of all publishers of one user, and in all. A pair
//! for which there is no room is *deferred*, and costs no descriptor: it is tried again when there may be.
//!
//! A publisher that takes nothing must not use up the places of others. What has waited for some seconds
//! gives up its place to whom needs it. That publisher then does not know of the subscription: it does not
//! wait for it, and does not wake it.

#![forbid(unsafe_code)]

use rustix::process::{Resource, getrlimit};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use super::table::Id;
use crate::connect::topics::Part;
use crate::os::descriptors::Ours;
use crate::shm::backend::PipeWriter;
use crate::wire::{HELLO_TIME, Key};

/// How many subscriptions wait for one client that publishes.
pub(crate) const AT_ONE_PUBLISHER: usize = 128;

/// How many of these may be of one user's subscribers.
pub(crate) const OF_ONE_SUBSCRIBER: usize = 64;

/// The descriptors of all that wait are at most this part of those that the process may have.
const PART: u64 = 4;

/// The most descriptors that wait in all, if the process may have any number of them.
const IN_ALL: u64 = 4096;

/// The part of all places that is kept for those who are exempt from quotas: one in so many.
const RESERVE: usize = 8;

/// What one user's subscribers may have of all places, and what may wait for one user's publishers: one in so
/// many. The latter is less, so that no single publisher's user takes all that a subscriber may have.
const OF_SUBSCRIBERS: usize = 4;
const OF_PUBLISHERS: usize = 8;

/// The number of something that waits, in the order in which it came.
pub(super) type Ticket = u64;

/// What waits for a publisher, with its descriptors.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) part: Part,
    descriptors: Vec<Ours>,
    /// The subscriber's user.
    uid: u32,
    since: Instant,
}

impl Waiting {
    pub(super) fn new(part: Part, descriptors: Vec<OwnedFd>, uid: u32, now: Instant) -> Waiting {
        let descriptors = descriptors.into_iter().map(Ours::new).collect();
        Waiting { part, descriptors, uid, since: now }
    }

    /// `None` if other code has closed one of them.
    pub(super) fn descriptors(&self) -> Option<Vec<BorrowedFd<'_>>> {
        let are_ours = self.descriptors.iter().all(Ours::is_ours);
        are_ours.then(|| self.descriptors.iter().map(AsFd::as_fd).collect())
    }

    fn joins(&self) -> bool {
        matches!(self.part, Part::Joined(_))
    }
}

/// A client that attends, or for which something waits.
#[derive(Debug, Default)]
struct Client {
    bell: Option<PipeWriter>,
    parts: BTreeMap<Ticket, Waiting>,
    /// How many of the parts join, in all and of each subscriber's user.
    joining: usize,
    of_users: HashMap<u32, usize>,
    /// Pairs for which there was no room: subscription and publication.
    deferred: BTreeSet<(Id, Id)>,
    /// What it has taken and is to be told the end of: subscription and publication.
    over: BTreeSet<(Id, Id)>,
    /// Whether what it has subscribed to is the next, not what it publishes.
    subscriptions_are_next: bool,
}

/// Whose places are all taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    AtThePublisher,
    OfTheSubscribers,
    OfThePublishers,
    InAll,
}

/// Who is at either side of a pair.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sides {
    pub(super) publisher: (Key, u32),
    /// The subscriber's user.
    pub(super) subscriber: u32,
}

#[derive(Debug, Default)]
pub(super) struct Queues {
    last: Ticket,
    clients: HashMap<Key, Client>,
    /// Where each part that joins waits, the oldest first, and its publisher's user.
    joining: BTreeMap<Ticket, (Key, u32)>,
    /// How many descriptors wait: in all, of each subscriber's user, and for each publisher's.
    descriptors: usize,
    of_subscribers: HashMap<u32, usize>,
    of_publishers: HashMap<u32, usize>,
}

/// How many descriptors may wait in all.
fn most() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    (limit / PART).clamp(16, IN_ALL) as usize
}

fn count(counts: &HashMap<u32, usize>, uid: u32) -> usize {
    counts.get(&uid).copied().unwrap_or(0)
}

fn less(counts: &mut HashMap<u32, usize>, uid: u32, by: usize) {
    if let Some(count) = counts.get_mut(&uid) {
        *count = count.saturating_sub(by);
        if *count == 0 {
            counts.remove(&uid);
        }
    }
}

impl Queues {
    // ---- places

    /// Whether a part with so many descriptors may wait.
    pub(super) fn room(
        &self,
        sides: Sides,
        descriptors: usize,
        is_exempt: impl Fn(u32) -> bool,
    ) -> Result<(), Full> {
        let Sides { publisher: (key, publisher), subscriber } = sides;
        let (at_client, of_user) = self
            .clients
            .get(&key)
            .map_or((0, 0), |client| (client.joining, count(&client.of_users, subscriber)));
        let in_all = most();
        let others = || -> usize {
            self.of_subscribers.iter().filter(|(uid, _)| !is_exempt(**uid)).map(|(_, count)| count).sum()
        };
        if at_client >= AT_ONE_PUBLISHER || of_user >= OF_ONE_SUBSCRIBER {
            Err(Full::AtThePublisher)
        } else if self.descriptors + descriptors > in_all {
            Err(Full::InAll)
        } else if is_exempt(subscriber) {
            Ok(())
        } else if count(&self.of_subscribers, subscriber) + descriptors > in_all / OF_SUBSCRIBERS {
            Err(Full::OfTheSubscribers)
        } else if !is_exempt(publisher)
            && count(&self.of_publishers, publisher) + descriptors > in_all / OF_PUBLISHERS
        {
            Err(Full::OfThePublishers)
        } else if others() + descriptors > in_all - in_all / RESERVE {
            Err(Full::InAll)
        } else {
            Ok(())
        }
    }

    /// Drops the part that has waited longest of those whose places are all taken, if it has waited for long
    /// enough. Returns its pair, subscription and publication.
    pub(super) fn reclaim(&mut self, full: Full, sides: Sides, now: Instant) -> Option<(Id, Id)> {
        let is_old = |ticket: Ticket, key: Key| {
            let waiting = self.clients.get(&key).and_then(|client| client.parts.get(&ticket));
            waiting.filter(|waiting| waiting.since + HELLO_TIME <= now)
        };
        let oldest = self.joining.iter().find_map(|(ticket, (key, publisher))| {
            let waiting = is_old(*ticket, *key)?;
            let is_it = match full {
                Full::AtThePublisher => false,
                Full::OfTheSubscribers => waiting.uid == sides.subscriber,
                Full::OfThePublishers => *publisher == sides.publisher.1,
                Full::InAll => true,
            };
            is_it.then_some((*ticket, *key))
        });
        let (ticket, key) = oldest?;
        match self.remove(key, ticket)?.part {
            Part::Joined(joined) => Some((joined.subscription, joined.publication)),
            _ => None,
        }
    }

    // ---- parts

    /// Puts a part behind those that wait for a client.
    pub(super) fn push(&mut self, (key, publisher): (Key, u32), waiting: Waiting) -> Ticket {
        self.last += 1;
        self.insert((key, publisher), self.last, waiting);
        self.last
    }

    /// Puts a part back that was just taken and could not be handed over.
    pub(super) fn put_back(&mut self, publisher: (Key, u32), (ticket, waiting): (Ticket, Waiting)) {
        self.insert(publisher, ticket, waiting);
    }

    fn insert(&mut self, (key, publisher): (Key, u32), ticket: Ticket, waiting: Waiting) {
        let client = self.clients.entry(key).or_default();
        if waiting.joins() {
            let descriptors = waiting.descriptors.len();
            client.joining += 1;
            *client.of_users.entry(waiting.uid).or_default() += 1;
            *self.of_subscribers.entry(waiting.uid).or_default() += descriptors;
            *self.of_publishers.entry(publisher).or_default() += descriptors;
            self.descriptors += descriptors;
            self.joining.insert(ticket, (key, publisher));
        }
        client.parts.insert(ticket, waiting);
    }

    /// Takes what has waited longest for a client.
    pub(super) fn take(&mut self, key: Key) -> Option<(Ticket, Waiting)> {
        let ticket = *self.clients.get(&key)?.parts.first_key_value()?.0;
        Some((ticket, self.remove(key, ticket)?))
    }

    /// Takes a part out, wherever it is in its queue.
    pub(super) fn remove(&mut self, key: Key, ticket: Ticket) -> Option<Waiting> {
        let client = self.clients.get_mut(&key)?;
        let waiting = client.parts.remove(&ticket)?;
        if let Some((_, publisher)) = self.joining.remove(&ticket) {
            let descriptors = waiting.descriptors.len();
            client.joining = client.joining.saturating_sub(1);
            less(&mut client.of_users, waiting.uid, 1);
            less(&mut self.of_subscribers, waiting.uid, descriptors);
            less(&mut self.of_publishers, publisher, descriptors);
            self.descriptors = self.descriptors.saturating_sub(descriptors);
        }
        Some(waiting)
    }

    /// Whether what a client publishes comes before what it has subscribed to. The next time it is the other
    /// way round.
    pub(super) fn take_turn(&mut self, key: Key) -> bool {
        let Some(client) = self.clients.get_mut(&key) else { return true };
        client.subscriptions_are_next = !client.subscriptions_are_next;
        client.subscriptions_are_next
    }

    /// Whether something waits for a client.
    pub(super) fn has_parts(&self, key: Key) -> bool {
        self.clients.get(&key).is_some_and(|client| !client.parts.is_empty() || !client.over.is_empty())
    }

    // ---- pairs for which there was no room

    pub(super) fn defer(&mut self, publisher: Key, subscription: Id, publication: Id) {
        self.clients.entry(publisher).or_default().deferred.insert((subscription, publication));
    }

    /// A deferred pair is gone.
    pub(super) fn forget(&mut self, publisher: Key, subscription: Id, publication: Id) {
        if let Some(client) = self.clients.get_mut(&publisher) {
            client.deferred.remove(&(subscription, publication));
        }
    }

    /// The pairs that may be tried again because parts were taken at this publisher: all, as soon as half of
    /// its places are free. So they are not woken one by one for places that others take meanwhile.
    pub(super) fn take_deferred(&mut self, publisher: Key) -> BTreeSet<(Id, Id)> {
        match self.clients.get_mut(&publisher) {
            Some(client) if client.joining <= AT_ONE_PUBLISHER / 2 => std::mem::take(&mut client.deferred),
            _ => BTreeSet::new(),
        }
    }

    /// All deferred pairs.
    pub(super) fn take_all_deferred(&mut self) -> Vec<(Id, Id)> {
        self.clients.values_mut().flat_map(|client| std::mem::take(&mut client.deferred)).collect()
    }

    // ---- what subscribers are told the end of

    /// A publication has ended that a client has taken. It is told before it takes another one, so no more
    /// ends wait for it than pairs were paid for at a time.
    pub(super) fn tell_end(&mut self, subscriber: Key, subscription: Id, publication: Id) {
        self.clients.entry(subscriber).or_default().over.insert((subscription, publication));
    }

    /// Takes an end that a client is to be told.
    pub(super) fn take_end(&mut self, subscriber: Key) -> Option<(Id, Id)> {
        self.clients.get_mut(&subscriber)?.over.pop_first()
    }

    /// A subscription has ended: there is nothing to be told to it any more.
    pub(super) fn forget_ends(&mut self, subscriber: Key, subscription: Id) {
        if let Some(client) = self.clients.get_mut(&subscriber) {
            let its: Vec<_> =
                client.over.range((subscription, 0)..=(subscription, Id::MAX)).copied().collect();
            its.iter().for_each(|end| _ = client.over.remove(end));
        }
    }

    // ---- bells and ends

    /// From now on a client hears of what waits by this bell.
    pub(super) fn set_bell(&mut self, key: Key, bell: OwnedFd) {
        self.clients.entry(key).or_default().bell = Some(PipeWriter::new(bell));
    }

    /// Rings a client's bell. A full pipe rings already; one that nobody holds needs no ringing.
    pub(super) fn ring(&self, key: Key) {
        if let Some(bell) = self.clients.get(&key).and_then(|client| client.bell.as_ref()) {
            bell.kick();
        }
    }

    /// A client is gone.
    pub(super) fn left(&mut self, key: Key) {
        let tickets = |client: &Client| client.parts.keys().copied().collect::<Vec<_>>();
        for ticket in self.clients.get(&key).map(tickets).unwrap_or_default() {
            self.remove(key, ticket);
        }
        self.clients.remove(&key);
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        *self = Queues { last: self.last, ..Queues::default() };
    }

    /// Whether nothing waits and nobody attends.
    #[cfg(any(fuzzing, test))]
    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty()
            && self.joining.is_empty()
            && self.descriptors == 0
            && self.of_subscribers.is_empty()
            && self.of_publishers.is_empty()
    }
}
