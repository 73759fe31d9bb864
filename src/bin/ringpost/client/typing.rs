//! The line that a person types: what each key does to it. Knows nothing of the terminal.

use super::buffer::{Buffer, Text, To};
use super::history::{History, Search};
use super::keys::Key;

/// The keys that a terminal's settings name, as letters pressed with Ctrl.
#[derive(Debug, Default, Clone, Copy)]
pub struct Special {
    pub interrupt: Option<char>,
    pub quit: Option<char>,
    pub end: Option<char>,
    pub stop: Option<char>,
}

/// What has to be done about a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// The line has to be drawn.
    Changed,
    /// The key does nothing here.
    Nothing,
    /// The screen has to be cleared.
    Clear,
    /// These lines are finished.
    Lines(Vec<String>),
    /// This line was cancelled.
    Cancelled(String),
    /// There was no line to cancel.
    Interrupt,
    /// There will be no more lines.
    End,
}

/// The line, and what it needs.
#[derive(Debug, Default)]
pub struct Typing {
    buffer: Buffer,
    history: History,
    search: Option<Search>,
    /// The next key is inserted, whatever it is.
    quoting: bool,
}

/// What is shown.
pub struct Shown<'a> {
    /// In place of the usual prompt.
    pub prompt: Option<String>,
    pub line: &'a str,
    /// In bytes.
    pub cursor: usize,
}

impl Typing {
    pub fn shown(&self) -> Shown<'_> {
        match &self.search {
            Some(search) => {
                let (line, cursor) = search.line(&self.history);
                Shown { prompt: Some(search.prompt()), line, cursor }
            }
            None => {
                let text = self.buffer.text();
                Shown { prompt: None, line: text.as_str(), cursor: text.cursor() }
            }
        }
    }

    /// Keeps a finished line for later.
    pub fn remember(&mut self, line: &str) {
        self.history.add(line);
    }

    /// Whether the next key is inserted, whatever it is.
    pub fn is_quoting(&self) -> bool {
        self.quoting
    }

    /// Ends a search with the line that was found.
    pub fn end_search(&mut self) {
        if let Some(search) = self.search.take() {
            let (line, cursor) = search.line(&self.history);
            self.buffer.replace(Text::at(line, cursor));
        }
    }

    /// Puts what was completed in place of the word that begins at `start` and ends at the cursor.
    pub fn complete(&mut self, start: usize, word: &str) {
        let text = self.buffer.text();
        let (line, end) = (text.as_str(), text.cursor());
        let before = format!("{}{word}", &line[..start]);
        self.buffer.replace(Text::at(&format!("{before}{}", &line[end..]), before.len()));
    }

    /// Inserts a pasted text. With `lines`, each line end in it finishes a line.
    pub fn paste(&mut self, pasted: &str, lines: bool) -> Effect {
        self.end_search();
        let Some((first, last)) = pasted.rsplit_once('\n').filter(|_| lines) else {
            self.buffer.insert(&pasted.replace('\n', " "));
            return Effect::Changed;
        };
        let text = self.buffer.text();
        let (before, after) = text.as_str().split_at(text.cursor());
        let rest = Text::at(&format!("{last}{after}"), last.len());
        let finished = format!("{before}{first}").split('\n').map(str::to_owned).collect();
        self.buffer.take();
        self.buffer.replace(rest);
        Effect::Lines(finished)
    }

    /// Does what a key means.
    pub fn press(&mut self, key: Key, special: Special) -> Effect {
        if std::mem::take(&mut self.quoting) {
            return self.quote(&key);
        }
        if self.search.is_some() {
            if let Some(effect) = self.press_in_search(&key, special) {
                return effect;
            }
            self.end_search();
        }
        match key {
            Key::Char(character) => {
                self.buffer.type_in(character);
                Effect::Changed
            }
            Key::Enter => self.finish(),
            Key::Ctrl(letter) => self.control(letter, special),
            Key::Alt(letter) => self.alt(letter),
            Key::Backspace => moved(self.buffer.remove(To::Left)),
            Key::AltBackspace => moved(self.buffer.cut(To::WordLeft)),
            Key::Delete => moved(self.buffer.remove(To::Right)),
            Key::Left => moved(self.buffer.go(To::Left)),
            Key::Right => moved(self.buffer.go(To::Right)),
            Key::WordLeft => moved(self.buffer.go(To::WordLeft)),
            Key::WordRight => moved(self.buffer.go(To::WordRight)),
            Key::Home => self.go(To::Start),
            Key::End => self.go(To::End),
            Key::Up => self.recall(History::older),
            Key::Down => self.recall(|history, _| history.newer()),
            // It has ended a search.
            Key::Escape => Effect::Changed,
            Key::Tab | Key::BackTab | Key::PageUp | Key::PageDown => Effect::Nothing,
            Key::Paste(_) | Key::Column(_) | Key::Unknown => Effect::Nothing,
        }
    }

    fn control(&mut self, letter: char, special: Special) -> Effect {
        let is = |named: Option<char>| named == Some(letter);
        if is(special.interrupt) || is(special.quit) {
            return self.cancel();
        }
        if is(special.end) && self.buffer.is_empty() {
            return Effect::End;
        }
        match letter {
            'a' => self.go(To::Start),
            'b' => moved(self.buffer.go(To::Left)),
            'd' => moved(self.buffer.remove(To::Right)),
            'e' => self.go(To::End),
            'f' => moved(self.buffer.go(To::Right)),
            'k' => moved(self.buffer.cut(To::End)),
            'l' => Effect::Clear,
            'n' => self.recall(|history, _| history.newer()),
            'p' => self.recall(History::older),
            'q' | 'v' => {
                self.quoting = true;
                Effect::Changed
            }
            'r' | 's' => {
                self.search = Some(Search::new(self.buffer.text().clone()));
                Effect::Changed
            }
            't' => moved(self.buffer.transpose()),
            'u' => moved(self.buffer.cut(To::Start)),
            'w' => moved(self.buffer.cut(To::SpaceLeft)),
            'y' => moved(self.buffer.paste()),
            '_' => moved(self.buffer.undo()),
            _ => Effect::Nothing,
        }
    }

    fn alt(&mut self, letter: char) -> Effect {
        match letter {
            'b' => moved(self.buffer.go(To::WordLeft)),
            'f' => moved(self.buffer.go(To::WordRight)),
            'd' => moved(self.buffer.cut(To::WordRight)),
            '<' => self.recall(History::oldest),
            '>' => self.recall(|history, _| history.newest()),
            _ => Effect::Nothing,
        }
    }

    /// What a key does to the search; `None` if it ends the search and is then a key like any other.
    fn press_in_search(&mut self, key: &Key, special: Special) -> Option<Effect> {
        let search = self.search.as_mut()?;
        match key {
            Key::Char(character) => search.add(*character, &self.history),
            Key::Backspace => search.shorten(&self.history),
            Key::Ctrl('r') => search.older(&self.history),
            Key::Ctrl('s') => search.newer(&self.history),
            Key::Ctrl(letter) if *letter == 'g' || special.interrupt == Some(*letter) => {
                let before = self.search.take()?.into_before();
                self.buffer.replace(before);
            }
            _ => return None,
        }
        Some(Effect::Changed)
    }

    fn quote(&mut self, key: &Key) -> Effect {
        let character = match key {
            Key::Char(character) => *character,
            Key::Ctrl(letter) => char::from(*letter as u8 & 0x1f),
            Key::Tab => '\t',
            Key::Enter => '\n',
            Key::Escape => '\x1b',
            _ => return Effect::Nothing,
        };
        self.end_search();
        self.buffer.insert(character.encode_utf8(&mut [0; 4]));
        Effect::Changed
    }

    fn finish(&mut self) -> Effect {
        Effect::Lines(vec![self.buffer.take()])
    }

    fn cancel(&mut self) -> Effect {
        if self.buffer.is_empty() {
            return Effect::Interrupt;
        }
        let line = self.buffer.text().as_str().to_owned();
        self.buffer.cancel();
        self.history.newest();
        Effect::Cancelled(line)
    }

    /// Moves the cursor without a complaint if it is there already.
    fn go(&mut self, to: To) -> Effect {
        self.buffer.go(to);
        Effect::Changed
    }

    fn recall(&mut self, which: impl FnOnce(&mut History, &Text) -> Option<Text>) -> Effect {
        let Some(line) = which(&mut self.history, self.buffer.text()) else { return Effect::Nothing };
        self.buffer.replace(line);
        Effect::Changed
    }
}

fn moved(done: bool) -> Effect {
    if done { Effect::Changed } else { Effect::Nothing }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECIAL: Special =
        Special { interrupt: Some('c'), quit: Some('\\'), end: Some('d'), stop: Some('z') };

    /// Presses letters, and other keys that stand between them.
    fn press(typing: &mut Typing, text: &str) {
        for letter in text.chars() {
            let key = match letter {
                '\r' => Key::Enter,
                '\x08' => Key::Backspace,
                '\x01'..='\x1a' => Key::Ctrl(char::from(letter as u8 - 1 + b'a')),
                letter => Key::Char(letter),
            };
            if let Effect::Lines(lines) = typing.press(key, SPECIAL) {
                lines.iter().for_each(|line| typing.remember(line));
            }
        }
    }

    fn line(typing: &Typing) -> String {
        let Shown { prompt, line, cursor } = typing.shown();
        format!("{}{}|{}", prompt.unwrap_or_default(), &line[..cursor], &line[cursor..])
    }

    #[test]
    fn an_interrupt_cancels_the_search_then_the_line_and_then_the_program() {
        let mut typing = Typing::default();
        press(&mut typing, "one\rtwo\rhalf\x12on");
        assert_eq!(line(&typing), "(search) on: |one");
        assert_eq!(typing.press(Key::Ctrl('c'), SPECIAL), Effect::Changed);
        assert_eq!(line(&typing), "half|");
        assert_eq!(typing.press(Key::Ctrl('d'), SPECIAL), Effect::Nothing, "there is a line");
        assert_eq!(typing.press(Key::Ctrl('c'), SPECIAL), Effect::Cancelled("half".into()));
        assert_eq!(typing.press(Key::Ctrl('c'), SPECIAL), Effect::Interrupt);
        assert_eq!(typing.press(Key::Ctrl('d'), SPECIAL), Effect::End);
        press(&mut typing, "\x19");
        assert_eq!(line(&typing), "half|", "what was cancelled can be had back");
    }

    #[test]
    fn a_search_ends_with_the_line_found_or_the_one_before() {
        let mut typing = Typing::default();
        press(&mut typing, "bob one\rbob two\rha\x12bob\x12");
        assert_eq!(line(&typing), "(search) bob: |bob one");
        assert_eq!(typing.press(Key::End, SPECIAL), Effect::Changed);
        assert_eq!(line(&typing), "bob one|");
        press(&mut typing, "\x15\x12two");
        assert_eq!(typing.press(Key::Enter, SPECIAL), Effect::Lines(vec!["bob two".into()]));
        press(&mut typing, "ha\x12bob\x07");
        assert_eq!(line(&typing), "ha|");
    }

    #[test]
    fn a_pasted_block_is_lines_and_its_rest_stays() {
        let mut typing = Typing::default();
        press(&mut typing, "bob xz");
        typing.press(Key::Left, SPECIAL);
        let finished = |lines: &[&str]| Effect::Lines(lines.iter().map(|&line| line.into()).collect());
        assert_eq!(typing.paste("1\nbob 2\n\nbob 3", true), finished(&["bob x1", "bob 2", ""]));
        assert_eq!(line(&typing), "bob 3|z");
        assert_eq!(typing.paste("a\n", true), finished(&["bob 3a"]));
        assert_eq!(line(&typing), "|z");
        assert_eq!(typing.paste("a\nb", false), Effect::Changed);
        assert_eq!(line(&typing), "a b|z");
        // One text without a line end can be undone.
        assert_eq!(typing.press(Key::Ctrl('_'), SPECIAL), Effect::Changed);
        assert_eq!(line(&typing), "|z");
    }

    #[test]
    fn a_quoted_key_is_inserted_as_it_is() {
        let mut typing = Typing::default();
        press(&mut typing, "a\x16\x03");
        assert_eq!(typing.press(Key::Ctrl('v'), SPECIAL), Effect::Changed);
        assert!(typing.is_quoting());
        assert_eq!(typing.press(Key::Tab, SPECIAL), Effect::Changed);
        assert_eq!(line(&typing), "a\x03\t|");
    }
}
