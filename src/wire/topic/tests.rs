//! Topics and patterns against the rules as they are written down, against a plain matcher, and against
//! Zenoh.

use super::*;
use crate::wire::Key;
use proptest::collection::vec;
use proptest::prelude::*;
use zenoh_keyexpr::canon::Canonize;
use zenoh_keyexpr::keyexpr;

#[test]
fn a_topic_has_1_to_128_bytes() {
    assert_eq!(Topic::new(""), Err(TopicError::Empty));
    assert_eq!(Topic::from_bytes(b""), Err(TopicError::Empty));
    assert_eq!(Topic::new(&"é".repeat(64)).unwrap(), "é".repeat(64).as_str());
    assert_eq!(Topic::new(&"é".repeat(65)), Err(TopicError::TooLong { found: 130 }));
    assert_eq!(Topic::from_bytes(&[0xff; 129]), Err(TopicError::TooLong { found: 129 }));
    assert_eq!(Topic::from_bytes(b"a/\xff"), Err(TopicError::NotUtf8 { position: 2 }));
    // The text as it is given counts, not its shortest form.
    assert_eq!(Pattern::new(&"**/".repeat(43)), Err(TopicError::TooLong { found: 129 }));
    assert_eq!(Pattern::new(&"*/**/".repeat(25)[..124]).unwrap().len(), 25 * 2 + 2);
}

#[test]
fn each_rule_has_its_error() {
    use TopicError::{Control, EmptyLevel, OuterSpace, Reserved};
    let cases = [
        ("/a", EmptyLevel { position: 0 }),
        ("a/", EmptyLevel { position: 2 }),
        ("a//b", EmptyLevel { position: 2 }),
        ("/", EmptyLevel { position: 0 }),
        ("a/b\nc", Control { character: '\n', position: 3 }),
        ("a/ b", OuterSpace { position: 2 }),
        ("a /b", OuterSpace { position: 1 }),
        ("a/b#", Reserved { character: '#', position: 3 }),
        ("a$*/b", Reserved { character: '$', position: 1 }),
        ("$*", Reserved { character: '$', position: 0 }),
        ("a?b", Reserved { character: '?', position: 1 }),
        ("a/***", Reserved { character: '*', position: 2 }),
        ("a/x**", Reserved { character: '*', position: 3 }),
    ];
    for (text, error) in cases {
        assert_eq!(Topic::new(text), Err(error), "{text:?}");
        assert_eq!(Pattern::new(text), Err(error), "{text:?}");
    }
    for (text, position) in [("*", 0), ("a/**", 2), ("**/b", 0)] {
        assert_eq!(Topic::new(text), Err(Reserved { character: '*', position }));
        assert_eq!(Pattern::new(text).unwrap(), text);
    }
    let unseen = Topic::new("a/\u{200b}b").unwrap_err();
    assert!(unseen.to_string().contains("U+200B (byte 2)"), "{unseen}");
    assert!(Topic::new("a/b c/d\u{200c}e").is_ok());
}

/// Levels that a `*` or `**` beside them, or a `@`, could confuse.
const LEVELS: [&str; 5] = ["a", "b", "ab", "@a", "a@"];

fn any_topic() -> impl Strategy<Value = Topic> {
    vec(prop::sample::select(&LEVELS[..]), 1..7).prop_map(|levels| Topic::new(&levels.join("/")).unwrap())
}

/// The text of a pattern, in any form.
fn any_pattern() -> impl Strategy<Value = String> {
    let level = prop_oneof![prop::sample::select(&LEVELS[..]), Just("*"), Just("**"), Just("**")];
    vec(level, 1..7).prop_map(|levels| levels.join("/"))
}

fn matches(pattern: &[&str], topic: &[&str]) -> bool {
    let open = |level: &&str| !level.starts_with('@');
    match (pattern.split_first(), topic.split_first()) {
        (None, None) => true,
        (Some((&"**", rest)), None) => matches(rest, topic),
        (Some((&"**", rest)), Some((level, behind))) => {
            matches(rest, topic) || open(level) && matches(pattern, behind)
        }
        (Some((&"*", rest)), Some((level, behind))) => open(level) && matches(rest, behind),
        (Some((wanted, rest)), Some((level, behind))) => wanted == level && matches(rest, behind),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn matches_are_those_of_a_plain_matcher_and_of_zenoh(text in any_pattern(), topic in any_topic()) {
        let pattern = Pattern::new(&text).unwrap();
        let plain = matches(&text.split('/').collect::<Vec<_>>(), &topic.split('/').collect::<Vec<_>>());
        prop_assert_eq!(pattern.matches(&topic), plain);
        let (theirs, key) = (keyexpr::new(pattern.as_str()).unwrap(), keyexpr::new(topic.as_str()).unwrap());
        prop_assert_eq!(theirs.intersects(key), plain);
        prop_assert_eq!(theirs.includes(key), plain);
        let exact = Pattern::from(topic.clone());
        prop_assert!(exact.matches(&topic) && exact == Pattern::new(&topic).unwrap());
    }

    #[test]
    fn the_shortest_form_is_that_of_zenoh(text in any_pattern()) {
        let pattern = Pattern::new(&text).unwrap();
        let mut canonical = text.clone();
        canonical.canonize();
        prop_assert_eq!(pattern.as_str(), &canonical);
        prop_assert_eq!(&Pattern::new(&pattern).unwrap(), &pattern);
        prop_assert_eq!(keyexpr::new(&text).is_ok(), text == canonical);
    }

    #[test]
    fn patterns_include_and_intersect_each_other_as_in_zenoh(one in any_pattern(), two in any_pattern(), topic in any_topic()) {
        let (one, two) = (Pattern::new(&one).unwrap(), Pattern::new(&two).unwrap());
        let theirs = |pattern: &Pattern| keyexpr::new(pattern.as_str()).unwrap().to_owned();
        let (first, second) = (theirs(&one), theirs(&two));
        prop_assert_eq!(one.includes(&two), first.includes(&second), "{} includes {}", one, two);
        prop_assert_eq!(one.intersects(&two), first.intersects(&second), "{} intersects {}", one, two);
        prop_assert!(!one.includes(&two) || !two.matches(&topic) || one.matches(&topic));
        prop_assert!(one.intersects(&two) || !(one.matches(&topic) && two.matches(&topic)));
    }

    #[test]
    fn a_text_is_a_topic_exactly_if_it_follows_all_rules(text in "\\PC{0,20}|[ /*$#?\t\na-c\u{80}-\u{a0}]{0,6}") {
        let good_level = |level: &str| {
            !level.is_empty()
                && !level.contains(RESERVED)
                && !level.chars().any(char::is_control)
                && level.trim_matches(' ') == level
                && level.char_indices().all(|(at, c)| {
                    let end = at == 0 || at + c.len_utf8() == level.len();
                    let anywhere =
                        invisible::is_blank(c) || invisible::changes_direction(c) || invisible::is_private(c);
                    !(anywhere || end && invisible::is_ignorable(c))
                })
        };
        let good = text.len() <= 128 && text.split('/').all(good_level);
        prop_assert_eq!(Topic::new(&text).is_ok(), good);
        let wild = text.len() <= 128 && text.split('/').all(|level| matches!(level, "*" | "**") || good_level(level));
        prop_assert_eq!(Pattern::new(&text).is_ok(), wild);
        // What is a topic here is a key expression of Zenoh, too, and so is each pattern.
        prop_assert!(!good || keyexpr::new(&text).is_ok());
        prop_assert!(Pattern::new(&text).is_ok_and(|pattern| keyexpr::new(pattern.as_str()).is_ok()) == wild);
    }

    #[test]
    fn any_bytes_are_a_topic_or_refused(bytes in vec(any::<u8>(), 0..140)) {
        if let Ok(topic) = Topic::from_bytes(&bytes) {
            prop_assert_eq!(topic.as_bytes(), &bytes[..]);
        }
        if let Ok(pattern) = Pattern::from_bytes(&bytes) {
            prop_assert!(pattern.len() <= bytes.len());
        }
    }
}

#[test]
fn a_topic_may_have_the_form_of_a_key() {
    let key = Key::from_u128(7).to_string();
    assert_eq!(Topic::new(&key).unwrap(), key.as_str());
}

/// The worst case for a matcher that tries every split: it must not take long.
#[test]
fn matching_takes_no_longer_than_levels_times_levels() {
    let pattern = Pattern::new(&format!("{}b", "**/a/".repeat(25))).unwrap();
    let topic = Topic::new(&"a/".repeat(64)[..127]).unwrap();
    assert!(!pattern.matches(&topic));
    assert!(!pattern.includes(&topic.into()));
    let other = Pattern::new(&format!("{}c", "**/a/".repeat(25))).unwrap();
    assert!(!pattern.includes(&other) && !pattern.intersects(&other));
}
