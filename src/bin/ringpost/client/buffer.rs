//! The text of the line that is typed, and the place of the cursor in it.

use unicode_segmentation::UnicodeSegmentation;

/// How many earlier states can be brought back.
const MOST_UNDOS: usize = 200;

/// A text, and a cursor between two of its characters.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Text {
    text: String,
    /// In bytes.
    cursor: usize,
}

/// A text that can be edited.
#[derive(Debug, Default)]
pub struct Buffer {
    now: Text,
    /// The states before the last changes.
    before: Vec<Text>,
    /// What was cut last.
    cut: String,
    last: Last,
}

/// The last change, with which an equal one is joined.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Last {
    #[default]
    Other,
    /// A character was typed.
    Typed,
    /// Something was cut.
    Cut,
}

/// Where to, seen from the cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    Left,
    Right,
    WordLeft,
    WordRight,
    /// As far as the last white space.
    SpaceLeft,
    Start,
    End,
}

impl Text {
    /// With the cursor at the end.
    pub fn new(text: &str) -> Text {
        Text { text: text.to_owned(), cursor: text.len() }
    }

    /// With the cursor at this byte.
    pub fn at(text: &str, cursor: usize) -> Text {
        Text { text: text.to_owned(), cursor }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The cursor's place, in bytes.
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// The place of `to`, in bytes.
    fn place(&self, to: To) -> usize {
        let (before, after) = self.text.split_at(self.cursor);
        let letter = |c: &char| c.is_alphanumeric();
        let skip = |text: &str, skipped: fn(&char) -> bool| {
            text.chars().rev().take_while(skipped).map(char::len_utf8).sum::<usize>()
        };
        match to {
            To::Left => self.cursor - before.graphemes(true).next_back().map_or(0, str::len),
            To::Right => self.cursor + after.graphemes(true).next().map_or(0, str::len),
            To::WordLeft => {
                let end = before.trim_end_matches(|c: char| !letter(&c));
                end.trim_end_matches(|c: char| letter(&c)).len()
            }
            To::WordRight => {
                let begin = after.trim_start_matches(|c: char| !letter(&c));
                self.text.len() - begin.trim_start_matches(|c: char| letter(&c)).len()
            }
            To::SpaceLeft => {
                let end = before.trim_end();
                end.len() - skip(end, |c| !c.is_whitespace())
            }
            To::Start => 0,
            To::End => self.text.len(),
        }
    }
}

impl Buffer {
    pub fn text(&self) -> &Text {
        &self.now
    }

    pub fn is_empty(&self) -> bool {
        self.now.text.is_empty()
    }

    /// Takes the text away, and leaves an empty one that has no past.
    pub fn take(&mut self) -> String {
        self.before.clear();
        self.last = Last::Other;
        std::mem::take(&mut self.now).text
    }

    pub fn replace(&mut self, text: Text) {
        self.change(Last::Other);
        self.now = text;
    }

    /// Notes the state before a change. Characters that are typed one after the other are one change.
    fn change(&mut self, kind: Last) {
        if kind != Last::Typed || self.last != Last::Typed {
            if self.before.len() == MOST_UNDOS {
                self.before.remove(0);
            }
            self.before.push(self.now.clone());
        }
        self.last = kind;
    }

    pub fn undo(&mut self) -> bool {
        self.last = Last::Other;
        let before = self.before.pop();
        before.map(|before| self.now = before).is_some()
    }

    /// Inserts a character that was typed.
    pub fn type_in(&mut self, character: char) {
        self.change(if character == ' ' { Last::Other } else { Last::Typed });
        self.now.text.insert(self.now.cursor, character);
        self.now.cursor += character.len_utf8();
    }

    pub fn insert(&mut self, text: &str) {
        self.change(Last::Other);
        self.now.text.insert_str(self.now.cursor, text);
        self.now.cursor += text.len();
    }

    /// Moves the cursor. Returns false if it is there already.
    pub fn go(&mut self, to: To) -> bool {
        self.last = Last::Other;
        let place = self.now.place(to);
        std::mem::replace(&mut self.now.cursor, place) != place
    }

    /// Removes what is between the cursor and `to`.
    pub fn remove(&mut self, to: To) -> bool {
        self.take_out(to, Last::Other).is_some()
    }

    /// Removes what is between the cursor and `to`, so that it can be inserted again.
    pub fn cut(&mut self, to: To) -> bool {
        let more = self.last == Last::Cut;
        let Some(removed) = self.take_out(to, Last::Cut) else { return false };
        match (more, matches!(to, To::Left | To::WordLeft | To::SpaceLeft | To::Start)) {
            (false, _) => self.cut = removed,
            (true, true) => self.cut.insert_str(0, &removed),
            (true, false) => self.cut.push_str(&removed),
        }
        true
    }

    fn take_out(&mut self, to: To, kind: Last) -> Option<String> {
        let place = self.now.place(to);
        let (from, until) = (place.min(self.now.cursor), place.max(self.now.cursor));
        if from == until {
            return None;
        }
        self.change(kind);
        self.now.cursor = from;
        Some(self.now.text.drain(from..until).collect())
    }

    /// Inserts what was cut last.
    pub fn paste(&mut self) -> bool {
        let cut = self.cut.clone();
        if !cut.is_empty() {
            self.insert(&cut);
        }
        !cut.is_empty()
    }

    /// Takes away the whole text, which can be inserted again.
    pub fn cancel(&mut self) {
        self.cut = self.take();
    }

    /// Exchanges the characters before and behind the cursor, at the end the last two.
    pub fn transpose(&mut self) -> bool {
        let text = &self.now;
        let middle = if text.cursor == text.text.len() { text.place(To::Left) } else { text.cursor };
        let around = Text { text: text.text.clone(), cursor: middle };
        let (from, until) = (around.place(To::Left), around.place(To::Right));
        if from == middle || until == middle {
            return false;
        }
        let exchanged = format!("{}{}", &around.text[middle..until], &around.text[from..middle]);
        self.change(Last::Other);
        self.now.text.replace_range(from..until, &exchanged);
        self.now.cursor = until;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text, with a bar for the cursor.
    fn shown(buffer: &Buffer) -> String {
        let (before, after) = buffer.now.text.split_at(buffer.now.cursor);
        format!("{before}|{after}")
    }

    fn buffer(text: &str) -> Buffer {
        let mut buffer = Buffer::default();
        text.chars().for_each(|character| buffer.type_in(character));
        buffer
    }

    #[test]
    fn the_cursor_moves_by_what_a_person_sees_as_characters() {
        // An e with an accent of its own, and a flag of two letters.
        let mut line = buffer("e\u{301}\u{1f1e9}\u{1f1ea}z");
        for place in [11, 3, 0] {
            assert!(line.go(To::Left));
            assert_eq!(line.text().cursor(), place);
        }
        assert!(!line.go(To::Left));
        assert!(line.go(To::Right) && line.remove(To::Right));
        assert_eq!(shown(&line), "e\u{301}|z");
        assert!(line.remove(To::Left));
        assert_eq!(shown(&line), "|z");
        assert!(line.go(To::End) && !line.remove(To::Right));
    }

    #[test]
    fn words_end_where_letters_do() {
        let mut line = buffer("bob, my-text  ");
        for wanted in ["bob, my-|text  ", "bob, |my-text  ", "|bob, my-text  "] {
            assert!(line.go(To::WordLeft));
            assert_eq!(shown(&line), wanted);
        }
        for wanted in ["bob|, my-text  ", "bob, my|-text  ", "bob, my-text|  ", "bob, my-text  |"] {
            assert!(line.go(To::WordRight));
            assert_eq!(shown(&line), wanted);
        }
        assert!(line.cut(To::SpaceLeft));
        assert_eq!(shown(&line), "bob, |");
    }

    #[test]
    fn what_was_cut_can_be_inserted_and_undone() {
        let mut line = buffer("one two three");
        assert!(line.cut(To::WordLeft) && line.cut(To::WordLeft));
        assert_eq!(shown(&line), "one |");
        assert!(line.go(To::Start) && line.paste());
        assert_eq!(shown(&line), "two three|one ");
        assert!(line.undo());
        assert_eq!(shown(&line), "|one ");
        assert!(line.undo() && line.undo());
        assert_eq!(shown(&line), "one two three|");
        line.cancel();
        assert!(!line.undo() && line.paste());
        assert_eq!(shown(&line), "one two three|");
    }

    #[test]
    fn two_characters_change_places() {
        let mut line = buffer("abc");
        assert!(line.transpose());
        assert_eq!(shown(&line), "acb|");
        assert!(line.go(To::Left) && line.go(To::Left) && line.transpose());
        assert_eq!(shown(&line), "ca|b");
        assert!(line.go(To::Start) && !line.transpose());
    }
}
