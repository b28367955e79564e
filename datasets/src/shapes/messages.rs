//! `{"messages": [{"role", "content"}]}` and `{"conversations": [{"from", "value"}]}`: a conversation, of which the
//! assistant's turns are learned, with what a chat template is given beside it: `system`, `tools`, `documents`,
//! `chat_template_kwargs`.

use faults::Fault;
use serde_json::{Map, Value};

use super::{Context, Drafts, Format, Shape, fitting, message, turns};
use crate::conversation::{Conversation, Message};
use crate::options::TrainOn;
use crate::row::{Row, decoded, is_nothing, wrong_type};
use crate::way::Way;

/// Columns that go with a conversation.
pub(crate) const BESIDE: [&str; 4] = ["system", "tools", "documents", "chat_template_kwargs"];

pub(super) const SHAPE: Shape = Shape {
    format: Format::Messages,
    word: "messages",
    required: &["messages"],
    optional: &BESIDE,
    stops: true,
    read: |row, context| drafts(conversation(row, turns_of(row, "messages")?)?, context),
};

/// Every learned turn of a conversation.
pub(super) fn drafts(conversation: Conversation, context: &Context<'_>) -> Result<Drafts, Fault> {
    if conversation.messages.is_empty() {
        return Err(Fault::new("the conversation has no message").hint("take the row out"));
    }
    let asks = |message: &&Message| message.role != "assistant" && message.learned == Some(true);
    if let Some(message) = conversation.messages.iter().find(asks).filter(|_| context.train_on != TrainOn::All) {
        let fault = Fault::new(format!("a message of `{}` says that it is learned", message.role));
        let all = context.options.way.key("train_on = \"all\"");
        return Err(fault.hint(format!("only the assistant's turns are; {all} learns everything")));
    }
    let conversation = fitting::fitted(conversation, context.tokenizer, context.options.way)?;
    Ok(turns::drafts(&conversation, context)?.into_iter().map(|draft| vec![draft]).collect())
}

/// The turns under `key`, a list or JSON of one.
pub(super) fn turns_of(row: &Row<'_>, key: &str) -> Result<Vec<Message>, Fault> {
    let column = row.names().column_of(key);
    let value = row.get(key).ok_or_else(|| row.missing(key))?;
    let values = match value {
        Value::String(text) if text.trim_start().starts_with('[') => decoded(column, value)?,
        other => other.clone(),
    };
    let Value::Array(values) = &values else {
        let by_column = |fields: &Map<String, Value>| fields.values().all(Value::is_array) && !fields.is_empty();
        let fault = wrong_type(column, "a list", value);
        return Err(match value.as_object().is_some_and(by_column) {
            true => {
                fault.hint("its messages are written column by column: write `[{\"role\": .., \"content\": ..}, ..]`")
            }
            false => fault,
        });
    };
    let turn = |(index, value)| message::parse(&format!("{column}[{index}]"), value, row.names());
    values.iter().enumerate().map(turn).collect()
}

/// Turns with what the row says beside them.
pub(crate) fn conversation(row: &Row<'_>, messages: Vec<Message>) -> Result<Conversation, Fault> {
    let is_blank = |value: &Value| value.as_str().is_some_and(|text| text.trim().is_empty());
    let list = |key: &str| match row.get(key).filter(|value| !is_nothing(value) && !is_blank(value)) {
        None => Ok(None),
        Some(value) => match decoded(key, value)? {
            Value::Array(values) if values.is_empty() => Ok(None),
            Value::Array(values) => {
                let element = |(index, value): (usize, &Value)| decoded(&format!("{key}[{index}]"), value);
                values.iter().enumerate().map(element).collect::<Result<_, _>>().map(|list| Some(Value::Array(list)))
            }
            Value::Null => Ok(None),
            other => Err(wrong_type(key, "a list", &other)),
        },
    };
    let mut conversation = Conversation {
        messages,
        tools: list("tools")?,
        documents: list("documents")?,
        arguments: match row.get("chat_template_kwargs").filter(|value| !is_nothing(value)) {
            None => Map::new(),
            Some(value) => match decoded("chat_template_kwargs", value)? {
                Value::Object(arguments) => arguments,
                other => return Err(wrong_type("chat_template_kwargs", "an object", &other)),
            },
        },
    };
    if let Some(system) = row.optional_text("system")?.filter(|system| !system.is_empty()) {
        set_system(&mut conversation.messages, system, row.names().way)?;
    }
    Ok(conversation)
}

/// Puts a system message before the others.
pub(super) fn set_system(messages: &mut Vec<Message>, system: &str, way: Way) -> Result<(), Fault> {
    let is_system = |message: &&Message| message.role == "system" || message.role == "developer";
    match messages.first().filter(is_system) {
        Some(first) if first.text() == system => {}
        Some(first) => {
            let other = match first.role.as_str() {
                "developer" => "a message of `developer`, which takes the place of the system message",
                _ => "another system message",
            };
            return Err(Fault::new(format!("the row has a `system` column and {other}"))
                .hint(format!("keep one of them, or leave the column out: {}", way.key("ignore = [\"system\"]"))));
        }
        None => messages.insert(0, Message::new("system", system)),
    }
    Ok(())
}

/// Refuses columns that only a chat template could read, beside texts that go through none.
pub(crate) fn refuse_beside(row: &Row<'_>, what: &str, hint: &str) -> Result<(), Fault> {
    match BESIDE.into_iter().find(|key| row.get(key).is_some_and(|value| !is_nothing(value))) {
        Some(key) => {
            let column = row.names().column_of(key);
            let fault = Fault::new(format!("`{column}` stands beside {what}, which no chat template writes"));
            Err(fault.hint(message::left_out(hint, column, row.names().way)))
        }
        None => Ok(()),
    }
}
