//! Pages of topics.

use std::time::Duration;

use super::super::introduction::{push_name, take_name};
use crate::wire::{Name, Topic, take};

/// A topic that a client publishes. [`Observer::topics`](crate::Observer::topics) returns them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicInfo {
    /// The number of its publication.
    pub(crate) id: u64,
    /// Its name.
    pub topic: Topic,
    /// The client that publishes it. Another client may publish a topic of the same name.
    pub publisher: Name,
    /// How many subscriptions read it.
    pub subscriptions: u32,
    /// How long ago it was published.
    pub age: Duration,
    /// The size of its ring, in bytes.
    pub ring_size: usize,
}

/// The largest encoding of one topic in a page.
const MOST_TOPIC: usize = 8 + (1 + Topic::MAX_LEN) + (1 + Name::MAX_LEN) + 4 + 8 + 8;

/// Bytes before the topics of a page: the number at which the next page starts.
const TOPICS_HEADER: usize = 8;

/// In place of that number: this is the last page.
const NO_MORE: u64 = u64::MAX;

/// The number of topics that certainly fit into a page of so many bytes.
pub(crate) fn topics_per_page(bytes: usize) -> usize {
    bytes.saturating_sub(TOPICS_HEADER) / MOST_TOPIC
}

/// Encodes a page of topics. `next` is the number at which the next page starts, if there is one.
pub(crate) fn encode_topics(topics: &[TopicInfo], next: Option<u64>) -> Vec<u8> {
    let mut page = next.unwrap_or(NO_MORE).to_le_bytes().to_vec();
    topics.iter().for_each(|info| push_topic(&mut page, info));
    page
}

pub(in crate::connect) fn push_topic(page: &mut Vec<u8>, info: &TopicInfo) {
    page.extend_from_slice(&info.id.to_le_bytes());
    page.push(info.topic.len() as u8);
    page.extend_from_slice(info.topic.as_bytes());
    push_name(page, &info.publisher);
    page.extend_from_slice(&info.subscriptions.to_le_bytes());
    let age = u64::try_from(info.age.as_millis()).unwrap_or(u64::MAX);
    for number in [age, info.ring_size as u64] {
        page.extend_from_slice(&number.to_le_bytes());
    }
}

/// Decodes a page that was asked for from a number on; `None` if it is malformed.
///
/// As for links, the topics must be in the order of their numbers, and the next page must start behind them,
/// so that no server can send an endless list.
pub(crate) fn decode_topics(page: &[u8], from: u64) -> Option<(Vec<TopicInfo>, Option<u64>)> {
    let (next, mut rest) = take(page)?;
    let (mut topics, mut least) = (Vec::new(), from);
    while !rest.is_empty() {
        let info;
        (info, rest) = take_topic(rest)?;
        if info.id < least {
            return None;
        }
        least = info.id.checked_add(1)?;
        topics.push(info);
    }
    match u64::from_le_bytes(next) {
        NO_MORE => Some((topics, None)),
        next if next > from && next >= least => Some((topics, Some(next))),
        _ => None,
    }
}

pub(in crate::connect) fn take_topic(bytes: &[u8]) -> Option<(TopicInfo, &[u8])> {
    let (id, rest) = take(bytes)?;
    let ([len], rest) = take(rest)?;
    let (topic, rest) = rest.split_at_checked(len.into())?;
    let (publisher, rest) = take_name(rest)?;
    let (subscriptions, rest) = take(rest)?;
    let (age, rest) = take(rest)?;
    let (ring_size, rest) = take(rest)?;
    let info = TopicInfo {
        id: u64::from_le_bytes(id),
        topic: Topic::from_bytes(topic).ok()?,
        publisher,
        subscriptions: u32::from_le_bytes(subscriptions),
        age: Duration::from_millis(u64::from_le_bytes(age)),
        ring_size: usize::try_from(u64::from_le_bytes(ring_size)).ok()?,
    };
    Some((info, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn any_topics() -> impl Strategy<Value = Vec<TopicInfo>> {
        let texts = ("[a-z]{1,128}|[à-é]{1,4}/[à-é]{1,59}", "[a-z]{1,25}|[à-é]{1,32}");
        let topic =
            (any::<[u32; 4]>(), texts).prop_map(|([id, subscriptions, age, ring_size], texts)| TopicInfo {
                id: id.into(),
                topic: Topic::new(&texts.0).unwrap(),
                publisher: Name::new(&texts.1).unwrap(),
                subscriptions,
                age: Duration::from_millis(age.into()),
                ring_size: ring_size as usize,
            });
        vec(topic, 0..5).prop_map(|mut topics| {
            topics.sort_by_key(|topic| topic.id);
            topics.dedup_by_key(|topic| topic.id);
            topics
        })
    }

    proptest! {
        #[test]
        fn any_page_of_topics_decodes_to_what_was_encoded(
            topics in any_topics(),
            next in proptest::option::of(0..1_u64 << 33),
            at: prop::sample::Index,
            byte: u8,
        ) {
            let mut page = encode_topics(&topics, next);
            prop_assert!(topics.len() <= topics_per_page(TOPICS_HEADER + topics.len() * MOST_TOPIC));
            prop_assert!(page.len() <= TOPICS_HEADER + topics.len() * MOST_TOPIC);
            let least = topics.last().map_or(1, |topic| topic.id + 1);
            let goes_on = next.is_none_or(|next| next >= least);
            prop_assert_eq!(decode_topics(&page, 0), goes_on.then_some((topics, next)));
            let at = at.index(page.len());
            page[at] = byte;
            if let Some((topics, next)) = decode_topics(&page, 0) {
                prop_assert_eq!(encode_topics(&topics, next), page);
            }
        }
    }

    #[test]
    fn no_server_can_send_an_endless_list_of_topics() {
        let page = |ids: &[u64], next| {
            let info = |id: &u64| TopicInfo {
                id: *id,
                topic: Topic::new("a/b").unwrap(),
                publisher: Name::new("x").unwrap(),
                subscriptions: 0,
                age: Duration::ZERO,
                ring_size: 4096,
            };
            let topics: Vec<_> = ids.iter().map(info).collect();
            decode_topics(&encode_topics(&topics, next), 4).is_some()
        };
        assert!(page(&[4, 5, 9], Some(10)) && page(&[], Some(5)) && page(&[u64::MAX - 1], None));
        assert!(!page(&[], Some(4)) && !page(&[7], Some(7)) && !page(&[3], None) && !page(&[5, 5], None));
        assert!(!page(&[u64::MAX], None));
    }
}
