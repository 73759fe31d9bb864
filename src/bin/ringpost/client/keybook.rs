//! Keys as people see and type them: shortened to what is unique among the keys that this client has seen.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ringpost::Key;

/// The least number of characters. They contain the whole slot of the key, which no two registered clients
/// have in common; only keys of different times can begin with the same ones.
const LEAST: usize = 4;

/// How many keys are remembered. Further ones are shown in full.
const MOST: usize = 10_000;

/// The keys that were seen, also those of clients that have left. The threads that show keys share it.
#[derive(Debug, Default, Clone)]
pub struct Keybook(Arc<Mutex<BTreeSet<Key>>>);

/// Which key a text means.
#[derive(Debug, PartialEq, Eq)]
pub enum Meant {
    /// It is not the beginning of a key.
    None,
    One(Key),
    /// Several keys begin so. These are two of them.
    Several([Key; 2]),
}

impl Keybook {
    fn seen(&self) -> MutexGuard<'_, BTreeSet<Key>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, keys: impl IntoIterator<Item = Key>) {
        let mut seen = self.seen();
        for key in keys {
            if seen.len() < MOST {
                seen.insert(key);
            }
        }
    }

    /// As much of the key as no other key begins with.
    pub fn short(&self, key: Key) -> String {
        self.add([key]);
        let seen = self.seen();
        let text = key.to_string();
        if !seen.contains(&key) {
            return text;
        }
        // Keys are ordered as their texts are.
        let neighbours = [seen.range(..key).next_back(), seen.range(key..).nth(1)];
        let shared =
            |other: &Key| text.bytes().zip(other.to_string().bytes()).take_while(|(a, b)| a == b).count();
        let length = neighbours.into_iter().flatten().map(shared).max().map_or(0, |shared| shared + 1);
        text[..length.max(LEAST)].to_owned()
    }

    /// The key among those that were seen that begins with the text. Ignores case.
    pub fn meant(&self, text: &str) -> Meant {
        if !could_be_short(text) {
            return Meant::None;
        }
        let text = text.to_ascii_uppercase();
        let seen = self.seen();
        let mut found = seen.iter().filter(|key| key.to_string().starts_with(&text));
        match (found.next(), found.next()) {
            (None, _) => Meant::None,
            (Some(&key), None) => Meant::One(key),
            (Some(&one), Some(&other)) => Meant::Several([one, other]),
        }
    }
}

/// Whether a text may be the beginning of a key.
pub fn could_be_short(text: &str) -> bool {
    text.len() >= LEAST && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        format!("{text:0<26}").parse().unwrap()
    }

    #[test]
    fn a_key_is_shortened_to_what_no_other_one_begins_with() {
        let book = Keybook::default();
        assert_eq!(book.short(key("00400001")), "0040");
        assert_eq!(book.short(key("00800001")), "0080");
        assert_eq!(book.short(key("0040000200")), "00400002");
        assert_eq!(book.short(key("00400001")), "00400001");
        assert_eq!(book.short(key("0040000201")), "0040000201");
        assert_eq!(book.short(key("0040000200")), "0040000200");
    }

    #[test]
    fn what_was_shown_means_its_key_or_several() {
        let book = Keybook::default();
        book.add([key("00400001"), key("00400002"), key("00C00001")]);
        assert_eq!(book.meant("00c0"), Meant::One(key("00C00001")));
        assert_eq!(book.meant("0040"), Meant::Several([key("00400001"), key("00400002")]));
        assert_eq!(book.meant("00400002"), Meant::One(key("00400002")));
        for other in ["00C", "bob", "00D0", "00C0 ", ""] {
            assert_eq!(book.meant(other), Meant::None, "{other:?}");
        }
    }

    #[test]
    fn keys_beyond_those_remembered_are_shown_in_full() {
        let book = Keybook::default();
        book.add((0..MOST as u128).map(|number| Key::from_bytes((number << 100).to_le_bytes())));
        let other = key("7ZZZ");
        assert_eq!(book.short(other), other.to_string());
        assert_eq!(book.meant("7ZZZ"), Meant::None);
    }
}
