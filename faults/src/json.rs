//! JSON as Python reads and writes it: `NaN`, `Infinity` and `-Infinity`, numbers too large for f64, halves of surrogate
//! pairs.
//!
//! JSON has none of these, and files that Python has written are full of them. They are read as `null` (a number) or
//! U+FFFD (a half of a pair), and each is told of as an [`Oddity`], so that the reader can refuse those that it has a use
//! for. Everything else is `serde_json`'s: its faults, with lines and columns as they are in the text.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde_json::{Map, Value, json};

use crate::Fault;

mod whole;

pub use whole::{keep_wholes, shown, to_line, whole};

/// A place of a text where it says what JSON cannot say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oddity {
    /// The value that it is, or is in: a JSON pointer (RFC 6901), such as `/rope_parameters/factor`.
    pub pointer: String,
    /// Its bytes in the text.
    pub at: Range<usize>,
    /// The kind of oddity.
    pub kind: OddityKind,
    /// Its text.
    pub written: String,
}

/// What JSON cannot say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OddityKind {
    /// `NaN`, `Infinity`, `-Infinity`, or a number that is infinite as f64. It is read as `null`.
    Number,
    /// An escape that is half of a pair. It is read as U+FFFD.
    Surrogate,
    /// A whole number of more than 128 bits ([`keep_wholes`]). It is read as a float.
    Whole,
}

impl Oddity {
    /// A number of a table that JSON does not have, at the pointer of its value.
    pub fn number(pointer: String, value: f64) -> Self {
        let written = match value {
            _ if value.is_nan() => "NaN",
            _ if value > 0.0 => "Infinity",
            _ => "-Infinity",
        };
        Self { pointer, at: 0..0, kind: OddityKind::Number, written: written.to_owned() }
    }

    /// The first key of its place, or the index in a list; nothing where the text is one such number.
    pub fn key(&self) -> &str {
        self.pointer.split('/').nth(1).unwrap_or_default()
    }

    /// The fault of a value that is used: it names the value, and has no place.
    pub fn fault(&self) -> Fault {
        let name = self.pointer.trim_start_matches('/').replace('/', ".").replace("~1", "/").replace("~0", "~");
        let verb = if self.kind == OddityKind::Surrogate { "holds" } else { "is" };
        Fault::new(format!("`{name}` {verb} {self}"))
    }
}

/// What it is, in words that can follow "is" or "holds".
impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = crate::shortened(&self.written);
        match self.kind {
            OddityKind::Number => write!(f, "`{written}`, which is no finite number"),
            OddityKind::Surrogate => write!(f, "`{written}`, half of a surrogate pair"),
            OddityKind::Whole => write!(f, "`{written}`, a whole number of more than 128 bits"),
        }
    }
}

/// A value, and what of it was written otherwise than JSON is.
#[derive(Debug, Clone, PartialEq)]
pub struct Read<T> {
    /// The value.
    pub value: T,
    /// In the order of the text; none for true JSON.
    pub oddities: Vec<Oddity>,
}

impl<T> Read<T> {
    /// The fault of the first oddity in the value of a key that is `used`.
    ///
    /// # Errors
    /// There is one; the fault has no place.
    pub fn refuse_odd(&self, used: impl Fn(&str) -> bool) -> Result<(), Fault> {
        self.oddities.iter().find(|oddity| used(oddity.key())).map_or(Ok(()), |oddity| Err(oddity.fault()))
    }
}

impl Read<Map<String, Value>> {
    /// The object with every number that JSON does not have as transformers 5 writes it, [`special_float`] reads it, and
    /// nobody takes it for a null.
    pub fn with_special_floats(self) -> Map<String, Value> {
        let mut value = Value::Object(self.value);
        for oddity in self.oddities.iter().filter(|oddity| oddity.kind == OddityKind::Number) {
            if let Some(place) = value.pointer_mut(&oddity.pointer) {
                *place = json!({ FLOAT: oddity.written });
            }
        }
        let Value::Object(value) = value else { unreachable!("it was an object") };
        value
    }
}

/// An object as a file has it, with the numbers that JSON does not have as they were `read` from one, where they are still
/// `null` in it.
pub fn written(object: Map<String, Value>, read: &[Oddity]) -> String {
    let mut value = Value::Object(object);
    // Nobody writes such a text into a configuration.
    let mark = |index: usize| format!("\u{0}{index}\u{0}");
    let numbers = || read.iter().enumerate().filter(|(_, oddity)| oddity.kind == OddityKind::Number);
    for (index, oddity) in numbers() {
        if let Some(place) = value.pointer_mut(&oddity.pointer).filter(|place| place.is_null()) {
            *place = mark(index).into();
        }
    }
    let mut text = serde_json::to_string_pretty(&value).expect("a value can be written");
    for (index, oddity) in numbers() {
        text = text.replace(&Value::from(mark(index)).to_string(), &oddity.written);
    }
    text
}

/// The one key of the object that transformers 5 writes into configurations for a number that JSON does not have.
const FLOAT: &str = "__float__";

/// What is written of the number that such an object stands for.
pub fn special_float(value: &Value) -> Option<&str> {
    let object = value.as_object().filter(|object| object.len() == 1)?;
    object.get(FLOAT)?.as_str()
}

/// Any value; of a key that stands twice in an object the last counts, as in Python.
///
/// # Errors
/// What Python would not read either.
pub fn read(text: &str) -> serde_json::Result<Read<Value>> {
    read_with(text, |text| serde_json::from_str(text))
}

/// [`read_object`] of a file's bytes.
///
/// # Errors
/// What Python would not read either, and any other value than an object.
pub fn read_object_of(bytes: &[u8]) -> serde_json::Result<Read<Map<String, Value>>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => read_object(text),
        // For its words and its place.
        Err(_) => serde_json::from_slice(bytes).map(|value| Read { value, oddities: Vec::new() }),
    }
}

/// [`read`] of a text that must hold an object.
///
/// # Errors
/// What Python would not read either, and any other value than an object.
pub fn read_object(text: &str) -> serde_json::Result<Read<Map<String, Value>>> {
    let Read { value, oddities } = read(text)?;
    match value {
        Value::Object(value) => Ok(Read { value, oddities }),
        // For its words about what was found.
        _ => serde_json::from_str(&mask(text).text).map(|value| Read { value, oddities }),
    }
}

/// The same by a reader of one's own, which is given the text, and where that is no JSON, a text of the same length that is
/// in those places.
///
/// # Errors
/// The errors of `parse`.
pub fn read_with<E>(text: &str, parse: impl Fn(&str) -> Result<Value, E>) -> Result<Read<Value>, E> {
    let fault = match parse(text) {
        Ok(value) => return Ok(Read { value, oddities: Vec::new() }),
        Err(fault) => fault,
    };
    let masked = mask(text);
    if masked.oddities.is_empty() {
        return Err(fault);
    }
    let mut value = parse(&masked.text)?;
    let oddities = unmask(&mut value, masked.oddities);
    Ok(Read { value, oddities })
}

/// A text with JSON in every odd place.
#[derive(Debug)]
pub struct Masked<'a> {
    /// As long as the original, with its lines and columns. Until [`unmask`] is called on a value of it, `NaN` is a string.
    pub text: Cow<'a, str>,
    /// The places, in order.
    pub oddities: Vec<Oddity>,
}

/// Stands for `NaN`, where there is no room for `null`.
const NOT_A_NUMBER: &str = "\"\" ";

/// Puts JSON into the odd places of a text. One that is no JSON for another reason stays none.
pub fn mask(text: &str) -> Masked<'_> {
    let mut scan = Scan { text, stack: Vec::new(), found: Vec::new(), wanted: OddityKind::Number };
    scan.run();
    if scan.found.is_empty() {
        return Masked { text: Cow::Borrowed(text), oddities: Vec::new() };
    }
    let mut masked = String::with_capacity(text.len());
    let mut copied = 0;
    for oddity in &scan.found {
        let length = oddity.at.len();
        masked.push_str(&text[copied..oddity.at.start]);
        match oddity.kind {
            OddityKind::Surrogate => masked.push_str(r"\ufffd"),
            OddityKind::Number if length == NOT_A_NUMBER.len() => masked.push_str(NOT_A_NUMBER),
            // A whole number is JSON, and is not looked for here.
            OddityKind::Number | OddityKind::Whole => {
                masked.extend(std::iter::once("null").chain(std::iter::repeat_n(" ", length - 4)))
            }
        }
        copied = oddity.at.end;
    }
    masked.push_str(&text[copied..]);
    Masked { text: Cow::Owned(masked), oddities: scan.found }
}

/// Ends what [`mask`] began, in the value of its text: gives the places that are in it. A key that stands there once more
/// has taken the place of others.
pub fn unmask(value: &mut Value, oddities: Vec<Oddity>) -> Vec<Oddity> {
    let mut remains = |oddity: &Oddity| match (oddity.kind, value.pointer_mut(&oddity.pointer)) {
        (OddityKind::Number, Some(place)) if *place == Value::String(String::new()) || place.is_null() => {
            *place = Value::Null;
            true
        }
        (OddityKind::Number | OddityKind::Whole, _) => false,
        // It may be the key.
        (OddityKind::Surrogate, Some(Value::String(text))) => {
            text.contains('\u{fffd}') || oddity.pointer.contains('\u{fffd}')
        }
        (OddityKind::Surrogate, Some(_)) => oddity.pointer.contains('\u{fffd}'),
        (OddityKind::Surrogate, None) => false,
    };
    oddities.into_iter().filter(|oddity| remains(oddity)).collect()
}

/// Walks over the tokens of a text, and knows in which value it is.
struct Scan<'a> {
    text: &'a str,
    stack: Vec<Frame>,
    found: Vec<Oddity>,
    /// [`OddityKind::Whole`] for those alone, else what is no JSON.
    wanted: OddityKind,
}

enum Frame {
    /// A list, and the index of its element.
    List(usize),
    /// An object, and where its key stands in the text, once it has come.
    Object(Option<Range<usize>>),
}

impl Scan<'_> {
    fn run(&mut self) {
        let bytes = self.text.as_bytes();
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'"' => {
                    at = self.string(at);
                    continue;
                }
                b'{' => self.stack.push(Frame::Object(None)),
                b'[' => self.stack.push(Frame::List(0)),
                b'}' | b']' => drop(self.stack.pop()),
                b',' => match self.stack.last_mut() {
                    Some(Frame::List(index)) => *index += 1,
                    Some(Frame::Object(key)) => *key = None,
                    None => {}
                },
                b'N' | b'I' | b'-' | b'0'..=b'9' => {
                    at = self.number(at);
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// A number, or a word that stands for one; gives where it ends.
    fn number(&mut self, start: usize) -> usize {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        let length = self.text.as_bytes()[start..].iter().take_while(|byte| is_part(byte)).count();
        let end = start + length.max(1);
        let written = &self.text[start..end];
        let is_odd = match written {
            "NaN" | "Infinity" | "-Infinity" => true,
            // Anything else with a letter is none of JSON's, and Rust would read some of it.
            number if number.bytes().any(|byte| byte.is_ascii_alphabetic() && !b"eE".contains(&byte)) => false,
            number => number.parse().is_ok_and(f64::is_infinite),
        };
        if self.wanted == OddityKind::Whole {
            if whole::is_long(written) {
                self.note(start..end, OddityKind::Whole);
            }
        } else if is_odd {
            self.note(start..end, OddityKind::Number);
        }
        end
    }

    /// A string, which may be a key; gives where it ends.
    fn string(&mut self, start: usize) -> usize {
        let bytes = self.text.as_bytes();
        let (mut at, mut halves) = (start + 1, Vec::new());
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'"' => break,
                b'\\' => match (escaped(bytes, at), escaped(bytes, at + 6)) {
                    (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => at += 12,
                    (Some(0xd800..=0xdfff), _) => {
                        halves.push(at..at + 6);
                        at += 6;
                    }
                    _ => at += 2,
                },
                _ => at += 1,
            }
        }
        let end = (at + 1).min(bytes.len());
        if let Some(Frame::Object(key @ None)) = self.stack.last_mut() {
            *key = Some(start..end);
        }
        if self.wanted == OddityKind::Whole {
            halves.clear();
        }
        for half in halves {
            self.note(half, OddityKind::Surrogate);
        }
        end
    }

    fn note(&mut self, at: Range<usize>, kind: OddityKind) {
        let mut pointer = String::new();
        for frame in &self.stack {
            pointer.push('/');
            match frame {
                Frame::List(index) => pointer.push_str(&index.to_string()),
                Frame::Object(None) => {}
                Frame::Object(Some(key)) => {
                    let key = with_halves_replaced(&self.text[key.clone()]);
                    let key: String = serde_json::from_str(&key).unwrap_or_default();
                    pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
                }
            }
        }
        let written = self.text[at.clone()].to_owned();
        self.found.push(Oddity { pointer, at, kind, written });
    }
}

/// The code unit of an escape `\uXXXX` at a place.
fn escaped(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(br"\u")?;
    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
    is_hex.then(|| u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())?
}

/// A key as it is written, as `serde_json` reads it.
fn with_halves_replaced(key: &str) -> Cow<'_, str> {
    if key.contains(r"\u") { mask(key).text } else { Cow::Borrowed(key) }
}

#[cfg(test)]
mod tests;
