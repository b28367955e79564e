//! The assistant's turns of a conversation, as texts with what is learned.
//!
//! A conversation is one example where the whole of it, as the chat template writes it, has every learned turn as
//! inference will see it: the opened turn before it, then the answer. Where the template writes the whole otherwise, as
//! those do that take thoughts out of earlier answers, each learned turn is an example of its own. Where the template
//! itself marks what the assistant generates, the marked text of the whole is what is learned.

use faults::Fault;

use super::message::THOUGHTS;
use super::turn::{Turn, common, left_open, turn};
use super::{Context, beside, lost, marks};
use crate::chat::Rendered;
use crate::conversation::{Conversation, Message};
use crate::draft::{Draft, Part, Piece};
use crate::notices::Oddity;
use crate::options::TrainOn;
use crate::row::listed;

/// A conversation as one text with the learned turns marked; as one text for each learned turn where the chat template
/// writes the whole otherwise than a turn will be asked for.
pub(super) fn drafts(conversation: &Conversation, context: &Context<'_>) -> Result<Vec<Draft>, Fault> {
    let (tokenizer, learns_all) = (context.tokenizer, context.train_on == TrainOn::All);
    let turns = turns_of(&conversation.messages, context.train_on)?;
    let whole = tokenizer.render_marked(conversation, false)?;
    if !tokenizer.template_marks_generation() || learns_all {
        return unmarked(conversation, &turns, whole.text, context);
    }
    let marked = marked(conversation, &turns, &whole, context).map(|draft| vec![draft]);
    // What stands in the text without a mark is not to be learned. A thought that the whole conversation has no more is
    // learned where its turn stands last.
    let written = |conversation: &Conversation| tokenizer.render_chat(conversation, false).ok();
    let is_loss = |oddity: &Oddity| matches!(oddity, Oddity::Unlearned | Oddity::Unmarked);
    let is_gone = |index: usize| {
        lost::unlearned(conversation, index, &whole.text, tokenizer, &written).iter().any(|(oddity, _)| is_loss(oddity))
    };
    if !turns.iter().any(|(index, _)| is_gone(*index)) {
        return marked;
    }
    let loses = |draft: &Draft| draft.oddities.iter().any(|(oddity, _)| is_loss(oddity));
    let alone = |(index, _): &(usize, bool)| {
        let begun = conversation.up_to(index + 1);
        let whole = tokenizer.render_marked(&begun, false)?;
        self::marked(&begun, &[(*index, true)], &whole, context)
    };
    match turns.iter().map(alone).collect::<Result<Vec<Draft>, Fault>>() {
        Ok(mut apart) if !apart.iter().any(loses) => {
            apart[0].oddities.push((Oddity::Apart, String::new()));
            Ok(apart)
        }
        _ => marked,
    }
}

/// The whole conversation with what the template marks as generated learned.
fn marked(
    conversation: &Conversation,
    turns: &[(usize, bool)],
    whole: &Rendered,
    context: &Context<'_>,
) -> Result<Draft, Fault> {
    let tokenizer = context.tokenizer;
    let text = |conversation: &Conversation| tokenizer.render_chat(conversation, false).ok();
    let mut oddities = beside::unread(conversation, &whole.text, &text);
    let learned = |conversation: &Conversation| {
        let Rendered { text, generated } = tokenizer.render_marked(conversation, false).ok()?;
        Some(generated.iter().map(|span| &text[span.clone()]).collect::<String>())
    };
    let of_all: String = whole.generated.iter().map(|span| &whole.text[span.clone()]).collect();
    for (index, _) in turns {
        oddities.extend(lost::unlearned_of(conversation, *index, &of_all, tokenizer, &text, &learned));
        oddities.extend(lost::second_thought(conversation, *index, &whole.text, tokenizer, context.options.way));
    }
    oddities.extend(lost::unseen(conversation, turns, &[&whole.text], tokenizer, &text));
    let learned = turns.iter().map(|(index, _)| *index).collect();
    let spans = marks::of_turns(conversation, &learned, whole, tokenizer);
    if spans.is_empty() {
        let way = context.options.way;
        let fault = Fault::new("the chat template marks nothing of the turns that are to be learned as generated");
        return Err(fault.hint(format!(
            "its `{{% generation %}}` says what is learned: look at {} and at the row's `weight` and `train`, or name a template \
             without these marks with {}",
            way.key("train_on"),
            way.key("chat_template")
        )));
    }
    let spans: Spans = spans.into_iter().map(|span| (span.start, span.end, true)).collect();
    Ok(Draft { oddities, ..one(&whole.text, &spans, context) })
}

/// The conversation by how each turn is opened and answered; `whole` is its text.
fn unmarked(
    conversation: &Conversation,
    turns: &[(usize, bool)],
    whole: String,
    context: &Context<'_>,
) -> Result<Vec<Draft>, Fault> {
    let (tokenizer, learns_all) = (context.tokenizer, context.train_on == TrainOn::All);
    let (mut found, mut oddities) = (Vec::with_capacity(turns.len()), Vec::new());
    for (index, is_learned) in turns {
        match turn(conversation, *index, tokenizer, context.options.way) {
            Ok(turn) => found.push((turn, *is_learned, *index)),
            // Nothing can be asked that the first message would answer: many templates need a question.
            Err(_) if *index == 0 && turns.len() > 1 => oddities.push((Oddity::Unasked, String::new())),
            Err(_) if learns_all => {}
            Err(fault) => return Err(fault),
        }
    }
    let written = |conversation: &Conversation| tokenizer.render_chat(conversation, false).ok();
    oddities.extend(beside::unread(conversation, &whole, &written));
    let is_open = |(turn, is_learned, _): &&Found| *is_learned && !tokenizer.ends_with_stop(turn.answer.trim_end());
    if let Some((.., index)) = found.iter().find(is_open).filter(|_| tokenizer.stops_in_texts()) {
        oddities.push((Oddity::Unended, format!("messages[{index}]")));
    }
    // Some templates end a turn only once another follows: the last one is ended as the others are.
    let last = found.last().map(|(turn, ..)| format!("{}{}", turn.opened, turn.answer));
    let text = last.filter(|text| text.starts_with(&whole)).unwrap_or(whole);
    if let Some(spans) = spans(&found, &text) {
        oddities.extend(lost_of_turns(conversation, &found, context));
        return Ok(vec![Draft { oddities, ..one(&text, &spans, context) }]);
    }
    if learns_all {
        if turns.iter().any(|(_, is_learned)| !is_learned) {
            return Err(Fault::new(
                "the chat template writes the turns of the whole conversation otherwise than alone",
            )
            .hint(format!(
                "with {} a turn can then not be left out by its `weight` or `train`",
                context.options.way.key("train_on = \"all\"")
            )));
        }
        let as_written = written(conversation).unwrap_or_default();
        for (index, _) in turns {
            oddities.extend(lost::unlearned(conversation, *index, &as_written, tokenizer, &written));
        }
        oddities.extend(lost::unseen(conversation, turns, &[&text], tokenizer, &written));
        let answers = found.first().map_or(0, |(turn, ..)| common(&turn.opened, &text));
        let spans = [(answers, text.len(), true)];
        return Ok(vec![Draft { oddities, ..one(&text, &spans, context) }]);
    }
    oddities.extend(lost_of_turns(conversation, &found, context));
    let opened: Vec<(usize, &str)> = found.iter().map(|(turn, _, index)| (*index, turn.opened.as_str())).collect();
    let asked = |conversation: &Conversation, index: usize| {
        Some(turn(conversation, index, tokenizer, context.options.way).ok()?.opened)
    };
    oddities.extend(lost::forgotten(conversation, &opened, &asked));
    oddities.push((Oddity::Apart, String::new()));
    let mut drafts: Vec<Draft> = found.into_iter().map(|(turn, ..)| apart(turn, context)).collect();
    drafts[0].oddities = oddities;
    Ok(drafts)
}

/// A turn, whether it is learned, and its message.
type Found = (Turn, bool, usize);

/// What no opened turn has of the messages before it, and no answer of those that it is made of.
fn lost_of_turns(conversation: &Conversation, found: &[Found], context: &Context<'_>) -> Vec<(Oddity, String)> {
    let (tokenizer, way) = (context.tokenizer, context.options.way);
    let mut lost = Vec::new();
    for (turn, _, index) in found.iter().filter(|(_, is_learned, _)| *is_learned) {
        let text = format!("{}{}", turn.opened, turn.answer);
        lost.extend(lost::second_thought(conversation, *index, &text, tokenizer, way));
        let open = left_open(&turn.opened, &turn.answer);
        lost.extend(open.map(|tag| (Oddity::OpenThought, format!("`messages[{index}]` behind `{tag}`"))));
        let answer = |conversation: &Conversation| Some(self::turn(conversation, *index, tokenizer, way).ok()?.answer);
        lost.extend(lost::unlearned(conversation, *index, &turn.answer, tokenizer, &answer));
        let whole = |conversation: &Conversation| {
            let Turn { opened, answer } = self::turn(conversation, *index, tokenizer, way).ok()?;
            Some(format!("{opened}{answer}"))
        };
        lost.extend(lost::unnamed(conversation, *index, tokenizer, &whole));
    }
    if let Some((_, _, last)) = found.last() {
        let turns: Vec<(usize, bool)> = found.iter().map(|(_, is_learned, index)| (*index, *is_learned)).collect();
        let texts: Vec<&str> = found.iter().map(|(turn, ..)| turn.opened.as_str()).collect();
        let opened = |conversation: &Conversation| Some(turn(conversation, *last, tokenizer, way).ok()?.opened);
        lost.extend(lost::unseen(conversation, &turns, &texts, tokenizer, &opened));
    }
    lost
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
fn spans(turns: &[Found], whole: &str) -> Option<Spans> {
    let span = |(Turn { opened, answer }, is_learned, _): &Found| {
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
