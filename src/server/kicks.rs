//! Gives a client the pipe by which one half of its channel is woken in an event loop.
//!
//! The server keeps a write end of its own, as long as the client is registered. Nobody else pays for what
//! the client does with its ends: a kick waits for nothing, a full pipe is readable as it is, and one that
//! the client has closed is written to in vain.

#![forbid(unsafe_code)]

use rustix::process::{Resource, getrlimit};
use std::os::fd::AsFd;

use super::answers::{Declined, cannot_hand_over, conclude, declined, leaves_too_few, member_of, pipe};
use super::connections::{ConnectionId, Connections};
use super::shared::Shared;
use crate::connect::{Half, Proof, Refusal};
use crate::os::pipe::NewPipe;
use crate::shm::backend::PipeWriter;
use crate::testing::failpoints::failpoint;

/// The part of all descriptors that these pipes, and topics, leave to clients that register: one in so many.
/// Those of the users to whom quotas apply leave twice as many, so that the server's own user gets pipes,
/// too.
const RESERVE: u64 = 4;

/// Answers a client that asks for the pipe of one half.
pub(super) fn kick(
    shared: &Shared,
    connections: &mut Connections,
    id: ConnectionId,
    proof: &Proof,
    half: Half,
) {
    let answered = give(shared, connections, id, proof, half);
    conclude(shared, connections, id, "a pipe to wait by was refused", answered);
}

/// How many descriptors are kept for clients that register, when a client of this user asks for one that the
/// server holds as long as the client wants.
pub(super) fn kept_from(shared: &Shared, uid: u32) -> u64 {
    let parts = if shared.ledger.is_exempt(uid) { 1 } else { 2 };
    parts * kept_from_all()
}

/// How many are kept from everyone.
pub(super) fn kept_from_all() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / RESERVE
}

fn give(
    shared: &Shared,
    connections: &mut Connections,
    id: ConnectionId,
    proof: &Proof,
    half: Half,
) -> Result<(), Declined> {
    let member = member_of(shared, connections, id, proof)?;
    let kick = match half {
        Half::Caller => &member.kicks.caller,
        Half::Inbox => &member.kicks.inbox,
    };
    if kick.is_set() {
        let why = "this half of the client has its pipe already, of which there is one in a registration: keep it, or \
                   register anew";
        return Err(declined(Refusal::Unknown, why));
    }
    let pipe = pipe()?;
    if leaves_too_few(&pipe, kept_from(shared, member.peer.uid)) {
        let why = "the server keeps its last descriptors for clients that register: wait until a client is gone, or                    raise the server's limit of open files (ulimit -n)";
        return Err(declined(Refusal::NoResources, why));
    }
    let NewPipe { read, write, other } = pipe;
    failpoint!("kick.made", [server], seldom);
    connections.answer(id, &[], &[read.as_fd(), write.as_fd()]).map_err(cannot_hand_over("a pipe"))?;
    failpoint!("kick.answered", [server], seldom);
    kick.set(PipeWriter::new(other));
    // The client may have armed already, and have been looked for where there was no pipe yet.
    kick.kick();
    Ok(())
}
