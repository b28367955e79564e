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
    let (tokenizer, learns_all) = (context.tokenizer, context.train_on == TrainOn::All);
    let turns = turns_of(&conversation.messages, context.train_on)?;
    let whole = tokenizer.render_marked(conversation, false)?;
    if !whole.generated.is_empty() && !learns_all {
        let oddities = unread(conversation, &whole.text, &[], tokenizer);
        let spans = generated(conversation, &turns, &whole, tokenizer);
        return Ok(vec![Draft { oddities, ..one(&whole.text, &spans, context) }]);
    }
    let (mut found, mut oddities) = (Vec::with_capacity(turns.len()), Vec::new());
    for (index, is_learned) in &turns {
        match turn(conversation, *index, tokenizer) {
            Ok(turn) => found.push((turn, *is_learned)),
            // Nothing can be asked that the first message would answer: many templates need a question.
            Err(_) if *index == 0 && turns.len() > 1 => oddities.push((Oddity::Unasked, String::new())),
            Err(_) if learns_all => {}
            Err(fault) => return Err(fault),
        }
    }
    oddities.extend(unread(conversation, &whole.text, &found, tokenizer));
    // Some templates end a turn only once another follows: the last one is ended as the others are.
    let last = found.last().map(|(turn, _)| format!("{}{}", turn.opened, turn.answer));
    let text = last.filter(|text| text.starts_with(&whole.text)).unwrap_or(whole.text);
    if let Some(spans) = spans(&found, &text) {
        return Ok(vec![Draft { oddities, ..one(&text, &spans, context) }]);
    }
    if learns_all {
        if turns.iter().any(|(_, is_learned)| !is_learned) {
            return Err(Fault::new(
                "the chat template writes the turns of the whole conversation otherwise than alone",
            )
            .hint("with `data.train_on = \"all\"` a turn can then not be left out by its `weight` or `train`"));
        }
        let answers = found.first().map_or(0, |(turn, _)| common(&turn.opened, &text));
        let spans = [(answers, text.len(), true)];
        return Ok(vec![Draft { oddities, ..one(&text, &spans, context) }]);
    }
    oddities.push((Oddity::Apart, String::new()));
    let mut drafts: Vec<Draft> = found.into_iter().map(|(turn, _)| apart(turn, context)).collect();
    drafts[0].oddities = oddities;
    Ok(drafts)
}

/// The assistant's turns, or its last, that are to be learned; where all of the text is, also those that are not, which
/// a row says by `weight` or `train`.
fn turns_of(messages: &[Message], train_on: TrainOn) -> Result<Vec<(usize, bool)>, Fault> {
    let assistant = messages.iter().enumerate().filter(|(_, message)| message.role == "assistant");
    let mut turns: Vec<(usize, bool)> =
        assistant.map(|(index, message)| (index, message.learned != Some(false))).collect();
    let Some(last) = turns.last().copied() else {
        let roles = listed(messages.iter().map(|message| message.role.as_str()));
        return Err(Fault::new("no message has the role `assistant`").hint(format!("the roles are {roles}")));
    };
    if train_on == TrainOn::Last {
        turns = vec![last];
    }
    if !turns.iter().any(|(_, is_learned)| *is_learned) {
        let which = if train_on == TrainOn::Last { "the last turn" } else { "every turn" };
        return Err(Fault::new(format!("{which} of the assistant is left out by the row itself"))
            .hint("a row must have something to learn: take it out, or mend its `weight` or `train`"));
    }
    if train_on != TrainOn::All {
        turns.retain(|(_, is_learned)| *is_learned);
    }
    match turns.iter().find(|(index, is_learned)| *is_learned && says_nothing(&messages[*index])) {
        Some((index, _)) => Err(Fault::new(format!("message {index} of the assistant is empty"))
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
    let mut other = THOUGHTS.into_iter().chain(["tool_calls"]);
    message.text().trim().is_empty() && !other.any(|key| message.fields.get(key).is_some_and(says))
}

/// Where answers begin and end in a text, and whether they are learned.
type Spans = Vec<(usize, usize, bool)>;

/// Where the answers stand in the whole text, if it has each turn as it is opened and answered.
fn spans(turns: &[(Turn, bool)], whole: &str) -> Option<Spans> {
    let span = |(Turn { opened, answer }, is_learned): &(Turn, bool)| {
        let has_it = whole.strip_prefix(opened.as_str()).is_some_and(|rest| rest.starts_with(answer.as_str()));
        has_it.then(|| (opened.len(), opened.len() + answer.len(), *is_learned))
    };
    turns.iter().map(span).collect()
}

/// One text of which the spans are answers.
fn one(whole: &str, spans: &[(usize, usize, bool)], context: &Context<'_>) -> Draft {
    let mut pieces = Vec::with_capacity(2 * spans.len() + 1);
    let mut at = 0;
    let mut push = |until: usize, part: Part, is_learned: bool| {
        let text = whole.get(at..until).unwrap_or_default().to_string();
        pieces.push(Piece { text, part, learned: is_learned && context.train_on.learns(part) });
        at = at.max(until);
    };
    for (start, end, is_learned) in spans {
        push(*start, Part::Prompt, true);
        push(*end, Part::Response, *is_learned);
    }
    push(whole.len(), Part::Prompt, true);
    Draft { pieces, special: false, end: false, weight: 1.0, oddities: Vec::new() }
}

/// One turn as an example of its own.
fn apart(turn: Turn, context: &Context<'_>) -> Draft {
    let piece = |text: String, part: Part| Piece { text, part, learned: context.train_on.learns(part) };
    let pieces = vec![piece(turn.opened, Part::Prompt), piece(turn.answer, Part::Response)];
    Draft { pieces, special: false, end: false, weight: 1.0, oddities: Vec::new() }
}

/// The marked spans of the learned turns.
fn generated(conversation: &Conversation, turns: &[(usize, bool)], whole: &Rendered, tokenizer: &Tokenizer) -> Spans {
    let spans: Spans = whole.generated.iter().map(|span| (span.start, span.end, true)).collect();
    let assistant = conversation.messages.iter().filter(|message| message.role == "assistant").count();
    if turns.len() == assistant {
        return spans;
    }
    // A turn's marks are those that the conversation has with it and not yet before it.
    let count = |messages: usize| {
        let before = tokenizer.render_marked(&conversation.up_to(messages), false);
        before.map_or(0, |before| before.generated.len().min(spans.len()))
    };
    let of_turn = |index: usize| &spans[count(index).min(count(index + 1))..count(index + 1)];
    turns.iter().flat_map(|(index, _)| of_turn(*index).to_vec()).collect()
}

/// What of the row the template does not write: tools and documents that change nothing, switches, thoughts and calls
/// that it has no word for and no answer holds.
fn unread(
    conversation: &Conversation,
    whole: &str,
    turns: &[(Turn, bool)],
    tokenizer: &Tokenizer,
) -> Vec<(Oddity, String)> {
    let mut found = Vec::new();
    let is_same = |changed: Conversation| tokenizer.render_chat(&changed, false).is_ok_and(|text| text == whole);
    if conversation.tools.is_some() && is_same(Conversation { tools: None, ..conversation.clone() }) {
        found.push("tools".to_owned());
    }
    if conversation.documents.is_some() && is_same(Conversation { documents: None, ..conversation.clone() }) {
        found.push("documents".to_owned());
    }
    let switches = conversation.arguments.keys().filter(|key| !tokenizer.template_mentions(key));
    found.extend(switches.map(|key| format!("chat_template_kwargs.{key}")));
    for key in THOUGHTS.into_iter().chain(["tool_calls"]) {
        let has = |message: &Message| match message.fields.get(key) {
            Some(serde_json::Value::String(text)) => !turns.iter().any(|(turn, _)| turn.answer.contains(text.trim())),
            Some(serde_json::Value::Array(values)) => !values.is_empty(),
            Some(value) => !value.is_null(),
            None => false,
        };
        let names: &[&str] = if key == "tool_calls" { &["tool_calls"] } else { &THOUGHTS };
        let is_read = names.iter().any(|name| tokenizer.template_mentions(name));
        if conversation.messages.iter().any(has) && !is_read {
            found.push(key.to_owned());
        }
    }
    found.into_iter().map(|what| (Oddity::Unread, what)).collect()
}

/// The names that a message's thought goes by.
const THOUGHTS: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// How many bytes two texts begin with alike.
fn common(a: &str, b: &str) -> usize {
    let alike = a.char_indices().zip(b.chars()).take_while(|((_, a), b)| a == b);
    alike.last().map_or(0, |((at, letter), _)| at + letter.len_utf8())
}
