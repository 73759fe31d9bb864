//! A publisher: what it publishes at random, and what the harness is told of it.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringpost::{Caller, PublishError, Publisher};

use super::super::history::{Kind, Op, Outcome, now};
use super::super::random::Random;
use super::content::{self, Said};
use super::{ASKING, Topical, deadline};

/// The topics, of which each client publishes each once at most.
const TOPICS: [&str; 4] = ["chaos/a", "chaos/b/c", "chaos/d/c", "chaos/e"];

/// How long a publisher waits for its reliable subscribers.
const BUDGET: Duration = Duration::from_millis(400);

/// What is set in the number of a publisher whose client registers again.
pub const AGAIN: u64 = 1 << 31;

/// The numbers of this process's publishers.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// The publisher has ended.
pub struct Over;

pub struct Mine<'a> {
    topical: &'a Topical,
    publisher: Publisher,
    /// Among those of this process, and among all.
    slot: usize,
    number: u64,
    again: bool,
    /// When the last sample began.
    last: u64,
}

impl<'a> Mine<'a> {
    /// Publishes one of the topics. `slot`: a free one for its counters.
    pub fn begin(
        topical: &'a Topical,
        caller: &mut Caller,
        slot: usize,
        again: bool,
        random: &mut Random,
    ) -> Result<Option<Mine<'a>>, Over> {
        let topic = TOPICS[random.below(TOPICS.len() as u64) as usize];
        let mut options = Publisher::options().ring_size(4096 << random.below(4));
        if !random.once_in(3) {
            options = options.reliable(BUDGET);
        }
        topical.history.begin(0, Op::Publish, deadline(ASKING));
        let published = options.publish(caller, topic);
        let (outcome, ended) = match &published {
            Ok(_) => (Outcome::Ok, Ok(())),
            // It has this topic already.
            Err(PublishError::Refused(_)) => (Outcome::Refused, Ok(())),
            Err(PublishError::Quota(_)) => (Outcome::Quota, Ok(())),
            Err(PublishError::TimedOut) => (Outcome::TimedOut, Ok(())),
            Err(PublishError::Disconnected(_)) => (Outcome::Disconnected, Err(Over)),
            Err(PublishError::Server(error)) => (topical.outcome(error), Ok(())),
            Err(PublishError::Channel(_) | PublishError::System { .. }) => (Outcome::System, Ok(())),
            Err(error) => topical.history.violation(0, Op::Publish, &format!("{error:?}")),
        };
        topical.history.end(0, Op::Publish, outcome, deadline(ASKING));
        ended?;
        let Ok(publisher) = published else { return Ok(None) };
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let again_bit = if again { AGAIN } else { 0 };
        let number = u64::from(std::process::id()) << 32 | again_bit | number;
        topical.history.set_published(slot, number, 0);
        Ok(Some(Mine { topical, publisher, slot, number, again, last: 0 }))
    }

    pub fn slot(&self) -> usize {
        self.slot
    }

    /// Publishes a sample.
    fn send(&mut self, random: &mut Random) -> Result<(), Over> {
        let at = now();
        let sequence = self.publisher.sequence() + 1;
        let said = Said { publisher: self.number, sequence, at, before: self.last, again: self.again };
        let most = self.publisher.max_sample();
        let payload = content::sample(&said, random.length(most));
        let limit = 2 * BUDGET;
        self.topical.history.begin(0, Op::SendSample, deadline(limit));
        let sent = match random.below(4) {
            0 => self.publisher.try_send(&payload),
            1 => self.grant(&payload, random),
            2 => self.publisher.send(&payload),
            _ => self.publisher.send_timeout(&payload, Duration::from_micros(random.below(2000))),
        };
        let outcome = match &sent {
            Ok(()) => Outcome::Ok,
            Err(PublishError::Full) => Outcome::InboxFull,
            Err(PublishError::TimedOut) => Outcome::TimedOut,
            Err(PublishError::Disconnected(_)) => Outcome::Disconnected,
            Err(error) => self.topical.history.violation(0, Op::SendSample, &format!("{error:?}")),
        };
        self.topical.history.end(0, Op::SendSample, outcome, deadline(limit));
        // A grant may have been given back.
        if self.publisher.sequence() == sequence {
            self.last = at;
            self.topical.history.set_published(self.slot, self.number, sequence);
        }
        if outcome == Outcome::Disconnected { Err(Over) } else { Ok(()) }
    }

    fn grant(&mut self, payload: &[u8], random: &mut Random) -> Result<(), PublishError> {
        let more = random.below(2) as usize * (self.publisher.max_sample() - payload.len());
        let mut grant = self.publisher.grant(payload.len() + more)?;
        let (first, rest) = payload.split_at(random.below(payload.len() as u64 + 1) as usize);
        grant.write_all(first).and_then(|()| grant.write_all(rest)).expect("there is room");
        if !random.once_in(6) {
            grant.commit();
        }
        Ok(())
    }

    /// One or several, at random.
    pub fn step(&mut self, random: &mut Random) -> Result<(), Over> {
        let count = if random.once_in(8) { random.below(300) } else { random.below(8) };
        (0..=count).try_for_each(|_| self.send(random))?;
        self.publisher.evictions();
        Ok(())
    }

    /// Tells what the last sample was: no more come.
    pub fn tell_last(&self) {
        let words = [0, self.number, self.publisher.sequence(), u64::from(self.again), 0, 0];
        self.topical.history.put(Kind::Published, 0, Op::Publish, Outcome::Ok, words);
    }

    /// Ends it. Subscriptions may have missed one that went to another server and ended there before they
    /// came, and one that registers again may have gone there without its client's doing.
    pub fn end(self) {
        if !self.again {
            self.tell_last();
        }
        self.topical.history.set_published(self.slot, 0, 0);
        self.topical.history.begin(0, Op::CloseTopic, deadline(ASKING));
        let Mine { topical, publisher, .. } = self;
        drop(publisher);
        topical.history.end(0, Op::CloseTopic, Outcome::Ok, deadline(ASKING));
    }
}
