//! Relays: clients that carry their messages on, to another computer for example, and then say what became of
//! them.
//!
//! A message to a relay is put into its inbox with a *ticket*. The sender's worker answers the sender only
//! when the relay has *confirmed* the ticket, and waits for that meanwhile.
//!
//! **One outcome.** A ticket lies in its relay's table from before the message is committed until somebody
//! takes it out under the table's lock: the relay's worker, which stores the outcome before; the end of the
//! relay; or the sender's worker, when it waits no longer. Only the first can have an outcome, so the relay
//! is told that the sender hears it exactly if the sender does. Otherwise the sender is told that it is not
//! known.
//!
//! **Every wait ends**: by the confirmation, the end of the relay, the end of the sender's intake (it has
//! died, or the server shuts down) or the limit in time. Nothing is locked meanwhile.
//!
//! **No two wait for each other.** A relay's own messages are not relayed. So no relay's worker ever waits
//! for a confirmation, and what a relay says is heard although others wait for it.
//!
//! **Tickets are the relay's own.** Each relay has its own table and counts from a random number, so what it
//! says of another relay's ticket, or of one of an earlier registration, is of no ticket. There are at most
//! as many tickets as senders, because a worker waits for one at a time.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::delivery::Handed;
use super::member::Member;
use super::shared::lock;
use super::worker::Operations;
use crate::link::{End, Responder};
use crate::ring::{Closer, Signal};
use crate::shm::backend::now;
use crate::wire::{CONFIRM_TIME, ENDS, KEY, LONGEST_REFUSAL, Status, TICKET, WAITS, take};

/// What makes a client a relay.
pub(super) struct Relay(Mutex<Table>);

struct Table {
    next: u64,
    ended: bool,
    waiting: HashMap<u64, Arc<Waiting>>,
}

/// A sender's worker that waits.
#[derive(Default)]
struct Waiting {
    outcome: OnceLock<Outcome>,
    /// Set when the ticket was taken out.
    signal: Signal,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    status: Status,
    text: Vec<u8>,
}

impl From<Status> for Outcome {
    fn from(status: Status) -> Outcome {
        Outcome { status, text: Vec::new() }
    }
}

/// A ticket that somebody waits for. Dropping it takes it out.
struct Ticket<'a> {
    relay: &'a Relay,
    number: u64,
    waiting: Arc<Waiting>,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("waiting", &lock(&self.0).waiting.len()).finish()
    }
}

impl Relay {
    /// `random` is a number that no other registration has had.
    pub(super) fn new(random: u64) -> Relay {
        // It never overflows, and is never 0.
        let next = random >> 1 | 1;
        Relay(Mutex::new(Table { next, ended: false, waiting: HashMap::new() }))
    }

    /// A ticket for a message that is about to be put into the relay's inbox. `None` if the relay has ended.
    fn issue(&self) -> Option<Ticket<'_>> {
        let mut table = lock(&self.0);
        if table.ended {
            return None;
        }
        let (number, waiting) = (table.next, Arc::default());
        table.next += 1;
        table.waiting.insert(number, Arc::clone(&waiting));
        Some(Ticket { relay: self, number, waiting })
    }

    /// What the relay says. Whether the sender hears it.
    fn confirm(&self, number: u64, outcome: Outcome) -> bool {
        let confirmed = {
            let mut table = lock(&self.0);
            let Some(waiting) = table.waiting.remove(&number) else { return false };
            let _ = waiting.outcome.set(outcome);
            waiting
        };
        confirmed.signal.set();
        true
    }

    /// The relay has ended: nobody confirms anything any more.
    pub(super) fn end(&self) {
        let waiting = {
            let mut table = lock(&self.0);
            table.ended = true;
            std::mem::take(&mut table.waiting)
        };
        waiting.into_values().for_each(|waiting| waiting.signal.set());
    }
}

impl Ticket<'_> {
    /// Waits for the outcome, at most until the deadline or the close of the sender's intake.
    fn wait(self, own: &Closer, deadline: Instant) -> Outcome {
        while !self.waiting.signal.is_set() && !own.is_closed() && now() < deadline {
            self.waiting.signal.sleep(own, deadline);
        }
        let waiting = Arc::clone(&self.waiting);
        // From here on nobody stores an outcome.
        drop(self);
        waiting.outcome.get().cloned().unwrap_or(Status::Unconfirmed.into())
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        lock(&self.relay.0).waiting.remove(&self.number);
    }
}

impl Operations {
    /// Puts a message into a relay's inbox, waits for what becomes of it, and answers with that.
    #[cold]
    #[inline(never)]
    pub(super) fn send_relayed(
        &mut self,
        responder: &mut Responder,
        sequence: u32,
        flags: u16,
        target: &Member,
        relay: &Relay,
        (patience, payload_at): (Option<Duration>, usize),
    ) -> Result<(), End> {
        if self.member.relay.is_some() {
            return self.refuse_message(responder, sequence, target, payload_at, NOT_RELAYED.to_owned());
        }
        let began = self.tap_begins();
        let outcome = self.relay(responder, flags, target, relay, (patience, payload_at));
        self.was_sent(responder, target, payload_at, outcome.status, began);
        responder.respond(sequence, outcome.status, &outcome.text)
    }

    fn relay(
        &self,
        responder: &mut Responder,
        flags: u16,
        target: &Member,
        relay: &Relay,
        (patience, payload_at): (Option<Duration>, usize),
    ) -> Outcome {
        // Nobody would wait for what becomes of it.
        if self.member.intake.is_closed() {
            return Status::ShuttingDown.into();
        }
        let began = now();
        let Some(ticket) = relay.issue() else { return Status::Gone.into() };
        let ends = patience.filter(|_| flags & (WAITS | ENDS) == WAITS | ENDS);
        // If the clock cannot count that far, it is as if the sender had not said how long.
        let ends = ends.and_then(|ends| began.checked_add(ends));
        let until = patience.map(|patience| began.checked_add(patience).unwrap_or(began + CONFIRM_TIME));
        let most = if ends.is_some() { Duration::MAX } else { CONFIRM_TIME };
        let handed = Handed { ticket: ticket.number, until, most };
        match self.deliver(responder, target, patience, payload_at, Some(&handed)) {
            Status::Ok => {}
            Status::TooLarge => {
                let others = KEY + TICKET + self.member.peer.name.len();
                return too_large(responder.body().len() - payload_at, responder.max_body() - others);
            }
            status => return status.into(),
        }
        responder.before_wait();
        ticket.wait(&self.member.intake, ends.unwrap_or_else(|| now() + CONFIRM_TIME))
    }

    /// A relay says what became of a message.
    pub(super) fn confirm(&mut self, responder: &mut Responder, sequence: u32) -> Result<(), End> {
        let Some((ticket, outcome)) = parse_confirm(responder.body()) else {
            return responder.respond(sequence, Status::Malformed, b"not the form of a confirm request");
        };
        let told = self.member.relay.as_ref().is_some_and(|relay| relay.confirm(ticket, outcome));
        responder.respond(sequence, if told { Status::Ok } else { Status::NotFound }, &[])
    }
}

const NOT_RELAYED: &str = "the messages of a relay are not relayed: send to clients of this server";

/// A message that would fit but for its ticket: how long it is, and the most that this sender can send.
fn too_large(len: usize, max: usize) -> Outcome {
    let text = [len as u64, max as u64].map(u64::to_le_bytes).concat();
    Outcome { status: Status::TooLarge, text }
}

/// Reads a confirm request: the ticket, and what a sender may be told by a relay.
fn parse_confirm(body: &[u8]) -> Option<(u64, Outcome)> {
    let (ticket, rest) = take(body)?;
    let (status, text) = take(rest)?;
    let status = Status::from_code(u16::from_le_bytes(status)).filter(|status| {
        use Status::*;
        matches!(
            status,
            Ok | NotFound | InboxFull | TimedOut | Gone | TooLarge | Internal | NotAllowed | Unconfirmed
        )
    })?;
    (text.len() <= LONGEST_REFUSAL)
        .then(|| (u64::from_le_bytes(ticket), Outcome { status, text: text.to_vec() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{WaitStrategy, local_setup};
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// The closer of a sender that stays.
    fn own() -> Closer {
        local_setup(1024, WaitStrategy::Park, 0).unwrap().closer
    }

    fn told(status: Status) -> Outcome {
        status.into()
    }

    fn soon() -> Instant {
        now() + Duration::from_millis(1)
    }

    /// Whoever takes the ticket out decides, and nobody else hears otherwise.
    #[test]
    fn a_ticket_has_one_outcome() {
        let (own, relay) = (own(), Relay::new(u64::MAX));
        let first = relay.issue().unwrap();
        let (second, third) = (relay.issue().unwrap(), relay.issue().unwrap());
        let numbers = [first.number, second.number, third.number];
        assert!(numbers[0] != 0 && numbers[1] == numbers[0] + 1 && numbers[2] == numbers[1] + 1);
        assert!(relay.confirm(numbers[1], told(Status::Gone)));
        assert!(!relay.confirm(numbers[1], told(Status::Ok)), "confirmed before");
        assert_eq!(second.wait(&own, soon()).status, Status::Gone);
        assert_eq!(first.wait(&own, soon()).status, Status::Unconfirmed);
        assert!(!relay.confirm(numbers[0], told(Status::Ok)), "nobody waits");
        drop(third);
        assert!(!relay.confirm(numbers[2], told(Status::Ok)), "it was not delivered");
        assert!(!relay.confirm(numbers[2] + 1, told(Status::Ok)), "never issued");
        let last = relay.issue().unwrap();
        relay.end();
        assert_eq!(last.wait(&own, soon() + Duration::from_secs(60)).status, Status::Unconfirmed);
        assert!(relay.issue().is_none());
    }

    /// A confirmation and the end of the patience at the same time: both sides know the same.
    #[test]
    fn the_relay_is_told_that_the_sender_hears_it_exactly_if_it_does() {
        let (own, relay) = (own(), Relay::new(0));
        for round in 0..2000_u32 {
            let ticket = relay.issue().unwrap();
            let number = ticket.number;
            std::thread::scope(|scope| {
                let confirms = scope.spawn(|| relay.confirm(number, told(Status::Ok)));
                let until = now() + Duration::from_micros(u64::from(round % 100));
                let heard = ticket.wait(&own, until).status;
                let expected = if confirms.join().unwrap() { Status::Ok } else { Status::Unconfirmed };
                assert_eq!(heard, expected, "round {round}");
            });
        }
        assert!(lock(&relay.0).waiting.is_empty());
    }

    proptest! {
        #[test]
        fn any_confirmation_is_one_or_refused(ticket: u64, status in 0..40_u16, text in vec(any::<u8>(), 0..1100), cut in 0..20_usize) {
            let body = [&ticket.to_le_bytes()[..], &status.to_le_bytes(), &text].concat();
            let may_be_told = [0, 3, 4, 5, 6, 7, 11, 15, 16].contains(&status) && text.len() <= 1024;
            let found = parse_confirm(&body).map(|(ticket, outcome)| (ticket, outcome.status as u16, outcome.text));
            prop_assert_eq!(found, may_be_told.then_some((ticket, status, text)));
            let short = parse_confirm(&body[..cut.min(9)]);
            prop_assert!(short.is_none());
        }
    }
}
