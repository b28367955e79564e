//! What a model is asked, in the rows that keep question and answer apart: a plain prompt, or a conversation that the
//! chat template opens for the assistant's turn.

use faults::Fault;
use serde_json::Value;

use super::turn::{Frame, frame, left_open};
use super::{Context, beside, fitting, lost, messages};
use crate::conversation::{Conversation, Message};
use crate::draft::{Draft, Part, Piece};
use crate::notices::Oddity;
use crate::row::Row;
use crate::tokenizer::Tokenizer;
use crate::way::Way;

/// The keys that a question stands under.
pub(crate) const QUESTIONS: [&str; 4] = ["prompt", "messages", "conversations", "request"];

/// The question of a row.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a row has one of them")]
pub enum Asked {
    /// `prompt`: text that the answer follows at once.
    Text(String),
    /// `messages`, `conversations` or `request`: turns that the assistant answers.
    Conversation(Conversation),
}

impl Asked {
    /// Reads `prompt`, `messages`, `conversations` or `request`, of which a row has one.
    pub(crate) fn of(row: &Row<'_>) -> Result<Self, Fault> {
        let keys: Vec<&str> = QUESTIONS.into_iter().filter(|key| row.has(key)).collect();
        let [key] = keys[..] else {
            return Err(match keys[..] {
                [] => QUESTIONS
                    .into_iter()
                    .find(|key| row.names_key(key))
                    .map_or_else(|| row.missing("prompt"), |key| row.missing(key)),
                _ => Fault::new(format!("the row has both `{}` and `{}`", keys[0], keys[1])).hint("keep one of them"),
            });
        };
        let messages = match (key, row.get(key)) {
            ("prompt", Some(Value::Array(_))) | ("messages" | "conversations", _) => messages::turns_of(row, key)?,
            ("request", _) => vec![Message::new("user", row.filled_text("request")?)],
            _ => {
                let hint = "write the question as `messages`";
                messages::refuse_beside(row, "a plain `prompt`", hint)?;
                return Ok(Self::Text(row.text("prompt")?.into()));
            }
        };
        match messages.last() {
            None => Err(Fault::new(format!("`{key}` is empty")).hint("write the user's turn")),
            Some(last) if last.role == "assistant" => {
                Err(Fault::new(format!("`{key}` ends with the assistant's turn"))
                    .hint("the answer stands under a key of its own: take the last message out"))
            }
            Some(_) => Ok(Self::Conversation(messages::conversation(row, messages)?)),
        }
    }

    /// The question of a row of prompts, of which a plain `prompt` is put into the chat template as the user's turn.
    pub(crate) fn of_chat(row: &Row<'_>) -> Result<Self, Fault> {
        match row.get("prompt") {
            Some(Value::String(text)) => {
                let question = messages::conversation(row, vec![Message::new("user", text.as_str())])?;
                Ok(Self::Conversation(question))
            }
            _ => Self::of(row),
        }
    }

    /// The fields of its messages that the chat template never speaks of.
    pub(crate) fn unread(&self, tokenizer: &Tokenizer) -> Vec<String> {
        let Self::Conversation(conversation) = self else { return Vec::new() };
        let mut names: Vec<String> = Vec::new();
        for field in conversation.messages.iter().flat_map(|message| message.fields.keys()) {
            let name = format!("messages[].{field}");
            if !tokenizer.template_reads_field(field) && !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// What the question says and the turn that the chat template opens does not have.
    pub(crate) fn unwritten(&self, tokenizer: &Tokenizer) -> Vec<(Oddity, String)> {
        let Self::Conversation(conversation) = self else { return Vec::new() };
        let opened = tokenizer.render_chat(conversation, true);
        opened.map_or(Vec::new(), |opened| unseen(conversation, &opened, tokenizer))
    }

    /// The question as the tokenizer's chat template takes it.
    ///
    /// # Errors
    /// The template has no place for something that the row says.
    pub(crate) fn fitted(self, tokenizer: &Tokenizer, way: Way) -> Result<Self, Fault> {
        match self {
            Self::Text(text) => Ok(Self::Text(text)),
            Self::Conversation(conversation) => Ok(Self::Conversation(fitting::fitted(conversation, tokenizer, way)?)),
        }
    }

    /// The text that an answer follows, and whether the tokenizer puts its own tokens around it.
    ///
    /// # Errors
    /// A conversation and no chat template, or one that refuses it.
    pub fn text(&self, tokenizer: &Tokenizer) -> Result<(String, bool), Fault> {
        match self {
            Self::Text(text) => Ok((text.clone(), true)),
            Self::Conversation(conversation) => Ok((tokenizer.render_chat(conversation, true)?, false)),
        }
    }

    /// The same where the answer begins with `beginning`, which the model is given.
    ///
    /// # Errors
    /// As [`Asked::text`].
    pub fn text_with(&self, beginning: &str, tokenizer: &Tokenizer, way: Way) -> Result<(String, bool), Fault> {
        let (text, special) = self.text(tokenizer)?;
        match self {
            Self::Conversation(conversation) if !beginning.is_empty() => {
                // A word more, as a template may take blanks off the end of an answer.
                let lead = frame(conversation, &text, &format!("{beginning}."), tokenizer, way)?.lead;
                Ok((format!("{text}{lead}{beginning}"), special))
            }
            _ => Ok((format!("{text}{beginning}"), special)),
        }
    }

    /// Question and answer as one text; with `end`, the answer ends with the end token or the template's end of a turn.
    pub(super) fn draft(&self, answer: Vec<Piece>, end: bool, context: &Context<'_>) -> Result<Draft, Fault> {
        let learned = context.train_on.learns(Part::Prompt);
        let question = |text: String| Piece { text, part: Part::Prompt, learned };
        let mut oddities = Vec::new();
        let (mut pieces, special) = match self {
            Self::Text(text) => (vec![question(text.clone())], true),
            Self::Conversation(conversation) => {
                let before = context.tokenizer.render_chat(conversation, true)?;
                oddities = unseen(conversation, &before, context.tokenizer);
                if !end {
                    (vec![question(before)], false)
                } else {
                    let words: String = answer.iter().map(|piece| piece.text.as_str()).collect();
                    let Frame { lead, end } =
                        frame(conversation, &before, &words, context.tokenizer, context.options.way)?;
                    let whole = format!("{before}{lead}{words}");
                    let open = left_open(&before, &whole[before.len()..]);
                    oddities.extend(open.map(|tag| (Oddity::OpenThought, format!("the answer behind `{tag}`"))));
                    let index = conversation.messages.len();
                    let mut answered = conversation.clone();
                    answered.messages.push(Message::new("assistant", words));
                    oddities.extend(lost::second_thought(
                        &answered,
                        index,
                        &whole,
                        context.tokenizer,
                        context.options.way,
                    ));
                    let mut pieces = vec![question(before)];
                    pieces.extend(answer);
                    // It belongs to what follows: a sampler is given the opened turn without it.
                    if let Some(first) = pieces[1..].iter_mut().find(|piece| !piece.text.is_empty()) {
                        first.text.insert_str(0, &lead);
                    }
                    let last = pieces.last().map_or((Part::Response, true), |piece| (piece.part, piece.learned));
                    pieces.push(Piece { text: end, part: last.0, learned: last.1 });
                    return Ok(Draft { pieces, special: false, end: false, weight: 1.0, oddities });
                }
            }
        };
        pieces.extend(answer);
        Ok(Draft { pieces, special, end, weight: 1.0, oddities })
    }
}

/// The messages of a question, and what stands beside them, that the opened turn does not have.
fn unseen(conversation: &Conversation, opened: &str, tokenizer: &Tokenizer) -> Vec<(Oddity, String)> {
    let written = |conversation: &Conversation| tokenizer.render_chat(conversation, true).ok();
    let mut found = beside::unread(conversation, opened, &written);
    found.extend(lost::unseen(conversation, &[(conversation.messages.len(), false)], &[opened], tokenizer, &written));
    found
}
