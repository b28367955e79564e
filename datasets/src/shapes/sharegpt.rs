//! `{"conversations": [{"from", "value"}]}`: `messages` under ShareGPT's names.

use super::{Format, Shape, messages, turns};
use crate::conversation::Conversation;

pub(super) const SHAPE: Shape = Shape {
    format: Format::Sharegpt,
    word: "sharegpt",
    required: &["conversations"],
    optional: &[],
    stops: true,
    read: |row, context| {
        let messages = messages::parse(row.list("conversations")?, "conversations", "from", "value", role)?;
        Ok(turns::drafts(&Conversation::new(messages), context)?.into_iter().map(|draft| vec![draft]).collect())
    },
};

pub(super) fn role(from: &str) -> &str {
    match from {
        "human" => "user",
        "gpt" | "chatgpt" | "bard" | "bing" | "model" | "bot" => "assistant",
        other => other,
    }
}
