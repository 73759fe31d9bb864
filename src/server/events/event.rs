//! The server's events: what each one says, how urgent it is, and which limit it counts against.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::io;

use tracing::{Level, debug, error, event_enabled, info, trace, warn};

use super::limits::{Cause, Kind, LeftOut};
use crate::connect::{Credentials, Refusal};
use crate::os::lacks::Lack;
use crate::wire::{Address, Key, Name, Peer, Status, Topic};

/// The target of every event.
const TARGET: &str = "ringpost";

/// Something that the server tells the program's log. The crate page lists the names and fields.
#[derive(Debug)]
pub(crate) enum Event {
    Register { peer: Peer },
    Unregister { peer: Peer },
    Death { peer: Peer },
    Violation { peer: Peer, what: String },
    Refused(Refused),
    Message { from: Name, from_key: Key, to: Option<Name>, to_key: Key, bytes: usize, outcome: Status },
    Introduction { from: Peer, to: Address, refusal: Option<Refusal> },
    Topic { client: Peer, topic: Topic, change: TopicChange },
    Access { rules: usize, users: usize, groups: usize, strangers: usize },
    Call { name: Name, key: Key, bytes_in: usize, bytes_out: usize },
    Control { who: Credentials, command: String, error: Option<String> },
    Limit { needed: u64, limit: Option<u64> },
    UnknownUser { uid: u32 },
    FallBack { lack: Lack, error: io::Error },
    Registry { name: Name, error: String },
    Abandoned { peer: Peer, workers: usize },
    Failed { why: String },
    CutOff,
}

/// What became of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TopicChange {
    Published,
    Ended,
    Refused(Refusal),
}

/// A refused connection or registration, and what is known about it.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) reason: Cow<'static, str>,
    pub(crate) name: Option<Name>,
    pub(crate) who: Option<Credentials>,
    pub(crate) error: Option<String>,
    pub(crate) message: Cow<'static, str>,
}

impl TopicChange {
    fn name(self) -> &'static str {
        match self {
            TopicChange::Published => "published",
            TopicChange::Ended => "ended",
            TopicChange::Refused(_) => "refused",
        }
    }

    fn refusal(self) -> Option<Refusal> {
        if let TopicChange::Refused(refusal) = self { Some(refusal) } else { None }
    }
}

impl Refused {
    pub(crate) fn new(reason: &'static str, message: &'static str) -> Refused {
        Refused { reason: reason.into(), name: None, who: None, error: None, message: message.into() }
    }

    pub(crate) fn of(self, who: Credentials) -> Refused {
        Refused { who: Some(who), ..self }
    }
}

impl Event {
    pub(super) fn level(&self) -> Level {
        match self {
            Event::Register { .. }
            | Event::Unregister { .. }
            | Event::Control { .. }
            | Event::Access { .. } => Level::INFO,
            Event::Death { .. }
            | Event::Violation { .. }
            | Event::Refused(_)
            | Event::Limit { .. }
            | Event::UnknownUser { .. }
            | Event::FallBack { .. }
            | Event::Abandoned { .. } => Level::WARN,
            Event::Registry { .. } | Event::Failed { .. } | Event::CutOff => Level::ERROR,
            Event::Message { .. } | Event::Introduction { .. } | Event::Topic { .. } => Level::DEBUG,
            Event::Call { .. } => Level::TRACE,
        }
    }

    /// Which limit it counts against, if any.
    pub(super) fn limit(&self) -> Option<(Kind, Cause)> {
        let (kind, uid) = match self {
            Event::Register { peer, .. } => (Kind::Register, peer.uid),
            Event::Unregister { peer, .. } => (Kind::Unregister, peer.uid),
            Event::Death { peer, .. } => (Kind::Death, peer.uid),
            Event::Violation { peer, .. } => (Kind::Violation, peer.uid),
            Event::Control { who, .. } => (Kind::Control, who.uid),
            Event::Refused(Refused { who: Some(who), .. }) => (Kind::Refused, who.uid),
            // Strangers can cause these too, so they must not use up the allowance for the server's own
            // faults.
            Event::Refused(Refused { who: None, .. }) => return Some((Kind::Refused, Cause::Server)),
            Event::Registry { .. } | Event::Abandoned { .. } => return Some((Kind::Own, Cause::Server)),
            // Calls, messages, introductions and topics are only logged on request; another access comes from
            // the program itself; the others come once in a server's life.
            Event::Message { .. }
            | Event::Introduction { .. }
            | Event::Topic { .. }
            | Event::Call { .. }
            | Event::Access { .. }
            | Event::Limit { .. }
            | Event::UnknownUser { .. }
            | Event::FallBack { .. }
            | Event::Failed { .. }
            | Event::CutOff => return None,
        };
        Some((kind, Cause::User(uid)))
    }

    /// Hands it to the subscriber, which is the program's code.
    pub(super) fn emit(&self) {
        match self {
            Event::Register { peer: Peer { name, key, pid, uid, .. } } => {
                info!(target: TARGET, event = "register", name = %name, key = %key, pid, uid, "registered");
            }
            Event::Unregister { peer: Peer { name, key, .. } } => {
                info!(target: TARGET, event = "unregister", name = %name, key = %key, "unregistered");
            }
            Event::Death { peer: Peer { name, key, pid, .. } } => warn!(
                target: TARGET, event = "death", name = %name, key = %key, pid,
                "a client died, or left without unregistering"
            ),
            Event::Violation { peer: Peer { name, key, pid, .. }, what } => warn!(
                target: TARGET, event = "violation", name = %name, key = %key, pid, what,
                "a client broke the protocol and was closed"
            ),
            Event::Refused(Refused { reason, name, who, error, message }) => warn!(
                target: TARGET, event = "refused", reason = &**reason, name = name.as_ref().map(tracing::field::display),
                pid = who.map(|who| who.pid), uid = who.map(|who| who.uid), gid = who.map(|who| who.gid),
                error = error.as_deref(), "{message}"
            ),
            Event::Message { from, from_key, to, to_key, bytes, outcome } => debug!(
                target: TARGET, event = "message", from = %from, from_key = %from_key,
                to = to.as_ref().map_or("", |name| name.as_str()), to_key = %to_key, bytes, outcome = ?outcome,
                "message"
            ),
            Event::Introduction { from: Peer { name, key, .. }, to, refusal } => debug!(
                target: TARGET, event = "introduction", from = %name, from_key = %key, to = %to,
                refusal = refusal.map(tracing::field::debug), "introduction"
            ),
            Event::Topic { client: Peer { name, key, .. }, topic, change } => debug!(
                target: TARGET, event = "topic", topic = topic.as_str(), name = %name, key = %key,
                change = change.name(), refusal = change.refusal().map(tracing::field::debug), "topic"
            ),
            Event::Access { rules, users, groups, strangers } => info!(
                target: TARGET, event = "access", rules, users, groups, strangers, "the access was replaced"
            ),
            Event::Call { name, key, bytes_in, bytes_out } => trace!(
                target: TARGET, event = "call", name = %name, key = %key, bytes_in, bytes_out, "call"
            ),
            Event::Control { who, command, error } => info!(
                target: TARGET, event = "control", command = command.as_str(), pid = who.pid, uid = who.uid,
                error = error.as_deref(), "an operator gave a command"
            ),
            Event::Limit { needed, limit } => warn!(
                target: TARGET, event = "limit", needed, limit,
                "the limit of open files is too low for that many clients: raise it (ulimit -n)"
            ),
            Event::UnknownUser { uid } => warn!(
                target: TARGET, event = "unknown_user", uid,
                "the server's user has no number in this user namespace, so its own processes cannot be told from \
                 strangers: only root and those who are allowed may connect. Run it as a user with a number of its own"
            ),
            Event::FallBack { lack, error } => lack.warn(error),
            Event::Registry { name, error } => error!(
                target: TARGET, event = "registry", error = error.as_str(), name = %name, "cannot release a client"
            ),
            Event::Abandoned { peer: Peer { name, key, pid, .. }, workers } => warn!(
                target: TARGET, event = "abandoned", name = %name, key = %key, pid, workers,
                "left behind: a call of this client did not return from the service in time"
            ),
            Event::Failed { why } => error!(
                target: TARGET, event = "failed", error = why.as_str(),
                "the server's own thread panicked, and the server has ended: please report it"
            ),
            Event::CutOff => error!(
                target: TARGET, event = "cut_off",
                "this process closed the server's descriptors, and the server has ended: start it after that"
            ),
        }
    }
}

/// Whether the subscriber wants an event for each message. Calls the subscriber.
pub(super) fn wants_messages() -> bool {
    event_enabled!(target: TARGET, Level::DEBUG)
}

/// Whether the subscriber wants an event for each call. Calls the subscriber.
pub(super) fn wants_calls() -> bool {
    event_enabled!(target: TARGET, Level::TRACE)
}

/// Reports events that were left out because one user caused too many of one kind.
pub(super) fn report_left_out(left_out: &LeftOut) {
    let LeftOut { kind, cause, events } = left_out;
    let uid = if let Cause::User(uid) = cause { Some(*uid) } else { None };
    warn!(
        target: TARGET, event = "left_out", of = kind.name(), uid, events,
        "so many events of one kind were brought about by one user that these were only counted"
    );
}

/// Reports events that were dropped because the queue was full: `lines` since the last report, `total` in
/// all.
pub(super) fn report_dropped(lines: u64, total: u64) {
    warn!(
        target: TARGET, event = "dropped", lines, total,
        "events were left out: the program's log takes them too slowly"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_user_can_use_up_the_allowance_for_the_server_s_own_faults() {
        let no_descriptors = Event::Refused(Refused::new("descriptors", "cannot accept a connection"));
        assert_eq!(no_descriptors.limit(), Some((Kind::Refused, Cause::Server)));
        let who = Credentials { pid: 1, uid: 2, gid: 3 };
        let stranger = Event::Refused(Refused::new("user", "not allowed").of(who));
        assert_eq!(stranger.limit(), Some((Kind::Refused, Cause::User(2))));
        for last_words in [Event::Failed { why: String::new() }, Event::CutOff] {
            assert_eq!(last_words.limit(), None, "it is told whatever came before");
        }
    }
}
