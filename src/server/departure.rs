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

    /// Asks the acceptor to close the client's connection, because its worker has ended.
    pub(super) fn finish(&self, member: Arc<Member>) {
        lock(&self.finished).push(member);
        self.stop.wake_acceptor();
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
    shared.end_for(&member, Violation::Babble);
    Some(member.peer.key)
}
