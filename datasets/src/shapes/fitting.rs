//! Whether a chat template has a place for all that a conversation brings: what it never speaks of would be lost.

use faults::Fault;
use faults::json::OddityKind;
use serde_json::Value;

use super::message::{THOUGHTS, left_out};
use crate::conversation::{Conversation, Message};
use crate::json;
use crate::tokenizer::Tokenizer;
use crate::way::Way;

/// What a template is given by the program, so that neither a row nor a recipe may set it.
pub(crate) const GIVEN: [&str; 4] = ["messages", "add_generation_prompt", "tools", "documents"];

/// The conversation as the template takes it: thoughts under the name that it knows, the arguments of calls as objects
/// where it writes them as JSON.
///
/// # Errors
/// The template has no place for something that the row says.
pub(crate) fn fitted(mut conversation: Conversation, tokenizer: &Tokenizer, way: Way) -> Result<Conversation, Fault> {
    if !tokenizer.has_chat_template() {
        return Ok(conversation);
    }
    let no_place = |name: &str, key: &str, hint: &str| {
        let fault = Fault::new(format!("the model's chat template has no place for `{name}`"));
        Err(fault.hint(left_out(hint, key, way)))
    };
    if conversation.tools.is_some() && tokenizer.has_tool_template() {
        let fault = Fault::new(
            "the model has another chat template for rows with `tools`, `tool_use`, and its default one is read",
        );
        let template = way.key("chat_template");
        return Err(fault.hint(left_out(
            &format!("write that template into a file and name it with {template}"),
            "tools",
            way,
        )));
    }
    for (key, value) in [("tools", &conversation.tools), ("documents", &conversation.documents)] {
        if value.is_some() && !tokenizer.template_mentions(key) {
            return no_place(key, key, "take a model whose template has, or write them into a message");
        }
    }
    for name in conversation.arguments.keys() {
        let full = format!("chat_template_kwargs.{name}");
        if GIVEN.contains(&name.as_str()) {
            let fault = Fault::new(format!("`{full}` cannot be set by a row"));
            return Err(fault.hint(format!("take it out; `{name}` has a column of its own, or is the program's")));
        }
        if !tokenizer.template_reads_variable(name) {
            return no_place(&full, "chat_template_kwargs", "name the switches that it has");
        }
    }
    for (index, message) in conversation.messages.iter_mut().enumerate() {
        if let Some(thought) = unplaced_thought(message, tokenizer) {
            let name = format!("messages[{index}].{thought}");
            return no_place(&name, &thought, "write it into the message's content, as the model is to say it");
        }
        if message.fields.contains_key("tool_calls") {
            if !tokenizer.template_reads_field("tool_calls") {
                let name = format!("messages[{index}].tool_calls");
                return no_place(&name, "tool_calls", "write the call into `content`, as the model is to say it");
            }
            if tokenizer.template_writes_calls_as_json() {
                let name = format!("messages[{index}].tool_calls");
                message.fields.get_mut("tool_calls").map_or(Ok(()), |calls| decode_arguments(&name, calls))?;
            }
        }
    }
    Ok(decoded_where_refused(conversation, tokenizer))
}

/// The conversation with the arguments of its calls as objects where the template refuses them as texts and takes them so.
fn decoded_where_refused(conversation: Conversation, tokenizer: &Tokenizer) -> Conversation {
    let has_texts = |message: &Message| {
        let calls = message.fields.get("tool_calls").and_then(Value::as_array);
        calls.into_iter().flatten().any(|call| call.get("function").unwrap_or(call)["arguments"].is_string())
    };
    let is_taken = |conversation: &Conversation| tokenizer.render_chat(conversation, false).is_ok();
    if !conversation.messages.iter().any(has_texts) || is_taken(&conversation) {
        return conversation;
    }
    let mut decoded = conversation.clone();
    let calls = decoded.messages.iter_mut().filter_map(|message| message.fields.get_mut("tool_calls"));
    let are_read = calls.map(|calls| decode_arguments("tool_calls", calls)).all(|read| read.is_ok());
    if are_read && is_taken(&decoded) { decoded } else { conversation }
}

/// Puts a message's thought under a name that the template has; gives the name for which it has none.
fn unplaced_thought(message: &mut Message, tokenizer: &Tokenizer) -> Option<String> {
    for key in THOUGHTS {
        if !message.fields.contains_key(key) || tokenizer.template_reads_field(key) {
            continue;
        }
        let known = THOUGHTS.into_iter().find(|name| tokenizer.template_reads_field(name));
        let Some(known) = known else { return Some(key.to_owned()) };
        let thought = message.fields.get(key).cloned();
        match message.fields.get(known) {
            // Two thoughts, of which one would be lost.
            Some(other) if Some(other) != thought.as_ref() => return Some(key.to_owned()),
            _ => {
                message.fields.shift_remove(key);
                message.fields.extend(thought.map(|thought| (known.to_owned(), thought)));
            }
        }
    }
    None
}

/// Arguments as OpenAI writes them are JSON in a text, which a template that writes JSON would quote once more.
fn decode_arguments(name: &str, calls: &mut Value) -> Result<(), Fault> {
    for (index, call) in calls.as_array_mut().into_iter().flatten().enumerate() {
        let function = if call.get("function").is_some() { call.get_mut("function") } else { Some(call) };
        let Some(arguments) = function.and_then(|function| function.get_mut("arguments")) else { continue };
        let Some(text) = arguments.as_str() else { continue };
        let read = match json::read(text) {
            Ok(read) if read.value.is_object() => read,
            // Another value of JSON is written as it stands.
            Ok(_) => continue,
            Err(_) => {
                let fault = Fault::new(format!("`{name}[{index}].arguments` is a text, and no JSON"));
                return Err(fault.hint("write an object, or one as `json.dumps` does; `{}` where there are none"));
            }
        };
        if let Some(oddity) = read.oddities.first() {
            let verb = if oddity.kind == OddityKind::Surrogate { "holds" } else { "is" };
            let place = oddity.pointer.replace('/', ".");
            let fault = Fault::new(format!("`{name}[{index}].arguments{place}` {verb} {oddity}"));
            return Err(fault.hint("write what is meant, or take the row out"));
        }
        *arguments = read.value;
    }
    Ok(())
}
