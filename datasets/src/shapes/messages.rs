//! `{"messages": [{"role", "content"}]}`: a conversation, of which the assistant's turns are learned.
//!
//! The whole conversation is rendered once by the model's chat template and encoded once, as serving programs do. Where
//! an assistant's turn lies in that text is found by rendering what comes before it, ready for the turn, and what ends
//! with it: both must be beginnings of the whole.

use faults::{Fault, nearest};
use serde_json::Value;

use super::{Context, Format, Shape};
use crate::chat::Message;
use crate::draft::{Draft, Part, Piece};
use crate::options::TrainOn;
use crate::row::{listed, string, wrong_type};
use crate::tokenizer::Tokenizer;

pub(super) const SHAPE: Shape = Shape {
    format: Format::Messages,
    word: "messages",
    required: &["messages"],
    optional: &[],
    stops: true,
    read: |row, context| {
        let messages = parse(row.list("messages")?, "messages", "role", "content", |role| role)?;
        Ok(vec![vec![draft(&messages, context)?]])
    },
};

/// Reads a list of turns whose speaker and words stand under `role_key` and `content_key`.
pub(super) fn parse(
    values: &[Value],
    list: &str,
    role_key: &str,
    content_key: &str,
    rename_role: fn(&str) -> &str,
) -> Result<Vec<Message>, Fault> {
    let turn = |(index, value): (usize, &Value)| {
        let name = format!("{list}[{index}]");
        let Value::Object(turn) = value else { return Err(wrong_type(&name, "an object", value)) };
        let field = |key: &str| {
            let full = format!("{name}.{key}");
            match turn.get(key) {
                Some(value) => string(&full, value),
                None => {
                    let keys = turn.keys().map(String::as_str);
                    let near = nearest(key, keys.clone());
                    let hint = near.map_or_else(|| listed(keys), |near| format!("`{near}`"));
                    Err(Fault::new(format!("`{full}` is missing")).hint(format!("the message has {hint}")))
                }
            }
        };
        if turn.get("tool_calls").is_some_and(|calls| !calls.is_null()) {
            let message = format!("`{name}.tool_calls` is not supported");
            return Err(Fault::new(message).hint("write the call into `content`, as the model is to say it"));
        }
        let (role, content) = (field(role_key)?, field(content_key)?);
        if role.is_empty() {
            return Err(
                Fault::new(format!("`{name}.{role_key}` is empty")).hint("say whose turn it is: `user`, `assistant`")
            );
        }
        Ok(Message::new(rename_role(role), content))
    };
    values.iter().enumerate().map(turn).collect()
}

/// A conversation as one text with the learned turns marked.
pub(super) fn draft(messages: &[Message], context: &Context<'_>) -> Result<Draft, Fault> {
    let turns = learned_turns(messages, context.train_on)?;
    let whole = context.tokenizer.render_chat(messages, false)?;
    let mut pieces = Vec::new();
    let mut at = 0;
    let mut push = |until: usize, part: Part| {
        let text = whole.get(at..until).unwrap_or_default().to_string();
        pieces.push(Piece { text, part, learned: context.train_on.learns(part) });
        at = until;
    };
    for index in turns {
        let (start, end) = span(messages, index, &whole, context.tokenizer)?;
        push(start, Part::Prompt);
        push(end, Part::Response);
    }
    push(whole.len(), Part::Prompt);
    Ok(Draft { pieces, special: false, end: false, weight: 1.0 })
}

/// The turns to learn: all of the assistant's, or its last.
fn learned_turns(messages: &[Message], train_on: TrainOn) -> Result<Vec<usize>, Fault> {
    let assistant = |(_, message): &(usize, &Message)| message.role == "assistant";
    let mut turns: Vec<usize> = messages.iter().enumerate().filter(assistant).map(|(index, _)| index).collect();
    let Some(last) = turns.last().copied() else {
        let roles = listed(messages.iter().map(|message| message.role.as_str()));
        return Err(Fault::new("no message has the role `assistant`").hint(format!("the roles are {roles}")));
    };
    if turns[0] == 0 {
        return Err(Fault::new("the first message is the assistant's")
            .hint("a conversation begins with `system` or `user`: take the first message out"));
    }
    if train_on == TrainOn::Last {
        turns = vec![last];
    }
    match turns.iter().find(|index| messages[**index].content.trim().is_empty()) {
        Some(index) => Err(Fault::new(format!("message {index} of the assistant is empty"))
            .hint("a row must have something to learn: take it out")),
        None => Ok(turns),
    }
}

/// The bytes of the whole text that the assistant wrote at `index`: its words and the token that ends its turn.
fn span(messages: &[Message], index: usize, whole: &str, tokenizer: &Tokenizer) -> Result<(usize, usize), Fault> {
    let before = tokenizer.render_chat(&messages[..index], true)?;
    let with = if index + 1 == messages.len() {
        whole.to_string()
    } else {
        tokenizer.render_chat(&messages[..=index], false)?
    };
    if !with.starts_with(&before) || !whole.starts_with(&with) {
        let message = format!("the chat template writes message {index} differently in the whole conversation");
        return Err(Fault::new(message).hint(if index + 1 == messages.len() {
            "take a `system` message out, or convert the row to `prompt` and `completion`"
        } else {
            "set `data.train_on = \"last\"`, or split the conversation, or convert it to `prompt` and `completion`"
        }));
    }
    let end = until_end_mark(&with, tokenizer).len();
    Ok((before.len(), end.max(before.len())))
}

/// A text up to the special token that it ends with but for blanks; all of it when it ends otherwise.
pub(super) fn until_end_mark<'a>(text: &'a str, tokenizer: &Tokenizer) -> &'a str {
    let trimmed = text.trim_end();
    let marked = tokenizer.added_tokens().iter().any(|token| !token.is_empty() && trimmed.ends_with(token.as_str()));
    if marked { trimmed } else { text }
}
