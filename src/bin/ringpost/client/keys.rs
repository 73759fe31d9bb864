//! Turns the bytes that a terminal sends into keys.

/// What was pressed or pasted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    Char(char),
    /// With the letter in lower case.
    Ctrl(char),
    Alt(char),
    Enter,
    Tab,
    Backspace,
    AltBackspace,
    Delete,
    Left,
    Right,
    WordLeft,
    WordRight,
    Up,
    Down,
    Home,
    End,
    PageUp,
    PageDown,
    /// Shift and Tab.
    BackTab,
    Escape,
    /// The text between the marks of a bracketed paste.
    Paste(String),
    /// The terminal's answer to the question where the cursor is: its column, from 0.
    Column(usize),
    /// A key without a meaning here, or bytes that are no text.
    Unknown,
}

const ESC: u8 = 0x1b;

const PASTE_BEGINS: &[u8] = b"\x1b[200~";

const PASTE_ENDS: &[u8] = b"\x1b[201~";

/// No key has a longer sequence.
const LONGEST: usize = 32;

/// Collects bytes until they are a key.
#[derive(Default)]
pub struct Decoder {
    pending: Vec<u8>,
    pasting: bool,
}

impl Decoder {
    /// Takes a byte. Returns the key that it completes.
    pub fn feed(&mut self, byte: u8) -> Option<Key> {
        self.pending.push(byte);
        if self.pasting {
            return self.pending.ends_with(PASTE_ENDS).then(|| {
                self.pending.truncate(self.pending.len() - PASTE_ENDS.len());
                self.pasted()
            });
        }
        let key = decode(&self.pending)?;
        self.pasting = self.pending == PASTE_BEGINS;
        self.pending.clear();
        (!self.pasting).then_some(key)
    }

    /// Whether more bytes are expected, and whether those of a pasted text.
    pub fn expects(&self) -> Option<Expected> {
        match (self.pasting, self.pending.is_empty()) {
            (true, _) => Some(Expected::Paste),
            (false, false) => Some(Expected::Key),
            (false, true) => None,
        }
    }

    /// The key that the bytes are if no more come: Escape itself, or a pasted text whose end was lost.
    pub fn flush(&mut self) -> Option<Key> {
        if self.pasting {
            return Some(self.pasted());
        }
        let pending = std::mem::take(&mut self.pending);
        match pending[..] {
            [] => None,
            [ESC] => Some(Key::Escape),
            _ => Some(Key::Unknown),
        }
    }

    fn pasted(&mut self) -> Key {
        self.pasting = false;
        let bytes = std::mem::take(&mut self.pending);
        Key::Paste(String::from_utf8_lossy(&bytes).replace("\r\n", "\n").replace('\r', "\n"))
    }
}

/// What a decoder waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    Key,
    Paste,
}

/// The key that these bytes are; `None` if they are only its beginning.
fn decode(bytes: &[u8]) -> Option<Key> {
    match bytes {
        [] | [ESC] | [ESC, b'[' | b'O'] => None,
        [ESC, b'[', b'[', ..] if bytes.len() < 4 => None,
        [ESC, b'[', middle @ .., last] if middle.first() != Some(&b'[') => match last {
            0x40..=0x7e => Some(sequence(middle, *last)),
            0x20..=0x3f if bytes.len() < LONGEST => None,
            _ => Some(Key::Unknown),
        },
        [ESC, b'O', last] => Some(sequence(b"", *last)),
        [ESC, b'[', ..] => Some(Key::Unknown),
        [ESC, 0x7f | 0x08] => Some(Key::AltBackspace),
        // The second one may begin another key, but nobody presses Escape before an arrow key.
        [ESC, ESC] => Some(Key::Escape),
        [ESC, rest @ ..] => match character(rest)? {
            Key::Char(letter) => Some(Key::Alt(letter.to_ascii_lowercase())),
            _ => Some(Key::Unknown),
        },
        _ => character(bytes),
    }
}

/// One that is no escape sequence.
fn character(bytes: &[u8]) -> Option<Key> {
    match bytes {
        [b'\r' | b'\n'] => Some(Key::Enter),
        [b'\t'] => Some(Key::Tab),
        [0x08 | 0x7f] => Some(Key::Backspace),
        [control @ 1..=26] => Some(Key::Ctrl(char::from(control - 1 + b'a'))),
        [control @ 0..=31] => Some(Key::Ctrl(char::from(control + b'@'))),
        _ => match std::str::from_utf8(bytes) {
            Ok(text) => text.chars().next().map(Key::Char),
            Err(error) if error.error_len().is_none() => None,
            Err(_) => Some(Key::Unknown),
        },
    }
}

/// ESC [ PARAMETERS LAST, or ESC O LAST.
fn sequence(parameters: &[u8], last: u8) -> Key {
    let mut numbers = parameters.split(|&byte| byte == b';').map(|number| {
        std::str::from_utf8(number).ok().and_then(|number| number.parse::<usize>().ok()).unwrap_or(1)
    });
    let (first, second) = (numbers.next().unwrap_or(1), numbers.next());
    // With Alt, Ctrl, or both.
    let far = matches!(second, Some(3 | 5 | 7));
    match (last, first) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'C', _) if far => Key::WordRight,
        (b'D', _) if far => Key::WordLeft,
        (b'C', _) => Key::Right,
        (b'D', _) => Key::Left,
        (b'H', _) | (b'~', 1 | 7) => Key::Home,
        (b'F', _) | (b'~', 4 | 8) => Key::End,
        (b'~', 3) => Key::Delete,
        (b'~', 5) => Key::PageUp,
        (b'~', 6) => Key::PageDown,
        (b'Z', _) => Key::BackTab,
        (b'R', _) => second.map_or(Key::Unknown, |column| Key::Column(column.saturating_sub(1))),
        _ => Key::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut decoder = Decoder::default();
        let mut keys: Vec<Key> = bytes.iter().filter_map(|&byte| decoder.feed(byte)).collect();
        keys.extend(decoder.flush());
        assert_eq!(decoder.expects(), None);
        keys
    }

    #[test]
    fn letters_controls_and_sequences_are_keys() {
        let text = "h\u{e9}\u{1f600}";
        assert_eq!(keys(text.as_bytes()), text.chars().map(Key::Char).collect::<Vec<_>>());
        for (bytes, key) in [
            (&b"\r"[..], Key::Enter),
            (b"\x03", Key::Ctrl('c')),
            (b"\x1f", Key::Ctrl('_')),
            (b"\x7f", Key::Backspace),
            (b"\x1bf", Key::Alt('f')),
            (b"\x1bF", Key::Alt('f')),
            (b"\x1b\x7f", Key::AltBackspace),
            (b"\x1b", Key::Escape),
            (b"\x1b[A", Key::Up),
            (b"\x1bOA", Key::Up),
            (b"\x1b[1;5C", Key::WordRight),
            (b"\x1b[1;3D", Key::WordLeft),
            (b"\x1b[3~", Key::Delete),
            (b"\x1b[1~", Key::Home),
            (b"\x1bOF", Key::End),
            (b"\x1b[5~", Key::PageUp),
            (b"\x1b[6~", Key::PageDown),
            (b"\x1b[Z", Key::BackTab),
            (b"\x1b[17;80R", Key::Column(79)),
            (b"\x1b[24~", Key::Unknown),
            (b"\x1b[[A", Key::Unknown),
            (b"\x1b[12", Key::Unknown),
            (b"\xc3", Key::Unknown),
        ] {
            assert_eq!(keys(bytes), [key], "{bytes:?}");
        }
        assert_eq!(keys(b"\xffa\x1b[Bb"), [Key::Unknown, Key::Char('a'), Key::Down, Key::Char('b')]);
    }

    #[test]
    fn a_pasted_text_is_one_key_whatever_it_contains() {
        let pasted = |text: &str| Key::Paste(text.into());
        assert_eq!(keys(b"\x1b[200~a\r\nb\rc\x1b[201~d"), [pasted("a\nb\nc"), Key::Char('d')]);
        assert_eq!(keys(b"\x1b[200~\x03\x1b[A\x04\x1b[201~"), [pasted("\x03\x1b[A\x04")]);
        assert_eq!(keys(b"\x1b[200~end lost"), [pasted("end lost")]);
        assert_eq!(keys(b"\x1b[201~"), [Key::Unknown], "an end without a beginning");
    }

    #[test]
    fn a_sequence_without_an_end_does_not_swallow_what_follows() {
        let mut bytes = b"\x1b[".to_vec();
        bytes.extend([b'1'; 100]);
        assert!(keys(&bytes).contains(&Key::Char('1')));
    }
}
