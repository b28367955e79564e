//! What a message says and no text has. A chat template may speak of a field and yet leave it out: what counts is
//! whether its text is another where the field is.

use std::cell::LazyCell;

use super::results::Awaited;
use super::said::{BEGINNING, Part, name_of, parts, words_of};
use crate::conversation::{Conversation, Message};
use crate::notices::Oddity;
use crate::tokenizer::Tokenizer;
use crate::way::Way;

/// Switches of templates by which thoughts come and go.
pub(crate) const SWITCHES: [&str; 7] = [
    "enable_thinking",
    "thinking",
    "preserve_thinking",
    "keep_past_thinking",
    "clear_thinking",
    "truncate_history_thinking",
    "add_thoughts",
];

/// The parts of the learned message `index` that no text has which `written` gives for a conversation.
pub(super) fn unlearned(
    conversation: &Conversation,
    index: usize,
    tokenizer: &Tokenizer,
    written: &impl Fn(&Conversation) -> Option<String>,
) -> Vec<(Oddity, String)> {
    unlearned_of(conversation, index, tokenizer, written, written)
}

/// The same where of what is `written` the text that is `learned` is only a part.
pub(super) fn unlearned_of(
    conversation: &Conversation,
    index: usize,
    tokenizer: &Tokenizer,
    written: &impl Fn(&Conversation) -> Option<String>,
    learned: &impl Fn(&Conversation) -> Option<String>,
) -> Vec<(Oddity, String)> {
    let Some(text) = learned(conversation) else { return Vec::new() };
    let message = &conversation.messages[index];
    let mut parts = parts(message);
    parts.retain(|part| {
        let is_there = part.words.as_deref().is_some_and(|words| has_all(&text, words, &conversation.messages));
        !is_there && is_lost(conversation, index, part, &text, learned)
    });
    keep_wholes(&mut parts);
    let rewritten = if parts.iter().any(Part::is_of_content) { None } else { rewritten(message, &text) };
    let rewritten = rewritten.map(|words| (Oddity::Rewritten, format!("{words} of `messages[{index}].content`")));
    // Rendered once for all parts, and for none where nothing is lost.
    let whole = if parts.is_empty() { None } else { written(conversation) };
    let is_written = |part: &Part| {
        let otherwise = written(&with(conversation, index, &part.otherwise));
        whole.as_ref().zip(otherwise).is_some_and(|(whole, otherwise)| *whole != otherwise)
    };
    let told = |part: Part| {
        let name = named(index, &part.name);
        if is_written(&part) {
            return (Oddity::Unmarked, name);
        }
        let switch = switch_for(conversation, index, &part, tokenizer, learned);
        let switch = switch.map(|switch| format!(", which the switch `{switch}` would write"));
        (Oddity::Unlearned, name + &switch.unwrap_or_default())
    };
    parts.into_iter().map(told).chain(rewritten).collect()
}

/// Leaves out what is told with the whole that it is of: the beginning of a content, an argument of a call.
fn keep_wholes(parts: &mut Vec<Part>) {
    let names: Vec<_> = parts.iter().map(|part| part.name.clone()).collect();
    parts.retain(|part| match &*part.name {
        BEGINNING => !names.iter().any(|name| name == "content"),
        name => !names.iter().any(|whole| name.strip_prefix(&**whole).is_some_and(|rest| rest.starts_with('.'))),
    });
}

/// The first words of a message's content that stand in the text otherwise than there, or not at all, where its beginning and
/// its end do. Blanks may be others, and so may be the letters that JSON and HTML escape.
fn rewritten(message: &Message, text: &str) -> Option<String> {
    let words = words_of(message)?.words?;
    if text.contains(&words) {
        return None;
    }
    let dense = |text: &str| text.split_whitespace().collect::<String>();
    let text = dense(text);
    let has = |words: &str| text.contains(&dense(words));
    let is_in_parts = message.parts.len() > 1 && message.parts.concat() == message.text();
    let pieces = if is_in_parts { message.parts.iter().map(|part| part.trim()).collect() } else { vec![&*words] };
    let is_other = |words: &&str| {
        let json = serde_json::Value::from(*words).to_string();
        !(has(words) || has(&json[1..json.len() - 1]) || has(&escaped(words)))
    };
    let words = pieces.into_iter().find(is_other)?;
    let ends: Vec<usize> = word_ends(words).collect();
    let kept = ends.partition_point(|end| has(&words[..*end]));
    let from = if kept == 0 { 0 } else { ends[kept - 1] };
    let first: Vec<&str> = words[from..].split_whitespace().take(SHOWN).collect();
    Some(format!("`{}`", first.join(" ")))
}

/// How many words are shown of a longer text.
const SHOWN: usize = 3;

/// Where the words of a text end, in bytes.
fn word_ends(text: &str) -> impl Iterator<Item = usize> {
    let blank = |(at, letter): &(usize, char)| letter.is_whitespace() && !text[..*at].ends_with(char::is_whitespace);
    text.char_indices().filter(blank).map(|(at, _)| at).chain([text.len()])
}

/// A text as jinja2's `escape` writes it.
fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('\'', "&#39;").replace('"', "&#34;")
}

/// The name of whoever speaks the learned message `index`, where a template that writes names has it nowhere in the turn.
pub(super) fn unnamed(
    conversation: &Conversation,
    index: usize,
    tokenizer: &Tokenizer,
    turn: &impl Fn(&Conversation) -> Option<String>,
) -> Option<(Oddity, String)> {
    let name = name_of(&conversation.messages[index]).filter(|_| tokenizer.template_reads_field("name"))?;
    let is_lost = is_lost(conversation, index, &name, &turn(conversation)?, turn);
    is_lost.then(|| (Oddity::Unread, format!("`messages[{index}].name` of `assistant`")))
}

/// The words of other messages before the last of `turns`, and what else users, tools and the system say there, that stand
/// in none of `texts` and change nothing in what `seen` gives for a conversation.
pub(super) fn unseen(
    conversation: &Conversation,
    turns: &[(usize, bool)],
    texts: &[&str],
    tokenizer: &Tokenizer,
    seen: &impl Fn(&Conversation) -> Option<String>,
) -> Vec<(Oddity, String)> {
    let last = turns.last().map_or(0, |(index, _)| *index);
    let mut found = Vec::new();
    let whole = LazyCell::new(|| seen(conversation));
    let mut awaited = Awaited::default();
    for (index, message) in conversation.messages[..last].iter().enumerate() {
        let repeated = awaited.repeated(&message.role, &message.fields);
        if turns.iter().any(|(turn, _)| *turn == index) {
            continue;
        }
        let mut said = parts(message);
        // Templates drop the assistant's earlier thoughts on purpose.
        said.retain(|part| message.role != "assistant" || !part.is_thought());
        // Where no template field has this name, it is told as a field that nothing reads.
        if tokenizer.template_reads_field("name") && !repeated.contains(&"name") {
            said.extend(name_of(message));
        }
        let before = &conversation.messages[..last];
        let is_there = |words: &str| texts.iter().any(|text| has_all(text, words, before));
        said.retain(|part| {
            !part.words.as_deref().is_some_and(is_there)
                && whole.as_deref().is_some_and(|text| is_lost(conversation, index, part, text, seen))
        });
        keep_wholes(&mut said);
        let first =
            || texts.iter().map(|text| rewritten(message, text)).collect::<Option<Vec<_>>>()?.into_iter().next();
        if let Some(words) = if said.iter().any(Part::is_of_content) { None } else { first() } {
            found.push((Oddity::Rewritten, format!("{words} of `messages[{index}].content` of `{}`", message.role)));
        }
        for part in said {
            let field = if *part.name == *BEGINNING { "content" } else { &part.name };
            found.push((Oddity::Unread, format!("`messages[{index}].{field}` of `{}`", message.role)));
        }
    }
    found
}

/// The first message that the opened text of a turn does not have where that of another turn does, or that is a turn itself:
/// what the model is asked later without what was said before. `opened` has the turns with their opened texts, which `asked`
/// gives for any conversation.
pub(super) fn forgotten(
    conversation: &Conversation,
    opened: &[(usize, &str)],
    asked: &impl Fn(&Conversation, usize) -> Option<String>,
) -> Option<(Oddity, String)> {
    let is_turn = |index: usize| opened.iter().any(|(turn, _)| *turn == index);
    for (turn, text) in opened {
        let before = &conversation.messages[..*turn];
        for (index, message) in before.iter().enumerate() {
            let Some(part) = words_of(message) else { continue };
            let words = part.words.as_deref().unwrap_or_default();
            let is_elsewhere = || opened.iter().any(|(turn, text)| *turn > index && text.contains(words));
            if has_all(text, words, before) || !(is_turn(index) || is_elsewhere()) {
                continue;
            }
            let changed = with(conversation, index, &part.otherwise);
            if asked(&changed, *turn).as_deref() == Some(text) {
                let what = format!("`messages[{index}].content` of `{}` before `messages[{turn}]`", message.role);
                return Some((Oddity::Forgotten, what));
            }
        }
    }
    None
}

/// The learned turn `index` where its thought stands in `text` behind one that the chat template has closed: the model
/// would learn to think once more after it was told not to.
pub(super) fn second_thought(
    conversation: &Conversation,
    index: usize,
    text: &str,
    tokenizer: &Tokenizer,
    way: Way,
) -> Option<(Oddity, String)> {
    let content = conversation.messages[index].text().trim();
    let tag = &content[..=content.find('>').filter(|_| content.starts_with('<'))?];
    let end = closing(tag);
    let is_second = |text: &str| {
        let before = content.contains(&end).then(|| text.rfind(content)).flatten().map(|at| text[..at].trim_end());
        before.is_some_and(|before| before.ends_with(&end))
    };
    if !is_second(text) {
        return None;
    }
    let begun = conversation.up_to(index + 1);
    let switch = switched(&begun, tokenizer).find(|(_, switched)| {
        tokenizer.render_chat(switched, false).is_ok_and(|text| text.contains(content) && !is_second(&text))
    });
    let switch = switch
        .map_or(String::new(), |((name, is_on), _)| format!("; {} writes one", way.template_argument(name, is_on)));
    Some((Oddity::SecondThought, format!("`{tag}` of `messages[{index}].content`{switch}")))
}

/// The tag that closes a thought which `tag` opens: `</think>`, `<|END_THINKING|>`.
pub(super) fn closing(tag: &str) -> String {
    match tag.strip_prefix("<|START_") {
        Some(name) => format!("<|END_{name}"),
        None => tag.replacen('<', "</", 1),
    }
}

fn named(index: usize, part: &str) -> String {
    match part {
        BEGINNING => format!("the beginning of `messages[{index}].content`"),
        tag if tag.starts_with(['<', '[']) => format!("`{tag}` of `messages[{index}].content`"),
        field => format!("`messages[{index}].{field}`"),
    }
}

/// True where the text has these words as often as the messages say them, so that none of them is missed.
fn has_all(text: &str, words: &str, messages: &[Message]) -> bool {
    // A call may be of a tool with this name, and a thought of these words.
    let beside = |message: &&Message| message.fields.values().any(|value| value.to_string().contains(words));
    let said = messages.iter().filter(|message| message.text().contains(words)).count()
        + messages.iter().filter(beside).count();
    text.matches(words).take(said.max(1)).count() == said.max(1)
}

/// True where the text is the same with more of the part.
fn is_lost(
    conversation: &Conversation,
    index: usize,
    part: &Part,
    text: &str,
    texts: &impl Fn(&Conversation) -> Option<String>,
) -> bool {
    texts(&with(conversation, index, &part.otherwise)).as_deref() == Some(text)
}

/// The conversation with another message in the place of one.
pub(super) fn with(conversation: &Conversation, index: usize, message: &Message) -> Conversation {
    let mut changed = conversation.clone();
    changed.messages[index] = message.clone();
    changed
}

/// The switch with which the template writes the part.
fn switch_for(
    conversation: &Conversation,
    index: usize,
    part: &Part,
    tokenizer: &Tokenizer,
    texts: &impl Fn(&Conversation) -> Option<String>,
) -> Option<String> {
    switched(conversation, tokenizer).find_map(|(switch, switched)| {
        let text = texts(&switched)?;
        let changed = texts(&with(&switched, index, &part.otherwise))?;
        (changed != text).then(|| format!("{} = {}", switch.0, switch.1))
    })
}

/// The conversation with each switch that the template reads, on and off, beside the switch.
fn switched(
    conversation: &Conversation,
    tokenizer: &Tokenizer,
) -> impl Iterator<Item = ((&'static str, bool), Conversation)> {
    let known = SWITCHES.into_iter().filter(|switch| tokenizer.template_reads_variable(switch));
    known.flat_map(|switch| [(switch, true), (switch, false)]).map(|(switch, value)| {
        let mut switched = conversation.clone();
        switched.arguments.insert(switch.into(), value.into());
        ((switch, value), switched)
    })
}
