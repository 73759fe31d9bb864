//! The server: introduces, hands out what is taken, lets what is not taken expire, and keeps its table.
//!
//! In the code: CONNECT is `Broker::connect` (`introduce`, `Table::begin`), TAKE `Broker::take`
//! (`Waiting::put_back` if the answer cannot be sent), the expiry `Broker::look_after`, a client's end
//! `Broker::left`, the shutdown `Broker::clear`. An index is a place of `LinkMarks`; `Table::look` reads the
//! bits.

use super::{Fault, Steps, Who};
use crate::model::Model;
use crate::state::{CALLEE, CALLER, Child, Note, Process, ROLES, Server, Stage, State, Taker, Why};

impl Steps<'_> {
    pub(super) fn by_the_server(&mut self) {
        let (from, model) = (self.from, self.model);
        if from.server == Server::Dead {
            return;
        }
        for link in 0..model.links.len() {
            self.answers_connect(link);
            if from.links[link].sides[CALLEE].stage == Stage::Waiting && !self.has(Fault::NoExpiry) {
                self.timeout(Who::Server, "lets an introduction expire", link, |next| {
                    next.expire(model, link);
                });
            }
            if self.has(Fault::CallerForgotten) {
                self.forgets_the_caller(link);
            }
        }
        for client in 0..model.clients {
            self.answers_take(client);
            let it = &from.clients[client];
            // The lifeline ends with the last holder of its socket. A death is noticed by the pidfd, too.
            let beside = it.process == Process::Execed && it.child == Child::Runs;
            let gone = matches!(it.process, Process::Dead | Process::Execed) || it.left;
            if it.known && gone && !beside {
                self.must(Who::Client(client), "is missed by the server", None, |next| {
                    next.forget(model, client);
                });
            }
        }
    }

    /// In one step: all that the server makes and does here is dropped if it dies in the middle.
    fn answers_connect(&mut self, link: usize) {
        let model = self.model;
        let side = &self.from.links[link].sides[CALLER];
        let given_up =
            side.stage == Stage::GivingUp && self.has(Fault::ConnectNotUndone) && side.note.is_none();
        if !(matches!(side.stage, Stage::Asked | Stage::Orphaned) || given_up) || side.in_flight {
            return;
        }
        let (caller, callee) = model.links[link];
        if side.stage == Stage::Orphaned && self.from.clients[caller].child == Child::None {
            // Nobody has the other end of the connection: the answer cannot be sent.
            return;
        }
        let waiting = self.count(callee, |stage| stage == Stage::Waiting);
        self.must(Who::Server, "answers CONNECT", Some(link), |next| {
            let target = &next.clients[callee];
            let refused = if next.server == Server::ShuttingDown {
                Some(Why::ShuttingDown)
            } else if !next.clients[caller].known || next.links[link].sides[CALLER].life != next.life {
                Some(Why::NotRegistered)
            } else if !target.known || !target.serving {
                Some(Why::NotServing)
            } else if waiting >= model.most_waiting {
                Some(Why::Backlog)
            } else if !next.introduce(model, link) {
                Some(Why::Quota)
            } else {
                None
            };
            if let Some(why) = refused {
                next.links[link].sides[CALLER].stage = Stage::Ended(why);
            }
        });
    }

    fn forgets_the_caller(&mut self, link: usize) {
        let [caller, callee] = &self.from.links[link].sides;
        let owner = self.model.owner(link, CALLEE);
        let noted = callee.note.is_some_and(|note| !self.from.counts_as_ended(owner, &note));
        if let Some(note) = caller.note
            && !noted
            && !note.ended
        {
            self.timeout(Who::Server, "takes the caller for ended, too", link, |next| {
                next.links[link].sides[CALLER].note = Some(Note { ended: true, ..note });
            });
        }
    }

    fn answers_take(&mut self, client: usize) {
        let (from, model) = (self.from, self.model);
        let it = &from.clients[client];
        if it.taker != Taker::Asked {
            return;
        }
        let welcome = it.known && it.life == from.life && from.server == Server::Up;
        let mut nothing = true;
        for link in (0..model.links.len()).filter(|&link| model.owner(link, CALLEE) == client) {
            if welcome && from.links[link].sides[CALLEE].stage == Stage::Waiting {
                nothing = false;
                self.must(Who::Server, "answers TAKE", Some(link), |next| {
                    let side = &mut next.links[link].sides[CALLEE];
                    (side.stage, side.in_flight) = (Stage::Sent, true);
                    side.kept = model.has(Fault::KeptAfterTake);
                    next.clients[client].taker = Taker::Answered(link as u8);
                    if !next.clients[client].is_there() {
                        next.links[link].sides[CALLEE].stage = Stage::Ended(Why::Died);
                        next.clients[client].taker = Taker::Idle;
                    }
                });
            }
        }
        if nothing {
            self.must(Who::Server, "answers TAKE with nothing", None, |next| {
                let hears = next.clients[client].is_there() && !model.coarse;
                next.clients[client].taker = if hears { Taker::Nothing } else { Taker::Idle };
            });
        }
    }
}

impl State {
    /// Makes a link, if both clients have an index left: answers the caller, puts the callee's side into its
    /// queue, and rings its bell.
    fn introduce(&mut self, model: &Model, link: usize) -> bool {
        for role in ROLES {
            let owner = model.owner(link, role);
            self.sweep(model, owner);
            let Some(note) = self.give_index(model, owner) else {
                self.links[link].sides[CALLER].note = None;
                return false;
            };
            let life = self.life;
            let side = &mut self.links[link].sides[role];
            side.note = Some(note);
            (side.index, side.life) = (note.index, life);
        }
        let sides = &mut self.links[link].sides;
        sides[CALLER].in_flight = sides[CALLER].stage != Stage::GivingUp;
        if sides[CALLER].stage == Stage::Orphaned {
            sides[CALLER].stage = Stage::Ended(Why::Died);
        }
        sides[CALLEE].stage = Stage::Waiting;
        self.clients[model.owner(link, CALLEE)].bell = true;
        true
    }

    /// Reads the bits of a client, and notes which of its sides have ended.
    pub(super) fn sweep(&mut self, model: &Model, client: usize) {
        if model.has(Fault::EndNotNoted) {
            return;
        }
        for link in 0..model.links.len() {
            for role in ROLES.into_iter().filter(|&role| model.owner(link, role) == client) {
                if let Some(mut note) = self.links[link].sides[role].note {
                    note.ended = self.counts_as_ended(client, &note);
                    self.links[link].sides[role].note = Some(note);
                }
            }
        }
    }

    /// A free index of a client, and its bit as it is now.
    pub(super) fn give_index(&self, model: &Model, client: usize) -> Option<Note> {
        let sides = || (0..model.links.len()).flat_map(|link| ROLES.map(|role| (link, role)));
        let taken = |index: u8| {
            sides().filter(|&(link, role)| model.owner(link, role) == client).any(|(link, role)| {
                let note = self.links[link].sides[role].note;
                note.is_some_and(|note| note.index == index && !self.counts_as_ended(client, &note))
            })
        };
        let index = (0..model.indices).find(|&index| !taken(index) || model.has(Fault::IndexReused))?;
        Some(Note { index, value: self.clients[client].bits >> index & 1 == 1, ended: false })
    }

    /// An introduction was not taken in time. Its callee's side has ended; its caller's has not.
    fn expire(&mut self, model: &Model, link: usize) {
        let sides = &mut self.links[link].sides;
        sides[CALLEE].stage = Stage::Ended(Why::NeverTaken);
        for role in ROLES {
            if let Some(note) = &mut sides[role].note
                && (role == CALLEE || model.has(Fault::ForgottenWhenExpired))
            {
                note.ended = true;
            }
        }
    }

    /// A client is gone: so is what waits for it, and its sides of links in the table.
    pub(super) fn forget(&mut self, model: &Model, client: usize) {
        self.sweep(model, client);
        self.clients[client].known = false;
        for link in 0..model.links.len() {
            for role in ROLES.into_iter().filter(|&role| model.owner(link, role) == client) {
                let side = &mut self.links[link].sides[role];
                if side.stage == Stage::Waiting {
                    side.stage = Stage::Ended(Why::NeverTaken);
                }
                if let Some(note) = &mut side.note {
                    note.ended = true;
                }
            }
        }
    }

    /// The server drops all introductions that wait.
    pub(super) fn drop_waiting(&mut self, model: &Model) {
        for link in 0..model.links.len() {
            if self.links[link].sides[CALLEE].stage == Stage::Waiting {
                self.expire(model, link);
            }
        }
    }
}
