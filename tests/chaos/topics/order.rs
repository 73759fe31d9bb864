//! What one subscription has received, and the check of each sample: a lossy one accounts for every gap, a
//! reliable one has none.

use std::collections::{HashMap, HashSet};

use ringpost::{Key, Policy};

use super::content::Said;
use super::publishing::AGAIN;

/// What it has received of one publisher.
#[derive(Debug, Clone, Copy)]
struct Received {
    last: u64,
    /// The publisher's key at that sample: another one means that it has registered again.
    key: Key,
    /// Whether it ever did. From then on it may publish before it knows of this subscription, which is told.
    moved: bool,
}

/// The samples of one subscription.
#[derive(Debug, Clone)]
pub struct Order {
    policy: Policy,
    /// When it was in force.
    since: u64,
    /// Whether it may begin elsewhere: older samples are wanted, too, or the server may have put it off.
    anywhere: bool,
    received: HashMap<u64, Received>,
    /// Whose first sample may have been overwritten.
    doubtful: HashSet<Key>,
}

impl Order {
    pub fn new(policy: Policy, since: u64, anywhere: bool) -> Order {
        Order { policy, since, anywhere, received: HashMap::new(), doubtful: HashSet::new() }
    }

    /// Notes a sample with this sequence, before which so many were missed. An error says what is wrong.
    pub fn next(&mut self, said: &Said, sequence: u64, missed: u64, key: Key) -> Result<(), String> {
        if said.sequence != sequence {
            return Err(format!("{said:?} came with the sequence {sequence}"));
        }
        let Some(before) = self.received.get(&said.publisher).copied() else {
            // One that begins anew may have moved meanwhile, or begin before the publisher waits for it.
            let moved = self.anywhere || self.doubtful.contains(&key);
            self.received.insert(said.publisher, Received { last: sequence, key, moved });
            return if self.doubtful.contains(&key) { Ok(()) } else { self.first(said, missed) };
        };
        let moved = before.moved || key != before.key;
        self.received.insert(said.publisher, Received { last: sequence, key, moved });
        if sequence != before.last + 1 + missed {
            return Err(format!("behind {} came {said:?}, and {missed} were missed: {self:?}", before.last));
        }
        // What was published while nobody knew of the publisher may be lost, and is told.
        if missed > 0 && self.policy == Policy::Reliable && !moved {
            return Err(format!("a reliable subscription missed {missed} before {said:?}: {self:?}"));
        }
        Ok(())
    }

    /// The first sample of a publisher: what was published after the subscription was in force comes, too. (A
    /// publisher that registers again may have been without a server then.)
    fn first(&self, said: &Said, missed: u64) -> Result<(), String> {
        let lost = !said.again && missed == 0 && said.before > self.since && said.sequence > 1;
        if lost && !self.anywhere {
            return Err(format!("in force since {}, and begins only with {said:?}", self.since));
        }
        Ok(())
    }

    /// A sample of this client was overwritten while it was read, and nobody knows of which publisher it was:
    /// they begin anew here.
    pub fn overrun(&mut self, key: Key, pid: u32) {
        self.gives_up(key, pid);
    }

    /// From now on the server may put publishers off.
    pub fn may_begin_anywhere(&mut self) {
        self.anywhere = true;
    }

    /// The last sample of each publisher.
    pub fn lasts(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.received.iter().map(|(publisher, received)| (*publisher, received.last))
    }

    /// A publisher of this process gives nothing more to this subscription. Returns those that may be meant.
    /// One that has registered again may have another key than at its last sample.
    pub fn gives_up(&mut self, key: Key, pid: u32) -> Vec<u64> {
        let moves = |publisher: u64| publisher & AGAIN != 0 && publisher >> 32 == u64::from(pid);
        let meant = |(publisher, received): &(&u64, &Received)| received.key == key || moves(**publisher);
        let gone: Vec<u64> = self.received.iter().filter(meant).map(|(publisher, _)| *publisher).collect();
        gone.iter().for_each(|publisher| _ = self.received.remove(publisher));
        // The client may publish other topics, which go on: nobody said which one it was.
        self.doubtful.insert(key);
        gone
    }
}

pub mod tests {
    use super::*;

    pub fn gaps_are_accounted_for() {
        let [one, two] = [1, 2].map(|number| Key::from_bytes(u128::to_le_bytes(number)));
        let said = |sequence| Said {
            publisher: 7,
            sequence,
            at: 100 + sequence,
            before: 99 + sequence,
            again: false,
        };
        let take =
            |order: &mut Order, sequence, missed, key| order.next(&said(sequence), sequence, missed, key);
        let mut lossy = Order::new(Policy::Lossy, 105, false);
        assert!(take(&mut lossy, 5, 0, one).is_ok());
        assert!(take(&mut lossy, 9, 3, one).is_ok());
        assert_eq!(lossy.lasts().collect::<Vec<_>>(), [(7, 9)]);
        assert!(take(&mut lossy, 10, 1, one).is_err(), "twice or out of order");
        let mut late = Order::new(Policy::Lossy, 105, false);
        assert!(take(&mut late, 8, 0, one).is_err(), "it lost what came after it was in force");
        let mut lapped = Order::new(Policy::Lossy, 105, false);
        assert!(take(&mut lapped, 8, 2, one).is_ok());
        let mut reliable = Order::new(Policy::Reliable, 200, false);
        assert!(take(&mut reliable, 8, 0, one).is_ok());
        assert!(take(&mut reliable.clone(), 10, 1, one).is_err(), "it stayed where it was");
        assert!(take(&mut reliable, 10, 1, two).is_ok(), "it went on at another server");
        assert!(take(&mut reliable, 12, 1, two).is_ok(), "it may not have been known there yet");
        assert!(take(&mut reliable, 14, 0, two).is_err(), "every gap is counted");
        let mut moves = reliable.clone();
        moves.received.insert(9 << 32 | AGAIN, Received { last: 1, key: one, moved: false });
        assert_eq!((moves.gives_up(two, 8), moves.gives_up(two, 9)), (vec![7], vec![9 << 32 | AGAIN]));
        assert_eq!((reliable.gives_up(one, 9), reliable.gives_up(two, 9)), (vec![], vec![7]));
        assert!(reliable.next(&said(1), 2, 0, two).is_err(), "another sequence");
    }
}
