//! A table for a person: columns side by side where they fit into the terminal, else below each other.

use console::measure_text_width;

use super::terminal::wrapped;

/// Blanks between two columns.
const GAP: usize = 2;

/// On which side the numbers of a column stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// They begin below each other.
    Left,
    /// They end below each other.
    Right,
}

/// A table whose first columns say what a row is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Columns {
    /// The names of the columns.
    pub head: Vec<String>,
    /// As many cells each; one without a word is empty.
    pub rows: Vec<Vec<String>>,
    /// So many columns say what the row is about, and stand on the left; the others have numbers.
    pub keys: usize,
    /// Of the numbers.
    pub side: Side,
    /// Blanks before each line.
    pub indent: usize,
}

impl Columns {
    /// The table as it fits into so many columns of a terminal: whole; else in several tables, each with the first columns and
    /// some of the others; and where not even one of these fits beside them, a number a line below what its row is about. Where
    /// nothing is known of the terminal it is whole.
    pub fn fitted(&self, columns: Option<usize>) -> String {
        let Some(columns) = columns else { return self.aligned(&self.numbers()) };
        let keys = self.indent + self.width(0..self.keys);
        let mut parts: Vec<Vec<usize>> = Vec::new();
        for column in self.numbers() {
            if keys + GAP + self.width([column]) > columns {
                return self.stacked(columns);
            }
            match parts.last_mut() {
                Some(part) if keys + GAP + self.width(part.iter().copied().chain([column])) <= columns => {
                    part.push(column);
                }
                _ => parts.push(vec![column]),
            }
        }
        parts.iter().map(|part| self.aligned(part)).collect::<Vec<_>>().join("\n")
    }

    fn numbers(&self) -> Vec<usize> {
        (self.keys..self.head.len()).collect()
    }

    /// Of some columns beside each other, with the blanks between them.
    fn width(&self, columns: impl IntoIterator<Item = usize>) -> usize {
        let widths: Vec<usize> = columns.into_iter().map(|column| self.widest(column)).collect();
        widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
    }

    fn widest(&self, column: usize) -> usize {
        let cells = std::iter::once(&self.head).chain(&self.rows).filter_map(|row| row.get(column));
        cells.map(|cell| measure_text_width(cell)).max().unwrap_or(0)
    }

    /// The first columns and these, side by side. Where these are not all, rows without any of them are left out.
    fn aligned(&self, numbers: &[usize]) -> String {
        let is_whole = numbers.len() == self.head.len() - self.keys;
        let has_numbers = |row: &&Vec<String>| is_whole || numbers.iter().any(|column| !row[*column].is_empty());
        let columns: Vec<usize> = (0..self.keys).chain(numbers.iter().copied()).collect();
        let line = |row: &Vec<String>| {
            let mut line = " ".repeat(self.indent);
            for column in &columns {
                let blanks = " ".repeat(self.widest(*column) - measure_text_width(&row[*column]));
                line += &match self.side {
                    Side::Right if *column >= self.keys => blanks + &row[*column],
                    _ => row[*column].clone() + &blanks,
                };
                line += &" ".repeat(GAP);
            }
            line.trim_end().to_owned() + "\n"
        };
        std::iter::once(&self.head).chain(self.rows.iter().filter(has_numbers)).map(line).collect()
    }

    /// What each row is about, and below it a line for each of its numbers; the first line says what the rows are about.
    fn stacked(&self, columns: usize) -> String {
        let indent = " ".repeat(self.indent);
        let name = self.head[self.keys..].iter().map(|name| measure_text_width(name)).max().unwrap_or(0);
        let about = |row: &[String]| {
            let words: Vec<&str> =
                row[..self.keys].iter().map(String::as_str).filter(|cell| !cell.is_empty()).collect();
            wrapped(&format!("{indent}{}\n", words.join(", ")), Some(columns), self.indent)
        };
        let mut text = about(&self.head);
        for row in &self.rows {
            let numbers = self.numbers().into_iter().filter(|column| !row[*column].is_empty());
            let lines: Vec<String> = numbers
                .map(|column| {
                    let blanks = " ".repeat(name - measure_text_width(&self.head[column]) + GAP);
                    let line = format!("{indent}  {}{blanks}{}\n", self.head[column], row[column]);
                    wrapped(&line, Some(columns), self.indent + 2 + name + GAP)
                })
                .collect();
            if !lines.is_empty() {
                text += &about(row);
                text += &lines.concat();
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Columns {
        let words = |row: &[&str]| row.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        Columns {
            head: words(&["arm", "T", "mass", "f8"]),
            rows: vec![
                words(&["base", "0.5", "0.9", ""]),
                words(&["kind=nll", "1", "0.8 ±0.1", "0.5 ±0.1 (+0.1 ±0.05)"]),
            ],
            keys: 2,
            side: Side::Left,
            indent: 0,
        }
    }

    #[test]
    fn a_table_stands_whole_where_it_fits() {
        let whole = "arm       T    mass      f8\nbase      0.5  0.9\nkind=nll  1    0.8 ±0.1  0.5 ±0.1 (+0.1 ±0.05)\n";
        for columns in [None, Some(200), Some(46)] {
            assert_eq!(table().fitted(columns), whole, "{columns:?}");
        }
    }

    #[test]
    fn columns_that_do_not_fit_are_a_table_of_their_own() {
        let parts = "arm       T    mass\nbase      0.5  0.9\nkind=nll  1    0.8 ±0.1\n\n\
                     arm       T    f8\nkind=nll  1    0.5 ±0.1 (+0.1 ±0.05)\n";
        for columns in [45, 36] {
            assert_eq!(table().fitted(Some(columns)), parts, "{columns}");
        }
    }

    #[test]
    fn where_one_column_is_too_much_each_number_has_a_line() {
        let stacked = "arm, T\nbase, 0.5\n  mass  0.9\nkind=nll, 1\n  mass  0.8 ±0.1\n  f8    0.5 ±0.1 (+0.1 ±0.05)\n";
        assert_eq!(table().fitted(Some(35)), stacked);
        let narrow = table().fitted(Some(28));
        assert!(narrow.ends_with("  f8    0.5 ±0.1 (+0.1\n        ±0.05)\n"), "{narrow}");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_no_number_is_lost() {
        let table = Columns { indent: 2, side: Side::Right, ..table() };
        for columns in 24..80 {
            let text = table.fitted(Some(columns));
            let widest = text.lines().map(measure_text_width).max().unwrap_or(0);
            assert!(widest <= columns, "{columns}: {widest}\n{text}");
            for cell in ["0.9", "0.8", "(+0.1", "±0.05)"] {
                assert!(text.contains(cell), "{columns}: {cell} is missing\n{text}");
            }
        }
        let whole = "  arm       T        mass                     f8\n  base      0.5       0.9\n";
        assert!(table.fitted(None).starts_with(whole), "{}", table.fitted(None));
    }
}
