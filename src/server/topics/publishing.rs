//! What clients ask in order to publish, and the list of topics.

#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use super::lifecycle::{Topics, closed_by_others};
use super::table::Id;
use crate::channel::ChannelError;
use crate::connect::topics::{Granted, Publish, encode_topics, topics_per_page};
use crate::connect::{Proof, Refusal, TopicFigures};
use crate::os::descriptors::Ours;
use crate::server::answers::{Declined, cannot_hand_over, declined};
use crate::server::connections::{ConnectionId, Connections, MOST_BODY};
use crate::server::events::TopicChange;
use crate::server::member::Member;
use crate::server::quotas::{Over, TopicShare};
use crate::server::system_limits;
use crate::testing::failpoints::failpoint;
use crate::topic::{Shape, create_topic, read_only};

impl Topics {
    /// Gives a client the memory of a topic, to be sealed.
    pub(super) fn publish(
        &mut self,
        connections: &mut Connections,
        id: ConnectionId,
        proof: &Proof,
        publish: Publish,
    ) {
        let answered = self.member_of(connections, id, proof).and_then(|member| {
            let topic = publish.topic.clone();
            let offered = self.offer(connections, id, &member, publish);
            if let Err(declined) = &offered {
                self.tell(member.peer, &topic, TopicChange::Refused(declined.refusal));
            }
            offered
        });
        self.conclude(connections, id, answered);
    }

    fn offer(
        &mut self,
        connections: &mut Connections,
        id: ConnectionId,
        member: &Arc<Member>,
        publish: Publish,
    ) -> Result<(), Declined> {
        failpoint!("publish.heard", [server], seldom);
        if self.table.has(member.peer.key, &publish) {
            let why = format!(
                "this client publishes {:?} already: use that publisher, or drop it first",
                publish.topic.as_str()
            );
            return Err(declined(Refusal::NameTaken, why));
        }
        let shape = self.shape(publish.ring_size)?;
        let share = self.topic_share(member.peer.uid, shape.segment_len() as u64)?;
        // Behind the share, which limits how often a user has the rules looked at.
        let began = Instant::now();
        let allowed = self.shared.check_publish(&publish.topic, &member.who());
        self.charge(member.peer.uid, began);
        allowed?;
        let segment = self.segment(&shape, member.peer.uid)?;
        failpoint!("publish.made", [server], seldom);
        let segment = Ours::new(segment);
        let publication = self.table.offer(member.peer, publish, shape, segment, share, Instant::now());
        failpoint!("publish.noted", [server], seldom);
        let granted = Granted { publication, ring_size: shape.ring_size() as u64 };
        let segment = self.table.publication(publication).and_then(|at| at.segment.as_ref());
        let segment = segment.ok_or_else(closed_by_others)?;
        let sent = connections.answer(id, &granted.encode(), &[segment.as_fd()]);
        failpoint!("publish.answered", [server], seldom);
        sent.map_err(|errno| {
            self.table.end_publication(publication, || None, Instant::now());
            cannot_hand_over("a topic")(errno)
        })
    }

    fn shape(&self, ring_size: u64) -> Result<Shape, Declined> {
        let size = match ring_size {
            0 => Ok(self.shared.settings.geometry.ring_size()),
            asked => usize::try_from(asked).map_err(|_| ChannelError::RingSize(asked)),
        };
        size.and_then(Shape::new).map_err(|error| declined(Refusal::Unknown, error.to_string()))
    }

    /// A share of a user's quotas. If they are used up, its publications that have ended make room.
    fn topic_share(&mut self, uid: u32, bytes: u64) -> Result<TopicShare, Over> {
        match self.shared.ledger.begin_topic(uid, bytes) {
            Err(Over { refusal: Refusal::Quota, .. }) if self.table.drop_ended(Some(uid)) => {
                self.shared.ledger.begin_topic(uid, bytes)
            }
            share => share,
        }
    }

    fn segment(&mut self, shape: &Shape, uid: u32) -> Result<OwnedFd, Declined> {
        let make = || {
            create_topic(shape).map_err(|error| {
                let why = system_limits::in_words(&error, shape.segment_len());
                declined(Refusal::NoResources, format!("no memory for a topic: {why}"))
            })
        };
        let mut segment = make()?;
        if self.leaves_too_few(&segment, uid) && self.table.drop_ended(None) {
            drop(segment);
            segment = make()?;
        }
        if self.leaves_too_few(&segment, uid) {
            let why = "the server keeps its last descriptors for clients that register: wait until a topic or a client is \
                       gone, or raise the server's limit of open files (ulimit -n)";
            return Err(declined(Refusal::NoResources, why));
        }
        Ok(segment)
    }

    /// A client has sealed its topic: it is there from now on.
    pub(super) fn published(
        &mut self,
        connections: &mut Connections,
        id: ConnectionId,
        proof: &Proof,
        publication: Id,
    ) {
        let answered = self.member_of(connections, id, proof).and_then(|member| {
            failpoint!("published.heard", [server], seldom);
            let began = Instant::now();
            if !self.table.is_publication_of(publication, member.peer.key) {
                let why = "the server has no such publication of this client: it was not completed within 5 seconds, or \
                           has ended; publish again";
                return Err(declined(Refusal::NotFound, why));
            }
            let (reliable, keys) = match self.table.reliable_if_open(publication) {
                // It asks again.
                Some(reliable) => (reliable, Default::default()),
                None => {
                    let segment = self.sealed(publication).inspect_err(|_| {
                        self.table.end_publication(publication, || None, Instant::now());
                    })?;
                    let found = self.table.open(publication, segment);
                    failpoint!("published.noted", [server], seldom);
                    self.tell_published(publication);
                    (found.reliable, found.keys)
                }
            };
            let sent = connections.answer(id, &reliable.to_le_bytes(), &[]);
            failpoint!("published.answered", [server], seldom);
            // It is there, whether its publisher could be told or not.
            self.ring(&keys);
            failpoint!("published.rung", [server], seldom);
            self.charge(member.peer.uid, began);
            sent.map_err(cannot_hand_over("an answer"))
        });
        self.conclude(connections, id, answered);
    }

    fn tell_published(&mut self, publication: Id) {
        if let Some(at) = self.table.publication(publication) {
            let (publisher, topic) = (at.publisher, at.publish.topic.clone());
            self.tell(publisher, &topic, TopicChange::Published);
        }
    }

    /// Checks that the publisher has sealed the memory, and opens it anew, for reading only.
    fn sealed(&mut self, publication: Id) -> Result<Ours, Declined> {
        let segment = self.table.publication(publication).and_then(|at| at.segment.take());
        let segment = segment.filter(Ours::is_ours).ok_or_else(closed_by_others)?;
        let writable = segment.as_fd().try_clone_to_owned().map_err(|error| {
            declined(Refusal::NoResources, format!("the server cannot open a topic: {error}"))
        })?;
        // Whether too few are left is judged by numbers, so the new one gets that of the old one.
        drop(segment);
        failpoint!("published.checked", [server], seldom);
        let opened = read_only(writable).map_err(|error| match error {
            ChannelError::System { .. } => declined(
                Refusal::NoResources,
                format!("the server cannot open the topic for reading: {error}"),
            ),
            error => {
                declined(Refusal::Unknown, format!("the topic's memory is not sealed as it must be: {error}"))
            }
        })?;
        Ok(Ours::new(opened))
    }

    /// Ends a publication or a subscription.
    pub(super) fn leave(&mut self, connections: &mut Connections, id: ConnectionId, proof: &Proof, of: Id) {
        let answered = self.member_of(connections, id, proof).and_then(|member| {
            failpoint!("leave.heard", [server], seldom);
            if !self.end(connections, &member, of) {
                let why =
                    "this client has no publication or subscription with this number: it has ended already";
                return Err(declined(Refusal::NotFound, why));
            }
            failpoint!("leave.ended", [server], seldom);
            connections.answer(id, &[], &[]).map_err(cannot_hand_over("an answer"))
        });
        self.conclude(connections, id, answered);
    }

    /// What is told of topics, from a number on; and the number to go on from.
    pub(in crate::server) fn figures(
        &self,
        from: Id,
        most: usize,
        uid: u32,
    ) -> (Vec<TopicFigures>, Option<Id>) {
        self.table.figures(from, most, uid, rustix::process::geteuid().as_raw())
    }

    /// Lists the topics, from a number on.
    pub(super) fn list(&mut self, connections: &mut Connections, id: ConnectionId, from: Id) {
        let Some(uid) = connections.get(id).map(|connection| connection.socket.who().uid) else { return };
        let own = rustix::process::geteuid().as_raw();
        let (topics, next) = self.table.page(from, topics_per_page(MOST_BODY), uid, own);
        let answered = connections.answer(id, &encode_topics(&topics, next), &[]);
        self.conclude(connections, id, answered.map_err(cannot_hand_over("an answer")));
    }
}
