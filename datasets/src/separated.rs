//! Tables as text: CSV, or with tabs or semicolons between the cells, under a line of names. Every cell is a text.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};
use std::path::Path;

use csv::{ByteRecord, ReaderBuilder};
use faults::{Fault, Place, counted};
use serde_json::{Map, Value};

use crate::form;
use crate::lines::{At, NumberedRow};
use crate::row::Names;
use crate::table;

/// What Windows puts before UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// The byte between the cells of a table, where the file is one: by its name, or by a first line that can be nothing but the
/// names of columns.
pub(crate) fn separator(head: &[u8], path: &Path) -> Option<u8> {
    let text = head.strip_prefix(MARK).unwrap_or(head).trim_ascii_start();
    if text.is_empty() || text.starts_with(b"{") || text.starts_with(b"[") {
        return None;
    }
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii_end();
    let line = std::str::from_utf8(line).ok()?;
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    match ending.as_str() {
        // What a spreadsheet writes where the comma stands in numbers.
        "csv" => Some([b',', b'\t', b';'].into_iter().find(|byte| line.contains(char::from(*byte))).unwrap_or(b',')),
        "tsv" | "tab" => Some(b'\t'),
        "" | "jsonl" | "ndjson" | "json" | "data" => [b'\t', b','].into_iter().find(|byte| are_names(line, *byte)),
        _ => None,
    }
}

/// True for at least two words, each another, that could be names of columns.
fn are_names(line: &str, separator: u8) -> bool {
    let names: Vec<&str> = line.split(char::from(separator)).collect();
    let is_name = |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c));
    let is_once = |name: &str| names.iter().filter(|other| **other == name).count() == 1;
    names.len() > 1 && names.iter().all(|name| is_name(name) && is_once(name))
}

/// The rows of a table whose columns have `names`.
pub(crate) struct Separated<'a> {
    name: &'a str,
    names: Names<'a>,
    reader: csv::Reader<Quotes<Box<dyn Read>>>,
    columns: Vec<String>,
    record: ByteRecord,
    ended: bool,
}

impl<'a> Separated<'a> {
    /// Reads the line of names.
    ///
    /// # Errors
    /// A file that cannot be read, and names that are not one for each column.
    pub fn new(name: &'a str, separator: u8, reader: Box<dyn Read>, names: Names<'a>) -> Result<Self, Fault> {
        let quotes =
            Quotes { reader, separator, mark: MARK, line: 1, opened: 1, begun: VecDeque::new(), at: Cell::Row };
        let mut reader =
            ReaderBuilder::new().delimiter(separator).has_headers(false).flexible(true).from_reader(quotes);
        let mut record = ByteRecord::new();
        reader.read_byte_record(&mut record).map_err(|error| unreadable(name, error))?;
        let line = reader.get_mut().begun.pop_front().unwrap_or(1);
        let place = || Place::line(name, line);
        let mut columns = Vec::with_capacity(record.len());
        let mut seen = HashMap::new();
        for (index, cell) in record.iter().enumerate() {
            let cell = if index == 0 { cell.strip_prefix(MARK).unwrap_or(cell) } else { cell };
            let Ok(text) = std::str::from_utf8(cell) else {
                return Err(not_utf8(&format!("the name of column {}", index + 1)).at(place()));
            };
            // The index that pandas writes has no name; this is what it calls it on reading.
            let column = if text.is_empty() { format!("Unnamed: {index}") } else { text.to_owned() };
            if let Some(first) = seen.insert(column.clone(), index + 1) {
                let message = format!("columns {first} and {} are both named `{column}`", index + 1);
                return Err(Fault::new(message)
                    .at(place())
                    .hint("give each column a name of its own in the first line"));
            }
            columns.push(column);
        }
        Ok(Self { name, names, reader, columns, record, ended: false })
    }

    fn row(&self, at: At) -> Result<NumberedRow, Fault> {
        if self.record.len() != self.columns.len() {
            let (found, columns) = (self.record.len() as u64, self.columns.len() as u64);
            let message =
                format!("the row has {}, and the table {}", counted(found, "cell"), counted(columns, "column"));
            return Err(Fault::new(message)
                .hint("a cell with the separator, a quote or a line break in it stands in double quotes"));
        }
        let mut object = Map::with_capacity(self.columns.len());
        for (column, cell) in self.columns.iter().zip(&self.record) {
            let text = std::str::from_utf8(cell).map_err(|_| not_utf8(&format!("`{column}`")))?;
            object.insert(column.clone(), Value::String(text.to_owned()));
        }
        table::typed(&mut object, self.names)?;
        Ok(NumberedRow { at, object, oddities: Vec::new() })
    }
}

impl Iterator for Separated<'_> {
    type Item = Result<NumberedRow, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.reader.read_byte_record(&mut self.record) {
            Ok(true) => {
                let line = self.reader.get_mut().begun.pop_front().unwrap_or(0);
                let at = At { line, element: None };
                Some(self.row(at).map_err(|fault| fault.or_at(at.place(self.name))))
            }
            Ok(false) => {
                self.ended = true;
                let quotes = self.reader.get_ref();
                let is_open = matches!(quotes.at, Cell::Quoted);
                is_open.then(|| {
                    let fault =
                        Fault::new("a quote is opened in this line and never closed, and takes in all that follows");
                    Err(fault
                        .at(Place::line(self.name, quotes.opened))
                        .hint("close it, or write a quote within a cell twice"))
                })
            }
            Err(error) => {
                self.ended = true;
                Some(Err(unreadable(self.name, error)))
            }
        }
    }
}

fn not_utf8(what: &str) -> Fault {
    Fault::new(format!("{what} is not UTF-8")).hint("save the file as UTF-8")
}

fn unreadable(name: &str, error: csv::Error) -> Fault {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => form::fault("cannot read the rows", name, &error),
        other => {
            Fault::new(format!("cannot read the table: {other:?}")).at(Place::file(name)).hint("is it a table in CSV?")
        }
    }
}

/// Passes bytes on and follows lines and quotes: `csv` takes a cell that is never closed as it is, and counts a blank line
/// before a row as part of it.
struct Quotes<R> {
    reader: R,
    separator: u8,
    /// What may still come of the mark at the beginning.
    mark: &'static [u8],
    line: usize,
    /// The lines in which the rows that are still to be read began.
    begun: VecDeque<usize>,
    /// The line in which the last quoted cell began.
    opened: usize,
    at: Cell,
}

enum Cell {
    /// No byte of the row has come.
    Row,
    Begins,
    Plain,
    Quoted,
    /// Behind a quote within quotes, which ends the cell or is one of two.
    Closed,
}

impl<R: Read> Read for Quotes<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        for byte in &buffer[..read] {
            if let Some(rest) = self.mark.strip_prefix(&[*byte]) {
                self.mark = rest;
                continue;
            }
            self.mark = &[];
            let is_break = matches!(byte, b'\n' | b'\r');
            if matches!(self.at, Cell::Row) && !is_break {
                self.begun.push_back(self.line);
                self.at = Cell::Begins;
            }
            self.at = match (&self.at, byte) {
                (Cell::Quoted, b'"') => Cell::Closed,
                (Cell::Quoted, _) => Cell::Quoted,
                (Cell::Closed, b'"') => Cell::Quoted,
                (Cell::Begins, b'"') => {
                    self.opened = self.line;
                    Cell::Quoted
                }
                _ if is_break => Cell::Row,
                (_, byte) if *byte == self.separator => Cell::Begins,
                _ => Cell::Plain,
            };
            self.line += usize::from(*byte == b'\n');
        }
        Ok(read)
    }
}
