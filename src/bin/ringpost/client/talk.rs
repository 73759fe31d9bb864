//! Executes the typed lines, and handles the other events of `ringpost client`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Instant;

use ringpost::{Address, CallError, Caller, Link};

use super::editor::Ask;
use super::line::{self, Command, Line};
use super::topics::Topics;
use super::{Event, PATIENCE, Screen, Shown, tell, unreadable};
use crate::ls;
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
    /// Links to the clients that were called, the last one first. They stay open for further calls.
    links: Vec<(Address, Link)>,
    pub topics: Topics,
    /// Whether a request is under way.
    pub busy: Arc<AtomicBool>,
    pub count: Count,
}

impl Talk {
    pub fn new(caller: Caller, person: bool, show: SyncSender<Shown>) -> Talk {
        let topics = Topics::new(show);
        Talk { caller, person, links: Vec::new(), topics, busy: Arc::default(), count: Count::default() }
    }

    /// Handles events until there is a reason to end.
    pub fn run(&mut self, screen: &mut Screen, arrived: &Receiver<Event>, interrupt: &Interrupt) -> Outcome {
        loop {
            if interrupt.caught().is_some() {
                return Ok(());
            }
            let done = match screen.next(Ask::Line, arrived) {
                Event::Line(line) => match line::parse(&line, self.person) {
                    Ok(Line::Blank) => continue,
                    Ok(Line::Command(Command::Quit)) => return Ok(()),
                    Ok(line) => self.ask(&line, interrupt),
                    Err(why) => Err(Failure::failed(why)),
                },
                Event::TooLong => {
                    Err(Failure::failed(format!("the line has more than {} bytes", session::MOST)))
                }
                Event::EndOfInput | Event::Signal | Event::Printed => return Ok(()),
                // When a terminal is closed, reading fails and a signal comes, in either order.
                Event::InputFailed(_) if interrupt.caught().is_some() => return Ok(()),
                Event::InputFailed(why) => return Err(unreadable(&why)),
                Event::Gone(why) => return Err(Failure::failed(why)),
                Event::Output(failure) => return Err(failure),
            };
            self.count.lines += 1;
            let Err(failure) = done else { continue };
            self.count.failed += 1;
            match failure {
                Failure::ClosedPipe => return Err(failure),
                failure if !self.person => tell(&format!("line {}: {failure}", self.count.lines)),
                // Do not report a failure that the user caused by ending the program.
                failure if interrupt.caught().is_none() => tell(&failure),
                _ => {}
            }
        }
    }

    fn ask(&mut self, line: &Line<'_>, interrupt: &Interrupt) -> Outcome {
        self.busy.store(true, Ordering::SeqCst);
        // Either a signal that comes now sees `busy` and ends the request, or this check sees the signal.
        let done = if interrupt.caught().is_none() { self.act(line) } else { Ok(String::new()) };
        self.busy.store(false, Ordering::SeqCst);
        out::put(done?.as_bytes())
    }

    /// Executes a line and returns the text to print.
    fn act(&mut self, line: &Line<'_>) -> Result<String, Failure> {
        match line {
            Line::Message(to, message) => self.send(to, message).map(|()| String::new()),
            Line::Command(Command::Call(to, request)) => {
                let response = self.call(to, request)?;
                Ok(format!("{}\n", out::readable(&response)))
            }
            Line::Command(Command::Server(request)) => {
                let response = self.caller.call_timeout(request, PATIENCE).map_err(Failure::failed)?;
                Ok(format!("{}\n", out::readable(&response)))
            }
            Line::Command(Command::Who) => {
                let clients = self.caller.list().map_err(session::failed_call)?;
                Ok(ls::clients(clients, out::terminal_width()))
            }
            Line::Command(Command::Publish(topic, sample)) => {
                self.topics.publish(&mut self.caller, topic, sample).map(|()| String::new())
            }
            Line::Command(Command::Subscribe(pattern)) => self.topics.subscribe(&mut self.caller, pattern),
            Line::Command(Command::Unsubscribe(pattern)) => {
                self.topics.unsubscribe(pattern).map(|()| String::new())
            }
            Line::Command(Command::Help) => Ok(line::HELP.into()),
            Line::Blank | Line::Command(Command::Quit) => Ok(String::new()),
        }
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
        let who = if self.person { "/who" } else { session::WHO };
        let key = session::found(self.caller.look_up(to), to, who)?;
        self.caller.send_timeout(key, message, PATIENCE).map_err(Failure::failed)
    }
}
