//! One turn of the assistant as inference will see it: the conversation before it with the turn opened, then what the
//! assistant writes up to where the model stops.
//!
//! Templates write a turn otherwise than they open it: some write the system message elsewhere once a turn follows, some
//! open a thought that whole conversations do not have. So the opened turn is taken as it is, and only what belongs to
//! the turn itself is read off the conversation that ends with it.

use faults::Fault;

use super::lost::closing;
use super::message::role;
use crate::conversation::{Conversation, Message};
use crate::tokenizer::Tokenizer;
use crate::way::Way;

/// The texts of one turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turn {
    /// What the model is given.
    pub opened: String,
    /// What it is to write, with the token that ends it.
    pub answer: String,
}

/// How a template writes an answer that stands after an opened turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    /// What stands between the opened turn and the words: blanks, and the end of a thought that the turn is opened with.
    pub lead: String,
    /// What follows the words, up to where the model stops.
    pub end: String,
}

/// The turn of message `index`.
pub(super) fn turn(conversation: &Conversation, index: usize, tokenizer: &Tokenizer, way: Way) -> Result<Turn, Fault> {
    let (asked, answered) = (conversation.up_to(index), conversation.up_to(index + 1));
    let opened = tokenizer.render_chat(&asked, true)?;
    let with = tokenizer.render_chat(&answered, false)?;
    let words = conversation.messages[index].text();
    let answer = match with.strip_prefix(opened.as_str()) {
        Some(tail) => until_stop(tail, words, tokenizer).to_owned(),
        None => rewritten(&asked, &conversation.messages[index], &opened, &with, tokenizer, way)?,
    };
    let answer = ended(answer, &answered, &with, tokenizer);
    Ok(Turn { opened, answer })
}

/// The answer of a turn that a whole conversation writes otherwise than it is opened.
fn rewritten(
    asked: &Conversation,
    message: &Message,
    opened: &str,
    with: &str,
    tokenizer: &Tokenizer,
    way: Way,
) -> Result<String, Fault> {
    let words = message.text();
    let probe = Probe::of(asked, opened, tokenizer, way)?;
    let thought = opened_thought(opened, &probe.before);
    if let Some((thought, words)) = thought.as_ref().and_then(|thought| Some((thought, thought.words(message)?))) {
        if !message.fields.contains_key("tool_calls") {
            return Ok(words + &probe.frame.end);
        }
        let answer = with.strip_prefix(thought.base(opened)).and_then(|rest| thought.with_calls(rest, &words));
        let answer = answer.ok_or_else(|| unwritten(asked.messages.len(), way))?;
        return Ok(until_stop(&answer, message.text(), tokenizer).to_owned());
    }
    if let Some(rest) = behind_closed_thought(opened, with) {
        return Ok(until_stop(rest, words, tokenizer).to_owned());
    }
    if let Some(tail) = behind_opening(asked, opened, with, &probe, tokenizer) {
        return Ok(until_stop(tail, words, tokenizer).to_owned());
    }
    if let Some(tail) = with.strip_prefix(probe.before.as_str()) {
        let closed = thought.as_ref().and_then(|thought| thought.closed_in(opened, &probe.before)).unwrap_or_default();
        return Ok(format!("{closed}{}", until_stop(tail, words, tokenizer)));
    }
    if let Some(thought) = Thought::of(opened)
        && let Some(rest) = with.strip_prefix(thought.base(opened))
    {
        return Ok(thought.closed_before(until_stop(rest, words, tokenizer)));
    }
    // The template writes the turn otherwise than it would another: what is said is written as others are.
    let said = words.rsplit("</think>").next().filter(|_| opened.trim_end().ends_with("</think>"));
    let said = said.map_or(words, str::trim_start);
    if said.trim().is_empty() || message.fields.contains_key("tool_calls") {
        return Err(unwritten(asked.messages.len(), way));
    }
    Ok(format!("{}{said}{}", probe.frame.lead, probe.frame.end))
}

/// The tag of a thought that `opened` begins and `answer` never closes.
pub(super) fn left_open<'a>(opened: &'a str, answer: &str) -> Option<&'a str> {
    Thought::of(opened).filter(|thought| !answer.contains(&thought.end())).map(|thought| thought.tag)
}

/// What follows the opening of the turn in `with`, of a template that writes something before it otherwise: such as gpt-oss's, which
/// leaves out what was thought before calls once they are answered. The probe has the same before the turn, and has the turn's opening
/// last; none where the turn is opened with a thought, which is looked for by itself.
fn behind_opening<'w>(
    asked: &Conversation,
    opened: &str,
    with: &'w str,
    probe: &Probe,
    tokenizer: &Tokenizer,
) -> Option<&'w str> {
    let closed = tokenizer.render_chat(asked, false).ok()?;
    let (opened, blanks) = opened.split_at(opened.trim_end().len());
    let opening = opened.strip_prefix(closed.as_str()).filter(|opening| !opening.is_empty())?;
    let last_tag = opened.rfind('<').map(|at| &opened[at..]).filter(|tag| tag.ends_with('>'));
    if Thought::of(opened).is_some() || last_tag.is_some_and(|tag| opening_of(tag).is_some()) {
        return None;
    }
    let at = probe.before.rfind(opening)? + opening.len();
    let rest = with.get(at..).filter(|_| common(with, &probe.before) >= at)?;
    Some(rest.strip_prefix(blanks).unwrap_or(rest))
}

/// How many bytes two texts begin with alike.
pub(super) fn common(a: &str, b: &str) -> usize {
    let alike = a.char_indices().zip(b.chars()).take_while(|((_, a), b)| a == b);
    alike.last().map_or(0, |((at, letter), _)| at + letter.len_utf8())
}

/// What follows a thought in `with` that stands in the place of the empty one which the opened turn has closed: after that
/// the model goes on with the answer.
fn behind_closed_thought<'w>(opened: &str, with: &'w str) -> Option<&'w str> {
    let (opened, blanks) = opened.split_at(opened.trim_end().len());
    let (inner, end) = opened.split_at(opened.rfind('<')?);
    let inner = inner.trim_end();
    // The tag, and in Gemma 4 what it is a channel for.
    if !inner[inner.rfind('<')?..].starts_with(&opening_of(end)?) {
        return None;
    }
    let (_, rest) = with.strip_prefix(inner)?.split_once(end)?;
    Some(rest.strip_prefix(blanks).unwrap_or_else(|| rest.trim_start()))
}

/// An answer with the token that ends it, where the template writes that only once a turn follows.
fn ended(answer: String, answered: &Conversation, with: &str, tokenizer: &Tokenizer) -> String {
    if tokenizer.ends_with_stop(&answer) {
        return answer;
    }
    let calls = answered.messages.last().is_some_and(|last| last.fields.contains_key("tool_calls"));
    let followed = |mut conversation: Conversation| {
        conversation.messages.push(Message::new(if calls { "tool" } else { "user" }, FOLLOWING));
        tokenizer.render_chat(&conversation, false).ok()
    };
    let end = |after: &str| {
        let end = tokenizer.end_of_turn(&after[..after.find(FOLLOWING)?]);
        tokenizer.ends_with_stop(end).then(|| end.to_owned())
    };
    if let Some(end) = followed(answered.clone()).and_then(|text| end(text.strip_prefix(with)?)) {
        return answer + &end;
    }
    // The template writes the answer otherwise once a turn follows, such as without its thought: one word is written alike.
    let found = || {
        let mut word = String::from("Answer");
        while with.contains(&word) {
            word.push('x');
        }
        let mut probe = answered.clone();
        *probe.messages.last_mut()? = Message::new("assistant", word.as_str());
        let alone = tokenizer.render_chat(&probe, false).ok()?;
        let text = followed(probe)?;
        let behind = |text: &str| text.rfind(&word).map(|at| text[at + word.len()..].to_owned());
        Some(end(&behind(&text)?)?.strip_prefix(&behind(&alone)?)?.to_owned())
    };
    let end = found().unwrap_or_default();
    answer + &end
}

/// What the turn says that follows an answer to see how that ends.
const FOLLOWING: &str = "Question";

/// How the template writes `words` after `opened`, which is the conversation with the assistant's turn opened.
pub(super) fn frame(
    conversation: &Conversation,
    opened: &str,
    words: &str,
    tokenizer: &Tokenizer,
    way: Way,
) -> Result<Frame, Fault> {
    let mut with = conversation.clone();
    with.messages.push(Message::new("assistant", words));
    let with = tokenizer.render_chat(&with, false)?;
    let found = with.strip_prefix(opened).and_then(|rest| rest.split_once(words));
    if let Some((lead, after)) = found.filter(|(lead, _)| lead.trim().is_empty()) {
        return Ok(Frame { lead: lead.into(), end: tokenizer.end_of_turn(after).into() });
    }
    let Probe { before, mut frame } = Probe::of(conversation, opened, tokenizer, way)?;
    // A thought that the opened turn begins is closed where the template closes an empty one.
    let closed = opened_thought(opened, &before).and_then(|thought| thought.closed_in(opened, &before));
    frame.lead.insert_str(0, &closed.unwrap_or_default());
    Ok(frame)
}

/// A turn of one word, which says where the template writes a turn's words.
struct Probe {
    /// All that stands before the turn's words and the blanks that lead to them.
    before: String,
    frame: Frame,
}

impl Probe {
    fn of(conversation: &Conversation, opened: &str, tokenizer: &Tokenizer, way: Way) -> Result<Self, Fault> {
        let mut word = String::from("Answer");
        while opened.contains(&word) {
            word.push('x');
        }
        let index = conversation.messages.len();
        let mut with = conversation.clone();
        with.messages.push(Message::new("assistant", word.as_str()));
        let with = tokenizer.render_chat(&with, false)?;
        let at = with.rfind(&word).ok_or_else(|| unwritten(index, way))?;
        let (before, after) = (&with[..at], &with[at + word.len()..]);
        let trimmed = before.trim_end();
        let mark = trimmed.rfind(['<', '[', '\n', ' ']).unwrap_or(0);
        let (asked, blanks) = opened.split_at(opened.trim_end().len());
        // The blanks that lead to the words, where the opened turn ends as this text does but for them.
        let lead = match asked.ends_with(&trimmed[mark..]) {
            true => before[trimmed.len()..].strip_prefix(blanks).unwrap_or_default(),
            false => "",
        };
        let frame = Frame { lead: lead.to_owned(), end: tokenizer.end_of_turn(after).to_owned() };
        Ok(Self { before: before[..before.len() - lead.len()].to_owned(), frame })
    }
}

/// A thought that an opened turn begins and a whole conversation does not have.
struct Thought<'a> {
    /// The tag that opens it, such as `<think>`.
    tag: &'a str,
    /// The opened turn has a line break after it.
    breaks: bool,
}

fn opened_thought<'a>(opened: &'a str, before: &str) -> Option<Thought<'a>> {
    Thought::of(opened).filter(|thought| !before.trim_end().ends_with(thought.tag))
}

impl<'a> Thought<'a> {
    /// The thought that an opened turn begins: it ends with `<name>` or `<|START_NAME|>`, and the name is not the speaker's.
    fn of(opened: &'a str) -> Option<Self> {
        let trimmed = opened.trim_end();
        let tag = &trimmed[trimmed.rfind('<').filter(|_| trimmed.ends_with('>'))?..];
        let name = tag[1..tag.len() - 1].trim_matches('|');
        let is_name = name.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '_' | ':'));
        let begins = if tag.starts_with("<|") { name.starts_with("START_") } else { !tag.ends_with("|>") };
        (is_name && begins && role(name) != "assistant").then(|| Self { tag, breaks: opened.ends_with('\n') })
    }

    /// The tag that closes it.
    fn end(&self) -> String {
        closing(self.tag)
    }

    /// The opened turn without the tag.
    fn base<'b>(&self, opened: &'b str) -> &'b str {
        let trimmed = opened.trim_end();
        &trimmed[..trimmed.len() - self.tag.len()]
    }

    /// What stands in `before`, which leads to a turn's words, in the place of the opened thought: the end of an empty
    /// one, and what a template writes of a turn without any.
    fn closed_in(&self, opened: &str, before: &str) -> Option<String> {
        if let Some(rest) = before.strip_prefix(self.base(opened)) {
            return Some(rest.trim_start()).filter(|rest| !rest.is_empty()).map(|rest| self.closed_before(rest));
        }
        let (inner, end) = (&before[before.rfind(self.tag)? + self.tag.len()..], self.end());
        let is_empty = inner.trim_start().strip_prefix(&end)?.trim().is_empty();
        is_empty.then(|| inner.trim_start().to_owned())
    }

    /// A turn that begins otherwise than it is opened, from within the opened thought on.
    fn closed_before(&self, rest: &str) -> String {
        let (end, rest) = (self.end(), rest.trim_start());
        let inner = rest.strip_prefix(self.tag).map_or(rest, str::trim_start);
        match inner.starts_with(&end) {
            true => inner.to_owned(),
            false => format!("{end}{}{rest}", if self.breaks { "\n\n" } else { "" }),
        }
    }

    /// A turn with calls from within the thought on: `rest` is how the whole conversation writes it, with the thought or without,
    /// and `words` what the message says of both.
    fn with_calls(&self, rest: &str, words: &str) -> Option<String> {
        if let Some(inner) = rest.strip_prefix(self.tag) {
            return Some(inner.trim_start_matches('\n').to_owned());
        }
        let (thought, said) = words.split_at(words.rfind(&self.end())? + self.end().len());
        let blanks = &said[..said.len() - said.trim_start().len()];
        let blanks = if blanks.is_empty() { "\n\n" } else { blanks };
        Some(format!("{thought}{blanks}{}", rest.trim_start()))
    }

    /// What a message says from within the thought on; `None` where it has no thought.
    fn words(&self, message: &Message) -> Option<String> {
        let content = message.text();
        let end = self.end();
        if let Some(rest) = content.trim_start().strip_prefix(self.tag) {
            let rest = if self.breaks { rest.strip_prefix('\n').unwrap_or(rest) } else { rest };
            return Some(rest.to_owned());
        }
        if content.contains(&end) {
            return Some(content.to_owned());
        }
        let thought = ["reasoning_content", "thinking", "reasoning"];
        let thought = thought.iter().find_map(|key| message.fields.get(*key)?.as_str())?;
        let thought = thought.trim_matches('\n');
        (!thought.is_empty()).then(|| format!("{thought}\n{end}\n\n{content}"))
    }
}

/// The tag that opens a thought which `tag` closes: of `</think>`, `<|END_THINKING|>`, and `<channel|>` as Gemma 4 has it.
fn opening_of(tag: &str) -> Option<String> {
    let (closed, name) = (tag.strip_prefix("</"), tag.strip_prefix("<|END_"));
    let channel = tag.strip_prefix('<').and_then(|rest| rest.strip_suffix("|>")).filter(|name| !name.contains('|'));
    closed
        .map(|rest| format!("<{rest}"))
        .or_else(|| Some(format!("<|START_{}", name?)))
        .or_else(|| Some(format!("<|{}>", channel?)))
}

/// A turn's text up to where the model stops: behind the words, so that they may spell out the token.
fn until_stop<'a>(tail: &'a str, words: &str, tokenizer: &Tokenizer) -> &'a str {
    let words = words.trim();
    let after = if words.is_empty() { 0 } else { tail.find(words).map_or(0, |at| at + words.len()) };
    let end = after + tokenizer.end_of_turn(&tail[after..]).len();
    &tail[..end]
}

fn unwritten(index: usize, way: Way) -> Fault {
    Fault::new(format!(
        "the chat template does not write message {index} as it stands where it opens the assistant's turn"
    ))
    .hint(format!(
        "name a template that does with {}, or learn other turns alone ({})",
        way.key("chat_template"),
        way.key("train_on = \"last\"")
    ))
}
