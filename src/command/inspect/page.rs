//! The text of what is inspected: named lines and tables.

/// Names listed one by one.
const NAMED: usize = 8;

/// Text as it is written from top to bottom.
#[derive(Default)]
pub(super) struct Page(String);

impl Page {
    pub(super) fn text(self) -> String {
        self.0
    }

    /// A line `text` with its name before it.
    pub(super) fn line(&mut self, name: &str, text: impl AsRef<str>) {
        self.0 += &format!("{name:<12} {}\n", in_one_line(text.as_ref()));
    }

    /// A line for each of `texts`, the name before the first.
    pub(super) fn lines(&mut self, name: &str, texts: impl IntoIterator<Item = String>) {
        for (index, text) in texts.into_iter().enumerate() {
            self.line(if index == 0 { name } else { "" }, text);
        }
    }

    /// A line with the parts in a row; none where there are no parts.
    pub(super) fn list(&mut self, name: &str, parts: &[String]) {
        if !parts.is_empty() {
            self.line(name, parts.join(", "));
        }
    }

    pub(super) fn blank(&mut self) {
        self.0.push('\n');
    }

    /// Columns of text under their heads, after a blank line: the first to the left and the others to the right.
    pub(super) fn table(&mut self, heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
        let heads = heads.iter().map(|head| (*head).to_owned()).collect();
        let in_lines = |row: Vec<String>| row.iter().map(|cell| in_one_line(cell)).collect::<Vec<_>>();
        let rows: Vec<Vec<String>> = [heads].into_iter().chain(rows).map(in_lines).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
        self.blank();
        for row in &rows {
            self.0 += &format!("{:<width$}", row[0], width = widths[0]);
            for (cell, width) in row.iter().zip(&widths).skip(1) {
                self.0 += &format!("  {cell:>width$}");
            }
            self.blank();
        }
    }
}

/// What a file holds as it may be printed within a line.
fn in_one_line(text: &str) -> String {
    faults::visible(text).replace('\n', "\\n").replace('\t', "\\t")
}

/// Names, the first of them one by one.
pub(super) fn named(names: &[String]) -> String {
    match names.len() {
        0 => "none".into(),
        1..=NAMED => names.join(", "),
        more => format!("{} and {} more", names[..NAMED].join(", "), more - NAMED),
    }
}

pub(super) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        1e-3..1e6 => format!("{value:.4}"),
        _ => format!("{value:.3e}"),
    }
}
