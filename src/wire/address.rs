//! Addresses: a key or a name, as people type them.

#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use super::{Key, Name, NameError};

/// A client by its [`Key`] or by its [`Name`].
///
/// A text that parses as a key is a key; no name does, so nothing is ambiguous.
///
/// # Examples
///
/// ```
/// use ringpost::{Address, Name};
///
/// assert_eq!("bob".parse(), Ok(Address::Name(Name::new("bob")?)));
/// assert!(matches!("0040180G7ZZZZZZZZZZZZZZZZZ".parse(), Ok(Address::Key(_))));
/// # Ok::<(), ringpost::NameError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// The client with this key and no other.
    Key(Key),
    /// Whichever client is registered under this name.
    Name(Name),
}

impl FromStr for Address {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Address, NameError> {
        match text.parse() {
            Ok(key) => Ok(Address::Key(key)),
            Err(_) => Name::new(text).map(Address::Name),
        }
    }
}

impl From<Key> for Address {
    fn from(key: Key) -> Address {
        Address::Key(key)
    }
}

impl From<Name> for Address {
    fn from(name: Name) -> Address {
        Address::Name(name)
    }
}

impl From<&Name> for Address {
    fn from(name: &Name) -> Address {
        Address::Name(*name)
    }
}

impl From<&Address> for Address {
    fn from(address: &Address) -> Address {
        *address
    }
}

/// For conversions that cannot fail, where one that can is expected.
impl From<Infallible> for NameError {
    fn from(never: Infallible) -> NameError {
        match never {}
    }
}

impl TryFrom<&str> for Address {
    type Error = NameError;

    fn try_from(text: &str) -> Result<Address, NameError> {
        text.parse()
    }
}

impl TryFrom<&String> for Address {
    type Error = NameError;

    fn try_from(text: &String) -> Result<Address, NameError> {
        text.parse()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Key(key) => key.fmt(f),
            Address::Name(name) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_is_a_key_and_all_else_a_name() {
        let key = Key::from_u128(1 << 112 | 7);
        let text = key.to_string();
        assert_eq!(text.parse(), Ok(Address::Key(key)));
        assert_eq!(text.to_lowercase().parse(), Ok(Address::from(key)));
        assert_eq!(text[1..].parse(), Ok(Address::Name(Name::new(&text[1..]).unwrap())));
        assert_eq!("".parse::<Address>(), Err(NameError::Empty));
        assert_eq!(Address::from(key).to_string(), text);
    }

    proptest! {
        /// Nothing is both, and what is neither says why it is no name.
        #[test]
        fn any_text_is_a_key_or_a_name_or_refused(text in "\\PC{0,70}|[0-9A-HJKMNP-TV-Z-]{24,28}|[0-7][0-9A-Z]{25}") {
            let expected = match (text.parse::<Key>(), Name::new(&text)) {
                (Ok(key), Err(NameError::LooksLikeKey)) => Ok(Address::Key(key)),
                // White space is no part of a key, and a dash is no reason against one.
                (Ok(key), Err(NameError::TooLong { .. })) => Ok(Address::Key(key)),
                (Err(_), Ok(name)) => Ok(Address::Name(name)),
                (Err(_), Err(error)) => Err(error),
                (Ok(_), other) => panic!("both a key and {other:?}"),
            };
            prop_assert_eq!(text.parse(), expected);
            if let Ok(address) = expected {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
        }
    }
}
