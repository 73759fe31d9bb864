//! Encodes and decodes the datagrams of the connect channel, as described in `docs/PROTOCOL.md`.

use super::introduction::{Half, Introduction, Proof, Reported, decode_report, encode_report};
use super::topics::{Part, Publish, Subscribe, Waits};
use crate::wire::{Address, Key, Name, NameError, PROTOCOL_VERSION, TopicError, take};

const MAGIC: [u8; 8] = *b"RINGPOST";
const HEADER: usize = 16;

/// The longest datagram in either direction: a page of clients.
pub(crate) const MOST_BYTES: usize = 16 * 1024;

/// The most descriptors that come with one answer.
pub(crate) const MOST_DESCRIPTORS: usize = Part::MOST_DESCRIPTORS;
const _: () = assert!(Introduction::DESCRIPTORS <= MOST_DESCRIPTORS);

/// How many descriptors come with a pipe for kicks: its read end and its write end.
const KICK_DESCRIPTORS: usize = 2;

/// A request on the connect channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    Register(Name),
    List {
        from_slot: u32,
    },
    Server,
    /// A link to another client, with rings of this size; 0 stands for the server's.
    Connect {
        proof: Proof,
        ring_size: u64,
        to: Address,
    },
    /// A bell, to listen for links of others.
    Listen(Proof),
    /// The next introduction that waits.
    Take(Proof),
    /// The links that the client had before it registered here.
    Report {
        proof: Proof,
        links: Vec<Reported>,
    },
    /// A page of all links.
    Links {
        from: u64,
    },
    /// The pipe by which one half of the client's channel is woken in an event loop.
    Kick {
        proof: Proof,
        half: Half,
    },
    /// A topic of the client's own.
    Publish {
        proof: Proof,
        publish: Publish,
    },
    /// The client has sealed the topic's segment: from now on the topic is there.
    Published {
        proof: Proof,
        publication: u64,
    },
    Subscribe {
        proof: Proof,
        subscribe: Subscribe,
    },
    /// The end of a publication or subscription.
    Leave {
        proof: Proof,
        id: u64,
    },
    /// A bell, to learn of parts.
    Attend(Proof),
    /// The next part that waits.
    Part(Proof),
    /// A page of all topics.
    Topics {
        from: u64,
    },
    /// The server's own topic: who registers, and who is gone.
    Presence {
        proof: Proof,
        waits: Waits,
    },
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
    #[error("not a valid topic or pattern: {0}")]
    Topic(TopicError),
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
    /// No client has this key or name.
    NotFound = 12,
    /// The client does not take links.
    NotServing = 13,
    /// Too many introductions wait for the client.
    Backlog = 14,
    /// The proof is not that of a client which this process registered.
    NotRegistered = 15,
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
            NotFound,
            NotServing,
            Backlog,
            NotRegistered,
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
            Ask::Connect { proof, ring_size, to } => {
                let (kind, to) = match to {
                    Address::Name(name) => (0, name.as_bytes().to_vec()),
                    Address::Key(key) => (1, key.to_bytes().to_vec()),
                };
                (4, [&proof.encode()[..], &ring_size.to_le_bytes(), &[kind], &to].concat())
            }
            Ask::Listen(proof) => (5, proof.encode().to_vec()),
            Ask::Take(proof) => (6, proof.encode().to_vec()),
            Ask::Report { proof, links } => (7, [&proof.encode()[..], &encode_report(links)].concat()),
            Ask::Links { from } => (8, from.to_le_bytes().to_vec()),
            Ask::Kick { proof, half } => (9, [&proof.encode()[..], &[*half as u8]].concat()),
            Ask::Publish { proof, publish } => (10, [&proof.encode()[..], &publish.encode()].concat()),
            Ask::Published { proof, publication: id } => {
                (11, [&proof.encode()[..], &id.to_le_bytes()].concat())
            }
            Ask::Subscribe { proof, subscribe } => (12, [&proof.encode()[..], &subscribe.encode()].concat()),
            Ask::Leave { proof, id } => (13, [&proof.encode()[..], &id.to_le_bytes()].concat()),
            Ask::Attend(proof) => (14, proof.encode().to_vec()),
            Ask::Part(proof) => (15, proof.encode().to_vec()),
            Ask::Topics { from } => (16, from.to_le_bytes().to_vec()),
            Ask::Presence { proof, waits } => (17, [&proof.encode()[..], &waits.encode()].concat()),
        };
        frame(what, &body)
    }

    /// The most descriptors that an answer may come with.
    pub(crate) fn most_descriptors(&self) -> usize {
        (0..=MOST_DESCRIPTORS).rev().find(|most| self.may_bring(*most)).unwrap_or(0)
    }

    /// Whether an answer may come with so many descriptors.
    pub(super) fn may_bring(&self, descriptors: usize) -> bool {
        match self {
            Ask::Register(_) | Ask::Listen(_) | Ask::Attend(_) | Ask::Publish { .. } => descriptors <= 1,
            Ask::Kick { .. } => matches!(descriptors, 0 | KICK_DESCRIPTORS),
            Ask::Connect { .. } | Ask::Take(_) => matches!(descriptors, 0 | Introduction::DESCRIPTORS),
            Ask::Part(_) => descriptors <= Part::MOST_DESCRIPTORS,
            // The segment, the page and the server's process; then the own pipe of one that arms.
            Ask::Presence { waits, .. } => descriptors == 0 || descriptors == if waits.arms { 5 } else { 3 },
            Ask::List { .. } | Ask::Server | Ask::Report { .. } | Ask::Links { .. } => descriptors == 0,
            Ask::Published { .. } | Ask::Subscribe { .. } | Ask::Leave { .. } | Ask::Topics { .. } => {
                descriptors == 0
            }
        }
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
            4 => decode_connect(body),
            5 => only_a_proof(body).map(Ask::Listen),
            6 => only_a_proof(body).map(Ask::Take),
            7 => {
                let (proof, links) = Proof::take(body).ok_or(AskError::Unknown)?;
                let links = decode_report(links).ok_or(AskError::Unknown)?;
                Ok(Ask::Report { proof, links })
            }
            8 => match take::<8>(body) {
                Some((from, [])) => Ok(Ask::Links { from: u64::from_le_bytes(from) }),
                _ => Err(AskError::Unknown),
            },
            9 => match Proof::take(body) {
                Some((proof, [0])) => Ok(Ask::Kick { proof, half: Half::Caller }),
                Some((proof, [1])) => Ok(Ask::Kick { proof, half: Half::Inbox }),
                _ => Err(AskError::Unknown),
            },
            10 => {
                let (proof, rest) = Proof::take(body).ok_or(AskError::Unknown)?;
                Publish::decode(rest).map(|publish| Ask::Publish { proof, publish })
            }
            11 => {
                a_proof_and_a_number(body).map(|(proof, publication)| Ask::Published { proof, publication })
            }
            12 => {
                let (proof, rest) = Proof::take(body).ok_or(AskError::Unknown)?;
                Subscribe::decode(rest).map(|subscribe| Ask::Subscribe { proof, subscribe })
            }
            13 => a_proof_and_a_number(body).map(|(proof, id)| Ask::Leave { proof, id }),
            14 => only_a_proof(body).map(Ask::Attend),
            15 => only_a_proof(body).map(Ask::Part),
            16 => match take::<8>(body) {
                Some((from, [])) => Ok(Ask::Topics { from: u64::from_le_bytes(from) }),
                _ => Err(AskError::Unknown),
            },
            17 => match Proof::take(body) {
                Some((proof, [waits])) => Waits::from_byte(*waits)
                    .map(|waits| Ask::Presence { proof, waits })
                    .ok_or(AskError::Unknown),
                _ => Err(AskError::Unknown),
            },
            _ => Err(AskError::Unknown),
        }
    }
}

fn a_proof_and_a_number(body: &[u8]) -> Result<(Proof, u64), AskError> {
    let (proof, rest) = Proof::take(body).ok_or(AskError::Unknown)?;
    match take(rest) {
        Some((number, [])) => Ok((proof, u64::from_le_bytes(number))),
        _ => Err(AskError::Unknown),
    }
}

fn decode_connect(body: &[u8]) -> Result<Ask, AskError> {
    let (proof, rest) = Proof::take(body).ok_or(AskError::Unknown)?;
    let (ring_size, rest) = take(rest).ok_or(AskError::Unknown)?;
    let to = match take(rest) {
        Some(([0], name)) => Address::Name(Name::from_bytes(name).map_err(AskError::Name)?),
        Some(([1], key)) => Address::Key(Key::from_bytes(key.try_into().map_err(|_| AskError::Unknown)?)),
        _ => return Err(AskError::Unknown),
    };
    Ok(Ask::Connect { proof, ring_size: u64::from_le_bytes(ring_size), to })
}

fn only_a_proof(body: &[u8]) -> Result<Proof, AskError> {
    match Proof::take(body) {
        Some((proof, [])) => Ok(proof),
        _ => Err(AskError::Unknown),
    }
}

impl AskError {
    pub(crate) fn refusal(&self) -> Refusal {
        match self {
            AskError::NotRingpost => Refusal::NotRingpost,
            AskError::Version { .. } => Refusal::Version,
            AskError::Unknown => Refusal::Unknown,
            AskError::Name(_) | AskError::Topic(_) => Refusal::InvalidName,
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

    pub(crate) fn registered(proof: &Proof) -> Vec<u8> {
        frame(0, &proof.encode())
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

    /// The key and the secret in the body of a registration's reply.
    pub(crate) fn registration(body: &[u8]) -> Option<Proof> {
        only_a_proof(body).ok()
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
    use super::super::introduction::{Role, Secret};
    use super::*;
    use crate::wire::{Pattern, Policy, Topic};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn proof(byte: u8) -> Proof {
        Proof { key: Key::from_u128(u128::from(byte) << 64), secret: Secret::new([byte; 16]) }
    }

    fn publish() -> Publish {
        let (topic, users) = (Topic::new("prices/AAPL").unwrap(), vec![1001]);
        Publish { epoch: 9, first: 7, ring_size: 1 << 16, reliable: true, users, topic }
    }

    fn subscribe() -> Subscribe {
        let (policy, waits) = (Policy::Latest, Waits { may_sleep: true, arms: false });
        Subscribe { policy, waits, pattern: Pattern::new("prices/*").unwrap() }
    }

    #[test]
    fn requests_decode_to_what_was_encoded() {
        let (bob, proof) = (Name::new("bob").unwrap(), proof(7));
        let asks = [
            Ask::Register(bob),
            Ask::List { from_slot: 7 },
            Ask::Server,
            Ask::Connect { proof, ring_size: 0, to: bob.into() },
            Ask::Connect { proof, ring_size: 1 << 20, to: proof.key.into() },
            Ask::Listen(proof),
            Ask::Take(proof),
            Ask::Report { proof, links: vec![(Role::Caller, bob), (Role::Callee, bob)] },
            Ask::Links { from: 9 },
            Ask::Kick { proof, half: Half::Caller },
            Ask::Kick { proof, half: Half::Inbox },
            Ask::Publish { proof, publish: publish() },
            Ask::Published { proof, publication: 11 },
            Ask::Subscribe { proof, subscribe: subscribe() },
            Ask::Leave { proof, id: 13 },
            Ask::Attend(proof),
            Ask::Part(proof),
            Ask::Topics { from: 16 },
            Ask::Presence { proof, waits: Waits { may_sleep: true, arms: true } },
        ];
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
        assert_eq!(Ask::decode(&frame(18, b"")), Err(AskError::Unknown));
        assert_eq!(Ask::decode(&frame(2, b"abc")), Err(AskError::Unknown));
        assert_eq!(Ask::decode(&frame(3, b"x")), Err(AskError::Unknown));
        assert!(matches!(Ask::decode(&frame(1, b"")), Err(AskError::Name(_))));
        assert!(matches!(Ask::decode(&frame(1, b"\xff")), Err(AskError::Name(_))));
        let connect = [&[7; Proof::LEN + 8][..], &[0, 0xff]].concat();
        assert!(matches!(Ask::decode(&frame(4, &connect)), Err(AskError::Name(_))));
        for kind in [1, 2] {
            let connect = [&[7; Proof::LEN + 8][..], &[kind; 16]].concat();
            assert_eq!(
                Ask::decode(&frame(4, &connect)),
                Err(AskError::Unknown),
                "a key of 15 bytes, no kind"
            );
        }
        for what in [4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 17] {
            assert_eq!(Ask::decode(&frame(what, &[7; Proof::LEN - 1])), Err(AskError::Unknown));
        }
        for half in [&[][..], &[2], &[0, 0]] {
            let body = [&[7; Proof::LEN][..], half].concat();
            assert_eq!(Ask::decode(&frame(9, &body)), Err(AskError::Unknown), "{half:?}");
        }
        for waits in [&[][..], &[4], &[0, 0]] {
            let body = [&[7; Proof::LEN][..], waits].concat();
            assert_eq!(Ask::decode(&frame(17, &body)), Err(AskError::Unknown), "{waits:?}");
        }
        let subscribe = [&[7; Proof::LEN][..], &[0, 0, b'/']].concat();
        let no_topic = Ask::decode(&frame(12, &subscribe)).unwrap_err();
        assert_eq!(no_topic, AskError::Topic(TopicError::EmptyLevel { position: 0 }));
        assert_eq!(no_topic.refusal(), Refusal::InvalidName);
    }

    #[test]
    fn each_answer_brings_the_descriptors_that_belong_to_it() {
        let (name, proof) = (Name::new("bob").unwrap(), proof(1));
        let waits = |arms| Waits { may_sleep: true, arms };
        let asks: [(Ask, &[usize]); 18] = [
            (Ask::Register(name), &[0, 1]),
            (Ask::List { from_slot: 0 }, &[0]),
            (Ask::Server, &[0]),
            (Ask::Connect { proof, ring_size: 0, to: name.into() }, &[0, 5]),
            (Ask::Listen(proof), &[0, 1]),
            (Ask::Take(proof), &[0, 5]),
            (Ask::Report { proof, links: Vec::new() }, &[0]),
            (Ask::Links { from: 0 }, &[0]),
            (Ask::Kick { proof, half: Half::Inbox }, &[0, 2]),
            (Ask::Publish { proof, publish: publish() }, &[0, 1]),
            (Ask::Published { proof, publication: 1 }, &[0]),
            (Ask::Subscribe { proof, subscribe: subscribe() }, &[0]),
            (Ask::Leave { proof, id: 1 }, &[0]),
            (Ask::Attend(proof), &[0, 1]),
            (Ask::Part(proof), &[0, 1, 2, 3, 4, 5, 6]),
            (Ask::Topics { from: 1 }, &[0]),
            (Ask::Presence { proof, waits: waits(false) }, &[0, 3]),
            (Ask::Presence { proof, waits: waits(true) }, &[0, 5]),
        ];
        for (ask, allowed) in asks {
            let found: Vec<usize> = (0..10).filter(|count| ask.may_bring(*count)).collect();
            assert_eq!(found, allowed, "{ask:?}");
            assert_eq!(ask.most_descriptors(), allowed[allowed.len() - 1]);
        }
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
        let datagram = Reply::registered(&proof(42));
        match Reply::decode(&datagram).unwrap().body {
            ReplyBody::Done(body) => assert_eq!(Reply::registration(body), Some(proof(42))),
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
            any_ask_with_proof(),
            any::<u64>().prop_map(|from| Ask::Links { from }),
            any::<u64>().prop_map(|from| Ask::Topics { from }),
        ]
    }

    fn any_ask_with_proof() -> impl Strategy<Value = Ask> {
        let to = prop_oneof![
            "[a-z]{1,20}".prop_map(|text| Address::Name(Name::new(&text).unwrap())),
            any::<u128>().prop_map(|number| Address::Key(Key::from_u128(number))),
        ];
        (any::<u8>(), any::<u64>(), to, 0..13).prop_map(|(byte, ring_size, to, what)| {
            let (proof, name) = (proof(byte), Name::new("bob").unwrap());
            match what {
                0 => Ask::Listen(proof),
                1 => Ask::Take(proof),
                2 => Ask::Report { proof, links: vec![(Role::Callee, name); usize::from(byte % 4)] },
                3 => Ask::Kick { proof, half: if ring_size % 2 == 0 { Half::Caller } else { Half::Inbox } },
                4 => Ask::Publish { proof, publish: Publish { epoch: ring_size, ..publish() } },
                5 => Ask::Published { proof, publication: ring_size },
                6 => Ask::Subscribe { proof, subscribe: subscribe() },
                7 => Ask::Leave { proof, id: ring_size },
                8 => Ask::Attend(proof),
                9 => Ask::Part(proof),
                10 => Ask::Presence { proof, waits: Waits::from_byte(byte % 4).unwrap() },
                _ => Ask::Connect { proof, ring_size, to },
            }
        })
    }

    /// Random bytes, a random body with a valid header, or a request that was changed or cut.
    fn any_datagram() -> impl Strategy<Value = Vec<u8>> {
        let framed = (0..19u16, vec(any::<u8>(), 0..80)).prop_map(|(code, body)| frame(code, &body));
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
                    prop_assert!(whole && version == PROTOCOL_VERSION);
                    let before = match datagram[12..14] {
                        [1, 0] => 0,
                        [4, 0] => Proof::LEN + 8 + 1,
                        _ => return Err(TestCaseError::fail("a request without a name")),
                    };
                    prop_assert_eq!(Name::from_bytes(&datagram[HEADER + before..]), Err(error));
                }
                // Where the text begins is tested beside its decoder.
                Err(AskError::Topic(_)) => {
                    prop_assert!(whole && version == PROTOCOL_VERSION && matches!(datagram[12..14], [10 | 12, 0]));
                }
                Err(AskError::Unknown) => {
                    prop_assert!(whole && version == PROTOCOL_VERSION && datagram[12..14] != [1, 0]);
                    prop_assert!(datagram[12..14] != [3, 0] || datagram.len() > HEADER);
                    prop_assert!(datagram[12..14] != [2, 0] || datagram.len() != HEADER + 4);
                    prop_assert!(!matches!(datagram[12..14], [5 | 6 | 14 | 15, 0]) || datagram.len() != HEADER + Proof::LEN);
                    prop_assert!(!matches!(datagram[12..14], [8 | 16, 0]) || datagram.len() != HEADER + 8);
                    prop_assert!(!matches!(datagram[12..14], [11 | 13, 0]) || datagram.len() != HEADER + Proof::LEN + 8);
                    let asks_for_a_pipe = datagram[12..14] == [9, 0] && datagram.len() == HEADER + Proof::LEN + 1;
                    prop_assert!(!asks_for_a_pipe || datagram[HEADER + Proof::LEN] > 1);
                }
            }
        }

        #[test]
        fn any_reply_decodes_to_what_was_encoded(body in vec(any::<u8>(), 0..100), number: u128) {
            let datagram = Reply::done(&body);
            let reply = Reply { version: PROTOCOL_VERSION, body: ReplyBody::Done(&body) };
            prop_assert_eq!(Reply::decode(&datagram), Some(reply));
            prop_assert_eq!(Reply::registration(&body).is_some(), body.len() == Proof::LEN);
            let proof = Proof { key: Key::from_u128(number), secret: Secret::new(number.to_be_bytes()) };
            prop_assert_eq!(Reply::registration(&Reply::registered(&proof)[HEADER..]), Some(proof));
        }

        /// A decoded text never contains control characters.
        #[test]
        fn any_datagram_is_a_reply_or_none(datagram in any_datagram(), status in 0..18u16, text in ".{0,40}") {
            let whole = datagram.len() >= HEADER && datagram.starts_with(&MAGIC);
            prop_assert_eq!(Reply::decode(&datagram).is_some(), whole);
            let datagram = frame(status, text.as_bytes());
            match Reply::decode(&datagram).unwrap().body {
                ReplyBody::Done(body) => prop_assert!(status == 0 && body == text.as_bytes()),
                ReplyBody::Refused(refusal, why) => {
                    let known = if status <= 15 { status } else { Refusal::Unknown as u16 };
                    prop_assert_eq!(refusal as u16, known);
                    prop_assert!(!why.chars().any(char::is_control) && !why.trim().is_empty());
                    let shown: String = text.chars().filter(|c| !c.is_control()).collect();
                    prop_assert!(why == shown || shown.trim().is_empty());
                }
            }
        }
    }
}
