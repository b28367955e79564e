//! The rows of a file, one at a time: JSON Lines, one JSON array, or one JSON object over several lines.

use std::borrow::Cow;
use std::io::BufRead;

use faults::{Fault, Place, json};
use serde_json::{Map, Value};

use crate::form;
use crate::json::{Unique, read};
use crate::row::described;

/// Where a row stands in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At {
    /// The line that it begins in, of a table without lines the row; the first is 1.
    pub line: usize,
    /// Of a file that is one list, the element; the first is 1.
    pub element: Option<usize>,
}

impl At {
    /// The place in the file shown as `name`.
    pub fn place(self, name: &str) -> Place {
        place(name, self.line, self.element)
    }
}

/// A row's place by its line and, of a list, its element.
pub(crate) fn place(name: &str, line: usize, element: Option<usize>) -> Place {
    match element {
        Some(element) => Place::Element { file: name.into(), line, element },
        None => Place::line(name, line),
    }
}

/// A row as the file holds it.
#[derive(Debug, Clone)]
pub(crate) struct NumberedRow {
    pub at: At,
    pub object: Map<String, Value>,
    /// Where it says what JSON cannot say; these values are `null`, or hold U+FFFD.
    pub oddities: Vec<json::Oddity>,
}

impl NumberedRow {
    /// The row with columns whose whole value is a number that JSON does not have as the word that was written: a column of
    /// `Infinity` is not an empty one.
    pub fn with_words(&self) -> Cow<'_, Map<String, Value>> {
        let mut object = Cow::Borrowed(&self.object);
        for oddity in self.oddities.iter().filter(|oddity| oddity.kind == json::OddityKind::Number) {
            let column = oddity.key().replace("~1", "/").replace("~0", "~");
            if self.object.get(&column).is_some_and(Value::is_null) {
                object.to_mut().insert(column, Value::String(oddity.written.clone()));
            }
        }
        object
    }
}

/// Reads rows from a text. A bad line is an error in its place; the lines after it are still read.
pub(crate) struct Rows<'a, R> {
    name: &'a str,
    source: Source<R>,
    line: usize,
}

enum Source<R> {
    Lines(R),
    Array(Array),
    Object(String),
    Done,
}

/// A list of rows that is read as far as `at`.
struct Array {
    text: String,
    at: usize,
    /// Elements read.
    count: usize,
    /// What the whole holds that is no JSON, once an element could not be read without knowing.
    masked: Option<Vec<json::Oddity>>,
}

impl<'a, R: BufRead> Rows<'a, R> {
    /// Rows of the file shown as `name`. The whole of a JSON array is held, of JSON Lines one line at a time.
    pub fn new(name: &'a str, mut reader: R) -> Result<Self, Fault> {
        let unreadable = |error: std::io::Error| form::fault("cannot read the rows", name, &error);
        if reader.fill_buf().map_err(unreadable)?.starts_with(MARK) {
            reader.consume(MARK.len());
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
        let source = match spread {
            true => Source::Object(text),
            false => Source::Array(Array { text, at: 0, count: 0, masked: None }),
        };
        Ok(Self { name, source, line: line + 1 })
    }

    fn next_line(&mut self) -> Option<Result<NumberedRow, Fault>> {
        let Source::Lines(reader) = &mut self.source else { return None };
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            self.line += 1;
            let at = At { line: self.line, element: None };
            match reader.read_until(b'\n', &mut bytes) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => {
                    self.source = Source::Done;
                    let fault = form::fault("cannot read the row", self.name, &error);
                    return Some(Err(fault.at(at.place(self.name))));
                }
            }
            // Files that were put one behind the other bring their marks along.
            let line = bytes.strip_prefix(MARK).unwrap_or(&bytes);
            if line.trim_ascii().is_empty() {
                continue;
            }
            let is_whole = line.ends_with(b"\n");
            let row = match std::str::from_utf8(line) {
                Ok(text) => read(text).map_err(|error| broken_line(&error, text, is_whole)),
                Err(error) => Err(Fault::new(format!("not UTF-8 at byte {} of the line", error.valid_up_to() + 1))
                    .hint("save the file as UTF-8")),
            };
            return Some(row.and_then(|row| numbered(row, at)).map_err(|fault| fault.at(at.place(self.name))));
        }
    }

    /// The file's one object.
    fn next_object(&mut self) -> Option<Result<NumberedRow, Fault>> {
        let Source::Object(text) = std::mem::replace(&mut self.source, Source::Done) else { return None };
        let at = At { line: self.line, element: None };
        let row = read(&text).map_err(|error| {
            let line = self.line + error.line().saturating_sub(1);
            let fault = broken(&error, error.column()).at(Place::line(self.name, line));
            match error.to_string().starts_with("trailing") {
                true => fault.hint(format!("each row stands on a line of its own: {ON_ONE_LINE}")),
                false => fault,
            }
        });
        Some(row.and_then(|row| numbered(row, at)).map_err(|fault| fault.or_at(at.place(self.name))))
    }

    /// The next element of the array. What follows broken JSON cannot be told apart, so the array ends there.
    fn next_element(&mut self) -> Option<Result<NumberedRow, Fault>> {
        let Source::Array(array) = &mut self.source else { return None };
        let next = array.next(self.name, &mut self.line)?;
        if next.as_ref().is_err_and(|(_, ends)| *ends) {
            self.source = Source::Done;
        }
        Some(next.map_err(|(fault, _)| fault))
    }
}

impl<R: BufRead> Iterator for Rows<'_, R> {
    type Item = Result<NumberedRow, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = match &self.source {
            Source::Lines(_) => self.next_line(),
            Source::Array(_) => self.next_element(),
            Source::Object(_) => self.next_object(),
            Source::Done => None,
        };
        if row.is_none() {
            self.source = Source::Done;
        }
        row
    }
}

impl Array {
    /// The next element; `line` is the one that was come to. Of a fault, whether it ends the list.
    fn next(&mut self, name: &str, line: &mut usize) -> Option<Result<NumberedRow, (Fault, bool)>> {
        let first = self.at == 0;
        self.skip_blanks(line);
        match self.text.as_bytes().get(self.at) {
            Some(b'[') if first => {}
            Some(b',') if !first => {}
            Some(b']') if !first => {
                return self.after_list(name, line);
            }
            None => {
                let fault = Fault::new("the file ends before the list's `]`").at(Place::line(name, *line));
                return Some(Err((fault.hint(CUT_OFF), true)));
            }
            _ => return Some(self.expected(name, *line, "`,` or `]`")),
        }
        self.at += 1;
        self.skip_blanks(line);
        if first && self.text[self.at..].starts_with(']') {
            return self.after_list(name, line);
        }
        self.count += 1;
        let at = At { line: *line, element: Some(self.count) };
        let row = match self.element() {
            Some(Ok((row, end))) => {
                *line += newlines(&self.text.as_bytes()[self.at..end]);
                self.at = end;
                numbered(row, at).map_err(|fault| (fault.at(at.place(name)), false))
            }
            Some(Err(error)) => Err((self.broken(&error, at, name), true)),
            None => Err((Fault::new("the file ends before the list's `]`").at(at.place(name)).hint(CUT_OFF), true)),
        };
        Some(row)
    }

    /// What follows the `]` that was come to: nothing.
    fn after_list(&mut self, name: &str, line: &mut usize) -> Option<Result<NumberedRow, (Fault, bool)>> {
        self.at += 1;
        self.skip_blanks(line);
        (self.at < self.text.len()).then(|| self.expected(name, *line, "nothing after the list's `]`"))
    }

    fn expected(&self, name: &str, line: usize, what: &str) -> Result<NumberedRow, (Fault, bool)> {
        let message = format!("broken JSON at column {}: expected {what}", column(&self.text, self.at));
        Err((Fault::new(message).at(Place::line(name, line)).hint(ONE_LIST), true))
    }

    fn skip_blanks(&mut self, line: &mut usize) {
        let (_, skipped) = after_blanks(&self.text[self.at..]);
        *line += newlines(skipped.as_bytes());
        self.at += skipped.len();
    }

    /// Reads the element that begins where the list was come to, and finds its end.
    fn element(&mut self) -> Option<serde_json::Result<(json::Read<Value>, usize)>> {
        match self.strict() {
            Some(Err(error)) if self.masked.is_none() => {
                let json::Masked { text, oddities } = json::mask(&self.text);
                if oddities.is_empty() {
                    self.masked = Some(oddities);
                    return Some(Err(error));
                }
                self.text = text.into_owned();
                self.masked = Some(oddities);
                self.strict()
            }
            read => read,
        }
    }

    fn strict(&self) -> Option<serde_json::Result<(json::Read<Value>, usize)>> {
        let mut stream = serde_json::Deserializer::from_str(&self.text[self.at..]).into_iter::<Unique>();
        let read = stream.next()?;
        let end = self.at + stream.byte_offset();
        Some(read.map(|Unique(mut value)| {
            let mut oddities = json::unmask(&mut value, self.oddities(end));
            oddities.extend(json::keep_wholes(&self.text[self.at..end], &mut value));
            (json::Read { value, oddities }, end)
        }))
    }

    /// The oddities from where the list was come to up to `end`, with pointers from the element on.
    fn oddities(&self, end: usize) -> Vec<json::Oddity> {
        let all = self.masked.as_deref().unwrap_or_default();
        let from = all.partition_point(|oddity| oddity.at.start < self.at);
        let of_element = all[from..].iter().take_while(|oddity| oddity.at.end <= end);
        let inside = |oddity: &json::Oddity| {
            let mut inside = oddity.clone();
            let rest = oddity.pointer.get(1..).and_then(|pointer| pointer.find('/').map(|at| &pointer[at..]));
            inside.pointer = rest.unwrap_or_default().to_owned();
            inside
        };
        of_element.map(inside).collect()
    }

    fn broken(&self, error: &serde_json::Error, at: At, name: &str) -> Fault {
        if error.is_eof() {
            return Fault::new("the file ends inside this row").at(at.place(name)).hint(CUT_OFF);
        }
        // Its first line begins where the element does.
        let before = if error.line() <= 1 { column(&self.text, self.at) - 1 } else { 0 };
        let line = at.line + error.line().saturating_sub(1);
        broken(error, before + error.column()).at(place(name, line, at.element))
    }
}

/// What Windows puts before UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

const ONE_LIST: &str = "each line holds one JSON object, or the whole file one list of them";

const CUT_OFF: &str = "it was cut off while it was written or copied: copy it again, or take the last row out";

const ON_ONE_LINE: &str = "`jq -c . FILE > rows.jsonl` writes them so";

/// True for a `{` with nothing after it on its line.
fn begins_spread_object(bytes: &[u8]) -> bool {
    let Some(rest) = bytes.strip_prefix(b"{") else { return false };
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.len() < rest.len() && line.trim_ascii().is_empty()
}

fn newlines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

/// The column of the byte at `at` in its own line; the first is 1.
fn column(text: &str, at: usize) -> usize {
    text[..at].bytes().rev().take_while(|byte| *byte != b'\n').count() + 1
}

fn after_blanks(text: &str) -> (&str, &str) {
    let rest = text.trim_ascii_start();
    (rest, &text[..text.len() - rest.len()])
}

/// Why a line is no row; `is_whole` where it has its line break.
fn broken_line(error: &serde_json::Error, text: &str, is_whole: bool) -> Fault {
    // The end of a line with its break is the beginning of the next one.
    let column = if error.is_eof() { text.trim_end().len() + 1 } else { error.column() };
    let fault = broken(error, column);
    let begins = |with: &str| text.trim_start().starts_with(with);
    if begins("{'") {
        return fault.hint("this is a dictionary as Python prints it: write the rows by `json.dumps`");
    }
    if error.is_eof() && is_whole {
        return fault.hint(format!("a row stands on one line: {ON_ONE_LINE}"));
    }
    if error.is_eof() {
        return Fault::new("the file ends inside this row").hint(CUT_OFF);
    }
    if error.to_string().starts_with("trailing") && begins("{") && text.trim_end().ends_with("},") {
        return fault.hint("a comma stands behind the row: take it off, or put all rows between `[` and `]`");
    }
    if begins("//") || begins("#") {
        return fault.hint("JSON has no comments: take the line out");
    }
    if error.to_string().starts_with("trailing") && begins("{") && text.contains("}{") {
        return fault.hint("two rows stand on this line: put a line break between them");
    }
    fault
}

fn broken(error: &serde_json::Error, column: usize) -> Fault {
    let text = error.to_string();
    let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
    // The one thing that is said of JSON that can be read.
    if error.is_data() {
        return Fault::new(format!("{reason}: once more at column {column}")).hint("keep one of the two");
    }
    Fault::new(format!("broken JSON at column {column}: {reason}")).hint(ONE_LIST)
}

fn numbered(row: json::Read<Value>, at: At) -> Result<NumberedRow, Fault> {
    let json::Read { value, oddities } = row;
    match value {
        Value::Object(object) => Ok(NumberedRow { at, object, oddities }),
        Value::Array(turns) if turns.iter().any(|turn| turn.get("role").or(turn.get("from")).is_some()) => {
            Err(Fault::new("the row is a list of turns, and must be an object")
                .hint("put it under a key: `{\"messages\": [..]}`"))
        }
        other => Err(Fault::new(format!("the row must be an object, found {}", described(&other))).hint(match other {
            Value::String(_) => "a text is a row as `{\"text\": \"..\"}`",
            _ => ONE_LIST,
        })),
    }
}
