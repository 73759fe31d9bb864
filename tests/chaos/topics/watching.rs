//! A watcher of who is there: each change fits what it knows, and in the end that is what the server lists.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ringpost::{CallError, Caller, Change, CloseReason, Key, Presence, SampleError, SubscribeError};

use super::super::history::{Gate, Op, Outcome};
use super::{ASKING, Topical, deadline};

/// How long it may take until what it knows is what is listed, while nobody comes or goes.
const SETTLING: Duration = Duration::from_secs(2);

/// It has ended with its client.
pub struct Over;

pub struct Watching<'a> {
    topical: &'a Topical,
    presence: Presence,
    there: BTreeSet<Key>,
}

impl<'a> Watching<'a> {
    pub fn begin(topical: &'a Topical, caller: &mut Caller) -> Result<Option<Watching<'a>>, Over> {
        topical.history.begin(0, Op::Watch, deadline(2 * ASKING));
        let watched = caller.presence();
        let (outcome, ended) = match &watched {
            Ok(_) => (Outcome::Ok, Ok(())),
            Err(SubscribeError::Refused(_)) => (Outcome::Refused, Ok(())),
            Err(SubscribeError::Quota(_)) => (Outcome::Quota, Ok(())),
            Err(SubscribeError::TimedOut) => (Outcome::TimedOut, Ok(())),
            Err(SubscribeError::Disconnected(_)) => (Outcome::Disconnected, Err(Over)),
            Err(SubscribeError::Server(error)) => (topical.outcome(error), Ok(())),
            Err(SubscribeError::System { .. }) => (Outcome::System, Ok(())),
            Err(error) => topical.history.violation(0, Op::Watch, &format!("{error:?}")),
        };
        topical.history.end(0, Op::Watch, outcome, deadline(2 * ASKING));
        ended?;
        Ok(watched.ok().map(|presence| Watching { topical, presence, there: BTreeSet::new() }))
    }

    /// Takes the changes that are there.
    pub fn step(&mut self) -> Result<(), Over> {
        loop {
            match self.presence.try_recv() {
                Ok(Some(change)) => self.change(&change),
                Ok(None) => return Ok(()),
                Err(SampleError::Disconnected(
                    CloseReason::Local
                    | CloseReason::Died
                    | CloseReason::Shutdown
                    | CloseReason::GaveUp
                    | CloseReason::Unregistered,
                )) => return Err(Over),
                Err(error) => self.wrong(&format!("{error:?}")),
            }
        }
    }

    fn change(&mut self, change: &Change) {
        let fits = match change {
            Change::Present(peer) | Change::Appeared(peer) => self.there.insert(peer.key),
            Change::Vanished { peer, .. } => self.there.remove(&peer.key),
            other => self.wrong(&format!("{other:?}")),
        };
        if !fits {
            self.wrong(&format!("{change:?} came again, or is about somebody unknown"));
        }
    }

    fn wrong(&self, what: &str) -> ! {
        self.topical.history.violation(0, Op::Watch, &format!("presence: {what}"))
    }

    /// Waits until what it knows is what the server lists, as long as the gate stays.
    pub fn settle(&mut self, caller: &mut Caller, gate: Gate) -> Result<(), Over> {
        let until = Instant::now() + SETTLING;
        self.topical.history.begin(0, Op::Watch, deadline(SETTLING));
        let settled = loop {
            // Before the looks: this process may be held up between them.
            let late = Instant::now() >= until;
            if let Err(Over) = self.step() {
                break Err(Over);
            }
            let listed = caller.list();
            if let Err(Over) = self.step() {
                break Err(Over);
            }
            let listed: Option<BTreeSet<Key>> = match listed {
                Ok(listed) => Some(listed.into_iter().map(|client| client.key).collect()),
                Err(CallError::Disconnected(_) | CallError::NotSent(_)) => break Err(Over),
                // There is no server now, and this client waits for the next one.
                Err(_) => None,
            };
            if listed.as_ref() == Some(&self.there) || self.topical.history.gate() != gate {
                break Ok(());
            }
            if late {
                let Some(listed) = listed else { break Ok(()) };
                // The harness knows whether that may be.
                let differing =
                    [self.there.difference(&listed).count(), listed.difference(&self.there).count()];
                let [more, less] = differing.map(|count| count as u64);
                let words = [deadline(SETTLING)[0], more, less, 0, 0, 0];
                self.topical.history.end(0, Op::Watch, Outcome::NoAnswer, words);
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        self.topical.history.end(0, Op::Watch, Outcome::Ok, deadline(SETTLING));
        settled
    }
}
