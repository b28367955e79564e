//! The assistant's turns of a conversation, as texts with what is learned.
//!
//! A conversation is one example where the whole of it, as the chat template writes it, has every learned turn as
//! inference will see it: the opened turn before it, then the answer. Where the template writes the whole otherwise, as
//! those do that take thoughts out of earlier answers, each learned turn is an example of its own. Where the template
//! itself marks what the assistant generates, the marked text of the whole is what is learned.

use faults::Fault;

use super::Context;
use super::turn::{Turn, turn};
use crate::chat::Rendered;
use crate::conversation::{Conversation, Message};
use crate::draft::{Draft, Part, Piece};
use crate::notices::Oddity;
use crate::options::TrainOn;
use crate::row::listed;
use crate::tokenizer::Tokenizer;

/// A conversation as one text with the learned turns marked; as one text for each learned turn where the chat template
/// writes the whole otherwise than a turn will be asked for.
pub(super) fn drafts(conversation: &Conversation, context: &Context<'_>) -> Result<Vec<Draft>, Fault> {
    let tokenizer = context.tokenizer;
    let mut turns = learned_turns(&conversation.messages, context.train_on)?;
    let whole = tokenizer.render_marked(conversation, false)?;
    let mut oddities = unread(conversation, &whole.text, tokenizer)?;
    if !whole.generated.is_empty() && context.train_on != TrainOn::All {
        let spans = generated(conversation, &turns, &whole, tokenizer)?;
        return Ok(vec![Draft { oddities, ..one(&whole.text, &spans, context) }]);
    }
    let mut found = Vec::with_capacity(turns.len());
    let mut unasked = None;
    for index in &turns {
        match turn(conversation, *index, tokenizer) {
            Ok(turn) => found.push(turn),
            // Nothing can be asked that the first message would answer: many templates need a question.
            Err(fault) if *index == 0 && turns.len() > 1 => unasked = Some(fault),
            Err(fault) => return Err(fault),
        }
    }
    if unasked.is_some() {
        turns.remove(0);
        oddities.push((Oddity::Unasked, String::new()));
    }
    let learns_all = context.train_on == TrainOn::All;
    match spans(&found, &whole.text) {
        Some(spans) => Ok(vec![Draft { oddities, ..one(&whole.text, &spans, context) }]),
        None if learns_all => {
            let answers = found.first().map_or(0, |turn| common(&turn.opened, &whole.text));
            let spans = [(answers, whole.text.len())];
            Ok(vec![Draft { oddities, ..one(&whole.text, &spans, context) }])
        }
        None => {
            oddities.push((Oddity::Apart, String::new()));
            let mut drafts: Vec<Draft> = found.into_iter().map(|turn| apart(turn, context)).collect();
            drafts[0].oddities = oddities;
            Ok(drafts)
        }
    }
}

/// The turns to learn: all of the assistant's, or its last; without those that the row leaves out.
fn learned_turns(messages: &[Message], train_on: TrainOn) -> Result<Vec<usize>, Fault> {
    let assistant = |(_, message): &(usize, &Message)| message.role == "assistant";
    let all: Vec<usize> = messages.iter().enumerate().filter(assistant).map(|(index, _)| index).collect();
    let Some(last) = all.last().copied() else {
        let roles = listed(messages.iter().map(|message| message.role.as_str()));
        return Err(Fault::new("no message has the role `assistant`").hint(format!("the roles are {roles}")));
    };
    let mut turns = if train_on == TrainOn::Last { vec![last] } else { all };
    turns.retain(|index| messages[*index].learned != Some(false));
    if turns.is_empty() {
        let which = if train_on == TrainOn::Last { "the last turn" } else { "every turn" };
        return Err(Fault::new(format!("{which} of the assistant is left out by the row itself"))
            .hint("a row must have something to learn: take it out, or mend its `weight` or `train`"));
    }
    let is_empty = |index: &&usize| says_nothing(&messages[**index]);
    match turns.iter().find(is_empty) {
        Some(index) => Err(Fault::new(format!("message {index} of the assistant is empty"))
            .hint("a row must have something to learn: take it out")),
        None => Ok(turns),
    }
}

/// True for a turn of neither words, nor a thought, nor a call.
fn says_nothing(message: &Message) -> bool {
    let says = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => !text.trim().is_empty(),
        serde_json::Value::Array(values) => !values.is_empty(),
        _ => false,
    };
    let other = ["reasoning_content", "thinking", "reasoning", "tool_calls"];
    message.text().trim().is_empty() && !other.iter().any(|key| message.fields.get(*key).is_some_and(says))
}

/// Where the answers stand in the whole text, if it has each turn as it is opened and answered.
fn spans(turns: &[Turn], whole: &str) -> Option<Vec<(usize, usize)>> {
    let span = |Turn { opened, answer }: &Turn| {
        let has_it = whole.strip_prefix(opened.as_str()).is_some_and(|rest| rest.starts_with(answer.as_str()));
        has_it.then(|| (opened.len(), opened.len() + answer.len()))
    };
    turns.iter().map(span).collect()
}

/// One text of which the spans are answers.
fn one(whole: &str, spans: &[(usize, usize)], context: &Context<'_>) -> Draft {
    let mut pieces = Vec::with_capacity(2 * spans.len() + 1);
    let mut at = 0;
    let mut push = |until: usize, part: Part| {
        let text = whole.get(at..until).unwrap_or_default().to_string();
        pieces.push(Piece { text, part, learned: context.train_on.learns(part) });
        at = at.max(until);
    };
    for (start, end) in spans {
        push(*start, Part::Prompt);
        push(*end, Part::Response);
    }
    push(whole.len(), Part::Prompt);
    Draft { pieces, special: false, end: false, weight: 1.0, oddities: Vec::new() }
}

/// One turn as an example of its own.
fn apart(turn: Turn, context: &Context<'_>) -> Draft {
    let piece = |text: String, part: Part| Piece { text, part, learned: context.train_on.learns(part) };
    let pieces = vec![piece(turn.opened, Part::Prompt), piece(turn.answer, Part::Response)];
    Draft { pieces, special: false, end: false, weight: 1.0, oddities: Vec::new() }
}

/// The marked spans of the learned turns.
fn generated(
    conversation: &Conversation,
    turns: &[usize],
    whole: &Rendered,
    tokenizer: &Tokenizer,
) -> Result<Vec<(usize, usize)>, Fault> {
    let spans: Vec<(usize, usize)> = whole.generated.iter().map(|span| (span.start, span.end)).collect();
    let assistant = conversation.messages.iter().filter(|message| message.role == "assistant").count();
    if turns.len() == assistant {
        return Ok(spans);
    }
    // A turn's marks are those that the conversation has with it and not yet before it.
    let count = |messages: usize| {
        let before = tokenizer.render_marked(&conversation.up_to(messages), false);
        before.map_or(0, |before| before.generated.len().min(spans.len()))
    };
    Ok(turns.iter().flat_map(|index| spans[count(*index)..count(index + 1).max(count(*index))].to_vec()).collect())
}

/// What of the row the template does not write: tools and documents that change nothing, and thoughts.
fn unread(conversation: &Conversation, whole: &str, tokenizer: &Tokenizer) -> Result<Vec<(Oddity, String)>, Fault> {
    let mut found = Vec::new();
    let without = |changed: Conversation| Ok::<_, Fault>(tokenizer.render_chat(&changed, false)? == whole);
    if conversation.tools.is_some() && without(Conversation { tools: None, ..conversation.clone() })? {
        found.push((Oddity::Unread, "tools".to_owned()));
    }
    if conversation.documents.is_some() && without(Conversation { documents: None, ..conversation.clone() })? {
        found.push((Oddity::Unread, "documents".to_owned()));
    }
    for (key, _) in &conversation.arguments {
        if !tokenizer.template_mentions(key) {
            found.push((Oddity::Unread, format!("chat_template_kwargs.{key}")));
        }
    }
    let thoughts = ["reasoning_content", "thinking", "reasoning"];
    for key in thoughts.into_iter().chain(["tool_calls"]) {
        let has = |message: &Message| message.fields.get(key).is_some_and(|value| !value.is_null());
        let names: &[&str] = if key == "tool_calls" { &["tool_calls"] } else { &thoughts };
        let is_read = names.iter().any(|name| tokenizer.template_mentions(name));
        if conversation.messages.iter().any(has) && !is_read {
            found.push((Oddity::Unread, key.to_owned()));
        }
    }
    Ok(found)
}

/// How many bytes two texts begin with alike.
fn common(a: &str, b: &str) -> usize {
    let alike = a.char_indices().zip(b.chars()).take_while(|((_, a), b)| a == b);
    alike.last().map_or(0, |((at, letter), _)| at + letter.len_utf8())
}
