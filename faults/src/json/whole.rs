//! Whole numbers of more than 64 bits, and `-0`: Python keeps them to the digit, `serde_json` reads them as floats.

use serde_json::{Value, json};

use super::{Oddity, OddityKind, Scan};
use crate::is_hidden;

/// The one key of the object that stands for such a number in a value; no file has it.
const WHOLE: &str = "\u{0}whole";

/// The digits of the number that an object in a value stands for, which fit 128 bits.
pub fn whole(value: &Value) -> Option<&str> {
    let object = value.as_object().filter(|object| object.len() == 1)?;
    object.get(WHOLE)?.as_str()
}

/// Puts the whole numbers of `text` that were read as floats into its `value`, as [`whole`] reads them, and zero for `-0`.
/// Gives those of more than 128 bits, which stay floats.
pub fn keep_wholes(text: &str, value: &mut Value) -> Vec<Oddity> {
    if !may_hide(value) {
        return Vec::new();
    }
    let mut scan = Scan { text, stack: Vec::new(), found: Vec::new(), wanted: OddityKind::Whole };
    scan.run();
    scan.found.retain(|found| {
        let Some(place) = value.pointer_mut(&found.pointer).filter(|place| place.is_f64()) else { return false };
        let digits = &found.written;
        let is_kept = digits.parse::<i128>().is_ok() || digits.parse::<u128>().is_ok();
        if is_kept {
            *place = if digits == "-0" { json!(0) } else { json!({ WHOLE: digits }) };
        }
        !is_kept
    });
    scan.found
}

/// A value as JSON on one line, its whole numbers to the digit; see [`shown`].
pub fn to_line(value: &Value) -> String {
    let text = value.to_string();
    let begin = format!("{{{}:\"", Value::from(WHOLE));
    let mut parts = text.split(begin.as_str());
    let mut line = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_once("\"}").unwrap_or((part, ""));
        line.extend([digits, rest]);
    }
    shown(line)
}

/// JSON that a terminal may be given: the same values, with escapes for what it would do in place of showing it.
pub fn shown(text: String) -> String {
    if !text.contains(is_hidden) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        match letter {
            // Between values; within them JSON has escapes for these already.
            '\r' => out.push(letter),
            _ if is_hidden(letter) => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            _ => out.push(letter),
        }
    }
    out
}

/// True for a value with a float that may have been written as a whole number.
fn may_hide(value: &Value) -> bool {
    match value {
        Value::Number(number) if number.is_f64() => number
            .as_f64()
            .is_some_and(|float| float.abs() >= i64::MAX as f64 || float == 0.0 && float.is_sign_negative()),
        Value::Array(values) => values.iter().any(may_hide),
        Value::Object(fields) => fields.values().any(may_hide),
        _ => false,
    }
}

/// True for a whole number that Rust's 64 bits do not hold, and for `-0`.
pub(super) fn is_long(written: &str) -> bool {
    let digits = written.strip_prefix('-').unwrap_or(written);
    !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && (written == "-0" || written.parse::<i64>().is_err() && written.parse::<u64>().is_err())
}
