//! The end of a client, whatever brings it about: it unregisters, dies or breaks a rule, or the server ends.
//!
//! A registered client's connection is its lifeline. Its end, or the end of the client's process (a forked
//! child may hold the connection open), ends the client: its channel is closed, its worker woken, its name
//! freed.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::connections::{Connection, ConnectionId, Connections, State};
use super::events::Event;
use super::member::Member;
use super::shared::{Shared, lock};
use crate::testing::failpoints::{failpoint, fault};
use crate::wire::{CloseReason, Key, VanishReason, Violation};

impl Shared {
    /// Makes a client unknown: its inbox takes no more messages, its key and name reach nobody, and the name
    /// is free. True only for the first call.
    pub(super) fn forget(&self, member: &Arc<Member>, reason: CloseReason) -> bool {
        if !member.retire() {
            return false;
        }
        failpoint!("forget.retired", [server], seldom);
        member.share.leave();
        member.inbox.close();
        failpoint!("forget.inbox", [server], seldom);
        self.members.remove(member.peer.key);
        if let Some(relay) = &member.relay {
            relay.end();
        }
        failpoint!("forget.member", [server], seldom);
        if fault!("name") {
            return true;
        }
        match self.roll.release(&self.registry, &member.peer, seen_as(reason)) {
            // The acceptor tells it.
            Ok(true) => self.stop.wake_acceptor(),
            Ok(false) => {}
            Err(error) => {
                self.events.tell(Event::Registry { name: member.peer.name, error: error.to_string() });
            }
        }
        failpoint!("forget.released", [server], seldom);
        true
    }

    /// Ends a client: makes it unknown and closes its channel, so that its worker ends. True only for the
    /// call that made it unknown.
    pub(super) fn end(&self, member: &Arc<Member>, reason: CloseReason) -> bool {
        let first = self.forget(member, reason);
        member.closer.close_as(reason);
        failpoint!("end.channel", [server], seldom);
        member.intake.close_as(reason);
        first
    }

    /// Ends a client that broke a rule.
    pub(super) fn end_for(&self, member: &Arc<Member>, violation: Violation) {
        self.end(member, CloseReason::ProtocolViolation);
        self.log_violation(member, &violation);
    }

    pub(super) fn log_violation(&self, member: &Member, what: &dyn fmt::Display) {
        self.sums.violations.fetch_add(1, Ordering::Relaxed);
        self.events.tell(Event::Violation { peer: member.peer, what: what.to_string() });
    }

    /// Lets the acceptor close the client's connection, because its worker has ended.
    ///
    /// A client that has unregistered closes the connection by itself, usually at once, and that wakes the
    /// acceptor anyway. So the acceptor is not woken for such a client. One that does not close is dealt with
    /// at the acceptor's next turn, which is at most some seconds later. Only one such client can wait for
    /// that: for a second one the acceptor is woken.
    pub(super) fn finish(&self, member: Arc<Member>, unregistered: bool) {
        let mut finished = lock(&self.finished);
        if member.is_let_go() {
            return;
        }
        finished.push(member);
        let may_wait = unregistered && finished.len() == 1;
        drop(finished);
        if !may_wait {
            self.stop.wake_acceptor();
        }
    }

    /// Notes that the client's connection is closed: nothing is left to do when its worker ends.
    fn let_go(&self, member: &Arc<Member>) {
        let mut finished = lock(&self.finished);
        member.set_let_go();
        finished.retain(|other| !Arc::ptr_eq(other, member));
    }

    /// The clients whose connections the acceptor must close.
    pub(super) fn take_finished(&self) -> Vec<Arc<Member>> {
        std::mem::take(&mut lock(&self.finished))
    }
}

/// How others are told that a client is gone whose channel is closed for this reason.
fn seen_as(reason: CloseReason) -> VanishReason {
    match reason {
        CloseReason::Unregistered => VanishReason::Unregistered,
        CloseReason::ProtocolViolation => VanishReason::Violation,
        CloseReason::Shutdown => VanishReason::ServerEnded,
        _ => VanishReason::Died,
    }
}

/// Closes a connection that has ended, or whose process has. Its client, if it is one, is ended. Returns the
/// client's key.
pub(super) fn client_died(shared: &Shared, connections: &mut Connections, id: ConnectionId) -> Option<Key> {
    let Some(Connection { state: State::Registered(member), .. }) = connections.remove(id) else {
        return None;
    };
    shared.let_go(&member);
    failpoint!("death.unwatched", [server], seldom);
    if shared.end(&member, CloseReason::Died) {
        failpoint!("death.ended", [server], seldom);
        shared.sums.died.fetch_add(1, Ordering::Relaxed);
        shared.events.tell(Event::Death { peer: member.peer });
    }
    Some(member.peer.key)
}

/// Ends a client that said something on its lifeline. Returns the client's key.
pub(super) fn client_babbled(
    shared: &Shared,
    connections: &mut Connections,
    id: ConnectionId,
) -> Option<Key> {
    let Some(Connection { state: State::Registered(member), .. }) = connections.remove(id) else {
        return None;
    };
    shared.let_go(&member);
    shared.end_for(&member, Violation::Babble);
    Some(member.peer.key)
}
