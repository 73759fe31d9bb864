//! Gives a client the pipe by which one half of its channel is woken in an event loop.
//!
//! The server keeps a write end of its own, as long as the client is registered. Nobody else pays for what the
//! client does with its ends: a kick waits for nothing, a full pipe is readable as it is, and one that the
//! client has closed is written to in vain.

#![forbid(unsafe_code)]

use rustix::process::{Resource, getrlimit};
use std::os::fd::AsFd;

use super::answers::{Declined, cannot_hand_over, conclude, declined, member_of, pipe};
use super::connections::{ConnectionId, Connections};
use super::shared::Shared;
use crate::connect::{Half, Proof, Refusal};
use crate::os::pipe::{NewPipe, PipeWriter};
use crate::testing::failpoints::failpoint;

/// The part of all descriptors that pipes leave to clients that register: one in so many.
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
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let NewPipe { read, write, other } = pipe(limit / RESERVE)?;
    failpoint!("kick.made", [server], seldom);
    connections.answer(id, &[], &[read.as_fd(), write.as_fd()]).map_err(cannot_hand_over("a pipe"))?;
    failpoint!("kick.answered", [server], seldom);
    kick.set(PipeWriter::new(other));
    // The client may have armed already, and have been looked for where there was no pipe yet.
    kick.kick();
    Ok(())
}
