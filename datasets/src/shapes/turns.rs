//! The assistant's turns of a conversation, found in the text that its chat template writes.
//!
//! The whole conversation is rendered once by the model's chat template and encoded once, as serving programs do. Where
//! an assistant's turn lies in that text is found by rendering what comes before it, ready for the turn, and what ends
//! with it: both must be beginnings of the whole.

use faults::Fault;

use super::Context;
use crate::conversation::{Conversation, Message};
use crate::draft::{Draft, Part, Piece};
use crate::options::TrainOn;
use crate::row::listed;
use crate::tokenizer::Tokenizer;

/// A conversation as one text with the learned turns marked; as one text for each learned turn where the chat template
/// writes the whole otherwise than a turn will be asked for.
pub(super) fn drafts(conversation: &Conversation, context: &Context<'_>) -> Result<Vec<Draft>, Fault> {
    let turns = learned_turns(&conversation.messages, context.train_on)?;
    let whole = context.tokenizer.render_chat(conversation, false)?;
    let mut pieces = Vec::new();
    let mut at = 0;
    let mut push = |until: usize, part: Part| {
        let text = whole.get(at..until).unwrap_or_default().to_string();
        pieces.push(Piece { text, part, learned: context.train_on.learns(part) });
        at = until;
    };
    for index in turns {
        let (start, end) = span(conversation, index, &whole, context.tokenizer)?;
        push(start, Part::Prompt);
        push(end, Part::Response);
    }
    push(whole.len(), Part::Prompt);
    Ok(vec![Draft { pieces, special: false, end: false, weight: 1.0 }])
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
    match turns.iter().find(|index| messages[**index].text().trim().is_empty()) {
        Some(index) => Err(Fault::new(format!("message {index} of the assistant is empty"))
            .hint("a row must have something to learn: take it out")),
        None => Ok(turns),
    }
}

/// The bytes of the whole text that the assistant wrote at `index`: its words and the token that ends its turn.
fn span(
    conversation: &Conversation,
    index: usize,
    whole: &str,
    tokenizer: &Tokenizer,
) -> Result<(usize, usize), Fault> {
    let before = tokenizer.render_chat(&conversation.up_to(index), true)?;
    let with = if index + 1 == conversation.messages.len() {
        whole.to_string()
    } else {
        tokenizer.render_chat(&conversation.up_to(index + 1), false)?
    };
    if !with.starts_with(&before) || !whole.starts_with(&with) {
        let message = format!("the chat template writes message {index} differently in the whole conversation");
        return Err(Fault::new(message).hint(if index + 1 == conversation.messages.len() {
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
