//! The caller: asks CONNECT, opens what it gets, says hello, and waits for the callee's hello and decision.
//!
//! In the code (`src/client/links/handshake/`): `be_introduced` asks, and drains what it gives up with
//! `Line::give_up` and `note_unused`; `begin` opens, `say_hello` and `hear` do the rest, and the drop of the
//! `LinkEnd` closes.

use super::{Fault, Harm, Steps, Who};
use crate::state::{Block, CALLER, Child, Process, Server, Stage, State, Why};

impl Steps<'_> {
    pub(super) fn by_the_caller(&mut self, link: usize) {
        let (from, model) = (self.from, self.model);
        let owner = model.owner(link, CALLER);
        let (who, at) = (Who::Client(owner), Some(link));
        let here = &from.links[link];
        let side = &here.sides[CALLER];
        let client = &from.clients[owner];
        if side.stage == Stage::Orphaned && (!client.known || client.child != Child::Runs) {
            return self.must(Who::Server, "drops an ask of a client that is gone", at, |next| {
                next.links[link].sides[CALLER].stage = Stage::Ended(Why::Died);
            });
        }
        if client.process != Process::Runs {
            return;
        }
        match side.stage {
            Stage::Idle => self.must(who, "asks CONNECT", at, |next| {
                // The ask proves the registration that the client has now.
                next.links[link].sides[CALLER].life = next.clients[owner].life;
                next.links[link].sides[CALLER].stage = match next.server {
                    _ if next.clients[owner].left => Stage::Ended(Why::Unregistered),
                    Server::Dead => Stage::CutOff,
                    _ => Stage::Asked,
                };
            }),
            Stage::CutOff => self.must(who, "finds that the server is gone", at, |next| {
                next.links[link].sides[CALLER].stage = Stage::Ended(Why::ServerGone);
            }),
            Stage::Asked => {
                if side.in_flight {
                    self.must(who, "receives the caller's side", at, |next| {
                        next.receive(model, link, CALLER)
                    });
                }
                self.gives_the_ask_up(link);
                self.takes_an_older_answer(link);
            }
            Stage::GivingUp if side.in_flight => {
                self.must(who, "receives and drops the caller's side", at, |next| {
                    next.receive(model, link, CALLER);
                    next.drop_received(model, link, CALLER, Why::GaveUp);
                })
            }
            Stage::GivingUp => self.must(who, "closes the empty connection", at, |next| {
                next.links[link].sides[CALLER].stage = Stage::Ended(Why::GaveUp);
            }),
            Stage::Got => self.opens(link, CALLER),
            Stage::Begun => self.must(who, "says hello", at, |next| next.say_hello(link)),
            Stage::Said | Stage::Heard => {
                self.reads(link);
                self.waits(link);
            }
            _ => {}
        }
    }

    fn gives_the_ask_up(&mut self, link: usize) {
        let (who, at) = (Who::Client(self.model.owner(link, CALLER)), Some(link));
        let keeps = self.has(Fault::ConnectionUsedAgain);
        if keeps || self.has(Fault::ConnectNotDrained) {
            return self.harm(Harm::GivesUp, who, "gives CONNECT up, and does not read on", at, |next| {
                let side = &mut next.links[link].sides[CALLER];
                side.stage = Stage::Ended(Why::GaveUp);
                side.in_flight &= side.copied || keeps;
            });
        }
        let (coarse, model) = (self.model.coarse, self.model);
        self.harm(Harm::GivesUp, who, "gives CONNECT up and shuts the queue down", at, |next| {
            let side = &mut next.links[link].sides[CALLER];
            match (coarse, side.in_flight) {
                (false, _) => side.stage = Stage::GivingUp,
                (true, false) => side.stage = Stage::Ended(Why::GaveUp),
                (true, true) => {
                    next.receive(model, link, CALLER);
                    next.drop_received(model, link, CALLER, Why::GaveUp);
                }
            }
        });
    }

    fn takes_an_older_answer(&mut self, link: usize) {
        if !self.has(Fault::ConnectionUsedAgain) || link == 0 {
            return;
        }
        let older = &self.from.links[link - 1].sides[CALLER];
        let same = self.model.owner(link - 1, CALLER) == self.model.owner(link, CALLER);
        if same && older.in_flight && older.has_ended() {
            let who = Who::Client(self.model.owner(link, CALLER));
            self.must(who, "receives the answer to an older ask", Some(link), |next| next.mixed_up = true);
        }
    }

    /// What the caller finds in the response ring.
    fn reads(&mut self, link: usize) {
        let (from, model) = (self.from, self.model);
        let who = Who::Client(model.owner(link, CALLER));
        let at = Some(link);
        let here = &from.links[link];
        // A coarse search lets her read both blocks in one step.
        let both = model.coarse && here.said[0] == Block::Hello && here.said[1] != Block::None;
        if model.coarse && !both && here.said[0] == Block::Hello {
            return;
        }
        let read = usize::from(here.read.max(both.into()));
        let heard = both || here.sides[CALLER].stage == Stage::Heard;
        let end = |next: &mut State, why| next.close(model, link, CALLER, why);
        match here.said.get(read).copied().unwrap_or(Block::None) {
            Block::None => {}
            Block::Hello if !heard => self.must(who, "reads the hello", at, |next| {
                next.links[link].read += 1;
                next.links[link].sides[CALLER].stage = Stage::Heard;
            }),
            Block::Accepted if heard => self.must(who, "reads that it was accepted", at, |next| {
                next.links[link].read = 2;
                next.links[link].sides[CALLER].stage = Stage::Open;
            }),
            Block::Refused if heard => {
                self.must(who, "reads that it was refused", at, |next| end(next, Why::Refused));
            }
            Block::Busy if heard => {
                self.must(who, "reads that the callee is busy", at, |next| end(next, Why::Busy));
            }
            _ => self.must(who, "finds a block out of turn", at, |next| end(next, Why::Violation)),
        }
    }

    /// How the caller's wait ends without a decision.
    fn waits(&mut self, link: usize) {
        let (from, model) = (self.from, self.model);
        let who = Who::Client(model.owner(link, CALLER));
        let at = Some(link);
        let here = &from.links[link];
        let unheard = here.sides[CALLER].stage == Stage::Said && here.said[0] == Block::None;
        if unheard && !self.has(Fault::CalleeNeedsNoHello) {
            self.timeout(who, "has waited 5 s for the hello", link, |next| {
                next.close(model, link, CALLER, Why::NoHello);
            });
        }
        if model.undecided {
            self.timeout(who, "has waited until the deadline", link, |next| {
                next.close(model, link, CALLER, Why::GaveUp);
            });
        } else {
            self.harm(Harm::GivesUp, who, "gives up", at, |next| {
                next.close(model, link, CALLER, Why::GaveUp)
            });
        }
    }
}
