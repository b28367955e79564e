//! What a message says and no text has. A chat template may speak of a field and yet leave it out: what counts is
//! whether its text is another where the field is.

use std::cell::LazyCell;
use std::iter::repeat_n;

use memchr::memmem::Finder;

use super::results::Awaited;
use super::said::{BEGINNING, Part, beside_content, name_of, parts, parts_of_calls, words_of};
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

/// The parts of the learned message `index` that are not in `text`, which `written` gives for the conversation.
pub(super) fn unlearned(
    conversation: &Conversation,
    index: usize,
    text: &str,
    tokenizer: &Tokenizer,
    written: &impl Fn(&Conversation) -> Option<String>,
) -> Vec<(Oddity, String)> {
    unlearned_of(conversation, index, text, tokenizer, written, written)
}

/// The same where of what is `written` the text that is `learned` is only a part.
pub(super) fn unlearned_of(
    conversation: &Conversation,
    index: usize,
    text: &str,
    tokenizer: &Tokenizer,
    written: &impl Fn(&Conversation) -> Option<String>,
    learned: &impl Fn(&Conversation) -> Option<String>,
) -> Vec<(Oddity, String)> {
    let message = &conversation.messages[index];
    let mut parts = parts(message);
    parts.retain(|part| {
        let messages = &conversation.messages;
        let is_there =
            part.words.as_deref().is_some_and(|words| Wanted::of(words, messages).is_in(text, messages.len()));
        !is_there && is_lost(conversation, index, part, text, learned)
    });
    keep_wholes(&mut parts);
    let rewritten = changed_words(conversation, index, &parts, text, written);
    // Rendered once for all parts, and for none where nothing is lost.
    let whole = if parts.is_empty() { None } else { written(conversation) };
    let is_written = |part: &Part| {
        let otherwise = written(&with(conversation, index, &part.otherwise));
        whole.as_ref().zip(otherwise).is_some_and(|(whole, otherwise)| *whole != otherwise)
    };
    let told = |part: Part| {
        let name = named(index, &part, text);
        if is_written(&part) {
            return (Oddity::Unmarked, name);
        }
        let switch = switch_for(conversation, index, &part, tokenizer, learned);
        let switch = switch.map(|switch| format!(", which the switch `{switch}` would write"));
        (Oddity::Unlearned, name + &switch.unwrap_or_default())
    };
    parts.into_iter().map(told).chain(rewritten).collect()
}

/// The first words of the message that are others in the learned `text`, of what is not among the lost `parts` of it.
fn changed_words(
    conversation: &Conversation,
    index: usize,
    lost: &[Part],
    text: &str,
    written: &impl Fn(&Conversation) -> Option<String>,
) -> Option<(Oddity, String)> {
    let message = &conversation.messages[index];
    let told = |words: String, name: &str| (Oddity::Rewritten, format!("{words} of `messages[{index}].{name}`"));
    if !lost.iter().any(Part::is_of_content)
        && let Some(words) = rewritten(message, text, changed)
    {
        // Marks may have a part of what is written.
        let is_written = written(conversation).is_some_and(|whole| rewritten(message, &whole, changed).is_none());
        return Some(match is_written {
            true => (Oddity::Unmarked, format!("`messages[{index}].content`")),
            false => told(words, "content"),
        });
    }
    let is_lost =
        |name: &str| lost.iter().any(|part| name.starts_with(&*part.name) || part.is_of_content() && name == "content");
    let others = beside_content(message).into_iter().filter(|(name, _)| !is_lost(name));
    others.into_iter().find_map(|(name, words)| changed(words, text).map(|words| told(words, &name)))
}

/// Leaves out what is told with the whole that it is of: the beginning of a content, an argument of a call.
fn keep_wholes(parts: &mut Vec<Part>) {
    parts.dedup_by(|part, before| part.name == before.name);
    let names: Vec<_> = parts.iter().map(|part| part.name.clone()).collect();
    parts.retain(|part| match &*part.name {
        BEGINNING => !names.iter().any(|name| name == "content"),
        name => !names.iter().any(|whole| name.strip_prefix(&**whole).is_some_and(|rest| rest.starts_with(['.', '[']))),
    });
}

/// The first words of a message's content that stand in the text otherwise than there, or not at all, as `changed` or [`altered`]
/// finds them.
fn rewritten(message: &Message, text: &str, find: fn(&str, &str) -> Option<String>) -> Option<String> {
    let words = words_of(message).and_then(|part| part.words).filter(|words| !text.contains(words.as_str()));
    let is_in_parts = message.parts.len() > 1 && message.parts.concat() == message.text();
    let pieces = match &words {
        Some(_) if is_in_parts => message.parts.iter().map(|part| part.trim()).collect(),
        words => words.as_deref().into_iter().collect::<Vec<_>>(),
    };
    pieces.into_iter().find_map(|words| find(words, text))
}

/// The first of these words that stand in the text otherwise, or not at all. Inference writes a question with the same escapes, and
/// so the letters may be others that HTML escapes; what is more, see [`changed`].
pub(super) fn altered(words: &str, text: &str) -> Option<String> {
    changed(words, text).filter(|_| !lines(text).contains(&escaped(&lines(words))))
}

/// The first of these words that the model does not learn to write, as they stand in the text otherwise, or not at all. Blanks at the
/// end of a line may be others, and so may be the letters that JSON escapes, as in the arguments of a call.
fn changed(words: &str, text: &str) -> Option<String> {
    let json = serde_json::Value::from(words).to_string();
    if text.contains(&json[1..json.len() - 1]) {
        return None;
    }
    let (text, words) = (lines(text), lines(words));
    let has = |words: &str| text.contains(words);
    if has(&words) {
        return None;
    }
    let ends: Vec<usize> = word_ends(&words).collect();
    let kept = ends.partition_point(|end| has(&words[..*end]));
    let from = if kept == 0 { 0 } else { ends[kept - 1] };
    let first: Vec<&str> = words[from..].split_whitespace().take(SHOWN).collect();
    Some(format!("`{}`", first.join(" ")))
}

/// A text without blanks at the ends of its lines.
fn lines(text: &str) -> String {
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
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
        let is_there = |words: &str| {
            let wanted = Wanted::of(words, before);
            texts.iter().any(|text| wanted.is_in(text, last))
        };
        said.retain(|part| {
            !part.words.as_deref().is_some_and(is_there)
                && whole.as_deref().is_some_and(|text| is_lost(conversation, index, part, text, seen))
        });
        keep_wholes(&mut said);
        let words = match said.iter().any(Part::is_of_content) {
            true => None,
            false => in_every(texts, |text| rewritten(message, text, altered))
                .or_else(|| repeated_less(before, index, texts.last()?)),
        };
        let calls = || beside_content(message).into_iter().filter(|(name, _)| name.starts_with("tool_calls"));
        let changed = words.map(|words| (words, "content".to_owned())).or_else(|| {
            let mut calls = calls().filter(|(name, _)| !said.iter().any(|part| name.starts_with(&*part.name)));
            calls.find_map(|(name, words)| Some((in_every(texts, |text| altered(words, text))?, name)))
        });
        found.extend(changed.map(|(words, name)| {
            (Oddity::Rewritten, format!("{words} of `messages[{index}].{name}` of `{}`", message.role))
        }));
        for part in said {
            let field = if *part.name == *BEGINNING { "content" } else { &part.name };
            found.push((Oddity::Unread, format!("`messages[{index}].{field}` of `{}`", message.role)));
        }
    }
    found
}

/// What is found in each of the texts, as it is in the first.
fn in_every(texts: &[&str], find: impl Fn(&str) -> Option<String>) -> Option<String> {
    texts.iter().map(|text| find(text)).collect::<Option<Vec<_>>>()?.into_iter().next()
}

/// The words of message `index` where it is the first of several that say the same, and `text` has them less often than that: then
/// another one is left out, or written otherwise.
fn repeated_less(messages: &[Message], index: usize, text: &str) -> Option<String> {
    let words = messages[index].text().trim();
    let same = |message: &&Message| message.text().trim() == words;
    if words.is_empty() || messages[..index].iter().any(|message| same(&message)) {
        return None;
    }
    let said = messages.iter().filter(same).count();
    let written = text.matches(words).count();
    (written > 0 && written < said).then(|| {
        let first: Vec<&str> = words.split_whitespace().take(SHOWN).collect();
        format!("`{}`, said {said} times and written {written},", first.join(" "))
    })
}

/// The first of what is said that the opened text of a turn does not have, or has otherwise, where that of another turn has it or
/// it is a turn itself: what the model is asked later without what was said before. `opened` has the turns with their opened
/// texts, which `asked` gives for any conversation.
pub(super) fn forgotten(
    conversation: &Conversation,
    opened: &[(usize, &str)],
    asked: &impl Fn(&Conversation, usize) -> Option<String>,
) -> Option<(Oddity, String)> {
    let is_turn = |index: usize| opened.iter().any(|(turn, _)| *turn == index);
    let last = opened.last().map_or(0, |(turn, _)| *turn);
    for (index, message) in conversation.messages[..last].iter().enumerate() {
        let later = opened.iter().filter(|(turn, _)| *turn > index);
        let place = |part: &Part, turn: usize| {
            format!("`messages[{index}].{}` of `{}` before `messages[{turn}]`", part.name, message.role)
        };
        let is_gone = |part: &Part, turn: usize, text: &str| {
            asked(&with(conversation, index, &part.otherwise), turn).as_deref() == Some(text)
        };
        if let Some(part) = words_of(message) {
            let words = part.words.as_deref().unwrap_or_default();
            let wanted = Wanted::of(words, &conversation.messages[..last]);
            let is_known = is_turn(index) || later.clone().any(|(_, text)| text.contains(words));
            for (turn, text) in later.clone().filter(|(turn, text)| is_known && !wanted.is_in(text, *turn)) {
                if let Some(first) = altered(words, text) {
                    return Some(match is_gone(&part, *turn, text) {
                        true => (Oddity::Forgotten, place(&part, *turn)),
                        false => (Oddity::Rewritten, format!("{first} of {}", place(&part, *turn))),
                    });
                }
            }
        }
        // What others say besides is looked for by itself.
        let Some((turn, text)) = opened.last().filter(|_| is_turn(index)) else { continue };
        let called = parts_of_calls(message).find(|part| !part.name.contains('.') && is_gone(part, *turn, text));
        if let Some(part) = called {
            return Some((Oddity::Forgotten, place(&part, *turn)));
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

/// What a lost part is called; `text` is what is learned, which may have all but the end of it.
fn named(index: usize, part: &Part, text: &str) -> String {
    match &*part.name {
        BEGINNING => format!("the beginning of `messages[{index}].content`"),
        "content" if part.words.as_deref().is_some_and(|words| has_beginning(words, text)) => {
            format!("the end of `messages[{index}].content`")
        }
        tag if tag.starts_with(['<', '[']) => format!("`{tag}` of `messages[{index}].content`"),
        field => format!("`messages[{index}].{field}`"),
    }
}

/// True where the text has the first words, which say enough to be known by.
fn has_beginning(words: &str, text: &str) -> bool {
    let beginning = word_ends(words).map(|end| &words[..end]).find(|beginning| beginning.len() >= TELLING);
    beginning.is_some_and(|beginning| beginning.len() < words.len() && text.contains(beginning))
}

/// Words to look for in texts, and the messages that say them: once each in their content, and once in what stands beside it.
struct Wanted<'w> {
    finder: Finder<'w>,
    said: Vec<usize>,
}

impl<'w> Wanted<'w> {
    fn of(words: &'w str, messages: &[Message]) -> Self {
        let finder = Finder::new(words);
        let has = |text: &str| text.len() >= words.len() && finder.find(text.as_bytes()).is_some();
        // A call may be of a tool with this name, and a thought of these words.
        let beside = |message: &Message| message.fields.values().any(|value| has(&value.to_string()));
        let times = |message: &Message| usize::from(has(message.text())) + usize::from(beside(message));
        let said = messages.iter().enumerate().flat_map(|(index, message)| repeat_n(index, times(message)));
        Self { said: said.collect(), finder }
    }

    /// True where the text has the words as often as the first `count` messages say them, so that none of them is missed.
    fn is_in(&self, text: &str, count: usize) -> bool {
        let said = self.said.iter().filter(|index| **index < count).count().max(1);
        self.finder.needle().len() >= TELLING && self.finder.find_iter(text.as_bytes()).take(said).count() == said
    }
}

/// Bytes of words that stand in a text by being said, and not by being letters of something else: `A`, `user`.
const TELLING: usize = 8;

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
