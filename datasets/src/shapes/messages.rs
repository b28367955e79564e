//! `{"messages": [{"role", "content"}]}`: a conversation, of which the assistant's turns are learned.

use faults::{Fault, nearest};
use serde_json::Value;

use super::{Format, Shape, turns};
use crate::conversation::{Conversation, Message};
use crate::row::{listed, string, wrong_type};

pub(super) const SHAPE: Shape = Shape {
    format: Format::Messages,
    word: "messages",
    required: &["messages"],
    optional: &[],
    stops: true,
    read: |row, context| {
        let messages = parse(row.list("messages")?, "messages", "role", "content", |role| role)?;
        Ok(turns::drafts(&Conversation::new(messages), context)?.into_iter().map(|draft| vec![draft]).collect())
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
