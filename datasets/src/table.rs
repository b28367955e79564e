//! Cells of tables, and texts of rows, that are texts where a row of JSON has a list, a number or a flag.

use faults::Fault;
use serde_json::{Map, Value};

use crate::row::{Names, decoded, wrong_type};
use crate::shapes::message::ROLE;

/// Keys with lists.
const LISTS: [&str; 6] = ["targets", "weights", "steps", "generations", "partition", "same"];

/// Keys with turns: a list wherever they stand.
const TURNS: [&str; 2] = ["messages", "conversations"];

/// Keys with a text or turns: in a table, which has no lists, turns are told by who speaks.
const TEXT_OR_TURNS: [&str; 2] = ["prompt", "completion"];

/// Keys with true or false.
const FLAGS: [&str; 2] = ["eos", "correct"];

/// Keys with a number.
const NUMBERS: [&str; 2] = ["score", "n"];

/// Reads turns that are JSON in a text, so that nothing of them is passed over. A text that is none stays, to be told of where
/// the turns are read.
pub(crate) fn read_turns(object: &mut Map<String, Value>, names: Names<'_>, is_table: bool) {
    for (column, value) in object.iter_mut() {
        let Some(key) = names.key_of(column) else { continue };
        let Value::String(text) = &*value else { continue };
        let may_be = TURNS.contains(&key) || is_table && TEXT_OR_TURNS.contains(&key);
        if !may_be || !text.trim_start().starts_with('[') {
            continue;
        }
        let speaks = |turn: &Value| ROLE.iter().any(|role| turn.get(role).is_some());
        match decoded(column, value) {
            Ok(Value::Array(turns)) if TURNS.contains(&key) || !turns.is_empty() && turns.iter().all(speaks) => {
                *value = Value::Array(turns);
            }
            _ => {}
        }
    }
}

/// Reads the texts of a table's row under keys that take none; an empty one is as if it were not there.
///
/// # Errors
/// A text that is not what the key takes.
pub(crate) fn typed(object: &mut Map<String, Value>, names: Names<'_>) -> Result<(), Fault> {
    for (column, value) in object.iter_mut() {
        let Some(key) = names.key_of(column) else { continue };
        let Value::String(text) = &*value else { continue };
        let (is_list, is_flag, is_number) = (LISTS.contains(&key), FLAGS.contains(&key), NUMBERS.contains(&key));
        let read = match text.trim() {
            _ if !(is_list || is_flag || is_number) => continue,
            "" => Value::Null,
            _ if is_list => decoded(column, value)?,
            // As JSON has them, and as Python prints them.
            "true" | "True" if is_flag => Value::Bool(true),
            "false" | "False" if is_flag => Value::Bool(false),
            "1" | "1.0" if key == "correct" => Value::Bool(true),
            "0" | "0.0" if key == "correct" => Value::Bool(false),
            number if is_number => serde_json::from_str::<serde_json::Number>(number)
                .map(Value::Number)
                .map_err(|_| wrong_type(column, "a number", value))?,
            _ => return Err(wrong_type(column, "true or false", value)),
        };
        *value = read;
    }
    Ok(())
}
