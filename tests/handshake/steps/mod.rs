//! What can happen next in a state.

mod callee;
mod caller;
mod ends;
mod harm;
mod report;
mod server;

use std::fmt;

use super::model::{Fault, Harm, Model};
use super::state::{CALLER, Process, State};

/// The steps that can be made in a state.
pub struct Steps<'a> {
    model: &'a Model,
    from: &'a State,
    pub list: Vec<(Step, State)>,
    /// Whether one of them happens sooner or later, if nothing else does.
    pub goes_on: bool,
    timeouts: Vec<(Step, State)>,
}

/// A step, for a trace.
pub struct Step {
    who: Who,
    what: &'static str,
    link: Option<usize>,
}

#[derive(Clone, Copy)]
enum Who {
    Server,
    Client(usize),
    Child(usize),
}

impl<'a> Steps<'a> {
    pub fn from(model: &'a Model, from: &'a State) -> Steps<'a> {
        let mut steps = Steps { model, from, list: Vec::new(), goes_on: false, timeouts: Vec::new() };
        steps.by_the_server();
        for link in 0..model.links.len() {
            steps.by_the_caller(link);
            steps.by_the_callee(link);
            steps.by_those_who_close(link);
        }
        for client in 0..model.clients {
            steps.by_the_taker(client);
            steps.by_the_reporter(client);
        }
        steps.by_chance();
        let timeouts = std::mem::take(&mut steps.timeouts);
        if !steps.goes_on {
            steps.goes_on = !timeouts.is_empty();
            steps.list.extend(timeouts);
        } else if from.harms < model.harms && model.harm.contains(&Harm::IsSlow) {
            let late =
                timeouts.into_iter().map(|(step, next)| (step, State { harms: from.harms + 1, ..next }));
            steps.list.extend(late);
        }
        steps
    }

    /// A step that happens sooner or later.
    fn must(&mut self, who: Who, what: &'static str, link: Option<usize>, change: impl FnOnce(&mut State)) {
        self.goes_on = true;
        self.may(who, what, link, change);
    }

    /// The same for what happens when five seconds are over.
    fn timeout(&mut self, who: Who, what: &'static str, link: usize, change: impl FnOnce(&mut State)) {
        let mut next = *self.from;
        change(&mut next);
        next.settle(self.model);
        self.timeouts.push((Step { who, what, link: Some(link) }, next));
    }

    /// A step that may never happen.
    fn may(&mut self, who: Who, what: &'static str, link: Option<usize>, change: impl FnOnce(&mut State)) {
        let mut next = *self.from;
        change(&mut next);
        next.settle(self.model);
        self.list.push((Step { who, what, link }, next));
    }

    /// A step that may never happen and that counts as harm.
    fn harm(
        &mut self,
        harm: Harm,
        who: Who,
        what: &'static str,
        link: Option<usize>,
        change: impl FnOnce(&mut State),
    ) {
        if self.from.harms < self.model.harms && self.model.harm.contains(&harm) {
            self.may(who, what, link, |next| {
                next.harms += 1;
                change(next);
            });
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.model.has(fault)
    }

    /// Whether the owner of a side runs.
    fn runs(&self, link: usize, role: usize) -> bool {
        self.from.clients[self.model.owner(link, role)].process == Process::Runs
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 3] = ["Alice", "Bob", "Carol"];
        match self.who {
            Who::Server => write!(f, "the server")?,
            Who::Client(index) => write!(f, "{}", NAMES[index])?,
            Who::Child(index) => write!(f, "{}'s child", NAMES[index])?,
        }
        write!(f, " {}", self.what)?;
        match self.link {
            Some(link) => write!(f, " (link {link})"),
            None => Ok(()),
        }
    }
}

/// All sides of all links, as a set with one bit for each.
fn bit_of(link: usize, role: usize) -> u8 {
    1 << (2 * link + role)
}

/// The peer's role.
fn other(role: usize) -> usize {
    CALLER + 1 - role
}
