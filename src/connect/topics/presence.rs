//! Samples of the server's own topic: who registered, and who is gone.

use super::super::introduction::{push_ids, take_ids};
use crate::wire::{Key, Name, Peer, VanishReason, take};

/// The topic under which the server tells a subscriber of registrations.
pub(crate) const PRESENCE_TOPIC: &str = "@ringpost/presence";

/// The name by which the server calls itself in topics of its own. Its key is 0, which no client has.
pub(crate) const OWN_PUBLISHER: &str = "ringpost";

/// A change of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PresenceSample {
    Appeared(Peer),
    Vanished { peer: Peer, reason: VanishReason },
}

impl PresenceSample {
    /// The longest sample, in bytes.
    pub(crate) const MAX_LEN: usize = 1 + 16 + 3 * 4 + 1 + Name::MAX_LEN;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let (kind, peer, reason) = match self {
            PresenceSample::Appeared(peer) => (1, peer, 0),
            PresenceSample::Vanished { peer, reason } => (2, peer, reason.to_code()),
        };
        let mut bytes = Vec::with_capacity(PresenceSample::MAX_LEN);
        bytes.push(kind);
        push_ids(&mut bytes, peer);
        bytes.push(reason);
        bytes.extend_from_slice(peer.name.as_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<PresenceSample> {
        let ([kind], rest) = take(bytes)?;
        let (key, [pid, uid, gid], rest) = take_ids(rest)?;
        let ([reason], name) = take(rest)?;
        let peer = Peer { name: Name::from_bytes(name).ok()?, key: Key::from_bytes(key), pid, uid, gid };
        match (kind, reason) {
            (1, 0) => Some(PresenceSample::Appeared(peer)),
            (2, reason) => Some(PresenceSample::Vanished { peer, reason: VanishReason::from_code(reason)? }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Topic;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn the_names_that_the_server_uses_are_valid() {
        assert!(Topic::new(PRESENCE_TOPIC).is_ok() && Name::new(OWN_PUBLISHER).is_ok());
    }

    proptest! {
        #[test]
        fn any_change_decodes_to_what_was_encoded(
            name in "[a-z]{1,25}|[à-é]{1,32}",
            key: u128,
            numbers: [u32; 3],
            reason in proptest::option::of(0..4_u8),
            at: prop::sample::Index,
            byte: Option<u8>,
            noise in vec(any::<u8>(), 0..60),
        ) {
            let [pid, uid, gid] = numbers;
            let peer = Peer { name: Name::new(&name).unwrap(), key: Key::from_u128(key), pid, uid, gid };
            let sample = match reason {
                None => PresenceSample::Appeared(peer),
                Some(code) => PresenceSample::Vanished { peer, reason: VanishReason::from_code(code).unwrap() },
            };
            let mut bytes = sample.encode();
            prop_assert!(bytes.len() <= PresenceSample::MAX_LEN);
            prop_assert_eq!(PresenceSample::decode(&bytes), Some(sample));
            let at = at.index(bytes.len());
            match byte {
                Some(byte) => bytes[at] = byte,
                None => bytes.truncate(at),
            }
            for bytes in [bytes, noise] {
                if let Some(sample) = PresenceSample::decode(&bytes) {
                    prop_assert_eq!(sample.encode(), bytes);
                }
            }
        }
    }
}
