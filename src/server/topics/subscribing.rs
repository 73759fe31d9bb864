//! What clients ask in order to subscribe, and how either side takes what waits for it.

#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use super::lifecycle::{Topics, closed_by_others};
use super::own::{AT_ONE_CLIENT, OwnTopic};
use super::presence::Presence;
use super::queues::{Sides, Ticket, Waiting};
use super::table::{Id, Next, Progress, Publication, State};
use super::taps::Taps;
use crate::channel::ChannelError;
use crate::connect::topics::{Joined, Part, Source, Subscribe, Subscribed, Waits};
use crate::connect::{Credentials, Proof, Refusal};
use crate::os::descriptors::Ours;
use crate::os::pipe::NewPipe;
use crate::server::admission::NO_DESCRIPTORS;
use crate::server::answers::{Declined, cannot_hand_over, declined, no_pidfd, pipe, process_of};
use crate::server::connections::{ConnectionId, Connections};
use crate::server::enrolment::LAST_DESCRIPTORS;
use crate::server::events::{Event, Refused, TopicChange};
use crate::server::kicks::{kept_from, kept_from_all};
use crate::server::member::Member;
use crate::server::processes::nearly_the_last;
use crate::server::system_limits;
use crate::testing::failpoints::failpoint;
use crate::topic::{MOST_LINE, create_page};
use crate::wire::Policy;

/// What a pair takes of its subscriber's quota of bytes.
const PAGE: usize = 4096;

/// What is made for a pair, in the order in which each side gets it.
struct Made {
    page: OwnedFd,
    process: OwnedFd,
    /// By which the subscriber is woken in an event loop: both ends for itself, the write end for the
    /// publisher.
    subscribers: Option<NewPipe>,
    /// By which the publisher is woken, if it waits for this subscriber.
    publishers: Option<NewPipe>,
}

/// What an attempt to hand a pair to its subscriber came to.
enum Attempt {
    Done,
    /// The pair waits until there is room or the means for it.
    PutOff,
    /// Enough was looked at for one turn.
    Later,
}

impl Topics {
    /// Notes a subscription, which is in force from now on.
    pub(super) fn subscribe(
        &mut self,
        connections: &mut Connections,
        id: ConnectionId,
        proof: &Proof,
        subscribe: Subscribe,
    ) {
        let answered = self.member_of(connections, id, proof).and_then(|member| {
            failpoint!("subscribe.heard", [server], seldom);
            let began = Instant::now();
            let share = self.shared.ledger.begin_subscription(member.peer.uid)?;
            // Behind the share, which limits how often a user has the rules looked at.
            let allowed = self.shared.check_subscribe(&subscribe.pattern, &member.who());
            allowed.inspect_err(|_| self.charge(member.peer.uid, began))?;
            let (subscription, publishers) = self.table.subscribe(member.peer, subscribe, share);
            self.charge(member.peer.uid, began);
            failpoint!("subscribe.noted", [server], seldom);
            let answer = Subscribed { subscription, publishers }.encode();
            let sent = connections.answer(id, &answer, &[]);
            failpoint!("subscribe.answered", [server], seldom);
            sent.map_err(|errno| {
                self.end(connections, &member, subscription);
                cannot_hand_over("an answer")(errno)
            })
        });
        self.conclude(connections, id, answered);
    }

    /// Gives a client the bell by which it hears of parts, in place of an earlier one.
    pub(super) fn attend(&mut self, connections: &mut Connections, id: ConnectionId, proof: &Proof) {
        let answered = self.member_of(connections, id, proof).and_then(|member| {
            let key = member.peer.key;
            let bell = pipe()?;
            failpoint!("attend.made", [server], seldom);
            connections.answer(id, &[], &[bell.read.as_fd()]).map_err(cannot_hand_over("a bell"))?;
            failpoint!("attend.answered", [server], seldom);
            self.queues.set_bell(key, bell.other);
            if self.queues.has_parts(key) || self.table.is_hungry(key) {
                self.queues.ring(key);
            }
            Ok(())
        });
        self.conclude(connections, id, answered);
    }

    /// Hands a client the next part that waits for it, or says that there is none. What it publishes and what
    /// it has subscribed to take turns.
    /// Returns whether it was answered. If not, others are to be heard first.
    pub(super) fn part(&mut self, connections: &mut Connections, id: ConnectionId, proof: &Proof) -> bool {
        let mut later = false;
        let answered = self.member_of(connections, id, proof).and_then(|member| {
            let key = member.peer.key;
            let publishers_first = self.queues.take_turn(key);
            for publishers in [publishers_first, !publishers_first] {
                let attempt = if publishers {
                    self.hand_to_publisher(connections, id, &member)?
                } else {
                    self.hand_to_subscriber(connections, id, &member)?
                };
                match attempt {
                    Attempt::Done => {
                        later = false;
                        return Ok(());
                    }
                    Attempt::PutOff => {}
                    Attempt::Later => later = true,
                }
            }
            if later {
                return Ok(());
            }
            connections.answer(id, &[], &[]).map_err(cannot_hand_over("an answer"))
        });
        later &= answered.is_ok();
        self.conclude(connections, id, answered);
        !later
    }

    // ---- the publisher's side

    fn hand_to_publisher(
        &mut self,
        connections: &mut Connections,
        id: ConnectionId,
        member: &Member,
    ) -> Result<Attempt, Declined> {
        let key = member.peer.key;
        let Some((ticket, waiting)) = self.queues.take(key) else { return Ok(Attempt::PutOff) };
        failpoint!("part.taken", [server], seldom);
        let descriptors = waiting.descriptors().ok_or_else(closed_by_others);
        let sent = descriptors.map(|all| connections.answer(id, &waiting.part.encode(), &all));
        failpoint!("part.answered", [server], seldom);
        match sent {
            Ok(Ok(())) => {
                if let Part::Joined(Joined { publication, subscription, .. }) = waiting.part {
                    self.table.set_progress(subscription, publication, Progress::Taken);
                }
                self.has_room_again(key);
                Ok(Attempt::Done)
            }
            Ok(Err(errno)) => {
                self.queues.put_back((key, member.peer.uid), (ticket, waiting));
                Err(cannot_hand_over("a subscription")(errno))
            }
            Err(declined) => {
                if let Part::Joined(Joined { publication, subscription, .. }) = waiting.part {
                    self.table.set_progress(subscription, publication, Progress::Lost);
                }
                Err(declined)
            }
        }
    }

    // ---- the subscriber's side

    fn hand_to_subscriber(
        &mut self,
        connections: &mut Connections,
        id: ConnectionId,
        member: &Arc<Member>,
    ) -> Result<Attempt, Declined> {
        let key = member.peer.key;
        if let Some((subscription, publication)) = self.queues.take_end(key) {
            let sent = connections.answer(id, &Part::Over { subscription, publication }.encode(), &[]);
            failpoint!("over.answered", [server], seldom);
            return match sent {
                Ok(()) => Ok(Attempt::Done),
                Err(errno) => {
                    self.queues.tell_end(key, subscription, publication);
                    Err(cannot_hand_over("an answer")(errno))
                }
            };
        }
        loop {
            let began = Instant::now();
            let next = self.table.next(key);
            self.charge(member.peer.uid, began);
            for topic in self.table.passed_over() {
                self.tell(member.peer, &topic, TopicChange::Refused(Refusal::AgainstRules));
            }
            match next {
                Next::Nothing => return Ok(Attempt::PutOff),
                Next::Later => return Ok(Attempt::Later),
                Next::Pair { subscription, publication } => {
                    if let Attempt::Done = self.hand_pair(connections, id, subscription, publication)? {
                        return Ok(Attempt::Done);
                    }
                }
            }
        }
    }

    fn hand_pair(
        &mut self,
        connections: &mut Connections,
        id: ConnectionId,
        subscription: Id,
        publication: Id,
    ) -> Result<Attempt, Declined> {
        failpoint!("pair.found", [server], seldom);
        let Some(pair) = self.describe(subscription, publication) else { return Ok(Attempt::PutOff) };
        let Describes { source, joined, policy, waits, sides, is_open } = pair;
        let subscriber = joined.peer.key;
        let progress = self.table.progress(subscription, publication);
        if progress.is_some_and(|progress| progress != Progress::Deferred) {
            return Ok(Attempt::PutOff);
        }
        if is_open && progress.is_none() {
            match self.shared.ledger.begin_pair(sides.subscriber, PAGE as u64) {
                Ok(share) => self.table.add_pair(subscription, publication, share),
                Err(over) => {
                    // It is told once, and does not stand in the way of others.
                    self.table.is_served(publication);
                    let Declined { refusal, why } = over.into();
                    let (topic, name) = (source.topic.as_str(), source.peer.name.as_str());
                    return Err(declined(
                        refusal,
                        format!("topic {topic:?} of client {name:?} is not read: {why}"),
                    ));
                }
            }
        }
        let publishers = joined.descriptors(source.offers_reliable);
        if is_open && !self.has_room(sides, publishers) {
            self.queues.defer(sides.publisher.0, subscription, publication);
            self.retry_later();
            return Ok(Attempt::PutOff);
        }
        let is_reliable = source.offers_reliable && policy == Policy::Reliable;
        let made = self.make(connections, publication, waits, is_reliable);
        failpoint!("pair.made", [server], seldom);
        let made = made.and_then(|made| {
            let segment = self.table.publication(publication).and_then(|at| at.segment.as_ref());
            let segment = segment.filter(|segment| segment.is_ours()).ok_or_else(closed_by_others)?;
            let all = subscribers_descriptors(segment, &made);
            debug_assert_eq!(all.len(), source.descriptors(policy, waits));
            let sent = connections.answer(id, &Part::Source(source).encode(), &all);
            failpoint!("pair.answered", [server], seldom);
            sent.map_err(cannot_hand_over("a part"))?;
            Ok(made)
        });
        let made = match made {
            Ok(made) => made,
            Err(declined) => {
                self.starved.insert((publication, subscription));
                self.retry_later();
                // A publisher that has just died is not the subscriber's trouble.
                let died = declined.refusal == Refusal::NotFound;
                return if died { Ok(Attempt::PutOff) } else { Err(declined) };
            }
        };
        self.table.is_served(publication);
        if !is_open {
            self.queues.tell_end(subscriber, subscription, publication);
        }
        if is_open {
            let all = publishers_descriptors(made);
            debug_assert_eq!(all.len(), publishers);
            let waiting = Waiting::new(Part::Joined(joined), all, sides.subscriber, Instant::now());
            let ticket: Ticket = self.queues.push(sides.publisher, waiting);
            self.table.set_progress(subscription, publication, Progress::Waits(ticket));
            failpoint!("pair.queued", [server], seldom);
            self.queues.ring(sides.publisher.0);
            failpoint!("pair.rung", [server], seldom);
        }
        Ok(Attempt::Done)
    }

    /// What both sides are told of a pair.
    fn describe(&mut self, subscription: Id, publication: Id) -> Option<Describes> {
        let at = self.table.subscription(subscription)?;
        let (subscriber, Subscribe { policy, waits, .. }) = (at.subscriber, &at.subscribe);
        let (policy, waits) = (*policy, *waits);
        let at = self.table.publication(publication)?;
        let line = at.next_line(MOST_LINE + 1);
        let published = at.published()?;
        let Publication { publisher, publish, shape, state, .. } = at;
        let source = Source {
            subscription,
            publication,
            epoch: publish.epoch,
            first: publish.first,
            ring_size: shape.ring_size(),
            line,
            from_beginning: published > subscription,
            offers_reliable: publish.reliable,
            peer: *publisher,
            topic: publish.topic.clone(),
        };
        let from_beginning = source.from_beginning;
        let joined =
            Joined { publication, subscription, line, policy, waits, from_beginning, peer: subscriber };
        let sides = Sides { publisher: (publisher.key, publisher.uid), subscriber: subscriber.uid };
        Some(Describes { source, joined, policy, waits, sides, is_open: matches!(state, State::Open { .. }) })
    }

    /// Whether the publisher's side of a pair may wait. Those that have waited too long make room.
    fn has_room(&mut self, sides: Sides, descriptors: usize) -> bool {
        let now = Instant::now();
        loop {
            let is_exempt = |uid| self.shared.ledger.is_exempt(uid);
            let Err(full) = self.queues.room(sides, descriptors, is_exempt) else { return true };
            let Some((subscription, publication)) = self.queues.reclaim(full, sides, now) else {
                return false;
            };
            failpoint!("pair.lost", [server], waiting);
            self.table.set_progress(subscription, publication, Progress::Lost);
        }
    }

    fn make(
        &mut self,
        connections: &Connections,
        publication: Id,
        waits: Waits,
        is_reliable: bool,
    ) -> Result<Made, Declined> {
        let page = create_page().map_err(|error| no_memory(&error))?;
        let subscribers = waits.arms.then(pipe).transpose()?;
        let publishers = is_reliable.then(pipe).transpose()?;
        let process = self.publishers_process(connections, publication)?;
        // A part may wait for long. So some are left for clients that register.
        if nearly_the_last(&process, LAST_DESCRIPTORS.max(kept_from_all() / 2)) {
            return Err(declined(Refusal::NoResources, NO_DESCRIPTORS));
        }
        Ok(Made { page, process, subscribers, publishers })
    }

    /// A pidfd of the process that publishes, or did, or what stands in for it.
    fn publishers_process(
        &mut self,
        connections: &Connections,
        publication: Id,
    ) -> Result<OwnedFd, Declined> {
        let at = self.table.publication(publication).ok_or_else(no_pidfd)?;
        if let State::Ended { process, .. } = &at.state {
            let process = Some(process).filter(|process| process.is_ours()).ok_or_else(closed_by_others)?;
            return process.as_fd().try_clone_to_owned().map_err(|_| no_pidfd());
        }
        let key = at.publisher.key;
        let died = || declined(Refusal::NotFound, "the publisher has just died");
        let member = self.shared.members.get(key).ok_or_else(died)?;
        process_of(connections, &member, || self.stand_ins.of(key))
    }

    // ---- the server's own topics

    /// Lets a client follow who registers and who vanishes.
    pub(super) fn presence(
        &mut self,
        connections: &mut Connections,
        id: ConnectionId,
        proof: &Proof,
        waits: Waits,
    ) {
        let answered = self.member_of(connections, id, proof).and_then(|member| {
            failpoint!("presence.heard", [server], seldom);
            self.follow(connections, id, &member, waits, Own::Presence)
        });
        self.conclude(connections, id, answered);
    }

    /// Gives an operator's client copies of calls and messages.
    pub(super) fn tap(
        &mut self,
        connections: &mut Connections,
        id: ConnectionId,
        proof: &Proof,
        waits: Waits,
        most: u16,
    ) {
        let answered = self.member_of(connections, id, proof).and_then(|member| {
            let (who, uid) = (Credentials::from(&member.peer), member.peer.uid);
            if !self.shared.ledger.is_exempt(uid) {
                let refused = Refused::new("tap", "a tap of a user who may not tap").of(who);
                self.shared.events.tell(Event::Refused(refused));
                let owner = rustix::process::geteuid().as_raw();
                let why = format!(
                    "user {uid} may not tap: calls and messages are shown only to user {owner}, as whom the server runs, and to \
                     root"
                );
                return Err(declined(Refusal::NotAllowed, why));
            }
            let followed = self.follow(connections, id, &member, waits, Own::Tap { most: most.into() });
            if followed.is_ok() {
                let control = Event::Control { who, command: "tap".to_owned(), error: None };
                self.shared.events.tell(control);
            }
            self.end_taps();
            followed
        });
        self.conclude(connections, id, answered);
    }

    /// Subscribes a client to a topic of the server's own.
    fn follow(
        &mut self,
        connections: &mut Connections,
        id: ConnectionId,
        member: &Member,
        waits: Waits,
        which: Own,
    ) -> Result<(), Declined> {
        let (key, uid) = (member.peer.key, member.peer.uid);
        if self.own(which).is_some_and(|topic| !topic.has_room(key)) {
            return Err(declined(Refusal::Quota, which.too_often()));
        }
        let share = self.shared.ledger.begin_subscription(uid)?;
        let pipe = waits.arms.then(pipe).transpose()?;
        let subscription = self.table.next_id();
        // The server keeps an end of the pipe as long as the client wants.
        let kept = if waits.arms { kept_from(&self.shared, uid) } else { LAST_DESCRIPTORS };
        let topic = self.followed(which)?;
        let place = topic.place(subscription, member.peer, waits, pipe).map_err(|error| no_memory(&error))?;
        if nearly_the_last(place.last(), kept) {
            return Err(declined(Refusal::NoResources, NO_DESCRIPTORS));
        }
        failpoint!("presence.made", [server], seldom);
        let descriptors = topic.descriptors(&place).ok_or_else(closed_by_others)?;
        let sent = connections.answer(id, &place.part().encode(), &descriptors);
        failpoint!("presence.answered", [server], seldom);
        sent.map_err(cannot_hand_over("a part"))?;
        topic.attach(place, share);
        Ok(())
    }

    fn own(&mut self, which: Own) -> Option<&mut OwnTopic> {
        match which {
            Own::Presence => self.presence.as_mut().map(|presence| &mut presence.topic),
            Own::Tap { .. } => self.taps.as_mut().map(|taps| &mut taps.topic),
        }
    }

    /// A topic of the server's own. From now on something is published there.
    fn followed(&mut self, which: Own) -> Result<&mut OwnTopic, Declined> {
        match which {
            Own::Presence => {
                let presence = match self.presence.take() {
                    Some(presence) => presence,
                    None => {
                        let presence =
                            Presence::new(self.table.next_id()).map_err(|error| no_memory(&error))?;
                        self.leaves_enough(&presence.topic)?;
                        self.shared.roll.follow();
                        presence
                    }
                };
                Ok(&mut self.presence.insert(presence).topic)
            }
            Own::Tap { most } => {
                let taps = match self.taps.take() {
                    Some(taps) => taps,
                    None => {
                        let id = self.table.next_id();
                        let taps = Taps::new(&self.shared, id).map_err(|error| no_memory(&error))?;
                        self.leaves_enough(&taps.topic)?;
                        taps
                    }
                };
                // Before the answer: whoever has it misses no call that begins later.
                taps.copy(most);
                Ok(&mut self.taps.insert(taps).topic)
            }
        }
    }

    fn leaves_enough(&self, topic: &OwnTopic) -> Result<(), Declined> {
        if self.leaves_too_few(topic.segment(), rustix::process::geteuid().as_raw()) {
            return Err(declined(Refusal::NoResources, NO_DESCRIPTORS));
        }
        Ok(())
    }
}

/// A topic of the server's own.
#[derive(Debug, Clone, Copy)]
enum Own {
    Presence,
    /// Copies of calls and messages, with at least so many bytes of each payload.
    Tap {
        most: usize,
    },
}

impl Own {
    /// Why a client may not subscribe once more.
    fn too_often(self) -> String {
        let what = match self {
            Own::Presence => "follows the presence of others",
            Own::Tap { .. } => "taps",
        };
        format!("this client {what} {AT_ONE_CLIENT} times, which are all that one client may: drop one")
    }
}

/// What both sides are told of a pair, and what it needs.
struct Describes {
    source: Source,
    joined: Joined,
    policy: Policy,
    waits: Waits,
    sides: Sides,
    /// Its publisher has not ended it.
    is_open: bool,
}

fn subscribers_descriptors<'a>(segment: &'a Ours, made: &'a Made) -> Vec<BorrowedFd<'a>> {
    let mut all = vec![segment.as_fd(), made.page.as_fd(), made.process.as_fd()];
    if let Some(NewPipe { read, write, .. }) = &made.subscribers {
        all.extend([read.as_fd(), write.as_fd()]);
    }
    all.extend(made.publishers.as_ref().map(|pipe| pipe.other.as_fd()));
    all
}

fn publishers_descriptors(made: Made) -> Vec<OwnedFd> {
    let mut all = vec![made.page];
    all.extend(made.subscribers.map(|pipe| pipe.other));
    if let Some(NewPipe { read, write, .. }) = made.publishers {
        all.extend([read, write]);
    }
    all
}

fn no_memory(error: &ChannelError) -> Declined {
    declined(Refusal::NoResources, format!("no memory for a page: {}", system_limits::in_words(error, PAGE)))
}
