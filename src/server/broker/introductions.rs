//! `Broker`: answers what clients ask about links, and forgets what nobody takes.
//!
//! Whoever asks shows by a proof which registered client it is. What a client can bring about is limited by
//! quotas, by how much waits, and by how many descriptors it leaves unread; each refusal says which limit it
//! was. An introduction that cannot be handed over to its caller was never made.

#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use super::table::{NoPlace, Noted, Table};
use super::waiting::{AT_ONE_CLIENT, OF_ONE_USER, Part, TooMany, Waiting};
use crate::channel::{self, ChannelError, Geometry, LinkWords};
use crate::connect::{
    Introduction, LinkFigures, Proof, Refusal, Reported, Role, encode_indices, encode_links, links_per_page,
    peer_pidfd,
};
use crate::server::access::Act;
use crate::server::admission::NO_DESCRIPTORS;
use crate::server::answers::{
    Declined, cannot_hand_over, conclude, declined, member_of, pipe, process_of, process_or,
};
use crate::server::connections::{ConnectionId, Connections, MOST_BODY};
use crate::server::enrolment::LAST_DESCRIPTORS;
use crate::server::events::Event;
use crate::server::member::Member;
use crate::server::processes::nearly_the_last;
use crate::server::quotas::{LinkShare, Over};
use crate::server::shared::Shared;
use crate::server::system_limits;
use crate::testing::failpoints::failpoint;
use crate::wire::{Address, Key};

/// The table of links, and what waits to be taken.
pub(in crate::server) struct Broker {
    shared: Arc<Shared>,
    table: Table,
    waiting: Waiting,
}

/// What is made for a link, in the order in which each side gets it: the segment, both ends of its own pipe,
/// the write end of the other's, and the other's process. No open file of a write end is shared.
struct Made {
    segment: OwnedFd,
    caller: [OwnedFd; 4],
    callee: [OwnedFd; 4],
}

impl Broker {
    pub(in crate::server) fn new(shared: Arc<Shared>) -> Broker {
        Broker { shared, table: Table::default(), waiting: Waiting::default() }
    }

    // ---- what is asked

    /// Introduces the client that asks to another one.
    pub(in crate::server) fn connect(
        &mut self,
        connections: &mut Connections,
        id: ConnectionId,
        proof: &Proof,
        ring_size: u64,
        to: &Address,
    ) {
        let answered = self.member_of(connections, id, proof).and_then(|caller| {
            let introduced = self.introduce(connections, id, &caller, ring_size, to);
            let tell = self.shared.events.wants_messages();
            if tell {
                let outcome = introduced.as_ref().map_or_else(|declined| Some(declined.refusal), |()| None);
                self.shared.events.tell(Event::Introduction { from: caller.peer, to: *to, refusal: outcome });
            }
            introduced
        });
        self.conclude(connections, id, answered);
    }

    /// Gives a client a bell, in place of an earlier one.
    pub(in crate::server) fn listen(
        &mut self,
        connections: &mut Connections,
        id: ConnectionId,
        proof: &Proof,
    ) {
        let answered = self.member_of(connections, id, proof).and_then(|member| {
            self.shared.check_name(Act::Serve, &member.peer.name, &member.who())?;
            let bell = pipe()?;
            failpoint!("listen.made", [server], seldom);
            connections.answer(id, &[], &[bell.read.as_fd()]).map_err(cannot_hand_over("a bell"))?;
            failpoint!("listen.answered", [server], seldom);
            self.waiting.set_bell(member.peer.key, bell.write);
            member.links.set_bell(true);
            Ok(())
        });
        self.conclude(connections, id, answered);
    }

    /// Hands a client its side of the link that has waited longest.
    pub(in crate::server) fn take(&mut self, connections: &mut Connections, id: ConnectionId, proof: &Proof) {
        let answered = self.member_of(connections, id, proof).and_then(|member| {
            let key = member.peer.key;
            let Some(part) = self.waiting.take(key) else {
                return connections.answer(id, &[], &[]).map_err(cannot_hand_over("an answer"));
            };
            failpoint!("take.taken", [server], seldom);
            let descriptors = part.descriptors.each_ref().map(AsFd::as_fd);
            let sent = connections.answer(id, &part.introduction.encode(), &descriptors);
            failpoint!("take.answered", [server], seldom);
            sent.map_err(|errno| {
                self.waiting.put_back(key, part);
                cannot_hand_over("a link")(errno)
            })
        });
        self.conclude(connections, id, answered);
    }

    /// Notes the links that a client had before it registered here.
    pub(in crate::server) fn report(
        &mut self,
        connections: &mut Connections,
        id: ConnectionId,
        proof: &Proof,
        links: &[Reported],
    ) {
        let answered = self.member_of(connections, id, proof).and_then(|member| {
            let (uid, key) = (member.peer.uid, member.peer.key);
            self.shared.ledger.begin_report(uid)?;
            // Once for all links, because each may be beyond the quota.
            if self.table.is_full(&member) || self.shared.ledger.begin_link(uid, 0, true).is_err() {
                self.table.look_at_user(uid);
                self.table.look_at(key);
            }
            let note = |(role, name): &Reported| {
                let share = self.shared.ledger.begin_link(uid, 0, true).ok()?;
                let (link, index) = self.table.report(&member, *role, *name, share).ok()?;
                Some((link, *role, index))
            };
            // If there is no room for one, there is none for the next.
            let noted: Vec<_> = links.iter().map_while(note).collect();
            failpoint!("report.noted", [server], rarely);
            let mut indices: Vec<_> = noted.iter().map(|(.., index)| Some(*index)).collect();
            indices.resize(links.len(), None);
            connections.answer(id, &encode_indices(&indices), &[]).map_err(|errno| {
                // The client does not know these places, and could never say that they are free.
                noted.iter().for_each(|(link, role, _)| self.table.end(*link, *role));
                cannot_hand_over("an answer")(errno)
            })
        });
        self.conclude(connections, id, answered);
    }

    /// Lists the links, from a number on.
    pub(in crate::server) fn list(&mut self, connections: &mut Connections, id: ConnectionId, from: u64) {
        let (links, next) = self.table.page(from, links_per_page(MOST_BODY));
        let answered = connections.answer(id, &encode_links(&links, next), &[]);
        self.conclude(connections, id, answered.map_err(cannot_hand_over("an answer")));
    }

    /// What is told of links, from a number on; and the number to go on from.
    pub(in crate::server) fn figures(&mut self, from: u64, most: usize) -> (Vec<LinkFigures>, Option<u64>) {
        self.table.figures(from, most)
    }

    fn member_of(
        &self,
        connections: &Connections,
        id: ConnectionId,
        proof: &Proof,
    ) -> Result<Arc<Member>, Declined> {
        member_of(&self.shared, connections, id, proof)
    }

    fn conclude(&self, connections: &mut Connections, id: ConnectionId, answered: Result<(), Declined>) {
        conclude(&self.shared, connections, id, "a link was refused", answered);
    }

    // ---- a link is made

    fn introduce(
        &mut self,
        connections: &mut Connections,
        id: ConnectionId,
        caller: &Arc<Member>,
        ring_size: u64,
        to: &Address,
    ) -> Result<(), Declined> {
        failpoint!("connect.heard", [server], seldom);
        let callee = self.find(to)?;
        self.shared.check_name(Act::Call, &callee.peer.name, &caller.who())?;
        let geometry = self.geometry(ring_size)?;
        let (caller_key, callee_key) = (caller.peer.key, callee.peer.key);
        self.check_that_it_serves(&callee)?;
        self.check_the_backlog(&callee, caller.peer.uid)?;
        self.check_the_links_of_one_user(&callee, caller.peer.uid)?;
        let share = self.share(caller.peer.uid, geometry.link_len() as u64)?;
        let made = make(connections, id, &callee, &geometry)?;
        failpoint!("connect.made", [server], seldom);
        let Noted { id: link, caller: at_caller, callee: at_callee } =
            self.table.begin(caller, &callee, share).map_err(|NoPlace(role)| {
                let who = if role == Role::Caller { caller } else { &callee };
                too_many_of_one_client(who)
            })?;
        failpoint!("connect.noted", [server], seldom);
        let Made { segment, caller: callers, callee: callees } = made;
        let side = |index, peer| Introduction {
            id: link,
            index,
            ring_size: geometry.ring_size(),
            max_block: geometry.max_block(),
            peer,
        };
        let mut descriptors = vec![segment.as_fd()];
        descriptors.extend(callers.iter().map(AsFd::as_fd));
        let sent = connections.answer(id, &side(at_caller, callee.peer).encode(), &descriptors);
        failpoint!("connect.answered", [server], seldom);
        if let Err(errno) = sent {
            self.table.end(link, Role::Callee);
            self.table.end(link, Role::Caller);
            return Err(cannot_hand_over("a link")(errno));
        }
        drop(callers);
        let [read, write, others, process] = callees;
        let part = Part::new(side(at_callee, caller.peer), [segment, read, write, others, process]);
        self.waiting.push(callee_key, part);
        failpoint!("connect.queued", [server], seldom);
        self.waiting.ring(callee_key);
        failpoint!("connect.rung", [server], seldom);
        debug_assert!(caller_key != callee_key || at_caller != at_callee);
        Ok(())
    }

    fn find(&self, to: &Address) -> Result<Arc<Member>, Declined> {
        let key = match to {
            Address::Key(key) => Some(*key),
            Address::Name(name) => self
                .shared
                .registry
                .key_of(name)
                .map_err(|error| declined(Refusal::NoResources, error.to_string()))?,
        };
        let found = key.and_then(|key| self.shared.members.get(key)).filter(|member| !member.is_retired());
        found.ok_or_else(|| {
            let why = match to {
                Address::Name(name) => format!(
                    "no client has the name {:?} now: wait until it registers, or look who is there (`ringpost ls`)",
                    name.as_str()
                ),
                Address::Key(key) => {
                    format!("no client has the key {key} now: it has left, and its key is not given again")
                }
            };
            declined(Refusal::NotFound, why)
        })
    }

    fn geometry(&self, ring_size: u64) -> Result<Geometry, Declined> {
        if ring_size == 0 {
            return Ok(self.shared.settings.geometry);
        }
        let asked = usize::try_from(ring_size).map_err(|_| ChannelError::RingSize(ring_size));
        asked.and_then(Geometry::new).map_err(|error| declined(Refusal::Unknown, error.to_string()))
    }

    fn check_that_it_serves(&mut self, callee: &Member) -> Result<(), Declined> {
        let key = callee.peer.key;
        let (serves, hears) = (callee.links.serves(), self.waiting.can_hear(key));
        if serves && hears {
            return Ok(());
        }
        if serves {
            callee.links.set_bell(false);
        }
        // A relay can listen only after it has registered, and stands for a client that may have listened
        // long ago: whoever asks before waits as for one that is busy. The first bell rings for all
        // that wait. It hears the bell a moment before it says that it serves.
        if callee.relay.is_some() && (hears || !self.waiting.has_listened(key)) {
            return Ok(());
        }
        let why = format!(
            "client {:?} takes no links now: it must listen for them first (Client::listen)",
            callee.peer.name.as_str()
        );
        Err(declined(Refusal::NotServing, why))
    }

    fn check_the_backlog(&self, callee: &Member, uid: u32) -> Result<(), Declined> {
        let is_exempt = |uid| self.shared.ledger.is_exempt(uid);
        let name = callee.peer.name.as_str();
        match self.waiting.may_wait(callee.peer.key, uid, is_exempt) {
            Ok(()) => Ok(()),
            Err(TooMany::AtTheClient) => Err(declined(
                Refusal::Backlog,
                format!(
                    "{AT_ONE_CLIENT} links wait for client {name:?} already, which are all that may: try again when it \
                     has taken some"
                ),
            )),
            Err(TooMany::OfTheUserAtTheClient) => Err(declined(
                Refusal::Backlog,
                format!(
                    "{OF_ONE_USER} links of user {uid} wait for client {name:?} already, which are all that may: try \
                     again when it has taken some"
                ),
            )),
            Err(TooMany::InAll) => Err(declined(
                Refusal::Busy,
                "too many links wait for clients that do not take them: try again later, or raise the server's limit \
                 of open files (ulimit -n)",
            )),
        }
    }

    /// One user's callers must not take all places of a client.
    fn check_the_links_of_one_user(&mut self, callee: &Member, uid: u32) -> Result<(), Declined> {
        let (most, key) = (self.shared.ledger.links_at_one_client(uid), callee.peer.key);
        if self.table.of_user_at(uid, key) >= most {
            self.table.look_at(key);
        }
        if self.table.of_user_at(uid, key) < most {
            return Ok(());
        }
        let why = format!(
            "user {uid} has {most} links to client {:?}, which is its quota: close some, or the server's owner can start \
             it with a larger one (quotas, --quota links=N)",
            callee.peer.name.as_str()
        );
        Err(declined(Refusal::Quota, why))
    }

    /// A share of a user's quotas. If they are used up, those links are counted out that have ended.
    fn share(&mut self, uid: u32, ring_bytes: u64) -> Result<LinkShare, Over> {
        let ledger = &self.shared.ledger;
        match ledger.begin_link(uid, ring_bytes, false) {
            Err(Over { refusal: Refusal::Quota, .. }) => {
                self.table.look_at_user(uid);
                ledger.begin_link(uid, ring_bytes, false)
            }
            share => share,
        }
    }

    // ---- what comes to its end

    /// When [`look_after`](Self::look_after) has something to do.
    pub(in crate::server) fn due(&mut self) -> Option<Instant> {
        self.waiting.due()
    }

    /// Drops what nobody has taken in time. The callers see the pipes' end.
    pub(in crate::server) fn look_after(&mut self, now: Instant) {
        for id in self.waiting.expire(now) {
            failpoint!("link.expired", [server], waiting);
            self.table.end(id, Role::Callee);
        }
    }

    /// A client is gone.
    pub(in crate::server) fn left(&mut self, key: Key) {
        self.waiting.left(key);
        failpoint!("link.dropped", [server], seldom);
        self.table.left(key);
    }

    /// Drops all that waits, and all bells: the server ends. The links go on.
    pub(in crate::server) fn clear(&mut self) {
        self.waiting = Waiting::default();
        self.table = Table::default();
    }

    /// Forgets all without closing it: the descriptors' numbers may be others' by now.
    pub(in crate::server) fn abandon(&mut self) {
        self.waiting.abandon();
    }

    /// Whether it has neither a line nor a descriptor.
    #[cfg(fuzzing)]
    pub(in crate::server) fn is_empty(&self) -> bool {
        self.table.is_empty() && self.waiting.len() == 0
    }
}

fn too_many_of_one_client(member: &Member) -> Declined {
    let why = format!(
        "client {:?} has {} links, which is the most that one client may have: close some, or use another client",
        member.peer.name.as_str(),
        LinkWords::MOST
    );
    declined(Refusal::Quota, why)
}

/// Makes what both sides of a link get.
fn make(
    connections: &Connections,
    id: ConnectionId,
    callee: &Member,
    geometry: &Geometry,
) -> Result<Made, Declined> {
    let segment = channel::create_link(geometry).map_err(|error| {
        let why = system_limits::in_words(&error, geometry.link_len());
        declined(Refusal::NoResources, format!("no memory for a link: {why}"))
    })?;
    let (callers, callees) = (pipe()?, pipe()?);
    // Without pidfds, one more write end of the other side's pipe: it shows an error when that side is gone.
    let callees_process = process_of(connections, callee, || callees.other.try_clone())?;
    let asking = connections.get(id).map(|connection| &connection.socket);
    let callers_process = asking.and_then(|socket| peer_pidfd(&**socket, socket.who().pid));
    let callers_process = process_or(callers_process, || callers.other.try_clone())?;
    if nearly_the_last(&callers_process, LAST_DESCRIPTORS) {
        return Err(declined(Refusal::NoResources, NO_DESCRIPTORS));
    }
    Ok(Made {
        segment,
        caller: [callers.read, callers.write, callees.other, callees_process],
        callee: [callees.read, callees.write, callers.other, callers_process],
    })
}
