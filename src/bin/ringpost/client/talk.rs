//! Executes the typed lines, and handles the other events of `ringpost client`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Instant;

use ringpost::{Address, CallError, Caller, Link, ReconnectError};

use super::editor::Ask;
use super::keybook::{Keybook, Meant, could_be_short};
use super::line::{self, Command, Line};
use super::topics::Topics;
use super::voice::Voice;
use super::{Event, Input, PATIENCE, Shown, unreadable, who};
use crate::session;
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::out;
use ringpost::cli::signals::Interrupt;

/// How many links stay open. The one that was not used for longest is closed.
const MOST_LINKS: usize = 16;

/// The number of non-blank lines, and how many of them failed.
#[derive(Default)]
pub struct Count {
    pub lines: u64,
    pub failed: u64,
}

/// Executes lines.
pub struct Talk {
    pub caller: Caller,
    person: bool,
    voice: Voice,
    keys: Keybook,
    /// The receiver of whole lines, and its name for the prompt.
    chosen: Option<(Address, String)>,
    /// Links to the clients that were called, the last one first. They stay open for further calls.
    links: Vec<(Address, Link)>,
    pub topics: Topics,
    /// Whether a request is under way.
    pub busy: Arc<AtomicBool>,
    pub count: Count,
}

impl Talk {
    pub fn new(caller: Caller, person: bool, voice: Voice, keys: Keybook, show: SyncSender<Shown>) -> Talk {
        let topics = Topics::new(show);
        let (chosen, links, busy, count) = (None, Vec::new(), Arc::default(), Count::default());
        Talk { caller, person, voice, keys, chosen, links, topics, busy, count }
    }

    /// Handles events until there is a reason to end.
    pub fn run(&mut self, input: &Input, arrived: &Receiver<Event>, interrupt: &Interrupt) -> Outcome {
        while interrupt.caught().is_none() {
            let chosen = self.chosen.as_ref().map(|(_, name)| name.as_str());
            match input.next(Ask::Line, chosen, arrived) {
                Event::Lines(lines) => {
                    for line in lines {
                        if interrupt.caught().is_some() || self.execute(&line, interrupt)? {
                            return Ok(());
                        }
                    }
                }
                Event::TooLong => {
                    let most = session::MOST;
                    let failure = Failure::failed(format!("the line has more than {most} bytes"));
                    self.done(Err(failure), interrupt)?;
                }
                Event::EndOfInput | Event::Signal | Event::Printed => return Ok(()),
                // When a terminal is closed, reading fails and a signal comes, in either order.
                Event::InputFailed(_) if interrupt.caught().is_some() => return Ok(()),
                Event::InputFailed(why) => return Err(unreadable(&why)),
                Event::Gone(why) => return Err(Failure::failed(why)),
                Event::Output(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// Executes a line. Returns whether it was the last one.
    fn execute(&mut self, line: &[u8], interrupt: &Interrupt) -> Result<bool, Failure> {
        let chosen = self.chosen.as_ref().map(|(to, _)| *to);
        let done = match line::parse(line, self.person, chosen) {
            Ok(Line::Blank) => return Ok(false),
            Ok(Line::Command(Command::Quit)) => return Ok(true),
            Ok(line) => self.ask(&line, interrupt),
            Err(why) => Err(Failure::failed(why)),
        };
        self.done(done, interrupt)?;
        Ok(false)
    }

    /// Counts a line, and reports what was refused.
    fn done(&mut self, done: Outcome, interrupt: &Interrupt) -> Outcome {
        self.count.lines += 1;
        let Err(failure) = done else { return Ok(()) };
        self.count.failed += 1;
        match failure {
            Failure::ClosedPipe => return Err(failure),
            failure if !self.person => {
                self.voice.tell(&format!("line {}: {failure}", self.count.lines));
            }
            // Do not report a failure that the user caused by ending the program.
            failure if interrupt.caught().is_none() => self.voice.tell(&format!("! {failure}")),
            _ => {}
        }
        Ok(())
    }

    fn ask(&mut self, line: &Line<'_>, interrupt: &Interrupt) -> Outcome {
        self.busy.store(true, Ordering::SeqCst);
        // Either a signal that comes now sees `busy` and ends the request, or this check sees the signal.
        let done = if interrupt.caught().is_none() { self.act(line) } else { Ok(String::new()) };
        self.busy.store(false, Ordering::SeqCst);
        self.voice.put(&done?)
    }

    /// Executes a line and returns the text to print.
    fn act(&mut self, line: &Line<'_>) -> Result<String, Failure> {
        let silent = |()| String::new();
        match line {
            Line::Message(to, message) | Line::Command(Command::Message(to, message)) => {
                self.send(to, message).map(silent)
            }
            Line::Command(Command::Choose(to)) => self.choose(to.as_ref()),
            Line::Command(Command::Call(to, request)) => {
                let mut to = *to;
                // A link that is open goes on without a server.
                if !self.links.iter().any(|(peer, _)| *peer == to) {
                    self.come_back()?;
                    to = self.meant(&to)?;
                }
                let response = self.call(&to, request)?;
                Ok(format!("{}\n", out::readable(&response)))
            }
            Line::Command(Command::Server(request)) => {
                self.come_back()?;
                let response = self.caller.call_timeout(request, PATIENCE).map_err(Failure::failed)?;
                Ok(format!("{}\n", out::readable(&response)))
            }
            Line::Command(Command::Who) => {
                self.come_back()?;
                let clients = self.caller.list().map_err(session::failed_call)?;
                Ok(who::table(clients, &self.keys, out::terminal_width()))
            }
            Line::Command(Command::Publish(topic, sample)) => {
                if !self.topics.publishes(topic) {
                    self.come_back()?;
                }
                self.topics.publish(&mut self.caller, topic, sample).map(silent)
            }
            Line::Command(Command::Subscribe(pattern)) => {
                self.come_back()?;
                self.topics.subscribe(&mut self.caller, pattern)
            }
            Line::Command(Command::Unsubscribe(pattern)) => self.topics.unsubscribe(pattern).map(silent),
            Line::Command(Command::Help) => Ok(line::HELP.into()),
            Line::Blank | Line::Command(Command::Quit) => Ok(String::new()),
        }
    }

    /// For a person: registers again first, if the server has ended, so that nothing is asked of it.
    fn come_back(&mut self) -> Outcome {
        if !self.person {
            return Ok(());
        }
        self.caller.reconnect(PATIENCE).map(drop).map_err(|error| match error {
            ReconnectError::TimedOut => Failure::failed(
                "there is no server now: start it, and try again when this client is registered (the line is in the history)",
            ),
            error => Failure::failed(error),
        })
    }

    /// For a person: the client with the key that an address begins, unless one has this name.
    fn meant(&mut self, to: &Address) -> Result<Address, Failure> {
        let Address::Name(name) = to else { return Ok(*to) };
        if !self.person || !could_be_short(name.as_str()) {
            return Ok(*to);
        }
        let clients = self.caller.list().map_err(session::failed_call)?;
        if clients.iter().any(|client| client.name == *name) {
            return Ok(*to);
        }
        self.keys.add(clients.iter().map(|client| client.key));
        match self.keys.meant(name.as_str()) {
            Meant::None => Ok(*to),
            Meant::One(key) => Ok(Address::Key(key)),
            Meant::Several([one, other]) => Err(Failure::failed(format!(
                "several keys begin with {name}, such as {one} and {other}: type more of the key"
            ))),
        }
    }

    /// Chooses the receiver of whole lines.
    fn choose(&mut self, to: Option<&Address>) -> Result<String, Failure> {
        let Some(to) = to else {
            return Ok(match self.chosen.take() {
                Some((_, name)) => format!("lines go to {name} no more\n"),
                None => "no receiver is chosen: /to NAME chooses one\n".to_owned(),
            });
        };
        self.come_back()?;
        let to = self.meant(to)?;
        let name = match &to {
            Address::Key(key) => self.keys.short(*key),
            to => out::readable(to.to_string().as_bytes()),
        };
        let there = self.caller.look_up(to).map_err(session::failed_call)?.is_some();
        let doubt = if there { "" } else { ", who is not registered now" };
        let said = format!("whole lines go to {name}{doubt}; /to alone ends that\n");
        self.chosen = Some((to, name));
        Ok(said)
    }

    /// Calls another client, over the link that is open to it or a new one.
    fn call(&mut self, to: &Address, request: &[u8]) -> Result<Vec<u8>, Failure> {
        let deadline = Instant::now() + PATIENCE;
        let mut open =
            self.links.iter().position(|(peer, _)| peer == to).map(|index| self.links.remove(index).1);
        loop {
            let known = open.is_some();
            let mut link = match open.take() {
                Some(link) => link,
                None => {
                    let who = if self.person { "/who" } else { session::WHO };
                    let left = deadline.saturating_duration_since(Instant::now());
                    let link = Link::options().timeout(left).connect(&mut self.caller, to);
                    link.map_err(|error| session::failed_connect(error, to, who))?
                }
            };
            match link.call_timeout(request, deadline).map(|reply| reply.to_vec()) {
                // It ended since the last call, and nothing was sent: another client may serve under this
                // name.
                Err(CallError::NotSent(_)) if known => {}
                Err(error) if error.is_disconnected() => return Err(Failure::failed(error)),
                called => {
                    self.links.insert(0, (*to, link));
                    self.links.truncate(MOST_LINKS);
                    return called.map_err(Failure::failed);
                }
            }
        }
    }

    fn send(&mut self, to: &Address, message: &[u8]) -> Outcome {
        if !self.person {
            let key = session::found(self.caller.look_up(to), to, session::WHO)?;
            return self.caller.send_timeout(key, message, PATIENCE).map_err(Failure::failed);
        }
        let refused = |why: Failure| Failure::failed(format!("not sent to {to}: {why}"));
        self.come_back().map_err(refused)?;
        let meant = self.meant(to).map_err(refused)?;
        let key = session::found(self.caller.look_up(meant), to, "/who").map_err(refused)?;
        self.caller.send_timeout(key, message, PATIENCE).map_err(|error| match error.may_have_executed() {
            true => Failure::failed(format!("perhaps not sent to {to}: {error}")),
            false => refused(Failure::failed(error)),
        })
    }
}
