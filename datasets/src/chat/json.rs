//! The filter `tojson`: Python's `json.dumps`.

use minijinja::value::{Rest, ValueKind, ValueOrKwargs};
use minijinja::{Error, State, Value};

use super::arguments::{bind, flag, given, refused, room};
use super::python;

/// How `json.dumps` is asked to write.
struct Style<'a> {
    state: &'a State<'a, 'a>,
    ascii: bool,
    indent: Option<String>,
    between: String,
    colon: String,
    sorted: bool,
}

/// `json.dumps(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(super) fn to_json(state: &State, value: Value, arguments: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ascii, indent, separators, sorted] = bind("tojson", &arguments.into_values(), names)?;
    let indent = match given(&indent) {
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => {
                let width = usize::try_from(i64::try_from(indent.clone())?).unwrap_or(0);
                room(state, width)?;
                " ".repeat(width)
            }
        }),
        None => None,
    };
    let (between, colon) = match given(&separators) {
        Some(pair) => {
            (python::text(state, &pair.get_item_by_index(0)?)?, python::text(state, &pair.get_item_by_index(1)?)?)
        }
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let style = Style { state, ascii: flag(&ascii), indent, between, colon, sorted: flag(&sorted) };
    let mut out = String::new();
    style.write(&value, 0, &mut out)?;
    Ok(out)
}

impl Style<'_> {
    fn write(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        if depth > python::DEPTH {
            return Err(python::too_deep());
        }
        // A list that holds another twice is written with more letters than anything else has bytes.
        room(self.state, out.len() * python::WRITTEN)?;
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&number(value)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default(), out),
            // A part of a list, too, which Python has as a list.
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.collect::<Vec<_>>();
                self.list(('[', ']'), items.len(), depth, out, |index, out| self.write(&items[index], depth + 1, out))?;
            }
            ValueKind::Map => {
                let mut keys = value.try_iter()?.collect::<Vec<_>>();
                if self.sorted {
                    keys.sort();
                }
                self.list(('{', '}'), keys.len(), depth, out, |index, out| {
                    let key = &keys[index];
                    self.string(&name(key)?, out);
                    out.push_str(&self.colon);
                    self.write(&value.get_item(key)?, depth + 1, out)
                })?;
            }
            kind => return Err(refused(format!("an object of type {kind} is not JSON serializable"))),
        }
        Ok(())
    }

    fn list(
        &self,
        brackets: (char, char),
        count: usize,
        depth: usize,
        out: &mut String,
        mut item: impl FnMut(usize, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let line = |depth: usize, out: &mut String| {
            if let Some(indent) = self.indent.as_ref().filter(|_| count > 0) {
                room(self.state, out.len() + indent.len().saturating_mul(depth))?;
                out.push('\n');
                out.push_str(&indent.repeat(depth));
            }
            Ok::<_, Error>(())
        };
        out.push(brackets.0);
        for index in 0..count {
            if index > 0 {
                out.push_str(&self.between);
            }
            line(depth + 1, out)?;
            item(index, out)?;
        }
        line(depth, out)?;
        out.push(brackets.1);
        Ok(())
    }

    fn string(&self, text: &str, out: &mut String) {
        out.push('"');
        for letter in text.chars() {
            match letter {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                _ if letter < ' ' || self.ascii && letter > '~' => {
                    let mut units = [0; 2];
                    out.extend(letter.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
                }
                _ => out.push(letter),
            }
        }
        out.push('"');
    }
}

fn number(value: &Value) -> String {
    match python::number(value).as_str() {
        "nan" => "NaN".into(),
        "inf" => "Infinity".into(),
        "-inf" => "-Infinity".into(),
        written => written.into(),
    }
}

/// A key as `json.dumps` writes it.
fn name(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.as_str().unwrap_or_default().to_owned()),
        ValueKind::Number => Ok(number(key)),
        ValueKind::None => Ok("null".into()),
        ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.into()),
        kind => Err(refused(format!("keys of JSON cannot be of type {kind}"))),
    }
}
