//! `{"prompt", "completion"}`: one text, of which the part past the prompt is learned, and its end; or, where one of them
//! is a list of messages, a conversation of which the completion's turns are learned.

use faults::Fault;
use serde_json::Value;

use super::messages::{BESIDE, conversation, drafts, refuse_beside, turns_of};
use super::{Context, Drafts, Format, Shape};
use crate::conversation::Message;
use crate::draft::{Draft, Part, Piece};
use crate::options::TrainOn;
use crate::row::Row;

pub(super) const SHAPE: Shape = Shape {
    format: Format::PromptCompletion,
    word: "prompt_completion",
    required: &["prompt", "completion"],
    optional: &BESIDE,
    stops: true,
    read: |row, context| {
        if ["prompt", "completion"].iter().any(|key| row.get(key).is_some_and(Value::is_array)) {
            return conversational(row, context);
        }
        let (prompt, completion) = (row.text("prompt")?, row.filled_text("completion")?);
        let names = row.names();
        let through_it = names.way.chat(names.column_of("prompt"), names.column_of("completion"));
        refuse_beside(row, "a plain `prompt`", &(through_it + " puts all of it through the chat template"))?;
        Ok(vec![vec![draft(prompt.into(), completion.into(), context.train_on)]])
    },
};

/// A prompt and its answer as one text.
pub(super) fn draft(prompt: String, completion: String, train_on: TrainOn) -> Draft {
    let pieces = vec![
        Piece { text: prompt, part: Part::Prompt, learned: train_on.learns(Part::Prompt) },
        Piece { text: completion, part: Part::Response, learned: train_on.learns(Part::Response) },
    ];
    Draft { pieces, special: true, end: true, weight: 1.0, oddities: Vec::new() }
}

/// Prompt and completion as one conversation.
fn conversational(row: &Row<'_>, context: &Context<'_>) -> Result<Drafts, Fault> {
    let messages = |key: &str, role: &str| match row.get(key) {
        Some(Value::Array(_)) => turns_of(row, key),
        _ => Ok(vec![Message::new(role, row.filled_text(key)?)]),
    };
    let (mut messages, answers) = (messages("prompt", "user")?, messages("completion", "assistant")?);
    if context.train_on != TrainOn::All {
        for answer in messages.iter_mut().filter(|message| message.role == "assistant") {
            answer.learned = Some(false);
        }
    }
    if !answers.iter().any(|message| message.role == "assistant") {
        let column = row.names().column_of("completion");
        return Err(Fault::new(format!("no message of `{column}` has the role `assistant`"))
            .hint("the completion is what the model says"));
    }
    messages.extend(answers);
    drafts(conversation(row, messages)?, context)
}
