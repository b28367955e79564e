//! Values as Python's `str` and `repr` write them.

use minijinja::value::ValueKind;
use minijinja::{Error, State, Value};

use super::arguments::{refused, room};

/// What a byte of a written list costs beside one that is copied: all of the list is walked for it.
pub(super) const WRITTEN: usize = 16;

/// Lists in lists are written up to here; Python gives up at about as many.
pub(super) const DEPTH: usize = 500;

/// `str(value)`.
pub(super) fn text(state: &State, value: &Value) -> Result<String, Error> {
    match value.as_str() {
        Some(text) => room(state, text.len()).map(|()| text.to_owned()),
        None if value.is_undefined() => Ok(String::new()),
        None => repr(state, value),
    }
}

/// The same of an argument that may be left out: nothing.
pub(super) fn text_of(state: &State, value: &Option<Value>) -> Result<String, Error> {
    value.as_ref().map_or_else(|| Ok(String::new()), |value| text(state, value))
}

/// `repr(value)`.
pub(super) fn repr(state: &State, value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    write(state, value, DEPTH, &mut out)?;
    Ok(out)
}

fn write(state: &State, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
    // A list that holds another twice is written with more letters than anything else has bytes.
    room(state, out.len() * WRITTEN)?;
    let deeper = || depth.checked_sub(1).ok_or_else(too_deep);
    let items = |brackets: (&str, &str), out: &mut String| {
        out.push_str(brackets.0);
        let depth = deeper()?;
        for (index, item) in value.try_iter().into_iter().flatten().enumerate() {
            out.push_str(if index > 0 { ", " } else { "" });
            write(state, &item, depth, out)?;
        }
        out.push_str(brackets.1);
        Ok::<_, Error>(())
    };
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::String => out.push_str(&quoted(value.as_str().unwrap_or_default())),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::Seq if value.is_tuple() && value.len() == Some(1) => items(("(", ",)"), out)?,
        ValueKind::Seq if value.is_tuple() || is_group(value) => items(("(", ")"), out)?,
        ValueKind::Seq | ValueKind::Iterable => items(("[", "]"), out)?,
        ValueKind::Map => {
            let depth = deeper()?;
            out.push('{');
            for (index, key) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write(state, &key, depth, out)?;
                out.push_str(": ");
                write(state, &value.get_item(&key).unwrap_or_default(), depth, out)?;
            }
            out.push('}');
        }
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

/// The error of a value that holds itself so often.
pub(super) fn too_deep() -> Error {
    refused(format!("lists in lists, more than {DEPTH} deep"))
}

/// `repr` of a number.
pub(super) fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
}

/// True for what `groupby` gives, in Python a tuple with names.
fn is_group(value: &Value) -> bool {
    value.get_attr("grouper").is_ok_and(|key| !key.is_undefined())
}

/// A float as Python writes it: the shortest digits that read back, an exponent below 1e-4 and from 1e16 on.
pub(super) fn float(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() { "nan".into() } else { format!("{}inf", if value < 0.0 { "-" } else { "" }) };
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value == 0.0 || (-4..16).contains(&exponent) {
        let plain = value.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// A string in quotes with the escapes of Python.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if letter == quote => out.extend(['\\', quote]),
            _ if is_printable(letter) => out.push(letter),
            _ => out.push_str(&match u32::from(letter) {
                code @ ..0x100 => format!("\\x{code:02x}"),
                code @ ..0x1_0000 => format!("\\u{code:04x}"),
                code => format!("\\U{code:08x}"),
            }),
        }
    }
    out.push(quote);
    out
}

/// `str.isprintable` of one letter: neither a control nor a format character, no blank but the space, no private use.
pub(super) fn is_printable(letter: char) -> bool {
    let is_format = matches!(letter,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}');
    let is_private = matches!(letter, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..);
    letter == ' ' || !(letter.is_control() || letter.is_whitespace() || is_format || is_private)
}

/// `str.isspace` of one letter.
pub(super) fn is_blank(letter: char) -> bool {
    letter.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&letter)
}

/// `str.splitlines`.
pub(super) fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let ends = |letter: char| {
        matches!(letter, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
    };
    let (mut found, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let (line, after) = match rest.find(ends) {
            None => (rest.len(), rest.len()),
            Some(end) if rest[end..].starts_with("\r\n") => (end, end + 2),
            Some(end) => (end, end + rest[end..].chars().next().map_or(0, char::len_utf8)),
        };
        found.push(&rest[..if keep_ends { after } else { line }]);
        rest = &rest[after..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (value, written) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (12345678901234567.0, "1.2345678901234568e+16"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.5e300, "1.5e+300"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(float(value), written);
        }
    }
}
