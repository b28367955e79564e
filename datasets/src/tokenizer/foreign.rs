//! The crate `tokenizers` on files that nobody vouches for: where it panics, the file is named and not this program.

use std::str::FromStr;
use std::time::Duration;

use faults::{Fault, Place, apart, caught};
use serde_json::Value;

use super::AGAIN;

/// How long reading may take: a hundred times as long as the largest vocabulary takes.
const LIMIT: Duration = Duration::from_secs(120);

/// How many times as long a text may become by what a tokenizer replaces in it: one step after another, each doubling, would
/// make any text of a word.
const GROWTH: usize = 1 << 12;

/// Reads `tokenizer.json`.
///
/// # Errors
/// It cannot be read, whatever the crate does about that.
pub(super) fn read(name: &str, text: &str) -> Result<tokenizers::Tokenizer, Fault> {
    let owned = text.to_owned();
    let read = apart(LIMIT, move || tokenizers::Tokenizer::from_str(&owned).map_err(|error| error.to_string()));
    let fault = |reason| Fault::new(format!("cannot read the tokenizer: {reason}")).at(Place::file(name)).hint(AGAIN);
    let read = read.map_err(|stopped| fault(stopped.to_string()).hint(stopped.hint(AGAIN)))?;
    let tokenizer = read.map_err(fault)?;
    let steps = [serde_json::to_value(tokenizer.get_normalizer()), serde_json::to_value(tokenizer.get_decoder())];
    for step in steps.into_iter().flatten() {
        let growth = growth(&step);
        if growth > GROWTH {
            return Err(fault(format!("what it replaces may make a text more than {GROWTH} times as long")));
        }
    }
    Ok(tokenizer)
}

/// How many times as many letters there may be after a step that replaces.
fn growth(step: &Value) -> usize {
    let letters = |value: &Value| value.as_str().map_or(0, |text| text.chars().count());
    match step {
        Value::Array(steps) => steps.iter().map(growth).fold(1, usize::saturating_mul),
        Value::Object(fields) if fields.get("type").and_then(Value::as_str) == Some("Replace") => {
            match step.pointer("/pattern/String").map(letters) {
                Some(found) if found > 0 => letters(&step["content"]).div_ceil(found).max(1),
                // An expression may match nothing, before each letter.
                _ => letters(&step["content"]) + 1,
            }
        }
        Value::Object(fields) => fields.values().map(growth).fold(1, usize::saturating_mul),
        _ => 1,
    }
}

/// The result of a call on a text or on ids.
///
/// # Errors
/// That of the call, or its panic.
pub(super) fn called<T, E: ToString>(call: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    caught(call).map_err(|stopped| stopped.to_string())?.map_err(|error| error.to_string())
}
