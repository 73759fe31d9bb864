//! Who is there: local clients told to the other nodes, and what those tell.
//!
//! A token of liveliness stands for each client that is exported. It is withdrawn when the client leaves, and
//! Zenoh withdraws it when this bridge dies or the network does not carry a word for `node::LEASE`. So a
//! remote name vanishes within that time and what Zenoh takes to notice, 5 s in all, whatever happened.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use ringpost::{Async, Change, Key, Name, Presence};
use tracing::{debug, warn};

use crate::local::Local;
use crate::wire::{NodeName, Said, What, is_foreign};

/// How many registrations of one name are remembered: an old one that is not withdrawn yet, and its
/// successor.
const MOST_OF_NAME: usize = 4;

/// What may vanish of one node while it is asked who is there.
const MOST_GONE: usize = 4096;

/// The clients that other nodes tell of and that may appear here.
#[derive(Default)]
pub struct Remote {
    clients: HashMap<NodeName, HashMap<Name, Vec<(u64, Key)>>>,
    count: usize,
    /// Nodes of which clients did not appear because there were too many.
    more: BTreeSet<NodeName>,
    /// Nodes of which that was said, once.
    told: BTreeSet<NodeName>,
    /// Nodes that are asked again who is there, and what has vanished there meanwhile: it may still be in
    /// the answer.
    looks: HashMap<NodeName, HashSet<(u64, Name, Key)>>,
}

impl Remote {
    /// A token has appeared or vanished. Beyond `most` clients, those that come are not seen. Returns the
    /// nodes that are to be asked who else is there, because there is room again: see `looks` and `found`.
    pub fn token(&mut self, said: &Said, present: bool, most: usize) -> Vec<NodeName> {
        let What::Client(name, key) = &said.what else { return Vec::new() };
        let of_node = self.clients.entry(said.node.clone()).or_default();
        let entry = (said.instance, *key);
        if !present {
            if let Some(gone) = self.looks.get_mut(&said.node).filter(|gone| gone.len() < MOST_GONE) {
                gone.insert((said.instance, *name, *key));
            }
            if let Some(entries) = of_node.get_mut(name) {
                let before = entries.len();
                entries.retain(|known| *known != entry);
                self.count -= before - entries.len();
                if entries.is_empty() {
                    of_node.remove(name);
                }
            }
            return self.nodes_to_look_at(most);
        }
        if self.count >= most {
            self.more.insert(said.node.clone());
            if self.told.insert(said.node.clone()) {
                warn!(
                    "more than {most} remote clients: of {} there are some that do not appear (--max-clients)",
                    said.node
                );
            }
            return Vec::new();
        }
        let entries = of_node.entry(*name).or_default();
        if entries.len() < MOST_OF_NAME && !entries.contains(&entry) {
            entries.push(entry);
            self.count += 1;
        }
        Vec::new()
    }

    fn nodes_to_look_at(&mut self, most: usize) -> Vec<NodeName> {
        if self.count >= most {
            return Vec::new();
        }
        let nodes: Vec<_> = self.more.iter().filter(|node| !self.looks.contains_key(node)).cloned().collect();
        for node in &nodes {
            self.more.remove(node);
            self.looks.insert(node.clone(), HashSet::new());
        }
        nodes
    }

    /// A node is asked who is there, from now on.
    pub fn looks(&mut self, node: &NodeName) {
        self.looks.insert(node.clone(), HashSet::new());
    }

    /// What a node that was asked says is there. Whether it is to be asked again.
    pub fn found(&mut self, node: &NodeName, found: &[Said], most: usize) -> bool {
        let gone = self.looks.remove(node).unwrap_or_default();
        if gone.len() >= MOST_GONE {
            // Nobody knows what of it is still there.
            self.more.insert(node.clone());
        } else {
            for said in found {
                if let What::Client(name, key) = &said.what
                    && !gone.contains(&(said.instance, *name, *key))
                {
                    self.token(said, true, most);
                }
            }
        }
        let again = self.count < most && self.more.remove(node);
        if again {
            self.looks(node);
        } else if !self.more.contains(node) {
            self.told.remove(node);
        }
        again
    }

    pub fn knows(&self, said: &Said) -> bool {
        let What::Client(name, key) = &said.what else { return false };
        let entries = self.clients.get(&said.node).and_then(|of_node| of_node.get(name));
        entries.is_some_and(|entries| entries.contains(&(said.instance, *key)))
    }

    /// The clients of a node, by what the bridge that has its name says: of two registrations the later.
    pub fn of_node(&self, node: &NodeName, owner: Option<u64>) -> HashMap<Name, Key> {
        let Some(of_node) = self.clients.get(node) else { return HashMap::new() };
        let present = of_node.iter().filter_map(|(name, entries)| {
            let (_, key) = entries.iter().rev().find(|(instance, _)| Some(*instance) == owner)?;
            Some((*name, *key))
        });
        present.collect()
    }

    /// One client, in the same way.
    pub fn client(&self, node: &NodeName, owner: Option<u64>, name: &Name) -> Option<Key> {
        let entries = self.clients.get(node)?.get(name)?;
        entries.iter().rev().find(|(instance, _)| Some(*instance) == owner).map(|(_, key)| *key)
    }
}

/// Tells the other nodes who is here. Returns when the server is gone.
pub async fn tell(local: &Arc<Local>, mut presence: Async<Presence>) {
    loop {
        let change = match presence.recv().await {
            Ok(change) => change,
            Err(error) => return debug!("presence: {error}"),
        };
        let peer = *change.peer();
        if is_foreign(&peer.name) || !local.node.settings.exports(peer.name.as_str()) {
            continue;
        }
        match change {
            Change::Vanished { .. } => local.withdraw(peer.key),
            _ => {
                let what = What::Client(peer.name, peer.key);
                let said = Said { node: local.node.name().clone(), instance: local.node.instance, what };
                local.export(&peer);
                match local.node.session.liveliness().declare_token(said.to_string()).await {
                    Ok(token) => local.tells(&peer, token),
                    Err(error) => {
                        warn!("{} cannot be told to other nodes: {error}", peer.name);
                        local.withdraw(peer.key);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::name;

    fn said(instance: u64, text: &str, key: u8) -> Said {
        let what = What::Client(name(text).unwrap(), Key::from_bytes([key; 16]));
        Said { node: "b".parse().unwrap(), instance, what }
    }

    #[test]
    fn only_the_owner_of_a_node_is_believed_and_its_later_word_counts() {
        let (mut remote, b) = (Remote::default(), "b".parse().unwrap());
        for token in [said(1, "bob", 1), said(2, "bob", 2), said(1, "bob", 3), said(2, "eve", 4)] {
            remote.token(&token, true, 10);
        }
        let bob = name("bob").unwrap();
        assert_eq!(remote.of_node(&b, Some(1)), HashMap::from([(bob, Key::from_bytes([3; 16]))]));
        assert_eq!(remote.of_node(&b, Some(2)).len(), 2);
        assert_eq!(remote.of_node(&b, None).len(), 0);
        remote.token(&said(1, "bob", 3), false, 10);
        assert_eq!(remote.client(&b, Some(1), &bob), Some(Key::from_bytes([1; 16])));
        remote.token(&said(1, "bob", 1), false, 10);
        assert_eq!(remote.client(&b, Some(1), &bob), None);
        assert_eq!(remote.count, 2);
    }

    #[test]
    fn no_more_clients_appear_than_may() {
        let (mut remote, b) = (Remote::default(), "b".parse().unwrap());
        for key in 0..9 {
            remote.token(&said(1, &format!("c{key}"), key), true, 5);
        }
        assert_eq!(remote.of_node(&b, Some(1)).len(), 5);
        remote.token(&said(1, "c8", 8), false, 5);
        assert_eq!(remote.count, 5, "what was not seen cannot vanish");
        remote.token(&said(1, "c0", 0), false, 5);
        remote.token(&said(1, "c8", 8), true, 5);
        assert!(remote.client(&b, Some(1), &name("c8").unwrap()).is_some());
    }

    #[test]
    fn who_did_not_appear_is_asked_for_when_there_is_room() {
        let (mut remote, b): (_, NodeName) = (Remote::default(), "b".parse().unwrap());
        let client = |key| said(1, &format!("c{key}"), key);
        for key in 0..8 {
            assert!(remote.token(&client(key), true, 4).is_empty());
        }
        assert_eq!(remote.token(&client(0), false, 4), std::slice::from_ref(&b));
        assert!(remote.token(&client(1), false, 4).is_empty(), "it is asked already");
        remote.looks(&b);
        // Its answer is older than this.
        remote.token(&client(5), false, 4);
        assert!(!remote.found(&b, &[client(2), client(5), client(6), client(7)], 4));
        let mut names: Vec<_> =
            remote.of_node(&b, Some(1)).into_keys().map(|name| name.to_string()).collect();
        names.sort();
        assert_eq!(names, ["c2", "c3", "c6", "c7"]);
        assert!(remote.token(&client(2), false, 4).is_empty(), "nobody is left out");
        // Too much has vanished meanwhile.
        for key in 8..12 {
            remote.token(&client(key), true, 4);
        }
        assert_eq!(remote.token(&client(3), false, 4), std::slice::from_ref(&b));
        remote.looks(&b);
        for instance in 0..=MOST_GONE as u64 {
            remote.token(&said(instance, "x", 1), false, 4);
        }
        assert!(remote.found(&b, &[client(9)], 4) && !remote.knows(&client(9)));
        assert!(!remote.found(&b, &[client(9)], 4) && remote.knows(&client(9)));
    }
}
