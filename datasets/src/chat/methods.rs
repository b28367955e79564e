//! Methods of Python's strings, lists and dictionaries that templates call.

use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

use super::arguments::{bind, charge, flag, given, refused, room, string, whole};
use super::filters::{replaced, room_to_format};
use super::python;

/// Calls `method` of `value`.
pub(super) fn call(state: &mut State, value: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    let found = match (value.kind(), value.as_str()) {
        (ValueKind::String, Some(text)) => {
            charge(state, text.len())?;
            if method == "format" {
                room_to_format(state, text, arguments)?;
            }
            match parts(state, text, method, arguments)? {
                Some(found) => Some(found),
                None => match places(text, method, arguments)? {
                    Some(found) => Some(found),
                    None => words(state, text, method, arguments)?,
                },
            }
        }
        (ValueKind::Seq | ValueKind::Iterable, _) => list(value, method, arguments)?,
        (ValueKind::Map, _) if method == "copy" => Some(value.clone()),
        _ => None,
    };
    found.map_or_else(|| pycompat::unknown_method_callback(state, value, method, arguments), Ok)
}

/// What cuts a string into others, or takes something off its ends.
fn parts(state: &State, text: &str, method: &str, arguments: &[Value]) -> Result<Option<Value>, Error> {
    // What a list takes of so many parts.
    let listed = |parts: usize| room(state, parts.saturating_mul(size_of::<Value>()).saturating_add(text.len()));
    let three = |(a, b, c): (&str, &str, &str)| Value::from(Tuple::from([a.into(), b.into(), c.into()]));
    Ok(Some(match method {
        "strip" | "lstrip" | "rstrip" => {
            let [letters] = bind(method, arguments, ["chars"])?;
            let letters: Option<Vec<char>> =
                given(&letters).and_then(Value::as_str).map(|letters| letters.chars().collect());
            let cut = |letter: char| letters.as_ref().map_or_else(|| python::is_blank(letter), |l| l.contains(&letter));
            let text = if method == "rstrip" { text } else { text.trim_start_matches(cut) };
            Value::from(if method == "lstrip" { text } else { text.trim_end_matches(cut) })
        }
        "split" | "rsplit" => {
            let [separator, most] = bind(method, arguments, ["sep", "maxsplit"])?;
            let most = whole(&most)?.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
            match given(&separator).map(|separator| separator.as_str()) {
                None => {
                    listed(text.split(python::is_blank).count().min(most))?;
                    by_blanks(text, most, method == "rsplit").into_iter().collect()
                }
                Some(None) => return Err(refused(format!("{method}() takes a string"))),
                Some(Some("")) => return Err(refused("empty separator")),
                Some(Some(separator)) => {
                    let most = most.saturating_add(1);
                    listed(text.matches(separator).count().min(most))?;
                    if method == "split" {
                        text.splitn(most, separator).collect()
                    } else {
                        let mut found: Vec<&str> = text.rsplitn(most, separator).collect();
                        found.reverse();
                        found.into_iter().collect()
                    }
                }
            }
        }
        "partition" => {
            let [separator] = bind(method, arguments, ["sep"])?;
            let separator = string(method, &separator)?;
            three(text.split_once(separator).map_or((text, "", ""), |(a, b)| (a, separator, b)))
        }
        "rpartition" => {
            let [separator] = bind(method, arguments, ["sep"])?;
            let separator = string(method, &separator)?;
            three(text.rsplit_once(separator).map_or(("", "", text), |(a, b)| (a, separator, b)))
        }
        "removeprefix" => {
            let [prefix] = bind(method, arguments, ["prefix"])?;
            Value::from(text.strip_prefix(string(method, &prefix)?).unwrap_or(text))
        }
        "removesuffix" => {
            let [suffix] = bind(method, arguments, ["suffix"])?;
            Value::from(text.strip_suffix(string(method, &suffix)?).unwrap_or(text))
        }
        "splitlines" => {
            let [keep] = bind(method, arguments, ["keepends"])?;
            let lines = python::lines(text, flag(&keep));
            listed(lines.len())?;
            lines.into_iter().collect()
        }
        "join" => {
            let [items] = bind(method, arguments, ["iterable"])?;
            let items = items.ok_or_else(|| refused("join() takes one argument"))?;
            let mut out = String::new();
            for (index, item) in items.try_iter()?.enumerate() {
                let refusal = || refused(format!("join() takes strings, found {}", item.kind()));
                out.push_str(if index > 0 { text } else { "" });
                out.push_str(item.as_str().ok_or_else(refusal)?);
                charge(state, size_of::<Value>())?;
                room(state, out.len() + text.len())?;
            }
            Value::from(out)
        }
        _ => return Ok(None),
    }))
}

/// `split()` and `rsplit()` without a separator: at runs of blanks, and with a greatest number of cuts the rest as it is.
fn by_blanks(text: &str, most: usize, from_right: bool) -> Vec<&str> {
    let (mut found, mut rest) = (Vec::new(), text);
    loop {
        rest = match from_right {
            true => rest.trim_end_matches(python::is_blank),
            false => rest.trim_start_matches(python::is_blank),
        };
        let cut = if from_right { rest.rfind(python::is_blank) } else { rest.find(python::is_blank) };
        match cut.filter(|_| found.len() < most) {
            _ if rest.is_empty() => break,
            None => {
                found.push(rest);
                break;
            }
            Some(at) if from_right => {
                let after = at + rest[at..].chars().next().map_or(0, char::len_utf8);
                found.push(&rest[after..]);
                rest = &rest[..at];
            }
            Some(at) => {
                found.push(&rest[..at]);
                rest = &rest[at..];
            }
        }
    }
    if from_right {
        found.reverse();
    }
    found
}

/// What looks for something in a string; places count letters.
fn places(text: &str, method: &str, arguments: &[Value]) -> Result<Option<Value>, Error> {
    if !["find", "rfind", "index", "rindex", "count", "startswith", "endswith"].contains(&method) {
        return Ok(None);
    }
    let [wanted, start, end] = bind(method, arguments, ["sub", "start", "end"])?;
    let letters = text.chars().count();
    let place = |given: Option<i64>, otherwise: usize| match given {
        None => otherwise,
        Some(at) if at < 0 => letters.saturating_sub(usize::try_from(-at).unwrap_or(usize::MAX)),
        Some(at) => usize::try_from(at).unwrap_or(usize::MAX),
    };
    let (start, end) = (place(whole(&start)?, 0), place(whole(&end)?, letters).min(letters));
    let byte = |letter: usize| text.char_indices().nth(letter).map_or(text.len(), |(at, _)| at);
    let within = if start <= end { &text[byte(start)..byte(end)] } else { "" };
    if matches!(method, "startswith" | "endswith") {
        let fits = |wanted: &Value| match wanted.as_str() {
            Some(wanted) if method == "startswith" => Ok(start <= letters && within.starts_with(wanted)),
            Some(wanted) => Ok(start <= letters && within.ends_with(wanted)),
            None => Err(refused(format!("{method}() takes a string or a tuple of strings"))),
        };
        let wanted = wanted.ok_or_else(|| refused(format!("{method}() takes a string")))?;
        if !wanted.is_tuple() {
            return fits(&wanted).map(|fits| Some(Value::from(fits)));
        }
        let found = wanted.try_iter()?.map(|one| fits(&one)).collect::<Result<Vec<_>, _>>()?;
        return Ok(Some(Value::from(found.contains(&true))));
    }
    let wanted = string(method, &wanted)?;
    if method == "count" {
        return Ok(Some(Value::from(if start > letters { 0 } else { within.matches(wanted).count() })));
    }
    let found = if start > letters {
        None
    } else if method.starts_with('r') {
        within.rfind(wanted)
    } else {
        within.find(wanted)
    };
    match found.map(|at| start + within[..at].chars().count()) {
        Some(at) => Ok(Some(Value::from(at))),
        None if method.ends_with("index") => Err(refused("substring not found")),
        None => Ok(Some(Value::from(-1))),
    }
}

/// What writes a string otherwise, or says of which letters it is.
fn words(state: &State, text: &str, method: &str, arguments: &[Value]) -> Result<Option<Value>, Error> {
    let all = |holds: fn(char) -> bool| Value::from(!text.is_empty() && text.chars().all(holds));
    Ok(Some(match method {
        "replace" => {
            let [old, new, count] = bind(method, arguments, ["old", "new", "count"])?;
            let (old, new) = (string(method, &old)?, string(method, &new)?);
            let count = whole(&count)?.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
            Value::from(replaced(state, text, old, new, count)?)
        }
        "title" => Value::from(title(text)),
        "swapcase" => {
            let swapped = |letter: char| -> String {
                if letter.is_uppercase() { letter.to_lowercase().collect() } else { letter.to_uppercase().collect() }
            };
            Value::from(text.chars().map(swapped).collect::<String>())
        }
        "casefold" => Value::from(text.to_lowercase().replace('ß', "ss").replace('ς', "σ")),
        "zfill" => {
            let [width] = bind(method, arguments, ["width"])?;
            let sign = text.len() - text.trim_start_matches(['+', '-']).len();
            let sign = sign.min(1);
            let zeros = padding(state, text, &width)?;
            Value::from(format!("{}{}{}", &text[..sign], "0".repeat(zeros), &text[sign..]))
        }
        "center" | "ljust" | "rjust" => {
            let [width, filler] = bind(method, arguments, ["width", "fillchar"])?;
            let filler = filler.as_ref().and_then(Value::as_str).unwrap_or(" ");
            let missing = padding(state, text, &width)?;
            let before = match method {
                "ljust" => 0,
                "rjust" => missing,
                _ => before_centered(missing, text.chars().count() + missing),
            };
            if filler.chars().count() > 1 {
                return Err(refused(format!("{method}() fills with one letter")));
            }
            Value::from(format!("{}{text}{}", filler.repeat(before), filler.repeat(missing - before)))
        }
        "expandtabs" => {
            let [size] = bind(method, arguments, ["tabsize"])?;
            let size = usize::try_from(whole(&size)?.unwrap_or(8)).unwrap_or(0);
            room(state, text.matches('\t').count().saturating_mul(size).saturating_add(text.len()))?;
            Value::from(without_tabs(text, size))
        }
        "isspace" => all(python::is_blank),
        "isprintable" => Value::from(text.chars().all(python::is_printable)),
        "isdecimal" | "isdigit" => all(|letter| letter.is_ascii_digit() || is_other_digit(letter)),
        "istitle" => Value::from(text.chars().any(char::is_alphabetic) && title(text) == text),
        "isidentifier" => {
            let mut letters = text.chars();
            let starts = letters.next().is_some_and(|first| first == '_' || first.is_alphabetic());
            Value::from(starts && letters.all(|letter| letter == '_' || letter.is_alphanumeric()))
        }
        _ => return Ok(None),
    }))
}

/// A digit of another script that counts from zero in tens, such as Arabic and full-width ones.
fn is_other_digit(letter: char) -> bool {
    let code = u32::from(letter);
    let zeros =
        [0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xe50, 0xed0, 0xff10];
    zeros.iter().any(|zero| (*zero..zero + 10).contains(&code))
}

/// `str.title`: a letter is large unless it follows one.
fn title(text: &str) -> String {
    let (mut out, mut follows) = (String::with_capacity(text.len()), false);
    for letter in text.chars() {
        if follows {
            out.extend(letter.to_lowercase());
        } else {
            out.extend(letter.to_uppercase());
        }
        follows = letter.is_alphabetic();
    }
    out
}

/// Letters that are missing from a width.
fn padding(state: &State, text: &str, width: &Option<Value>) -> Result<usize, Error> {
    let width = whole(width)?.ok_or_else(|| refused("a width is missing"))?;
    let missing = usize::try_from(width).unwrap_or(0).saturating_sub(text.chars().count());
    // One letter may take four bytes.
    room(state, missing.saturating_mul(4))?;
    Ok(missing)
}

/// How many of the missing letters stand before a centred text: Python gives the odd one to the left of odd widths.
pub(super) fn before_centered(missing: usize, width: usize) -> usize {
    missing / 2 + (missing & width & 1)
}

fn without_tabs(text: &str, size: usize) -> String {
    let (mut out, mut column) = (String::with_capacity(text.len()), 0);
    for letter in text.chars() {
        match letter {
            '\t' if size == 0 => {}
            '\t' => {
                let blanks = size - column % size;
                out.push_str(&" ".repeat(blanks));
                column += blanks;
            }
            '\n' | '\r' => {
                out.push(letter);
                column = 0;
            }
            _ => {
                out.push(letter);
                column += 1;
            }
        }
    }
    out
}

fn list(value: &Value, method: &str, arguments: &[Value]) -> Result<Option<Value>, Error> {
    match method {
        "copy" => Ok(Some(value.clone())),
        "index" => {
            let [wanted] = bind(method, arguments, ["value"])?;
            let found = value.try_iter()?.position(|item| Some(item) == wanted);
            found.map(|at| Some(Value::from(at))).ok_or_else(|| refused("the value is not in the list"))
        }
        "append" | "insert" | "extend" | "remove" | "pop" | "sort" | "reverse" | "clear" => Err(Error::new(
            ErrorKind::UnknownMethod,
            format!("access to attribute '{method}' of 'list' object is unsafe"),
        )),
        _ => Ok(None),
    }
}
