//! Judges what subscriptions have received when nobody publishes any more: of each publisher that a
//! subscription reads, the last sample must have come.
//!
//! That the samples before it came in order, whole and without a gap that is not counted, each client checks
//! itself.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::topics::publishing::AGAIN;

/// What was done with topics.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct TopicCounts {
    pub published: u64,
    pub subscribed: u64,
    pub samples: u64,
    /// How often a client began to look who is there, or compared it with the list.
    pub watched: u64,
    /// How often a subscription was found to have the last sample of a publisher.
    pub compared: u64,
}

/// A process and the number of its subscription.
type Subscription = (u32, u64);

#[derive(Debug, Default)]
pub struct TopicJudge {
    /// The last sample of publishers of which no more come.
    lasts: HashMap<u64, u64>,
    /// Of publishers that were killed in the midst of a sample: there may be one more.
    killed: HashSet<u64>,
    seen: HashMap<Subscription, HashMap<u64, u64>>,
    pub compared: u64,
}

impl TopicJudge {
    /// Begins another round.
    pub fn begin(&mut self) {
        self.lasts.clear();
        self.killed.clear();
        self.seen.clear();
    }

    pub fn published(&mut self, publisher: u64, last: u64) {
        self.lasts.insert(publisher, last);
    }

    /// A process died, whose publishers had come so far. Nothing is expected of its subscriptions.
    pub fn died(&mut self, pid: u32, published: &[(u64, u64)]) {
        for (publisher, last) in published {
            // What one published that had registered again may be known to nobody yet.
            if publisher & AGAIN != 0 {
                self.lasts.remove(publisher);
                continue;
            }
            self.lasts.insert(*publisher, *last);
            self.killed.insert(*publisher);
        }
        self.seen.retain(|(process, _), _| *process != pid);
    }

    pub fn seen(&mut self, subscription: Subscription, publisher: u64, sequence: u64) {
        let seen = self.seen.entry(subscription).or_default();
        if sequence == u64::MAX {
            seen.remove(&publisher);
        } else {
            seen.insert(publisher, sequence);
        }
    }

    pub fn unsubscribed(&mut self, subscription: Subscription) {
        let seen = self.seen.remove(&subscription).unwrap_or_default();
        self.compared += seen.len() as u64;
    }

    /// A sample that should have come and has not, or that came although it was never published.
    pub fn missing(&self) -> Option<String> {
        for ((pid, subscription), seen) in &self.seen {
            for (publisher, sequence) in seen {
                let Some(last) = self.lasts.get(publisher) else { continue };
                let more = last + u64::from(self.killed.contains(publisher));
                if !(*last..=more).contains(sequence) {
                    return Some(format!(
                        "subscription {subscription} of process {pid} has come to sample {sequence} of publisher \
                         {publisher:x}, whose last one is {last}"
                    ));
                }
            }
        }
        None
    }
}

pub mod tests {
    use super::*;

    pub fn what_did_not_come_is_told() {
        let mut judge = TopicJudge::default();
        judge.seen((1, 0), 7, 4);
        assert_eq!(judge.missing(), None, "more may come");
        judge.published(7, 5);
        assert!(judge.missing().is_some_and(|told| told.contains("sample 4")));
        judge.seen((1, 0), 7, 5);
        assert_eq!(judge.missing(), None);
        judge.seen((1, 0), 7, 6);
        assert!(judge.missing().is_some(), "it was never published");
        judge.died(9, &[(7, 5)]);
        assert_eq!(judge.missing(), None, "it was killed behind its commit");
        judge.seen((1, 0), 7, u64::MAX);
        judge.seen((2, 3), 7, 1);
        assert!(judge.missing().is_some());
        judge.unsubscribed((2, 3));
        assert_eq!((judge.missing(), judge.compared), (None, 1));
        judge.seen((2, 4), 7, 1);
        judge.died(2, &[]);
        assert_eq!(judge.missing(), None);
    }
}
