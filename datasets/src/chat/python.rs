//! Values as Python's `str` and `repr` write them.

use minijinja::Value;
use minijinja::value::ValueKind;

/// `str(value)`.
pub(super) fn text(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None if value.is_undefined() => String::new(),
        None => repr(value),
    }
}

/// `repr(value)`.
pub(super) fn repr(value: &Value) -> String {
    let items = |brackets: (&str, &str)| {
        let items = value.try_iter().into_iter().flatten().map(|item| repr(&item)).collect::<Vec<_>>();
        format!("{}{}{}", brackets.0, items.join(", "), brackets.1)
    };
    match value.kind() {
        ValueKind::Undefined => "Undefined".to_owned(),
        ValueKind::String => quoted(value.as_str().unwrap_or_default()),
        ValueKind::Number if !value.is_integer() => {
            f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
        }
        ValueKind::Seq if value.is_tuple() && value.len() == Some(1) => items(("(", ",)")),
        ValueKind::Seq if value.is_tuple() || is_group(value) => items(("(", ")")),
        ValueKind::Seq | ValueKind::Iterable => items(("[", "]")),
        ValueKind::Map => {
            let pair = |key: Value| {
                let item = value.get_item(&key).unwrap_or_default();
                format!("{}: {}", repr(&key), repr(&item))
            };
            let pairs = value.try_iter().into_iter().flatten().map(pair).collect::<Vec<_>>();
            format!("{{{}}}", pairs.join(", "))
        }
        _ => value.to_string(),
    }
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
