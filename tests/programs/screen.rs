//! A simple terminal emulator with the functions that the line editor uses. It records unknown sequences, so
//! that a test can fail.

/// The rows of a terminal that scrolls for ever.
pub struct Screen {
    rows: Vec<Vec<char>>,
    row: usize,
    column: usize,
    /// The bytes of an incomplete character or escape sequence.
    pending: Vec<u8>,
    pub unknown: Vec<String>,
}

impl Screen {
    pub fn new() -> Screen {
        Screen { rows: vec![Vec::new()], row: 0, column: 0, pending: Vec::new(), unknown: Vec::new() }
    }

    /// The whole text, without spaces at the ends of lines.
    pub fn text(&self) -> String {
        let rows: Vec<String> = (0..self.rows.len()).map(|row| self.line(row)).collect();
        rows.join("\n")
    }

    fn line(&self, row: usize) -> String {
        self.rows[row].iter().collect::<String>().trim_end().to_owned()
    }

    /// The row of the cursor.
    pub fn current(&self) -> String {
        self.line(self.row)
    }

    /// Whether this is a row above the cursor.
    pub fn shows_above(&self, line: &str) -> bool {
        (0..self.row).any(|row| self.line(row) == line)
    }

    pub fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.pending.push(byte);
            if self.pending[0] == 0x1b {
                self.escape();
            } else if let Ok(text) = std::str::from_utf8(&self.pending) {
                let character = text.chars().next().unwrap();
                self.pending.clear();
                self.put(character);
            }
        }
    }

    fn put(&mut self, character: char) {
        match character {
            '\r' => self.column = 0,
            '\n' => self.move_to(self.row + 1, self.column),
            '\x08' => self.column = self.column.saturating_sub(1),
            '\x07' => {}
            '\t' => self.column = (self.column / 8 + 1) * 8,
            character if character.is_control() => self.unknown.push(format!("{character:?}")),
            character => {
                let row = &mut self.rows[self.row];
                row.resize(row.len().max(self.column + 1), ' ');
                row[self.column] = character;
                self.column += 1;
            }
        }
    }

    fn move_to(&mut self, row: usize, column: usize) {
        (self.row, self.column) = (row, column);
        self.rows.resize_with(self.rows.len().max(row + 1), Vec::new);
    }

    /// ESC [ PARAMETERS LETTER.
    fn escape(&mut self) {
        let sequence = &self.pending[1..];
        let complete = match sequence {
            [] | [b'['] => return,
            [b'[', .., last] => (0x40..=0x7e).contains(last),
            _ => true,
        };
        if !complete {
            return;
        }
        let text = String::from_utf8_lossy(sequence).into_owned();
        self.pending.clear();
        let number = |text: &str| text.parse::<usize>().unwrap_or(1);
        let parameters = text.get(1..text.len() - 1).unwrap_or_default();
        match text.as_bytes() {
            [b'[', .., b'A'] => self.row = self.row.saturating_sub(number(parameters)),
            [b'[', .., b'B'] => self.move_to(self.row + number(parameters), self.column),
            [b'[', .., b'C'] => self.column += number(parameters),
            [b'[', .., b'D'] => self.column = self.column.saturating_sub(number(parameters)),
            [b'[', b'K'] => self.rows[self.row].truncate(self.column),
            // Bracketed paste.
            b"[?2004h" | b"[?2004l" => {}
            _ => self.unknown.push(text),
        }
    }
}

#[test]
fn a_screen_shows_what_a_terminal_does() {
    let mut screen = Screen::new();
    screen.write(b"> half\r\x1b[Kabove\r\n> h\xc3\xa9lf\x1b[2D?\x1b[A!\x1b[B");
    assert_eq!(screen.text(), "above!\n> h\u{e9}?f");
    assert_eq!(screen.current(), "> h\u{e9}?f");
    assert!(screen.shows_above("above!") && screen.unknown.is_empty());
    screen.write(b"\x1b[31mred");
    assert_eq!(screen.unknown, ["[31m"]);
}
