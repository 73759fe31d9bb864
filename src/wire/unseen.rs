//! Characters that a reader does not see, or not for what they are.
//!
//! The ranges are those of Unicode's properties `Default_Ignorable_Code_Point` and `Bidi_Control`, of the
//! categories for private use and of the noncharacters, and of a few characters that show nothing though no
//! property says so. White space is what the standard library says. All were compared, character by
//! character, with the tables of Unicode 17 (`icu_properties` 2.4); only the three marks for annotations
//! (U+FFF9 to U+FFFB) are ignorable here and not there.

#![forbid(unsafe_code)]

/// Deliveries and symbols that show nothing.
pub(crate) fn is_filler(character: char) -> bool {
    matches!(
        character,
        '\u{115f}'
            | '\u{1160}'
            | '\u{17b4}'
            | '\u{17b5}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{ffa0}'
            | '\u{1d159}'
    )
}

/// White space but for the plain space, and what looks like it.
pub(super) fn is_blank(character: char) -> bool {
    (character.is_whitespace() && character != ' ') || is_filler(character)
}

/// Whether it changes the direction of the text around it.
pub(crate) fn turns(character: char) -> bool {
    matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Characters to which everyone may give a meaning of their own, and those that will never have one.
pub(super) fn is_private(character: char) -> bool {
    let code = u32::from(character);
    matches!(code, 0xe000..=0xf8ff | 0xf_0000..=0x10_ffff | 0xfdd0..=0xfdef) || code & 0xfffe == 0xfffe
}

/// Characters that are left out of what is shown, or only change what is beside them.
pub(crate) fn is_ignorable(character: char) -> bool {
    matches!(u32::from(character),
        0xad | 0x34f | 0x61c | 0x115f..=0x1160 | 0x17b4..=0x17b5 | 0x180b..=0x180f | 0x200b..=0x200f | 0x202a..=0x202e
        | 0x2060..=0x206f | 0x3164 | 0xfe00..=0xfe0f | 0xfeff | 0xffa0 | 0xfff0..=0xfffb | 0x1bca0..=0x1bca3
        | 0x1d173..=0x1d17a | 0xe0000..=0xe0fff)
}

/// What of this character does not fit into a name, in words.
pub(super) fn unfit(character: char, at_an_end: bool) -> Option<&'static str> {
    if is_blank(character) {
        Some("blanks but the plain space")
    } else if turns(character) {
        Some("characters that turn the text around")
    } else if is_private(character) {
        Some("private characters")
    } else if at_an_end && is_ignorable(character) {
        Some("invisible characters at its ends")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(is_one: fn(char) -> bool) -> usize {
        (char::MIN..=char::MAX).filter(|character| is_one(*character)).count()
    }

    /// As many as Unicode 17 has, so that no range is changed by accident.
    #[test]
    fn the_ranges_are_those_of_unicode() {
        assert_eq!(
            count(is_ignorable),
            4174 + 3,
            "Default_Ignorable_Code_Point, and the marks for annotations"
        );
        assert_eq!(count(turns), 12, "Bidi_Control");
        assert_eq!(count(is_private), 137_468 + 66, "private use, and noncharacters");
        assert_eq!(count(char::is_whitespace), 25, "White_Space");
    }
}
