//! What both sides of a link do alike: receive, open, notice the peer's end, and close.
//!
//! In the code: `LinkEnd::begin` opens and `OpenLink::close` closes; `Watcher::has_ended` is the watcher's
//! close, and `OpenLink::note_the_end` the flip. That a wait finds a link closed is the ring's
//! `look_after_close`: what was committed comes first. `Links::end` closes all of a client that leaves.

use super::{Fault, Harm, Steps, Who, other};
use crate::model::Model;
use crate::state::{Block, CALLEE, CALLER, Closing, Process, ROLES, Report, Side, Stage, State, Taker, Why};

impl Steps<'_> {
    /// A side that was received is opened. Its client may have unregistered, or dropped its listener,
    /// meanwhile.
    pub(super) fn opens(&mut self, link: usize, role: usize) {
        let (from, model) = (self.from, self.model);
        let owner = model.owner(link, role);
        let (who, at) = (Who::Client(owner), Some(link));
        let client = &from.clients[owner];
        let unwanted =
            (client.left && !self.has(Fault::OpenedAfterLeaving)) || (role == CALLEE && !client.serving);
        if unwanted {
            return self.must(who, "drops what nobody wants any more", at, |next| {
                next.drop_received(model, link, role, Why::Unregistered);
            });
        }
        self.must(who, "maps the segment and watches the peer", at, |next| {
            let side = &mut next.links[link].sides[role];
            (side.mapped, side.watched) = (true, true);
            side.stage = Stage::Begun;
            if model.coarse && role == CALLER {
                next.say_hello(link);
            } else if model.coarse && !model.has(Fault::AcceptedBeforeHello) {
                next.answer_hello(link);
                next.keep_or_refuse(model, link);
            }
        });
        self.harm(Harm::Fails, who, "cannot map the segment", at, |next| {
            next.drop_received(model, link, role, Why::Failed);
        });
    }

    /// Whoever waits or works on a side sees that it was closed, the watcher sees that the peer is gone, and
    /// both close.
    pub(super) fn by_those_who_close(&mut self, link: usize) {
        for role in ROLES {
            if self.runs(link, role) {
                self.notices(link, role);
                self.watches(link, role);
                self.closes(link, role);
            }
        }
    }

    fn notices(&mut self, link: usize, role: usize) {
        let (from, model) = (self.from, self.model);
        let owner = model.owner(link, role);
        let (who, at) = (Who::Client(owner), Some(link));
        let here = &from.links[link];
        let side = &here.sides[role];
        let looks =
            matches!(side.stage, Stage::Said | Stage::Heard | Stage::Silent | Stage::Incoming | Stage::Open);
        if !looks || (role == CALLEE && side.stage == Stage::Said) {
            return;
        }
        // A coarse search lets the caller read both blocks in one step.
        let next = usize::from(here.read.max(model.coarse.into()));
        let unread = here.said.get(next).is_some_and(|&block| block != Block::None);
        let first = role == CALLER && unread && !self.has(Fault::EndBeforeAnswer);
        let told = here.closed && !self.has(Fault::ClosedWordNotHeeded);
        if (told || side.is_closed_here()) && !first {
            let untold = role == CALLER && matches!(here.said[1], Block::Refused | Block::Busy);
            let why = if untold { Why::Untold } else { Why::Gone };
            self.must(who, "finds the link closed", at, |next| next.close(model, link, role, why));
        }
        if side.stage == Stage::Open || side.stage == Stage::Incoming {
            self.harm(Harm::Closes, who, "closes the link", at, |next| {
                next.close(model, link, role, Why::Closed);
            });
        }
    }

    fn watches(&mut self, link: usize, role: usize) {
        let (from, model) = (self.from, self.model);
        let side = &from.links[link].sides[role];
        if !side.watched || side.watcher != Closing::No {
            return;
        }
        let peer = model.owner(link, other(role));
        let hung_up = !from.has_holder(link, other(role)) && !self.has(Fault::NoHangUp);
        let dead = from.clients[peer].process == Process::Dead && !self.has(Fault::NoPidfd);
        let who = Who::Client(model.owner(link, role));
        if hung_up || dead {
            let what = if dead { "sees that the peer died" } else { "sees that the peer hung up" };
            self.must(who, what, Some(link), |next| {
                next.links[link].closed = true;
                next.links[link].sides[role].watcher = Closing::Stored;
                next.finish_at_once(model, link, role);
            });
        }
    }

    fn closes(&mut self, link: usize, role: usize) {
        let model = self.model;
        let who = Who::Client(model.owner(link, role));
        let side = &self.from.links[link].sides[role];
        for (closing, by_owner) in [(side.owner, true), (side.watcher, false)] {
            match closing {
                Closing::Stored => {
                    self.must(who, "drops the descriptors, if it has them", Some(link), |next| {
                        next.links[link].sides[role].let_go();
                        *next.links[link].sides[role].closing(by_owner) = Closing::LetGo;
                    })
                }
                Closing::LetGo => self.must(who, "flips the bit, if nobody did", Some(link), |next| {
                    next.flip(model, link, role);
                    *next.links[link].sides[role].closing(by_owner) = Closing::Done;
                }),
                Closing::No | Closing::Done => {}
            }
        }
    }
}

impl State {
    /// The datagram's descriptors are its receiver's now. The child's copy of the socket is empty.
    pub(super) fn receive(&mut self, model: &Model, link: usize, role: usize) {
        let side = &mut self.links[link].sides[role];
        (side.in_flight, side.copied, side.holds) = (false, false, true);
        side.stage = Stage::Got;
        if model.has(Fault::FlippedEarly) {
            self.flip(model, link, role);
        }
    }

    pub(super) fn say_hello(&mut self, link: usize) {
        self.links[link].caller_said = true;
        self.links[link].sides[CALLER].stage = Stage::Said;
    }

    /// Closes what was received and never opened.
    pub(super) fn drop_received(&mut self, model: &Model, link: usize, role: usize, why: Why) {
        self.close(model, link, role, why);
        if model.has(Fault::DrainedNotTold) && !model.coarse {
            let side = &mut self.links[link].sides[role];
            side.let_go();
            side.owner = Closing::Done;
        }
    }

    /// The owner of a side closes it. What is left of the close follows in steps of its own.
    pub(super) fn close(&mut self, model: &Model, link: usize, role: usize, why: Why) {
        let side = &mut self.links[link].sides[role];
        side.stage = Stage::Ended(why);
        side.owner = Closing::Stored;
        self.links[link].closed |= side.mapped;
        self.finish_at_once(model, link, role);
    }

    fn finish_at_once(&mut self, model: &Model, link: usize, role: usize) {
        if model.coarse {
            self.flip(model, link, role);
            let side = &mut self.links[link].sides[role];
            for by_owner in [true, false] {
                let closing = side.closing(by_owner);
                if *closing != Closing::No {
                    *closing = Closing::Done;
                }
            }
            side.let_go();
        }
    }

    pub(super) fn flip(&mut self, model: &Model, link: usize, role: usize) {
        let side = &mut self.links[link].sides[role];
        if side.flipped && !model.has(Fault::FlippedTwice) {
            return;
        }
        side.flipped = true;
        let client = &mut self.clients[model.owner(link, role)];
        if side.life == client.life || model.has(Fault::IndexOfOldPage) {
            client.bits ^= 1 << side.index;
        }
    }

    /// What a process had is gone with it. What is in a socket is gone unless the child has it too.
    pub(super) fn lose_process(&mut self, model: &Model, client: usize) {
        for link in 0..model.links.len() {
            for role in ROLES.into_iter().filter(|&role| model.owner(link, role) == client) {
                let copied = if role == CALLER {
                    self.links[link].sides[role].copied
                } else {
                    self.clients[client].taker_copied
                };
                let side = &mut self.links[link].sides[role];
                side.let_go();
                side.in_flight &= copied;
                side.owner = Closing::No;
                side.watcher = Closing::No;
                side.stage = match side.stage {
                    Stage::Asked if copied && !side.in_flight => Stage::Orphaned,
                    // The server has it still, or it was never begun.
                    Stage::Waiting => Stage::Waiting,
                    Stage::Idle if role == CALLEE => Stage::Idle,
                    Stage::Ended(why) => Stage::Ended(why),
                    _ => Stage::Ended(Why::Died),
                };
            }
        }
        let it = &mut self.clients[client];
        it.bell = false;
        it.report = Report::None;
        if !it.taker_copied || it.taker != Taker::Asked {
            it.taker = Taker::Idle;
        }
    }
}

impl Side {
    fn closing(&mut self, by_owner: bool) -> &mut Closing {
        if by_owner { &mut self.owner } else { &mut self.watcher }
    }

    fn let_go(&mut self) {
        (self.holds, self.watched) = (false, false);
    }
}
