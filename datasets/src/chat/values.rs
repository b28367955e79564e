//! What a row holds, as a template has it.

use faults::json::whole;
use minijinja::Value;
use serde_json::Value as Json;

/// A value of JSON as Python reads it.
pub(super) fn given(value: &Json) -> Value {
    match value {
        Json::Null => Value::from(()),
        Json::Bool(flag) => Value::from(*flag),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(given).collect(),
        Json::Object(fields) => match whole(value) {
            Some(digits) => long(digits),
            None => Value::from_pairs(fields.iter().map(|(key, value)| (key.as_str(), given(value)))),
        },
    }
}

/// A whole number of more than 64 bits.
fn long(digits: &str) -> Value {
    let negative = digits.parse::<i128>().map(Value::from);
    negative.or_else(|_| digits.parse::<u128>().map(Value::from)).expect("a number that was kept has its digits")
}
