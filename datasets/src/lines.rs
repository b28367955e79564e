//! The rows of a file, one at a time: JSON Lines, one JSON array, or one JSON object over several lines.

use std::io::BufRead;

use faults::{Fault, Place};
use serde_json::{Map, Value};

use crate::json::Unique;
use crate::row::described;

/// A row and its line; the first line is 1.
pub(crate) type NumberedRow = (usize, Map<String, Value>);

/// Reads rows from a text. A bad line is an error in its place; the lines after it are still read.
pub(crate) struct Rows<'a, R> {
    name: &'a str,
    source: Source<R>,
    line: usize,
}

enum Source<R> {
    Lines(R),
    Array { text: String, at: usize },
    Object(String),
    Done,
}

impl<'a, R: BufRead> Rows<'a, R> {
    /// Rows of the file shown as `name`. The whole of a JSON array is held, of JSON Lines one line at a time.
    pub fn new(name: &'a str, mut reader: R) -> Result<Self, Fault> {
        let unreadable = |error: std::io::Error| Fault::of_file("cannot read the rows", name, &error);
        if reader.fill_buf().map_err(unreadable)?.starts_with(b"\xef\xbb\xbf") {
            reader.consume(3);
        }
        let mut line = 0;
        loop {
            let buffer = reader.fill_buf().map_err(unreadable)?;
            let blanks = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            if blanks == 0 {
                break;
            }
            line += newlines(&buffer[..blanks]);
            reader.consume(blanks);
        }
        let buffer = reader.fill_buf().map_err(unreadable)?;
        let spread = begins_spread_object(buffer);
        if !spread && !buffer.starts_with(b"[") {
            return Ok(Self { name, source: Source::Lines(reader), line });
        }
        let mut text = String::new();
        reader.read_to_string(&mut text).map_err(unreadable)?;
        if spread {
            return Ok(Self { name, source: Source::Object(text), line: line + 1 });
        }
        Ok(Self { name, source: Source::Array { text, at: 0 }, line: line + 1 })
    }

    fn next_line(&mut self) -> Option<Result<NumberedRow, Fault>> {
        let Source::Lines(reader) = &mut self.source else { return None };
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            self.line += 1;
            let place = Place::line(self.name, self.line);
            match reader.read_until(b'\n', &mut bytes) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => {
                    self.source = Source::Done;
                    return Some(Err(Fault::of_file("cannot read the row", self.name, &error).at(place)));
                }
            }
            let trimmed = bytes.trim_ascii();
            if trimmed.is_empty() {
                continue;
            }
            let row = match std::str::from_utf8(&bytes) {
                Ok(text) => serde_json::from_str(text).map_err(|error| broken(&error)),
                Err(error) => Err(Fault::new(format!("not UTF-8 at byte {} of the line", error.valid_up_to() + 1))
                    .hint("save the file as UTF-8")),
            };
            return Some(
                row.and_then(|Unique(value)| object(value))
                    .map(|row| (self.line, row))
                    .map_err(|fault| fault.at(place)),
            );
        }
    }

    /// The file's one object.
    fn next_object(&mut self) -> Option<Result<NumberedRow, Fault>> {
        let Source::Object(text) = std::mem::replace(&mut self.source, Source::Done) else { return None };
        let line = self.line;
        let read = serde_json::from_str(&text).map_err(|error| {
            let line = line + error.line().saturating_sub(1);
            broken(&error).at(Place::line(self.name, line))
        });
        Some(read.and_then(|Unique(value)| {
            object(value).map(|row| (line, row)).map_err(|fault| fault.at(Place::line(self.name, line)))
        }))
    }

    /// The next element of the array. What follows broken JSON cannot be told apart, so the array ends there.
    fn next_element(&mut self) -> Option<Result<NumberedRow, Fault>> {
        let Source::Array { text, at } = &mut self.source else { return None };
        let first = *at == 0;
        let (rest, skipped) = after_blanks(&text[*at..]);
        self.line += newlines(skipped.as_bytes());
        *at += skipped.len();
        let place = Place::line(self.name, self.line);
        let expected = |what: &str| {
            let column = text[..*at].chars().rev().take_while(|c| *c != '\n').count() + 1;
            Fault::new(format!("broken JSON at column {column}: expected {what}")).at(place.clone()).hint(ONE_LIST)
        };
        let fault = match rest.as_bytes().first() {
            Some(b'[') if first => None,
            Some(b',') if !first => None,
            Some(b']') if !first => {
                let (rest, _) = after_blanks(&rest[1..]);
                if rest.is_empty() {
                    return None;
                }
                Some(expected("nothing after the list's `]`"))
            }
            _ => Some(expected("`,` or `]`")),
        };
        if let Some(fault) = fault {
            self.source = Source::Done;
            return Some(Err(fault));
        }
        let (rest, skipped) = after_blanks(&rest[1..]);
        self.line += newlines(skipped.as_bytes());
        *at += 1 + skipped.len();
        if first && rest.starts_with(']') {
            return None;
        }
        let line = self.line;
        let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<Unique>();
        let value = stream.next();
        let read = stream.byte_offset();
        match value {
            Some(Ok(Unique(value))) => {
                self.line += newlines(&rest.as_bytes()[..read]);
                *at += read;
                Some(object(value).map(|row| (line, row)).map_err(|fault| fault.at(Place::line(self.name, line))))
            }
            Some(Err(error)) => {
                let line = line + error.line().saturating_sub(1);
                self.source = Source::Done;
                Some(Err(broken(&error).at(Place::line(self.name, line))))
            }
            None => {
                self.source = Source::Done;
                Some(Err(Fault::new("the list ends without `]`").at(Place::line(self.name, line)).hint(ONE_LIST)))
            }
        }
    }
}

impl<R: BufRead> Iterator for Rows<'_, R> {
    type Item = Result<NumberedRow, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = match &self.source {
            Source::Lines(_) => self.next_line(),
            Source::Array { .. } => self.next_element(),
            Source::Object(_) => self.next_object(),
            Source::Done => None,
        };
        if row.is_none() {
            self.source = Source::Done;
        }
        row
    }
}

/// True for a `{` with nothing after it on its line.
fn begins_spread_object(bytes: &[u8]) -> bool {
    let Some(rest) = bytes.strip_prefix(b"{") else { return false };
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.len() < rest.len() && line.trim_ascii().is_empty()
}

fn newlines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

fn after_blanks(text: &str) -> (&str, &str) {
    let rest = text.trim_ascii_start();
    (rest, &text[..text.len() - rest.len()])
}

fn broken(error: &serde_json::Error) -> Fault {
    let (text, column) = (error.to_string(), error.column());
    let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
    // The one thing that is said of JSON that can be read.
    if error.is_data() {
        return Fault::new(format!("{reason}: once more at column {column}")).hint("keep one of the two");
    }
    Fault::new(format!("broken JSON at column {column}: {reason}")).hint(ONE_LIST)
}

const ONE_LIST: &str = "each line holds one JSON object, or the whole file one list of them";

fn object(value: Value) -> Result<Map<String, Value>, Fault> {
    match value {
        Value::Object(object) => Ok(object),
        other => Err(Fault::new(format!("the row must be an object, found {}", described(&other))).hint(ONE_LIST)),
    }
}
