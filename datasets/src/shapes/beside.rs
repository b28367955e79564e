//! What stands beside the messages of a conversation and no text has.

use std::collections::BTreeSet;

use faults::json::whole;
use serde_json::{Value, json};

use super::said::OTHERWISE;
use crate::conversation::Conversation;
use crate::notices::Oddity;

/// What stands beside the messages and changes nothing in `text`, which `written` gives for the conversation: `tools`,
/// `documents`, or a field of either. A template may test for them, or count them, and write nothing of what they say.
pub(super) fn unread(
    conversation: &Conversation,
    text: &str,
    written: &impl Fn(&Conversation) -> Option<String>,
) -> Vec<(Oddity, String)> {
    let is_same = |changed: Conversation| written(&changed).as_deref() == Some(text);
    let mut found = Vec::new();
    // Most templates write each tool as it stands, in JSON.
    if let Some(tools) = conversation.tools.as_ref().filter(|tools| !has_each(text, tools)) {
        let is_same = |tools: Option<Value>| is_same(Conversation { tools, ..conversation.clone() });
        // The type of a tool or of an argument decides how a template goes on, and may not be another.
        found.extend(unread_of("tools", tools, &|key| key != "type", &is_same));
    }
    if let Some(documents) = &conversation.documents {
        let is_same = |documents: Option<Value>| is_same(Conversation { documents, ..conversation.clone() });
        found.extend(unread_of("documents", documents, &|_| true, &is_same));
    }
    found.into_iter().map(|what| (Oddity::Unread, format!("`{what}`"))).collect()
}

/// The name of the list where nothing that it says is read, and otherwise of each of its fields that is not; `is_same` where
/// another list in its place gives the same text.
fn unread_of(
    name: &str,
    values: &Value,
    says: &impl Fn(&str) -> bool,
    is_same: &impl Fn(Option<Value>) -> bool,
) -> Vec<String> {
    let is_unread = |says: &dyn Fn(&str) -> bool| otherwise(values, says).is_some_and(|changed| is_same(Some(changed)));
    if is_same(None) || is_unread(says) {
        return vec![name.to_owned()];
    }
    let mut keys = BTreeSet::new();
    keys_of(values, &mut keys);
    let is_lost = |key: &&str| says(key) && is_unread(&|other| other == *key);
    let has = |key: &str| values.as_array().into_iter().flatten().any(|value| value.get(key).is_some());
    // A key further below is written as JSONPath has it.
    let named = |key| if has(key) { format!("{name}[].{key}") } else { format!("{name}..{key}") };
    keys.into_iter().filter(is_lost).map(named).collect()
}

fn keys_of<'a>(value: &'a Value, keys: &mut BTreeSet<&'a str>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| keys_of(value, keys)),
        Value::Object(fields) => {
            for (key, value) in fields {
                keys.insert(key);
                keys_of(value, keys);
            }
        }
        _ => {}
    }
}

/// True where the text has each value of the list in JSON, whatever blanks it is written with.
fn has_each(text: &str, list: &Value) -> bool {
    let dense = |text: &str| text.split_whitespace().collect::<String>();
    let text = dense(text);
    list.as_array().is_some_and(|values| values.iter().all(|value| text.contains(&dense(&value.to_string()))))
}

/// The value with other texts and numbers wherever `changes` holds for the nearest key above them, and above no key;
/// `None` where nothing changes.
pub(super) fn otherwise(value: &Value, changes: &dyn Fn(&str) -> bool) -> Option<Value> {
    let mut changed = value.clone();
    change(&mut changed, true, changes);
    (changed != *value).then_some(changed)
}

fn change(value: &mut Value, here: bool, changes: &dyn Fn(&str) -> bool) {
    match value {
        Value::String(text) if here => text.push_str(OTHERWISE),
        Value::Number(number) if here => *value = if number.as_i64() == Some(1) { json!(2) } else { json!(1) },
        // A number of more than 64 bits is kept as an object of its digits.
        Value::Object(_) if whole(value).is_some() => {}
        Value::Array(values) => values.iter_mut().for_each(|value| change(value, here, changes)),
        Value::Object(fields) => fields.iter_mut().for_each(|(key, value)| change(value, changes(key), changes)),
        _ => {}
    }
}
