//! A conversation as a row holds it: its turns, and what else a chat template may be given.

use serde::Serialize;
use serde_json::{Map, Value};

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// What is said; `None` (in a template `none`) for a turn that only calls tools.
    pub content: Option<String>,
    /// The pieces of the content where the row has it in parts, for templates that go over them.
    #[serde(skip)]
    pub parts: Vec<String>,
    /// The message's other fields that a template may read, such as `reasoning_content` and `tool_calls`.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
    /// What the row says of learning this turn (`weight: 0`, `train: false`); `None` where it says nothing.
    #[serde(skip)]
    pub learned: Option<bool>,
}

/// Turns with what a template is given beside them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Conversation {
    /// The turns.
    pub messages: Vec<Message>,
    /// The row's `tools`: descriptions of functions that the model may call.
    pub tools: Option<Value>,
    /// The row's `documents`, for templates of retrieval.
    pub documents: Option<Value>,
    /// The row's `chat_template_kwargs`: switches of the template, such as `enable_thinking`.
    pub arguments: Map<String, Value>,
}

impl Message {
    /// A message of `role` that says `content` and nothing else.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: Some(content.into()), parts: Vec::new(), fields: Map::new(), learned: None }
    }

    /// What is said; empty for a turn that only calls tools.
    pub fn text(&self) -> &str {
        self.content.as_deref().unwrap_or_default()
    }
}

impl Conversation {
    /// Turns alone.
    pub fn new(messages: Vec<Message>) -> Self {
        Self { messages, ..Self::default() }
    }

    /// The same conversation with other turns.
    pub fn with(&self, messages: Vec<Message>) -> Self {
        Self { messages, ..self.clone() }
    }

    /// The first `count` turns of it.
    pub fn up_to(&self, count: usize) -> Self {
        self.with(self.messages[..count].to_vec())
    }
}
