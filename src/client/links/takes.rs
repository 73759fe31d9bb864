//! `Takes`: what the watcher does when a bell rings: takes the introductions that wait at the server.
//!
//! The watcher must not wait for a server, because it notices the ends of other servers and peers. So it asks
//! on a connection of its own, and goes on with the answer when that is there.

#![forbid(unsafe_code)]

use rustix::event::epoll::{self, EventData, EventFlags};
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::intake::Intake;
use crate::client::session::Session;
use crate::connect::dial::{Answer, DialError, Line};
use crate::connect::{Ask, Introduction, Refusal};
use crate::os::descriptors::Waits;
use crate::testing::failpoints::failpoint;

/// How long a server has for its answers.
const PATIENCE: Duration = Duration::from_secs(1);

/// The pause after an attempt that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// How long one step may wait for the server: to connect, or for what has arrived already.
const STEP: Duration = Duration::from_millis(1);

/// Marks the token of a connection on which introductions are taken; the rest is the bell's.
const TAKE: u64 = 1 << 63;

/// The takes that are under way, by the tokens of their bells.
#[derive(Default)]
pub(in crate::client) struct Takes(HashMap<u64, Take>);

struct Take {
    intake: Arc<Intake>,
    /// The registration under which was asked last.
    session: Arc<Session>,
    /// How many introductions are to be taken; the server may have fewer.
    left: usize,
    asked: Asked,
}

enum Asked {
    /// The server was asked, and has until then to answer.
    Until(Line, Instant),
    /// It is to be asked again at this time.
    Again(Instant),
}

impl Takes {
    /// A bell has announced so many introductions.
    pub(in crate::client) fn rung(&mut self, waits: &Waits, bell: u64, intake: &Arc<Intake>, most: usize) {
        if let Some(take) = self.0.get_mut(&bell) {
            take.left = take.left.saturating_add(most);
            return;
        }
        let (session, asked) = (intake.session(), Asked::Again(Instant::now()));
        self.0.insert(bell, Take { intake: Arc::clone(intake), session, left: most, asked });
        self.ask(waits, bell);
    }

    /// Whether an event belongs to a take; then it goes on.
    pub(in crate::client) fn heard(&mut self, waits: &Waits, token: u64) -> bool {
        if token & TAKE == 0 {
            return false;
        }
        self.answered(waits, token & !TAKE);
        true
    }

    /// When something is to be done without an event.
    pub(in crate::client) fn due(&self) -> Option<Instant> {
        let due = |take: &Take| match take.asked {
            Asked::Until(_, until) => until,
            Asked::Again(at) => at,
        };
        self.0.values().map(due).min()
    }

    /// Does what is due.
    pub(in crate::client) fn go_on(&mut self, waits: &Waits) {
        let now = Instant::now();
        let bells: Vec<u64> = self.0.keys().copied().collect();
        for bell in bells {
            match self.0.get(&bell).map(|take| &take.asked) {
                Some(Asked::Until(_, until)) if now >= *until => self.again(waits, bell, PAUSE),
                Some(Asked::Again(at)) if now >= *at => self.ask(waits, bell),
                _ => {}
            }
        }
    }

    /// Asks the server for the next introduction, on a new connection.
    fn ask(&mut self, waits: &Waits, bell: u64) {
        let Some(take) = self.0.get_mut(&bell) else { return };
        take.session = take.intake.session();
        if take.intake.reason().is_some() || take.session.closer.is_closed_here() {
            self.0.remove(&bell);
            return;
        }
        let asked = Line::connect(&take.intake.links.place.path, Instant::now() + STEP).and_then(|line| {
            line.send(&Ask::Take(take.session.proof()))?;
            epoll::add(waits, &line, EventData::new_u64(bell | TAKE), EventFlags::IN | EventFlags::RDHUP)?;
            Ok(line)
        });
        failpoint!("take.asked", [link], seldom);
        match asked {
            Ok(line) => take.asked = Asked::Until(line, Instant::now() + PATIENCE),
            Err(_) => take.asked = Asked::Again(Instant::now() + PAUSE),
        }
    }

    /// Receives an answer, which is there.
    fn answered(&mut self, waits: &Waits, bell: u64) {
        let Some(take) = self.0.get_mut(&bell) else { return };
        let Asked::Until(line, until) = &mut take.asked else { return };
        let ask = Ask::Take(take.session.proof());
        let taken = line.answer(&ask, Instant::now() + STEP).and_then(taken);
        failpoint!("take.received", [link], seldom);
        match taken {
            Ok(Some((introduction, descriptors))) => {
                // As many as there are, if nobody knows how many.
                take.left -= usize::from(take.left < usize::MAX);
                let more = take.left > 0;
                let asked = if more { line.send(&ask) } else { Ok(()) };
                *until = Instant::now() + PATIENCE;
                let (intake, session) = (Arc::clone(&take.intake), Arc::clone(&take.session));
                match asked {
                    Ok(()) if more => {}
                    Ok(()) => self.end(waits, bell),
                    Err(_) => self.again(waits, bell, PAUSE),
                }
                // After the next question, which the server answers meanwhile.
                intake.admit(&session, &introduction, descriptors);
            }
            Ok(None) => self.end(waits, bell),
            // Nothing was there after all.
            Err(DialError::TimedOut) => {}
            // The registration has ended: its lifeline tells.
            Err(DialError::Refused(Refusal::NotRegistered | Refusal::ShuttingDown, _)) => {
                self.end(waits, bell)
            }
            Err(_) => self.again(waits, bell, PAUSE),
        }
    }

    /// Gives this connection up, and asks on another one after a while.
    fn again(&mut self, waits: &Waits, bell: u64, pause: Duration) {
        if let Some(take) = self.0.get_mut(&bell) {
            // Nobody knows what became of the last one.
            take.left = usize::MAX;
            let again = Asked::Again(Instant::now() + pause);
            if let Asked::Until(line, _) = std::mem::replace(&mut take.asked, again) {
                let _ = epoll::delete(waits, line.as_fd());
            }
        }
    }

    fn end(&mut self, waits: &Waits, bell: u64) {
        if let Some(Take { asked: Asked::Until(line, _), .. }) = self.0.remove(&bell) {
            let _ = epoll::delete(waits, line.as_fd());
        }
    }
}

/// What came with an answer, if anything waited.
pub(in crate::client) fn taken(answer: Answer) -> Result<Option<(Introduction, [OwnedFd; 4])>, DialError> {
    if answer.body.is_empty() {
        return Ok(None);
    }
    let introduction = Introduction::decode(&answer.body);
    introduction.zip(answer.descriptors.exactly()).map(Some).ok_or(DialError::NotRingpost)
}
