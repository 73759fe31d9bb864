//! `Name`: the text under which a client registers, and the rules for it.

#![forbid(unsafe_code)]

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::str::FromStr;

use super::{Key, invisible};

/// A client's name, unique on its bus while the client is registered.
///
/// A name is 1 to 64 bytes of UTF-8. So that people can tell names apart by sight:
///
/// - It contains no control characters, and none that change the direction of the text (such as U+202E).
/// - The plain space is its only white space, and not at either end. Other blank characters, such as U+00A0,
///   U+2800 and U+3164, are refused.
/// - It contains no noncharacters and no private-use characters, which look different in each font.
/// - It neither begins nor ends with an invisible character, such as U+200B or U+FE0F. Inside a name these
///   are allowed because Persian and Hindi spelling needs them; the programs print them escaped.
///
/// A text that parses as a [`Key`] is not a name, so one argument can take either.
///
/// The text is stored inline: copying a name copies 65 bytes.
///
/// # Examples
///
/// ```
/// use ringpost::{Name, NameError};
///
/// let name = Name::try_from("sensor 7")?;
/// assert_eq!(name.as_str(), "sensor 7");
/// assert!(name.starts_with("sensor")); // a name derefs to `str`
/// assert_eq!(Name::try_from(" bob"), Err(NameError::OuterSpace));
/// # Ok::<(), NameError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The text, then zeros. A name contains no zero byte, so comparing these bytes compares the texts.
    bytes: [u8; Name::MAX_LEN],
    len: u8,
}

/// Why a text is not a [`Name`].
///
/// # Examples
///
/// ```
/// use ringpost::{Name, NameError};
///
/// assert_eq!(Name::try_from(""), Err(NameError::Empty));
/// assert_eq!(Name::try_from("tab\there"), Err(NameError::Control { character: '\t', position: 3 }));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The text is empty.
    #[error("a name must have at least one character")]
    Empty,
    /// More than 64 bytes.
    #[error("a name has at most 64 bytes, but this one has {found}; shorten it")]
    TooLong {
        /// The length in bytes.
        found: usize,
    },
    /// The bytes are not UTF-8.
    #[error("a name must be UTF-8 text, but byte {position} is not valid UTF-8")]
    NotUtf8 {
        /// The position of the first invalid byte.
        position: usize,
    },
    /// A control character, such as a line break or a tab.
    #[error("a name cannot contain control characters; remove {character:?} (byte {position})")]
    Control {
        /// The character.
        character: char,
        /// Where it starts, in bytes.
        position: usize,
    },
    /// A plain space at the start or the end.
    #[error("a name cannot begin or end with a space; trim it")]
    OuterSpace,
    /// A character that is invisible or easily mistaken for another one.
    #[error("a name cannot contain {what}; remove U+{:04X} (byte {position})", u32::from(*.character))]
    Unseen {
        /// The kind of character, in words.
        what: &'static str,
        /// The character.
        character: char,
        /// Where it starts, in bytes.
        position: usize,
    },
    /// The text parses as a key.
    #[error("this text has the form of a key, so it cannot be a name; add or change a character")]
    LooksLikeKey,
}

impl Name {
    /// The longest name, in bytes.
    pub(crate) const MAX_LEN: usize = 64;

    /// Makes a name from a text. `TryFrom` and `FromStr` do the same for users.
    pub(crate) fn new(name: &str) -> Result<Name, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        let mut bytes = [0; Name::MAX_LEN];
        let Some(start) = bytes.get_mut(..name.len()) else {
            return Err(NameError::TooLong { found: name.len() });
        };
        if let Some((position, character)) = name.char_indices().find(|(_, character)| character.is_control())
        {
            return Err(NameError::Control { character, position });
        }
        if name.trim_matches(' ') != name {
            return Err(NameError::OuterSpace);
        }
        for (position, character) in name.char_indices() {
            let at_an_end = position == 0 || position + character.len_utf8() == name.len();
            if let Some(what) = invisible::why_refused(character, at_an_end) {
                return Err(NameError::Unseen { what, character, position });
            }
        }
        if name.parse::<Key>().is_ok() {
            return Err(NameError::LooksLikeKey);
        }
        start.copy_from_slice(name.as_bytes());
        // The length is at most 64.
        Ok(Name { bytes, len: name.len() as u8 })
    }

    /// Makes a name from bytes.
    ///
    /// # Errors
    ///
    /// [`NameError`] says which rule of [`Name`] the bytes break.
    pub(crate) fn from_bytes(name: &[u8]) -> Result<Name, NameError> {
        // Checked before UTF-8, to bound the work on untrusted bytes.
        if name.len() > Name::MAX_LEN {
            return Err(NameError::TooLong { found: name.len() });
        }
        match str::from_utf8(name) {
            Ok(name) => Name::new(name),
            Err(error) => Err(NameError::NotUtf8 { position: error.valid_up_to() }),
        }
    }

    /// The name's bytes, which are UTF-8.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// The name as text.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(ringpost::Name::try_from("alice")?.as_str(), "alice");
    /// # Ok::<(), ringpost::NameError>(())
    /// ```
    pub fn as_str(&self) -> &str {
        // The bytes are always UTF-8. Checking again is cheap and avoids unsafe code.
        str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // `Borrow<str>` requires the same hash as that of `str`.
        self.as_str().hash(state);
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Name, NameError> {
        Name::new(name)
    }
}

impl TryFrom<&str> for Name {
    type Error = NameError;

    fn try_from(name: &str) -> Result<Name, NameError> {
        Name::new(name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({:?})", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_name_has_1_to_64_bytes() {
        assert_eq!(Name::new(""), Err(NameError::Empty));
        assert_eq!(Name::from_bytes(b""), Err(NameError::Empty));
        assert_eq!(Name::new("a").unwrap().as_str(), "a");
        assert_eq!(Name::new(&"é".repeat(32)).unwrap().as_str(), "é".repeat(32));
        assert_eq!(Name::new(&"é".repeat(33)), Err(NameError::TooLong { found: 66 }));
        assert_eq!(Name::from_bytes(&[b'a'; 64]).unwrap(), "a".repeat(64).as_str());
        assert_eq!(Name::from_bytes(&[0xff; 65]), Err(NameError::TooLong { found: 65 }));
    }

    #[test]
    fn control_characters_and_outer_space_are_refused() {
        for (name, character) in
            [("a\nb", '\n'), ("a\0", '\0'), ("a\u{7f}", '\u{7f}'), ("a\u{85}b", '\u{85}')]
        {
            assert_eq!(Name::new(name), Err(NameError::Control { character, position: 1 }));
        }
        for name in [" a", "a ", " "] {
            assert_eq!(Name::new(name), Err(NameError::OuterSpace), "{name:?}");
        }
        assert_eq!(Name::new("a b").unwrap(), "a b");
    }

    #[test]
    fn invisible_characters_are_refused_and_named_in_the_error() {
        // Refused anywhere: blanks, direction changes, private-use characters and noncharacters.
        for character in "\u{a0}\u{1680}\u{2003}\u{2028}\u{3000}\u{2800}\u{3164}\u{ffa0}\u{115f}\u{1160}\u{17b4}\u{202e}\u{2066}\u{200f}\u{61c}\u{e000}\u{fdd0}\u{10ffff}".chars() {
            for (name, place) in [(format!("{character}ab"), 0), (format!("a{character}b"), 1), (format!("ab{character}"), 2)] {
                let refused = Name::new(&name).unwrap_err();
                assert!(matches!(refused, NameError::Unseen { character: found, position, .. } if (found, position) == (character, place)));
                assert!(refused.to_string().contains(&format!("U+{:04X} (byte {place})", u32::from(character))), "{refused}");
            }
        }
        for character in "\u{200b}\u{200c}\u{200d}\u{feff}\u{ad}\u{34f}\u{180b}\u{180e}\u{2060}\u{2064}\u{fe0f}\u{fff9}\u{e0001}\u{e0061}\u{e01ef}\u{1d173}".chars() {
            for (name, place) in [(character.to_string(), 0), (format!("{character}ab"), 0), (format!("ab{character}"), 2)] {
                let refused = Name::new(&name).unwrap_err();
                assert!(matches!(refused, NameError::Unseen { position, .. } if position == place), "{refused}");
            }
            assert!(Name::new(&format!("a{character}b")).is_ok(), "{character:?} within");
        }
        // Words that are spelt with joiners: "I want" in Persian and a Hindi conjunct.
        for name in
            ["\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}", "\u{915}\u{94d}\u{200d}\u{937}"]
        {
            assert_eq!(Name::new(name).unwrap(), name);
        }
    }

    #[test]
    fn a_text_that_parses_as_a_key_is_refused() {
        for name in
            ["0040180G7ZZZZZZZZZZZZZZZZZ", "oo40180g7-zzzzzzzzzzzzzzzzz", "internationalmessagedesks1"]
        {
            assert_eq!(Name::new(name), Err(NameError::LooksLikeKey), "{name}");
        }
        // Not keys: more than 128 bits, and one character too short.
        assert!(Name::new("ZZZZZZZZZZZZZZZZZZZZZZZZZZ").is_ok());
        assert!(Name::new("0040180G7ZZZZZZZZZZZZZZZZ").is_ok());
    }

    #[test]
    fn a_map_with_name_keys_can_be_looked_up_by_str() {
        let map = HashMap::from([(Name::new("alice").unwrap(), 1)]);
        assert_eq!(map.get("alice"), Some(&1));
        assert_eq!(map.get("alic"), None);
        assert_eq!(format!("{:>6}|", Name::new("alice").unwrap()), " alice|");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_name_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(name) = Name::from_bytes(&bytes) {
                prop_assert_eq!(name.as_bytes(), &bytes[..]);
            }
        }

        #[test]
        fn a_text_is_a_name_exactly_if_it_follows_all_rules(text in "\\PC{0,30}|[ \t\na-c\u{80}-\u{a0}]{0,4}") {
            let good = (1..=64).contains(&text.len())
                && !text.chars().any(char::is_control)
                && text.trim_matches(' ') == text
                && text.char_indices().all(|(at, c)| {
                    let end = at == 0 || at + c.len_utf8() == text.len();
                    let anywhere = invisible::is_blank(c) || invisible::changes_direction(c) || invisible::is_private(c);
                    !(anywhere || end && invisible::is_ignorable(c))
                })
                && text.parse::<Key>().is_err();
            prop_assert_eq!(Name::new(&text).is_ok(), good);
        }

        #[test]
        fn names_compare_as_their_text(a in "[a-c]{1,3}|[à-é]{1,3}", b in "[a-c]{1,3}|[à-é]{1,3}") {
            let (left, right) = (Name::new(&a).unwrap(), Name::new(&b).unwrap());
            prop_assert_eq!(left.cmp(&right), a.cmp(&b));
            prop_assert_eq!(left == right, a == b);
            prop_assert_eq!((left == *b.as_str(), left == b.as_str()), (a == b, a == b));
            prop_assert_eq!((AsRef::<str>::as_ref(&left), &*left), (a.as_str(), a.as_str()));
        }
    }
}
