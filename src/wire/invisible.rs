//! Finds characters that are invisible or misleading, and therefore refused in names.
//!
//! The ranges are Unicode's `Default_Ignorable_Code_Point` and `Bidi_Control`, private use, noncharacters,
//! and a few characters that look blank although no property says so. White space is as in the standard
//! library. All ranges were compared with the tables of Unicode 17 (`icu_properties` 2.4), character by
//! character. The only difference: the three annotation marks (U+FFF9 to U+FFFB) count as ignorable here.

#![forbid(unsafe_code)]

/// Letters and symbols that look blank.
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

/// White space except the plain space, and characters that look blank.
pub(super) fn is_blank(character: char) -> bool {
    (character.is_whitespace() && character != ' ') || is_filler(character)
}

/// Characters that change the direction of the text around them.
pub(crate) fn changes_direction(character: char) -> bool {
    matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Private-use characters, whose meaning anyone may choose, and noncharacters.
pub(super) fn is_private(character: char) -> bool {
    let code = u32::from(character);
    matches!(code, 0xe000..=0xf8ff | 0xf_0000..=0x10_ffff | 0xfdd0..=0xfdef) || code & 0xfffe == 0xfffe
}

/// Characters that are not displayed, or that only modify their neighbours.
pub(crate) fn is_ignorable(character: char) -> bool {
    matches!(u32::from(character),
        0xad | 0x34f | 0x61c | 0x115f..=0x1160 | 0x17b4..=0x17b5 | 0x180b..=0x180f | 0x200b..=0x200f | 0x202a..=0x202e
        | 0x2060..=0x206f | 0x3164 | 0xfe00..=0xfe0f | 0xfeff | 0xffa0 | 0xfff0..=0xfffb | 0x1bca0..=0x1bca3
        | 0x1d173..=0x1d17a | 0xe0000..=0xe0fff)
}

/// Why this character cannot be part of a name, as a phrase for the error; `None` if it can.
pub(super) fn why_refused(character: char, at_an_end: bool) -> Option<&'static str> {
    if is_blank(character) {
        Some("blanks other than the plain space")
    } else if changes_direction(character) {
        Some("characters that change the direction of text")
    } else if is_private(character) {
        Some("private-use characters or noncharacters")
    } else if at_an_end && is_ignorable(character) {
        Some("invisible characters at either end")
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

    /// Compares the number of characters with that of Unicode 17, so that no range changes by accident.
    #[test]
    fn the_ranges_are_those_of_unicode() {
        assert_eq!(
            count(is_ignorable),
            4174 + 3,
            "Default_Ignorable_Code_Point, and the marks for annotations"
        );
        assert_eq!(count(changes_direction), 12, "Bidi_Control");
        assert_eq!(count(is_private), 137_468 + 66, "private use, and noncharacters");
        assert_eq!(count(char::is_whitespace), 25, "White_Space");
    }
}
