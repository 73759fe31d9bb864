//! What may go wrong at any moment: deaths, forks, shutdowns, and owners who change their minds.

use super::{Fault, Harm, Steps, Who};
use crate::state::{CALLEE, CALLER, Child, Process, ROLES, Report, Server, Stage, State, Taker, Why};

impl Steps<'_> {
    pub(super) fn by_chance(&mut self) {
        for client in 0..self.model.clients {
            self.ends_of_processes(client);
            self.forks(client);
            self.owners(client);
        }
        self.ends_of_the_server();
    }

    fn ends_of_processes(&mut self, client: usize) {
        let (from, model) = (self.from, self.model);
        let who = Who::Client(client);
        let it = &from.clients[client];
        if it.process == Process::Dead {
            return;
        }
        self.harm(Harm::Dies, who, "dies", None, |next| {
            next.clients[client].process = Process::Dead;
            next.lose_process(model, client);
        });
        if it.process == Process::Runs {
            self.harm(Harm::Stops, who, "stops for ever", None, |next| {
                next.clients[client].process = Process::Stopped;
            });
            let harm =
                if it.child == Child::Runs && !model.coarse { Harm::ExecsBesideChild } else { Harm::Execs };
            self.harm(harm, who, "executes another program", None, |next| {
                next.clients[client].process = Process::Execed;
                next.lose_process(model, client);
            });
        }
    }

    fn forks(&mut self, client: usize) {
        let (from, model) = (self.from, self.model);
        let it = &from.clients[client];
        if it.process == Process::Runs && it.child == Child::None {
            self.harm(Harm::Forks, Who::Client(client), "forks", None, |next| {
                let it = &mut next.clients[client];
                it.child = Child::Runs;
                it.taker_copied = matches!(it.taker, Taker::Asked | Taker::Answered(_) | Taker::GivingUp(_));
                for link in 0..model.links.len() {
                    for role in ROLES.into_iter().filter(|&role| model.owner(link, role) == client) {
                        let side = &mut next.links[link].sides[role];
                        side.child = side.holds;
                        side.copied = role == CALLER && matches!(side.stage, Stage::Asked | Stage::GivingUp);
                    }
                }
            });
        }
        if it.child == Child::Runs && !model.coarse {
            self.may(Who::Child(client), "ends", None, |next| {
                let it = &mut next.clients[client];
                it.child = Child::None;
                it.taker_copied = false;
                let lost = !it.is_there();
                if lost {
                    it.taker = Taker::Idle;
                }
                for link in 0..model.links.len() {
                    for role in ROLES.into_iter().filter(|&role| model.owner(link, role) == client) {
                        let side = &mut next.links[link].sides[role];
                        (side.child, side.copied) = (false, false);
                        // Nobody else has the socket.
                        side.in_flight &= !lost && !side.has_ended();
                    }
                }
            });
        }
    }

    /// An owner unregisters, or drops the listener and perhaps makes another one.
    fn owners(&mut self, client: usize) {
        let (from, model) = (self.from, self.model);
        let who = Who::Client(client);
        let it = &from.clients[client];
        if it.process != Process::Runs || it.left {
            return;
        }
        self.harm(Harm::Unregisters, who, "unregisters", None, |next| {
            let it = &mut next.clients[client];
            (it.left, it.serving, it.bell) = (true, false, false);
            it.report = Report::None;
            for link in 0..model.links.len() {
                for role in ROLES.into_iter().filter(|&role| model.owner(link, role) == client) {
                    let side = &next.links[link].sides[role];
                    if side.watched && !side.has_ended() {
                        next.close(model, link, role, Why::Unregistered);
                    }
                }
            }
        });
        if it.serving && it.known && !it.listened_again {
            self.harm(Harm::StopsListening, who, "drops the listener", None, |next| {
                let it = &mut next.clients[client];
                (it.serving, it.bell) = (false, false);
                for link in 0..model.links.len() {
                    let stage = next.links[link].sides[CALLEE].stage;
                    let waits = matches!(stage, Stage::Silent | Stage::Incoming);
                    if model.owner(link, CALLEE) == client && waits {
                        next.close(model, link, CALLEE, Why::Closed);
                    }
                }
            });
        }
        let callee = model.links.iter().any(|link| link.1 == client);
        let free = callee && !it.listened_again && it.known && from.server == Server::Up;
        if free && !it.serving && model.harm.contains(&Harm::StopsListening) {
            let rings =
                !self.has(Fault::NewBellSilent) && self.count(client, |stage| stage == Stage::Waiting) > 0;
            let listens = |next: &mut State| {
                let it = &mut next.clients[client];
                (it.serving, it.listened_again, it.bell) = (true, true, rings);
            };
            match model.only_listeners_change() {
                true => self.must(who, "listens again", None, listens),
                false => self.may(who, "listens again", None, listens),
            }
        }
    }

    fn ends_of_the_server(&mut self) {
        let model = self.model;
        if self.from.server == Server::Up {
            self.harm(Harm::ServerShutsDown, Who::Server, "begins to shut down", None, |next| {
                next.server = Server::ShuttingDown;
                next.drop_waiting(model);
            });
        }
        if self.from.server == Server::ShuttingDown {
            self.must(Who::Server, "ends in order", None, |next| next.lose_server(model));
        }
        if self.from.server == Server::Up {
            self.harm(Harm::ServerDies, Who::Server, "dies", None, |next| next.lose_server(model));
        }
        if self.from.server == Server::Dead && model.restarts && self.from.life == 1 {
            self.may(Who::Server, "is started again", None, |next| {
                (next.server, next.life) = (Server::Up, 2);
            });
        }
    }
}
