//! Judges the histories of one round together: what must be true of them.
//!
//! - A message received was sent, to this receiver, by whom it says, and its sender was not told that it did
//!   not arrive.
//! - The messages of one sender come in its order, each once.
//! - What was acknowledged is received, if its receiver received all that there was: until the server's end,
//!   or until the server confirmed that it had left. A receiver that was killed, or went without a
//!   confirmation, misses only the last ones.

use std::collections::HashMap;

use ringpost::Key;

use super::history::Outcome;

/// How a registration ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It received everything that there was.
    Whole,
    /// It left, and others may have been told that it would receive more.
    Left,
    /// Its process died.
    Died,
}

/// A message's number, and what its sender was told, if it was told anything.
type Sent = (u64, Option<Outcome>);

/// The histories of one server's life.
#[derive(Debug, Default)]
pub struct Judge {
    ends: HashMap<Key, Option<End>>,
    /// By sender and receiver.
    sent: HashMap<(Key, Key), Vec<Sent>>,
    /// By receiver and sender.
    received: HashMap<(Key, Key), Vec<u64>>,
}

/// How many messages there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Messages {
    pub sent: u64,
    pub acknowledged: u64,
    /// Whose sender does not know.
    pub unknown: u64,
    pub received: u64,
    /// Acknowledged, and missed by a receiver that died or left.
    pub missed: u64,
}

impl Messages {
    pub fn add(&mut self, more: Messages) {
        self.sent += more.sent;
        self.acknowledged += more.acknowledged;
        self.unknown += more.unknown;
        self.received += more.received;
        self.missed += more.missed;
    }
}

impl Judge {
    /// False: the key was given before.
    pub fn registered(&mut self, key: Key) -> bool {
        self.ends.insert(key, None).is_none()
    }

    pub fn ended(&mut self, key: Key, end: End) {
        self.ends.entry(key).or_default().get_or_insert(end);
    }

    pub fn sends(&mut self, from: Key, to: Key, number: u64) {
        self.sent.entry((from, to)).or_default().push((number, None));
    }

    pub fn sent(&mut self, from: Key, to: Key, number: u64, outcome: Outcome) {
        if let Some(last) = self.sent.entry((from, to)).or_default().last_mut()
            && last.0 == number
        {
            last.1 = Some(outcome);
        }
    }

    pub fn received(&mut self, to: Key, from: Key, number: u64) {
        self.received.entry((to, from)).or_default().push(number);
    }

    /// How many messages for this client were acknowledged and not received yet.
    pub fn waiting_for(&self, to: Key) -> usize {
        let from = self.sent.iter().filter(|((_, receiver), _)| *receiver == to);
        from.map(|((from, _), sent)| {
            let received = self.received.get(&(to, *from)).map_or(&[][..], Vec::as_slice);
            let acknowledged = sent.iter().filter(|(_, outcome)| *outcome == Some(Outcome::Ok));
            acknowledged.filter(|(number, _)| received.binary_search(number).is_err()).count()
        })
        .sum()
    }

    /// How many messages there were, or the promises that were broken.
    pub fn verdict(&self) -> Result<Messages, Vec<String>> {
        let mut broken = Vec::new();
        let mut messages = Messages::default();
        for (key, end) in &self.ends {
            if end.is_none() {
                broken.push(format!("{key} never ended"));
            }
        }
        for (&(to, from), numbers) in &self.received {
            messages.received += numbers.len() as u64;
            self.check_received(to, from, numbers, &mut broken);
        }
        for (&(from, to), sent) in &self.sent {
            messages.sent += sent.len() as u64;
            let received = self.received.get(&(to, from)).map_or(&[][..], Vec::as_slice);
            let whole = self.ends.get(&to).copied().flatten() == Some(End::Whole);
            // In order, or the verdict is known already.
            let last = received.last().copied().unwrap_or(0);
            for &(number, outcome) in sent {
                match outcome {
                    Some(Outcome::Ok) => {}
                    None | Some(Outcome::Disconnected | Outcome::NoAnswer) => {
                        messages.unknown += 1;
                        continue;
                    }
                    Some(_) => continue,
                }
                messages.acknowledged += 1;
                if received.binary_search(&number).is_ok() {
                    continue;
                }
                messages.missed += 1;
                if whole || number < last {
                    broken.push(format!(
                        "message {number} from {from} was acknowledged and is not among those that {to} received \
                         (its last is {last}; it ended {:?})",
                        self.ends.get(&to).copied().flatten()
                    ));
                }
            }
        }
        if broken.is_empty() { Ok(messages) } else { Err(broken) }
    }

    fn check_received(&self, to: Key, from: Key, numbers: &[u64], broken: &mut Vec<String>) {
        for pair in numbers.windows(2) {
            if pair[0] >= pair[1] {
                broken.push(format!(
                    "{to} received {} and then {} of {from}: out of order, or twice",
                    pair[0], pair[1]
                ));
            }
        }
        let sent = self.sent.get(&(from, to)).map_or(&[][..], Vec::as_slice);
        for number in numbers {
            // The numbers of a sender only grow.
            match sent.binary_search_by_key(number, |(sent, _)| *sent).map(|at| sent[at].1) {
                Ok(None | Some(Outcome::Ok | Outcome::Disconnected | Outcome::NoAnswer)) => {}
                Ok(Some(outcome)) => {
                    broken.push(format!(
                        "{to} received message {number} of {from}, which was told {outcome:?}"
                    ));
                }
                Err(_) => {
                    broken.push(format!("{to} received message {number} of {from}, which was never sent"))
                }
            }
        }
    }
}

pub mod tests {
    use super::*;

    fn key(number: u128) -> Key {
        Key::from_bytes(u128::to_le_bytes(number))
    }

    /// One sender, one receiver: what was sent with which outcome, what was received, how the receiver ended.
    fn judged(sent: &[(u64, Option<Outcome>)], received: &[u64], end: End) -> Result<Messages, Vec<String>> {
        let mut judge = Judge::default();
        for (client, end) in [(1, End::Left), (2, end)] {
            assert!(judge.registered(key(client)));
            judge.ended(key(client), end);
        }
        for &(number, outcome) in sent {
            judge.sends(key(1), key(2), number);
            if let Some(outcome) = outcome {
                judge.sent(key(1), key(2), number, outcome);
            }
        }
        for &number in received {
            judge.received(key(2), key(1), number);
        }
        judge.verdict()
    }

    const OK: Option<Outcome> = Some(Outcome::Ok);

    pub fn what_is_right_is_counted() {
        let sent = [(1, OK), (3, Some(Outcome::InboxFull)), (4, OK), (6, Some(Outcome::NoAnswer)), (7, None)];
        let all = Messages { sent: 5, acknowledged: 2, unknown: 2, received: 2, missed: 0 };
        assert_eq!(judged(&sent, &[1, 4], End::Whole), Ok(all));
        assert_eq!(judged(&sent, &[1, 4, 6, 7], End::Whole), Ok(Messages { received: 4, ..all }));
        let less = Messages { received: 1, missed: 1, ..all };
        assert_eq!(judged(&sent, &[1], End::Died), Ok(less));
        assert_eq!(judged(&sent, &[1], End::Left), Ok(less));
        let mut judge = Judge::default();
        judge.sends(key(1), key(2), 5);
        assert_eq!(judge.waiting_for(key(2)), 0);
        judge.sent(key(1), key(2), 5, Outcome::Ok);
        assert_eq!((judge.waiting_for(key(2)), judge.waiting_for(key(1))), (1, 0));
        judge.received(key(2), key(1), 5);
        assert_eq!(judge.waiting_for(key(2)), 0);
    }

    pub fn what_is_wrong_is_told() {
        let sent = [(1, OK), (3, Some(Outcome::InboxFull)), (4, OK)];
        for (received, end, word) in [
            (&[1][..], End::Whole, "acknowledged"),
            (&[4], End::Died, "acknowledged"),
            (&[4, 1], End::Died, "out of order"),
            (&[1, 1, 4], End::Whole, "twice"),
            (&[1, 3, 4], End::Whole, "InboxFull"),
            (&[1, 2, 4], End::Whole, "never sent"),
        ] {
            let broken = judged(&sent, received, end).unwrap_err();
            assert!(broken.iter().any(|text| text.contains(word)), "{word}: {broken:?}");
        }
        let mut judge = Judge::default();
        assert!(judge.registered(key(1)) && !judge.registered(key(1)));
        assert!(judge.verdict().unwrap_err()[0].contains("never ended"));
    }
}
