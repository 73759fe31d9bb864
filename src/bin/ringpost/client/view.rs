//! What is drawn at the bottom of the terminal: the prompt, the line that is typed, and the cursor.
//!
//! Each row is ended by a line break of its own and leaves the last column free. So a terminal that gets
//! wider never joins rows, and the cursor's place is known. A terminal that gets narrower may cut rows off or
//! fold them; which one it does, the column of its cursor says.

use std::fmt::Write;

use ringpost::cli::out;
use unicode_width::UnicodeWidthStr;

/// Asks the terminal where its cursor is.
pub const WHERE: &str = "\x1b[6n";

/// The size of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub columns: usize,
    pub rows: usize,
}

/// What the terminal shows now.
#[derive(Debug, Default)]
pub struct View {
    /// The widths of the rows, in columns.
    widths: Vec<usize>,
    /// The cursor's place. The first row is that of the prompt.
    row: usize,
    column: usize,
    /// The terminal's columns when this was drawn.
    columns: usize,
    /// Whether the terminal folds rows that become too long; `None` if that is not known yet.
    folds: Option<bool>,
    /// The columns of a terminal that was asked for its cursor.
    asked: Option<usize>,
}

impl View {
    /// Forgets what was drawn: the cursor is at the beginning of an empty row.
    pub fn forget(&mut self) {
        *self = View { folds: self.folds, ..View::default() };
    }

    /// Removes what was drawn, on a terminal that has so many columns now.
    pub fn erase(&mut self, columns: usize) -> String {
        self.resized(columns);
        let text = if self.widths.is_empty() { String::new() } else { format!("{}\x1b[J", self.first()) };
        self.forget();
        text
    }

    /// To the beginning of the first row.
    fn first(&self) -> String {
        format!("{}\r", up(self.row))
    }

    /// Draws the line in place of what was drawn before. The cursor stands between `before` and `after`.
    pub fn draw(&mut self, prompt: &str, before: &str, after: &str, size: Size) -> String {
        let rows = Rows::new(prompt, before, after, size.columns);
        // More rows than the terminal has cannot be drawn over.
        let start = (rows.row + 1).saturating_sub(size.rows.max(1));
        let end = rows.rows.len().min(start + size.rows.max(1));
        self.resized(size.columns);
        let mut text = self.first();
        for (at, row) in rows.rows[start..end].iter().enumerate() {
            text.push_str(if at == 0 { "" } else { "\x1b[K\r\n" });
            text.push_str(&row.text);
        }
        text.push_str("\x1b[J");
        text.push_str(&up(end - 1 - rows.row));
        text.push('\r');
        if rows.column > 0 {
            let _ = write!(text, "\x1b[{}C", rows.column);
        }
        *self = View {
            widths: rows.rows[start..end].iter().map(|row| row.width).collect(),
            row: rows.row - start,
            column: rows.column,
            columns: size.columns,
            folds: self.folds,
            asked: None,
        };
        text
    }

    /// The terminal has so many columns now. Returns whether its cursor's column must be asked for before
    /// the line is drawn again.
    pub fn resized(&mut self, columns: usize) -> bool {
        let (row, column) = self.folded(columns);
        let same = self.widths.is_empty() || columns == self.columns;
        if same || (row, column) == (self.row, self.cut(columns)) {
            return false;
        }
        if self.folds.is_none() && column != self.cut(columns) {
            self.asked = Some(columns);
            return true;
        }
        // If it is not known, and the cursor does not tell, rows of the line may stay in view, but nothing
        // else is erased.
        if self.folds == Some(true) {
            self.row = row;
        }
        self.columns = columns;
        false
    }

    /// Whether the terminal's answer is awaited.
    pub fn asks(&self) -> bool {
        self.asked.is_some()
    }

    /// The terminal's answer. Returns whether it was asked.
    pub fn answered(&mut self, column: usize) -> bool {
        let Some(columns) = self.asked.take() else { return false };
        self.columns = columns;
        let folded = self.folded(columns);
        if column == folded.1 {
            self.row = folded.0;
            self.folds = Some(true);
        } else if column == self.cut(columns) {
            self.folds = Some(false);
        }
        true
    }

    /// Where the cursor is if the terminal has folded the rows.
    fn folded(&self, columns: usize) -> (usize, usize) {
        let columns = columns.max(1);
        let above = self.widths.iter().take(self.row).map(|width| width.div_ceil(columns).max(1));
        (above.sum::<usize>() + self.column / columns, self.column % columns)
    }

    /// In which column the cursor is if the terminal has cut the rows off.
    fn cut(&self, columns: usize) -> usize {
        self.column.min(columns.max(1) - 1)
    }
}

fn up(rows: usize) -> String {
    if rows == 0 { String::new() } else { format!("\x1b[{rows}A") }
}

#[derive(Debug, Default)]
struct Row {
    text: String,
    width: usize,
}

/// A line, divided into rows.
struct Rows {
    rows: Vec<Row>,
    row: usize,
    column: usize,
    most: usize,
}

impl Rows {
    fn new(prompt: &str, before: &str, after: &str, columns: usize) -> Rows {
        let mut rows =
            Rows { rows: vec![Row::default()], row: 0, column: 0, most: columns.saturating_sub(1).max(1) };
        let mut letters = [0; 4];
        for character in prompt.chars().chain(before.chars()) {
            rows.put(&out::readable(character.encode_utf8(&mut letters).as_bytes()));
        }
        for (at, character) in after.chars().enumerate() {
            let shown = out::readable(character.encode_utf8(&mut letters).as_bytes());
            let width = rows.put(&shown);
            if at == 0 {
                (rows.row, rows.column) = (rows.rows.len() - 1, rows.rows[rows.rows.len() - 1].width - width);
            }
        }
        if after.is_empty() {
            (rows.row, rows.column) = (rows.rows.len() - 1, rows.rows[rows.rows.len() - 1].width);
        }
        rows
    }

    /// Adds a character, which may be shown as several. Returns its width.
    fn put(&mut self, shown: &str) -> usize {
        let width = shown.width().min(self.most);
        if self.rows[self.rows.len() - 1].width + width > self.most {
            self.rows.push(Row::default());
        }
        let last = self.rows.len() - 1;
        self.rows[last].text.push_str(shown);
        self.rows[last].width += width;
        width
    }
}

/// Puts texts side by side in columns of one width, ordered downwards. Shows as many as fit into the rows,
/// and says how many do not.
pub fn in_columns(texts: &[String], size: Size) -> String {
    let width = texts.iter().map(|text| text.width()).max().unwrap_or(0) + 2;
    let across = (size.columns.saturating_sub(1) / width).max(1);
    let most = size.rows.saturating_sub(2).max(1);
    let down = texts.len().div_ceil(across);
    let mut lines = String::new();
    for row in 0..down.min(most) {
        let mut line = String::new();
        for text in texts.iter().skip(row).step_by(down) {
            line.push_str(text);
            line.push_str(&" ".repeat(width - text.width()));
        }
        lines.push_str(line.trim_end());
        lines.push('\n');
    }
    if down > most {
        let _ = writeln!(lines, "… and more, {} in all", texts.len());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(prompt: &str, before: &str, after: &str, columns: usize) -> (Vec<String>, usize, usize) {
        let rows = Rows::new(prompt, before, after, columns);
        (rows.rows.into_iter().map(|row| row.text).collect(), rows.row, rows.column)
    }

    #[test]
    fn rows_leave_the_last_column_free_and_no_character_is_divided() {
        let all = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        assert_eq!(rows("> ", "abc", "", 6), (all(&["> abc"]), 0, 5));
        assert_eq!(rows("> ", "abc", "def", 6), (all(&["> abc", "def"]), 1, 0));
        assert_eq!(rows("> ", "a", "\u{4e2d}\u{4e2d}", 6), (all(&["> a\u{4e2d}", "\u{4e2d}"]), 0, 3));
        assert_eq!(rows("> ", "ab", "\u{4e2d}", 6), (all(&["> ab", "\u{4e2d}"]), 1, 0));
        assert_eq!(rows("> ", "a\tb", "", 5), (all(&["> a", "\\tb"]), 1, 3));
        assert_eq!(rows("> ", "e\u{301}", "", 9), (all(&["> e\u{301}"]), 0, 3));
        assert_eq!(
            rows("", "\u{4e2d}", "", 1).0.len(),
            1,
            "too wide for the terminal, and shown all the same"
        );
    }

    #[test]
    fn a_line_with_more_rows_than_the_terminal_is_shown_around_the_cursor() {
        let (mut view, size) = (View::default(), Size { columns: 5, rows: 2 });
        let text = view.draw("", "aaaabbbbcccc", "dddd", size);
        assert_eq!(text, "\rcccc\x1b[K\r\ndddd\x1b[J\r");
        assert_eq!(view.erase(5), "\x1b[1A\r\x1b[J");
        assert_eq!(view.erase(5), "", "there is nothing left");
    }

    #[test]
    fn the_cursor_tells_whether_the_terminal_folds_rows() {
        let wide = Size { columns: 20, rows: 9 };
        for (column, row) in [(2, 1), (9, 0)] {
            let mut view = View::default();
            view.draw("> ", "0123456789", "", wide);
            assert!(!view.resized(30) && !view.resized(13), "nothing was folded");
            assert!(view.resized(10));
            assert!(view.answered(column));
            assert_eq!(view.row, row);
            assert!(!view.answered(column), "it was not asked again");
            // From now on it is known.
            view.forget();
            view.draw("> ", "0123456789", "", wide);
            assert!(!view.resized(10));
            assert_eq!(view.row, row);
        }
    }

    #[test]
    fn texts_stand_in_columns_that_fit() {
        let texts = ["a", "bb", "c", "d", "e"].map(str::to_owned);
        let size = |columns, rows| Size { columns, rows };
        assert_eq!(in_columns(&texts, size(13, 24)), "a   c   e\nbb  d\n");
        assert_eq!(in_columns(&texts, size(1, 4)), "a\nbb\n… and more, 5 in all\n");
    }
}
