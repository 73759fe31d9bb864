//! What a client asks in order to publish or to subscribe, and what the server answers.

use super::super::greeting::AskError;
use crate::wire::{Pattern, Policy, Topic, take};

/// The most users that a topic can be restricted to.
pub(crate) const MOST_USERS: usize = 16;

/// What a client is to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publish {
    /// Tells one publisher from another of the same topic. It stays when the client registers anew.
    pub(crate) epoch: u64,
    /// The sequence of the first sample.
    pub(crate) first: u64,
    /// 0 stands for the server's.
    pub(crate) ring_size: u64,
    /// Whether subscribers may have it wait for them.
    pub(crate) reliable: bool,
    /// The users who may subscribe; everyone if there are none. At most [`MOST_USERS`].
    pub(crate) users: Vec<u32>,
    pub(crate) topic: Topic,
}

impl Publish {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [self.epoch, self.first, self.ring_size] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&[self.reliable.into(), self.users.len() as u8]);
        for user in &self.users {
            bytes.extend_from_slice(&user.to_le_bytes());
        }
        bytes.extend_from_slice(self.topic.as_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Publish, AskError> {
        let (epoch, first, ring_size, reliable, users, topic) = numbers(bytes).ok_or(AskError::Unknown)?;
        let topic = Topic::from_bytes(topic).map_err(AskError::Topic)?;
        Ok(Publish { epoch, first, ring_size, reliable, users, topic })
    }
}

type Numbers<'a> = (u64, u64, u64, bool, Vec<u32>, &'a [u8]);

/// What comes before the topic, and the topic.
fn numbers(bytes: &[u8]) -> Option<Numbers<'_>> {
    let (epoch, rest) = take(bytes)?;
    let (first, rest) = take(rest)?;
    let (ring_size, rest) = take(rest)?;
    let ([reliable @ 0..=1, count], rest) = take(rest)? else { return None };
    if usize::from(count) > MOST_USERS {
        return None;
    }
    let (users, topic) = rest.split_at_checked(usize::from(count) * size_of::<u32>())?;
    let (users, _) = users.as_chunks();
    let users = users.iter().map(|user| u32::from_le_bytes(*user)).collect();
    let [epoch, first, ring_size] = [epoch, first, ring_size].map(u64::from_le_bytes);
    Some((epoch, first, ring_size, reliable == 1, users, topic))
}

/// The answer to a [`Publish`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Granted {
    /// The server's number for the publication.
    pub(crate) publication: u64,
    pub(crate) ring_size: u64,
}

impl Granted {
    pub(crate) fn encode(&self) -> Vec<u8> {
        [self.publication.to_le_bytes(), self.ring_size.to_le_bytes()].concat()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Granted> {
        let (publication, rest) = take(bytes)?;
        let (ring_size, []) = take(rest)? else { return None };
        let [publication, ring_size] = [publication, ring_size].map(u64::from_le_bytes);
        Some(Granted { publication, ring_size })
    }
}

/// How a subscriber may wait for samples, which their publisher must know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Waits {
    /// It may sleep on its parked word. One that may not always looks by itself.
    pub(crate) may_sleep: bool,
    /// It may wait in an event loop.
    pub(crate) arms: bool,
}

impl Waits {
    pub(super) fn to_byte(self) -> u8 {
        u8::from(self.may_sleep) | u8::from(self.arms) << 1
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Waits> {
        (byte < 4).then_some(Waits { may_sleep: byte & 1 != 0, arms: byte & 2 != 0 })
    }

    pub(crate) fn encode(self) -> [u8; 1] {
        [self.to_byte()]
    }
}

/// What a client is to subscribe to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subscribe {
    pub(crate) policy: Policy,
    pub(crate) waits: Waits,
    pub(crate) pattern: Pattern,
}

impl Subscribe {
    pub(crate) fn encode(&self) -> Vec<u8> {
        [&[self.policy as u8, self.waits.to_byte()], self.pattern.as_bytes()].concat()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Subscribe, AskError> {
        let ([policy, waits], text) = take(bytes).ok_or(AskError::Unknown)?;
        let policy = Policy::from_code(policy).ok_or(AskError::Unknown)?;
        let waits = Waits::from_byte(waits).ok_or(AskError::Unknown)?;
        let pattern = Pattern::from_bytes(text).map_err(AskError::Topic)?;
        // One pattern has one form on the wire.
        if pattern.as_bytes() != text {
            return Err(AskError::Unknown);
        }
        Ok(Subscribe { policy, waits, pattern })
    }
}

/// The answer to a [`Subscribe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subscribed {
    /// The server's number for the subscription.
    pub(crate) subscription: u64,
    /// How many publishers match now.
    pub(crate) publishers: u32,
}

impl Subscribed {
    pub(crate) fn encode(&self) -> Vec<u8> {
        [&self.subscription.to_le_bytes()[..], &self.publishers.to_le_bytes()].concat()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Subscribed> {
        let (subscription, rest) = take(bytes)?;
        let (publishers, []) = take(rest)? else { return None };
        let publishers = u32::from_le_bytes(publishers);
        Some(Subscribed { subscription: u64::from_le_bytes(subscription), publishers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::TopicError;
    use proptest::collection::vec;
    use proptest::prelude::*;

    pub(in super::super) fn any_publish() -> impl Strategy<Value = Publish> {
        let numbers = (any::<[u64; 3]>(), any::<bool>(), vec(any::<u32>(), 0..=MOST_USERS));
        (numbers, "[a-z]{1,9}(/[à-é]{1,4}){0,3}").prop_map(|((numbers, reliable, users), topic)| {
            let [epoch, first, ring_size] = numbers;
            Publish { epoch, first, ring_size, reliable, users, topic: Topic::new(&topic).unwrap() }
        })
    }

    pub(in super::super) fn any_subscribe() -> impl Strategy<Value = Subscribe> {
        (0..3_u8, 0..4_u8, r"([a-c]|\*|\*\*)(/([a-c]|\*|\*\*)){0,4}").prop_map(|(policy, waits, pattern)| {
            let pattern = Pattern::new(&pattern).unwrap();
            let (policy, waits) = (Policy::from_code(policy).unwrap(), Waits::from_byte(waits).unwrap());
            Subscribe { policy, waits, pattern }
        })
    }

    #[test]
    fn what_is_malformed_has_its_error() {
        let topic = Topic::new("a").unwrap();
        let publish =
            Publish { epoch: 1, first: 2, ring_size: 3, reliable: true, users: vec![0; MOST_USERS], topic };
        let bytes = publish.encode();
        let changed = |at: usize, byte: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            Publish::decode(&bytes)
        };
        assert_eq!(changed(24, 2), Err(AskError::Unknown), "neither reliable nor not");
        assert_eq!(changed(25, MOST_USERS as u8 + 1), Err(AskError::Unknown), "too many users");
        let wild = TopicError::Reserved { character: '*', position: 0 };
        assert_eq!(changed(bytes.len() - 1, b'*'), Err(AskError::Topic(wild)));
        assert_eq!(Publish::decode(&bytes[..bytes.len() - 1]), Err(AskError::Topic(TopicError::Empty)));
        assert_eq!(
            Publish::decode(&bytes[..bytes.len() - 2]),
            Err(AskError::Unknown),
            "a user's number is cut"
        );
        assert!(Subscribe::decode(b"\x02\x03**").is_ok());
        for bad in [&b"\x03\x00a"[..], b"\x00\x04a", b"\x00", b"", b"\x00\x00**/*", b"\x00\x00**/**"] {
            assert_eq!(Subscribe::decode(bad), Err(AskError::Unknown), "{bad:?}");
        }
        assert_eq!(Subscribe::decode(b"\x00\x00"), Err(AskError::Topic(TopicError::Empty)));
    }

    proptest! {
        /// What decodes is exactly what `encode` would make.
        #[test]
        fn any_request_decodes_to_what_was_encoded(
            publish in any_publish(),
            subscribe in any_subscribe(),
            at: prop::sample::Index,
            byte: u8,
            noise in vec(any::<u8>(), 0..60),
        ) {
            prop_assert_eq!(Publish::decode(&publish.encode()), Ok(publish.clone()));
            prop_assert_eq!(Subscribe::decode(&subscribe.encode()), Ok(subscribe.clone()));
            let mut bytes = publish.encode();
            let place = at.index(bytes.len());
            bytes[place] = byte;
            for bytes in [&bytes, &noise] {
                if let Ok(publish) = Publish::decode(bytes) {
                    prop_assert_eq!(&publish.encode(), bytes);
                }
            }
            let mut bytes = subscribe.encode();
            let place = at.index(bytes.len());
            bytes[place] = byte;
            for bytes in [&bytes, &noise] {
                if let Ok(subscribe) = Subscribe::decode(bytes) {
                    prop_assert_eq!(&subscribe.encode(), bytes);
                }
            }
        }

        #[test]
        fn any_answer_decodes_to_what_was_encoded(one: u64, two: u64, count: u32, noise in vec(any::<u8>(), 0..20)) {
            let granted = Granted { publication: one, ring_size: two };
            prop_assert_eq!(Granted::decode(&granted.encode()), Some(granted));
            let subscribed = Subscribed { subscription: one, publishers: count };
            prop_assert_eq!(Subscribed::decode(&subscribed.encode()), Some(subscribed));
            prop_assert_eq!(Granted::decode(&noise).is_some(), noise.len() == 16);
            prop_assert_eq!(Subscribed::decode(&noise).is_some(), noise.len() == 12);
        }
    }
}
