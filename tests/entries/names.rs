//! Tests of invalid, taken and unusual names: in the client, at the server, and in look-ups.

use crate::assert_mentions;
use crate::common::Bus;
use crate::common::raw::{LOOK_UP, REGISTER, RawClient, VERSION, datagram, dial, hear, say};
use ringpost::{Address, Client, Key, Name, NameError, RegisterError};

/// Every kind of invalid name, its error, and a word of the remedy.
fn wrong() -> Vec<(String, NameError, &'static str)> {
    let key = Key::from_bytes(u128::to_le_bytes(7)).to_string();
    vec![
        (String::new(), NameError::Empty, "at least one character"),
        ("x".repeat(65), NameError::TooLong { found: 65 }, "shorten"),
        ("ä".repeat(33), NameError::TooLong { found: 66 }, "shorten"),
        ("a\nb".into(), NameError::Control { character: '\n', position: 1 }, "remove"),
        ("\u{1b}[2J".into(), NameError::Control { character: '\u{1b}', position: 0 }, "remove"),
        ("a\0".into(), NameError::Control { character: '\0', position: 1 }, "remove"),
        ("ü\u{9b}".into(), NameError::Control { character: '\u{9b}', position: 2 }, "remove"),
        (" a".into(), NameError::OuterSpace, "trim"),
        ("a ".into(), NameError::OuterSpace, "trim"),
        (
            "\u{3000}".into(),
            unseen("blanks other than the plain space", '\u{3000}', 0),
            "remove U+3000 (byte 0)",
        ),
        (
            "al\u{3164}ice".into(),
            unseen("blanks other than the plain space", '\u{3164}', 2),
            "remove U+3164 (byte 2)",
        ),
        (
            "a\u{202e}b".into(),
            unseen("characters that change the direction of text", '\u{202e}', 1),
            "remove U+202E (byte 1)",
        ),
        (
            "alice\u{200b}".into(),
            unseen("invisible characters at either end", '\u{200b}', 5),
            "remove U+200B (byte 5)",
        ),
        (
            "\u{feff}".into(),
            unseen("invisible characters at either end", '\u{feff}', 0),
            "remove U+FEFF (byte 0)",
        ),
        (
            "a\u{e000}".into(),
            unseen("private-use characters or noncharacters", '\u{e000}', 1),
            "remove U+E000 (byte 1)",
        ),
        (key.to_lowercase(), NameError::LooksLikeKey, "add or change"),
        (format!("{}-{}", &key[..5], &key[5..]), NameError::LooksLikeKey, "add or change"),
        (key, NameError::LooksLikeKey, "add or change"),
    ]
}

fn unseen(what: &'static str, character: char, position: usize) -> NameError {
    NameError::Unseen { what, character, position }
}

#[test]
fn a_text_that_is_no_name_is_refused_before_anything_is_sent() {
    let bus = Bus::start();
    for (text, expected, remedy) in wrong() {
        assert_eq!(Name::try_from(&*text), Err(expected), "{text:?}");
        match Client::register(bus.path(), &text).unwrap_err() {
            RegisterError::InvalidName { name, source } => {
                assert_eq!((&name, source), (&text, expected));
                let whole = RegisterError::InvalidName { name, source }.to_string();
                assert_mentions(&whole, &[remedy]);
            }
            other => panic!("{text:?}: {other}"),
        }
    }
    assert_eq!(bus.server.join_after_shutdown().refused, 0, "the server was asked");
}

/// The server also checks names, because a client in another language may not.
#[test]
fn the_server_refuses_the_same_names_in_the_same_words() {
    let bus = Bus::start();
    for (text, expected, remedy) in wrong() {
        let line = dial(bus.path());
        say(&line, &datagram(VERSION, REGISTER, text.as_bytes()));
        let (refusal, why) = hear(&line).refusal();
        assert_eq!(refusal, 4, "{text:?}: {why}");
        assert!(why.contains(&expected.to_string()), "{text:?}: {why}");
        assert_mentions(&why, &[remedy]);
    }
    for bytes in [&b"\xff"[..], b"ab\xc3", &[0xc3, 0x28]] {
        let line = dial(bus.path());
        say(&line, &datagram(VERSION, REGISTER, bytes));
        let (refusal, why) = hear(&line).refusal();
        assert_eq!(refusal, 4);
        assert_mentions(&why, &["UTF-8"]);
    }
    // The same for look-ups.
    let mut client = RawClient::register(bus.path(), "asker");
    for (text, expected, _) in wrong() {
        // Cut, because the raw client writes only blocks of one line.
        let text = &text.as_bytes()[..text.len().min(40)];
        client.request(LOOK_UP, 0, text);
        let (status, _, why) = client.response().unwrap();
        match Name::try_from(str::from_utf8(text).unwrap()) {
            Ok(_) => assert_eq!(status, 3, "nobody is called so"),
            Err(_) => assert_eq!((status, String::from_utf8(why).unwrap()), (2, expected.to_string())),
        }
    }
}

#[test]
fn a_taken_name_says_what_to_do_and_is_free_afterwards() {
    let bus = Bus::start();
    let alice = bus.client("alice");
    let error = Client::register(bus.path(), "alice").unwrap_err();
    assert!(matches!(&error, RegisterError::NameTaken { name } if name == "alice"), "{error:?}");
    assert_mentions(&error.to_string(), &["alice", "taken", "choose another"]);
    // Names are compared byte by byte.
    let _capital = bus.client("Alice");
    alice.unregister().unwrap();
    bus.client("alice");
}

#[test]
fn the_longest_names_and_those_with_inner_space_work() {
    let bus = Bus::start();
    for name in ["x".repeat(64), "ä".repeat(32), "inner  space".into(), "…".into(), "-".into()] {
        let mut client = bus.client(&name);
        assert_eq!(client.look_up(Name::try_from(&*name).unwrap()).unwrap(), Some(client.key()));
        assert_eq!(name.parse(), Ok(Address::Name(*client.name())));
    }
}
