//! After a restart of the server: clients register anew, listen again, and report the links that go on.
//!
//! In the code: `Broker::report` notes, and `OpenLink::note` takes the new index or tells at once that the
//! link has ended.

use super::{Fault, Harm, Steps, Who, bit_of};
use crate::model::Model;
use crate::state::{Process, ROLES, Report, Server, Stage, State, Taker, Why};

impl Steps<'_> {
    pub(super) fn by_the_reporter(&mut self, client: usize) {
        let (from, model) = (self.from, self.model);
        let who = Who::Client(client);
        let it = &from.clients[client];
        if !model.restarts || it.process != Process::Runs || it.left || from.server == Server::Dead {
            return;
        }
        if it.life != from.life && from.server == Server::Up {
            self.must(who, "registers anew and listens again", None, |next| {
                let callee = model.links.iter().any(|link| link.1 == client);
                let it = &mut next.clients[client];
                (it.known, it.life, it.bits) = (true, next.life, 0);
                (it.serving, it.bell, it.has_reported) = (callee, false, false);
            });
        }
        if it.life != from.life {
            return;
        }
        match it.report {
            Report::None => {
                // Only two of the faults ask whether it has reported.
                let counts = self.has(Fault::LateNotReported) || self.has(Fault::ReportedToItsMaker);
                let set = self.to_report(client);
                if set != 0 && !(self.has(Fault::LateNotReported) && it.has_reported) {
                    self.must(who, "reports links", None, |next| {
                        next.clients[client].report = Report::Asked(set);
                        next.clients[client].has_reported = counts;
                    });
                }
                if set == 0 && self.has(Fault::LateNotReported) && !it.has_reported {
                    self.must(who, "has nothing to report", None, |next| {
                        next.clients[client].has_reported = true;
                    });
                }
            }
            Report::Asked(set) => {
                self.must(Who::Server, "notes reported links", None, |next| {
                    let noted = next.note_reported(model, client, set);
                    next.clients[client].report = Report::Answered(noted);
                });
                // The server's answer fails then, and it takes back what it noted.
                self.harm(Harm::GivesUp, who, "gives the report up", None, |next| {
                    next.clients[client].report = Report::None;
                });
            }
            Report::Answered(noted) => {
                self.must(who, "hears that they are noted", None, |next| {
                    next.clients[client].report = Report::None;
                    next.take_indices(model, client, noted);
                });
                if self.has(Fault::ReportNotDrained) {
                    self.harm(
                        Harm::GivesUp,
                        who,
                        "gives the report up, and does not read on",
                        None,
                        |next| {
                            next.clients[client].report = Report::None;
                        },
                    );
                }
            }
        }
    }

    /// The open sides that the present server did not give an index.
    fn to_report(&self, client: usize) -> u8 {
        let mut set = 0;
        for link in 0..self.model.links.len() {
            for role in ROLES.into_iter().filter(|&role| self.model.owner(link, role) == client) {
                let side = &self.from.links[link].sides[role];
                let known = side.life == self.from.life && !self.reports_twice(client);
                if side.watched && !side.flipped && !known && !side.is_closed_here() {
                    set |= bit_of(link, role);
                }
            }
        }
        set
    }

    /// The planted fault reports once in each registration, so that runs stay finite.
    fn reports_twice(&self, client: usize) -> bool {
        self.has(Fault::ReportedToItsMaker) && self.from.life > 1 && !self.from.clients[client].has_reported
    }
}

impl State {
    fn note_reported(&mut self, model: &Model, client: usize, set: u8) -> u8 {
        let mut noted = 0;
        for (link, role) in sides(model, set) {
            self.sweep(model, client);
            let old = self.links[link].sides[role].note;
            if old.is_some_and(|note| !self.counts_as_ended(client, &note)) {
                self.noted_twice = true;
            }
            if let Some(note) = self.give_index(model, client) {
                self.links[link].sides[role].note = Some(note);
                noted |= bit_of(link, role);
            }
        }
        noted
    }

    /// A side that has ended since the report is told at once: it has not known its new index.
    fn take_indices(&mut self, model: &Model, client: usize, noted: u8) {
        for (link, role) in sides(model, noted) {
            let life = self.life;
            let side = &mut self.links[link].sides[role];
            let Some(note) = side.note else { continue };
            (side.index, side.life) = (note.index, life);
            if side.flipped && !model.has(Fault::EndWhileReported) {
                self.clients[client].bits ^= 1 << note.index;
            }
        }
    }

    /// The server is gone, and with it all that only it had. What it has sent can still be received.
    pub(super) fn lose_server(&mut self, model: &Model) {
        self.drop_waiting(model);
        self.server = Server::Dead;
        for link in 0..model.links.len() {
            for role in ROLES {
                let side = &mut self.links[link].sides[role];
                side.note = None;
                side.kept = false;
                match side.stage {
                    Stage::Asked if !side.in_flight => side.stage = Stage::CutOff,
                    Stage::Orphaned => side.stage = Stage::Ended(Why::Died),
                    _ => {}
                }
            }
        }
        for client in &mut self.clients {
            client.known = false;
            client.bell = false;
            if client.taker == Taker::Asked {
                let runs = client.is_there();
                client.taker = if runs { Taker::Nothing } else { Taker::Idle };
            }
            client.report = Report::None;
        }
    }
}

/// The sides in a set.
fn sides(model: &Model, set: u8) -> impl Iterator<Item = (usize, usize)> {
    let all = (0..model.links.len()).flat_map(|link| ROLES.map(|role| (link, role)));
    all.filter(move |&(link, role)| set & bit_of(link, role) != 0)
}
