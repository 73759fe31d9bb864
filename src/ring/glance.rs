//! `Glance`: how full a ring is, for a thread that holds neither of its ends.
//!
//! It reads what the ends write anyway: the consumer's `head`, and the headers of what was committed. Either
//! may be wrong, because the other process can write it. So each is only a number: it leads to no memory
//! outside the ring, and to no more steps than allowed.

use super::end::End;
use super::layout::{self, EMPTY, HEAD, Header, LINE, record_size};
use crate::shm::RingView;
use crate::shm::backend::Ordering;

/// A look at a ring from outside.
#[derive(Clone)]
pub(crate) struct Glance {
    ring: RingView,
    max_block: usize,
}

impl Glance {
    pub(super) fn of(end: &End) -> Glance {
        Glance { ring: end.ring.clone(), max_block: end.max_block }
    }

    /// The bytes of the ring.
    pub(crate) fn size(&self) -> u64 {
        self.ring.capacity() as u64
    }

    /// Up to where the consumer says that it has released the ring.
    pub(crate) fn head(&self) -> u64 {
        self.ring.word64::<HEAD>().load(Ordering::Relaxed)
    }

    /// The position behind what is committed from `start` on, as far as `most` records.
    pub(crate) fn end(&self, start: u64, most: usize) -> u64 {
        let mut at = start - start % LINE as u64;
        for _ in 0..most {
            let word = self.ring.header(at).load(Ordering::Relaxed);
            if word == EMPTY {
                break;
            }
            let size = match layout::check(word, at, self.ring.capacity(), self.max_block) {
                Ok(Header::Data(len)) => record_size(len),
                Ok(Header::Padding) => self.size() - (at & (self.size() - 1)),
                Err(_) => break,
            };
            match at.checked_add(size) {
                Some(end) if end - start <= self.size() => at = end,
                _ => break,
            }
        }
        at
    }

    /// How many bytes lie between two positions, the ring's size at most.
    pub(crate) fn between(&self, head: u64, tail: u64) -> u64 {
        tail.saturating_sub(head).min(self.size())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::ring;

    /// What is in use: from `head` on, or from a tail that was right a while ago.
    fn used(glance: &Glance, from: Option<u64>, most: usize) -> u64 {
        let head = glance.head();
        glance.between(head, glance.end(from.unwrap_or(head), most))
    }

    #[test]
    fn what_is_committed_and_not_taken_is_in_use() {
        let (mut producer, mut consumer) = ring::local(1024).unwrap();
        let (glance, same) = (producer.glance(), consumer.glance());
        assert_eq!((glance.size(), used(&glance, None, 9)), (1024, 0));
        let mut block = Vec::new();
        // Many rounds, so that there is padding, and the positions are far beyond the ring's size.
        for round in 0..100 {
            producer.try_send(&[1; 200]).unwrap();
            let tail = producer.position();
            producer.try_send(&[1; 10]).unwrap();
            let before = used(&glance, None, 9);
            assert!((320..1024).contains(&before), "{before} in round {round}");
            assert_eq!((used(&glance, Some(tail), 9), used(&same, None, 9)), (before, before));
            assert!(used(&glance, None, 1) < before);
            consumer.try_recv(&mut block).unwrap().unwrap();
            assert_eq!(used(&glance, None, 9), 64);
            consumer.try_recv(&mut block).unwrap().unwrap();
            assert_eq!(used(&glance, None, 9), 0);
        }
    }

    #[test]
    fn what_a_peer_may_have_written_is_only_a_number() {
        let (mut producer, _consumer) = ring::local(256).unwrap();
        producer.try_send(b"x").unwrap();
        let glance = producer.glance();
        for head in [0, 1, 64, 192, 1 << 40, u64::MAX, u64::MAX - 63] {
            for word in [0, 1, u64::MAX, layout::data_header(head, 9), layout::padding_header(head, 64)] {
                glance.ring.word64::<HEAD>().store(head, Ordering::Relaxed);
                (0..4).for_each(|line| glance.ring.header(64 * line).store(word, Ordering::Relaxed));
                assert!(used(&glance, None, 99) <= 256 && used(&glance, Some(7), 99) <= 256);
                assert!(used(&glance, Some(1 << 41), 99) <= 256);
            }
        }
    }
}
