//! JSON values with others in the place of theirs, by which one sees whether a template writes them.

use faults::json::whole;
use serde_json::{Value, json};

use super::said::OTHERWISE;

/// The texts, numbers and flags of a value, each with its path, in which a place in a list is nothing and a property's name `*`.
pub(super) fn leaves<'v>(value: &'v Value, path: &str, found: &mut Vec<(String, &'v Value)>) {
    match value {
        Value::String(_) | Value::Number(_) | Value::Bool(_) => found.push((path.to_owned(), value)),
        Value::Array(values) => values.iter().for_each(|value| leaves(value, path, found)),
        Value::Object(fields) => fields.iter().for_each(|(key, value)| leaves(value, &below(path, key), found)),
        Value::Null => {}
    }
}

/// The value with others of its [`leaves`] wherever `changes` holds for their path and them; `None` where nothing changes.
pub(super) fn otherwise(value: &Value, changes: &dyn Fn(&str, &Value) -> bool) -> Option<Value> {
    let mut changed = value.clone();
    edit(&mut changed, "", &mut |path, value| {
        if changes(path, value) {
            alter(value);
        }
    });
    (changed != *value).then_some(changed)
}

/// The lists of several texts, numbers or flags within a value by their paths, as JSON in Python's way of one such list, with the
/// value with another first and with another last in the lists of that path: a template may write one of several.
pub(super) fn edges(value: &Value) -> Vec<(String, String, Value)> {
    let mut lists: Vec<(String, String)> = Vec::new();
    edit(&mut value.clone(), "", &mut |path, value| {
        let Value::Array(values) = value else { return };
        let is_of_leaves = values.len() > 1 && !values.iter().any(|value| value.is_array() || value.is_object());
        if is_of_leaves && !lists.iter().any(|(known, _)| known == path) {
            let said: Vec<String> = values.iter().map(Value::to_string).collect();
            lists.push((path.to_owned(), format!("[{}]", said.join(", "))));
        }
    });
    let both = lists.into_iter().flat_map(|list| [(list.clone(), false), (list, true)]);
    let edited = both.map(|((at, said), is_last)| {
        let mut changed = value.clone();
        edit(&mut changed, "", &mut |path, value| match value {
            Value::Array(values) if path == at && values.len() > 1 => {
                let edge = if is_last { values.last_mut() } else { values.first_mut() };
                edge.into_iter().for_each(alter);
            }
            _ => {}
        });
        (at, said, changed)
    });
    edited.collect()
}

/// The value with other keys in the objects at this path.
pub(super) fn renamed(value: &Value, at: &str) -> Value {
    let mut changed = value.clone();
    edit(&mut changed, "", &mut |path, value| match value {
        Value::Object(fields) if path == at => {
            *fields = std::mem::take(fields).into_iter().map(|(key, value)| (key + OTHERWISE, value)).collect();
        }
        _ => {}
    });
    changed
}

/// The paths of objects whose keys are names that a tool gives to its arguments.
pub(super) fn names(value: &Value) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    edit(&mut value.clone(), "", &mut |path, value| {
        let is_named = value.as_object().is_some_and(|fields| !fields.is_empty());
        if holds_names(path) && is_named && !found.iter().any(|known| known == path) {
            found.push(path.to_owned());
        }
    });
    found
}

/// Gives each value with its path, those that hold others before what they hold.
fn edit(value: &mut Value, path: &str, each: &mut dyn FnMut(&str, &mut Value)) {
    each(path, value);
    match value {
        // A number of more than 64 bits is kept as an object of its digits.
        Value::Object(_) if whole(value).is_some() => {}
        Value::Array(values) => values.iter_mut().for_each(|value| edit(value, path, each)),
        Value::Object(fields) => fields.iter_mut().for_each(|(key, value)| edit(value, &below(path, key), each)),
        _ => {}
    }
}

/// Puts another text, number or flag in the place of one.
fn alter(value: &mut Value) {
    match value {
        Value::String(text) => text.push_str(OTHERWISE),
        Value::Number(number) => *value = if number.as_i64() == Some(1) { json!(2) } else { json!(1) },
        Value::Bool(flag) => *value = (!*flag).into(),
        _ => {}
    }
}

/// The path of a key within `path`.
fn below(path: &str, key: &str) -> String {
    let key = if holds_names(path) { "*" } else { key };
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// True for a path whose keys are names.
fn holds_names(path: &str) -> bool {
    path.rsplit('.').next().is_some_and(|last| ["properties", "$defs", "definitions"].contains(&last))
}
