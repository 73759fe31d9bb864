//! What a server says to an operator's command.

use crate::wire::{beginning, take};

/// The longest command, in bytes.
pub(crate) const LONGEST_COMMAND: usize = 4096;

/// The longest text of an answer, in bytes. What is longer is cut.
pub(crate) const LONGEST_TEXT: usize = 8192;

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Obeyed {
    Done(String),
    Failed(String),
    /// Only the server's own user and root may give commands.
    NotPermitted,
    /// The server's program takes none.
    NoCommands,
    /// Too many wait.
    Busy,
}

impl Obeyed {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (code, text) = match self {
            Obeyed::Done(text) => (0, text.as_str()),
            Obeyed::Failed(why) => (1, why.as_str()),
            Obeyed::NotPermitted => (2, ""),
            Obeyed::NoCommands => (3, ""),
            Obeyed::Busy => (4, ""),
        };
        [&[code], beginning(text, LONGEST_TEXT).as_bytes()].concat()
    }

    pub(crate) fn decode(body: &[u8]) -> Option<Obeyed> {
        let ([code], text) = take(body)?;
        let text = str::from_utf8(text).ok()?;
        match (code, text) {
            (0, text) => Some(Obeyed::Done(text.to_owned())),
            (1, why) => Some(Obeyed::Failed(why.to_owned())),
            (2, "") => Some(Obeyed::NotPermitted),
            (3, "") => Some(Obeyed::NoCommands),
            (4, "") => Some(Obeyed::Busy),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn a_long_text_is_cut_between_two_characters() {
        let long = "x".to_owned() + &"\u{fc}".repeat(LONGEST_TEXT);
        let Some(Obeyed::Done(text)) = Obeyed::decode(&Obeyed::Done(long.clone()).encode()) else { panic!() };
        assert!(long.starts_with(&text));
        assert_eq!(text.len(), LONGEST_TEXT - 1);
    }

    proptest! {
        #[test]
        fn any_answer_decodes_to_what_was_encoded(text: String, which in 0..5, noise in vec(any::<u8>(), 0..40)) {
            let obeyed = match which {
                0 => Obeyed::Done(text),
                1 => Obeyed::Failed(text),
                2 => Obeyed::NotPermitted,
                3 => Obeyed::NoCommands,
                _ => Obeyed::Busy,
            };
            prop_assert_eq!(Obeyed::decode(&obeyed.encode()), Some(obeyed));
            if let Some(obeyed) = Obeyed::decode(&noise) {
                prop_assert_eq!(obeyed.encode(), noise);
            }
        }
    }
}
