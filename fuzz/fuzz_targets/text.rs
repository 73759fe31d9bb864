//! Fuzzes the parsing of keys, names, addresses, topics, patterns and records of a tap: each text is parsed
//! or refused, and what is parsed prints and parses to the same. A pattern takes the topics that its
//! definition says.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringpost::{Address, FromPayload, Key, Name, NameError, Pattern, TapRecord, Topic};

/// Whether a pattern takes a topic, by its definition, one level after the other.
fn takes(pattern: &str, topic: &str) -> bool {
    let levels: Vec<&str> = topic.split('/').collect();
    // Whether the pattern up to here takes so many levels.
    let mut taken = vec![false; levels.len() + 1];
    taken[0] = true;
    for wanted in pattern.split('/') {
        let mut next = vec![false; taken.len()];
        for count in 0..taken.len() {
            let open = |at: usize| !levels[at].starts_with('@');
            next[count] = match wanted {
                "**" => taken[count] || count > 0 && next[count - 1] && open(count - 1),
                "*" => count > 0 && taken[count - 1] && open(count - 1),
                wanted => count > 0 && taken[count - 1] && levels[count - 1] == wanted,
            };
        }
        taken = next;
    }
    taken[levels.len()]
}

/// A topic and a pattern, divided by a line break, or one text that may be both.
fn topics(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let (first, second) = text.split_once('\n').unwrap_or((text, text));
    let (topic, pattern) = (first.parse::<Topic>(), second.parse::<Pattern>());
    if let Ok(topic) = &topic {
        assert_eq!(topic.as_str(), first);
        assert!((1..=128).contains(&first.len()) && !first.split('/').any(str::is_empty));
        assert!(!first.contains(['*', '$', '#', '?']) && !first.chars().any(char::is_control));
        assert_eq!(topic.to_string().parse(), Ok(topic.clone()));
        // It is also the pattern that takes nothing else.
        let own = Pattern::from(topic.clone());
        assert_eq!(first.parse(), Ok(own.clone()));
        assert!(own.matches(topic));
        for all in ["**", "**/**"] {
            assert_eq!(all.parse::<Pattern>().map(|all| all.matches(topic)), Ok(takes(all, first)));
        }
    }
    if let Ok(pattern) = &pattern {
        let shortest = pattern.as_str();
        assert!(shortest.len() <= second.len() && !shortest.contains("**/*"));
        assert_eq!(shortest.parse(), Ok(pattern.clone()));
        assert_eq!(pattern.to_string(), shortest);
    }
    if let (Ok(topic), Ok(pattern)) = (topic, pattern) {
        let wanted = takes(second, first);
        assert_eq!(pattern.matches(&topic), wanted, "{second:?} and {first:?}");
        assert_eq!(takes(pattern.as_str(), first), wanted, "the shortest form takes the same");
    }
}

fuzz_target!(|data: &[u8]| {
    topics(data);
    if let Ok(record) = TapRecord::from_payload(data) {
        assert!(record.payload.len() as u64 <= record.payload_len);
        assert!(record.response.len() as u64 <= record.response_len);
        assert!(record.to.is_some() || record.to_name.is_none());
    }
    let name = str::from_utf8(data).map(Name::try_from);
    if let Ok(Ok(name)) = name {
        assert_eq!(name.as_str().as_bytes(), data);
        assert!((1..=64).contains(&name.len()));
        assert!(!name.chars().any(char::is_control) && name.trim().len() == name.len());
        assert_eq!(Name::try_from(&*name), Ok(name));
        assert_eq!(name.to_string().parse(), Ok(name));
    }
    if let Some(bytes) = data.first_chunk() {
        let key = Key::from_bytes(*bytes);
        assert_eq!(key.to_bytes(), *bytes);
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(Name::try_from(&*key.to_string()), Err(NameError::LooksLikeKey));
    }
    let (Ok(text), Ok(name)) = (str::from_utf8(data), name) else { return };
    let key = text.parse::<Key>();
    if let Ok(key) = key {
        let printed = key.to_string();
        assert_eq!(printed.len(), 26);
        assert_eq!(printed.parse(), Ok(key));
        assert_eq!(text.chars().filter(|&c| c != '-').count(), 26);
        // No text is both.
        assert!(name.is_err());
    }
    match text.parse::<Address>() {
        Ok(Address::Key(found)) => assert_eq!(Ok(found), key),
        Ok(Address::Name(found)) => assert_eq!((Ok(found), key.is_err()), (name, true)),
        Err(error) => assert_eq!(name, Err(error)),
    }
});
