//! What a message says and no text has. A chat template may speak of a field and yet leave it out: what counts is
//! whether its text is another where the field is.

use std::collections::BTreeSet;

use faults::json::whole;
use serde_json::{Map, Value, json};

use super::message::THOUGHTS;
use crate::conversation::{Conversation, Message};
use crate::notices::Oddity;
use crate::tokenizer::Tokenizer;
use crate::way::Way;

/// Switches of templates by which thoughts come and go.
pub(crate) const SWITCHES: [&str; 7] = [
    "enable_thinking",
    "thinking",
    "preserve_thinking",
    "keep_past_thinking",
    "clear_thinking",
    "truncate_history_thinking",
    "add_thoughts",
];

/// What is added to a part to see whether it is read, and to its end.
const OTHERWISE: &str = "otherwise";

/// A part of what a message says.
pub(super) struct Part {
    /// Its field, and of a thought in the content the tag.
    name: &'static str,
    /// What a text shows that has it; `None` where that could be another part's.
    words: Option<String>,
    /// The message with more in its place.
    pub(super) otherwise: Message,
}

/// The parts of the learned message `index` that no text has which `written` gives for a conversation.
pub(super) fn unlearned(
    conversation: &Conversation,
    index: usize,
    tokenizer: &Tokenizer,
    written: &impl Fn(&Conversation) -> Option<String>,
) -> Vec<(Oddity, String)> {
    unlearned_of(conversation, index, tokenizer, written, written)
}

/// The same where of what is `written` the text that is `learned` is only a part.
pub(super) fn unlearned_of(
    conversation: &Conversation,
    index: usize,
    tokenizer: &Tokenizer,
    written: &impl Fn(&Conversation) -> Option<String>,
    learned: &impl Fn(&Conversation) -> Option<String>,
) -> Vec<(Oddity, String)> {
    let Some(text) = learned(conversation) else { return Vec::new() };
    let mut parts = parts(&conversation.messages[index]);
    parts.retain(|part| is_lost(conversation, index, part, &text, learned));
    let is_written = |part: &Part| {
        let otherwise = written(&with(conversation, index, &part.otherwise));
        otherwise.is_some_and(|otherwise| written(conversation).is_some_and(|text| text != otherwise))
    };
    let told = |part: Part| {
        let name = named(index, part.name);
        if is_written(&part) {
            return (Oddity::Unmarked, name);
        }
        let switch = switch_for(conversation, index, &part, tokenizer, learned);
        let switch = switch.map(|switch| format!(", which the switch `{switch}` would write"));
        (Oddity::Unlearned, name + &switch.unwrap_or_default())
    };
    parts.into_iter().map(told).collect()
}

/// The words of other messages before the last of `turns`, and what else users, tools and the system say there, that stand
/// in none of `texts` and change nothing in what `seen` gives for a conversation.
pub(super) fn unseen(
    conversation: &Conversation,
    turns: &[(usize, bool)],
    texts: &[&str],
    tokenizer: &Tokenizer,
    seen: &impl Fn(&Conversation) -> Option<String>,
) -> Vec<(Oddity, String)> {
    let last = turns.last().map_or(0, |(index, _)| *index);
    let mut found = Vec::new();
    for (index, message) in conversation.messages[..last].iter().enumerate() {
        if turns.iter().any(|(turn, _)| *turn == index) {
            continue;
        }
        // What else the assistant said before is left out on purpose by templates that drop earlier thoughts.
        let mut said = match message.role == "assistant" {
            true => words_of(message).into_iter().collect(),
            false => parts(message),
        };
        // Where no template field has this name, it is told as a field that nothing reads.
        if tokenizer.template_reads_field("name") {
            said.extend(name_of(message));
        }
        for part in said {
            let is_there = part.words.as_deref().is_some_and(|words| texts.iter().any(|text| text.contains(words)));
            if !is_there && seen(conversation).is_some_and(|text| is_lost(conversation, index, &part, &text, seen)) {
                found.push((Oddity::Unread, format!("messages[{index}].{} of `{}`", part.name, message.role)));
            }
        }
    }
    found
}

/// What stands beside the messages and changes nothing in `text`, which `written` gives for the conversation: `tools`,
/// `documents`, or a field of the documents. A template may test for them, or count them, and write nothing of what they say.
pub(super) fn unread_beside(
    conversation: &Conversation,
    text: &str,
    written: &impl Fn(&Conversation) -> Option<String>,
) -> Vec<(Oddity, String)> {
    let mut found = Vec::new();
    let is_same = |changed: Conversation| written(&changed).as_deref() == Some(text);
    if let Some(tools) = &conversation.tools {
        let with = |tools: Option<Value>| is_same(Conversation { tools, ..conversation.clone() });
        // The type of a tool or of an argument decides how a template goes on, and may not be another.
        if with(None) || otherwise(tools, &|key| key != "type").is_some_and(|tools| with(Some(tools))) {
            found.push("tools".to_owned());
        }
    }
    if let Some(documents) = &conversation.documents {
        let with = |documents: Option<Value>| is_same(Conversation { documents, ..conversation.clone() });
        if with(None) || otherwise(documents, &|_| true).is_some_and(|documents| with(Some(documents))) {
            found.push("documents".to_owned());
        } else {
            let fields = documents.as_array().into_iter().flatten().filter_map(Value::as_object).flat_map(Map::keys);
            for field in fields.collect::<BTreeSet<_>>() {
                let changed = otherwise(documents, &|key| key == field);
                if changed.is_some_and(|documents| with(Some(documents))) {
                    found.push(format!("documents[].{field}"));
                }
            }
        }
    }
    found.into_iter().map(|what| (Oddity::Unread, what)).collect()
}

/// The value with other texts and numbers wherever `changes` holds for the nearest key above them, and above no key;
/// `None` where nothing changes.
fn otherwise(value: &Value, changes: &impl Fn(&str) -> bool) -> Option<Value> {
    let mut changed = value.clone();
    change(&mut changed, true, changes);
    (changed != *value).then_some(changed)
}

fn change(value: &mut Value, here: bool, changes: &impl Fn(&str) -> bool) {
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

/// The learned turn `index` where its thought stands in `text` behind one that the chat template has closed: the model
/// would learn to think once more after it was told not to.
pub(super) fn second_thought(
    conversation: &Conversation,
    index: usize,
    text: &str,
    tokenizer: &Tokenizer,
    way: Way,
) -> Option<(Oddity, String)> {
    let content = conversation.messages[index].text().trim();
    let tag = &content[..=content.find('>').filter(|_| content.starts_with('<'))?];
    let end = closing(tag);
    let is_second = |text: &str| {
        let before = content.contains(&end).then(|| text.rfind(content)).flatten().map(|at| text[..at].trim_end());
        before.is_some_and(|before| before.ends_with(&end))
    };
    if !is_second(text) {
        return None;
    }
    let begun = conversation.up_to(index + 1);
    let switch = switched(&begun, tokenizer).find(|(_, switched)| {
        tokenizer.render_chat(switched, false).is_ok_and(|text| text.contains(content) && !is_second(&text))
    });
    let switch = switch
        .map_or(String::new(), |((name, is_on), _)| format!("; {} writes one", way.template_argument(name, is_on)));
    Some((Oddity::SecondThought, format!("`{tag}` of `messages[{index}].content`{switch}")))
}

/// The tag that closes a thought which `tag` opens: `</think>`, `<|END_THINKING|>`.
pub(super) fn closing(tag: &str) -> String {
    match tag.strip_prefix("<|START_") {
        Some(name) => format!("<|END_{name}"),
        None => tag.replacen('<', "</", 1),
    }
}

fn named(index: usize, part: &str) -> String {
    match part {
        "<think>" => format!("`<think>` of `messages[{index}].content`"),
        field => format!("`messages[{index}].{field}`"),
    }
}

/// True where the text is the same with more of the part.
fn is_lost(
    conversation: &Conversation,
    index: usize,
    part: &Part,
    text: &str,
    texts: &impl Fn(&Conversation) -> Option<String>,
) -> bool {
    let is_there = part.words.as_deref().is_some_and(|words| text.contains(words));
    !is_there && texts(&with(conversation, index, &part.otherwise)).as_deref() == Some(text)
}

/// The conversation with another message in the place of one.
pub(super) fn with(conversation: &Conversation, index: usize, message: &Message) -> Conversation {
    let mut changed = conversation.clone();
    changed.messages[index] = message.clone();
    changed
}

/// The switch with which the template writes the part.
fn switch_for(
    conversation: &Conversation,
    index: usize,
    part: &Part,
    tokenizer: &Tokenizer,
    texts: &impl Fn(&Conversation) -> Option<String>,
) -> Option<String> {
    switched(conversation, tokenizer).find_map(|(switch, switched)| {
        let text = texts(&switched)?;
        let changed = texts(&with(&switched, index, &part.otherwise))?;
        (changed != text).then(|| format!("{} = {}", switch.0, switch.1))
    })
}

/// The conversation with each switch that the template reads, on and off, beside the switch.
fn switched(
    conversation: &Conversation,
    tokenizer: &Tokenizer,
) -> impl Iterator<Item = ((&'static str, bool), Conversation)> {
    let known = SWITCHES.into_iter().filter(|switch| tokenizer.template_reads_variable(switch));
    known.flat_map(|switch| [(switch, true), (switch, false)]).map(|(switch, value)| {
        let mut switched = conversation.clone();
        switched.arguments.insert(switch.into(), value.into());
        ((switch, value), switched)
    })
}

/// All that a message says.
pub(super) fn parts(message: &Message) -> Vec<Part> {
    let mut parts: Vec<Part> = words_of(message).into_iter().collect();
    if let Some((before, after)) = message.text().rsplit_once("</think>") {
        let thought = before.split_once("<think>").map_or(before, |(_, thought)| thought);
        let opening = &before[..before.len() - thought.len()];
        if !thought.trim().is_empty() {
            let content = Some(format!("{opening}{thought}{OTHERWISE}</think>{after}"));
            parts.push(Part { name: "<think>", words: None, otherwise: Message { content, ..message.clone() } });
        }
    }
    let mut with_field = |name: &'static str, value: Value| {
        let mut otherwise = message.clone();
        otherwise.fields.insert(name.into(), value);
        parts.push(Part { name, words: None, otherwise });
    };
    for key in THOUGHTS {
        match message.fields.get(key) {
            Some(Value::String(thought)) if !thought.trim().is_empty() => {
                with_field(key, format!("{thought}{OTHERWISE}").into());
            }
            _ => {}
        }
    }
    let calls = message.fields.get("tool_calls").and_then(Value::as_array);
    for at in 0..calls.map_or(0, Vec::len) {
        let mut calls = message.fields["tool_calls"].clone();
        let is_wrapped = calls[at].get("function").is_some();
        let call = if is_wrapped { calls[at].get_mut("function") } else { calls.get_mut(at) };
        if let Some(Value::Object(call)) = call {
            call.insert("name".into(), json!(OTHERWISE));
            with_field("tool_calls", calls);
        }
    }
    parts
}

/// Who speaks, where a message says it beside its role; a template that writes the names of tools reads a field of this name.
fn name_of(message: &Message) -> Option<Part> {
    let name = message.fields.get("name")?.as_str().filter(|name| !name.is_empty())?;
    let mut otherwise = message.clone();
    otherwise.fields.insert("name".into(), format!("{name}{OTHERWISE}").into());
    Some(Part { name: "name", words: None, otherwise })
}

/// The words of a message, without a thought.
fn words_of(message: &Message) -> Option<Part> {
    let content = message.text();
    let (thought, words) = match content.rfind("</think>").filter(|_| message.role == "assistant") {
        Some(at) => content.split_at(at + "</think>".len()),
        None => ("", content),
    };
    let otherwise = Message { content: Some(format!("{thought}{words}{OTHERWISE}")), ..message.clone() };
    let words = words.trim();
    (!words.is_empty()).then(|| Part { name: "content", words: Some(words.to_owned()), otherwise })
}
