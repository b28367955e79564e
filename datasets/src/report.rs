//! What a data set holds, for the plan and for people: totals, what was left out, how long the rows are.

use std::fmt;

use faults::counted;
use serde::Serialize;

use crate::draft::Example;
use crate::lines::{At, place};
use crate::notices::{Notice, Oddity};
use crate::unread;
use crate::way::Way;

/// Bars of the histogram of lengths.
const BARS: usize = 10;

/// Dropped rows that are printed one by one.
const PRINTED: usize = 20;

/// Totals of a data set.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// Each file with its format.
    pub files: Vec<FileReport>,
    /// Rows read.
    pub rows: usize,
    /// Examples made of them; a row with several answers makes several.
    pub examples: usize,
    /// Tokens of all examples.
    pub tokens: usize,
    /// Tokens that are learned.
    pub learned_tokens: usize,
    /// Examples whose end was cut off.
    pub truncated: usize,
    /// Examples left out, with the reason.
    pub dropped: Vec<Dropped>,
    /// What is odd about rows and yet allowed, each with how many rows have it.
    pub notices: Vec<Notice>,
    /// Columns, and fields of messages (`messages[].name`), that nothing reads, with the rows that have them.
    pub unread: Vec<Unread>,
    /// Names of `data.ignore` that no row has.
    pub unmet: Vec<String>,
    /// Tokens of the shortest example.
    pub shortest: usize,
    /// Tokens of the longest example.
    pub longest: usize,
    /// How many examples have how many tokens.
    pub lengths: Vec<Bar>,
    /// Where what notices name is written.
    #[serde(skip)]
    pub(crate) way: Way,
}

/// One file of a data set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FileReport {
    /// The file.
    pub file: String,
    /// What evaluations call the entry of the recipe that it belongs to.
    pub source: String,
    /// The row shape it was read as.
    pub format: String,
    /// Its rows.
    pub rows: usize,
    /// How often each of them is learned in an epoch.
    pub weight: f64,
}

/// A column or a field that nothing reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unread {
    /// Its name.
    pub name: String,
    /// Rows that have it.
    pub rows: usize,
}

/// An example that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// The file it stands in.
    pub file: String,
    /// The line; the first is 1.
    pub line: usize,
    /// Of a file that is one list, the element; the first is 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub element: Option<usize>,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", place(&self.file, self.line, self.element), self.reason)
    }
}

/// The number of examples with `from..=to` tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bar {
    /// The fewest tokens.
    pub from: usize,
    /// The most tokens.
    pub to: usize,
    /// Examples.
    pub examples: usize,
}

impl Report {
    /// An empty one.
    pub(crate) fn of(way: Way) -> Self {
        Self { way, ..Self::default() }
    }

    /// Fills in what is counted over the examples.
    pub(crate) fn count(&mut self, examples: &[Example]) {
        let lengths = || examples.iter().map(|example| example.ids.len());
        self.examples = examples.len();
        self.unread.sort_by(|a, b| b.rows.cmp(&a.rows).then_with(|| a.name.cmp(&b.name)));
        for notice in &mut self.notices {
            notice.of = self.rows;
            if notice.oddity == Oddity::UnreadColumn {
                notice.what = unread::counted(&self.unread);
            }
        }
        self.tokens = lengths().sum();
        self.learned_tokens =
            examples.iter().map(|example| example.learned.iter().filter(|learned| **learned).count()).sum();
        self.shortest = lengths().min().unwrap_or(0);
        self.longest = lengths().max().unwrap_or(0);
        let width = (self.longest + 1 - self.shortest).div_ceil(BARS).max(1);
        let from = |bar: usize| self.shortest + bar * width;
        let bars = (0..BARS).take_while(|bar| from(*bar) <= self.longest);
        let to = |bar: usize| self.longest.min(from(bar + 1) - 1);
        let mut bars: Vec<Bar> = bars.map(|bar| Bar { from: from(bar), to: to(bar), examples: 0 }).collect();
        for length in lengths() {
            bars[(length - self.shortest) / width].examples += 1;
        }
        self.lengths = bars;
    }

    /// Counts a row with an oddity; the first one is named.
    fn notice(&mut self, oddity: Oddity, what: String, file: &str, at: At) {
        match self.notices.iter_mut().find(|notice| notice.oddity == oddity) {
            Some(notice) => notice.rows += 1,
            None => self.notices.push(Notice::first(oddity, what, file, at, self.way)),
        }
    }

    /// Counts a row with these oddities, each of them once.
    pub(crate) fn notice_row(&mut self, oddities: impl IntoIterator<Item = (Oddity, String)>, file: &str, at: At) {
        let mut told = Vec::new();
        for (oddity, what) in oddities {
            if !told.contains(&oddity) {
                told.push(oddity);
                self.notice(oddity, what, file, at);
            }
        }
    }

    /// Counts a row with names that nothing reads.
    pub(crate) fn leave_unread(&mut self, names: Vec<String>, file: &str, at: At) {
        if names.is_empty() {
            return;
        }
        self.notice(Oddity::UnreadColumn, String::new(), file, at);
        unread::count(&mut self.unread, names);
    }

    /// The report as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("a report is plain data")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            let weight = if file.weight == 1.0 { String::new() } else { format!(", weight {}", file.weight) };
            writeln!(f, "{}: {}, {}{weight}", file.file, of(file.rows, "row"), file.format)?;
        }
        writeln!(
            f,
            "{}, {}, {} of them learned ({:.1} %), {} each",
            of(self.examples, "example"),
            of(self.tokens, "token"),
            self.learned_tokens,
            100.0 * self.learned_tokens as f64 / self.tokens.max(1) as f64,
            match self.shortest == self.longest {
                true => of(self.longest, "token"),
                false => format!("{} to {} tokens", self.shortest, self.longest),
            }
        )?;
        if self.truncated > 0 {
            writeln!(f, "cut off at the end {}", self.truncated)?;
        }
        if !self.dropped.is_empty() {
            writeln!(f, "dropped {}:", self.dropped.len())?;
            for dropped in self.dropped.iter().take(PRINTED) {
                writeln!(f, "  {dropped}")?;
            }
            if let Some(more) = self.dropped.len().checked_sub(PRINTED).filter(|more| *more > 0) {
                writeln!(f, "  and {more} more")?;
            }
        }
        let most = self.lengths.iter().map(|bar| bar.examples).max().unwrap_or(0).max(1);
        // As wide as the largest numbers are.
        let (wide, of_counts) = (self.longest.to_string().len(), most.to_string().len());
        for Bar { from, to, examples } in &self.lengths {
            let stars = "#".repeat((examples * 40).div_ceil(most));
            let lengths = match from == to {
                true => format!("{:wide$}    {to:>wide$}", ""),
                false => format!("{from:>wide$} to {to:>wide$}"),
            };
            let line = format!("  {lengths} tokens  {examples:>of_counts$} {stars}");
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

fn of(count: usize, one: &str) -> String {
    counted(count as u64, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_lengths(lengths: &[usize]) -> Report {
        let example = |length: &usize| Example {
            ids: vec![0; *length],
            parts: vec![crate::Part::Response; *length],
            learned: (0..*length).map(|place| place > 0).collect(),
            weight: 1.0,
            number: None,
            alone: None,
            group: 0,
            file: "rows.jsonl".into(),
            line: 1,
            element: None,
        };
        let files = vec![FileReport {
            file: "rows.jsonl".into(),
            source: "rows.jsonl".into(),
            format: "text".into(),
            rows: lengths.len(),
            weight: 1.0,
        }];
        let mut report = Report { files, rows: lengths.len(), ..Report::default() };
        report.count(&lengths.iter().map(example).collect::<Vec<_>>());
        report
    }

    #[test]
    fn the_bars_of_lengths_end_where_the_lengths_do() {
        for lengths in [&[23, 40][..], &[1], &[7, 7, 7], &[1, 2, 3], &[2, 1023], &[9, 10, 20], &[5, 16, 26]] {
            let bars = of_lengths(lengths).lengths;
            assert_eq!(Some(bars[0].from), lengths.iter().min().copied());
            assert_eq!(bars.last().map(|bar| bar.to), lengths.iter().max().copied());
            assert!(
                bars.windows(2).all(|pair| pair[0].to + 1 == pair[1].from && pair[0].from <= pair[0].to),
                "{bars:?}"
            );
            assert_eq!(bars.iter().map(|bar| bar.examples).sum::<usize>(), lengths.len());
        }
    }

    #[test]
    fn one_row_of_one_length_is_told_in_the_singular() {
        let lines = "rows.jsonl: 1 row, text\n1 example, 9 tokens, 8 of them learned (88.9 %), 9 tokens each\n       9 tokens  1 \
                     ########################################\n";
        assert_eq!(of_lengths(&[9]).to_string(), lines);
    }
}
