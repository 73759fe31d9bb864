//! `Address`: a client's key or name, as a user types it.

#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use super::{Key, Name, NameError};

/// A client, given by its [`Key`] or its [`Name`].
///
/// Parsing tries the key first. This is unambiguous: no valid name parses as a key.
///
/// # Examples
///
/// ```
/// use ringpost::{Address, Name};
///
/// assert_eq!("bob".parse(), Ok(Address::Name(Name::try_from("bob")?)));
/// assert!(matches!("0040180G7ZZZZZZZZZZZZZZZZZ".parse(), Ok(Address::Key(_))));
/// # Ok::<(), ringpost::NameError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// The one client that was given this key.
    Key(Key),
    /// The client that is registered under this name now.
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
    fn a_text_that_is_no_key_parses_as_a_name() {
        let key = Key::from_u128(1 << 112 | 7);
        let text = key.to_string();
        assert_eq!(text.parse(), Ok(Address::Key(key)));
        assert_eq!(text.to_lowercase().parse(), Ok(Address::from(key)));
        assert_eq!(text[1..].parse(), Ok(Address::Name(Name::new(&text[1..]).unwrap())));
        assert_eq!("".parse::<Address>(), Err(NameError::Empty));
        assert_eq!(Address::from(key).to_string(), text);
    }

    proptest! {
        /// No text is both a key and a name; one that is neither gets the error for names.
        #[test]
        fn any_text_is_a_key_or_a_name_or_refused(text in "\\PC{0,70}|[0-9A-HJKMNP-TV-Z-]{24,28}|[0-7][0-9A-Z]{25}") {
            let expected = match (text.parse::<Key>(), Name::new(&text)) {
                (Ok(key), Err(NameError::LooksLikeKey)) => Ok(Address::Key(key)),
                // Dashes are ignored in a key, so it may be longer than a name.
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
