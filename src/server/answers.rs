//! What the answers to clients that show by a proof who they are have in common: who asks, and why not.

#![forbid(unsafe_code)]

use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::admission::NO_DESCRIPTORS;
use super::connections::{ConnectionId, Connections};
use super::enrolment::{LAST_DESCRIPTORS, cannot_send};
use super::events::{Event, Refused};
use super::member::Member;
use super::processes::nearly_the_last;
use super::quotas::Over;
use super::shared::Shared;
use crate::connect::{Credentials, Proof, Refusal, peer_is_dead, peer_pidfd};
use crate::os::pipe::{NewPipe, kick_pipe};
use crate::os::remedy::on_pipes;

/// Why something was not done.
pub(super) struct Declined {
    pub(super) refusal: Refusal,
    pub(super) why: String,
}

impl From<Over> for Declined {
    fn from(Over { refusal, why }: Over) -> Declined {
        Declined { refusal, why }
    }
}

pub(super) fn declined(refusal: Refusal, why: impl Into<String>) -> Declined {
    Declined { refusal, why: why.into() }
}

pub(super) fn cannot_hand_over(what: &'static str) -> impl FnOnce(Errno) -> Declined {
    move |errno| declined(Refusal::NoResources, cannot_send(what, errno))
}

/// The client that asks. It has the secret of that client, its process and its user.
pub(super) fn member_of(
    shared: &Shared,
    connections: &Connections,
    id: ConnectionId,
    proof: &Proof,
) -> Result<Arc<Member>, Declined> {
    let who = connections.get(id).map(|connection| connection.socket.who());
    let member = shared.members.get(proof.key).filter(|member| {
        let Credentials { pid, uid, .. } = Credentials::from(&member.peer);
        member.has(&proof.secret) && who.is_some_and(|who| who.pid == pid && who.uid == uid)
    });
    if shared.is_stopping() {
        return Err(declined(
            Refusal::ShuttingDown,
            "the server is shutting down: try again when it is back",
        ));
    }
    member.ok_or_else(|| {
        let mut refused = Refused::new("proof", "a request for a client that is not of that process");
        refused.who = who;
        shared.events.tell(Event::Refused(refused));
        let why = "no client with this key and secret is registered by this process: register first, and ask in the \
                   process that registered";
        declined(Refusal::NotRegistered, why)
    })
}

/// Refuses what was declined, and says in an event `what` that was, if the server could not do it or a rule
/// does not allow it. The connection is closed then.
pub(super) fn conclude(
    shared: &Shared,
    connections: &mut Connections,
    id: ConnectionId,
    what: &'static str,
    answered: Result<(), Declined>,
) {
    let Err(Declined { refusal, why }) = answered else { return };
    let reason = match refusal {
        Refusal::Quota => "quota",
        Refusal::NoResources => "resources",
        Refusal::AgainstRules => "rule",
        // The client's own business, or told already.
        _ => return connections.refuse(shared, id, refusal, &why),
    };
    if let Some(connection) = connections.get(id) {
        let mut refused = Refused::new(reason, what);
        refused.error = Some(why.clone());
        shared.events.tell(Event::Refused(refused.of(connection.socket.who())));
    }
    connections.refuse(shared, id, refusal, &why);
}

/// A pipe that wakes a client.
pub(super) fn pipe() -> Result<NewPipe, Declined> {
    let cannot = |error: io::Error| {
        declined(Refusal::NoResources, format!("the server cannot make a pipe: {error}{}", on_pipes(&error)))
    };
    let pipe = kick_pipe().map_err(cannot)?;
    if leaves_too_few(&pipe, LAST_DESCRIPTORS) {
        return Err(declined(Refusal::NoResources, NO_DESCRIPTORS));
    }
    Ok(pipe)
}

/// Whether fewer descriptors are left beyond those of this pipe.
pub(super) fn leaves_too_few(pipe: &NewPipe, left: u64) -> bool {
    [&pipe.read, &pipe.write, &pipe.other].into_iter().any(|end| nearly_the_last(end, left))
}

/// A pidfd of a client's process, or what stands in for it where the system gives out none.
pub(super) fn process_of(
    connections: &Connections,
    member: &Member,
    stand_in: impl FnOnce() -> io::Result<OwnedFd>,
) -> Result<OwnedFd, Declined> {
    let id = member.connection();
    if let Some(pidfd) = connections.pidfd(id) {
        return Ok(pidfd);
    }
    let lifeline = connections.get(id).map(|connection| &connection.socket).ok_or_else(no_pidfd)?;
    let pid = lifeline.who().pid;
    if peer_is_dead(&**lifeline, pid) {
        return Err(declined(Refusal::NotFound, "the client has just died: try again when it is back"));
    }
    process_or(peer_pidfd(&**lifeline, pid), stand_in)
}

/// The pidfd, if there is one, or what stands in for it.
pub(super) fn process_or(
    pidfd: Option<OwnedFd>,
    stand_in: impl FnOnce() -> io::Result<OwnedFd>,
) -> Result<OwnedFd, Declined> {
    pidfd.map_or_else(|| stand_in().map_err(|_| no_pidfd()), Ok)
}

pub(super) fn no_pidfd() -> Declined {
    let why = "the server cannot get a descriptor of a client's process, by which the other side would notice its death: raise \
               the server's limit of open files (ulimit -n)";
    declined(Refusal::NoResources, why)
}
