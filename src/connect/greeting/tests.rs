//! Requests and replies against what their encoders make of them.

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
        Ask::Control("reload".into()),
        Ask::Control("x".repeat(LONGEST_COMMAND)),
        Ask::Tap { proof, waits: Waits { may_sleep: true, arms: false }, most: 512 },
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
    assert_eq!(Ask::decode(&frame(19, b"")), Err(AskError::Unknown));
    assert_eq!(Ask::decode(&frame(2, b"abc")), Err(AskError::Unknown));
    assert_eq!(Ask::decode(&frame(3, b"x")), Err(AskError::Unknown));
    assert!(matches!(Ask::decode(&frame(1, b"")), Err(AskError::Name(_))));
    assert!(matches!(Ask::decode(&frame(1, b"\xff")), Err(AskError::Name(_))));
    let connect = [&[7; Proof::LEN + 8][..], &[0, 0xff]].concat();
    assert!(matches!(Ask::decode(&frame(4, &connect)), Err(AskError::Name(_))));
    for kind in [1, 2] {
        let connect = [&[7; Proof::LEN + 8][..], &[kind; 16]].concat();
        assert_eq!(Ask::decode(&frame(4, &connect)), Err(AskError::Unknown), "a key of 15 bytes, no kind");
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
    for command in [&[][..], b"\xff", &[b'x'; LONGEST_COMMAND + 1]] {
        assert_eq!(Ask::decode(&frame(18, command)), Err(AskError::Unknown), "{} bytes", command.len());
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
    let asks: [(Ask, &[usize]); 21] = [
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
        (Ask::Control("reload".into()), &[0]),
        (Ask::Tap { proof, waits: waits(false), most: 1 }, &[0, 3]),
        (Ask::Tap { proof, waits: waits(true), most: 1 }, &[0, 5]),
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
        "[a-zé -]{1,200}".prop_map(Ask::Control),
    ]
}

fn any_ask_with_proof() -> impl Strategy<Value = Ask> {
    let to = prop_oneof![
        "[a-z]{1,20}".prop_map(|text| Address::Name(Name::new(&text).unwrap())),
        any::<u128>().prop_map(|number| Address::Key(Key::from_u128(number))),
    ];
    (any::<u8>(), any::<u64>(), to, 0..14).prop_map(|(byte, ring_size, to, what)| {
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
            11 => Ask::Tap { proof, waits: Waits::from_byte(byte % 4).unwrap(), most: ring_size as u16 },
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
    fn any_datagram_is_a_reply_or_none(datagram in any_datagram(), status in 0..19u16, text in ".{0,40}") {
        let whole = datagram.len() >= HEADER && datagram.starts_with(&MAGIC);
        prop_assert_eq!(Reply::decode(&datagram).is_some(), whole);
        let datagram = frame(status, text.as_bytes());
        match Reply::decode(&datagram).unwrap().body {
            ReplyBody::Done(body) => prop_assert!(status == 0 && body == text.as_bytes()),
            ReplyBody::Refused(refusal, why) => {
                let known = if status <= 16 { status } else { Refusal::Unknown as u16 };
                prop_assert_eq!(refusal as u16, known);
                prop_assert!(!why.chars().any(char::is_control) && !why.trim().is_empty());
                let shown: String = text.chars().filter(|c| !c.is_control()).collect();
                prop_assert!(why == shown || shown.trim().is_empty());
            }
        }
    }
}
