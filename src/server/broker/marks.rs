//! `LinkMarks`: the places of one client's links among its bits, and which of these links it calls ended.
//!
//! A link has a place at each of its two clients. When the link has ended for a client, the client flips the
//! bit of that place in its channel, once. So the server remembers what the bit was when the place was taken.
//! Only the acceptor takes and frees places; any thread may count.

#![forbid(unsafe_code)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::channel::LinkWords;

const BITS: u16 = u32::BITS as u16;
const WORDS: usize = (LinkWords::MOST / BITS) as usize;

/// What a client and its server know together about the client's links.
#[derive(Debug, Default)]
pub(in crate::server) struct LinkMarks {
    /// `None` for a client without a channel's words, in tests.
    words: Option<LinkWords>,
    has_bell: AtomicBool,
    /// Made when the client gets its first link.
    places: OnceLock<Box<Places>>,
}

#[derive(Debug)]
struct Places {
    taken: [AtomicU32; WORDS],
    /// What the bits of the taken places were when they were taken.
    before: [AtomicU32; WORDS],
}

fn place(index: u16) -> (usize, u32) {
    (usize::from(index / BITS), 1 << (index % BITS))
}

// Relaxed: nothing else is published by these words, and a count may be out of date.
impl LinkMarks {
    pub(in crate::server) fn new(words: LinkWords) -> LinkMarks {
        LinkMarks { words: Some(words), ..LinkMarks::default() }
    }

    /// Whether the client can be told of introductions, and takes them.
    pub(in crate::server) fn serves(&self) -> bool {
        self.has_bell.load(Ordering::Relaxed) && self.words.as_ref().is_some_and(LinkWords::is_serving)
    }

    pub(super) fn set_bell(&self, has_bell: bool) {
        self.has_bell.store(has_bell, Ordering::Relaxed);
    }

    fn bit(&self, index: u16) -> bool {
        self.words.as_ref().is_some_and(|words| words.bit(index))
    }

    /// For each word of places: which are taken, and which of these have ended, as far as the client says.
    fn words(&self) -> impl Iterator<Item = (u32, u32)> {
        let places = self.places.get().into_iter().flat_map(|places| places.taken.iter().zip(&places.before));
        (0..).zip(places).map(|(word, (taken, before))| {
            let bits = self.words.as_ref().map_or(0, |words| words.bits(word));
            let taken = taken.load(Ordering::Relaxed);
            (taken, taken & (bits ^ before.load(Ordering::Relaxed)))
        })
    }

    /// How many links are open for the client, as far as it says.
    pub(in crate::server) fn open(&self) -> u32 {
        self.words().map(|(taken, ended)| (taken & !ended).count_ones()).sum()
    }

    /// The places of links that the client says have ended.
    pub(super) fn ended(&self) -> Vec<u16> {
        let words = (0..).zip(self.words()).filter(|(_, (_, ended))| *ended != 0);
        let indices = words.flat_map(|(word, (_, ended))| {
            (0..BITS).filter(move |bit| ended & 1 << bit != 0).map(move |bit| word * BITS + bit)
        });
        indices.collect()
    }

    /// Takes a free place, from `first` on if there is one. `None` if all are taken.
    pub(super) fn take(&self, first: u16) -> Option<u16> {
        let places = self.places.get_or_init(|| Box::new(Places::new()));
        let is_free = |index: &u16| {
            let (word, bit) = place(*index);
            places.taken[word].load(Ordering::Relaxed) & bit == 0
        };
        let index = (first..LinkWords::MOST).chain(0..first.min(LinkWords::MOST)).find(is_free)?;
        let (word, bit) = place(index);
        if self.bit(index) {
            places.before[word].fetch_or(bit, Ordering::Relaxed);
        } else {
            places.before[word].fetch_and(!bit, Ordering::Relaxed);
        }
        places.taken[word].fetch_or(bit, Ordering::Relaxed);
        Some(index)
    }

    pub(super) fn free(&self, index: u16) {
        let (word, bit) = place(index);
        if let Some(places) = self.places.get() {
            places.taken[word].fetch_and(!bit, Ordering::Relaxed);
        }
    }

    /// Whether the client says that the link at a taken place has ended.
    pub(super) fn has_ended(&self, index: u16) -> bool {
        let (word, bit) = place(index);
        let before = self.places.get().map_or(0, |places| places.before[word].load(Ordering::Relaxed));
        self.bit(index) != (before & bit != 0)
    }
}

impl Places {
    fn new() -> Places {
        let words = || std::array::from_fn(|_| AtomicU32::new(0));
        Places { taken: words(), before: words() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{self, Geometry, Guest, Host};
    use crate::ring::WaitStrategy;

    fn pair() -> (Host, Guest) {
        let geometry = Geometry::new(4096).unwrap();
        let (host, descriptor) = channel::create_for_server(&geometry, WaitStrategy::Park).unwrap();
        (host, channel::open_for_client(descriptor, WaitStrategy::Park).unwrap())
    }

    #[test]
    fn every_place_is_taken_once_and_again_when_it_is_free() {
        let marks = LinkMarks::default();
        assert_eq!(
            (marks.open(), marks.take(4095), marks.take(4095), marks.take(9)),
            (0, Some(4095), Some(0), Some(9))
        );
        let rest: Vec<u16> = (0..LinkWords::MOST).filter_map(|_| marks.take(10)).collect();
        assert_eq!((rest.len(), rest[0], rest[rest.len() - 1]), (4093, 10, 8));
        assert_eq!((marks.open(), marks.take(7)), (4096, None));
        marks.free(77);
        assert_eq!((marks.open(), marks.take(5000), marks.take(0)), (4095, Some(77), None));
    }

    #[test]
    fn a_link_has_ended_when_its_bit_is_not_what_it_was() {
        let (host, guest) = pair();
        let marks = LinkMarks::new(host.links);
        // The second time the bit begins as 1.
        for _ in 0..3 {
            let (one, other) = (marks.take(100).unwrap(), marks.take(101).unwrap());
            assert!(!marks.has_ended(one) && !marks.has_ended(other));
            guest.links.flip(one);
            assert!(marks.has_ended(one) && !marks.has_ended(other));
            assert_eq!((marks.open(), marks.ended()), (1, vec![100]));
            marks.free(one);
            marks.free(other);
            assert_eq!((marks.open(), marks.ended()), (0, vec![]));
        }
    }

    #[test]
    fn a_client_serves_if_it_says_so_and_has_a_bell() {
        let (host, guest) = pair();
        let marks = LinkMarks::new(host.links);
        guest.links.set_serving(true);
        assert!(!marks.serves());
        marks.set_bell(true);
        assert!(marks.serves());
        guest.links.set_serving(false);
        assert!(!marks.serves());
    }
}
