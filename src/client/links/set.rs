//! `Links`: the open links of one client, over all its registrations.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use super::end::OpenLink;
use super::intake::Intake;
use crate::client::session::{Place, Session, ask_anew};
use crate::client::topics::Topics;
use crate::connect::dial::{DialError, Line};
use crate::connect::{Ask, MOST_REPORTED, decode_indices};
use crate::testing::failpoints::failpoint;
use crate::wire::CloseReason;

/// The links of one client. They belong to it and not to one of its registrations: they go on when the server
/// ends, and end with the client.
pub(in crate::client) struct Links {
    /// Where the client's servers are asked.
    pub(in crate::client) place: Place,
    /// What the client publishes and subscribes to. It belongs to the client as its links do.
    pub(in crate::client) topics: Arc<Topics>,
    numbers: AtomicU64,
    state: Mutex<State>,
    /// Set when the client is closed where no lock can be taken. The watcher does the rest.
    to_end: AtomicBool,
}

#[derive(Default)]
struct State {
    open: HashMap<u64, Arc<OpenLink>>,
    /// What the client's listener takes, if it has one.
    intake: Weak<Intake>,
    /// Why the client has ended, once it has.
    ended: Option<CloseReason>,
}

impl Links {
    pub(in crate::client) fn new(place: Place) -> Arc<Links> {
        Arc::new(Links {
            topics: Topics::new(place.path.clone()),
            place,
            numbers: AtomicU64::new(0),
            state: Mutex::default(),
            to_end: AtomicBool::new(false),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for another link.
    pub(super) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds a link that is watched, unless it has ended meanwhile.
    ///
    /// # Errors
    ///
    /// The reason for which the client has ended.
    pub(super) fn add(&self, link: &Arc<OpenLink>) -> Result<(), CloseReason> {
        let mut state = self.lock();
        let soon = self.is_to_end().then_some(CloseReason::Local);
        if let Some(reason) = state.ended.or(soon) {
            return Err(reason);
        }
        // The watcher notes the end before it takes this lock.
        if !link.is_over() {
            state.open.insert(link.number, Arc::clone(link));
        }
        Ok(())
    }

    pub(super) fn remove(&self, number: u64) {
        let removed = self.lock().open.remove(&number);
        drop(removed);
    }

    /// What the client's listener takes, if it has one.
    pub(super) fn intake(&self) -> Option<Arc<Intake>> {
        self.lock().intake.upgrade()
    }

    /// The client has a listener now. If the client has ended, so has the listener.
    pub(super) fn set_intake(&self, intake: &Arc<Intake>) {
        let ended = {
            let mut state = self.lock();
            state.intake = Arc::downgrade(intake);
            state.ended
        };
        if let Some(reason) = ended {
            intake.close(reason);
            intake.end();
        }
    }

    /// The client has registered again: reports the open links to the new server, and listens there if the
    /// client has a listener. What fails is left: the links go on without the server, and the listener asks
    /// again. Blocks until the server has answered, at most until the deadline.
    ///
    /// A link that the former server introduced, and that is opened only after the list was made, is not
    /// reported: nothing is missing but its line in the new server's table.
    pub(in crate::client) fn renew(&self, session: &Arc<Session>, deadline: Instant) {
        let open: Vec<_> = self.lock().open.values().cloned().collect();
        if !open.is_empty() {
            let _ = self.report(session, &open, deadline);
        }
        if let Some(intake) = self.intake().filter(|intake| intake.reason().is_none()) {
            let _ = intake.listen(session, deadline);
        }
        self.topics.renew(session, deadline);
    }

    /// Tells the server of a new registration which links the client has, and learns where it looks for their
    /// ends. It may be asked twice about a link, or too late: what it noted and nobody needs is told to have
    /// ended.
    fn report(&self, session: &Session, open: &[Arc<OpenLink>], deadline: Instant) -> Result<(), DialError> {
        ask_anew(&self.place.path, deadline, |line| report_on(&line, session, open, deadline))
    }

    /// How many are open.
    #[cfg(test)]
    pub(in crate::client) fn open(&self) -> usize {
        self.lock().open.len()
    }

    /// Closes all links for this reason, because the client ends. Not in a forked child.
    pub(in crate::client) fn end(&self, reason: CloseReason) {
        let (open, intake) = {
            let mut state = self.lock();
            state.ended.get_or_insert(reason);
            (std::mem::take(&mut state.open), state.intake.upgrade())
        };
        if let Some(intake) = intake {
            intake.close(reason);
            intake.end();
        }
        failpoint!("links.ended", [link], rarely);
        for link in open.into_values() {
            link.close(reason);
        }
        self.topics.end(reason);
    }

    /// The same where no lock can be taken. The watcher must be told.
    pub(in crate::client) fn end_soon(&self) {
        self.to_end.store(true, Ordering::SeqCst);
    }

    /// For the watcher: the client is not registered any more, for now or for good.
    pub(in crate::client) fn registration_has_ended(&self) {
        if self.is_to_end() {
            return self.end(CloseReason::Local);
        }
        if let Some(intake) = self.intake() {
            intake.tell_change();
        }
        self.topics.registration_has_ended();
    }

    /// Whether the watcher must end the links.
    pub(super) fn is_to_end(&self) -> bool {
        self.to_end.load(Ordering::SeqCst)
    }
}

/// Reports open links on one connection.
pub(super) fn report_on(
    line: &Line,
    session: &Session,
    open: &[Arc<OpenLink>],
    deadline: Instant,
) -> Result<(), DialError> {
    for links in open.chunks(MOST_REPORTED) {
        let reported = links.iter().map(|link| (link.role, link.peer.name)).collect();
        let ask = Ask::Report { proof: session.proof(), links: reported };
        let answer = line.ask(&ask, deadline).or_else(|error| line.give_up().ok_or(error))?;
        failpoint!("report.answered", [link], rarely);
        let indices = decode_indices(&answer.body, links.len()).ok_or(DialError::NotRingpost)?;
        for (link, index) in links.iter().zip(indices) {
            link.note(index.map(|index| (session.words.clone(), index)));
            failpoint!("report.heeded", [link], rarely);
        }
    }
    Ok(())
}
