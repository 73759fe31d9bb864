//! `RollCall`: who is present as far as was told, and what is to be told.
//!
//! Lists and changes come on two ways, so either may be older than what the other has said.
//!
//! - *A change that is older than a list.* A place of the registry is given to one client after the other,
//!   each with a higher generation in its key. So somebody who appears with a generation that is not higher
//!   than the last one that was told of that place is no news, and nor is the end of somebody who is not
//!   known.
//! - *A list that is older than a change.* Lists have numbers. A change is heard with the number of the list
//!   that was asked for last. If that is the number of a list, or higher, the list may be older than the
//!   change, and does not tell that whoever appeared by it is gone.

#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet, VecDeque};

use super::change::Change;
use crate::connect::topics::PresenceSample;
use crate::wire::{Key, Peer, VanishReason};

#[derive(Debug, Default)]
pub(super) struct RollCall {
    /// Who is present, each with the number of the list that was asked for last when it appeared.
    present: HashMap<Key, (Peer, u64)>,
    /// The highest generation that was told of each place.
    generations: HashMap<u16, u32>,
    has_begun: bool,
    untold: VecDeque<Change>,
}

impl RollCall {
    /// The list of this number: all who are registered.
    pub(super) fn listed(&mut self, list: Vec<Peer>, number: u64) {
        let keys: HashSet<Key> = list.iter().map(|peer| peer.key).collect();
        let is_gone = |key: &Key, asked: u64| asked < number && !keys.contains(key);
        self.drop_those(VanishReason::Unseen, is_gone);
        for peer in list {
            if self.is_new(&peer, 0) {
                let news = if self.has_begun { Change::Appeared(peer) } else { Change::Present(peer) };
                self.untold.push_back(news);
            }
        }
        self.has_begun = true;
    }

    /// What is heard from now on is another server's.
    pub(super) fn server_ended(&mut self) {
        self.drop_those(VanishReason::ServerEnded, |_, _| true);
        self.generations.clear();
    }

    fn drop_those(&mut self, reason: VanishReason, is_gone: impl Fn(&Key, u64) -> bool) {
        let gone = self.present.extract_if(|key, (_, asked)| is_gone(key, *asked));
        let mut gone: Vec<Peer> = gone.map(|(_, (peer, _))| peer).collect();
        // In an order that does not depend on the map's.
        gone.sort_unstable_by_key(|peer| peer.key);
        self.untold.extend(gone.into_iter().map(|peer| Change::Vanished { peer, reason }));
    }

    /// A change, in the order of the registry. The list of the number `asked` was asked for last.
    pub(super) fn heard(&mut self, sample: PresenceSample, asked: u64) {
        match sample {
            PresenceSample::Appeared(peer) => {
                if self.is_new(&peer, asked) {
                    self.untold.push_back(Change::Appeared(peer));
                }
            }
            PresenceSample::Vanished { peer, reason } => {
                if self.present.remove(&peer.key).is_some() {
                    self.untold.push_back(Change::Vanished { peer, reason });
                } else {
                    // A list that is to come may be older, and have it still.
                    let told = self.generations.entry(peer.key.slot()).or_default();
                    *told = peer.key.generation().max(*told);
                }
            }
        }
    }

    /// Whether somebody was not told of yet. From now on it counts as present.
    fn is_new(&mut self, peer: &Peer, asked: u64) -> bool {
        let (slot, generation) = (peer.key.slot(), peer.key.generation());
        if self.generations.get(&slot).is_some_and(|told| *told >= generation) {
            return false;
        }
        self.generations.insert(slot, generation);
        self.present.insert(peer.key, (*peer, asked));
        true
    }

    /// What is to be told next.
    pub(super) fn next(&mut self) -> Option<Change> {
        self.untold.pop_front()
    }

    pub(super) fn has_news(&self) -> bool {
        !self.untold.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Name;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// The client that has a place as the first, the second ...
    fn peer_at(slot: u16, generation: u32) -> Peer {
        let name = Name::new(&format!("client {slot}.{generation}")).unwrap();
        Peer { name, key: Key::new(slot, generation, [7; 10]), pid: 1, uid: 2, gid: 3 }
    }

    fn told(roll: &mut RollCall) -> Vec<Change> {
        std::iter::from_fn(|| roll.next()).collect()
    }

    #[test]
    fn the_list_comes_first_and_later_ones_tell_the_difference() {
        let [one, two, three] = [1, 2, 3].map(|slot| peer_at(slot, 1));
        let mut roll = RollCall::default();
        roll.listed(vec![one, two], 1);
        assert_eq!(told(&mut roll), [Change::Present(one), Change::Present(two)]);
        roll.listed(vec![two, three], 2);
        let vanished = Change::Vanished { peer: one, reason: VanishReason::Unseen };
        assert_eq!(told(&mut roll), [vanished, Change::Appeared(three)]);
        assert!(!roll.has_news());
    }

    #[test]
    fn another_server_has_nobody_of_the_one_before() {
        let [old, new] = [2, 1].map(|generation| peer_at(7, generation));
        let mut roll = RollCall::default();
        roll.listed(vec![old], 1);
        roll.server_ended();
        roll.listed(vec![new], 2);
        let vanished = Change::Vanished { peer: old, reason: VanishReason::ServerEnded };
        assert_eq!(told(&mut roll), [Change::Present(old), vanished, Change::Appeared(new)]);
    }

    /// What happens to the places of a registry: somebody comes there, or whoever is there goes.
    fn any_history() -> impl Strategy<Value = Vec<PresenceSample>> {
        vec(0..6_u16, 0..80).prop_map(|places| {
            let mut generations = [0_u32; 6];
            let happens = |slot: u16| {
                let turn = &mut generations[usize::from(slot)];
                *turn += 1;
                let peer = peer_at(slot, turn.div_ceil(2));
                match *turn % 2 {
                    1 => PresenceSample::Appeared(peer),
                    _ => PresenceSample::Vanished { peer, reason: VanishReason::Died },
                }
            };
            places.into_iter().map(happens).collect()
        })
    }

    /// Who is registered after so much has happened.
    fn registered(history: &[PresenceSample]) -> Vec<Peer> {
        let mut present = Vec::new();
        for sample in history {
            match sample {
                PresenceSample::Appeared(peer) => present.push(*peer),
                PresenceSample::Vanished { peer, .. } => present.retain(|other: &Peer| other.key != peer.key),
            }
        }
        present
    }

    /// One list: how much is heard before it is asked for, how much then happens until the server makes it,
    /// how much is heard until it comes, and how much the reader passes over before it is asked for.
    type Listing = (usize, usize, usize, usize);

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        /// Wherever lists are asked for, made and received among the changes: each client is told of once,
        /// and its end once, and in the end those are told who are there.
        #[test]
        fn everybody_is_told_of_once_and_in_the_end_rightly(
            history in any_history(),
            listings in vec((0..20_usize, 0..20_usize, 0..20_usize, 0..20_usize), 0..5),
        ) {
            let mut roll = RollCall::default();
            roll.listed(Vec::new(), 1);
            let (mut heard, mut asked, mut made) = (0, 1, 0);
            let hear = |roll: &mut RollCall, heard: &mut usize, count: usize, asked: u64| {
                let until = history.len().min(*heard + count);
                history[*heard..until].iter().for_each(|sample| roll.heard(*sample, asked));
                *heard = until;
            };
            for (before, until_made, until_here, lost) in listings {
                let listing: Listing = (before, until_made, until_here, lost);
                hear(&mut roll, &mut heard, listing.0, asked);
                // What is passed over has happened before the list is asked for.
                heard = history.len().min(heard + listing.3);
                asked += 1;
                // No list is older than the one before it. The reader may be behind or ahead of it when it
                // comes.
                made = history.len().min(heard.max(made) + listing.1);
                hear(&mut roll, &mut heard, listing.2, asked);
                roll.listed(registered(&history[..made]), asked);
            }
            hear(&mut roll, &mut heard, usize::MAX / 2, asked);
            let mut there: HashMap<Key, bool> = HashMap::new();
            for change in told(&mut roll) {
                match change {
                    Change::Present(peer) | Change::Appeared(peer) => {
                        prop_assert_eq!(there.insert(peer.key, true), None);
                    }
                    Change::Vanished { peer, .. } => {
                        prop_assert_eq!(there.insert(peer.key, false), Some(true));
                    }
                }
            }
            let mut left: Vec<Key> = there.into_iter().filter(|(_, is)| *is).map(|(key, _)| key).collect();
            left.sort_unstable();
            let mut expected: Vec<Key> = registered(&history).iter().map(|peer| peer.key).collect();
            expected.sort_unstable();
            prop_assert_eq!(left, expected);
        }
    }
}
