//! Who is there: local clients told to the other nodes, and what those tell.
//!
//! A token of liveliness stands for each client that is exported. It is withdrawn when the client leaves, and
//! Zenoh withdraws it when this bridge dies or the network does not carry a word for `node::LEASE`. So a
//! remote name vanishes within that time and what Zenoh takes to notice, 5 s in all, whatever happened.

use std::collections::HashMap;
use std::sync::Arc;

use ringpost::{Async, Change, Key, Name, Presence};
use tracing::{debug, warn};

use crate::local::Local;
use crate::wire::{NodeName, Said, What, is_foreign};

/// How many registrations of one name are remembered: an old one that is not withdrawn yet, and its
/// successor.
const MOST_OF_NAME: usize = 4;

/// The clients that other nodes tell of and that may appear here.
#[derive(Default)]
pub struct Remote {
    clients: HashMap<NodeName, HashMap<Name, Vec<(u64, Key)>>>,
    count: usize,
    /// Whether it was said that there are too many.
    told: bool,
}

impl Remote {
    /// A token has appeared or vanished. Beyond `most` clients, those that come are not seen.
    pub fn token(&mut self, said: &Said, present: bool, most: usize) {
        let What::Client(name, key) = &said.what else { return };
        let of_node = self.clients.entry(said.node.clone()).or_default();
        let entry = (said.instance, *key);
        if !present {
            if let Some(entries) = of_node.get_mut(name) {
                let before = entries.len();
                entries.retain(|known| *known != entry);
                self.count -= before - entries.len();
                if entries.is_empty() {
                    of_node.remove(name);
                }
            }
            return;
        }
        if self.count >= most {
            if !std::mem::replace(&mut self.told, true) {
                warn!("more than {most} remote clients: those that come now do not appear (--max-clients)");
            }
            return;
        }
        let entries = of_node.entry(name.clone()).or_default();
        if entries.len() < MOST_OF_NAME && !entries.contains(&entry) {
            entries.push(entry);
            self.count += 1;
        }
    }

    /// The clients of a node, by what the bridge that has its name says: of two registrations the later.
    pub fn of_node(&self, node: &NodeName, owner: Option<u64>) -> HashMap<Name, Key> {
        let Some(of_node) = self.clients.get(node) else { return HashMap::new() };
        let present = of_node.iter().filter_map(|(name, entries)| {
            let (_, key) = entries.iter().rev().find(|(instance, _)| Some(*instance) == owner)?;
            Some((name.clone(), *key))
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
                match local.node.session.liveliness().declare_token(said.to_string()).await {
                    Ok(token) => local.export(peer, token),
                    Err(error) => warn!("{} cannot be told to other nodes: {error}", peer.name),
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
}
