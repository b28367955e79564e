//! `data.chat = { user = "question", assistant = "answer" }`: columns of any name as the turns of a conversation.

use faults::{Fault, nearest};
use serde_json::Value;

use super::messages::{BESIDE, conversation, drafts, set_system};
use super::{Format, Shape, alpaca};
use crate::conversation::Message;
use crate::row::{Row, listed};

/// Which columns of the file are which turns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChatColumns {
    /// What the user says: one column, or several whose texts follow each other on lines of their own.
    pub user: Vec<String>,
    /// What the assistant answers.
    pub assistant: String,
    /// The system message.
    pub system: Option<String>,
    /// Questions and answers before, in pairs.
    pub history: Option<String>,
    /// The thought before the answer.
    pub reasoning_content: Option<String>,
}

impl ChatColumns {
    /// Every column that is named.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let optional = [&self.system, &self.history, &self.reasoning_content].into_iter().flatten();
        self.user.iter().chain([&self.assistant]).chain(optional).map(String::as_str)
    }
}

pub(super) const SHAPE: Shape = Shape {
    format: Format::Messages,
    word: "chat",
    required: &[],
    optional: &BESIDE,
    stops: true,
    read: |row, context| {
        let chat = context.options.chat.as_ref().expect("the shape is that of `data.chat`");
        is_there(row, &chat.assistant)?;
        let mut messages = question(row, chat)?;
        let mut answer = Message::new("assistant", row.filled_text(&chat.assistant)?);
        if let Some(thought) = text(row, chat.reasoning_content.as_deref())? {
            answer.fields.insert("reasoning_content".into(), Value::String(thought.into()));
        }
        messages.push(answer);
        drafts(conversation(row, messages)?, context)
    },
};

/// The turns before the answer.
pub(crate) fn question(row: &Row<'_>, chat: &ChatColumns) -> Result<Vec<Message>, Fault> {
    chat.user.first().map_or(Ok(()), |column| is_there(row, column))?;
    let mut messages = Vec::new();
    if let Some(column) = &chat.history {
        for (question, answer) in alpaca::history(row, column)? {
            messages.extend([Message::new("user", question), Message::new("assistant", answer)]);
        }
    }
    messages.push(Message::new("user", user(row, &chat.user)?));
    if let Some(system) = text(row, chat.system.as_deref())? {
        set_system(&mut messages, system, row.names().way)?;
    }
    Ok(messages)
}

fn text<'a>(row: &Row<'a>, column: Option<&str>) -> Result<Option<&'a str>, Fault> {
    match column {
        Some(column) => Ok(row.optional_text(column)?.filter(|text| !text.is_empty())),
        None => Ok(None),
    }
}

/// Refuses a column of `data.chat` that the row does not have.
fn is_there(row: &Row<'_>, column: &str) -> Result<(), Fault> {
    if row.columns().any(|name| name == column) {
        return Ok(());
    }
    let fault = Fault::new(format!("`{column}` is missing, which {} names", row.names().way.key("chat")));
    Err(match nearest(column, row.columns()) {
        Some(near) => fault.hint(format!("the row has `{near}`: is it meant?")),
        None => fault.hint(format!("the row has {}", listed(row.columns()))),
    })
}

/// What the user says; of several columns the first must be there.
fn user(row: &Row<'_>, columns: &[String]) -> Result<String, Fault> {
    let mut texts = Vec::new();
    for (index, column) in columns.iter().enumerate() {
        let text = if index == 0 { Some(row.filled_text(column)?) } else { row.optional_text(column)? };
        texts.extend(text.filter(|text| !text.is_empty()));
    }
    Ok(texts.join("\n"))
}
