//! What a data set holds, for the plan and for people: totals, what was left out, how long the rows are.

use std::fmt;

use serde::Serialize;

use crate::draft::Example;
use crate::lines::{At, place};
use crate::notices::{Notice, Oddity};
use crate::unread;

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
    /// Tokens of the shortest example.
    pub shortest: usize,
    /// Tokens of the longest example.
    pub longest: usize,
    /// How many examples have how many tokens.
    pub lengths: Vec<Bar>,
}

/// One file of a data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// The file as the recipe names it.
    pub file: String,
    /// The row shape it was read as.
    pub format: String,
    /// Its rows.
    pub rows: usize,
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
        let mut bars: Vec<Bar> = bars.map(|bar| Bar { from: from(bar), to: from(bar + 1) - 1, examples: 0 }).collect();
        for length in lengths() {
            bars[(length - self.shortest) / width].examples += 1;
        }
        self.lengths = bars;
    }

    /// Counts a row with an oddity; the first one is named.
    pub(crate) fn notice(&mut self, oddity: Oddity, what: String, file: &str, at: At) {
        match self.notices.iter_mut().find(|notice| notice.oddity == oddity) {
            Some(notice) => notice.rows += 1,
            None => self.notices.push(Notice::first(oddity, what, file, at)),
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
            writeln!(f, "{}: {} rows, {}", file.file, file.rows, file.format)?;
        }
        writeln!(
            f,
            "{} examples, {} tokens, {} of them learned ({:.1} %), {} to {} tokens each",
            self.examples,
            self.tokens,
            self.learned_tokens,
            100.0 * self.learned_tokens as f64 / self.tokens.max(1) as f64,
            self.shortest,
            self.longest
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
        for bar in &self.lengths {
            let stars = "#".repeat((bar.examples * 40).div_ceil(most));
            let line = format!("  {:>6} to {:>6} tokens {:>8} {stars}", bar.from, bar.to, bar.examples);
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
