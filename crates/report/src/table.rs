//! A plain text table: a header, a rule, rows; columns aligned by display width.

use std::fmt;

use crate::text;

/// On which side a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// For words.
    Left,
    /// For numbers.
    Right,
}

/// Rows of text cells under a header. `Display` writes it, one `\n` after every line.
#[derive(Clone, Debug)]
pub struct Table {
    aligns: Vec<Align>,
    /// The header first.
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows yet.
    pub fn new<const N: usize>(header: [(&str, Align); N]) -> Self {
        Table { aligns: header.map(|(_, align)| align).into(), rows: vec![header.map(|(name, _)| name.into()).into()] }
    }

    /// Adds a row; missing cells stay blank. Characters that act on a terminal are written out (see [`text::plain`]).
    ///
    /// # Panics
    /// When there are more cells than columns.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<_> = cells.into_iter().map(|cell| text::plain(&cell)).collect();
        assert!(cells.len() <= self.aligns.len(), "{} cells in {} columns", cells.len(), self.aligns.len());
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = vec![0; self.aligns.len()];
        for row in &self.rows {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = text::width(cell).max(*widest);
            }
        }
        for (index, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for ((cell, align), widest) in row.iter().zip(&self.aligns).zip(&widths) {
                let blank = " ".repeat(widest - text::width(cell));
                match align {
                    Align::Left => line.extend([cell, &blank, "  "]),
                    Align::Right => line.extend([&blank, cell, "  "]),
                }
            }
            writeln!(f, "{}", line.trim_end())?;
            if index == 0 {
                let rule: Vec<_> = widths.iter().map(|widest| "-".repeat(*widest)).collect();
                writeln!(f, "{}", rule.join("  "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_display_width() {
        let mut table = Table::new([("token", Align::Left), ("L0", Align::Right), ("note", Align::Left)]);
        table.row(["東京".into(), "7".into(), "two columns each".into()]);
        table.row(["is".into(), "1234".into()]);
        table.row(["\x1b[2J\n".into()]);
        let expected = "\
token    L0  note
-----  ----  ----------------
東京      7  two columns each
is     1234
␛[2J↵
";
        assert_eq!(table.to_string(), expected);
    }
}
