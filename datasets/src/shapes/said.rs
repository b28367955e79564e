//! What a message says, part by part, each beside the message with another in its place.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::beside::otherwise;
use super::message::THOUGHTS;
use crate::conversation::Message;

/// What the beginning of a content is called.
pub(super) const BEGINNING: &str = "beginning";

/// What is added to a part to see whether it is read, and to its end.
pub(super) const OTHERWISE: &str = "otherwise";

/// A part of what a message says.
pub(super) struct Part {
    /// Its field, of a thought in the content the tag, of a call the key.
    pub(super) name: Cow<'static, str>,
    /// What a text shows that has it; `None` where that could be another part's.
    pub(super) words: Option<String>,
    /// The message with more in its place.
    pub(super) otherwise: Message,
}

impl Part {
    /// True for a thought, or what stands in a tag as thoughts do.
    pub(super) fn is_thought(&self) -> bool {
        self.name.starts_with(['<', '[']) || THOUGHTS.contains(&&*self.name)
    }

    /// True for what stands in the content.
    pub(super) fn is_of_content(&self) -> bool {
        self.name == "content" || self.name == BEGINNING || self.name.starts_with(['<', '['])
    }
}

/// All that a message says.
pub(super) fn parts(message: &Message) -> Vec<Part> {
    let mut parts: Vec<Part> = words_of(message).into_iter().chain(beginning_of(message)).collect();
    if let Some((before, after)) = message.text().rsplit_once("</think>") {
        let thought = before.split_once("<think>").map_or(before, |(_, thought)| thought);
        let opening = &before[..before.len() - thought.len()];
        if !thought.trim().is_empty() {
            let content = Some(format!("{opening}{thought}{OTHERWISE}</think>{after}"));
            parts.push(Part { name: "<think>".into(), words: None, otherwise: Message { content, ..message.clone() } });
        }
    }
    for key in THOUGHTS {
        match message.fields.get(key) {
            Some(Value::String(thought)) if !thought.trim().is_empty() => {
                parts.push(with_field(message, key.into(), key, format!("{thought}{OTHERWISE}").into()));
            }
            _ => {}
        }
    }
    let calls = message.fields.get("tool_calls").and_then(Value::as_array);
    (0..calls.map_or(0, Vec::len)).for_each(|at| parts.extend(parts_of_call(message, at)));
    parts
}

/// The message with another value of a field.
fn with_field(message: &Message, name: Cow<'static, str>, field: &str, value: Value) -> Part {
    let mut otherwise = message.clone();
    otherwise.fields.insert(field.into(), value);
    Part { name, words: None, otherwise }
}

/// What a call says: whom it calls, with which arguments, and whatever else it has beside its type and its id, which are no
/// words of the model's.
fn parts_of_call(message: &Message, at: usize) -> Vec<Part> {
    let calls = &message.fields["tool_calls"];
    let is_wrapped = calls[at].get("function").is_some();
    let inner = if is_wrapped { calls[at].get("function") } else { calls.get(at) };
    let Some(Value::Object(call)) = inner else { return Vec::new() };
    let changed = |is_inner: bool, key: &str, value: Value| {
        let mut calls = calls.clone();
        let call = if is_inner && is_wrapped { calls[at].get_mut("function") } else { calls.get_mut(at) };
        if let Some(Value::Object(call)) = call {
            call.insert(key.into(), value);
        }
        calls
    };
    let mut parts =
        vec![with_field(message, "tool_calls".into(), "tool_calls", changed(true, "name", json!(OTHERWISE)))];
    let outer = calls[at].as_object().into_iter().flatten().filter(|_| is_wrapped);
    let keys = call.iter().map(|pair| (true, pair)).chain(outer.map(|pair| (false, pair)));
    for (is_inner, (key, value)) in keys {
        if ["name", "function", "type", "id", "index"].contains(&key.as_str()) {
            continue;
        }
        let name = format!("tool_calls[{at}].{}{key}", if is_inner && is_wrapped { "function." } else { "" });
        if let Some(value) = otherwise(value, &|_| true) {
            parts.push(with_field(message, name.clone().into(), "tool_calls", changed(is_inner, key, value)));
        }
        // A template may write one argument of several.
        let several = value.as_object().filter(|arguments| arguments.len() > 1).into_iter().flatten();
        for (argument, said) in several {
            if let Some(said) = otherwise(said, &|_| true) {
                let mut arguments = value.clone();
                arguments[argument] = said;
                let name = format!("{name}.{argument}").into();
                let part = with_field(message, name, "tool_calls", changed(is_inner, key, arguments));
                parts.push(Part { words: Some(pair(argument, &value[argument])), ..part });
            }
        }
    }
    parts
}

/// The beginning of what a message says, which a template may cut off; of a text that begins with a tag, what follows it.
fn beginning_of(message: &Message) -> Option<Part> {
    let content = message.text();
    let blanks = content.len() - content.trim_start().len();
    let closed = match content[blanks..].chars().next()? {
        '<' => '>',
        '[' => ']',
        _ => '\0',
    };
    let tag = content[blanks..].find(closed).map(|end| &content[blanks..=blanks + end]);
    let tag = tag.filter(|tag| !tag.contains(char::is_whitespace)).unwrap_or_default();
    // What a template makes of this one is looked at by itself.
    if tag == "<think>" || message.role == "assistant" && content.contains("</think>") {
        return None;
    }
    let (before, after) = content.split_at(blanks + tag.len());
    let otherwise = Message { content: Some(format!("{before}{OTHERWISE}{after}")), ..message.clone() };
    let name = if tag.is_empty() { BEGINNING.into() } else { Cow::Owned(tag.to_owned()) };
    Some(Part { name, words: Some(content.trim().to_owned()), otherwise })
}

/// Who speaks, where a message says it beside its role; a template that writes the names of tools reads a field of this name.
pub(super) fn name_of(message: &Message) -> Option<Part> {
    let name = message.fields.get("name")?.as_str().filter(|name| !name.is_empty())?;
    let mut otherwise = message.clone();
    otherwise.fields.insert("name".into(), format!("{name}{OTHERWISE}").into());
    Some(Part { name: "name".into(), words: None, otherwise })
}

/// The words of a message, without a thought.
pub(super) fn words_of(message: &Message) -> Option<Part> {
    let content = message.text();
    let (thought, words) = match content.rfind("</think>").filter(|_| message.role == "assistant") {
        Some(at) => content.split_at(at + "</think>".len()),
        None => ("", content),
    };
    let otherwise = Message { content: Some(format!("{thought}{words}{OTHERWISE}")), ..message.clone() };
    let words = words.trim();
    (!words.is_empty()).then(|| Part { name: "content".into(), words: Some(words.to_owned()), otherwise })
}

/// An argument as the object of all of them has it in JSON, as Python writes that.
fn pair(argument: &str, value: &Value) -> String {
    format!("{}: {value}", Value::from(argument))
}
