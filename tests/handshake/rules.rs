//! The rules of the handshake: what holds in every state, and what holds when nothing more happens by itself.

use super::model::Model;
use super::state::{CALLEE, CALLER, Child, Process, ROLES, Report, Server, Stage, State, Taker, Why};

pub const TWO_LINKS: &str = "two ends that believe in different links";
pub const TAKEN_FOR_ENDED: &str = "the server takes a side for ended that is not";
pub const NOTED_TWICE: &str = "the server has noted a side twice";
pub const VIOLATION: &str = "a violation between honest ends";
pub const ONE_SIDED: &str = "one side believes in a link that the other has ended";
pub const NEVER_ENDS: &str = "an attempt never ends";
pub const UNDECIDED: &str = "an incoming link is never decided";
pub const SERVER_HOLDS: &str = "the server keeps a descriptor";
pub const IN_FLIGHT: &str = "descriptors stay in a socket";
pub const HELD: &str = "a process keeps descriptors of a link that has ended";
pub const LINE_STAYS: &str = "the server's line stays though the side has ended";
pub const NOT_NOTED: &str = "the server does not know of an open link";
pub const NOT_TOLD: &str = "a decision of the callee is not told";
pub const AFTER_LEAVING: &str = "a link is open though its client has unregistered";
pub const NEEDLESS: &str = "an attempt fails though nobody is slow and nothing went wrong";

/// What is broken in this state, whatever follows.
pub fn always(model: &Model, state: &State) -> Option<&'static str> {
    if state.mixed_up {
        return Some(TWO_LINKS);
    }
    if state.noted_twice {
        return Some(NOTED_TWICE);
    }
    for link in 0..model.links.len() {
        let here = &state.links[link];
        for role in ROLES {
            let side = &here.sides[role];
            let client = model.owner(link, role);
            match side.stage {
                Stage::Ended(Why::Violation) => return Some(VIOLATION),
                Stage::Ended(Why::Untold) => return Some(NOT_TOLD),
                _ => {}
            }
            let here = state.clients[client].is_there() && state.clients[client].known;
            if let Some(note) = &side.note
                && here
                && side.lives()
                && state.counts_as_ended(client, note)
            {
                return Some(TAKEN_FOR_ENDED);
            }
        }
    }
    None
}

/// What is broken in a state in which nothing more happens by itself.
pub fn at_rest(model: &Model, state: &State) -> Option<&'static str> {
    (0..model.links.len()).find_map(|link| {
        beliefs(model, state, link)
            .or_else(|| ROLES.into_iter().find_map(|role| remains(model, state, link, role)))
            .or_else(|| answers(model, state, link))
    })
}

/// Both sides believe in the link, or none; and nobody waits. A process that has stopped notices nothing, and
/// its peer may go on believing in it.
fn beliefs(model: &Model, state: &State, link: usize) -> Option<&'static str> {
    let [caller, callee] = &state.links[link].sides;
    let believes = [caller, callee].map(|side| side.stage == Stage::Open);
    let stopped = ROLES.map(|role| state.clients[model.owner(link, role)].process == Process::Stopped);
    if believes[CALLER] != believes[CALLEE] && !stopped.contains(&true) {
        return Some(ONE_SIDED);
    }
    for role in ROLES {
        if believes[role] && state.clients[model.owner(link, role)].left {
            return Some(AFTER_LEAVING);
        }
    }
    if !matches!(caller.stage, Stage::Open | Stage::Ended(_)) && !stopped[CALLER] {
        return Some(NEVER_ENDS);
    }
    // The owner of the listener may leave a caller undecided, as long as there is one.
    let waits = !matches!(callee.stage, Stage::Idle | Stage::Open | Stage::Ended(_));
    if waits && callee.stage != Stage::Waiting && !stopped.contains(&true) {
        return Some(UNDECIDED);
    }
    None
}

/// What is left of a side: descriptors, and the server's note.
fn remains(model: &Model, state: &State, link: usize, role: usize) -> Option<&'static str> {
    let side = &state.links[link].sides[role];
    let client = model.owner(link, role);
    let owner = &state.clients[client];
    if side.stage == Stage::Waiting || side.kept {
        return Some(SERVER_HOLDS);
    }
    if owner.process == Process::Stopped {
        return None;
    }
    // A child may keep the socket of a parent that died; it goes with the child.
    if side.in_flight && (owner.is_there() || owner.child != Child::Runs) {
        return Some(IN_FLIGHT);
    }
    if side.is_closing() || (side.holds && side.has_ended()) {
        return Some(HELD);
    }
    if state.server != Server::Up {
        return None;
    }
    let noted = side.note.is_some_and(|note| !state.counts_as_ended(client, &note));
    if noted && side.has_ended() {
        return Some(LINE_STAYS);
    }
    if !noted && side.stage == Stage::Open && owner.known {
        return Some(NOT_NOTED);
    }
    let idle = matches!(owner.taker, Taker::Idle) && matches!(owner.report, Report::None);
    if !idle { Some(NEVER_ENDS) } else { None }
}

/// What need not fail does not.
fn answers(model: &Model, state: &State, link: usize) -> Option<&'static str> {
    let Stage::Ended(why) = state.links[link].sides[CALLER].stage else { return None };
    let only_listeners = model.only_listeners_change();
    let fails_for_a_reason = match why {
        Why::Refused | Why::Busy | Why::Backlog | Why::Quota => true,
        Why::NotServing | Why::Gone => only_listeners || model.may_not_take,
        Why::NoHello => model.may_not_take,
        Why::GaveUp => model.undecided,
        _ => false,
    };
    if (state.harms == 0 || only_listeners) && !fails_for_a_reason { Some(NEEDLESS) } else { None }
}
