//! Keys: the address of a registered client.

#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

/// Crockford's base 32: digits and upper-case letters without I, L, O and U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// 26 characters of 5 bits are 130 bits: the first character carries only 3.
const CHARACTERS: usize = 26;

const RANDOM_BITS: u32 = 80;
const GENERATION_BITS: u32 = 32;

/// A client's address on the bus, given to it at registration.
///
/// A key is 128 bits: the registry slot (16), that slot's generation (32) and a random part (80). All of them
/// are compared, so the key of a client that has gone never reaches whoever comes after it. A key is not a
/// secret.
///
/// It is printed as 26 characters of Crockford's base 32. Parsing ignores case and dashes, and reads `O` as
/// `0` and `I` and `L` as `1`, so that a key survives being read aloud.
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
    /// The key of one registration in a slot.
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

    /// How often the slot had been given out.
    pub(crate) const fn generation(self) -> u32 {
        (self.0 >> RANDOM_BITS) as u32
    }

    /// The key as a number, the slot in its highest bits.
    pub(crate) const fn to_u128(self) -> u128 {
        self.0
    }

    /// The key that is this number. Every number is a key, though hardly one that was given out.
    pub(crate) const fn from_u128(number: u128) -> Key {
        Key(number)
    }

    /// The key as it stands in blocks: 16 bytes, little-endian.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(ringpost::Key::from_u128(7).to_bytes()[0], 7);
    /// ```
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    /// The key that stands in these 16 bytes, little-endian. For a program that keeps keys in its own
    /// messages.
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
        // The alphabet is ASCII, so the fallback is never taken.
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
    /// A character that no key contains.
    #[error(
        "a key has no character {character:?} (byte {position}); it is made of the digits and letters without U"
    )]
    BadCharacter {
        /// The character.
        character: char,
        /// Where it starts, in bytes.
        position: usize,
    },
    /// Too few or too many characters, dashes not counted.
    #[error("a key has 26 characters besides dashes, not {found}; copy the whole key")]
    WrongLength {
        /// How many there are.
        found: usize,
    },
    /// 26 good characters that stand for more than 128 bits.
    #[error("a key begins with a digit from 0 to 7, this text exceeds 128 bits; copy the key again")]
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
    fn the_parts_lie_where_the_design_puts_them() {
        let key = Key::new(0xabcd, 0x1234_5678, [0xff; 10]);
        assert_eq!(key.to_u128(), 0xabcd_1234_5678_ffff_ffff_ffff_ffff_ffff);
        assert_eq!(key.slot(), 0xabcd);
        assert_eq!(key.generation(), 0x1234_5678);
        assert_eq!(Key::new(0, 0, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]).to_bytes()[0], 1);
    }

    #[test]
    fn the_ends_of_the_range_are_printed_and_read() {
        assert_eq!(Key::from_u128(0).to_string(), "0".repeat(26));
        assert_eq!(Key::from_u128(u128::MAX).to_string(), LARGEST);
        assert_eq!(LARGEST.parse(), Ok(Key::from_u128(u128::MAX)));
        assert_eq!(format!("{:?}", Key::from_u128(31)), format!("Key({}Z)", "0".repeat(25)));
        assert_eq!(format!("{:>28}", Key::from_u128(0)), format!("  {}", "0".repeat(26)));
    }

    #[test]
    fn case_dashes_and_look_alikes_are_ignored() {
        let plain: Key = "01110ABCDEFGHJKMNPQRSTVWXY".parse().unwrap();
        assert_eq!("oILi0abcdefghjkmnpqrstvwxy".parse(), Ok(plain));
        assert_eq!("-0-1110-ABCDEFGHJKM--NPQRSTVWXY-".parse(), Ok(plain));
    }

    #[test]
    fn what_is_no_key_is_refused_and_says_why() {
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
        fn what_is_printed_is_read(number: u128) {
            let key = Key::from_u128(number);
            let text = key.to_string();
            prop_assert_eq!(text.len(), 26);
            prop_assert_eq!(text.parse(), Ok(key));
            prop_assert_eq!(text.to_lowercase().parse(), Ok(key));
            prop_assert_eq!(Key::from_bytes(key.to_bytes()), key);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*|[0-9A-Za-z-]{20,32}|[0-9a-hj-np-tv-zA-HJ-NP-TV-Z]{26}|-?[0-9-]{24,30}") {
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
        fn the_parts_read_back(slot: u16, generation: u32, random: [u8; 10]) {
            let key = Key::new(slot, generation, random);
            prop_assert_eq!((key.slot(), key.generation()), (slot, generation));
            prop_assert_eq!(&key.to_bytes()[..10], &random);
        }

        #[test]
        fn text_order_is_key_order(a: u128, b: u128) {
            let (a, b) = (Key::from_u128(a), Key::from_u128(b));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }
    }
}
