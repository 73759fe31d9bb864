//! The callee: its watcher takes what its bell announces, says hello, hears the caller's, and puts it into
//! the backlog; the listener's owner decides.
//!
//! In the code (`src/client/links/`): `Takes::rung` hears the bell, `ask` and `answered` take, `again` gives
//! up; `Intake::meet` opens, `admit` says hello and gives a place or refuses, `hear` hears the caller's
//! hello; `Incoming::accept` and `refuse` decide; `Intake::end` drops a listener.

use super::{Fault, Harm, Steps, Who};
use crate::model::Model;
use crate::state::{Block, CALLEE, Process, Server, Stage, State, Taker, Why};

impl Steps<'_> {
    /// The watcher's part that takes. It does one thing after the other.
    pub(super) fn by_the_taker(&mut self, client: usize) {
        let (from, model) = (self.from, self.model);
        let who = Who::Client(client);
        let it = &from.clients[client];
        if it.process != Process::Runs {
            return;
        }
        let late = self.has(Fault::BellEmptiedLate);
        if self.has(Fault::RingForgotten) && it.bell && it.taker != Taker::Idle {
            self.must(who, "hears the bell while TAKE is under way", None, |next| {
                next.clients[client].bell = false;
            });
        }
        match it.taker {
            Taker::Idle => {
                // A registration that the server ended has no bell.
                let wakes = it.bell && it.serving && !it.left && it.life == from.life;
                if wakes && model.may_not_take {
                    self.may(who, "hears the bell and asks TAKE", None, |next| asks(next, client, late));
                } else if wakes {
                    self.must(who, "hears the bell and asks TAKE", None, |next| asks(next, client, late));
                }
            }
            Taker::Nothing => self.must(who, "hears that nothing waits", None, |next| {
                next.clients[client].taker = Taker::Idle;
                next.clients[client].bell &= !late;
            }),
            Taker::Answered(link) => {
                let link = usize::from(link);
                let once = self.has(Fault::TakesOnce);
                self.must(who, "receives the callee's side and asks TAKE again", Some(link), |next| {
                    next.receive(model, link, CALLEE);
                    let over = next.server == Server::Dead || next.clients[client].life != next.life;
                    next.clients[client].taker = match over {
                        _ if once => Taker::Idle,
                        true => Taker::Nothing,
                        false => Taker::Asked,
                    };
                    next.clients[client].taker_copied = false;
                });
                self.gives_the_take_up(client, Some(link));
            }
            Taker::GivingUp(link) => {
                let link = usize::from(link);
                self.must(who, "receives and drops the callee's side", Some(link), |next| {
                    next.drop_taken(model, link);
                });
            }
            Taker::Asked => self.gives_the_take_up(client, None),
        }
    }

    fn gives_the_take_up(&mut self, client: usize, answered: Option<usize>) {
        let who = Who::Client(client);
        match answered {
            None => {
                let model = self.model;
                self.harm(Harm::GivesUp, who, "gives TAKE up before the answer", None, |next| {
                    if model.has(Fault::TakeNotUndone) {
                        next.lose_waiting(model, client);
                    }
                    tries_again(next, client);
                });
            }
            Some(link) if self.has(Fault::TakeNotDrained) => {
                self.harm(Harm::GivesUp, who, "gives TAKE up, and does not read on", Some(link), |next| {
                    let side = &mut next.links[link].sides[CALLEE];
                    side.stage = Stage::Ended(Why::GaveUp);
                    side.in_flight = next.clients[client].taker_copied;
                    next.clients[client].taker = Taker::Idle;
                    next.clients[client].bell = true;
                });
            }
            Some(link) => {
                let model = self.model;
                self.harm(Harm::GivesUp, who, "gives TAKE up and shuts the queue down", Some(link), |next| {
                    next.clients[client].taker = Taker::GivingUp(link as u8);
                    if model.coarse {
                        next.drop_taken(model, link);
                    }
                });
            }
        }
    }

    pub(super) fn by_the_callee(&mut self, link: usize) {
        let (from, model) = (self.from, self.model);
        let owner = model.owner(link, CALLEE);
        let (who, at) = (Who::Client(owner), Some(link));
        if !self.runs(link, CALLEE) {
            return;
        }
        let here = &from.links[link];
        let side = &here.sides[CALLEE];
        match side.stage {
            Stage::Got => self.opens(link, CALLEE),
            Stage::Begun if self.has(Fault::AcceptedBeforeHello) => {
                self.must(who, "puts it into the backlog", at, |next| next.set(link, Stage::Incoming));
            }
            Stage::Begun => self.must(who, "says hello", at, |next| next.answer_hello(link)),
            Stage::Said => self.must(who, "keeps a place for it, or says that there is none", at, |next| {
                next.keep_or_refuse(model, link);
            }),
            Stage::Silent => self.hears(link),
            Stage::Refusing => self.must(who, "closes what was refused", at, |next| {
                next.close(model, link, CALLEE, Why::Refused);
            }),
            Stage::Incoming => self.decides(link),
            _ => {}
        }
    }

    /// The watcher hears the caller's hello, or gives it up.
    fn hears(&mut self, link: usize) {
        let (from, model) = (self.from, self.model);
        let who = Who::Client(model.owner(link, CALLEE));
        let here = &from.links[link];
        let hello = here.caller_said || self.has(Fault::CallerNeedsNoHello);
        if hello {
            self.must(who, "puts it into the backlog", Some(link), |next| next.set(link, Stage::Incoming));
        } else if !self.has(Fault::HelloAwaitedForEver) {
            self.timeout(who, "has waited 5 s for the caller's hello", link, |next| {
                next.close(model, link, CALLEE, Why::NoHello);
            });
        }
    }

    /// The owner of the listener accepts or refuses.
    fn decides(&mut self, link: usize) {
        let (from, model) = (self.from, self.model);
        let who = Who::Client(model.owner(link, CALLEE));
        let at = Some(link);
        let here = &from.links[link];
        let early = self.has(Fault::AcceptedBeforeHello);
        if !here.sides[CALLEE].is_closed_here() {
            let accepts = |next: &mut State| {
                next.say(link, Block::Accepted);
                if early {
                    next.say(link, Block::Hello);
                }
                next.set(link, Stage::Open);
            };
            match model.undecided {
                true => self.may(who, "accepts", at, accepts),
                false => self.must(who, "accepts", at, accepts),
            }
        }
        self.may(who, "refuses", at, |next| {
            next.refuse(model, link, Block::Refused);
        });
    }

    /// How many links of this callee are at a stage.
    pub(super) fn count(&self, client: usize, is: impl Fn(Stage) -> bool) -> usize {
        let links = (0..self.model.links.len()).filter(|&link| self.model.owner(link, CALLEE) == client);
        links.filter(|&link| is(self.from.links[link].sides[CALLEE].stage)).count()
    }
}

fn asks(next: &mut State, client: usize, late: bool) {
    next.clients[client].bell = late;
    next.clients[client].taker = if next.server == Server::Dead { Taker::Nothing } else { Taker::Asked };
}

/// After a TAKE that failed, the watcher asks again a little later.
fn tries_again(next: &mut State, client: usize) {
    next.clients[client].taker = Taker::Idle;
    next.clients[client].taker_copied = false;
    next.clients[client].bell = true;
}

impl State {
    /// The callee commits a block in the response ring.
    fn say(&mut self, link: usize, block: Block) {
        let said = &mut self.links[link].said;
        said[usize::from(said[0] != Block::None)] = block;
    }

    pub(super) fn answer_hello(&mut self, link: usize) {
        self.say(link, Block::Hello);
        self.set(link, Stage::Said);
    }

    pub(super) fn keep_or_refuse(&mut self, model: &Model, link: usize) {
        let owner = model.owner(link, CALLEE);
        let links = (0..model.links.len()).filter(|&link| model.owner(link, CALLEE) == owner);
        let waits =
            |&link: &usize| matches!(self.links[link].sides[CALLEE].stage, Stage::Silent | Stage::Incoming);
        let full = links.filter(waits).count();
        if full < model.backlog && self.clients[owner].serving {
            self.set(link, Stage::Silent);
        } else if model.has(Fault::FullBacklogSilent) {
            self.close(model, link, CALLEE, Why::Busy);
        } else {
            self.refuse(model, link, Block::Busy);
        }
    }

    /// The planted fault: what could not be sent is dropped as if it had been taken.
    fn lose_waiting(&mut self, model: &Model, client: usize) {
        for link in (0..model.links.len()).filter(|&link| model.owner(link, CALLEE) == client) {
            let side = &mut self.links[link].sides[CALLEE];
            if side.stage == Stage::Waiting {
                side.stage = Stage::Ended(Why::NeverTaken);
            }
        }
    }

    /// What was taken by someone who has given up is received and dropped.
    fn drop_taken(&mut self, model: &Model, link: usize) {
        self.receive(model, link, CALLEE);
        self.drop_received(model, link, CALLEE, Why::GaveUp);
        tries_again(self, model.owner(link, CALLEE));
    }

    fn refuse(&mut self, model: &Model, link: usize, block: Block) {
        self.say(link, block);
        self.set(link, Stage::Refusing);
        if model.coarse {
            self.close(model, link, CALLEE, Why::Refused);
        }
    }

    fn set(&mut self, link: usize, stage: Stage) {
        self.links[link].sides[CALLEE].stage = stage;
    }
}
