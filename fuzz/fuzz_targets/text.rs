//! Fuzzes the parsing of keys, names and addresses: each text is parsed or refused, and what is parsed prints
//! and parses to the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringpost::{Address, Key, Name, NameError};

fuzz_target!(|data: &[u8]| {
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
