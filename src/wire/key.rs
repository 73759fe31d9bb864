//! `Key`: the 128-bit address of a registered client, and its text form.

#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

/// Crockford's base 32: the digits, and the capital letters except I, L, O and U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// 26 characters of 5 bits hold 130 bits, so the first one carries only 3 bits of the key.
const CHARACTERS: usize = 26;

const RANDOM_BITS: u32 = 80;
const GENERATION_BITS: u32 = 32;

/// A client's address on the bus. The server assigns it at registration.
///
/// A key has 128 bits: the registry slot (16), the slot's generation (32) and a random part (80). All bits
/// are compared, so a message to a client that has left never reaches the next client in its slot. A key is
/// not a secret.
///
/// A key is printed as 26 characters of Crockford's base 32. Parsing ignores case and dashes, and accepts `O`
/// for `0` and `I` or `L` for `1`, so that a key can be read aloud or copied by hand.
///
/// # Examples
///
/// ```
/// use ringpost::Key;
///
/// let key: Key = "00401-80G-7ZZZZZZZZZZZZZZZZZ".parse()?;
/// assert_eq!(key.to_string(), "0040180G7ZZZZZZZZZZZZZZZZZ");
/// assert_eq!("oo4oi8og7zzzzzzzzzzzzzzzzz".parse(), Ok(key));
/// assert_eq!(Key::from_bytes(key.to_bytes()), key);
/// # Ok::<(), ringpost::ParseKeyError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u128);

impl Key {
    /// Makes the key of a registration from its three parts.
    pub(crate) const fn new(slot: u16, generation: u32, random: [u8; 10]) -> Key {
        let mut low = [0; 16];
        let mut i = 0;
        while i < random.len() {
            low[i] = random[i];
            i += 1;
        }
        let high = ((slot as u128) << GENERATION_BITS) | generation as u128;
        Key((high << RANDOM_BITS) | u128::from_le_bytes(low))
    }

    /// The registry slot.
    pub(crate) const fn slot(self) -> u16 {
        (self.0 >> (RANDOM_BITS + GENERATION_BITS)) as u16
    }

    /// The slot's generation: how many registrations the slot has had, this one included.
    pub(crate) const fn generation(self) -> u32 {
        (self.0 >> RANDOM_BITS) as u32
    }

    /// The key as a number, with the slot in the highest bits.
    pub(crate) const fn to_u128(self) -> u128 {
        self.0
    }

    /// Makes a key from a number. Every number is a valid key, but almost none belongs to a client.
    pub(crate) const fn from_u128(number: u128) -> Key {
        Key(number)
    }

    /// The key as it is sent in blocks: 16 bytes, little-endian.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ringpost::Key;
    /// let key: Key = "00000000000000000000000007".parse()?;
    /// assert_eq!(key.to_bytes()[0], 7);
    /// assert_eq!(Key::from_bytes(key.to_bytes()), key);
    /// # Ok::<(), ringpost::ParseKeyError>(())
    /// ```
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    /// Makes a key from 16 bytes, little-endian: for programs that send keys in their own messages.
    pub const fn from_bytes(bytes: [u8; 16]) -> Key {
        Key(u128::from_le_bytes(bytes))
    }

    fn text(self) -> [u8; CHARACTERS] {
        let mut text = [0; CHARACTERS];
        let mut rest = self.0;
        for place in text.iter_mut().rev() {
            *place = ALPHABET[(rest & 31) as usize];
            rest >>= 5;
        }
        text
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The alphabet is ASCII, so this is always valid UTF-8.
        f.pad(str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// Why a text is not a [`Key`].
///
/// # Examples
///
/// ```
/// use ringpost::{Key, ParseKeyError};
///
/// assert_eq!("0040180G7".parse::<Key>(), Err(ParseKeyError::WrongLength { found: 9 }));
/// println!("{}", "0040180G7".parse::<Key>().unwrap_err()); // says what to do
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseKeyError {
    /// A character that cannot be part of a key.
    #[error(
        "a key cannot contain {character:?} (byte {position}); it consists of digits and letters except U"
    )]
    BadCharacter {
        /// The character.
        character: char,
        /// Where it starts, in bytes.
        position: usize,
    },
    /// Too few or too many characters, not counting dashes.
    #[error("a key has 26 characters, not counting dashes, but this text has {found}; copy the whole key")]
    WrongLength {
        /// How many there are.
        found: usize,
    },
    /// 26 valid characters whose value exceeds 128 bits.
    #[error("a key begins with a digit from 0 to 7, but this text does not; copy the key again")]
    TooLarge,
}

impl FromStr for Key {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Key, ParseKeyError> {
        let mut number: u128 = 0;
        let mut found = 0;
        let mut large = false;
        for (position, character) in text.char_indices().filter(|&(_, character)| character != '-') {
            let Some(digit) = digit(character) else {
                return Err(ParseKeyError::BadCharacter { character, position });
            };
            large |= number >> 123 != 0;
            number = (number << 5) | digit;
            found += 1;
        }
        if found != CHARACTERS {
            Err(ParseKeyError::WrongLength { found })
        } else if large {
            Err(ParseKeyError::TooLarge)
        } else {
            Ok(Key(number))
        }
    }
}

fn digit(character: char) -> Option<u128> {
    let upper = match character.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    ALPHABET.iter().position(|&known| char::from(known) == upper).map(|value| value as u128)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LARGEST: &str = "7ZZZZZZZZZZZZZZZZZZZZZZZZZ";

    #[test]
    fn slot_generation_and_random_part_have_their_bits() {
        let key = Key::new(0xabcd, 0x1234_5678, [0xff; 10]);
        assert_eq!(key.to_u128(), 0xabcd_1234_5678_ffff_ffff_ffff_ffff_ffff);
        assert_eq!(key.slot(), 0xabcd);
        assert_eq!(key.generation(), 0x1234_5678);
        assert_eq!(Key::new(0, 0, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]).to_bytes()[0], 1);
    }

    #[test]
    fn the_smallest_and_largest_keys_print_and_parse() {
        assert_eq!(Key::from_u128(0).to_string(), "0".repeat(26));
        assert_eq!(Key::from_u128(u128::MAX).to_string(), LARGEST);
        assert_eq!(LARGEST.parse(), Ok(Key::from_u128(u128::MAX)));
        assert_eq!(format!("{:?}", Key::from_u128(31)), format!("Key({}Z)", "0".repeat(25)));
        assert_eq!(format!("{:>28}", Key::from_u128(0)), format!("  {}", "0".repeat(26)));
    }

    #[test]
    fn parsing_ignores_case_and_dashes_and_accepts_look_alikes() {
        let plain: Key = "01110ABCDEFGHJKMNPQRSTVWXY".parse().unwrap();
        assert_eq!("oILi0abcdefghjkmnpqrstvwxy".parse(), Ok(plain));
        assert_eq!("-0-1110-ABCDEFGHJKM--NPQRSTVWXY-".parse(), Ok(plain));
    }

    #[test]
    fn invalid_keys_are_refused_with_the_reason() {
        let parse = |text: &str| text.parse::<Key>().unwrap_err();
        assert_eq!(parse(""), ParseKeyError::WrongLength { found: 0 });
        assert_eq!(parse("---"), ParseKeyError::WrongLength { found: 0 });
        assert_eq!(parse(&LARGEST[1..]), ParseKeyError::WrongLength { found: 25 });
        assert_eq!(parse(&"0".repeat(27)), ParseKeyError::WrongLength { found: 27 });
        assert_eq!(parse(&"Z".repeat(1000)), ParseKeyError::WrongLength { found: 1000 });
        assert_eq!(parse(&"Z".repeat(26)), ParseKeyError::TooLarge);
        assert_eq!(parse(&format!("8{}", "0".repeat(25))), ParseKeyError::TooLarge);
        for (text, character) in
            [("0000U", 'U'), ("0000u", 'u'), ("0000 ", ' '), ("0000é", 'é'), ("0000*", '*')]
        {
            assert_eq!(parse(text), ParseKeyError::BadCharacter { character, position: 4 });
        }
        assert_eq!(parse("–0"), ParseKeyError::BadCharacter { character: '–', position: 0 });
    }

    proptest! {
        #[test]
        fn a_printed_key_parses_to_the_same_key(number: u128) {
            let key = Key::from_u128(number);
            let text = key.to_string();
            prop_assert_eq!(text.len(), 26);
            prop_assert_eq!(text.parse(), Ok(key));
            prop_assert_eq!(text.to_lowercase().parse(), Ok(key));
            prop_assert_eq!(Key::from_bytes(key.to_bytes()), key);
        }

        #[test]
        fn any_text_parses_or_is_refused(text in "\\PC*|[0-9A-Za-z-]{20,32}|[0-9a-hj-np-tv-zA-HJ-NP-TV-Z]{26}|-?[0-9-]{24,30}") {
            let digits: String = text
                .chars()
                .filter(|&character| character != '-')
                .map(|character| match character.to_ascii_uppercase() {
                    'O' => '0',
                    'I' | 'L' => '1',
                    other => other,
                })
                .collect();
            match text.parse::<Key>() {
                Ok(key) => prop_assert_eq!(key.to_string(), digits),
                Err(ParseKeyError::BadCharacter { character, position }) => {
                    prop_assert!(text[position..].starts_with(character));
                    prop_assert!(!character.is_ascii_alphanumeric() || character.eq_ignore_ascii_case(&'U'));
                }
                Err(ParseKeyError::WrongLength { found }) => {
                    prop_assert!(found != 26 && found == digits.chars().count());
                }
                Err(ParseKeyError::TooLarge) => prop_assert!(digits.len() == 26 && digits.as_bytes()[0] > b'7'),
            }
        }

        #[test]
        fn a_key_returns_the_parts_it_was_made_of(slot: u16, generation: u32, random: [u8; 10]) {
            let key = Key::new(slot, generation, random);
            prop_assert_eq!((key.slot(), key.generation()), (slot, generation));
            prop_assert_eq!(&key.to_bytes()[..10], &random);
        }

        #[test]
        fn keys_and_their_texts_sort_alike(a: u128, b: u128) {
            let (a, b) = (Key::from_u128(a), Key::from_u128(b));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }
    }
}
