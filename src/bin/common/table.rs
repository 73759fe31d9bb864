//! Formats a text table: the first column left-aligned, the others right-aligned.

/// Rows of cells. The first row has the headings.
pub struct Table(Vec<Vec<String>>);

impl Table {
    /// Makes a table with these headings, separated by `|`.
    pub fn new(headings: &str) -> Table {
        Table(vec![headings.split('|').map(|heading| heading.trim().to_string()).collect()])
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0.push(cells.into_iter().collect());
    }

    /// The table as text, one line for each row.
    pub fn text(&self) -> String {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.0
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.0 {
            let mut line = String::new();
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                if column == 0 {
                    line.push_str(&format!("{cell:<width$}"));
                } else {
                    line.push_str(&format!("  {cell:>width$}"));
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new("| p50 | ratio");
        table.row(["call".into(), "1.20 µs".into(), "1.1".into()]);
        assert_eq!(table.text(), "          p50  ratio\ncall  1.20 µs    1.1\n");
    }
}
