//! Parts: what the server tells either side of a publisher and a subscription that match.

use super::super::introduction::{push_peer, take_peer};
use super::request::Waits;
use crate::topic::MOST_LINE;
use crate::wire::{Peer, Policy, Topic, take};

/// A flag of a source: the publisher came after the subscription.
const FROM_BEGINNING: u8 = 1;

/// The same flag for a publisher, behind those by which a subscriber waits.
const JOINED_FROM_BEGINNING: u8 = 4;

/// A flag of a source: the publisher waits for subscribers who want that.
const OFFERS_RELIABLE: u8 = 2;

/// What waits for a client that attends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// For a subscriber: a publisher.
    Source(Source),
    /// For a publisher: a subscription.
    Joined(Joined),
    /// For a publisher: the subscription has ended.
    Left { publication: u64, subscription: u64 },
    /// For a subscriber: a publication that it has taken has ended, and what was published is all.
    Over { subscription: u64, publication: u64 },
}

/// A publisher, as a subscriber is told. With it come the topic's segment, the page, the publisher's process,
/// then the pipes that the two need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) subscription: u64,
    pub(crate) publication: u64,
    pub(crate) epoch: u64,
    /// The sequence of the first sample in the segment.
    pub(crate) first: u64,
    pub(crate) ring_size: usize,
    /// At which line of the page its words begin.
    pub(crate) line: u16,
    /// Whether it was published after the subscription, which therefore begins with its first sample.
    pub(crate) from_beginning: bool,
    pub(crate) offers_reliable: bool,
    pub(crate) peer: Peer,
    pub(crate) topic: Topic,
}

/// A subscription, as a publisher is told. With it come the page, then the pipes that the two need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) publication: u64,
    pub(crate) subscription: u64,
    pub(crate) line: u16,
    pub(crate) policy: Policy,
    pub(crate) waits: Waits,
    /// Whether the topic was published after the subscription, which therefore begins with its first sample.
    pub(crate) from_beginning: bool,
    pub(crate) peer: Peer,
}

impl Source {
    /// How many descriptors come with it, if the subscription has this policy and waits so.
    pub(crate) fn descriptors(&self, policy: Policy, waits: Waits) -> usize {
        let reliable = self.offers_reliable && policy == Policy::Reliable;
        3 + 2 * usize::from(waits.arms) + usize::from(reliable)
    }
}

impl Joined {
    /// How many descriptors come with it, if the publisher offers to wait for subscribers, or not.
    pub(crate) fn descriptors(&self, offers_reliable: bool) -> usize {
        let reliable = offers_reliable && self.policy == Policy::Reliable;
        1 + usize::from(self.waits.arms) + 2 * usize::from(reliable)
    }
}

impl Part {
    /// The most descriptors that come with one.
    pub(crate) const MOST_DESCRIPTORS: usize = 6;

    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Part::Source(source) => {
                let mut bytes = vec![1];
                let Source { subscription, publication, epoch, first, ring_size, .. } = source;
                for number in [*subscription, *publication, *epoch, *first, *ring_size as u64] {
                    bytes.extend_from_slice(&number.to_le_bytes());
                }
                bytes.extend_from_slice(&source.line.to_le_bytes());
                let beginning = if source.from_beginning { FROM_BEGINNING } else { 0 };
                let reliable = if source.offers_reliable { OFFERS_RELIABLE } else { 0 };
                bytes.push(beginning | reliable);
                push_peer(&mut bytes, &source.peer);
                bytes.extend_from_slice(source.topic.as_bytes());
                bytes
            }
            Part::Joined(joined) => {
                let mut bytes = vec![2];
                bytes.extend_from_slice(&joined.publication.to_le_bytes());
                bytes.extend_from_slice(&joined.subscription.to_le_bytes());
                bytes.extend_from_slice(&joined.line.to_le_bytes());
                let beginning = if joined.from_beginning { JOINED_FROM_BEGINNING } else { 0 };
                bytes.extend_from_slice(&[joined.policy as u8, joined.waits.to_byte() | beginning]);
                push_peer(&mut bytes, &joined.peer);
                bytes
            }
            Part::Left { publication, subscription } => {
                [&[3][..], &publication.to_le_bytes(), &subscription.to_le_bytes()].concat()
            }
            Part::Over { subscription, publication } => {
                [&[4][..], &subscription.to_le_bytes(), &publication.to_le_bytes()].concat()
            }
        }
    }

    /// `None` if it is malformed. Whether its size can be is for the topic to say.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Part> {
        match take(bytes)? {
            ([1], rest) => decode_source(rest).map(Part::Source),
            ([2], rest) => decode_joined(rest).map(Part::Joined),
            ([3], rest) => {
                let [publication, subscription] = two_numbers(rest)?;
                Some(Part::Left { publication, subscription })
            }
            ([4], rest) => {
                let [subscription, publication] = two_numbers(rest)?;
                Some(Part::Over { subscription, publication })
            }
            _ => None,
        }
    }
}

fn two_numbers(bytes: &[u8]) -> Option<[u64; 2]> {
    let (first, rest) = take(bytes)?;
    let (second, []) = take(rest)? else { return None };
    Some([first, second].map(u64::from_le_bytes))
}

fn decode_source(bytes: &[u8]) -> Option<Source> {
    let (subscription, rest) = take(bytes)?;
    let (publication, rest) = take(rest)?;
    let (epoch, rest) = take(rest)?;
    let (first, rest) = take(rest)?;
    let (ring_size, rest) = take(rest)?;
    let (line, rest) = take_line(rest)?;
    let ([flags @ 0..=3], rest) = take(rest)? else { return None };
    let (peer, topic) = take_peer(rest)?;
    let [subscription, publication, epoch, first, ring_size] =
        [subscription, publication, epoch, first, ring_size].map(u64::from_le_bytes);
    Some(Source {
        subscription,
        publication,
        epoch,
        first,
        ring_size: usize::try_from(ring_size).ok()?,
        line,
        from_beginning: flags & FROM_BEGINNING != 0,
        offers_reliable: flags & OFFERS_RELIABLE != 0,
        peer,
        topic: Topic::from_bytes(topic).ok()?,
    })
}

fn decode_joined(bytes: &[u8]) -> Option<Joined> {
    let (publication, rest) = take(bytes)?;
    let (subscription, rest) = take(rest)?;
    let (line, rest) = take_line(rest)?;
    let ([policy, flags], rest) = take(rest)?;
    let (peer, []) = take_peer(rest)? else { return None };
    let [publication, subscription] = [publication, subscription].map(u64::from_le_bytes);
    let policy = Policy::from_code(policy)?;
    let waits = Waits::from_byte(flags & !JOINED_FROM_BEGINNING)?;
    let from_beginning = flags & JOINED_FROM_BEGINNING != 0;
    Some(Joined { publication, subscription, line, policy, waits, from_beginning, peer })
}

fn take_line(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (line, rest) = take(bytes)?;
    let line = u16::from_le_bytes(line);
    (line <= MOST_LINE).then_some((line, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Key, Name};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn any_part() -> impl Strategy<Value = Part> {
        let numbers = (any::<[u64; 4]>(), any::<u32>(), 0..=MOST_LINE, any::<[bool; 2]>(), 0..3_u8);
        let peer = ("[a-z]{1,20}|[à-é]{1,32}", any::<u128>(), any::<[u32; 3]>());
        let topic = "[a-z]{1,9}(/[à-é]{1,4}){0,3}";
        (1..=4, numbers, peer, topic).prop_map(|(kind, numbers, (name, key, [pid, uid, gid]), topic)| {
            let ([publication, subscription, epoch, first], ring_size, line, [one, two], policy) = numbers;
            let peer = Peer { name: Name::new(&name).unwrap(), key: Key::from_u128(key), pid, uid, gid };
            let (topic, ring_size) = (Topic::new(&topic).unwrap(), ring_size as usize);
            let (from_beginning, offers_reliable) = (one, two);
            let (policy, waits) = (Policy::from_code(policy).unwrap(), Waits { may_sleep: one, arms: two });
            match kind {
                1 => Part::Source(Source {
                    subscription,
                    publication,
                    epoch,
                    first,
                    ring_size,
                    line,
                    from_beginning,
                    offers_reliable,
                    peer,
                    topic,
                }),
                2 => Part::Joined(Joined {
                    publication,
                    subscription,
                    line,
                    policy,
                    waits,
                    from_beginning,
                    peer,
                }),
                3 => Part::Left { publication, subscription },
                _ => Part::Over { subscription, publication },
            }
        })
    }

    proptest! {
        /// What decodes is exactly what `encode` would make.
        #[test]
        fn any_part_decodes_to_what_was_encoded(
            part in any_part(),
            at: prop::sample::Index,
            byte: Option<u8>,
            noise in vec(any::<u8>(), 0..120),
        ) {
            let mut bytes = part.encode();
            prop_assert_eq!(Part::decode(&bytes), Some(part));
            let at = at.index(bytes.len());
            match byte {
                Some(byte) => bytes[at] = byte,
                None => bytes.truncate(at),
            }
            for bytes in [bytes, noise] {
                if let Some(part) = Part::decode(&bytes) {
                    prop_assert_eq!(part.encode(), bytes);
                }
            }
        }

        /// As many as one answer may bring, whatever the two want of each other.
        #[test]
        fn no_part_brings_more_descriptors_than_the_most(part in any_part(), waits in 0..4_u8, reliable: bool) {
            let waits = Waits::from_byte(waits).unwrap();
            let count = match &part {
                Part::Source(source) => source.descriptors(Policy::Reliable, waits),
                Part::Joined(joined) => joined.descriptors(reliable),
                Part::Left { .. } | Part::Over { .. } => 0,
            };
            prop_assert!(count <= Part::MOST_DESCRIPTORS);
        }
    }

    #[test]
    fn a_line_behind_the_last_one_is_refused() {
        let left = Part::Left { publication: 1, subscription: 2 }.encode();
        assert_eq!(Part::decode(&[&left[..], &[0]].concat()), None);
        let peer = Peer { name: Name::new("bob").unwrap(), key: Key::from_u128(9), pid: 1, uid: 2, gid: 3 };
        for (line, good) in [(MOST_LINE, true), (MOST_LINE + 1, false)] {
            let (policy, waits) = (Policy::Latest, Waits::default());
            let from_beginning = true;
            let joined =
                Joined { publication: 1, subscription: 2, line, policy, waits, from_beginning, peer };
            assert_eq!(Part::decode(&Part::Joined(joined).encode()).is_some(), good);
        }
    }
}
