//! Tests of malformed keys and of keys without a client.

use crate::assert_mentions;
use crate::common::{Bus, LIMIT, finds_no_room, slot_of};
use ringpost::{Address, Key, Message, ParseKeyError, RecvError, SendError};
use std::time::Duration;

#[test]
fn a_malformed_key_says_what_is_wrong_with_it() {
    let good = "0040180G7ZZZZZZZZZZZZZZZZZ";
    let long = "Z".repeat(1 << 20);
    let cases: [(&str, ParseKeyError, &str); 9] = [
        ("", ParseKeyError::WrongLength { found: 0 }, "copy the whole"),
        ("----", ParseKeyError::WrongLength { found: 0 }, "copy the whole"),
        (&good[..25], ParseKeyError::WrongLength { found: 25 }, "copy the whole"),
        ("0040180G7ZZZZZZZZZZZZZZZZZ0", ParseKeyError::WrongLength { found: 27 }, "copy the whole"),
        (&long, ParseKeyError::WrongLength { found: 1 << 20 }, "copy the whole"),
        ("8040180G7ZZZZZZZZZZZZZZZZZ", ParseKeyError::TooLarge, "copy the key again"),
        ("U040180G7ZZZZZZZZZZZZZZZZZ", bad('U', 0), "letters except U"),
        ("0040180G7ZZZZZZZZZZZZZZZZ ", bad(' ', 25), "digits and letters"),
        ("0040180G7ZZZZZZZZZZZZZZZZä", bad('ä', 25), "digits and letters"),
    ];
    for (text, expected, remedy) in cases {
        let error = text.parse::<Key>().unwrap_err();
        assert_eq!(error, expected, "{}", &text[..text.len().min(40)]);
        assert_mentions(&error.to_string(), &[remedy]);
    }
    assert!(matches!(good.parse(), Ok(Address::Key(_))));
}

fn bad(character: char, position: usize) -> ParseKeyError {
    ParseKeyError::BadCharacter { character, position }
}

#[test]
fn a_key_that_leads_nowhere_is_told_apart_from_all_others() {
    let bus = Bus::with(|b| b.max_clients(2));
    let mut alice = bus.client("alice");
    let stale = bus.client("bob").key();
    // Gets the same slot with the next generation.
    let mut bob = bus.client("bob");
    assert_eq!((slot_of(bob.key()), bob.key() == stale), (slot_of(stale), false));
    let unknown = [
        stale,
        Key::from_bytes(u128::to_le_bytes(u128::from_le_bytes(bob.key().to_bytes()) ^ 1)),
        Key::from_bytes(u128::to_le_bytes(u128::from_le_bytes(bob.key().to_bytes()) ^ 1 << 80)),
        Key::from_bytes(u128::to_le_bytes(0)),
        Key::from_bytes(u128::to_le_bytes(u128::MAX)),
    ];
    for key in unknown {
        for sent in [alice.try_send(key, b"x"), alice.send_timeout(key, b"x", LIMIT)] {
            assert_eq!(sent, Err(SendError::NotFound));
            assert_mentions(&sent.unwrap_err().to_string(), &["no client has this key", "look its name up"]);
        }
    }
    assert_eq!(bob.try_recv(), Ok(None));
    assert_eq!(alice.caller().statistics().unwrap().sent, 0);
}

/// A client can send to itself.
#[test]
fn one_s_own_key_works_and_so_does_its_full_inbox() {
    let bus = Bus::with(|b| b.ring_size(4096));
    let mut alice = bus.client("alice");
    let own = alice.key();
    let note = |received: Result<Option<Message>, RecvError>| received.unwrap().unwrap().into_payload();
    alice.try_send(own, b"note").unwrap();
    assert_eq!(note(alice.try_recv()), b"note");
    let full = (0..).find(|_| alice.try_send(own, b"x").is_err()).unwrap();
    assert_eq!(alice.try_send(own, b"x"), Err(SendError::InboxFull));
    // The client cannot read while it waits, so the wait ends with its deadline.
    finds_no_room(&mut alice, own, b"x", Duration::from_millis(20));
    for _ in 0..full {
        assert_eq!(note(alice.try_recv()), b"x");
    }
    alice.try_send(own, b"again").unwrap();
    assert_eq!(note(alice.try_recv()), b"again");
}
