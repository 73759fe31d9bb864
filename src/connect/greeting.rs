//! Encodes and decodes the datagrams of the connect channel, as described in `docs/PROTOCOL.md`.

use crate::wire::{KEY, Key, Name, NameError, PROTOCOL_VERSION, take};

const MAGIC: [u8; 8] = *b"RINGPOST";
const HEADER: usize = 16;

/// The longest datagram in either direction: a page of clients.
pub(crate) const MOST_BYTES: usize = 16 * 1024;

/// A request on the connect channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    Register(Name),
    List { from_slot: u32 },
    Server,
}

/// Why a datagram is not a valid request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskError {
    #[error("not a ringpost request")]
    NotRingpost,
    #[error(
        "the client uses protocol version {found} but this server uses version {PROTOCOL_VERSION}: use the same ringpost \
         version on both sides"
    )]
    Version { found: u32 },
    #[error("this server does not know the request")]
    Unknown,
    #[error("not a valid name: {0}")]
    Name(NameError),
}

/// Why the server refuses a request: the code in its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub(crate) enum Refusal {
    NotRingpost = 1,
    Version = 2,
    Unknown = 3,
    InvalidName = 4,
    NameTaken = 5,
    Full = 6,
    NotAllowed = 7,
    ShuttingDown = 8,
    Busy = 9,
    NoResources = 10,
    /// The user's quota is exhausted.
    Quota = 11,
}

impl Refusal {
    pub(crate) fn from_code(code: u16) -> Option<Refusal> {
        use Refusal::*;
        [
            NotRingpost,
            Version,
            Unknown,
            InvalidName,
            NameTaken,
            Full,
            NotAllowed,
            ShuttingDown,
            Busy,
            NoResources,
            Quota,
        ]
        .into_iter()
        .find(|refusal| *refusal as u16 == code)
    }
}

impl Ask {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (what, body) = match self {
            Ask::Register(name) => (1, name.as_bytes().to_vec()),
            Ask::List { from_slot } => (2, from_slot.to_le_bytes().to_vec()),
            Ask::Server => (3, Vec::new()),
        };
        frame(what, &body)
    }

    pub(crate) fn decode(datagram: &[u8]) -> Result<Ask, AskError> {
        let (version, what, body) = unframe(datagram).ok_or(AskError::NotRingpost)?;
        if version != PROTOCOL_VERSION {
            return Err(AskError::Version { found: version });
        }
        match what {
            1 => Name::from_bytes(body).map(Ask::Register).map_err(AskError::Name),
            2 => match take::<4>(body) {
                Some((slot, [])) => Ok(Ask::List { from_slot: u32::from_le_bytes(slot) }),
                _ => Err(AskError::Unknown),
            },
            3 if body.is_empty() => Ok(Ask::Server),
            _ => Err(AskError::Unknown),
        }
    }
}

impl AskError {
    pub(crate) fn refusal(&self) -> Refusal {
        match self {
            AskError::NotRingpost => Refusal::NotRingpost,
            AskError::Version { .. } => Refusal::Version,
            AskError::Unknown => Refusal::Unknown,
            AskError::Name(_) => Refusal::InvalidName,
        }
    }
}

/// A decoded reply datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply<'a> {
    /// The server's protocol version.
    pub(crate) version: u32,
    pub(crate) body: ReplyBody<'a>,
}

/// The content of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReplyBody<'a> {
    Done(&'a [u8]),
    /// A refusal, with the server's text.
    Refused(Refusal, String),
}

impl<'a> Reply<'a> {
    pub(crate) fn done(body: &[u8]) -> Vec<u8> {
        frame(0, body)
    }

    pub(crate) fn registered(key: Key) -> Vec<u8> {
        frame(0, &key.to_bytes())
    }

    pub(crate) fn refused(refusal: Refusal, why: &str) -> Vec<u8> {
        let most = MOST_BYTES - HEADER;
        let cut = (0..=why.len().min(most)).rev().find(|&at| why.is_char_boundary(at)).unwrap_or(0);
        frame(refusal as u16, &why.as_bytes()[..cut])
    }

    /// Decodes a reply; `None` if it is not one of a ringpost server of any version.
    pub(crate) fn decode(datagram: &'a [u8]) -> Option<Reply<'a>> {
        let (version, status, body) = unframe(datagram)?;
        let body = match status {
            0 => ReplyBody::Done(body),
            code => {
                let text = String::from_utf8_lossy(body);
                // The text comes from another process and must not control the user's terminal.
                let mut text: String = text.chars().filter(|c| !c.is_control()).collect();
                if text.trim().is_empty() {
                    text.push_str("the server refused and gave no reason");
                }
                ReplyBody::Refused(Refusal::from_code(code).unwrap_or(Refusal::Unknown), text)
            }
        };
        Some(Reply { version, body })
    }

    /// The key in the body of a registration's reply.
    pub(crate) fn key(body: &[u8]) -> Option<Key> {
        match take::<KEY>(body) {
            Some((key, [])) => Some(Key::from_bytes(key)),
            _ => None,
        }
    }
}

fn frame(code: u16, body: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(HEADER + body.len());
    datagram.extend_from_slice(&MAGIC);
    datagram.extend_from_slice(&PROTOCOL_VERSION.to_le_bytes());
    datagram.extend_from_slice(&code.to_le_bytes());
    datagram.extend_from_slice(&[0; 2]);
    datagram.extend_from_slice(body);
    datagram
}

fn unframe(datagram: &[u8]) -> Option<(u32, u16, &[u8])> {
    let (magic, rest) = take::<8>(datagram)?;
    let (version, rest) = take::<4>(rest)?;
    let (code, rest) = take::<2>(rest)?;
    let (_unused, body) = take::<2>(rest)?;
    (magic == MAGIC).then_some((u32::from_le_bytes(version), u16::from_le_bytes(code), body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn requests_decode_to_what_was_encoded() {
        let asks = [Ask::Register(Name::new("bob").unwrap()), Ask::List { from_slot: 7 }, Ask::Server];
        for ask in asks {
            assert_eq!(Ask::decode(&ask.encode()), Ok(ask));
        }
    }

    #[test]
    fn each_kind_of_invalid_request_has_its_error() {
        let mut datagram = Ask::Server.encode();
        datagram[8] = 77;
        assert_eq!(Ask::decode(&datagram), Err(AskError::Version { found: 77 }));
        datagram[0] = b'?';
        assert_eq!(Ask::decode(&datagram), Err(AskError::NotRingpost));
        assert_eq!(Ask::decode(&datagram[..15]), Err(AskError::NotRingpost));
        assert_eq!(Ask::decode(&[]), Err(AskError::NotRingpost));
        assert_eq!(Ask::decode(&frame(9, b"")), Err(AskError::Unknown));
        assert_eq!(Ask::decode(&frame(2, b"abc")), Err(AskError::Unknown));
        assert_eq!(Ask::decode(&frame(3, b"x")), Err(AskError::Unknown));
        assert!(matches!(Ask::decode(&frame(1, b"")), Err(AskError::Name(_))));
        assert!(matches!(Ask::decode(&frame(1, b"\xff")), Err(AskError::Name(_))));
    }

    #[test]
    fn replies_decode_without_control_characters() {
        let datagram = Reply::refused(Refusal::Full, "no\u{1b}[31m room");
        let reply = Reply::decode(&datagram).unwrap();
        assert_eq!(reply.body, ReplyBody::Refused(Refusal::Full, "no[31m room".into()));
        let datagram = Reply::refused(Refusal::Full, "\u{1b}");
        match Reply::decode(&datagram).unwrap().body {
            ReplyBody::Refused(Refusal::Full, why) => assert!(why.contains("no reason"), "{why}"),
            other => panic!("{other:?}"),
        }
        let key = Key::from_u128(42);
        let datagram = Reply::registered(key);
        match Reply::decode(&datagram).unwrap().body {
            ReplyBody::Done(body) => assert_eq!(Reply::key(body), Some(key)),
            other => panic!("{other:?}"),
        }
        assert_eq!(Reply::decode(b"RINGPOS?00000000"), None);
        assert!(Reply::refused(Refusal::Full, &"ü".repeat(MOST_BYTES)).len() <= MOST_BYTES);
    }

    fn any_ask() -> impl Strategy<Value = Ask> {
        prop_oneof![
            "[a-zé][ -~]{0,61}[a-z]".prop_map(|text| Name::new(&text).map_or(Ask::Server, Ask::Register)),
            any::<u32>().prop_map(|from_slot| Ask::List { from_slot }),
            Just(Ask::Server),
        ]
    }

    /// Random bytes, a random body with a valid header, or a request that was changed or cut.
    fn any_datagram() -> impl Strategy<Value = Vec<u8>> {
        let framed = (0..5u16, vec(any::<u8>(), 0..80)).prop_map(|(code, body)| frame(code, &body));
        let changed = (any_ask(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(ask, at, byte)| {
            let mut datagram = ask.encode();
            let at = at.index(datagram.len());
            datagram[at] = byte;
            datagram
        });
        let cut = (any_ask(), any::<prop::sample::Index>()).prop_map(|(ask, at)| {
            let mut datagram = ask.encode();
            datagram.truncate(at.index(datagram.len()));
            datagram
        });
        prop_oneof![vec(any::<u8>(), 0..100), framed, changed, cut]
    }

    proptest! {
        #[test]
        fn any_request_decodes_to_what_was_encoded(ask in any_ask()) {
            prop_assert_eq!(Ask::decode(&ask.encode()), Ok(ask));
        }

        /// A datagram that decodes is exactly what `encode` would make, except for the unused bytes. All
        /// others get the right error.
        #[test]
        fn any_datagram_is_a_request_or_refused(datagram in any_datagram()) {
            let whole = datagram.len() >= HEADER && datagram.starts_with(&MAGIC);
            let version = u32::from_le_bytes(*datagram.get(8..).and_then(<[u8]>::first_chunk).unwrap_or(&[0; 4]));
            match Ask::decode(&datagram) {
                Ok(ask) => {
                    let mut again = ask.encode();
                    again[14..16].copy_from_slice(&datagram[14..16]);
                    prop_assert_eq!(again, datagram);
                }
                Err(AskError::NotRingpost) => prop_assert!(!whole),
                Err(AskError::Version { found }) => {
                    prop_assert!(whole && found == version && version != PROTOCOL_VERSION);
                }
                Err(AskError::Name(error)) => {
                    prop_assert!(whole && version == PROTOCOL_VERSION && datagram[12..14] == [1, 0]);
                    prop_assert_eq!(Name::from_bytes(&datagram[HEADER..]), Err(error));
                }
                Err(AskError::Unknown) => {
                    prop_assert!(whole && version == PROTOCOL_VERSION && datagram[12..14] != [1, 0]);
                    prop_assert!(datagram[12..14] != [3, 0] || datagram.len() > HEADER);
                    prop_assert!(datagram[12..14] != [2, 0] || datagram.len() != HEADER + 4);
                }
            }
        }

        #[test]
        fn any_reply_decodes_to_what_was_encoded(body in vec(any::<u8>(), 0..100), number: u128) {
            let datagram = Reply::done(&body);
            let reply = Reply { version: PROTOCOL_VERSION, body: ReplyBody::Done(&body) };
            prop_assert_eq!(Reply::decode(&datagram), Some(reply));
            prop_assert_eq!(Reply::key(&body).is_some(), body.len() == KEY);
            let key = Key::from_u128(number);
            prop_assert_eq!(Reply::key(&Reply::registered(key)[HEADER..]), Some(key));
        }

        /// A decoded text never contains control characters.
        #[test]
        fn any_datagram_is_a_reply_or_none(datagram in any_datagram(), status in 0..13u16, text in ".{0,40}") {
            let whole = datagram.len() >= HEADER && datagram.starts_with(&MAGIC);
            prop_assert_eq!(Reply::decode(&datagram).is_some(), whole);
            let datagram = frame(status, text.as_bytes());
            match Reply::decode(&datagram).unwrap().body {
                ReplyBody::Done(body) => prop_assert!(status == 0 && body == text.as_bytes()),
                ReplyBody::Refused(refusal, why) => {
                    let known = if status <= 11 { status } else { Refusal::Unknown as u16 };
                    prop_assert_eq!(refusal as u16, known);
                    prop_assert!(!why.chars().any(char::is_control) && !why.trim().is_empty());
                    let shown: String = text.chars().filter(|c| !c.is_control()).collect();
                    prop_assert!(why == shown || shown.trim().is_empty());
                }
            }
        }
    }
}
