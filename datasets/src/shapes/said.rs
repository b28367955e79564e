//! What a message says, part by part, each beside the message with another in its place.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::message::THOUGHTS;
use super::values::{edges, leaves, otherwise, renamed};
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
    if let Some((opening, thought, after)) =
        thought_in(message.text()).filter(|(_, thought, _)| !thought.trim().is_empty())
    {
        let content = Some(format!("{opening}{thought}{OTHERWISE}</think>{after}"));
        parts.push(Part { name: "<think>".into(), words: None, otherwise: Message { content, ..message.clone() } });
    }
    for key in THOUGHTS {
        match message.fields.get(key) {
            Some(Value::String(thought)) if !thought.trim().is_empty() => {
                parts.push(with_field(message, key.into(), key, format!("{thought}{OTHERWISE}").into()));
            }
            _ => {}
        }
    }
    parts.extend(parts_of_calls(message));
    parts
}

/// A thought within a content, between what opens it and what follows it.
fn thought_in(content: &str) -> Option<(&str, &str, &str)> {
    let (before, after) = content.rsplit_once("</think>")?;
    let thought = before.split_once("<think>").map_or(before, |(_, thought)| thought);
    Some((&before[..before.len() - thought.len()], thought, after))
}

/// All that the calls of a message say.
pub(super) fn parts_of_calls(message: &Message) -> impl Iterator<Item = Part> {
    let calls = message.fields.get("tool_calls").and_then(Value::as_array).map_or(0, Vec::len);
    (0..calls).flat_map(|at| parts_of_call(message, at))
}

/// The texts that a message says beside its content, each with its place: thoughts, the names of called functions, and plain texts
/// among the arguments (others are written in too many ways to be looked for).
pub(super) fn beside_content(message: &Message) -> Vec<(String, &str)> {
    let mut found = Vec::new();
    for key in THOUGHTS {
        found.extend(message.fields.get(key).and_then(Value::as_str).map(|thought| (key.to_owned(), thought.trim())));
    }
    found.extend(thought_in(message.text()).map(|(_, thought, _)| ("content".to_owned(), thought.trim())));
    let calls = message.fields.get("tool_calls").and_then(Value::as_array).into_iter().flatten();
    for (at, call) in calls.enumerate() {
        let function = call.get("function").unwrap_or(call);
        let place = format!("tool_calls[{at}]");
        found.extend(function.get("name").and_then(Value::as_str).map(|name| (place.clone(), name)));
        let arguments = function.get("arguments").and_then(Value::as_object).into_iter().flatten();
        let plain = |text: &&str| text.chars().all(|letter| letter.is_alphanumeric() || " .,-_".contains(letter));
        let texts = arguments.filter_map(|(name, value)| Some((name, value.as_str().filter(plain)?)));
        found.extend(texts.map(|(name, text)| (format!("{place}.function.arguments.{name}"), text)));
    }
    found.retain(|(_, text)| !text.is_empty());
    found
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
    let mut parts = vec![with_field(
        message,
        named_call(message, at).into(),
        "tool_calls",
        changed(true, "name", json!(OTHERWISE)),
    )];
    let outer = calls[at].as_object().into_iter().flatten().filter(|_| is_wrapped);
    let keys = call.iter().map(|pair| (true, pair)).chain(outer.map(|pair| (false, pair)));
    for (is_inner, (key, value)) in keys {
        if ["name", "function", "type", "id", "index"].contains(&key.as_str()) {
            continue;
        }
        let name = format!("tool_calls[{at}].{}{key}", if is_inner && is_wrapped { "function." } else { "" });
        if let Some(value) = otherwise(value, &|_, _| true) {
            parts.push(with_field(message, name.clone().into(), "tool_calls", changed(is_inner, key, value)));
        }
        // A template may write one argument of several.
        let mut said = Vec::new();
        leaves(value, "", &mut said);
        let paths: BTreeSet<&str> = said.iter().map(|(path, _)| path.as_str()).collect();
        for path in paths.iter().filter(|_| paths.len() > 1) {
            if let Some(other) = otherwise(value, &|other, _| other == *path) {
                let name = format!("{name}.{path}").into();
                let part = with_field(message, name, "tool_calls", changed(is_inner, key, other));
                parts.push(Part { words: value.get(path).map(|said| pair(path, said)), ..part });
            }
        }
        for (path, list, other) in edges(value) {
            let part =
                with_field(message, format!("{name}.{path}").into(), "tool_calls", changed(is_inner, key, other));
            parts.push(Part { words: Some(list), ..part });
        }
        if let Some((argument, said)) = value.as_object().and_then(|arguments| arguments.iter().next()) {
            let renamed = changed(is_inner, key, renamed(value, ""));
            let part = with_field(message, format!("{name}.*").into(), "tool_calls", renamed);
            parts.push(Part { words: Some(pair(argument, said)), ..part });
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

/// A call by its field, and its number where there are several.
fn named_call(message: &Message, at: usize) -> String {
    let several = message.fields["tool_calls"].as_array().is_some_and(|calls| calls.len() > 1);
    if several { format!("tool_calls[{at}]") } else { "tool_calls".to_owned() }
}

/// An argument as the object of all of them has it in JSON, as Python writes that.
fn pair(argument: &str, value: &Value) -> String {
    format!("{}: {value}", Value::from(argument))
}
