//! What a message says and no text has. A chat template may speak of a field and yet leave it out: what counts is
//! whether its text is another where the field is.

use std::borrow::Cow;
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

/// What the beginning of a content is called.
const BEGINNING: &str = "beginning";

/// What is added to a part to see whether it is read, and to its end.
const OTHERWISE: &str = "otherwise";

/// A part of what a message says.
pub(super) struct Part {
    /// Its field, of a thought in the content the tag, of a call the key.
    name: Cow<'static, str>,
    /// What a text shows that has it; `None` where that could be another part's.
    words: Option<String>,
    /// The message with more in its place.
    pub(super) otherwise: Message,
}

impl Part {
    /// True for a thought, or what stands in a tag as thoughts do.
    fn is_thought(&self) -> bool {
        self.name.starts_with(['<', '[']) || THOUGHTS.contains(&&*self.name)
    }
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
    parts.retain(|part| {
        let is_there = part.words.as_deref().is_some_and(|words| has_all(&text, words, &conversation.messages));
        !is_there && is_lost(conversation, index, part, &text, learned)
    });
    if parts.iter().any(|part| part.name == "content") {
        parts.retain(|part| part.name != BEGINNING);
    }
    // Rendered once for all parts, and for none where nothing is lost.
    let whole = if parts.is_empty() { None } else { written(conversation) };
    let is_written = |part: &Part| {
        let otherwise = written(&with(conversation, index, &part.otherwise));
        whole.as_ref().zip(otherwise).is_some_and(|(whole, otherwise)| *whole != otherwise)
    };
    let told = |part: Part| {
        let name = named(index, &part.name);
        if is_written(&part) {
            return (Oddity::Unmarked, name);
        }
        let switch = switch_for(conversation, index, &part, tokenizer, learned);
        let switch = switch.map(|switch| format!(", which the switch `{switch}` would write"));
        (Oddity::Unlearned, name + &switch.unwrap_or_default())
    };
    parts.into_iter().map(told).collect()
}

/// The name of whoever speaks the learned message `index`, where a template that writes names has it nowhere in the turn.
pub(super) fn unnamed(
    conversation: &Conversation,
    index: usize,
    tokenizer: &Tokenizer,
    turn: &impl Fn(&Conversation) -> Option<String>,
) -> Option<(Oddity, String)> {
    let name = name_of(&conversation.messages[index]).filter(|_| tokenizer.template_reads_field("name"))?;
    let is_lost = is_lost(conversation, index, &name, &turn(conversation)?, turn);
    is_lost.then(|| (Oddity::Unread, format!("messages[{index}].name of `assistant`")))
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
        let mut said = parts(message);
        // Templates drop the assistant's earlier thoughts on purpose.
        said.retain(|part| message.role != "assistant" || !part.is_thought());
        // Where no template field has this name, it is told as a field that nothing reads.
        if tokenizer.template_reads_field("name") {
            said.extend(name_of(message));
        }
        for part in said {
            let before = &conversation.messages[..last];
            let is_there =
                part.words.as_deref().is_some_and(|words| texts.iter().any(|text| has_all(text, words, before)));
            if !is_there && seen(conversation).is_some_and(|text| is_lost(conversation, index, &part, &text, seen)) {
                let field = if *part.name == *BEGINNING { "content" } else { &part.name };
                found.push((Oddity::Unread, format!("messages[{index}].{field} of `{}`", message.role)));
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
        BEGINNING => format!("the beginning of `messages[{index}].content`"),
        tag if tag.starts_with(['<', '[']) => format!("`{tag}` of `messages[{index}].content`"),
        field => format!("`messages[{index}].{field}`"),
    }
}

/// True where the text has these words as often as the messages say them, so that none of them is missed.
fn has_all(text: &str, words: &str, messages: &[Message]) -> bool {
    // A call may be of a tool with this name, and a thought of these words.
    let beside = |message: &&Message| message.fields.values().any(|value| value.to_string().contains(words));
    let said = messages.iter().filter(|message| message.text().contains(words)).count()
        + messages.iter().filter(beside).count();
    text.matches(words).take(said.max(1)).count() == said.max(1)
}

/// True where the text is the same with more of the part.
fn is_lost(
    conversation: &Conversation,
    index: usize,
    part: &Part,
    text: &str,
    texts: &impl Fn(&Conversation) -> Option<String>,
) -> bool {
    texts(&with(conversation, index, &part.otherwise)).as_deref() == Some(text)
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
        if let Some(value) = otherwise(value, &|_| true) {
            let name = format!("tool_calls[{at}].{}{key}", if is_inner && is_wrapped { "function." } else { "" });
            parts.push(with_field(message, name.into(), "tool_calls", changed(is_inner, key, value)));
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
fn name_of(message: &Message) -> Option<Part> {
    let name = message.fields.get("name")?.as_str().filter(|name| !name.is_empty())?;
    let mut otherwise = message.clone();
    otherwise.fields.insert("name".into(), format!("{name}{OTHERWISE}").into());
    Some(Part { name: "name".into(), words: None, otherwise })
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
    (!words.is_empty()).then(|| Part { name: "content".into(), words: Some(words.to_owned()), otherwise })
}
