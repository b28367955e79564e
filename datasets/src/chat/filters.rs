//! Filters that jinja2 has otherwise than minijinja, or alone.

use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, State, Value, filters};

use super::arguments::{bind, charge, flag, given, is_number, refused, room, whole};
use super::{json, methods, python};

/// Gives them to an environment.
pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_filter("tojson", json::to_json);
    environment.add_filter("length", length);
    environment.add_filter("count", length);
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("replace", replace);
    environment.add_filter("sort", sort);
    environment.add_filter("dictsort", dictsort);
    environment.add_filter("indent", indent);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("first", |value: Value| Ok::<_, Error>(value.try_iter()?.next().unwrap_or_default()));
    environment.add_filter("string", |state: &State, value: Value| match value.as_str() {
        Some(_) => Ok(value),
        None => python::text(state, &value).map(Value::from),
    });
    environment.add_filter("trim", trim);
    environment.add_filter("join", join);
    environment.add_filter("e", escape);
    environment.add_filter("escape", escape);
    environment.add_filter("forceescape", escape);
    environment.add_filter("truncate", truncate);
    environment.add_filter("wordcount", wordcount);
    environment.add_filter("center", center);
    environment.add_filter("urlencode", urlencode);
    environment.add_filter(PERCENT, percent);
    environment.add_filter(ITEMS, items);
    environment.add_filter(LETTERS, letters);
    environment.add_filter(UNPACKED, |state: &State, value: Value| {
        let items = items(state, value)?;
        match items.kind() {
            ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => {
                items.try_iter()?.map(|item| letters(state, item)).collect()
            }
            _ => Ok(items),
        }
    });
}

fn items(state: &State, value: Value) -> Result<Value, Error> {
    // Minijinja does not know how many letters a text has, and so not which is the last.
    if value.is_none() { Err(refused("`none` is not iterable")) } else { letters(state, value) }
}

/// A text as the list of its letters, anything else as it is.
fn letters(state: &State, value: Value) -> Result<Value, Error> {
    match value.as_str() {
        Some(text) => {
            room(state, text.len().saturating_mul(size_of::<Value>()))?;
            Ok(text.chars().map(String::from).collect())
        }
        None => Ok(value),
    }
}

/// The filter that what a loop goes over passes: jinja2 finds nothing to go over in `none`, and letters in a text.
pub(super) const ITEMS: &str = "__items__";

/// The same where each item is given to several names, to which a text gives its letters.
pub(super) const UNPACKED: &str = "__unpacked__";

/// The filter that a value passes which `set` gives to several names.
pub(super) const LETTERS: &str = "__letters__";

/// What the operator `%` becomes: minijinja's takes numbers alone.
pub(super) const PERCENT: &str = "__percent__";

fn percent(state: &State, left: Value, right: Value) -> Result<Value, Error> {
    let Some(format) = left.as_str() else { return modulo(&left, &right) };
    let arguments: Vec<Value> = if right.is_tuple() { right.try_iter()?.collect() } else { vec![right] };
    room_to_format(state, format, &arguments)?;
    minijinja::formatting::format(minijinja::formatting::FormatStyle::Printf, format, &arguments).map(Value::from)
}

/// Refuses a format whose text could not be paid for: each field may have the longest argument, and its own width.
pub(super) fn room_to_format(state: &State, format: &str, arguments: &[Value]) -> Result<(), Error> {
    let (mut longest, mut widths, mut digits) = (0, 0usize, 0usize);
    for argument in arguments {
        let items = if argument.is_kwargs() { argument.try_iter()?.collect() } else { Vec::new() };
        for value in items.iter().map(|key| argument.get_item(key)).chain([Ok(argument.clone())]) {
            let value = value?;
            longest = longest.max(python::text(state, &value)?.len());
            // `%*d` takes its width from one.
            let width = if format.contains('*') { i64::try_from(value).unwrap_or(0).unsigned_abs() } else { 0 };
            widths = widths.saturating_add(usize::try_from(width).unwrap_or(usize::MAX));
        }
    }
    for letter in format.chars().chain(['.']) {
        match letter.to_digit(10) {
            Some(digit) => digits = digits.saturating_mul(10).saturating_add(digit as usize),
            None => widths = widths.saturating_add(std::mem::take(&mut digits)),
        }
    }
    let fields = format.matches(['%', '{']).count();
    room(state, widths.saturating_add(format.len()).saturating_add(fields.saturating_mul(longest)))
}

/// The remainder with the sign of the divisor.
fn modulo(left: &Value, right: &Value) -> Result<Value, Error> {
    if !is_number(left) || !is_number(right) {
        let message = format!("unsupported operand types for %: {} and {}", left.kind(), right.kind());
        return Err(refused(message));
    }
    let whole = |value: &Value| i128::try_from(value.clone()).ok().filter(|_| !is_float(value));
    match (whole(left), whole(right)) {
        (_, Some(0)) => Err(refused("integer modulo by zero")),
        (Some(left), Some(right)) => {
            let rest = left.checked_rem(right).unwrap_or(0);
            let rest = if rest != 0 && (rest < 0) != (right < 0) { rest + right } else { rest };
            Ok(i64::try_from(rest).map_or_else(|_| Value::from(rest), Value::from))
        }
        _ => {
            let (left, right) = (f64::try_from(left.clone())?, f64::try_from(right.clone())?);
            let rest = left % right;
            Ok(Value::from(match rest {
                _ if right == 0.0 => return Err(refused("float modulo by zero")),
                0.0 => 0.0f64.copysign(right),
                _ if (rest < 0.0) != (right < 0.0) => rest + right,
                _ => rest,
            }))
        }
    }
}

fn is_float(value: &Value) -> bool {
    value.kind() == ValueKind::Number && !value.is_integer()
}

fn length(value: Value) -> Result<usize, Error> {
    if value.is_undefined() {
        return Ok(0);
    }
    value.len().ok_or_else(|| refused(format!("object of type {} has no len()", value.kind())))
}

fn default(value: Value, arguments: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let [otherwise, falsy] = bind("default", &arguments.into_values(), ["default_value", "boolean"])?;
    let is_absent = value.is_undefined() || flag(&falsy) && !value.is_true();
    Ok(if is_absent { otherwise.unwrap_or_else(|| Value::from("")) } else { value })
}

fn replace(state: &State, value: Value, arguments: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let [old, new, count] = bind("replace", &arguments.into_values(), ["old", "new", "count"])?;
    let count = whole(&count)?.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
    let (old, new) = (python::text_of(state, &old)?, python::text_of(state, &new)?);
    replaced(state, &python::text(state, &value)?, &old, &new, count).map(Value::from)
}

/// `str.replace`.
pub(super) fn replaced(state: &State, text: &str, old: &str, new: &str, count: usize) -> Result<String, Error> {
    let found = text.matches(old).take(count).count();
    room(state, found.saturating_mul(new.len()).saturating_add(text.len()))?;
    Ok(text.replacen(old, new, count))
}

/// Arguments by name, for filters of minijinja that take them so alone.
fn by_name<const N: usize>(names: [&str; N], bound: [Option<Value>; N]) -> Kwargs {
    names.into_iter().zip(bound).filter_map(|(name, value)| Some((name, value?))).collect()
}

fn sort(state: &mut State, value: Value, arguments: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let names = ["reverse", "case_sensitive", "attribute"];
    let bound = bind("sort", &arguments.into_values(), names)?;
    filters::sort(state, value, by_name(names, bound))
}

fn dictsort(state: &State, value: Value, arguments: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let names = ["case_sensitive", "by", "reverse"];
    let bound = bind("dictsort", &arguments.into_values(), names)?;
    charge(state, value.len().unwrap_or(0).saturating_mul(10 * size_of::<Value>()))?;
    filters::dictsort(&value, by_name(names, bound))
}

fn indent(state: &State, value: Value, arguments: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let [width, first, blank] = bind("indent", &arguments.into_values(), ["width", "first", "blank"])?;
    let blanks = match given(&width).and_then(Value::as_str) {
        Some(text) => text.to_owned(),
        None => {
            let width = usize::try_from(whole(&width)?.unwrap_or(4)).unwrap_or(0);
            room(state, width)?;
            " ".repeat(width)
        }
    };
    // So that a line break at the end begins a line.
    let text = python::text(state, &value)? + "\n";
    let lines = python::lines(&text, false);
    room(state, lines.len().saturating_mul(blanks.len() + size_of::<String>()).saturating_add(text.len()))?;
    let indented = |(index, line): (usize, &&str)| {
        let takes = if index == 0 { flag(&first) } else { flag(&blank) || !line.is_empty() };
        if takes { format!("{blanks}{line}") } else { (*line).to_owned() }
    };
    Ok(lines.iter().enumerate().map(indented).collect::<Vec<_>>().join("\n"))
}

fn int(value: Value, arguments: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let [otherwise, base] = bind("int", &arguments.into_values(), ["default", "base"])?;
    let otherwise = otherwise.unwrap_or_else(|| Value::from(0));
    let Some(text) = value.as_str() else {
        return match value.kind() {
            ValueKind::Undefined => Err(refused("the value is undefined")),
            ValueKind::Number if !value.is_integer() => Ok(truncated(f64::try_from(value)?).unwrap_or(otherwise)),
            ValueKind::Number => Ok(value),
            ValueKind::Bool => Ok(Value::from(i64::from(value.is_true()))),
            _ => Ok(otherwise),
        };
    };
    let base = u32::try_from(whole(&base)?.unwrap_or(10)).unwrap_or(10).clamp(2, 36);
    let text = plain_number(text);
    let (sign, digits) = text.strip_prefix('-').map_or((1, text.trim_start_matches('+')), |digits| (-1, digits));
    let prefix = match base {
        2 => ["0b", "0B"],
        8 => ["0o", "0O"],
        16 => ["0x", "0X"],
        _ => ["", ""],
    };
    let digits = prefix.iter().find_map(|prefix| digits.strip_prefix(prefix)).unwrap_or(digits);
    let whole = i64::from_str_radix(digits, base).ok().filter(|_| !digits.starts_with(['+', '-']));
    Ok(whole.map(|whole| Value::from(sign * whole)).or_else(|| truncated(parse_float(&text)?)).unwrap_or(otherwise))
}

fn truncated(value: f64) -> Option<Value> {
    let whole = value.trunc();
    (whole.abs() < 9e18).then(|| Value::from(whole as i64))
}

/// A number's text without blanks around it and underscores within.
fn plain_number(text: &str) -> String {
    text.trim_matches(python::is_blank).replace('_', "")
}

fn parse_float(text: &str) -> Option<f64> {
    text.parse().ok()
}

fn float(value: Value, arguments: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let [otherwise] = bind("float", &arguments.into_values(), ["default"])?;
    let otherwise = otherwise.unwrap_or_else(|| Value::from(0.0));
    Ok(match value.as_str() {
        Some(text) => parse_float(&plain_number(text)).map_or(otherwise, Value::from),
        None if value.is_undefined() => return Err(refused("the value is undefined")),
        None if value.kind() == ValueKind::Bool => Value::from(f64::from(u8::from(value.is_true()))),
        None => f64::try_from(value).map_or(otherwise, Value::from),
    })
}

fn trim(state: &State, value: Value, arguments: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let [letters] = bind("trim", &arguments.into_values(), ["chars"])?;
    let text = python::text(state, &value)?;
    Ok(match given(&letters).and_then(Value::as_str) {
        Some(letters) => text.trim_matches(|letter| letters.contains(letter)).to_owned(),
        None => text.trim_matches(python::is_blank).to_owned(),
    })
}

fn join(state: &State, value: Value, arguments: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let [between, attribute] = bind("join", &arguments.into_values(), ["d", "attribute"])?;
    let between = python::text_of(state, &between)?;
    let of_item = |item: Value| match given(&attribute) {
        None => Ok(item),
        Some(name) => match name.as_str() {
            Some(path) => path.split('.').try_fold(item, |value, name| match name.parse::<usize>() {
                Ok(index) => value.get_item_by_index(index),
                Err(_) => value.get_attr(name),
            }),
            None => item.get_item(name),
        },
    };
    let mut out = String::new();
    if value.is_undefined() {
        return Ok(out);
    }
    for (index, item) in value.try_iter()?.enumerate() {
        if index > 0 {
            out.push_str(&between);
        }
        out.push_str(&python::text(state, &of_item(item)?)?);
        charge(state, size_of::<Value>())?;
        room(state, out.len() + between.len())?;
    }
    Ok(out)
}

fn escape(state: &State, value: Value) -> Result<Value, Error> {
    if value.is_safe() {
        return Ok(value);
    }
    let (text, mut out) = (python::text(state, &value)?, String::new());
    room(state, text.len().saturating_mul(6))?;
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            _ => out.push(letter),
        }
    }
    Ok(Value::from_safe_string(out))
}

fn truncate(state: &State, value: Value, arguments: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let names = ["length", "killwords", "end", "leeway"];
    let [length, within_words, end, leeway] = bind("truncate", &arguments.into_values(), names)?;
    let text = python::text(state, &value)?;
    room(state, text.len().saturating_mul(size_of::<char>()))?;
    let letters: Vec<char> = text.chars().collect();
    let length = usize::try_from(whole(&length)?.unwrap_or(255)).unwrap_or(0);
    let leeway = usize::try_from(whole(&leeway)?.unwrap_or(5)).unwrap_or(0);
    let end = end.as_ref().map_or_else(|| Ok("...".to_owned()), |end| python::text(state, end))?;
    if letters.len() <= length.saturating_add(leeway) {
        return Ok(letters.into_iter().collect());
    }
    let kept: String = letters[..length.saturating_sub(end.chars().count()).min(letters.len())].iter().collect();
    let kept = if flag(&within_words) { &*kept } else { kept.rsplit_once(' ').map_or(&*kept, |(words, _)| words) };
    Ok(format!("{kept}{end}"))
}

fn wordcount(state: &State, value: Value) -> Result<usize, Error> {
    let text = python::text(state, &value)?;
    let words = text.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    Ok(words.filter(|word| !word.is_empty()).count())
}

fn center(state: &State, value: Value, arguments: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let [width] = bind("center", &arguments.into_values(), ["width"])?;
    let text = python::text(state, &value)?;
    let width = usize::try_from(whole(&width)?.unwrap_or(80)).unwrap_or(0);
    room(state, width.saturating_add(text.len()))?;
    let missing = width.saturating_sub(text.chars().count());
    let before = methods::before_centered(missing, width.max(text.chars().count()));
    Ok(format!("{}{text}{}", " ".repeat(before), " ".repeat(missing - before)))
}

fn urlencode(state: &State, value: Value) -> Result<String, Error> {
    let quoted = |value: &Value, in_query: bool| {
        let byte = |byte: u8| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => char::from(byte).to_string(),
            b'/' if !in_query => "/".into(),
            b' ' if in_query => "+".into(),
            _ => format!("%{byte:02X}"),
        };
        let text = python::text(state, value)?;
        room(state, text.len().saturating_mul(3))?;
        Ok::<_, Error>(text.bytes().map(byte).collect::<String>())
    };
    if value.as_str().is_some() || !matches!(value.kind(), ValueKind::Map | ValueKind::Seq) {
        return quoted(&value, false);
    }
    let mut out = String::new();
    for item in value.try_iter()? {
        let (key, value) = match value.kind() {
            ValueKind::Map => (item.clone(), value.get_item(&item)?),
            _ => (item.get_item_by_index(0)?, item.get_item_by_index(1)?),
        };
        out.push_str(if out.is_empty() { "" } else { "&" });
        out.push_str(&format!("{}={}", quoted(&key, true)?, quoted(&value, true)?));
        room(state, out.len())?;
    }
    Ok(out)
}
