//! A simple terminal emulator with the functions that the line editor uses, and with those of programs that
//! use the whole screen. It records unknown sequences, so that a test can fail.

/// The rows of a terminal that scrolls for ever.
pub struct Screen {
    rows: Vec<Row>,
    row: usize,
    column: usize,
    columns: usize,
    /// The bytes of an incomplete character or escape sequence.
    pending: Vec<u8>,
    pub unknown: Vec<String>,
    /// What the terminal answers to a question.
    pub answers: Vec<u8>,
    /// How often it has rung.
    pub bells: usize,
    /// Whether the program uses the whole screen. If not, the sequences for that are unknown.
    pub whole: bool,
    /// What was shown before the program took the whole screen, and where the cursor was.
    before: Option<(Vec<Row>, usize, usize)>,
    /// Whether the cursor is hidden.
    pub hidden: bool,
    /// Whether anything was coloured.
    pub coloured: bool,
}

#[derive(Default, Clone)]
struct Row {
    letters: Vec<char>,
    /// Whether the terminal itself went on in the next row.
    folded: bool,
}

/// What a terminal does to rows when it becomes narrower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Narrow {
    /// As most do.
    Folds,
    /// As xterm does.
    Cuts,
}

impl Screen {
    pub fn new(columns: usize) -> Screen {
        let (pending, unknown, answers) = (Vec::new(), Vec::new(), Vec::new());
        let (rows, before) = (vec![Row::default()], None);
        let (whole, hidden, coloured) = (false, false, false);
        Screen {
            rows,
            row: 0,
            column: 0,
            columns,
            pending,
            unknown,
            answers,
            bells: 0,
            whole,
            before,
            hidden,
            coloured,
        }
    }

    /// Whether a program has taken the whole screen.
    pub fn is_taken(&self) -> bool {
        self.before.is_some()
    }

    /// The whole text, without spaces at the ends of lines. What the terminal folded is one line.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            text.extend(&row.letters);
            if !row.folded && number + 1 < self.rows.len() {
                text.truncate(text.trim_end_matches(' ').len());
                text.push('\n');
            }
        }
        text.trim_end_matches(' ').to_owned()
    }

    fn line(&self, row: usize) -> String {
        self.rows[row].letters.iter().collect::<String>().trim_end().to_owned()
    }

    /// The row of the cursor.
    pub fn current(&self) -> String {
        self.line(self.row)
    }

    /// Whether this is a row above the cursor, with or without the time before it.
    pub fn shows_above(&self, line: &str) -> bool {
        (0..self.row).any(|row| self.line(row) == line || without_time(&self.line(row)) == line)
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

    /// Gives the terminal another width.
    pub fn resize(&mut self, columns: usize, narrow: Narrow) {
        self.columns = columns;
        if narrow == Narrow::Cuts {
            self.rows.iter_mut().for_each(|row| row.letters.truncate(columns));
            self.column = self.column.min(columns - 1);
            return;
        }
        let mut cursor = (0, 0);
        let mut rows = Vec::<Row>::new();
        let mut begun = 0;
        for (number, row) in std::mem::take(&mut self.rows).into_iter().enumerate() {
            let joined = number > 0 && rows.last().is_some_and(|row| row.folded);
            let mut letters: Vec<char> = if joined {
                rows.split_off(begun).into_iter().flat_map(|row| row.letters).collect()
            } else {
                Vec::new()
            };
            begun = rows.len();
            if number == self.row {
                let at = letters.len() + self.column;
                cursor = (begun + at / columns, at % columns);
            }
            letters.extend(row.letters);
            let mut parts: Vec<Row> =
                letters.chunks(columns).map(|part| Row { letters: part.to_vec(), folded: true }).collect();
            if parts.is_empty() {
                parts.push(Row::default());
            }
            parts.last_mut().unwrap().folded = row.folded;
            rows.append(&mut parts);
        }
        self.rows = rows;
        self.move_to(cursor.0, cursor.1);
    }

    fn put(&mut self, character: char) {
        match character {
            '\r' => self.column = 0,
            '\n' => {
                self.rows[self.row].folded = false;
                self.move_to(self.row + 1, self.column);
            }
            '\x08' => self.column = self.column.saturating_sub(1),
            '\x07' => self.bells += 1,
            '\t' => self.column = (self.column / 8 + 1) * 8,
            character if character.is_control() => self.unknown.push(format!("{character:?}")),
            character => {
                if self.column >= self.columns {
                    self.rows[self.row].folded = true;
                    self.move_to(self.row + 1, 0);
                }
                let letters = &mut self.rows[self.row].letters;
                letters.resize(letters.len().max(self.column + 1), ' ');
                letters[self.column] = character;
                self.column += 1;
            }
        }
    }

    fn move_to(&mut self, row: usize, column: usize) {
        (self.row, self.column) = (row, column);
        self.rows.resize_with(self.rows.len().max(row + 1), Row::default);
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
            [b'[', .., b'C'] => self.column = (self.column + number(parameters)).min(self.columns - 1),
            [b'[', .., b'D'] => self.column = self.column.saturating_sub(number(parameters)),
            [b'[', b'K'] => {
                self.rows[self.row].letters.truncate(self.column);
                self.rows[self.row].folded = false;
            }
            // From the cursor to the end of the screen.
            [b'[', b'J'] => {
                self.rows.truncate(self.row + 1);
                self.rows[self.row].letters.truncate(self.column);
                self.rows[self.row].folded = false;
            }
            b"[2J" => self.rows.iter_mut().for_each(|row| *row = Row::default()),
            b"[H" => (self.row, self.column) = (0, 0),
            // Where is the cursor?
            b"[6n" => {
                let column = self.column.min(self.columns - 1) + 1;
                self.answers.extend(format!("\x1b[1;{column}R").into_bytes());
            }
            // Bracketed paste.
            b"[?2004h" | b"[?2004l" => {}
            sequence if self.whole => {
                if !self.whole_screen(sequence) {
                    self.unknown.push(text);
                }
            }
            _ => self.unknown.push(text),
        }
    }
}

impl Screen {
    /// What programs do that use the whole screen. Returns false for what is unknown.
    fn whole_screen(&mut self, sequence: &[u8]) -> bool {
        let text = std::str::from_utf8(sequence).unwrap_or_default();
        match sequence {
            b"[?1049h" => {
                if self.before.is_none() {
                    let rows = std::mem::replace(&mut self.rows, vec![Row::default()]);
                    self.before = Some((rows, self.row, self.column));
                }
            }
            b"[?1049l" => {
                if let Some(before) = self.before.take() {
                    (self.rows, self.row, self.column) = before;
                }
            }
            b"[?25l" => self.hidden = true,
            b"[?25h" => self.hidden = false,
            [b'[', .., b'H'] => {
                let place = text[1..text.len() - 1].split_once(';');
                let Some((Ok(row), Ok(column))) =
                    place.map(|(row, column)| (row.parse::<usize>(), column.parse::<usize>()))
                else {
                    return false;
                };
                self.move_to(row - 1, column - 1);
            }
            // Colours are 30 to 49 and 90 to 107, of which 39 and 49 are the usual ones.
            [b'[', .., b'm'] => {
                let first = text[1..text.len() - 1].split(';').next().unwrap_or_default();
                self.coloured |= matches!(first.parse(), Ok(30..=38 | 40..=48 | 90..=107));
            }
            _ => return false,
        }
        true
    }
}

/// A row without the time that a person sees before what has arrived.
pub fn without_time(row: &str) -> &str {
    let is_time = |time: &str| {
        time.len() == 8
            && time.bytes().enumerate().all(|(at, byte)| match at {
                2 | 5 => byte == b':',
                _ => byte.is_ascii_digit(),
            })
    };
    row.split_once(' ').filter(|(time, _)| is_time(time)).map_or(row, |(_, rest)| rest)
}

#[test]
fn a_screen_shows_what_a_terminal_does() {
    let mut screen = Screen::new(80);
    screen.write(b"> half\r\x1b[Kabove\r\n> h\xc3\xa9lf\x1b[2D?\x1b[A!\x1b[B");
    assert_eq!(screen.text(), "above!\n> h\u{e9}?f");
    assert_eq!(screen.current(), "> h\u{e9}?f");
    assert!(screen.shows_above("above!") && screen.unknown.is_empty());
    screen.write(b"\x1b[31mred\x1b[6n");
    assert_eq!(screen.unknown, ["[31m"]);
    assert_eq!(screen.answers, b"\x1b[1;10R");
    screen.write(b"\r\x1b[A\x1b[J12:34:56 now");
    assert_eq!(screen.text(), "12:34:56 now");
    screen.write(b"\r\n");
    assert!(screen.shows_above("now") && !screen.shows_above("34:56 now"));
}

#[test]
fn a_program_that_takes_the_whole_screen_gives_it_back() {
    let mut screen = Screen::new(80);
    screen.write(b"before");
    screen.whole = true;
    screen.write(b"\x1b[?1049h\x1b[?25l\x1b[2;3H\x1b[1mtwo\x1b[0;39m\x1b[1;1Hone");
    assert!(screen.is_taken() && screen.hidden && !screen.coloured);
    assert_eq!(screen.text(), "one\n  two");
    screen.write(b"\x1b[38;5;14mthree\x1b[?1049l\x1b[?25h");
    assert!(!screen.is_taken() && !screen.hidden && screen.coloured);
    assert_eq!((screen.text(), screen.current()), ("before".into(), "before".into()));
    assert!(screen.unknown.is_empty());
    screen.write(b"\x1b[5q");
    assert_eq!(screen.unknown, ["[5q"]);
}

#[test]
fn a_narrower_screen_folds_rows_or_cuts_them() {
    for (narrow, rows, wide) in [
        (Narrow::Folds, ["0123", "4567", "ab", "x"], "01234567"),
        (Narrow::Cuts, ["0123", "ab", "x", ""], "0123"),
    ] {
        let mut screen = Screen::new(10);
        screen.write(b"01234567\r\nab\r\nx");
        screen.resize(4, narrow);
        let shown: Vec<String> = (0..screen.rows.len()).map(|row| screen.line(row)).collect();
        assert_eq!(shown.join(" "), rows.join(" ").trim());
        assert_eq!((screen.current(), screen.column), ("x".into(), 1));
        screen.resize(20, narrow);
        assert_eq!(screen.text(), format!("{wide}\nab\nx"));
        screen.write(b"yz");
        assert_eq!(screen.current(), "xyz");
    }
    // What the terminal folded itself is joined, too.
    let mut screen = Screen::new(4);
    screen.write(b"abcdef");
    assert_eq!((screen.text(), screen.current()), ("abcdef".into(), "ef".into()));
    screen.resize(5, Narrow::Folds);
    assert_eq!((screen.current(), screen.column), ("f".into(), 1));
}
