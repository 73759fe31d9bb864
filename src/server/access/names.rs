//! `NamePattern`: a client's name in which `*` stands for any characters.

#![forbid(unsafe_code)]

use crate::wire::{Name, NameError};

/// A pattern of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamePattern(Box<str>);

impl NamePattern {
    /// Checks that there can be a name that matches.
    pub(super) fn new(pattern: &str) -> Result<NamePattern, NameError> {
        // A name may not end with a space, for example, but it may before a character.
        Name::new(&pattern.replace('*', "x"))
            .or_else(|error| Name::new(&pattern.replace('*', "")).map_err(|_| error))?;
        Ok(NamePattern(pattern.into()))
    }

    pub(super) fn matches(&self, name: &Name) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.as_str().strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            // The earliest place leaves most for the parts behind.
            let Some((_, behind)) = rest.split_once(part) else { return false };
            rest = behind;
        }
        rest.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(pattern: &[char], name: &[char]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), None) => plain(rest, name),
            (Some(('*', rest)), Some((_, behind))) => plain(rest, name) || plain(pattern, behind),
            (Some((wanted, rest)), Some((found, behind))) => wanted == found && plain(rest, behind),
            _ => false,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn matches_are_those_of_a_plain_matcher(pattern in "[ab*]{1,7}", name in "[ab]{1,9}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            let found = NamePattern::new(&pattern).unwrap().matches(&Name::new(&name).unwrap());
            prop_assert_eq!(found, plain(&chars(&pattern), &chars(&name)));
        }
    }

    #[test]
    fn a_pattern_that_no_name_can_match_is_refused() {
        let long = format!("{}*", "x".repeat(64));
        for good in ["*", "bob", "sensor *", "* 7", "a*b*c", &long] {
            assert!(NamePattern::new(good).is_ok(), "{good:?}");
        }
        let too_long = format!("{}*", "x".repeat(65));
        for bad in ["", " bob", "bob ", "* ", "a\n*", &too_long] {
            assert!(NamePattern::new(bad).is_err(), "{bad:?}");
        }
    }
}
